"""Whether a song keeps to what was asked for: beat, length, when singing begins.

Knows no model; the onsets are those of `songgen evaluate`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.tempo import TOLERANCE, is_tempo_met, onset_strength, tempo

Array = npt.NDArray[np.float32]

ONSET_RATE = 100.0
FIRST_RUN = 3
"""Voiced frames of 1/25 s in a row that singing begins with."""


def beat_strength(samples_CN: Array, sample_rate: int, bpm: float) -> float | None:
    """Autocorrelation of the onsets at a tempo's beat, the best within 4 %: at most 1, about 0 by chance.

    None of a song shorter than four beats, or without onsets.
    """
    if samples_CN.shape[1] < 4 * 60.0 / bpm * sample_rate:
        return None
    onsets = onset_strength(samples_CN, sample_rate)
    onsets = onsets - onsets.mean()
    count, energy = len(onsets), float(onsets @ onsets)
    if energy < 1e-9:
        return None
    period = 60.0 / bpm * ONSET_RATE
    lags = range(int(period * (1 - TOLERANCE)), int(np.ceil(period * (1 + TOLERANCE))) + 1)
    means = [float(onsets[lag:] @ onsets[:-lag]) / (count - lag) for lag in lags]
    return max(means) / (energy / count)


def has_tempo(samples_CN: Array, sample_rate: int, bpm: float) -> bool | None:
    """Whether the tempo found without knowing the request is the requested one (`is_tempo_met`)."""
    try:
        return is_tempo_met(tempo(samples_CN, sample_rate).bpm, bpm)
    except NotMeasured:
        return None


def first_voiced_second(pitch_T: npt.NDArray[np.float64], frame_rate: float) -> float | None:
    """When singing begins: the first of three voiced frames in a row; None if nobody sings."""
    voiced = pitch_T > 0
    runs = (
        np.convolve(voiced, np.ones(FIRST_RUN), mode="valid") == FIRST_RUN if len(voiced) >= FIRST_RUN else []
    )
    found = np.flatnonzero(runs)
    return float(found[0] / frame_rate) if len(found) else None
