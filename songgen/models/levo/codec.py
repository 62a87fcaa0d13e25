"""The decode half of LeVo's codec: codes of one or two tracks at 25 Hz to VAE latents, one window at a time.

The dual-track model ("septoken": vocal, bgm) and the single-track one ("1rvq") are this module with other
sizes. A track's codes become features by its own quantiser; the features of all tracks are the condition of a
flow-matching network that draws the latents of a window, given the latents at the window's start. Windows,
songs and audio are `windows.py`; the encode half of the same files is `encode.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.nn.flow_estimator import EstimatorConfig, FlowEstimator
from songgen.nn.flow_matching import LatentStats, Velocity, guide, solve_euler
from songgen.nn.rvq import ResidualVQ
from songgen.request_keys import Stem
from songgen.runtime.device import DTYPES

TRACK_QUANTIZERS = ("rvq_bestrq_emb", "rvq_bestrq_bgm_emb")
"""Published names of the quantisers, in the order of the tracks: vocal (the mix, if it is alone), bgm."""
FILL_VOCAL = 3142
"""Vocal code of every frame when only the bgm is wanted (a literal of the published system)."""
FILL_BGM = 9670
"""Bgm code of every frame when only the vocals are wanted (a literal of the published system)."""

CODEC_DTYPES = {"cuda": torch.float16}
"""What `codec_dtype=auto` means by device; float32 elsewhere. Chosen by `tools/measure_precision.py`."""

MASK_CONTEXT, MASK_SOLVED = 1, 2
"""Rows of `mask_emb`: a frame whose latents are given, a frame to be solved for. Row 0 is never used."""
SOLVER_STEPS = 10
GUIDANCE = 1.5
PUBLISHED_HEADS = {2200: 20, 1200: 30}
"""Attention heads by width: the one size that tensor shapes do not tell."""
ESTIMATOR = "cfm_wrapper.estimator."


def choose_codec_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the flow network's matrix products called `auto`, `fp16`, `bf16` or `fp32`.

    Raises:
        ValueError: an unknown name.
    """
    if name == "auto":
        return CODEC_DTYPES.get(device.type, torch.float32)
    if name not in DTYPES:
        raise ValueError(f"codec_dtype is {name!r}; it must be one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def track_codes(tokens_KT: Tensor, stem: Stem) -> Tensor:
    """The codes that a stem is decoded from, one row a track of the codec.

    Args:
        tokens_KT: mixed, vocal, bgm, which give two tracks (vocal, bgm); or mixed alone, which is one track.

    Raises:
        ValueError: another stem, or one that these tokens cannot give; another number of codebooks.
    """
    if tokens_KT.shape[0] not in (1, 3):
        raise ValueError(f"tokens of {tokens_KT.shape[0]} codebooks; there are 3 (mixed, vocal, bgm) or 1")
    if tokens_KT.shape[0] == 1:
        if stem != "mixed":
            raise ValueError(f"stem {stem!r} from tokens of the mixture alone; they give only mixed")
        return tokens_KT
    codes_KT = tokens_KT[1:3].clone()
    if stem == "bgm":
        codes_KT[0] = FILL_VOCAL
    elif stem == "vocal":
        codes_KT[1] = FILL_BGM
    elif stem != "mixed":
        raise ValueError(f"stem {stem!r}; one of mixed, vocal, bgm")
    return codes_KT


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the decode half; the defaults are the published dual-track model.

    Args:
        latent_dim: Z, channels of the VAE's latents.
        ssl_dim: width of a quantised feature.
        codebook_size, codebook_dim: rows and width of a codebook.
        num_tracks: 1 or 2.
        mask_dim: width of the embedding that says which frames are given.
        num_layers, num_heads, inner_dim, num_positions: of the estimator.
        steps, guidance: of the solver, and how far from null to told features it goes (1 or less for no
            null): no sizes, and no tensor tells them.
        vocab_size, projection_dims: of tensors that only training used (see `ignored_shapes`).
    """

    latent_dim: int = 64
    ssl_dim: int = 1024
    codebook_size: int = 16384
    codebook_dim: int = 32
    num_tracks: int = 2
    mask_dim: int = 24
    num_layers: int = 16
    num_heads: int = 20
    inner_dim: int = 4400
    num_positions: int = 1000
    steps: int = SOLVER_STEPS
    guidance: float = GUIDANCE
    vocab_size: int = 50257
    projection_dims: tuple[int, int] = (1024, 768)

    @property
    def width(self) -> int:
        """Width of the estimator: what a frame of its input is made of."""
        return self.mask_dim + self.latent_dim + self.num_tracks * self.ssl_dim + self.latent_dim

    @property
    def estimator(self) -> EstimatorConfig:
        """Sizes of the estimator."""
        return EstimatorConfig(
            self.width, self.inner_dim, self.num_heads, self.num_layers, self.num_positions
        )

    @classmethod
    def from_state_dict_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], num_heads: int | None = None
    ) -> CodecConfig:
        """Read the sizes from a checkpoint's tensor shapes.

        Args:
            shapes: published name -> shape; other tensors are not looked at.
            num_heads: of the estimator; None for that of the published model of this width.

        Raises:
            ValueError: a tensor of the decode half is missing, the widths do not fit, or the heads are
                unknown.
        """

        def size(name: str, axis: int) -> int:
            if name not in shapes:
                raise ValueError(f"codec: tensor {name} is missing; this file holds no decoder")
            return shapes[name][axis]

        width = size(ESTIMATOR + "wpe.weight", 1)
        heads = PUBLISHED_HEADS.get(width) if num_heads is None else num_heads
        if heads is None:
            raise ValueError(f"codec: the number of heads of an estimator {width} wide has to be given")
        quantizer = f"{TRACK_QUANTIZERS[0]}.quantizers.0."
        layers = {
            match[1] for name in shapes if (match := re.match(rf"{re.escape(ESTIMATOR)}h\.(\d+)\.", name))
        }
        first, last = shapes.get("cfm_wrapper.mlp.0.weight"), shapes.get("cfm_wrapper.mlp.4.weight")
        config = cls(
            latent_dim=size("normfeat.sum_x", 0),
            ssl_dim=size(quantizer + "out_proj.weight_v", 0),
            codebook_size=size(quantizer + "codebook.weight", 0),
            codebook_dim=size(quantizer + "codebook.weight", 1),
            num_tracks=sum(f"{name}.quantizers.0.codebook.weight" in shapes for name in TRACK_QUANTIZERS),
            mask_dim=size("mask_emb.weight", 1),
            num_layers=len(layers),
            num_heads=heads,
            inner_dim=size(ESTIMATOR + "h.0.mlp.c_fc.weight", 1),
            num_positions=size(ESTIMATOR + "wpe.weight", 0),
            vocab_size=shapes.get(ESTIMATOR + "wte.weight", (cls.vocab_size,))[0],
            projection_dims=(first[0], last[0]) if first and last else cls.projection_dims,
        )
        if config.width != width:
            raise ValueError(
                f"codec: the estimator is {width} wide; mask_emb, latents and features make {config.width}"
            )
        return config


def ignored_shapes(config: CodecConfig) -> dict[str, tuple[int, ...]]:
    """Published tensors outside the encoder that decoding never reads: a file may hold them or not.

    Left over from training (word embeddings, a projection for a loss, usage counters), without effect
    (`zero_cond_embedding1` stands for frames that do not occur), or resampling kernels of encoders.
    """
    width, (hidden, projected) = config.width, config.projection_dims
    shapes: dict[str, tuple[int, ...]] = {
        "zero_cond_embedding1": (config.ssl_dim,),
        "normfeat.sum_target_x2": (config.latent_dim,),
        "rsp48toclap.kernel": (1, 1, 28),
        "rsq48tobestrq.kernel": (1, 1, 28),
        "rsq48towav2vec.kernel": (1, 1, 41),
        "rsq48tohubert.kernel": (1, 1, 41),
        ESTIMATOR + "wte.weight": (config.vocab_size, width),
    }
    for name in TRACK_QUANTIZERS[: config.num_tracks]:
        shapes[f"{name}.quantizers.0.stale_counter"] = (config.codebook_size,)
    for index, (out_dim, in_dim) in {0: (hidden, width), 2: (hidden, hidden), 4: (projected, hidden)}.items():
        shapes[f"cfm_wrapper.mlp.{index}.weight"] = (out_dim, in_dim)
        shapes[f"cfm_wrapper.mlp.{index}.bias"] = (out_dim,)
    return shapes


class StoredStats(nn.Module):
    """The checkpoint's `LatentStats`, as buffers; keep them float32 (counts reach 100000)."""

    counts: Tensor
    sum_x: Tensor
    sum_x2: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(1))
        self.register_buffer("sum_x", torch.zeros(latent_dim))
        self.register_buffer("sum_x2", torch.zeros(latent_dim))

    @property
    def value(self) -> LatentStats:
        """The statistics as a value."""
        return LatentStats(self.counts, self.sum_x, self.sum_x2)


