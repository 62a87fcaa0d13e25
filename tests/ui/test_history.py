"""The history: which songs of a folder it shows, and names that write over none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from songgen.ui.history import History, free_name


def song(folder: Path, name: str, minute: int, *, records: str = "in", **keys: Any) -> dict[str, Any]:
    """A record and its file."""
    record = {
        "idx": name, "name": name, "status": "ok", "paths": {"mixed": f"audio/{name}.wav"},
        "finished": f"2026-01-01T00:{minute:02}:00.000Z", **keys,
    }  # fmt: skip
    (folder / "audio").mkdir(exist_ok=True)
    (folder / "audio" / f"{name}.wav").write_bytes(b"RIFF")
    (folder / "jsonl").mkdir(exist_ok=True)
    with (folder / "jsonl" / f"{records}.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    return record


def names(history: History) -> list[str]:
    return [song.name for song in history.songs()]


def test_the_songs_of_all_record_files_the_newest_first(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.songs() == [] and history.names() == set()
    song(tmp_path, "old", 1)
    new = song(tmp_path, "new", 3, records="page")
    song(tmp_path, "Mid", 2)
    assert names(history) == ["new", "Mid", "old"]
    found = history.find("new")
    assert found is not None and found.record == new
    assert found.stems == {"mixed": tmp_path / "audio" / "new.wav"}
    assert history.names() == {"old", "new", "mid"}


def test_a_new_record_is_seen(tmp_path: Path) -> None:
    history = History(tmp_path)
    song(tmp_path, "a", 1)
    assert names(history) == ["a"]
    song(tmp_path, "b", 2)
    assert names(history) == ["b", "a"]


def test_only_songs_that_are_there(tmp_path: Path) -> None:
    """The last record of a name counts, wherever it is; a deleted file is no song; only audio is a stem."""
    song(tmp_path, "failed", 1)
    song(tmp_path, "failed", 2, records="later", status="failed", paths=None)
    song(tmp_path, "gone", 3)
    (tmp_path / "audio" / "gone.wav").unlink()
    others = {"tokens": "tokens/a.safetensors", "plot": "plots/a.png", "lrc": "lrc/a.lrc"}
    song(tmp_path, "a", 4, paths={"mixed": "audio/a.wav", **others})
    history = History(tmp_path)
    assert names(history) == ["a"]
    assert list(history.songs()[0].stems) == ["mixed"]


@pytest.mark.parametrize(
    "path", ["../secret.wav", "/etc/passwd", "jsonl/in.jsonl", "audio/../jsonl/in.jsonl"]
)
def test_a_record_cannot_point_outside_the_audio(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    song(folder, "a", 1, paths={"mixed": path})
    assert names(History(folder)) == []


def test_free_names() -> None:
    """A name that differs in case alone is one file on some systems; stems take their song's name."""
    assert free_name("a", set()) == "a"
    assert free_name("A", {"a", "a-2_s0"}) == "A-3"
    assert free_name("a", {"ab", "b_a"}) == "a"
