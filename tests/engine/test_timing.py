"""Lyrics with times among a song's files: written, recorded, kept with tokens, and what is said without."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel

from songgen.cli import main
from songgen.config_tree import config_folder
from songgen.engine.drafts import encode_draft, read_draft
from songgen.engine.journal import Journal
from songgen.engine.outcome import Outcome
from songgen.engine.output import form_of
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.engine.worker import Made
from songgen.lrc import TimedLine
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words. ; [chorus] Another one."
TIMING = (TimedLine(0.0, "[verse]", True), TimedLine(0.05, "One line of words."))
LRC = b"[ti:a]\n[by:songgen]\n[length:00:00.20]\n[00:00.00][verse]\n[00:00.05]One line of words.\n"


def run(folder: Path, model: FakeModel, **output: Any) -> list[dict[str, Any] | None]:
    chosen = Output(folder, **output)
    settings = Settings(sampling=Sampling(), seed=7, timing=chosen.lrc)
    with Journal(chosen, "songs") as journal:
        songs = Run(model, settings, is_done=lambda plan: journal.is_done(plan, model))
        requests = [SongRequest(idx="a", lyrics=LYRICS, source={"idx": "a"})]
        return [record for _, record in record_all(songs.songs(requests), journal, model, 7)]


def render(folder: Path, model: FakeModel, paths: list[Path]) -> list[dict[str, Any] | None]:
    with Journal(Output(folder, lrc=True), "render") as journal:
        songs = Run(
            model, Settings(sampling=Sampling(), seed=0), is_done=lambda plan: journal.is_done(plan, model)
        )
        return [record for _, record in record_all(songs.renders(paths), journal, model, None)]


def test_the_file_is_one_of_the_songs(tmp_path: Path) -> None:
    """Recorded, resumed by, made when it is first asked for and again when it is gone, as pictures are."""
    model = FakeModel(timing=TIMING)
    run(tmp_path, model)
    assert not (tmp_path / "lrc").exists()
    (record,) = run(tmp_path, model, lrc=True)
    file = tmp_path / "lrc" / "a.lrc"
    assert record is not None and file.read_bytes() == LRC
    assert record["paths"]["lrc"] == "lrc/a.lrc" and record["bytes"]["lrc/a.lrc"] == len(LRC)
    assert run(tmp_path, model, lrc=True) == [None]
    file.unlink()
    run(tmp_path, model, lrc=True)
    assert file.read_bytes() == LRC and model.names("compose") == ["a"] * 3


def test_a_model_that_cannot_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = run(tmp_path, FakeModel(), lrc=True)
    assert record is not None and record["status"] == "ok" and "lrc" not in record["paths"]
    assert "a: no lrc is written: fake gives no times for it" in caplog.text
    caplog.clear()
    assert run(tmp_path, FakeModel(), lrc=True) == [None]  # not tried again and again


def test_times_are_kept_with_the_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "songgen")
    model = FakeModel(timing=TIMING)
    run(tmp_path / "one", model, lrc=True, tokens=True)
    path = tmp_path / "one" / "tokens" / "a.safetensors"
    assert read_draft(path)[1].timing == TIMING
    (record,) = render(tmp_path / "again", model, [path])
    assert record is not None and record["paths"]["lrc"] == "lrc/a.lrc"
    assert (tmp_path / "again" / "lrc" / "a.lrc").read_bytes() == LRC
    assert "no lrc" not in caplog.text

    run(tmp_path / "two", model, tokens=True)
    without = tmp_path / "two" / "tokens" / "a.safetensors"
    assert read_draft(without)[1].timing is None
    (record,) = render(tmp_path / "third", model, [without])
    assert record is not None and "lrc" not in record["paths"]
    assert "its draft has no times; songs that are composed with output.lrc=true" in caplog.text
    (record,) = render(tmp_path / "third", model, [path])  # the same tokens, now with times
    assert record is not None and record["paths"]["lrc"] == "lrc/a.lrc"


@pytest.mark.parametrize("timing", ["soon", [[1.0, "a"]], [["soon", "a", False]], 3])
def test_times_of_another_form_are_refused(tmp_path: Path, timing: object) -> None:
    model = FakeModel(timing=TIMING)
    run(tmp_path, model, lrc=True, tokens=True)
    draft = read_draft(tmp_path / "tokens" / "a.safetensors")[1]
    harmed = encode_draft(draft, model).replace(b"timing", b"tim1ng")
    (tmp_path / "other.safetensors").write_bytes(harmed)
    assert read_draft(tmp_path / "other.safetensors")[1].timing is None
    from safetensors.torch import save_file

    facts = json.dumps({"timing": timing})
    save_file({"tokens": draft.tokens}, tmp_path / "bad.safetensors", metadata={"songgen": facts})
    with pytest.raises(ValueError, match=r"bad\.safetensors: its metadata is not that of a song's tokens"):
        read_draft(tmp_path / "bad.safetensors")


def test_times_travel_from_a_worker(tmp_path: Path) -> None:
    model = FakeModel(timing=TIMING)
    (outcome,) = Run(model, Settings(sampling=Sampling(), seed=7, timing=True)).songs(
        [SongRequest(idx="a", lyrics=LYRICS)]
    )
    assert isinstance(outcome, Outcome) and outcome.plan is not None and outcome.plan.job.wants_timing
    made = Made.of(replace(outcome))
    assert made.song is not None and made.song.draft.timing == TIMING


def test_a_folder_of_before_is_still_resumed(tmp_path: Path) -> None:
    assert "lrc" not in form_of(Output(tmp_path)) and form_of(Output(tmp_path, lrc=True))["lrc"] is True
    assert (config_folder() / "generate.yaml").read_text().count("lrc: false") == 1


def test_the_command_writes_them_and_render_writes_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = tmp_path / "in.jsonl"
    lines = [
        {"idx": "one", "gt_lyric": LYRICS},
        {"idx": "two", "gt_lyric": LYRICS, "generate_type": "bgm"},
    ]
    requests.write_text("\n".join(map(json.dumps, lines)))
    out, again = tmp_path / "out", tmp_path / "again"
    words = ["model=tiny", "output.lrc=true", "device=cpu", "dtype=fp32"]
    given = [f"input={requests}", f"output.dir={out}", "output.tokens=true", "max_seconds=2", "seed=3"]
    assert main(["generate", *words, *given]) == 0
    said = capsys.readouterr()
    assert f"Lyrics:  {out / 'lrc'}" in said.out
    assert "two: no lrc is written: tiny gives no times for it" in said.err
    text = (out / "lrc" / "one.lrc").read_text(encoding="utf-8")
    assert [line.partition("]")[2] for line in text.splitlines()[3:]] == [
        "[verse]", "One line of words.", "[chorus]", "Another one."
    ]  # fmt: skip
    assert [path.name for path in (out / "lrc").iterdir()] == ["one.lrc"]
    assert main(["render", str(out / "tokens" / "one.safetensors"), *words, f"output.dir={again}"]) == 0
    assert (again / "lrc" / "one.lrc").read_text(encoding="utf-8") == text


def test_the_other_family_says_that_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests, prompt = tmp_path / "in.jsonl", Path(__file__).parents[2] / "sample" / "prompt.ogg"
    line = {"idx": "one", "gt_lyric": "[verse] , Walking on.", "prompt_audio_path": str(prompt)}
    requests.write_text(json.dumps(line))
    words = ["model=tiny-songbloom", f"input={requests}", f"output.dir={tmp_path / 'out'}"]
    assert main(["generate", *words, "max_seconds=2", "seed=3", "device=cpu", "output.lrc=true"]) == 0
    said = capsys.readouterr()
    assert "one: no lrc is written: tiny-songbloom gives no times for it" in said.err
    assert "Lyrics:" not in said.out
