"""Tempo of click tracks, and whether it is what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.tempo import asked_bpm, is_tempo_met, tempo


def clicks(bpm: float, seconds: float = 15.0, rate: int = 48000, noise: float = 0.0) -> np.ndarray:
    """Short bursts of decaying noise, one a beat, `[2, N]`."""
    rng = np.random.default_rng(3)
    song = noise * rng.standard_normal(round(seconds * rate))
    burst = np.exp(-np.arange(480) / 100)
    for start in np.arange(0, len(song) - 480, 60 / bpm * rate):
        song[round(start) : round(start) + 480] += 0.5 * burst * rng.standard_normal(480)
    return np.stack([song, song]).astype(np.float32)


@pytest.mark.parametrize("bpm", [63.0, 90.0, 100.0, 120.0, 128.5, 145.0])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_click_track_has_its_tempo_within_one_bpm(bpm: float, rate: int) -> None:
    found = tempo(clicks(bpm, rate=rate), rate)
    assert found.bpm == pytest.approx(bpm, abs=1.0) and found.strength > 0.9


def test_opposed_channels_and_some_noise_do_not_hide_the_beat() -> None:
    song = clicks(120, noise=0.003)
    song[1] *= -1
    assert tempo(song, 48000).bpm == pytest.approx(120, abs=1.0)


def test_noise_without_a_beat_has_little_strength() -> None:
    song = 0.1 * np.random.default_rng(0).standard_normal((1, 48000 * 20)).astype(np.float32)
    assert tempo(song, 48000).strength < 0.2


def test_what_has_no_tempo_says_why() -> None:
    with pytest.raises(NotMeasured, match=r"^shorter than 4 s$"):
        tempo(clicks(120, 3.0), 48000)
    with pytest.raises(NotMeasured, match=r"^no onset was found$"):
        tempo(np.zeros((2, 48000 * 5), np.float32), 48000)


@pytest.mark.parametrize(
    ("descriptions", "bpm"),
    [
        ("female, warm, the bpm is 90", 90.0),
        ("BPM: 128.5, pop", 128.5),
        ("pop, 140 bpm", 140.0),
        ("pop, 140bpm, dark", 140.0),
        ("pop", None),
        ("bpm is 5", None),
        (None, None),
    ],
)
def test_the_tempo_that_descriptions_ask_for(descriptions: str | None, bpm: float | None) -> None:
    assert asked_bpm(descriptions) == bpm


@pytest.mark.parametrize(
    ("found", "is_met"),
    [(120, True), (124, True), (126, False), (60, True), (240, True), (40, True), (90, False)],
)
def test_a_tempo_is_met_within_4_percent_at_any_metrical_level(found: float, is_met: bool) -> None:
    assert is_tempo_met(found, 120) is is_met
