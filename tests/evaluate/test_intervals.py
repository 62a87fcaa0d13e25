"""Confidence intervals: that they cover, and that they are the same again."""

from __future__ import annotations

import numpy as np
import pytest

from songgen.evaluate.bootstrap import Bootstrap, estimate_mean, estimate_ratio


def coverage(count: int, confidence: float, trials: int = 400) -> float:
    """How often the interval of the mean of exponential values holds their true mean, 1."""
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(trials):
        found = estimate_mean(list(rng.exponential(1.0, count)), Bootstrap(300, confidence, trial))
        assert found.low is not None and found.high is not None
        hits += found.low <= 1.0 <= found.high
    return hits / trials


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.95, 0.90, 0.98), (0.8, 0.74, 0.85)])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(
    confidence: float, low: float, high: float
) -> None:
    assert low <= coverage(60, confidence) <= high


def test_the_interval_of_normal_values_is_that_of_the_formula() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    found = estimate_mean(list(values), Bootstrap(4000))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_one_seed_gives_one_interval() -> None:
    values = list(np.random.default_rng(2).random(30))
    assert estimate_mean(values, Bootstrap(seed=4)) == estimate_mean(values, Bootstrap(seed=4))
    assert estimate_mean(values, Bootstrap(seed=4)) != estimate_mean(values, Bootstrap(seed=5))


def test_resamples_in_parts_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("songgen.evaluate.bootstrap.DRAWS_AT_ONCE", 70)
    found = estimate_mean([0.0, 1.0] * 10, Bootstrap(1000))
    assert found.low == pytest.approx(0.28, abs=0.06) and found.high == pytest.approx(0.72, abs=0.06)


def test_one_song_has_no_interval() -> None:
    found = estimate_mean([3.0], Bootstrap())
    assert (found.value, found.low, found.high, found.songs) == (3.0, None, None, 1)


def test_a_ratio_is_that_of_the_sums() -> None:
    found = estimate_ratio([1, 9], [10, 10], Bootstrap())
    assert found.value == pytest.approx(0.5) and found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.9)
