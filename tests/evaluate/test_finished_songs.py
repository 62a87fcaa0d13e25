"""Which songs a folder holds, with and without records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_audio import music

from songgen.audio import Audio, write_audio
from songgen.evaluate.songs import find_songs, song_folders
from songgen.requests import parse_request


def put(path: Path, seconds: float = 0.1) -> Path:
    write_audio(path, Audio(music(seconds), 48000))
    return path


def record(folder: Path, name: str, *, file: str = "in", **keys: Any) -> None:
    line = {"idx": name, "name": name, "status": "ok", "finished": "2026-01-01T00:00:00.000Z", **keys}
    (folder / "jsonl").mkdir(parents=True, exist_ok=True)
    with (folder / "jsonl" / f"{file}.jsonl").open("a") as out:
        out.write(json.dumps(line) + "\n")


def test_songs_of_records_come_with_files_request_and_model(tmp_path: Path) -> None:
    record(
        tmp_path,
        "b",
        model="tiny",
        paths={"mixed": "audio/b.wav", "vocal": "audio/b_vocal.wav", "tokens": "tokens/b.safetensors"},
        request={"id": "b", "lyrics": "[verse] Old words.", "note": 1},
        lyrics="[verse] New words.",
        descriptions="pop",
    )
    record(tmp_path, "a", status="failed", stage="compose", error="x")
    put(tmp_path / "audio" / "stray.wav")
    first, second = find_songs(tmp_path)
    assert (first.name, first.stem, first.model, first.lyrics) == ("a", None, "-", None)
    assert (second.name, second.stem, second.model) == ("b", "mixed", "tiny")
    assert second.stems["vocal"] == tmp_path / "audio" / "b_vocal.wav"
    assert second.tokens == tmp_path / "tokens" / "b.safetensors"
    assert (second.lyrics, second.descriptions) == ("[verse] New words.", "pop")
    assert second.request is not None and second.request.lyrics == "[verse] Old words."


def test_the_last_record_of_a_song_counts_in_whichever_file(tmp_path: Path) -> None:
    record(tmp_path, "a", file="z", model="old", finished="2026-01-01T00:00:00.000Z")
    record(tmp_path, "a", file="b", model="new", finished="2026-01-02T00:00:00.000Z")
    assert [song.model for song in find_songs(tmp_path)] == ["new"]


def test_a_lone_stem_is_what_is_measured(tmp_path: Path) -> None:
    record(tmp_path, "v", paths={"vocal": "audio/v_vocal.wav"})
    record(tmp_path, "k", paths={"bgm": "audio/k_bgm.wav"})
    assert [song.stem for song in find_songs(tmp_path)] == ["bgm", "vocal"]


def test_audio_files_without_records_are_songs_with_their_stems(tmp_path: Path) -> None:
    for name in ("a.wav", "a_vocal.flac", "a_bgm.wav", "lonely_vocal.wav", "b_s1.ogg"):
        path = tmp_path / name
        write_audio(path, Audio(music(0.1), 48000), path.suffix[1:])  # type: ignore[arg-type]
    (tmp_path / "notes.txt").write_text("x")
    request = parse_request({"idx": "b", "gt_lyric": "[verse] Words.", "num_samples": 2})
    found = {song.name: song for song in find_songs(tmp_path, [request])}
    assert sorted(found) == ["a", "b_s1", "lonely_vocal"]
    assert set(found["a"].stems) == {"mixed", "vocal", "bgm"} and found["lonely_vocal"].stem == "mixed"
    assert found["b_s1"].lyrics == "[verse] Words." and found["a"].lyrics is None


def test_a_sweep_is_the_folders_under_it(tmp_path: Path) -> None:
    put(tmp_path / "sweep" / "x" / "2" / "audio" / "a.wav")
    record(tmp_path / "sweep" / "1", "a")
    put(tmp_path / "one" / "a.wav")
    one, sweep = tmp_path / "one", tmp_path / "sweep"
    assert song_folders([one, sweep, one]) == [one, sweep / "1", sweep / "x" / "2"]


def test_folders_without_songs_are_refused(tmp_path: Path) -> None:
    file = put(tmp_path / "a.wav")
    (tmp_path / "empty" / "audio").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder$"):
        song_folders([tmp_path / "nowhere"])
    with pytest.raises(
        ValueError, match=r"a\.wav: is a file; give a folder of songs, such as the output\.dir"
    ):
        song_folders([file])
    with pytest.raises(ValueError, match=r"empty: holds no songs: no jsonl/\*\.jsonl and no audio files$"):
        song_folders([tmp_path / "empty"])
