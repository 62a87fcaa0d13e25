"""The stage `vae`: Oobleck, the autoencoder, learns to give back the stems of synthetic songs.

Losses are spectral, with a little waveform error that ties phases and a divergence that keeps the latents
small and smooth; there is no discriminator. Latents of all songs are written by `latents.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from songgen.nn.oobleck import DILATIONS, OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import WeightNorm, WeightNormConv1d, WeightNormConvTranspose1d
from songgen.train.additive import completed, set_as_synthesiser_
from songgen.train.additive import config as additive_config
from songgen.train.fast_oobleck import make_fast_vae
from songgen.train.filterbank import start_as_filterbank_
from songgen.train.latents import write_latents
from songgen.train.levels import song_levels
from songgen.train.loop import CHECKPOINT, LoopSettings, load_trained
from songgen.train.spectral_losses import MelDistance, MultiResolutionLoss
from songgen.train.stem_crops import STEMS, Songs, StemCrops
from songgen.train.truth import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE

__all__ = ["VaeSettings", "VaeStage", "load_vae", "make_stage", "write_latents"]

FOLDER = "vae"
LAST_OF_STAGE = len(DILATIONS) + 1
"""Number of the convolution that shortens, in a stage of the encoder."""
STEM_ODDS = (0.5, 0.25, 0.25)
"""Of mixed, vocal and bgm."""
FIRST_DEVIATION = -3.0
"""Bias of the latents' deviations before softplus, which makes them 0.05 at first: with more noise, nothing
would be learnt from latents."""
FIRST_BRANCH = 0.3
"""Size of a residual unit's output at first, relative to what keeps the variance."""

FIRST_HEARD = 4
"""Pieces by which the ends are scaled."""
DIRECTION_ENTRY = 0.2
"""Size of the entries of `weight_v`: AdamW at a rate r turns a weight by r over this a step, at most."""


@dataclass(frozen=True)
class VaeSettings:
    """Sizes of the autoencoder and weights of its losses.

    Args:
        channels, c_mults, strides, latent_dim: of `OobleckConfig`.
        crop_frames: frames of 40 ms of a piece.
        batch: pieces a step.
        gain_db: how much the level of a piece is varied, both ways.
        fft_sizes, ffts_at_once: resolutions of the spectra, and how many of them a step looks at.
        bins, mels, convergence, waveform, divergence, scale, noise: weights of the losses.
        deviation: noise of latents that is aimed at; what is smaller than this in latents is not heard.
        filterbank: start as of `filterbank.py`.
        additive: be the synthesiser of `additive.py`, whose sizes are its own, which has no steps to make and
            no encoder that hears.
        memory_gb: of decoded songs kept.
        held_out, held_out_seconds: songs that are measured, and how much of each.
        latent_chunk, latent_margin: frames that are encoded at once to write latents, and frames around them
            that are encoded too and dropped.
    """

    channels: int = 16
    c_mults: tuple[int, ...] = (1, 2, 4, 8, 12)
    strides: tuple[int, ...] = (2, 4, 4, 6, 10)
    latent_dim: int = 64
    crop_frames: int = 24
    batch: int = 4
    gain_db: float = 3.0
    fft_sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    ffts_at_once: int = 2
    bins: float = 0.3
    mels: float = 1.0
    convergence: float = 0.3
    waveform: float = 3.0
    divergence: float = 1e-4
    scale: float = 0.1
    noise: float = 0.01
    deviation: float = 0.1
    filterbank: bool = False
    additive: bool = False
    memory_gb: float = 1.5
    held_out: int = 6
    held_out_seconds: float = 6.0
    latent_chunk: int = 250
    latent_margin: int = 16

    def config(self) -> OobleckConfig:
        """The sizes of the autoencoder."""
        if self.additive:
            return additive_config()
        return OobleckConfig(
            self.channels, self.c_mults, self.strides, self.latent_dim, sample_rate=SAMPLE_RATE
        )


