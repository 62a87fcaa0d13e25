"""Levels of a song: silence, clipping, peak. Definitions are songgen's own and are written out here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from songgen.evaluate.measures import NotMeasured

BLOCK_SECONDS = 0.05
SILENCE_DBFS = -60.0
CLIP_LEVEL = 32767 / 32768
"""The largest value that a 16-bit file holds."""

CLIP_RUN = 3
"""Samples in a row at full scale that count as clipped; one or two may be a peak that just fits."""


@dataclass(frozen=True)
class Silence:
    """Silence of a song: part of its length (0 ... 1), and seconds at the ends and of the longest stretch."""

    fraction: float
    leading_seconds: float
    trailing_seconds: float
    longest_seconds: float


def silence(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> Silence:
    """Silence by blocks of 50 ms whose root mean square over all channels is below -60 dBFS.

    The last block may be shorter. A sine of full scale has -3 dBFS.
    """
    count = samples_CN.shape[1]
    block = max(1, round(BLOCK_SECONDS * sample_rate))
    starts = np.arange(0, count, block)
    energy = np.einsum("cn,cn->n", samples_CN, samples_CN, dtype=np.float64) / samples_CN.shape[0]
    lengths = np.minimum(block, count - starts)
    is_silent = np.add.reduceat(energy, starts) / lengths < 10.0 ** (SILENCE_DBFS / 10.0)
    runs = [(int(first), int(lengths[first:last].sum())) for first, last in true_runs(is_silent)]
    leading = runs[0][1] if runs and runs[0][0] == 0 else 0
    trailing = runs[-1][1] if is_silent[-1] else 0
    longest = max((length for _, length in runs), default=0)
    total = sum(length for _, length in runs)
    return Silence(total / count, leading / sample_rate, trailing / sample_rate, longest / sample_rate)


def clipped_samples(samples_CN: npt.NDArray[np.float32]) -> int:
    """Samples at or beyond the largest 16-bit value, in runs of at least three in their channel."""
    total = 0
    for channel in np.abs(samples_CN) >= CLIP_LEVEL:
        if channel.any():
            total += sum(last - first for first, last in true_runs(channel) if last - first >= CLIP_RUN)
    return total


def peak_dbfs(samples_CN: npt.NDArray[np.float32]) -> float:
    """The largest sample in dB against full scale (1.0).

    Raises:
        NotMeasured: all samples are zero.
    """
    peak = float(np.abs(samples_CN).max())
    if peak == 0.0:
        raise NotMeasured("the song is digital silence")
    return 20.0 * math.log10(peak)


def true_runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs of true values as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
