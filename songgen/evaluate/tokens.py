"""Tokens of a song: their entropy, and exact loops, the sign of a language model that is stuck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from songgen.evaluate.levels import true_runs

MAX_PERIOD_SECONDS = 10.0
MIN_LOOP_SECONDS = 1.0


@dataclass(frozen=True)
class Loops:
    """Loops of one codebook: frames within any, frames of the longest, and its period in frames (0: none)."""

    covered: int
    longest: int
    period: int


def entropy_bits(tokens_T: npt.NDArray[np.int64]) -> float:
    """Shannon entropy of how often each token occurs, in bits; at most log2 of the number of frames.

    No correction for the length of the song: compare songs of like length.
    """
    counts = np.unique(tokens_T, return_counts=True)[1]
    parts = counts / counts.sum()
    return float(max(0.0, -(parts * np.log2(parts)).sum()))


def find_loops(tokens_T: npt.NDArray[np.int64], frame_rate: float) -> Loops:
    """Stretches in which the tokens repeat exactly with one period.

    A loop of period p is a stretch of at least 2 p frames, and at least 1 s, in which each token but the
    first p equals that p frames before it; p goes to 10 s. Of equally long stretches the shortest period is
    named.
    """
    count = len(tokens_T)
    is_covered = np.zeros(count, dtype=bool)
    longest = period = 0
    for lag in range(1, min(count // 2, round(MAX_PERIOD_SECONDS * frame_rate)) + 1):
        least = max(lag, round(MIN_LOOP_SECONDS * frame_rate) - lag)
        for first, last in true_runs(tokens_T[lag:] == tokens_T[:-lag]):
            if last - first < least:
                continue
            is_covered[first : last + lag] = True
            if last - first + lag > longest:
                longest, period = last - first + lag, lag
    return Loops(int(is_covered.sum()), longest, period)
