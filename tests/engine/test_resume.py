"""What counts as done: the same recipe, model and form, with the files still there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel

from songgen.engine.journal import Journal
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

REQUEST = SongRequest(idx="a", lyrics="[verse] One line of words.", source={"idx": "a"})


def made(
    folder: Path,
    request: SongRequest = REQUEST,
    *,
    model: FakeModel | None = None,
    name: str = "songs",
    resume: bool = True,
    output: dict[str, Any] | None = None,
    **options: Any,
) -> bool:
    """Run one request into a folder; whether its song was composed rather than skipped."""
    model = model or FakeModel()
    settings = Settings(**{"sampling": Sampling(), "seed": 7, "memory": model.memory, **options})
    with Journal(Output(folder, **(output or {})), name, resume=resume) as journal:
        run = Run(model, settings, is_done=lambda plan: journal.is_done(plan, model))
        list(record_all(run.songs([request]), journal, model, settings.seed))
    return bool(model.names("compose"))


def records(folder: Path, name: str = "songs") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "jsonl" / f"{name}.jsonl").read_text().splitlines()]


def test_the_same_again_is_skipped_without_a_second_record(tmp_path: Path) -> None:
    assert made(tmp_path) and not made(tmp_path)
    assert len(records(tmp_path)) == 1


def test_resume_false_makes_all_anew(tmp_path: Path) -> None:
    assert made(tmp_path) and made(tmp_path, resume=False)


@pytest.mark.parametrize(
    "change",
    [
        {"lyrics": "[verse] Other words."},
        {"descriptions": "pop, piano."},
        {"seed": 1},
        {"generate_type": "vocal"},
        {"temperature": 0.5},
        {"top_k": 7},
        {"top_p": 0.5},
        {"cfg_coef": 1.0},
        {"max_seconds": 10.0},
    ],
)
def test_a_changed_request_is_made_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    assert made(tmp_path)
    assert made(tmp_path, replace(REQUEST, **change))
    assert not made(tmp_path, replace(REQUEST, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"sampling": Sampling(temperature=0.9, top_k=50)},
        {"max_seconds": 10.0},
        {"generate_type": "separate"},
        {"output": {"format": "flac"}},
        {"output": {"bits": 24}},
        {"output": {"tokens": True}},
        {"output": {"plot": True}},
        {"output": {"lrc": True}},
        {"model": FakeModel(identity="e" * 64)},
    ],
)
def test_a_changed_setting_or_model_makes_it_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    assert made(tmp_path) and made(tmp_path, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"model": FakeModel(batch=4)},
        {"model": FakeModel(memory="low")},
        {"model": FakeModel(device="cuda:1")},
        {"max_seconds": 60.0},  # the model's own limit
        {"output": {"bits": 16}},  # the default
        {"request": replace(REQUEST, source={"idx": "a", "note": "new"}, line=9)},
        {"request": replace(REQUEST, generate_type="mixed")},
    ],
)
def test_what_does_not_change_the_song_does_not_make_it_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    assert made(tmp_path) and not made(tmp_path, **change)


@pytest.mark.parametrize("harm", ["missing", "cut", "empty"])
def test_a_song_whose_file_was_harmed_is_made_anew(tmp_path: Path, harm: str) -> None:
    made(tmp_path, generate_type="separate")
    file = tmp_path / "audio" / "a_bgm.wav"
    whole = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:100] if harm == "cut" else b"")
    assert made(tmp_path, generate_type="separate")
    assert file.read_bytes() == whole


def test_the_last_record_of_a_name_counts(tmp_path: Path) -> None:
    """A song made, then made otherwise, then wanted as at first: the files are the second's."""
    other = replace(REQUEST, seed=1)
    assert made(tmp_path) and made(tmp_path, other) and made(tmp_path)


def test_a_torn_last_record_is_mended_and_its_song_made_anew(tmp_path: Path) -> None:
    made(tmp_path)
    file = tmp_path / "jsonl" / "songs.jsonl"
    whole = file.read_bytes()
    made(tmp_path, replace(REQUEST, idx="b"))
    file.write_bytes(whole + file.read_bytes()[len(whole) : -40])
    assert made(tmp_path, replace(REQUEST, idx="b")) and not made(tmp_path)
    assert [record["name"] for record in records(tmp_path)] == ["a", "b"]


def test_another_input_that_overwrote_the_song_is_noticed(tmp_path: Path) -> None:
    """Two inputs share an output folder and an idx: the size alone would not tell whose file it is."""
    assert made(tmp_path, name="one")
    assert made(tmp_path, replace(REQUEST, lyrics="[verse] Mine now."), name="two")
    assert made(tmp_path, name="one")


def test_a_renamed_input_skips_its_songs_and_gets_their_records(tmp_path: Path) -> None:
    made(tmp_path, name="one")
    assert not made(tmp_path, name="two") and not made(tmp_path, name="two")
    assert records(tmp_path, "two") == records(tmp_path, "one")


def test_prompt_audio_counts_by_content(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"one")
    wanted = replace(REQUEST, prompt_audio_path=str(clip))
    out = tmp_path / "out"
    assert made(out, wanted) and not made(out, wanted)
    clip.write_bytes(b"two")
    assert made(out, wanted)
    clip.unlink()
    assert not made(out, wanted)
    assert records(out)[-1]["error"] == f"FileNotFoundError: {clip}: no such file"


def test_a_second_run_into_the_same_records_is_refused(tmp_path: Path) -> None:
    with Journal(Output(tmp_path), "songs"):
        with pytest.raises(BlockingIOError, match="another run is writing these records"):
            Journal(Output(tmp_path), "songs").__enter__()
        Journal(Output(tmp_path), "others").__enter__().__exit__(None, None, None)


def test_leftovers_of_a_killed_run_are_removed_at_start(tmp_path: Path) -> None:
    import socket

    (tmp_path / "audio").mkdir()
    part = tmp_path / "audio" / f".songgen-0123456789abcdef.{socket.gethostname()}.999999999.part"
    part.write_bytes(b"half")
    made(tmp_path)
    assert [file.name for file in (tmp_path / "audio").iterdir()] == ["a.wav"]