@dataclass(frozen=True)
class FlowWindow:
    """What the latents of one window are drawn from.

    Args:
        codes_KW: int64, one row a track.
        noise_WZ: standard normal, float32.
        context_WZ: the first `num_context` frames are given latents on the VAE's scale; those behind only
            enter the statistics, and only while these are not frozen.
        num_context: 0 ... W.
        stats: before this window.
    """

    codes_KW: Tensor
    noise_WZ: Tensor
    context_WZ: Tensor
    num_context: int
    stats: LatentStats


class LevoCodec(nn.Module):
    """The codec's decode half, under published names.

    Float32, but for the products of `codec.estimator`, which may be converted to another dtype (see
    `choose_codec_dtype`). Call `fuse_weight_norm_` after loading.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.normfeat = StoredStats(config.latent_dim)
        self.mask_emb = nn.Embedding(3, config.mask_dim)
        for name in TRACK_QUANTIZERS[: config.num_tracks]:
            self.add_module(name, ResidualVQ(config.ssl_dim, config.codebook_size, config.codebook_dim))
        self.cfm_wrapper = nn.ModuleDict({"estimator": FlowEstimator(config.estimator)})

    @property
    def estimator(self) -> FlowEstimator:
        """The velocity network."""
        estimator = self.cfm_wrapper["estimator"]
        assert isinstance(estimator, FlowEstimator)
        return estimator

    @property
    def quantizers(self) -> list[ResidualVQ]:
        """One quantiser a track: vocal (or the mix), bgm."""
        names = TRACK_QUANTIZERS[: self.config.num_tracks]
        return [module for name in names if isinstance(module := self.get_submodule(name), ResidualVQ)]

    def features(self, codes_BKW: Tensor) -> Tensor:
        """The condition `[B, W, K ssl_dim]`: the quantised features of the tracks, side by side."""
        tracks = [
            quantizer.from_codes(codes_BKW[:, k : k + 1]) for k, quantizer in enumerate(self.quantizers)
        ]
        return torch.cat(tracks, dim=1).transpose(1, 2)

    def velocity(
        self, features_BWF: Tensor, context_BWZ: Tensor, is_context_BW1: Tensor, guidance: float
    ) -> Velocity:
        """The field of a batch of windows; without guidance (<= 1) only the conditional rows are computed.

        A frame of the network's input is [mask embedding | context | features | sample]; null rows, which
        come first, have features 0. All but the sample is laid out once, in a buffer that every call writes
        its sample into: a call has the same shapes and addresses each time, and never waits for the device.
        """
        num_latent, is_guided = self.config.latent_dim, guidance > 1
        mask_BW = torch.where(is_context_BW1[..., 0], MASK_CONTEXT, MASK_SOLVED)
        sample = torch.zeros_like(context_BWZ)
        frames = torch.cat([self.mask_emb(mask_BW), context_BWZ, features_BWF, sample], dim=-1)
        if is_guided:
            null_frames = frames.clone()
            null_frames[..., self.config.mask_dim + num_latent : -num_latent] = 0
            frames = torch.cat([null_frames, frames])
        rope = self.estimator.rotary_table(frames.shape[1])

        def field(x_BWZ: Tensor, time: Tensor) -> Tensor:
            frames[..., -num_latent:].unflatten(0, (-1, len(x_BWZ))).copy_(x_BWZ)
            output: Tensor = self.estimator(frames, time, rope=rope, num_outputs=num_latent)
            if not is_guided:
                return output
            null, conditional = output.chunk(2)
            return guide(null, conditional, guidance)

        return field

    def draw_latents(
        self, windows: Sequence[FlowWindow], *, steps: int | None = None, guidance: float | None = None
    ) -> tuple[Tensor, list[LatentStats]]:
        """Latents `[B, W, Z]` on the VAE's scale, context pasted in, and the statistics after each window.

        Windows are of one length and independent of each other; their tensors may be on another device.

        Args:
            steps, guidance: None for the model's own; >= 1, and 1 or less for none.
        """
        device = self.mask_emb.weight.device
        codes_BKW = torch.stack([window.codes_KW for window in windows]).to(device)
        noise_BWZ = torch.stack([window.noise_WZ for window in windows]).to(device, torch.float32)
        given = [window.context_WZ.to(device, torch.float32) for window in windows]
        stats = [window.stats.updated(latents) for window, latents in zip(windows, given, strict=True)]
        num_context = torch.tensor([window.num_context for window in windows], device=device)
        is_context_BW1 = (torch.arange(noise_BWZ.shape[1], device=device) < num_context[:, None])[..., None]
        normalised = [one.normalise(latents) for one, latents in zip(stats, given, strict=True)]
        context_BWZ = torch.stack(normalised) * is_context_BW1
        steps = self.config.steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        velocity = self.velocity(self.features(codes_BKW), context_BWZ, is_context_BW1, guidance)
        solved_BWZ = solve_euler(velocity, noise_BWZ, context_BWZ, is_context_BW1, steps=steps)
        drawn_BWZ = torch.where(is_context_BW1, context_BWZ, solved_BWZ)
        latents = [one.denormalise(drawn) for one, drawn in zip(stats, drawn_BWZ, strict=True)]
        return torch.stack(latents), stats
