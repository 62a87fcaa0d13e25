"""The picture of a song: what is drawn where, from the samples alone."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from fake_audio import music

from songgen.audio import Audio
from songgen.engine import picture
from songgen.text_length import Span

STEMS = {"mixed": Audio(music(3.0), 48000), "vocal": Audio(music(3.0, seed=1), 48000)}
SPANS = (Span("verse", 0.0, 1.0), Span("chorus", 1.0, 3.0))
TONE_HZ = 4000.0


def pixels(png: bytes) -> np.ndarray:
    """A PNG as `[rows, columns, red green blue]`, 0 ... 1."""
    from matplotlib import image

    found: np.ndarray = image.imread(io.BytesIO(png))[..., :3]
    return found


def test_it_is_a_png_of_the_promised_width_and_equal_songs_give_equal_bytes() -> None:
    one, other = (picture.draw_song("a", STEMS, SPANS) for _ in range(2))
    assert one == other and one.startswith(b"\x89PNG")
    assert pixels(one).shape[1] == 1200
    assert one != picture.draw_song("a", STEMS, (SPANS[0],))


def test_each_stem_makes_it_taller_and_the_sections_too() -> None:
    heights = [
        pixels(picture.draw_song("a", stems, spans)).shape[0]
        for stems, spans in (({"mixed": STEMS["mixed"]}, ()), (STEMS, ()), (STEMS, SPANS))
    ]
    assert heights[1] - heights[0] == 280 and heights[2] - heights[1] == 30


def test_sections_are_coloured_where_they_lie() -> None:
    """The verse fills the first third of the strip above the waveform, the chorus the rest."""
    found = pixels(picture.draw_song("a", {"mixed": STEMS["mixed"]}, SPANS))
    left, right = picture.LEFT * 1200, picture.RIGHT * 1200

    def columns(tag: str) -> tuple[float, float]:
        colour = np.array([int(picture.TAG_COLOURS[tag][at : at + 2], 16) / 255 for at in (1, 3, 5)])
        hits = np.nonzero((np.abs(found - colour) < 0.01).all(2).any(0))[0]
        return (hits.min() - left) / (right - left), (hits.max() - left) / (right - left)

    assert columns("verse") == pytest.approx((0, 1 / 3), abs=0.01)
    assert columns("chorus") == pytest.approx((1 / 3, 1), abs=0.01)


def test_the_envelope_holds_the_extremes() -> None:
    samples = np.zeros((2, 1000), np.float32)
    samples[0, 250], samples[1, 999] = -0.5, 0.7
    low, high = picture.envelope(Audio(samples, 48000), 100)
    assert low.shape == high.shape == (100,)
    assert low[25] == -0.5 and high[99] == np.float32(0.7) and high[:99].max() == 0
    assert len(picture.envelope(Audio(samples[:, :7], 48000), 100)[0]) == 7


def test_the_spectrogram_shows_a_tone_at_its_frequency_and_time() -> None:
    """A tone in the second half only: dark before it, its row where the axis says."""
    time = np.arange(2 * 48000) / 48000
    tone = (0.5 * np.sin(2 * np.pi * TONE_HZ * time) * (time >= 1)).astype(np.float32)
    found = picture.mel_picture(Audio(np.stack([tone, tone]), 48000), 200)
    assert found.shape[0] == picture.NUM_MELS and found.shape[1] <= 200
    quarter, row = found.shape[1] // 4, round(picture._mel_row(TONE_HZ, 24000.0))
    assert abs(int(found[:, 3 * quarter].argmax()) - row) <= 1
    assert found[:, 3 * quarter].max() - found[:, quarter].max() > 60


@pytest.mark.parametrize("samples", [1, 100, 2047, 5000])
def test_the_shortest_song_can_be_drawn(samples: int) -> None:
    assert picture.draw_song("a", {"mixed": Audio(music(samples / 48000), 48000)}, ())


def test_silence_and_float_files_beyond_full_scale_can_be_drawn() -> None:
    for level in (0.0, 9.0):
        assert picture.draw_song("a", {"mixed": Audio(np.full((1, 9000), level, np.float32), 8000)})


@pytest.mark.parametrize("name", ["a$b$c_{", "\u6e2f\u306e\u6b4c", "\U0001f600", "-", "\\frac"])
def test_any_name_can_be_a_title(name: str) -> None:
    """Not read as a formula; a name that no font here can write makes no noise."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture.draw_song(name, {"mixed": STEMS["mixed"]})


def test_a_label_that_has_no_room_is_shortened_or_left_out() -> None:
    assert [picture.label_of("intro-medium", room) for room in (20, 8, 3)] == ["intro-medium", "intro", ""]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pictures need matplotlib.*pip install 'songgen\[plot\]'"):
        picture.draw_song("a", STEMS)