def initialise_(vae: OobleckVAE) -> None:
    """Scale a fresh VAE so that signals keep their size, and residual branches start small.

    A fresh weight is uniform within 1 / sqrt(inputs), which shrinks a signal by sqrt(3); that of a transposed
    convolution counts `stride` times too many inputs. Directions, whose length changes nothing, get entries
    of one size in all layers, so that one learning rate turns them all alike.
    """
    for name, module in vae.named_modules():
        if not isinstance(module, WeightNorm) or module.weight_g is None:
            continue
        scale = math.sqrt(3.0)
        if isinstance(module, WeightNormConvTranspose1d):
            scale *= math.sqrt(module.stride)
        elif isinstance(module, WeightNormConv1d) and name.endswith("layers.3") and module.stride == 1:
            scale *= FIRST_BRANCH
        module.weight_g.data.mul_(scale)
        assert module.weight_v is not None
        module.weight_v.data.mul_(DIRECTION_ENTRY / module.weight_v.data.square().mean().sqrt())
    assert vae.encoder is not None
    bias = vae.encoder.layers[-1].bias
    assert isinstance(bias, Tensor)
    bias.data[vae.config.latent_dim :] = FIRST_DEVIATION


@torch.no_grad()
def scale_ends_(vae: OobleckVAE, audio_BCN: Tensor) -> None:
    """Scale the last layer of either half so that latents have deviation 1 and audio its own."""
    assert vae.encoder is not None
    num_latent = vae.config.latent_dim
    mean, _ = vae.encode_moments(audio_BCN)
    std = mean.std().clamp(min=1e-3)
    _gain(vae.encoder.layers[-1])[:num_latent] /= std
    _gain(vae.encoder.layers[-1])[num_latent:] *= FIRST_BRANCH
    decoded_BCN = vae.decode(mean / std)
    _gain(vae.decoder.layers[-1]).mul_(audio_BCN.std() / decoded_BCN.std().clamp(min=1e-6))


def scale_loss(latents_BZT: Tensor) -> Tensor:
    """Divergence from a standard normal of one with each channel's mean and variance over a batch.

    Unlike the usual divergence of each frame it does not pull all latents to zero, which is where this VAE
    ends when it starts: at first, latents do harm.
    """
    square = latents_BZT.var(dim=(0, 2), correction=0) + 1e-6
    mean = latents_BZT.mean(dim=(0, 2))
    return 0.5 * (square + mean.square() - 1 - square.log()).mean()


def _gain(layer: nn.Module) -> Tensor:
    gain = layer.weight_g
    assert isinstance(gain, Tensor)
    return gain


