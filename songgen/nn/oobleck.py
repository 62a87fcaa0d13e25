"""Oobleck, the convolutional audio VAE of Stable Audio (Evans et al. 2024, arXiv:2404.10301).

Encoder and decoder are stacks of snake-activated residual units around strided convolutions. Submodule names
are those of published checkpoints. Knows nothing of what the latents are used for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from songgen.nn.weight_norm import WeightNormConv1d, WeightNormConvTranspose1d

DILATIONS = (1, 3, 9)
CHUNK_FRAMES = 128
CHUNK_OVERLAP = 32


@dataclass(frozen=True)
class OobleckConfig:
    """Sizes of an autoencoder.

    Args:
        channels: width at the waveform's end.
        c_mults: width of each stage over `channels`, in encoder order.
        strides: samples per step of each stage, in encoder order; even.
        latent_dim: Z.
        audio_channels: C.
        sample_rate: Hz.
    """

    channels: int = 128
    c_mults: tuple[int, ...] = (1, 2, 4, 8, 16)
    strides: tuple[int, ...] = (2, 4, 4, 6, 10)
    latent_dim: int = 64
    audio_channels: int = 2
    sample_rate: int = 48000

    def __post_init__(self) -> None:
        if len(self.c_mults) != len(self.strides):
            raise ValueError(f"c_mults {self.c_mults} and strides {self.strides} differ in length")
        if any(stride % 2 for stride in self.strides):
            raise ValueError(f"strides {self.strides}: only even ones are supported")

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the waveform's end; the first stage keeps its width."""
        return (self.channels, *(self.channels * mult for mult in self.c_mults))

    @classmethod
    def from_json_dict(cls, published: Mapping[str, Any]) -> OobleckConfig:
        """Read a published autoencoder description (both halves list c_mults and strides in encoder order).

        Raises:
            ValueError: a key is missing, or its value is not what this implementation computes.
        """
        try:
            model = published["model"]
            encoder, decoder = model["encoder"]["config"], model["decoder"]["config"]
            config = cls(
                channels=decoder["channels"],
                c_mults=tuple(decoder["c_mults"]),
                strides=tuple(decoder["strides"]),
                latent_dim=decoder["latent_dim"],
                audio_channels=decoder["out_channels"],
                sample_rate=published["sample_rate"],
            )
            facts = {
                "model_type": (published["model_type"], "autoencoder"),
                "encoder.type": (model["encoder"]["type"], "oobleck"),
                "decoder.type": (model["decoder"]["type"], "oobleck"),
                "bottleneck.type": (model["bottleneck"]["type"], "vae"),
                "encoder.use_snake": (encoder["use_snake"], True),
                "decoder.use_snake": (decoder["use_snake"], True),
                "decoder.final_tanh": (decoder.get("final_tanh", False), False),
                "encoder.channels": (encoder["channels"], config.channels),
                "encoder.c_mults": (tuple(encoder["c_mults"]), config.c_mults),
                "encoder.strides": (tuple(encoder["strides"]), config.strides),
                "encoder.latent_dim": (encoder["latent_dim"], 2 * config.latent_dim),
                "encoder.in_channels": (encoder["in_channels"], config.audio_channels),
                "downsampling_ratio": (model["downsampling_ratio"], config.hop),
            }
        except KeyError as error:
            raise ValueError(f"VAE description: key {error} is missing") from None
        for key, (value, wanted) in facts.items():
            if value != wanted:
                raise ValueError(f"VAE description: {key} is {value!r}, only {wanted!r} is supported here")
        return config


class SnakeBeta(nn.Module):
    """x + sin^2(e^alpha x) / (e^beta + 1e-9) per channel (BigVGAN, Lee et al. 2023, arXiv:2206.04658)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, channels, N]`."""
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return torch.addcmul(x, torch.sin(x * alpha).square(), 1 / (beta + 1e-9))


