"""How close rendered stems are to the true ones: mel distance, and how much of one stem leaks into another.

All are of stems that lie in time as the true ones do; nothing here depends on phase.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from songgen.evaluate.spectrum import power_frames, window_size
from songgen.nn.mel import POWER_FLOOR, mel_filterbank

Array = npt.NDArray[np.float32]

NUM_MELS, FRAME_RATE = 80, 50
RANGE_DB = 60.0
"""Decibels below the loudest place of the true stem at which both are cut."""

AFTER_SECONDS, BEFORE_SECONDS = 0.3, 0.1
"""Around a phoneme the vocal is not taken for silent: it is released, and reverberates."""

LEAST_SILENCE_SECONDS = 0.2


def mel_power(samples_CN: Array, sample_rate: int) -> Array:
    """Mel power of the channels together, `[T, NUM_MELS]`, 50 frames a second."""
    size, hop = window_size(sample_rate), sample_rate // FRAME_RATE
    bank = mel_filterbank(size // 2 + 1, NUM_MELS, sample_rate).numpy()
    parts = [power @ bank for power in power_frames(samples_CN, size, hop)]
    return np.concatenate(parts) if parts else np.zeros((0, NUM_MELS), np.float32)


def mel_distance(true_CN: Array, other_CN: Array, sample_rate: int) -> float | None:
    """Mean absolute difference of the mels in dB, 80 bands, both cut 60 dB below the true one's loudest
    place; None of a true stem that is silent."""
    length = min(true_CN.shape[1], other_CN.shape[1])
    true, other = (mel_power(samples[:, :length], sample_rate) for samples in (true_CN, other_CN))
    if not true.size or true.max() <= POWER_FLOOR:
        return None
    floor = true.max() * 10.0 ** (-RANGE_DB / 10.0)
    levels = [10.0 * np.log10(np.maximum(power, floor)) for power in (true, other)]
    return float(np.abs(levels[0] - levels[1]).mean())


def silence_level(vocal_CN: Array, sample_rate: int, sung: Sequence[tuple[float, float]]) -> float | None:
    """Level of a vocal stem where nobody sings against its level where somebody does, in dB.

    Args:
        sung: seconds from and to which a phoneme is sung.

    Returns:
        None where there is under 0.2 s of the one or the other; -100 at the least.
    """
    power = np.square(vocal_CN, dtype=np.float64).mean(axis=0)
    is_sung, is_near = np.zeros(len(power), bool), np.zeros(len(power), bool)
    for start, end in sung:
        is_sung[_at(start, sample_rate) : _at(end, sample_rate)] = True
        is_near[_at(start - BEFORE_SECONDS, sample_rate) : _at(end + AFTER_SECONDS, sample_rate)] = True
    least = LEAST_SILENCE_SECONDS * sample_rate
    if is_sung.sum() < least or (~is_near).sum() < least:
        return None
    silent, loud = float(power[~is_near].mean()), float(power[is_sung].mean())
    return 10.0 * float(np.log10(max(silent, 1e-10 * loud, 1e-20) / max(loud, 1e-20)))


def leakage(stem_CN: Array, own_CN: Array, other_CN: Array, sample_rate: int) -> float | None:
    """Level of another stem within a rendered one, in dB against that other stem in the song.

    The rendered stem's mel power is explained by the true stem and the true other one with a factor each,
    neither below 0, by least squares; each band is divided by its mean power in the mix, so that all bands
    count alike. The factor of the other stem is the leakage. It is a lower bound in places where both sound
    alike.

    Returns:
        None if a true stem is silent; -60 at the least.
    """
    length = min(samples.shape[1] for samples in (stem_CN, own_CN, other_CN))
    powers = [mel_power(samples[:, :length], sample_rate) for samples in (stem_CN, own_CN, other_CN)]
    stem, own, other = (power.astype(np.float64) for power in powers)
    if not stem.size or min(own.max(), other.max()) <= POWER_FLOOR:
        return None
    scale = (own + other).mean(axis=0, keepdims=True) + POWER_FLOOR
    stem, own, other = ((power / scale).ravel() for power in (stem, own, other))
    both = np.array([[own @ own, own @ other], [own @ other, other @ other]])
    wanted = np.array([own @ stem, other @ stem])
    factors = np.linalg.lstsq(both, wanted, rcond=None)[0]
    if factors[0] < 0:
        factors = np.array([0.0, wanted[1] / both[1, 1]])
    return 10.0 * float(np.log10(max(factors[1], 1e-6)))


def _at(seconds: float, sample_rate: int) -> int:
    return max(0, round(seconds * sample_rate))
