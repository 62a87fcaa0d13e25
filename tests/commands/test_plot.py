"""`songgen plot`: what a word of the command stands for, where pictures go, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_audio import music
from fake_model import FakeModel

from songgen.audio import Audio, write_audio
from songgen.commands import plot
from songgen.config_tree import config_folder
from songgen.engine.journal import Journal
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[intro-short] ; [verse] One line of words."


def make_songs(folder: Path, *names: str, model: FakeModel | None = None, **output: Any) -> None:
    """Songs of the fake model, through the real engine."""
    model = model or FakeModel()
    settings = Settings(sampling=Sampling(), seed=7, generate_type="separate")
    requests = [SongRequest(idx=name, lyrics=LYRICS, source={"idx": name}) for name in names]
    with Journal(Output(folder, **output), "songs") as journal:
        run = Run(model, settings, is_done=lambda plan: journal.is_done(plan, model))
        list(record_all(run.songs(requests), journal, model, 7))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with two finished songs and one that failed."""
    folder = tmp_path / "out"

    def fail(*args: object) -> None:
        raise RuntimeError("boom")

    make_songs(folder, "one", "two", "bad", model=FakeModel(faults={("compose", "bad"): fail}))
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], list[str]]]:
    """What was drawn: title, stems, sections; a short stand-in for the picture."""
    calls: list[tuple[str, list[str], list[str]]] = []

    def draw(name: str, stems: dict[str, Audio], spans: tuple[Any, ...]) -> bytes:
        calls.append((name, list(stems), [span.tag for span in spans]))
        return b"PNG"

    monkeypatch.setattr("songgen.engine.picture.draw_song", draw)
    return calls


SECTIONS = ["intro-short"]
"""The fake songs last 0.2 s and were cut off there."""


def test_a_folder_stands_for_all_its_finished_songs(
    out: Path, drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plot.main([str(out)]) == 0
    assert drawn == [(name, ["mixed", "vocal", "bgm"], SECTIONS) for name in ("one", "two")]
    assert sorted(path.name for path in (out / "plots").iterdir()) == ["one.png", "two.png"]
    assert capsys.readouterr().out.splitlines() == [
        str(out / "plots" / f"{name}.png") for name in ("one", "two")
    ]


@pytest.mark.parametrize("word", ["out/two", "out/audio/two.wav", "out/audio/two_vocal.wav"])
def test_a_name_and_each_of_its_files_stand_for_the_song(out: Path, drawn: list[Any], word: str) -> None:
    assert plot.main([str(out.parent / word), str(out / "two")]) == 0
    assert drawn == [("two", ["mixed", "vocal", "bgm"], SECTIONS)]


def test_any_other_audio_file_is_drawn_beside_itself(tmp_path: Path, drawn: list[Any]) -> None:
    write_audio(tmp_path / "clip.flac", Audio(music(0.1), 48000), "flac")
    assert plot.main([str(tmp_path / "clip.flac")]) == 0
    assert plot.main([str(tmp_path / "clip.flac"), "--dir", str(tmp_path / "new" / "folder")]) == 0
    assert drawn == [("clip.flac", ["audio"], [])] * 2
    assert (tmp_path / "clip.png").is_file() and (tmp_path / "new" / "folder" / "clip.png").is_file()


def test_songs_go_where_they_are_told_to(out: Path, drawn: list[Any], tmp_path: Path) -> None:
    assert plot.main([str(out), "--dir", str(tmp_path / "p")]) == 0
    assert len(list((tmp_path / "p").iterdir())) == 2 and not (out / "plots").exists()


def test_a_song_whose_file_is_gone_does_not_stop_the_others(
    out: Path, drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "audio" / "one_bgm.wav").unlink()
    assert plot.main([str(out)]) == 1
    assert [name for name, _, _ in drawn] == ["two"]
    assert f"songgen plot: one: {out / 'audio' / 'one_bgm.wav'}: no such file" in capsys.readouterr().err


def test_what_is_not_there_is_said_with_the_nearest_name(out: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no finished song of that name in .*; did you mean .*out/two\?"
    ):
        plot.main([str(out / "too")])
    with pytest.raises(FileNotFoundError, match="no such file, and no finished song of that name"):
        plot.main([str(out / "bad")])
    with pytest.raises(ValueError, match="holds no records of finished songs"):
        plot.main([str(tmp_path)])


def test_a_file_that_is_no_audio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wav").write_text("no")
    assert plot.main([str(tmp_path / "a.wav")]) == 1
    assert "cannot be read as audio" in capsys.readouterr().err


def test_without_matplotlib_nothing_starts(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a run that is to draw: before the model is loaded, not after the first song."""
    from songgen.cli import main

    monkeypatch.setattr("songgen.engine.picture.importlib.util.find_spec", lambda name: None)
    words = ["model=nowhere/x", "output.plot=true"]
    assert main(["plot", str(out)]) == 2
    assert main(["generate", "input=nowhere.jsonl", *words]) == 2
    assert main(["render", "nowhere", *words]) == 2
    assert capsys.readouterr().err.count("pip install 'songgen[plot]'") == 3


def test_a_run_draws_each_song_and_records_it(tmp_path: Path) -> None:
    """The picture is one of the song's files: recorded, resumed by, made again when it is gone."""
    make_songs(tmp_path, "a", plot=True)
    file = tmp_path / "plots" / "a.png"
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG")
    (record,) = map(json.loads, (tmp_path / "jsonl" / "songs.jsonl").read_text().splitlines())
    assert record["paths"]["plot"] == "plots/a.png" and record["bytes"]["plots/a.png"] == len(data)
    model = FakeModel()
    make_songs(tmp_path, "a", model=model, plot=True)
    assert not model.names("compose")
    file.unlink()
    make_songs(tmp_path, "a", model=model, plot=True)
    assert model.names("compose") == ["a"] and file.read_bytes() == data


def test_a_folder_of_before_pictures_is_still_resumed(tmp_path: Path) -> None:
    """The form of output without a picture is what it was: no song is made again for the new setting."""
    from songgen.engine.output import form_of

    assert form_of(Output(tmp_path)) == {"format": "wav", "bits": 16, "tokens": False}
    assert (config_folder() / "generate.yaml").read_text().count("plot: false") == 1