class ResidualUnit(nn.Module):
    """x + two snake-activated convolutions, the first of width 7, dilated."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            SnakeBeta(channels),
            WeightNormConv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            SnakeBeta(channels),
            WeightNormConv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return x + self.layers(x)


class Stage(nn.Module):
    """A stack of layers under the published name `layers`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        x = self.layers(x)
        return x


def encoder_stage(in_channels: int, out_channels: int, stride: int) -> Stage:
    """Three residual units, then a convolution that shortens by `stride`."""
    return Stage(
        *(ResidualUnit(in_channels, dilation) for dilation in DILATIONS),
        SnakeBeta(in_channels),
        WeightNormConv1d(in_channels, out_channels, 2 * stride, stride=stride, padding=stride // 2),
    )


def decoder_stage(in_channels: int, out_channels: int, stride: int) -> Stage:
    """A transposed convolution that lengthens by `stride`, then three residual units."""
    return Stage(
        SnakeBeta(in_channels),
        WeightNormConvTranspose1d(in_channels, out_channels, 2 * stride, stride=stride, padding=stride // 2),
        *(ResidualUnit(out_channels, dilation) for dilation in DILATIONS),
    )


def oobleck_encoder(config: OobleckConfig) -> Stage:
    """Waveform `[B, C, N]` to `[B, 2 Z, N / hop]`: means, then scales before softplus."""
    widths = config.widths
    stages = (encoder_stage(*sizes) for sizes in zip(widths[:-1], widths[1:], config.strides, strict=True))
    return Stage(
        WeightNormConv1d(config.audio_channels, widths[0], 7, padding=3),
        *stages,
        SnakeBeta(widths[-1]),
        WeightNormConv1d(widths[-1], 2 * config.latent_dim, 3, padding=1),
    )


def oobleck_decoder(config: OobleckConfig) -> Stage:
    """Latents `[B, Z, T]` to waveform `[B, C, T hop]`."""
    widths = config.widths[::-1]
    sizes = zip(widths[:-1], widths[1:], config.strides[::-1], strict=True)
    return Stage(
        WeightNormConv1d(config.latent_dim, widths[0], 7, padding=3),
        *(decoder_stage(*size) for size in sizes),
        SnakeBeta(widths[-1]),
        WeightNormConv1d(widths[-1], config.audio_channels, 7, padding=3, bias=False),
    )


def chunk_spans(num_frames: int, chunk: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """The published chunks of a decode: (first frame decoded, first frame kept, end of the frames kept).

    Chunks start every `chunk - overlap` frames; the last one ends with the latents, so it may overlap more,
    and wins where two chunks claim a frame. At inner seams each gives up half the overlap.
    """
    starts = list(range(0, num_frames - chunk + 1, chunk - overlap))
    if starts[-1] + chunk < num_frames:
        starts.append(num_frames - chunk)
    margin = overlap // 2
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        end = num_frames if following is None else following + margin
        yield start, start + (margin if start else 0), end


@dataclass(frozen=True)
class ChunkSpan:
    """A chunk of a decode: frames `start` ... `stop` are decoded, of which `first` ... `end` are kept."""

    start: int
    stop: int
    first: int
    end: int


def needed_spans(total: int, wanted: int, chunk: int, overlap: int) -> Iterator[ChunkSpan]:
    """The chunks of `total` frames that the first `wanted` need; fewer frames than a chunk are one."""
    if not 0 <= overlap < chunk:
        raise ValueError(f"overlap {overlap} must be >= 0 and less than the chunk of {chunk} frames")
    wanted = min(wanted, total)
    if total < chunk:
        chunk, overlap = total, 0
    for start, first, end in chunk_spans(total, chunk, overlap) if wanted else ():
        if first < wanted:
            yield ChunkSpan(start, start + chunk, first, min(end, wanted))


class OobleckVAE(nn.Module):
    """The autoencoder, or its decoder alone (half the weights); call `fuse_weight_norm_` after loading."""

    def __init__(self, config: OobleckConfig, *, has_encoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = oobleck_encoder(config) if has_encoder else None
        self.decoder = oobleck_decoder(config)

    def encode_moments(self, audio_BCN: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform to mean and deviation of the latents, `[B, Z, N // hop]` each."""
        assert self.encoder is not None, "built without its encoder"
        mean, scale = self.encoder(audio_BCN).chunk(2, dim=1)
        return mean, functional.softplus(scale) + 1e-4

    def encode(self, audio_BCN: Tensor, noise_BZT: Tensor) -> Tensor:
        """Waveform to latents `[B, Z, N // hop]`, drawn with standard normal noise (as published)."""
        mean, deviation = self.encode_moments(audio_BCN)
        return mean + deviation * noise_BZT

    def decode(self, latents_BZT: Tensor) -> Tensor:
        """Latents to waveform `[B, C, T hop]` in one pass."""
        audio: Tensor = self.decoder(latents_BZT)
        return audio

    def decode_chunked(
        self,
        latents_BZT: Tensor,
        *,
        chunk: int = CHUNK_FRAMES,
        overlap: int = CHUNK_OVERLAP,
        num_frames: int | None = None,
    ) -> Tensor:
        """Latents to waveform, one chunk after the other, so that memory does not grow with the length.

        Seams are pasted, not faded, as published; fewer latents than a chunk are decoded whole (where the
        published system fails).

        Args:
            latents_BZT: any length, 0 too.
            chunk: frames decoded at once, >= 1.
            overlap: frames that neighbours share, 0 <= overlap < chunk.
            num_frames: decode only as many chunks as the first `num_frames` frames need; None for all of
                them.

        Returns:
            `[B, C, num_frames hop]`, float32 on the latents' device.
        """
        rows, _, total = latents_BZT.shape
        wanted = total if num_frames is None else min(num_frames, total)
        hop = self.config.hop
        audio_BCN = latents_BZT.new_zeros(rows, self.config.audio_channels, wanted * hop)
        for span in needed_spans(total, wanted, chunk, overlap):
            piece_BCN = self.decode(latents_BZT[..., span.start : span.stop])
            audio_BCN[..., span.first * hop : span.end * hop] = self._kept(piece_BCN, span)
        return audio_BCN

    def decode_pieces(
        self,
        latents: Sequence[Tensor],
        num_frames: Sequence[int],
        *,
        chunk: int | None = CHUNK_FRAMES,
        overlap: int = CHUNK_OVERLAP,
        rows: int = 1,
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Several latents to waveform piece by piece, as `decode_chunked` would, with several chunks a pass.

        No more than `rows` chunks are in memory at once, whoever they belong to.

        Args:
            latents: `[Z, T]` each, of any length.
            num_frames: frames wanted of each.
            chunk: as of `decode_chunked`; None decodes each whole.
            rows: chunks decoded at once, >= 1.

        Yields:
            (number of the latents, first frame, `[C, n hop]` on their device), in order.
        """
        spans: list[tuple[int, ChunkSpan]] = []
        for which, (latents_ZT, wanted) in enumerate(zip(latents, num_frames, strict=True)):
            total = latents_ZT.shape[1]
            size, shared = (max(total, 1), 0) if chunk is None else (chunk, overlap)
            spans += [(which, span) for span in needed_spans(total, wanted, size, shared)]
        for _, alike in itertools.groupby(spans, key=lambda item: item[1].stop - item[1].start):
            while together := list(itertools.islice(alike, rows)):
                chunks = [latents[which][:, span.start : span.stop] for which, span in together]
                audio_BCN = self.decode(torch.stack(chunks))
                for (which, span), piece_CN in zip(together, audio_BCN, strict=True):
                    yield which, span.first, self._kept(piece_CN, span)

    def _kept(self, piece: Tensor, span: ChunkSpan) -> Tensor:
        first, end = ((frame - span.start) * self.config.hop for frame in (span.first, span.end))
        return piece[..., first:end]