class VaeStage:
    """Training of the autoencoder; a `Stage` of the loop."""

    name = FOLDER

    def __init__(self, songs: Songs, settings: VaeSettings) -> None:
        self.settings = settings
        self.module = make_fast_vae(settings.config())
        if settings.additive:
            set_as_synthesiser_(self.module)
        else:
            initialise_(self.module)
        if settings.filterbank:
            start_as_filterbank_(self.module, entry=DIRECTION_ENTRY)
        self.crops = StemCrops(songs, int(settings.memory_gb * 1e9))
        self.spectra = MultiResolutionLoss(settings.fft_sizes, SAMPLE_RATE, at_once=settings.ffts_at_once)
        self.mel_distance = MelDistance(SAMPLE_RATE)
        self._device = torch.device("cpu")
        if not settings.additive:
            rng = np.random.default_rng(0)
            heard = [self.crops.draw(rng, settings.crop_frames, "mixed") for _ in range(FIRST_HEARD)]
            scale_ends_(self.module, torch.stack(heard))

    def to(self, device: torch.device) -> None:
        """Move what is trained, and what it is measured by."""
        for module in (self.module, self.spectra, self.mel_distance):
            module.to(device)
        self._device = device

    def batch(self, rng: np.random.Generator) -> Tensor:
        """Pieces `[B, C, N]`."""
        settings = self.settings
        pieces = []
        for _ in range(settings.batch):
            stem = str(rng.choice(STEMS, p=STEM_ODDS))
            gain = 10 ** (rng.uniform(-settings.gain_db, settings.gain_db) / 20)
            pieces.append(self.crops.draw(rng, settings.crop_frames, stem) * gain)
        return torch.stack(pieces)

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The weighted losses of reconstructions from drawn latents."""
        settings = self.settings
        audio_BCN = batch.to(self._device)
        mean, deviation = self.module.encode_moments(audio_BCN)
        mean, deviation = mean.float(), deviation.float()
        latents_BZT = mean + deviation * torch.randn_like(mean)
        decoded_BCN = self.module.decode(latents_BZT)
        bins, mels, convergence = self.spectra(decoded_BCN, audio_BCN, step)
        waveform = (decoded_BCN - audio_BCN).abs().mean()
        losses = {
            "bins": bins,
            "mels": mels,
            "convergence": convergence,
            "waveform": waveform,
            "divergence": 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean(),
            "scale": scale_loss(mean),
            "noise": (deviation.log() - math.log(settings.deviation)).square().mean(),
        }
        total = torch.stack([getattr(settings, name) * value for name, value in losses.items()]).sum()
        facts: dict[str, Tensor | float] = {name: value.detach() for name, value in losses.items()}
        return total, facts | {"latent_std": mean.detach().std(), "deviation": deviation.detach().mean()}

    def evaluate(self) -> dict[str, float]:
        """Distances of reconstructions from mean latents, by stem."""
        songs = self.crops.songs.held_out_indices[: self.settings.held_out]
        frames = round(self.settings.held_out_seconds * FRAME_RATE)
        sums: dict[str, list[float]] = defaultdict(list)
        for index in songs:
            for stem in STEMS:
                audio_CN = self.crops.held_out(index, frames, stem).to(self._device)
                decoded_CN = self.module.decode(self._latents_ZT(index, stem, audio_CN)[None])[0]
                sums[f"{stem}/mel_db"].append(self.mel_distance(decoded_CN, audio_CN))
                bins, mels, _ = self.spectra(decoded_CN[None], audio_CN[None])
                sums[f"{stem}/bins"].append(float(bins))
                sums[f"{stem}/mels"].append(float(mels))
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def _latents_ZT(self, index: int, stem: str, audio_CN: Tensor) -> Tensor:
        """Of the middle of a held-out song."""
        if not self.settings.additive:
            return self.module.encode_moments(audio_CN[None])[0][0]
        songs = self.crops.songs
        f0_hz = songs.truth(index).f0_hz
        length = audio_CN.shape[-1] // FRAME_SAMPLES
        first = (len(f0_hz) - length) // 2
        stems_SCN = songs.stems(index, first, length)
        levels_TZ = song_levels(stems_SCN, f0_hz[first : first + length])[stem]
        noise_TZ = torch.randn(levels_TZ.shape, generator=torch.Generator().manual_seed(index))
        return completed(levels_TZ, noise_TZ).T.to(self._device)


def make_stage(data: Path, work: Path, settings: VaeSettings, loop: LoopSettings) -> VaeStage:
    """The stage for a folder of songs; weights are drawn from the loop's seed.

    Raises:
        ValueError: steps for a synthesiser that is known in closed form.
    """
    from songgen.train.dataset import SongStore

    if settings.additive and loop.steps:
        raise ValueError(
            f"vae.loop.steps={loop.steps}: with vae.additive the autoencoder is known in closed form, and "
            "its encoder hears nothing that steps could train: give vae.loop.steps=0, or vae.additive=false"
        )
    torch.manual_seed(loop.seed)
    return VaeStage(SongStore(data), settings)


def trained_vae(work: Path) -> OobleckVAE:
    """The trained autoencoder, for evaluation, of the sizes that its tensors have.

    Raises:
        FileNotFoundError: it is not trained.
    """
    path = work / FOLDER / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; train this stage first (songgen train {FOLDER})")
    module = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["module"]
    shapes = {name: value.shape for name, value in module.items()}
    channels = shapes["encoder.layers.0.weight_v"][0]
    stages: list[torch.Size] = []
    while (last := f"encoder.layers.{len(stages) + 1}.layers.{LAST_OF_STAGE}.weight_v") in shapes:
        stages.append(shapes[last])
    return load_vae(
        work,
        VaeSettings(
            channels=channels,
            c_mults=tuple(out_dim // channels for out_dim, _, _ in stages),
            strides=tuple(kernel // 2 for _, _, kernel in stages),
            latent_dim=shapes["decoder.layers.0.weight_v"][1],
        ),
    )


def load_vae(work: Path, settings: VaeSettings) -> OobleckVAE:
    """The trained autoencoder, for evaluation.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    vae = make_fast_vae(settings.config())
    load_trained(vae, work / FOLDER)
    vae.requires_grad_(False)
    return vae.eval()
