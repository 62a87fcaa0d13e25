"""`songgen generate`, on a model without a network: exit status, what is printed, what is on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel, boom, interrupt

from songgen.cli import main

LYRICS = "[verse] One line of words."


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """The model that `model=fake` loads."""
    fake = FakeModel()

    def load_model(name: str, **options: Any) -> FakeModel:
        fake.events.append(("load", name))
        if name != "fake":
            raise ValueError(f"model {name!r} is unknown")
        options.pop("announce")(fake.summary)
        fake.options = options
        return fake

    monkeypatch.setattr("songgen.models.catalog.load_model", load_model)
    return fake


def lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def song(idx: str, **keys: Any) -> dict[str, Any]:
    return {"idx": idx, "gt_lyric": LYRICS, **keys}


def generate(tmp_path: Path, *words: str) -> int:
    given = [f"input={tmp_path / 'in.jsonl'}", f"output.dir={tmp_path / 'out'}"]
    return main(["generate", "model=fake", "seed=1", *given, *words])


def records(tmp_path: Path, name: str = "in") -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (tmp_path / "out" / "jsonl" / f"{name}.jsonl").read_text().splitlines()
    ]


def test_all_made(tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    lines(tmp_path / "in.jsonl", song("a", note=1), song("b", num_samples=2, generate_type="separate"))
    assert generate(tmp_path) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        out.splitlines()[0],
        f"Audio:   {tmp_path / 'out' / 'audio'}",
        f"Records: {tmp_path / 'out' / 'jsonl' / 'in.jsonl'}",
    ]
    assert out.startswith("Songs: 3 made, in ")
    assert "Model: fake, on nothing" in err and "[3/3] b_s1: 0.2 s of audio" in err
    made = sorted(path.name for path in (tmp_path / "out" / "audio").iterdir())
    assert made == ["a.wav"] + [f"b_s{i}{stem}.wav" for i in range(2) for stem in ("", "_bgm", "_vocal")]
    assert records(tmp_path)[0]["request"] == song("a", note=1)


@pytest.mark.parametrize(
    ("own", "words", "longest"),
    [
        ({}, [], None),
        ({}, ["max_seconds=30"], 30.0),
        ({"max_seconds": 40}, ["max_seconds=30"], 40.0),
        ({"max_seconds": 20}, ["max_seconds=30"], 30.0),
        ({"max_seconds": 20}, [], None),  # the other song may be as long as the model can
    ],
)
def test_the_loader_is_told_how_long_and_how_many_the_songs_are(
    tmp_path: Path, model: FakeModel, own: dict[str, Any], words: list[str], longest: float | None
) -> None:
    lines(tmp_path / "in.jsonl", song("a", **own), song("b", num_samples=3))
    assert generate(tmp_path, *words) == 0
    assert (model.options["max_seconds"], model.options["num_songs"]) == (longest, 4)


def test_the_environment_variable_is_the_setting_gpu_memory_and_the_command_line_wins(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path) == 0 and model.options["gpu_memory"] is None
    monkeypatch.setenv("SONGGEN_GPU_MEMORY", "10GB")
    assert generate(tmp_path) == 0 and model.options["gpu_memory"] == 10**10
    assert generate(tmp_path, "gpu_memory=2GB") == 0 and model.options["gpu_memory"] == 2 * 10**9
    monkeypatch.setenv("SONGGEN_GPU_MEMORY", "lots")
    assert generate(tmp_path) == 2
    assert "SONGGEN_GPU_MEMORY=lots: must be a size such as 10GB, 10GiB or 10 (GB)" in capsys.readouterr().err
    assert main(["models"]) == 0  # loads nothing


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("mixed", ["a.wav"]),
        ("vocal", ["a_vocal.wav"]),
        ("bgm", ["a_bgm.wav"]),
        ("separate", ["a.wav", "a_bgm.wav", "a_vocal.wav"]),
    ],
)
def test_the_stem_decides_the_name(tmp_path: Path, model: FakeModel, kind: str, names: list[str]) -> None:
    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path, f"generate_type={kind}") == 0
    assert sorted(path.name for path in (tmp_path / "out" / "audio").iterdir()) == names


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3", "opus"])
def test_formats(tmp_path: Path, model: FakeModel, format: str) -> None:
    import soundfile

    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path, f"output.format={format}") == 0
    info = soundfile.info(tmp_path / "out" / "audio" / f"a.{format}")
    assert (info.samplerate, info.channels) == (48000, 2)


def test_again_skips_and_a_changed_line_is_made_anew(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "in.jsonl", song("a"), song("b"))
    generate(tmp_path)
    lines(tmp_path / "in.jsonl", song("b", descriptions="pop"), song("a"))
    capsys.readouterr()
    assert generate(tmp_path) == 0
    assert model.names("compose") == ["a", "b", "b"]
    out, err = capsys.readouterr()
    assert out.startswith("Songs: 1 made, 1 there already, in") and "a: there already" in err
    assert generate(tmp_path, "resume=false") == 0
    assert model.names("compose")[3:] == ["b", "a"]


def test_a_failed_song_is_status_1_and_the_others_are_made(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.faults["render", "a"] = boom
    lines(tmp_path / "in.jsonl", song("a"), song("b"))
    assert generate(tmp_path) == 1
    out, err = capsys.readouterr()
    assert "Songs: 1 made, 1 failed, in" in out and "  failed: a: render: RuntimeError: boom" in out
    assert "[1/2] a: failed: RuntimeError: boom" in err and "Traceback" not in err
    assert {record["name"]: record["status"] for record in records(tmp_path)} == {"a": "failed", "b": "ok"}


def test_verbose_logs_the_traceback(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.faults["render", "a"] = boom
    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path, "verbose=true") == 1
    assert "Traceback" in capsys.readouterr().err


def test_bad_lines_are_recorded_and_the_others_are_made(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "in.jsonl", song("a"), "nonsense", {"gt_lyric": "[verse] No idx."}, "", song("a"))
    assert generate(tmp_path) == 1
    bad = [record for record in records(tmp_path) if record["status"] == "failed"]
    assert [(record["line"], record["stage"]) for record in bad] == [(2, "read"), (3, "read"), (5, "read")]
    assert all(record["error"].startswith(f"{path}: line {record['line']}: ") for record in bad)
    assert bad[1]["request"] == {"gt_lyric": "[verse] No idx."} and bad[0]["request"] == "nonsense"
    out = capsys.readouterr().out
    assert "Songs: 1 made, 3 failed" in out and f"  failed: {path}: line 2: " in out


def test_on_error_stop_refuses_to_start(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "in.jsonl", song("a"), "nonsense")
    assert generate(tmp_path, "on_error=stop") == 2
    err = capsys.readouterr().err
    assert f"songgen: {path}: line 2: " in err and "nothing was started, as on_error=stop" in err
    assert not (tmp_path / "out").exists() and not model.events


def test_only_bad_lines_is_status_1_without_loading_a_model(tmp_path: Path, model: FakeModel) -> None:
    lines(tmp_path / "in.jsonl", "nonsense")
    assert generate(tmp_path) == 1
    assert not model.events and records(tmp_path)[0]["model"] == "fake"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=other"], "songgen: model 'other' is unknown"),
        (["input=none.jsonl"], "songgen: none.jsonl: there is no such file of requests"),
        (
            ["max_seconds=61"],
            "songgen: max_seconds=61 is more than fake can make as it was loaded: at most 60",
        ),
        (["modle=x"], "songgen: modle is not a setting"),
        (["output.dir=in.jsonl"], "in.jsonl"),
    ],
)
def test_what_cannot_start_is_status_2(
    tmp_path: Path,
    model: FakeModel,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not model.names("compose")


def test_an_empty_file_is_status_2(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text("\n")
    assert generate(tmp_path) == 2
    assert "is empty" in capsys.readouterr().err


def test_an_interrupted_run_is_status_130_and_goes_on(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.faults["compose", "b"] = interrupt
    lines(tmp_path / "in.jsonl", song("a"), song("b"))
    assert generate(tmp_path) == 130
    assert "interrupted; the same command goes on from here" in capsys.readouterr().err
    model.faults.clear()
    assert generate(tmp_path) == 0
    assert model.names("compose") == ["a", "b", "b"]


def test_a_disk_too_full_for_the_song_fails_it_and_leaves_no_part(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    lines(tmp_path / "in.jsonl", song("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
    try:
        assert generate(tmp_path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert records(tmp_path)[0]["stage"] == "save" and "too large" in records(tmp_path)[0]["error"]
    assert not list((tmp_path / "out" / "audio").iterdir())
    assert generate(tmp_path) == 0


def test_findings_are_warned_of_and_mended(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "in.jsonl", {"idx": "a", "gt_lyric": "[verse] Hello\uff0c world."})
    assert generate(tmp_path) == 0
    assert "WARNING: a: section 1 [verse], column" in capsys.readouterr().err
    assert records(tmp_path)[0]["mended"] is True
    assert generate(tmp_path, "lyrics=strict") == 1
    assert "lyrics=strict refuses this text" in records(tmp_path)[1]["error"]


def test_tokens_are_kept_and_named(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "in.jsonl", song("a"))
    assert generate(tmp_path, "output.tokens=true") == 0
    assert (tmp_path / "out" / "tokens" / "a.safetensors").is_file()
    assert f"Tokens:  {tmp_path / 'out' / 'tokens'}" in capsys.readouterr().out


def test_of_several_takes_the_best_is_kept(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.scores = {"a_s0": -4.0, "a_s1": -2.5, "a_s2": -3.0}
    lines(tmp_path / "in.jsonl", song("a", num_samples=3), song("b"))
    assert generate(tmp_path, "keep=best") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Songs: 2 made, 2 not kept, in ")
    assert "a_s0: not kept: another take scored higher than its 1.000" in err
    assert sorted(path.name for path in (tmp_path / "out" / "audio").iterdir()) == ["a_s1.wav", "b.wav"]
    assert {record["name"]: record.get("kept") for record in records(tmp_path)} == {
        "a_s0": False, "a_s1": None, "a_s2": False, "b": None,
    }  # fmt: skip
    assert generate(tmp_path, "keep=best") == 0
    assert capsys.readouterr().out.startswith("Songs: 0 made, 4 there already, in ")


def test_takes_of_a_model_without_scores_cannot_be_ranked(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.scores_drafts = False
    lines(tmp_path / "in.jsonl", song("a", num_samples=3))
    assert generate(tmp_path, "keep=best") == 2
    assert "which fake does not keep; use keep=all" in capsys.readouterr().err
    assert model.events == [("load", "fake")]


def test_the_best_take_of_the_tiny_model_is_the_one_that_scores_highest(tmp_path: Path) -> None:
    """Two folders, all takes in one: the same scores, and the same bytes of the one that is kept."""
    takes = song("a", num_samples=3, max_seconds=0.5, descriptions="pop")
    given = [f"input={lines(tmp_path / 'in.jsonl', takes)}", "model=tiny", "seed=1", "device=cpu", "batch=2"]
    assert main(["generate", *given, f"output.dir={tmp_path / 'all'}"]) == 0
    assert main(["generate", *given, f"output.dir={tmp_path / 'out'}", "keep=best"]) == 0
    found = {record["name"]: record for record in records(tmp_path)}
    (tmp_path / "out").rename(tmp_path / "best")
    (tmp_path / "all").rename(tmp_path / "out")
    scores = {record["name"]: record["lm_score"] for record in records(tmp_path)}
    assert {name: record["lm_score"] for name, record in found.items()} == scores
    best = max(scores, key=lambda name: float(scores[name]["difference"]))
    assert [path.name for path in (tmp_path / "best" / "audio").iterdir()] == [f"{best}.wav"]
    assert {name for name, record in found.items() if record.get("kept") is False} == set(scores) - {best}
    one, other = (tmp_path / folder / "audio" / f"{best}.wav" for folder in ("best", "out"))
    assert one.read_bytes() == other.read_bytes()


def test_many_errors_are_summed_up(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "in.jsonl", *["nonsense"] * 53)
    assert generate(tmp_path) == 1
    out = capsys.readouterr().out
    assert out.count("  failed: ") == 50 and "  and 3 more, see the records" in out


def test_records_of_a_second_run_at_once_are_refused(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from songgen.records import RecordFile

    lines(tmp_path / "in.jsonl", song("a"))
    with RecordFile(tmp_path / "out" / "jsonl" / "in.jsonl"):
        assert generate(tmp_path) == 2
    assert "another run is writing these records" in capsys.readouterr().err


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--help"]) == 0
    out = capsys.readouterr().out
    for text in (
        "model=null",
        "sampling=upstream",
        "sampling.temperature=null",
        "resume=true",
        "130 interrupted",
    ):
        assert text in out
