"""`songgen evaluate`: folders of songs in, scores, a summary and a table out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_audio import music
from fake_model import FakeModel

from songgen.audio import Audio, write_audio
from songgen.cli import main
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.transcripts import Transcript


def evaluate(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output of a run of a fake model: songs `a` and `b`, with tokens."""
    monkeypatch.setattr("songgen.models.catalog.load_model", lambda name, **options: FakeModel())
    rows = [{"idx": idx, "gt_lyric": "[verse] One line."} for idx in "ab"]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "run"
    words = [f"input={tmp_path / 'in.jsonl'}", f"output.dir={out}", "output.tokens=true", "seed=3"]
    assert main(["generate", "model=fake", *words]) == 0
    return out


def test_the_output_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "heard.jsonl").write_text('{"name": "a", "text": "One line", "asr": "an ear"}\n')
    capsys.readouterr()
    assert evaluate(run, f"transcripts={tmp_path / 'heard.jsonl'}", f"report={tmp_path / 'r' / 't.md'}") == 0
    first, second = scores(run)
    assert (first["name"], first["model"], first["status"]) == ("a", "fake", "ok")
    assert first["measures"]["per"] == 0.0 and "holds no transcript of b" in second["missing"]["per"]
    assert first["measures"]["token_entropy_bits"] is not None
    [group] = summary(run)["groups"]
    assert group["songs"] == 2 and group["measures"]["per"]["songs"] == 1 and group["asr"] == ["an ear"]
    assert "Audiobox Aesthetics" in summary(run)["scorers_not_run"]
    out = capsys.readouterr().out
    assert out.startswith("| measure") and "Heard by: an ear." in out
    assert out.endswith(f"Scores: {run / 'scores.jsonl'}\n")
    assert (tmp_path / "r" / "t.md").read_text() == out[: out.index("Scores: ")]


def test_the_same_folder_again_gives_the_same_scores(run: Path) -> None:
    """What evaluate writes is no song of the folder."""
    assert evaluate(run) == 0
    first = [(run / name).read_bytes() for name in ("scores.jsonl", "summary.json")]
    assert evaluate(run) == 0
    assert first == [(run / name).read_bytes() for name in ("scores.jsonl", "summary.json")]


def test_folders_of_plain_audio_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        write_audio(tmp_path / folder / "a.flac", Audio(music(1.0), 48000), "flac")
    lines = [{"idx": "a", "gt_lyric": "[verse] Words.", "max_seconds": 2}, {"idx": "bad"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert evaluate(tmp_path, f"requests={tmp_path / 'in.jsonl'}") == 0
    captured = capsys.readouterr()
    assert f"| {tmp_path / 'one'} " in captured.out and f"| {tmp_path / 'two'} " in captured.out
    assert "idx 'bad'" in captured.err
    assert scores(tmp_path / "two")[0]["measures"]["duration_ratio"] == 0.5
    assert len(summary(tmp_path / "one")["groups"]) == 1


def test_a_broken_song_is_a_failed_row_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(tmp_path / "good.wav", Audio(music(1.0), 48000))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    assert evaluate(tmp_path) == 1
    bad, good = scores(tmp_path)
    assert (bad["status"], good["status"]) == ("failed", "ok")
    captured = capsys.readouterr()
    assert "bad.wav: cannot be read as audio" in captured.err and "2, 1 failed" in captured.out


def test_each_of_several_folders_has_its_own_transcripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names repeat from run to run, so one file for all would compare songs with words of others."""
    (tmp_path / "in.jsonl").write_text('{"idx": "a", "gt_lyric": "[verse] One line."}')
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, text in zip(folders, ("one line", "other words"), strict=True):
        write_audio(folder / "a.wav", Audio(music(1.0), 48000))
        (folder / "heard.jsonl").write_text(json.dumps({"name": "a", "text": text}))
    words = [*folders, f"requests={tmp_path / 'in.jsonl'}"]
    assert evaluate(*words, "transcripts=heard.jsonl") == 0
    rates = [scores(folder)[0]["measures"]["per"] for folder in folders]
    assert rates[0] == 0.0 and rates[1] > 0.3
    assert evaluate(*words, f"transcripts={folders[0] / 'heard.jsonl'}") == 2
    assert "each of several folders needs its own\n" in capsys.readouterr().err


def test_what_an_asr_heard_is_kept_for_another_time(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ear:
        def __init__(self, model: str, device: str) -> None:
            self.asr = f"{model} on {device}"

        def listen(self, name: str, audio: Path, language: str) -> Transcript:
            return Transcript("one lime", self.asr)

    monkeypatch.setattr("songgen.commands.evaluate.FasterWhisper", Ear)
    assert evaluate(run, "asr.program=faster-whisper", "asr.model=big") == 0
    first = scores(run)
    assert 0 < first[0]["measures"]["per"] < 1 and first[0]["details"]["per"]["asr"] == "big on auto"
    monkeypatch.undo()
    assert evaluate(run, "transcripts=transcripts.jsonl") == 0
    assert scores(run) == first


def test_records_without_songs_are_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "jsonl" / "in.jsonl").write_text('{"idx": null, "name": null, "status": "failed"}\n')
    assert evaluate(tmp_path) == 1
    assert f"songgen: {tmp_path}: its records name no songs\n" in capsys.readouterr().err


def test_published_figures_stand_beside_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_audio(tmp_path / "a.wav", Audio(music(1.0), 48000))
    (tmp_path / "p.yaml").write_text("rows: [{model: M, source: a paper, measures: {per: 0.2}}]")
    assert evaluate(tmp_path, f"reference={tmp_path / 'p.yaml'}") == 0
    out = capsys.readouterr().out
    assert "M (published)" in out and "Published, not measured here: M: a paper." in out
    assert "none are shipped" not in out
    assert summary(tmp_path)["published"][0]["measures"] == {"per": 0.2}


def test_songeval_is_asked_for_by_its_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_audio(tmp_path / "songs" / "a.wav", Audio(music(1.0), 48000))
    assert evaluate(tmp_path / "songs", f"songeval.dir={tmp_path}") == 0
    assert f"SongEval did not run: songeval.dir={tmp_path}: holds no eval.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "songgen: no songs are given: songgen evaluate OUT, the folder of a run\n"),
        (["nowhere"], "songgen: nowhere: no such folder\n"),
        (["nowhere", "batch=3"], "songgen: batch has no effect on `songgen evaluate`, which knows: "),
        (["nowhere", "language=fr"], "songgen: language=fr: must be one of auto, zh, en"),
        (["nowhere", "bootstrap.confidence=1"], "must be a number between 0 and 1\n"),
        (["nowhere", "bootstrap.samples=5"], "must be a whole number from 100 to 100000\n"),
    ],
)
def test_what_cannot_start_is_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*words) == 2
    assert message in capsys.readouterr().err


def test_help_names_every_measure_and_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--help") == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in MEASURES) and "bootstrap.samples=1000" in out


def test_verbose_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    write_audio(tmp_path / "a.wav", Audio(music(1.0), 48000))
    assert evaluate(tmp_path, "verbose=true") == 0
    assert logging.getLogger("songgen").level == logging.DEBUG
