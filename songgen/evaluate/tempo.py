"""Tempo: the period of the onsets of a song, and whether it is the one that was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.spectrum import mel_decibels, mel_hop

FRAME_RATE = 100.0
NUM_MELS = 40
MIN_SECONDS = 4.0
SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0
PREFERRED_BPM, PREFERENCE_OCTAVES = 120.0, 0.9
REFINEMENTS = (2, 4, 8)
TOLERANCE = 0.04
LEVELS = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)

_ASKED = re.compile(r"\bbpm\s*(?:is|=|:)?\s*(\d{2,3}(?:\.\d+)?)|(\d{2,3}(?:\.\d+)?)\s*bpm\b", re.IGNORECASE)


@dataclass(frozen=True)
class Tempo:
    """Beats a minute, and how periodic the onsets are at that period: 0 not at all, 1 perfectly."""

    bpm: float
    strength: float


def tempo(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> Tempo:
    """The global tempo, 40 ... 240 bpm.

    Onsets are the positive changes of 40 mel bands in dB at 100 frames a second; their autocorrelation is
    weighted by a Gaussian over log tempo around 120 bpm, which chooses the metrical level (Ellis 2007, "Beat
    tracking by dynamic programming", section 3; its width here is 0.9 octaves). The period is then read off
    multiples of itself, where an error of a frame counts less.

    Raises:
        NotMeasured: shorter than 4 s, or without any onset.
    """
    if samples_CN.shape[1] < MIN_SECONDS * sample_rate:
        raise NotMeasured(f"shorter than {MIN_SECONDS:g} s")
    onsets = onset_strength(samples_CN, sample_rate)
    frame_rate = sample_rate / mel_hop(sample_rate, FRAME_RATE)
    correlation = _autocorrelation(onsets - onsets.mean())
    if correlation is None:
        raise NotMeasured("no onset was found")
    lags = np.arange(len(correlation))
    low, high = int(60.0 * frame_rate / FASTEST_BPM), int(np.ceil(60.0 * frame_rate / SLOWEST_BPM))
    octaves = np.log2(60.0 * frame_rate / np.maximum(lags, 1) / PREFERRED_BPM)
    weighted = np.maximum(correlation, 0.0) * np.exp(-0.5 * (octaves / PREFERENCE_OCTAVES) ** 2)
    best = low + int(np.argmax(weighted[low : high + 1]))
    if weighted[best] <= 0.0:
        raise NotMeasured("the onsets have no period")
    period = _refine(correlation, _peak(correlation, best))
    return Tempo(60.0 * frame_rate / period, float(np.clip(correlation[best], 0.0, 1.0)))


def onset_strength(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float64]:
    """How much louder each frame is than the one before it, mean of the bands in dB, lightly smoothed."""
    levels = mel_decibels(samples_CN, sample_rate, num_mels=NUM_MELS, frame_rate=FRAME_RATE)
    rises = np.maximum(np.diff(levels, axis=0), 0.0).mean(axis=1, dtype=np.float64)
    smoothing = np.hanning(7)[1:-1]
    return np.convolve(rises, smoothing / smoothing.sum(), mode="same")


def asked_bpm(descriptions: str | None) -> float | None:
    """The tempo that descriptions ask for: `the bpm is 120`, `120 bpm`; None if they ask for none."""
    found = _ASKED.search(descriptions or "")
    return float(found[1] or found[2]) if found else None


def is_tempo_met(found_bpm: float, wanted_bpm: float) -> bool:
    """Whether a tempo is within 4 % of the wanted one, or of its double, half, triple or third.

    Accuracy 2 of Gouyon et al. 2006, "An experimental comparison of audio tempo induction algorithms".
    """
    return any(abs(found_bpm / (wanted_bpm * level) - 1.0) <= TOLERANCE for level in LEVELS)


def _autocorrelation(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Autocorrelation, `[N]`: 1 at no lag, each lag scaled by its samples; None without energy."""
    count = len(signal)
    spectrum = np.fft.rfft(signal, 2 * count)
    raw = np.fft.irfft(np.abs(spectrum) ** 2)[:count] / np.arange(count, 0, -1)
    return raw / raw[0] if raw[0] > 1e-9 else None


def _peak(values: npt.NDArray[np.float64], place: int) -> float:
    """The place of a peak between samples, from the parabola through its three."""
    if not 0 < place < len(values) - 1:
        return float(place)
    before, here, after = values[place - 1 : place + 2]
    bend = before - 2.0 * here + after
    return place if bend >= 0.0 else place + float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _refine(correlation: npt.NDArray[np.float64], period: float) -> float:
    """The period from the peaks near its multiples, as far as the song is long enough and the peaks stay."""
    least = 0.5 * correlation[round(period)]
    for multiple in REFINEMENTS:
        centre, reach = multiple * period, max(1, round(0.02 * multiple * period))
        first, last = round(centre) - reach, round(centre) + reach + 1
        if last > len(correlation) // 2:
            break
        place = first + int(np.argmax(correlation[first:last]))
        if correlation[place] < least:
            break
        period = _peak(correlation, place) / multiple
    return period
