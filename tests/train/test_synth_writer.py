"""The folder of synthetic songs: resumable, files whole, settings checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_song import TINY_TRUTH, write_song

from songgen.train.synth import dataset_writer
from songgen.train.synth.dataset_writer import SynthSettings, synthesise
from songgen.train.synth.song import is_held_out


class Here:
    """A pool that works in this process and starts nothing."""

    made: list[int] = []  # noqa: RUF012

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def submit(self, function: object, folder: Path, seed: int, number: int) -> object:
        from concurrent.futures import Future

        Here.made.append(number)
        write_song(folder.parent, number)
        future: Future[float] = Future()
        future.set_result(TINY_TRUTH.num_frames / 25)
        return future


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    Here.made = []
    monkeypatch.setattr(dataset_writer, "ProcessPoolExecutor", Here)


def test_only_songs_that_are_not_there_are_made(tmp_path: Path) -> None:
    write_song(tmp_path, 11)
    assert synthesise(tmp_path, SynthSettings(hours=0, count=4, first_number=10))
    assert sorted(Here.made) == [10, 12, 13]
    assert synthesise(tmp_path, SynthSettings(hours=0, count=4, first_number=10))
    assert len(Here.made) == 3


def test_songs_are_made_until_there_are_enough_hours(tmp_path: Path) -> None:
    seconds = TINY_TRUTH.num_frames / 25
    assert synthesise(tmp_path, SynthSettings(hours=2.5 * seconds / 3600))
    made = len(Here.made)
    assert made >= 3
    assert synthesise(tmp_path, SynthSettings(hours=2.5 * seconds / 3600))
    assert len(Here.made) == made


def test_it_stops_in_time_and_says_that_songs_are_missing(tmp_path: Path) -> None:
    assert not synthesise(tmp_path, SynthSettings(hours=0, count=4), seconds=0.0)
    assert Here.made == []


def test_leftovers_of_killed_runs_go(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    left = tmp_path / "songs" / ".songgen-0123456789abcdef.elsewhere.1.part"
    left.write_bytes(b"")
    import os

    os.utime(left, (1, 1))
    synthesise(tmp_path, SynthSettings(hours=0, count=1))
    assert not left.exists()


@pytest.mark.parametrize("settings", [SynthSettings(hours=1, count=1), SynthSettings(hours=0, count=0)])
def test_hours_or_count_must_be_given(tmp_path: Path, settings: SynthSettings) -> None:
    with pytest.raises(ValueError, match="give one of the two"):
        synthesise(tmp_path, settings)


def test_one_song_in_forty_is_held_out() -> None:
    assert [number for number in range(100) if is_held_out(number)] == [0, 40, 80]
