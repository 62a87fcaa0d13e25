"""A small network that hears phonemes in a sung vocal stem, and what it hears of a whole song.

48 kHz audio becomes a log-mel of 50 frames a second, relative to its loudest place, and goes through
convolutions that see about a second: long enough for a phoneme with its neighbours, too short for guessing
words from their context. It knows the voices that it was trained on and no others; nothing here trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from songgen.english import PHONEMES
from songgen.nn.mel import MelSpectrogram, decibels
from songgen.nn.resample import Resampler

SAMPLE_RATE, MEL_RATE = 48000, 24000
HOP, FFT_SIZE, NUM_MELS = 480, 1024, 80
FRAME_RATE = MEL_RATE // HOP
"""Frames a second: 50, two to a frame of the songs."""

RANGE_DB = 60.0
"""Decibels below the loudest place at which the mel is cut."""
QUIETEST_DB = -20.0
"""A stem whose loudest place has less mel power than this is silence: nothing is raised to be heard."""
SMOOTHING = 9
"""Frames that the loudest place is averaged over."""

MIDDLE = 1.5
"""Added to a mel, which lies between -3 and 0."""

BLANK = 0
NUM_CLASSES = 1 + len(PHONEMES)
"""0 is the blank of CTC, or no phoneme; then the phonemes in their order."""


@dataclass(frozen=True)
class ListenerConfig:
    """Sizes: width of a frame, blocks, taps of a block's convolution (odd), widening within a block."""

    dim: int = 144
    num_blocks: int = 8
    taps: int = 9
    widening: int = 4

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ListenerConfig:
        """Read the sizes off a `Listener`'s tensors."""
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        conv, up = tensors["blocks.0.conv.weight"], tensors["blocks.0.up.weight"]
        return cls(len(conv), len(blocks), conv.shape[-1], len(up) // len(conv))


class _Block(nn.Module):
    """Depthwise convolution over time, then two layers frame by frame, around a shortcut."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.dim * config.widening
        self.conv = nn.Conv1d(dim, dim, config.taps, padding=config.taps // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        mixed: Tensor = self.norm(self.conv(hidden_BTD.transpose(1, 2)).transpose(1, 2))
        change: Tensor = self.down(functional.gelu(self.up(mixed)))
        return hidden_BTD + change


class Listener(nn.Module):
    """Log-mel to logits of phonemes, frame by frame.

    It has two outputs: the one that CTC aligns (Graves et al. 2006), and one that says what is sung in each
    frame, which training alone uses.
    """

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Conv1d(NUM_MELS, config.dim, 5, padding=2)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.spelling_head = nn.Linear(config.dim, NUM_CLASSES)
        self.frame_head = nn.Linear(config.dim, NUM_CLASSES)

    def forward(self, mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """Mel `[B, NUM_MELS, T]` of `LogMel` -> logits `[B, T, NUM_CLASSES]` for CTC, and frame by frame."""
        hidden_BTD: Tensor = self.enter(mel_BMT + MIDDLE).transpose(1, 2)
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD)
        hidden_BTD = self.norm(hidden_BTD)
        return self.spelling_head(hidden_BTD), self.frame_head(hidden_BTD)


class LogMel(nn.Module):
    """48 kHz mono to a mel in units of 20 dB, 0 at its loudest place and -3 where it is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.resampler = Resampler(SAMPLE_RATE, MEL_RATE)
        self.spectrogram = MelSpectrogram(sample_rate=MEL_RATE, fft_size=FFT_SIZE, hop=HOP, num_mels=NUM_MELS)

    def levels(self, audio_BN: Tensor) -> Tensor:
        """48 kHz `[B, N]`, N >= 1 -> decibels `[B, NUM_MELS, N // 960]`, at least one frame."""
        num_frames = max(1, audio_BN.shape[-1] * FRAME_RATE // SAMPLE_RATE)
        signal = self.resampler(audio_BN)
        if signal.shape[-1] <= FFT_SIZE:
            signal = functional.pad(signal, (0, FFT_SIZE + 1 - signal.shape[-1]))
        return decibels(self.spectrogram(signal)[..., :num_frames])

    def forward(self, audio_BN: Tensor) -> Tensor:
        """48 kHz `[B, N]` -> `[B, NUM_MELS, N // 960]`, -3 ... about 1."""
        return relative(self.levels(audio_BN))


def relative(levels_BMT: Tensor, raised_db_B: Tensor | None = None) -> Tensor:
    """Decibels relative to the loudest place, raised if told, cut at -`RANGE_DB`, in units of 20 dB."""
    power_BT = levels_BMT.mul(0.1 * torch.log(torch.tensor(10.0))).exp().mean(1, keepdim=True)
    smooth = functional.avg_pool1d(power_BT, SMOOTHING, stride=1, padding=SMOOTHING // 2)
    loudest_B11 = decibels(smooth.amax(dim=-1, keepdim=True)).clamp(min=QUIETEST_DB)
    raised = 0.0 if raised_db_B is None else raised_db_B[:, None, None]
    return (levels_BMT - loudest_B11 + raised).clamp(min=-RANGE_DB) / 20.0


def spelt(logits_TV: Tensor) -> list[str]:
    """The phonemes of CTC logits `[T, NUM_CLASSES]`: the best class a frame, repetitions and blanks out."""
    return [symbol for _, symbol in spelt_at(logits_TV)]


def spelt_at(logits_TV: Tensor) -> list[tuple[float, str]]:
    """The same with the second at which each is first seen."""
    best = logits_TV.argmax(dim=-1).tolist()
    return [
        (frame / FRAME_RATE, PHONEMES[index - 1])
        for frame, (index, before) in enumerate(zip(best, [BLANK, *best], strict=False))
        if index not in (BLANK, before)
    ]


@torch.inference_mode()
def hear(listener: Listener, log_mel: LogMel, vocal_CN: Tensor) -> list[tuple[float, str]]:
    """The phonemes of a vocal stem, 48 kHz `[C, N]` float32, and about when; none of silence."""
    logits_BTV, _ = listener(log_mel(vocal_CN.mean(0, keepdim=True)))
    return spelt_at(logits_BTV[0].float())
