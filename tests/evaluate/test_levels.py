"""Silence, clipping, peak and loudness of signals whose values are known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fake_audio import music

from songgen.evaluate.levels import clipped_samples, peak_dbfs, silence
from songgen.evaluate.loudness import loudness_lufs
from songgen.evaluate.measures import NotMeasured

RATE = 48000


def sine(hertz: float, seconds: float = 4.0, amplitude: float = 1.0, rate: int = RATE) -> np.ndarray:
    """`[N]` float32."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def test_silence_is_found_at_both_ends_and_within() -> None:
    tone, gap = sine(440, 1.0, 0.5), np.zeros(RATE, np.float32)
    song = np.concatenate([gap[: RATE // 2], tone, gap, gap, tone, gap])[None]
    found = silence(np.concatenate([song, song]), RATE)
    assert found.leading_seconds == 0.5 and found.trailing_seconds == 1.0 and found.longest_seconds == 2.0
    assert found.fraction == pytest.approx(3.5 / 5.5)


def test_a_song_of_nothing_is_silent_throughout_and_a_tone_never() -> None:
    nothing = silence(np.zeros((2, 1234), np.float32), RATE)
    assert nothing.fraction == 1.0 and nothing.leading_seconds == nothing.trailing_seconds == 1234 / RATE
    loud = silence(sine(440)[None], RATE)
    assert (loud.fraction, loud.leading_seconds, loud.longest_seconds) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("dbfs", "is_silent"), [(-59.0, False), (-61.0, True)])
def test_the_threshold_is_60_db_below_full_scale(dbfs: float, is_silent: bool) -> None:
    tone = sine(1000, amplitude=np.sqrt(2) * 10 ** (dbfs / 20))
    assert (silence(tone[None], RATE).fraction == 1.0) is is_silent


def test_one_silent_channel_is_no_silence() -> None:
    song = np.stack([sine(440, 1.0, 0.1), np.zeros(RATE, np.float32)])
    assert silence(song, RATE).fraction == 0.0


def test_samples_of_a_sine_that_was_cut_at_full_scale_are_counted() -> None:
    cut = np.clip(sine(100, 1.0, amplitude=2.0), -1, 1)  # |sin| >= 1/2 for two thirds of a period
    assert clipped_samples(np.stack([cut, 0.5 * cut])) == pytest.approx(2 / 3 * RATE, rel=0.01)


def test_a_peak_that_just_fits_is_not_clipped() -> None:
    song = np.zeros((1, 100), np.float32)
    song[0, 10] = song[0, 20] = song[0, 21] = 1.0
    assert clipped_samples(song) == 0
    song[0, 22] = -32768 / 32768
    assert clipped_samples(song) == 3
    song[0, 50:54] = 32767 / 32768  # as a 16-bit file holds full scale
    assert clipped_samples(song) == 7


def test_peak() -> None:
    assert peak_dbfs(sine(100, amplitude=0.5)[None]) == pytest.approx(-6.02, abs=0.01)
    with pytest.raises(NotMeasured, match=r"^the song is digital silence$"):
        peak_dbfs(np.zeros((2, 10), np.float32))


@pytest.mark.parametrize(
    ("channels", "amplitude", "lufs"), [((1, 0), 1.0, -3.01), ((1, 1), 1.0, 0.0), ((1, 1), 0.1, -20.0)]
)
@pytest.mark.parametrize("rate", [44100, 48000])
def test_loudness_of_the_sine_that_the_standard_names(
    channels: tuple[int, int], amplitude: float, lufs: float, rate: int
) -> None:
    """BS.1770-4, annex 1: a 997 Hz sine of full scale in one channel reads -3.01 LKFS."""
    tone = sine(997, 5.0, amplitude, rate)
    assert loudness_lufs(np.stack([gain * tone for gain in channels]), rate) == pytest.approx(lufs, abs=0.05)


def test_pauses_do_not_lower_loudness() -> None:
    tone = sine(997, 5.0)
    song = np.concatenate([tone, np.zeros_like(tone), tone])
    assert loudness_lufs(np.stack([song, song]), RATE) == pytest.approx(0.0, abs=0.3)


def test_what_has_no_loudness_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotMeasured, match=r"^shorter than 0\.4 s, a block of the loudness standard$"):
        loudness_lufs(music(0.3), RATE)
    with pytest.raises(NotMeasured, match=r"^nothing in the song is louder than the gate of -70 LUFS$"):
        loudness_lufs(np.zeros((2, RATE), np.float32), RATE)
    with pytest.raises(NotMeasured, match=r"^has 6 channels; the standard weights up to 5$"):
        loudness_lufs(music(0.5, channels=6), RATE)
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(
        NotMeasured, match=r"^pyloudnorm is not installed: pip install 'songgen\[evaluate\]'$"
    ):
        loudness_lufs(music(0.5), RATE)
