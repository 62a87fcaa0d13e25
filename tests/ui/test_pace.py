"""The pace: one fraction, a stage and the time left from what the engine reports."""

from __future__ import annotations

import pytest

from songgen.ui.pace import Pace


def test_a_song_from_start_to_end() -> None:
    pace = Pace(1, 0.8, start=10.0)
    assert vars(pace.progress(12.0)) == {
        "stage": "prepare", "stage_fraction": 0.0, "fraction": 0.0, "seconds_left": None
    }  # fmt: skip
    pace("compose", "a", 0.5)
    pace("compose", "a", 0.25)  # tried again: nothing goes back
    found = pace.progress(14.0)
    assert (found.stage, found.stage_fraction) == ("compose", 0.5)
    assert found.fraction == pytest.approx(0.4) and found.seconds_left == pytest.approx(6.0)
    pace("compose", "a", 1.0)
    pace("render", "a", 0.5)
    found = pace.progress(19.0)
    assert (found.stage, found.stage_fraction) == ("render", 0.5)
    assert found.fraction == pytest.approx(0.9) and found.seconds_left == pytest.approx(1.0)
    pace("render", "a", 1.0)
    assert pace.progress(20.0).stage == "save" and pace.progress(20.0).seconds_left == pytest.approx(0)


def test_several_songs_are_one_whole() -> None:
    pace = Pace(4, 0.5, start=0.0)
    pace("compose", "a_s0", 1.0)
    pace("render", "a_s0", 1.0)
    pace("load", "a_s1", 1.0)  # a stage that is not shown
    found = pace.progress(8.0)
    assert (found.stage, found.stage_fraction, found.fraction) == ("compose", 0.25, 0.25)
    assert found.seconds_left == pytest.approx(24.0)
    pace.end("a_s1")  # failed: its time is over all the same
    assert pace.progress(8.0).fraction == 0.5


def test_nothing_is_promised_too_early() -> None:
    pace = Pace(1, 0.5, start=0.0)
    pace("compose", "a", 0.02)
    assert pace.progress(5.0).seconds_left is None
    pace("compose", "a", 0.5)
    assert pace.progress(0.5).seconds_left is None
    assert pace.progress(1.0).seconds_left == pytest.approx(3.0)
