"""Spectra of a song: bandwidth, stereo correlation, mel frames, and likeness of two mean spectra.

Powers of channels are added, never samples, so that opposed channels do not cancel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from songgen.evaluate.measures import NotMeasured
from songgen.nn.mel import POWER_FLOOR, mel_filterbank

Array = npt.NDArray[np.float32]

WINDOW_SECONDS = 2048 / 48000
BANDWIDTH_FLOOR_DB = 80.0
FRAMES_AT_ONCE = 1024
SIMILARITY_MELS = 64
SIMILARITY_RATE = 24000
DYNAMIC_RANGE_DB = 80.0


def bandwidth_hz(samples_CN: Array, sample_rate: int) -> float:
    """The highest frequency whose mean power is at most 80 dB below that of the strongest bin.

    Mean of windows of about 85 ms with half overlap (Welch 1967), whose side lobes are below that limit.
    80 dB holds the treble of a dark mix and stays clear of the noise of 16-bit files.

    Raises:
        NotMeasured: the song is shorter than a window, or silent.
    """
    size = 2 * window_size(sample_rate)
    mean = np.zeros(size // 2 + 1)
    count = 0
    for power in power_frames(samples_CN, size, size // 2, blackman_harris(size)):
        mean += power.sum(axis=0, dtype=np.float64)
        count += len(power)
    if not count:
        raise NotMeasured("shorter than a window of the spectrum")
    if not mean.max():
        raise NotMeasured("the song is digital silence")
    audible = np.flatnonzero(mean >= mean.max() * 10.0 ** (-BANDWIDTH_FLOOR_DB / 10.0))
    return float(audible[-1] * sample_rate / size)


def stereo_correlation(samples_CN: Array) -> float:
    """Correlation of the first two channels at no lag, -1 ... 1: sum(LR) / sqrt(sum(LL) sum(RR)).

    Raises:
        NotMeasured: one channel, or a silent one.
    """
    if samples_CN.shape[0] < 2:
        raise NotMeasured("the song has one channel")
    left, right = samples_CN[0].astype(np.float64), samples_CN[1].astype(np.float64)
    energy = float(np.sqrt((left @ left) * (right @ right)))
    if energy == 0.0:
        raise NotMeasured("a channel is digital silence")
    return float(np.clip((left @ right) / energy, -1.0, 1.0))


def window_size(sample_rate: int) -> int:
    """Samples of a window of about 43 ms, a power of two."""
    return int(2 ** max(4, round(np.log2(WINDOW_SECONDS * sample_rate))))


def blackman_harris(size: int) -> Array:
    """The 4-term Blackman-Harris window, `[size]`: side lobes 92 dB down (Harris 1978)."""
    angles = 2 * np.pi * np.arange(size) / size
    terms = np.array((0.35875, -0.48829, 0.14128, -0.01168))
    return (terms @ np.cos(np.outer(np.arange(4), angles))).astype(np.float32)


def power_frames(samples_CN: Array, size: int, hop: int, window: Array | None = None) -> Iterator[Array]:
    """Power spectra of windows, `[T, size // 2 + 1]` a time, the channels' powers added.

    Only whole windows are taken; the first begins with the first sample.

    Args:
        window: `[size]`; None for a Hann window.
    """
    if samples_CN.shape[1] < size:
        return
    if window is None:
        window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames_CTN = np.lib.stride_tricks.sliding_window_view(samples_CN, size, axis=1)[:, ::hop]
    for start in range(0, frames_CTN.shape[1], FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames_CTN[:, start : start + FRAMES_AT_ONCE] * window, axis=-1)
        yield (spectrum.real**2 + spectrum.imag**2).sum(axis=0).astype(np.float32)


def mel_decibels(samples_CN: Array, sample_rate: int, *, num_mels: int, frame_rate: float) -> Array:
    """Mel power in dB, `[T, num_mels]`, floored 80 dB below its maximum; HTK mels to half the sample rate.

    Args:
        frame_rate: frames a second, about: the hop is a whole number of samples.
    """
    size, hop = window_size(sample_rate), mel_hop(sample_rate, frame_rate)
    bank = mel_filterbank(size // 2 + 1, num_mels, sample_rate).numpy()
    parts = [power @ bank for power in power_frames(samples_CN, size, hop)]
    power = np.concatenate(parts) if parts else np.zeros((0, num_mels), np.float32)
    levels = 10.0 * np.log10(np.maximum(power, POWER_FLOOR))
    if levels.size:
        levels = np.maximum(levels, levels.max() - DYNAMIC_RANGE_DB)
    return levels.astype(np.float32)


def mel_hop(sample_rate: int, frame_rate: float) -> int:
    """Samples between mel frames."""
    return max(1, round(sample_rate / frame_rate))


def mean_spectrum(samples_CN: Array, sample_rate: int) -> Array:
    """The mean mel spectrum of a song in dB, `[64]`, up to 12 kHz: its long-term timbre.

    The song is brought to 24 kHz, so that files of different rates compare. The power is averaged, so loud
    places count most; bands are floored 80 dB below the strongest.

    Raises:
        NotMeasured: shorter than a window, or silent.
    """
    if sample_rate != SIMILARITY_RATE:
        import soxr

        samples_CN = np.ascontiguousarray(soxr.resample(samples_CN.T, sample_rate, SIMILARITY_RATE).T)
    size = window_size(SIMILARITY_RATE)
    total = np.zeros(size // 2 + 1)
    for power in power_frames(samples_CN, size, size // 2):
        total += power.sum(axis=0, dtype=np.float64)
    bands = total @ mel_filterbank(size // 2 + 1, SIMILARITY_MELS, SIMILARITY_RATE).numpy()
    if not bands.max():
        raise NotMeasured("shorter than a window of the spectrum, or silent")
    floor = 10.0 ** (-DYNAMIC_RANGE_DB / 10.0)
    return (10.0 * np.log10(np.maximum(bands / bands.max(), floor))).astype(np.float32)


def spectral_similarity(one: Array, other: Array) -> float:
    """Correlation of two mean spectra in dB, -1 ... 1: equal at any two levels gives 1.

    Raises:
        NotMeasured: a spectrum is flat.
    """
    first, second = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    energy = float(np.sqrt((first @ first) * (second @ second)))
    if energy < 1e-6:
        raise NotMeasured("a spectrum is flat")
    return float(np.clip((first @ second) / energy, -1.0, 1.0))
