"""Prompt clips: the start of an audio file, checked and brought to the rates that a model wants.

A model with stems wants stereo at 48 kHz and at its separator's rate, a model of the mixture alone mono.
Files are only read. Knows nothing of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from songgen.audio import read_audio
from songgen.nn.resample import MAX_KERNEL_VALUES, kernel_values, resample

SAMPLE_RATE, FRAME_RATE = 48_000, 25
"""Of every family: samples of a prompt a second, and frames of its tokens or latents."""

PROMPT_SECONDS = 10
READ_SECONDS = 30
"""Seconds read from a file. What lies behind the first 10 is the separator's context, and sets its levels."""

MIN_SAMPLES = SAMPLE_RATE // FRAME_RATE
SILENCE_PEAK = 1e-4
LOUDEST_PEAK = 8.0
MIN_RATE, MAX_RATE = 1000, 1_000_000


@dataclass(frozen=True)
class PromptClip:
    """The start of a prompt file.

    Args:
        mixture_CN: `[2, N]` at the separator's rate, up to `READ_SECONDS`; empty if nothing separates it.
        full_CN: `[2, N]` at 48 kHz, up to `PROMPT_SECONDS`.
        warnings: what the user should know of it, phrases to put behind the file's name.
    """

    mixture_CN: Tensor
    full_CN: Tensor
    warnings: tuple[str, ...] = ()


def load_clip(path: Path | str, *, separator_rate: int | None = 44100) -> PromptClip:
    """Read the start of a wav, flac, ogg, mp3 or opus file of any rate and channel count.

    Args:
        separator_rate: Hz; None for a model that takes prompts in mono (`mono_clip_of`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as audio, is empty, too short, silent, or holds samples that are no
            audio; names path and reason.
    """
    audio = read_audio(path, max_seconds=READ_SECONDS)
    samples_CN = torch.from_numpy(audio.samples)
    try:
        if separator_rate is None:
            return mono_clip_of(samples_CN, audio.sample_rate)
        return clip_of(samples_CN, audio.sample_rate, separator_rate=separator_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def clip_of(samples_CN: Tensor, sample_rate: int, *, separator_rate: int = 44100) -> PromptClip:
    """A prompt clip from samples in memory.

    Args:
        samples_CN: float32 `[C, N]`, C >= 1. One channel is doubled, of more than two the first two are kept.
        sample_rate: Hz.

    Raises:
        ValueError: too short, silent, not finite, far beyond full scale, or a rate that is none of audio.
    """
    check_rate(sample_rate)
    warnings = []
    if samples_CN.shape[0] > 2:
        warnings.append(f"has {samples_CN.shape[0]} channels; the first two are used")
    stereo_CN = samples_CN[:2] if samples_CN.shape[0] > 1 else samples_CN.expand(2, -1)
    warnings += check_samples(stereo_CN, sample_rate)
    full_CN = to_rate(stereo_CN, sample_rate, SAMPLE_RATE)[:, : PROMPT_SECONDS * SAMPLE_RATE]
    return PromptClip(to_rate(stereo_CN, sample_rate, separator_rate), full_CN, tuple(warnings))


def mono_clip_of(samples_CN: Tensor, sample_rate: int) -> PromptClip:
    """A prompt clip for a model of the mixture alone: the mean of all channels, on both channels.

    Published for v2-fast: mono first, then soxr's HQ resampling (the loader of librosa).

    Args:
        samples_CN: float32 `[C, N]`, C >= 1.
        sample_rate: Hz.

    Raises:
        ValueError: as `clip_of`, or the channels cancel each other.
    """
    check_rate(sample_rate)
    warnings = check_samples(samples_CN, sample_rate)
    mono_N = samples_CN.mean(0)
    if float(mono_N[: PROMPT_SECONDS * sample_rate].abs().max()) < SILENCE_PEAK:
        raise ValueError("its channels cancel each other, and this model takes a prompt in mono")
    if sample_rate != SAMPLE_RATE:
        import soxr

        wanted = -(-mono_N.shape[0] * SAMPLE_RATE // sample_rate)
        resampled = torch.from_numpy(soxr.resample(mono_N.numpy(), sample_rate, SAMPLE_RATE, quality="HQ"))
        mono_N = functional.pad(resampled, (0, wanted - resampled.shape[0]))
    full_CN = mono_N[: PROMPT_SECONDS * SAMPLE_RATE].expand(2, -1)
    return PromptClip(torch.zeros(2, 0), full_CN, tuple(warnings))


def check_rate(sample_rate: int) -> None:
    """Raise ValueError for a sample rate that no audio has."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"a sample rate of {sample_rate} Hz; audio has {MIN_RATE} ... {MAX_RATE}")


def check_samples(samples_CN: Tensor, sample_rate: int) -> list[str]:
    """Raise ValueError for samples that no prompt is made from; returns warnings."""
    head_CN = samples_CN[:, : PROMPT_SECONDS * sample_rate]
    broken = int((~samples_CN.isfinite()).sum())
    if broken:
        raise ValueError(f"holds {broken} samples that are not finite (NaN or infinity)")
    if samples_CN.shape[1] == 0:
        raise ValueError("holds no samples")
    if float(samples_CN.abs().max()) > LOUDEST_PEAK:
        raise ValueError(f"samples reach {float(samples_CN.abs().max()):.3g}, where full scale is 1")
    if float(head_CN.abs().max()) < SILENCE_PEAK:
        raise ValueError(f"is silent in its first {PROMPT_SECONDS} s")
    if -(-head_CN.shape[1] * SAMPLE_RATE // sample_rate) < MIN_SAMPLES:
        raise ValueError(
            f"too short for a prompt: {head_CN.shape[1]} samples at {sample_rate} Hz; "
            "one frame (0.04 s) is the least"
        )
    seconds = head_CN.shape[1] / sample_rate
    if seconds < PROMPT_SECONDS:
        return [f"is {seconds:.1f} s long; the model was trained on prompts of {PROMPT_SECONDS} s"]
    return []


def to_rate(samples_CN: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Resample with the published arithmetic; rates too odd for its filter bank by soxr."""
    if source_rate == target_rate or kernel_values(source_rate, target_rate) <= MAX_KERNEL_VALUES:
        return resample(samples_CN, source_rate, target_rate)
    import soxr

    converted = soxr.resample(samples_CN.numpy().T, source_rate, target_rate, quality="VHQ")
    return torch.from_numpy(np.ascontiguousarray(converted.T, dtype=np.float32))
