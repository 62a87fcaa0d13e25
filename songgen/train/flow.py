"""The stage `flow`: the decode half of LeVo's codec learns to draw a song's latents from its tokens.

Trained is `LevoCodec` itself, by conditional flow matching (Lipman et al. 2023, arXiv:2210.02747) over the
windows, given frames and guidance of inference. Its quantisers come trained, and stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from songgen.models.levo.codec import (
    GUIDANCE,
    SOLVER_STEPS,
    TRACK_QUANTIZERS,
    CodecConfig,
    FlowWindow,
    LevoCodec,
)
from songgen.models.levo.windows import OVERLAP_FRAMES, WINDOW_FRAMES
from songgen.nn.flow_estimator import FlowBlock, FlowEstimator
from songgen.nn.flow_matching import SIGMA_MIN, LatentStats, interpolate
from songgen.nn.oobleck import OobleckVAE
from songgen.nn.rvq import ResidualVQ
from songgen.train.additive import clock_waves, completed
from songgen.train.additive import config as additive_config
from songgen.train.flow_data import FlowBatch, FlowSongs, WindowOdds, draw_batch
from songgen.train.latents import latent_stats
from songgen.train.loop import CHECKPOINT, LoopSettings, load_trained
from songgen.train.spectral_losses import MelDistance
from songgen.train.stem_crops import STEMS
from songgen.train.token_codebook import finish_codebook_
from songgen.train.truth import FRAME_RATE
from songgen.train.vae import trained_vae

FOLDER = "flow"
TOKENS_FOLDER, TOKENS_PREFIX = "tokens-dual", "tokenizer."
FIRST_GATE = 1.0
POSITION_STD = 0.02
ADDITIVE_FEATURES = 3.0
"""Deviation of features beside latents of `additive.py`."""
MEASURED_TIMES = 4
"""Times at which the held-out loss is taken."""


@dataclass(frozen=True)
class FlowSettings:
    """Sizes of the flow network, and what it is trained on.

    Args:
        latent_dim, ssl_dim, codebook_size, codebook_dim, mask_dim, num_layers, num_heads, inner_dim: of
            `CodecConfig`; the first four must fit the VAE and the tokens.
        num_codes: rows of a codebook that are tokens.
        windows: how windows are drawn.
        additive: whether latents are those of `additive.py`.
        steps, guidance: of the solver in inference; with one step, latents are what is expected of them.
        held_out: songs that are measured.
        solved: of these, songs whose latents are drawn as inference does.
    """

    latent_dim: int = 64
    ssl_dim: int = 96
    codebook_size: int = 9728
    codebook_dim: int = 16
    mask_dim: int = 8
    num_layers: int = 6
    num_heads: int = 4
    inner_dim: int = 656
    num_codes: int = 2048
    windows: WindowOdds = field(default_factory=WindowOdds)
    additive: bool = False
    steps: int = SOLVER_STEPS
    guidance: float = GUIDANCE
    held_out: int = 8
    solved: int = 2

    def config(self) -> CodecConfig:
        """The sizes of the decode half."""
        return CodecConfig(
            latent_dim=self.latent_dim,
            ssl_dim=self.ssl_dim,
            codebook_size=self.codebook_size,
            codebook_dim=self.codebook_dim,
            num_tracks=len(TRACK_QUANTIZERS),
            mask_dim=self.mask_dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            inner_dim=self.inner_dim,
            num_positions=WINDOW_FRAMES,
            steps=self.steps,
            guidance=self.guidance,
        )


@torch.no_grad()
def initialise_(estimator: FlowEstimator) -> None:
    """Start as the identity: the branches of all blocks add nothing, and times change nothing, at first."""
    nn.init.normal_(estimator.wpe.weight, std=POSITION_STD)
    nn.init.zeros_(estimator.adaln_single.linear.weight)
    nn.init.zeros_(estimator.adaln_single.linear.bias)
    nn.init.zeros_(estimator.scale_shift_table)
    for block in estimator.h:
        assert isinstance(block, FlowBlock)
        block.scale_shift_table.zero_()
        block.scale_shift_table[[2, 5]] = FIRST_GATE
        nn.init.zeros_(block.attn.c_proj.weight)
        nn.init.zeros_(block.mlp.c_proj.weight)
    nn.init.zeros_(estimator.proj_out.weight)
    nn.init.zeros_(estimator.proj_out.bias)


def make_codec(settings: FlowSettings, quantizers: dict[str, Tensor], stats: LatentStats) -> LevoCodec:
    """A fresh decode half; only the network and its mask embedding are trained.

    Args:
        quantizers: tensors of both quantisers under published names.
    """
    codec = LevoCodec(settings.config())
    initialise_(codec.estimator)
    if settings.additive:
        waves_PW = clock_waves(WINDOW_FRAMES)
        codec.estimator.wpe.weight.data[:, : waves_PW.shape[1]] += waves_PW
    own = codec.state_dict()
    for name in own:
        if name.split(".")[0] in TRACK_QUANTIZERS:
            if name not in quantizers or quantizers[name].shape != own[name].shape:
                found = list(quantizers[name].shape) if name in quantizers else "missing"
                raise ValueError(
                    f"tensor {name} of the tokens is {found}, the flow stage needs {list(own[name].shape)}: "
                    "give tokens-dual and flow the same ssl_dim, codebook_size and codebook_dim"
                )
            own[name].copy_(quantizers[name])
    for quantizer in codec.quantizers:
        quantizer.requires_grad_(False)
        finish_codebook_(quantizer.quantizer.codebook.weight, settings.num_codes)
        scale_features_(quantizer, settings.num_codes, ADDITIVE_FEATURES if settings.additive else 1.0)
    codec.normfeat.counts.copy_(stats.counts)
    codec.normfeat.sum_x.copy_(stats.sum_x)
    codec.normfeat.sum_x2.copy_(stats.sum_x2)
    return codec


@torch.no_grad()
def scale_features_(quantizer: ResidualVQ, num_codes: int, deviation: float) -> None:
    """Give the features of codes a deviation, about that of normalised latents.

    The network sees features and latents side by side, under one norm; and no token depends on features.
    """
    std = quantizer.from_codes(torch.arange(num_codes)[None, None]).std().clamp(min=1e-6)
    projection = quantizer.quantizer.out_proj
    assert projection.weight_g is not None and projection.bias is not None
    projection.weight_g.mul_(deviation / std)
    projection.bias.mul_(deviation / std)


def trained_quantizers(work: Path) -> dict[str, Tensor]:
    """The tensors of the quantisers of vocal and bgm tokens.

    Raises:
        FileNotFoundError: they are not trained.
    """
    path = work / TOKENS_FOLDER / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; train this stage first (songgen train {TOKENS_FOLDER})"
        )
    saved = torch.load(path, map_location="cpu", weights_only=True)
    tensors = saved["ema"] or saved["module"]
    head = len(TOKENS_PREFIX)
    return {name[head:]: value for name, value in tensors.items() if name.startswith(TOKENS_PREFIX)}


class FlowStage:
    """Training of the decode half; a `Stage` of the loop.

    Args:
        vae: to measure by what is heard; None to measure latents only.
    """

    name = FOLDER

    def __init__(
        self,
        codec: LevoCodec,
        settings: FlowSettings,
        songs: FlowSongs,
        held_out: FlowSongs,
        *,
        vae: OobleckVAE | None = None,
    ) -> None:
        self.module = codec
        self.settings, self.songs, self.held_out, self.vae = settings, songs, held_out, vae
        self.mel_distance = MelDistance(vae.config.sample_rate) if vae is not None else None
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Move what is trained, and what it is measured by."""
        for module in (self.module, self.vae, self.mel_distance):
            if module is not None:
                module.to(device)
        self._device = device

    def batch(self, rng: np.random.Generator) -> FlowBatch:
        """Windows of one length."""
        return draw_batch(self.songs, self.settings.windows, rng)

    def loss(self, batch: FlowBatch, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean squared error of the velocity, in frames that are to be solved."""
        error_BW, is_solved_BW = self.errors(batch.to(self._device))
        loss = (error_BW * is_solved_BW).sum() / is_solved_BW.sum()
        return loss, {"audio_seconds": is_solved_BW.numel() / FRAME_RATE}

    def errors(self, batch: FlowBatch) -> tuple[Tensor, Tensor]:
        """Squared error of the velocity, mean over channels, and whether a frame is solved, `[B, W]`."""
        codec = self.module
        stats = codec.normfeat.value
        latents_BWZ, noise_BWZ = batch.latents_BWZ, batch.noise_BWZ
        data_BWZ = stats.normalise(
            completed(latents_BWZ, noise_BWZ) if self.settings.additive else latents_BWZ
        )
        frames_W = torch.arange(data_BWZ.shape[1], device=data_BWZ.device)
        is_context_BW1 = (frames_W < batch.num_context_B[:, None])[..., None]
        features_BWF = codec.features(batch.codes_BKW).float() * ~batch.is_null_B[:, None, None]
        time_B11 = batch.time_B[:, None, None]
        field = codec.velocity(features_BWF, data_BWZ * is_context_BW1, is_context_BW1, guidance=1.0)
        velocity_BWZ = field(interpolate(noise_BWZ, data_BWZ, time_B11), batch.time_B)
        target_BWZ = data_BWZ - (1 - SIGMA_MIN) * noise_BWZ
        error_BWZ = (velocity_BWZ.float() - target_BWZ).square()
        return error_BWZ.mean(-1), ~is_context_BW1[..., 0]

    def evaluate(self) -> dict[str, float]:
        """The loss on held-out songs by stem and time, and what `solved` finds."""
        return self._held_out_loss() | solved(self, self.held_out.songs[: self.settings.solved])

    def _held_out_loss(self) -> dict[str, float]:
        """At fixed times, or at 0 where the solver has one step, and with fixed noise."""
        sums: dict[str, list[float]] = defaultdict(list)
        rng = np.random.default_rng(0)
        for number, song in enumerate(self.held_out.songs[: self.settings.held_out]):
            stem = STEMS[number % len(STEMS)]
            length = min(WINDOW_FRAMES, self.held_out.num_frames(song))
            codes_KW, latents_WZ = self.held_out.window(song, stem, 0, length)
            noise = torch.from_numpy(rng.standard_normal(latents_WZ.shape, dtype=np.float32))
            times = [(index + 0.5) / MEASURED_TIMES for index in range(MEASURED_TIMES)]
            for time in times if self.settings.steps > 1 else [0.0]:
                batch = FlowBatch(
                    codes_KW[None],
                    latents_WZ[None],
                    torch.zeros(1, dtype=torch.long),
                    torch.zeros(1, dtype=torch.bool),
                    noise[None],
                    torch.tensor([time]),
                )
                error_BW, _ = self.errors(batch.to(self._device))
                sums[f"loss/{time:.3f}"].append(float(error_BW.mean()))
                sums["loss"].append(float(error_BW.mean()))
        return {name: sum(values) / len(values) for name, values in sums.items()}


@torch.no_grad()
def solved(
    stage: FlowStage,
    songs: Sequence[int],
    *,
    steps: int | None = None,
    num_context: int = 0,
) -> dict[str, float]:
    """Draw the first window of songs as inference does, and compare with their true latents, by stem.

    Args:
        num_context: frames that are given, 0 ... 250.

    Returns:
        `STEM/latent_error`, root mean square in deviations of the latents; and with a VAE `STEM/mel_db`, the
        mel distance from what the VAE makes of the true latents.
    """
    sums: dict[str, list[float]] = defaultdict(list)
    stats = stage.module.normfeat.value
    for song in songs:
        length = min(WINDOW_FRAMES, stage.held_out.num_frames(song))
        for stem in STEMS:
            codes_KW, true_WZ = stage.held_out.window(song, stem, 0, length)
            noise_WZ = torch.from_numpy(
                np.random.default_rng(song).standard_normal(true_WZ.shape, dtype=np.float32)
            )
            if stage.settings.additive:
                true_WZ = completed(true_WZ, noise_WZ)
            given = min(num_context, OVERLAP_FRAMES, length - 1)
            window = FlowWindow(codes_KW, noise_WZ, true_WZ, given, stats)
            (drawn_WZ,), _ = stage.module.draw_latents([window], steps=steps)
            true_WZ = true_WZ.to(drawn_WZ.device)
            difference = (stats.normalise(drawn_WZ) - stats.normalise(true_WZ))[given:]
            sums[f"{stem}/latent_error"].append(float(difference.square().mean().sqrt()))
            if stage.vae is not None and stage.mel_distance is not None:
                audio = [stage.vae.decode_chunked(one.T[None])[0] for one in (drawn_WZ, true_WZ)]
                sums[f"{stem}/mel_db"].append(stage.mel_distance(*audio))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def check_additive(settings: FlowSettings, vae: OobleckVAE) -> None:
    """Raise ValueError if the autoencoder's latents are not what the settings take them for."""
    if settings.additive != (vae.config == additive_config()):
        raise ValueError(
            f"flow.additive is {settings.additive}, the trained autoencoder is of the other kind: give vae "
            "and flow the same `additive`, and train vae and latents again where it changed"
        )


def make_stage(data: Path, work: Path, settings: FlowSettings, loop: LoopSettings) -> FlowStage:
    """The stage for a folder of songs; weights are drawn from the loop's seed.

    Raises:
        FileNotFoundError: songs, tokens, codes or latents are missing.
        ValueError: the tokens have other sizes, or the autoencoder has other latents.
    """
    from songgen.train.dataset import SongStore

    store, vae = SongStore(data), trained_vae(work)
    check_additive(settings, vae)
    torch.manual_seed(loop.seed)
    codec = make_codec(settings, trained_quantizers(work), latent_stats(work, additive=settings.additive))
    songs, held_out = (
        FlowSongs(work, [store.number(index) for index in indices])
        for indices in (store.train_indices, store.held_out_indices[: settings.held_out])
    )
    return FlowStage(codec, settings, songs, held_out, vae=vae)


def load_flow(work: Path, settings: FlowSettings) -> LevoCodec:
    """The trained decode half, for evaluation.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    codec = LevoCodec(settings.config())
    load_trained(codec, work / FOLDER)
    return codec.requires_grad_(False).eval()
