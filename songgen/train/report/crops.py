"""Crops of vocal stems for the recogniser: audio with whole phonemes in it, what they are, and disturbances.

A crop that would cut a phoneme is silenced up to its end. The disturbances (noise, a band that leaks, an
equaliser, blur, errors of single bands) are those of a codec, roughly, so that the recogniser hears words
behind them. Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from songgen.english import PHONEMES
from songgen.train.report.listener import FRAME_RATE, NUM_MELS, SAMPLE_RATE
from songgen.train.truth import Span

FADE_SECONDS = 0.005
MARGIN_SECONDS = 0.1
"""Of what surrounds the first and last phoneme of a crop, as much is kept, if it is not another phoneme."""

INDEX = {symbol: 1 + index for index, symbol in enumerate(PHONEMES)}


@dataclass(frozen=True)
class Augmentation:
    """How much crops are disturbed; each crop draws its own amounts.

    Args:
        gain_db, equaliser_db: largest change of the level, and of a smooth curve over the bands.
        noise_db, leak_db: loudest white noise and band, against the vocal (negative).
        band_db: largest deviation of errors of single bands in single frames.
        blur: largest share that neighbouring frames and bands have in a place.
    """

    gain_db: float = 6.0
    equaliser_db: float = 6.0
    noise_db: float = -20.0
    leak_db: float = -15.0
    band_db: float = 4.0
    blur: float = 0.5


@dataclass(frozen=True)
class Crop:
    """What a crop says: classes in order, and the class sung in each frame of the listener, `[T]` int64."""

    spelling: Tensor
    frames_T: Tensor
    keep_from: float
    keep_to: float


def crop_of(phonemes: Sequence[Span], start: float, seconds: float) -> Crop:
    """The whole phonemes within a part of a song, and which seconds of the part are to be heard."""
    end = start + seconds
    first = next((i for i, item in enumerate(phonemes) if item.start >= start), len(phonemes))
    last = first
    while last < len(phonemes) and phonemes[last].end <= end:
        last += 1
    inside = phonemes[first:last]
    if not inside:
        return Crop(torch.zeros(0, dtype=torch.int64), torch.zeros(_frames(seconds)).long(), 0.0, 0.0)
    before = phonemes[first - 1].end if first else 0.0
    after = phonemes[last].start if last < len(phonemes) else end
    keep_from = max(start, min(inside[0].start, max(before, inside[0].start - MARGIN_SECONDS)))
    keep_to = min(end, max(inside[-1].end, min(after, inside[-1].end + MARGIN_SECONDS)))
    spelling = torch.tensor([INDEX[item.name] for item in inside])
    return Crop(spelling, frames_of(inside, start, seconds), keep_from - start, keep_to - start)


def frames_of(phonemes: Sequence[Span], start: float, seconds: float) -> Tensor:
    """The class sung at each frame's middle, `[T]` int64, 0 for none."""
    frames_T = torch.zeros(_frames(seconds), dtype=torch.int64)
    for item in phonemes:
        low, high = (round((time - start) * FRAME_RATE) for time in (item.start, item.end))
        frames_T[max(0, low) : max(low + 1, high)] = INDEX[item.name]
    return frames_T


def gate(audio_CN: Tensor, crop: Crop) -> Tensor:
    """The audio `[C, N]` with what lies outside the crop's phonemes silenced, softly."""
    times = torch.arange(audio_CN.shape[-1]) / SAMPLE_RATE
    rise = ((times - crop.keep_from) / FADE_SECONDS).clamp(0, 1)
    fall = ((crop.keep_to - times) / FADE_SECONDS).clamp(0, 1)
    return audio_CN * rise * fall


def disturbed(
    vocal_N: Tensor, band_N: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """A vocal with noise and some of the band, mono `[N]` each."""
    level = vocal_N.square().mean().sqrt()
    noise_db, leak_db = (
        limit - rng.uniform(0, 35) for limit in (augmentation.noise_db, augmentation.leak_db)
    )
    noise_N = torch.from_numpy(rng.standard_normal(len(vocal_N), dtype=np.float32))
    band_level = band_N.square().mean().sqrt().clamp(min=1e-4)
    leak = min(1.0, float(level / band_level)) * 10 ** (leak_db / 20)
    return vocal_N + level * 10 ** (noise_db / 20) * noise_N + leak * band_N


def disturb_levels(levels_MT: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Mel decibels `[NUM_MELS, T]` with an equaliser, errors of bands, and blur."""
    knots = torch.from_numpy(rng.uniform(-1, 1, 5).astype(np.float32)) * augmentation.equaliser_db
    curve_M = functional.interpolate(knots[None, None], NUM_MELS, mode="linear", align_corners=True)[0, 0]
    share = float(rng.uniform(0, augmentation.blur))
    smooth_MT = functional.avg_pool2d(levels_MT[None], 3, 1, 1, count_include_pad=False)[0]
    noise_MT = torch.from_numpy(rng.standard_normal(tuple(levels_MT.shape), dtype=np.float32))
    deviation = float(rng.uniform(0, augmentation.band_db))
    return torch.lerp(levels_MT, smooth_MT, share) + curve_M[:, None] + deviation * noise_MT


def _frames(seconds: float) -> int:
    return round(seconds * FRAME_RATE)
