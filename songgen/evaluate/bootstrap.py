"""Bootstrap confidence intervals over songs.

Efron 1979; percentile intervals as in Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: resamples of the songs, confidence (0 ... 1), seed."""

    samples: int = 1000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """A folder's value of a measure with its interval; `low` and `high` are None for a single song."""

    value: float
    low: float | None
    high: float | None
    songs: int


def estimate_mean(values: Sequence[float], bootstrap: Bootstrap) -> Estimate:
    """The mean over songs with its percentile interval.

    The songs are what is resampled: the interval says how the mean would vary over other songs of the same
    kind. With few songs it is too narrow (at 10 songs a 95 % interval holds the truth in about 90 % of
    cases).
    """
    return estimate_ratio(values, np.ones(len(values)), bootstrap)


def estimate_ratio(
    numerators: Sequence[float], denominators: Sequence[float] | np.ndarray, bootstrap: Bootstrap
) -> Estimate:
    """The ratio of two sums over songs with its percentile interval; songs are resampled whole.

    The denominators are above 0.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    count = len(top)
    value = float(top.sum() / bottom.sum())
    if count < 2:
        return Estimate(value, None, None, count)
    rng = np.random.default_rng(bootstrap.seed)
    ratios: list[np.ndarray] = []
    left = bootstrap.samples
    while left:
        rows = min(left, max(1, DRAWS_AT_ONCE // count))
        drawn = rng.integers(count, size=(rows, count))
        ratios.append(top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1))
        left -= rows
    tail = (1.0 - bootstrap.confidence) / 2.0
    low, high = np.quantile(np.concatenate(ratios), (tail, 1.0 - tail))
    return Estimate(value, float(low), float(high), count)
