"""`songgen bench`: a table for people, one line of JSON last, a trace; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_sizes import SIZES

from songgen.cli import main


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["bench", *words]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1])


def test_a_built_in_model_is_measured_beside_a_plain_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["seconds=0.4", "batch=1,2", "baseline=true", "profile=true", f"output.dir={tmp_path}"]
    report, table = bench(capsys, "model=tiny", *words)
    assert [result["batch"] for result in report["results"]] == [1, 2]
    for result in report["results"]:
        composed, rendered = result["compose"], result["render"]
        assert composed["steps"] == 50  # 25 of the head, then from column 250 on to 260, at the next look
        assert composed["steps_per_second"] == pytest.approx(50 / composed["seconds"])
        assert composed["rtf"] == pytest.approx(composed["seconds"] / (0.4 * result["batch"]))
        assert result["rtf"] == pytest.approx(composed["rtf"] + rendered["rtf"])
        assert composed["bandwidth_fraction"] > 0 and composed["floor_ratio"] > 0
        assert composed["bytes_per_step"] > 0 and composed["peak_memory"] > 0
        plain = report["baseline_seconds"] * result["batch"] / composed["seconds"]
        assert result["baseline_ratio"] == pytest.approx(plain)
    assert report["baseline_ratio"] == report["results"][0]["baseline_ratio"]
    assert (report["attention"], report["device"], report["seconds"]) == ("sdpa", "cpu", 0.4)
    assert "of plain" in table and "tiny (checkpoint weights, 3+2 layers), 0.4 s a song, cpu" in table
    trace = json.loads((tmp_path / "step_trace.json").read_text())
    assert report["trace"] == str(tmp_path / "step_trace.json")
    assert any("aten::" in event.get("name", "") for event in trace["traceEvents"])


@pytest.mark.parametrize(
    ("name", "built_in", "stacks"),
    [("songgeneration_large", "tiny", [1, 1]), ("songgeneration_v2_fast", "tiny-fast", [1])],
)
def test_random_weights_need_no_files(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    built_in: str,
    stacks: list[int],
) -> None:
    """The catalogue's sizes, made small here; the codec is that of a built-in model."""
    from songgen.models import catalog
    from songgen.models.levo import bench_loading, tiny
    from songgen.models.levo.loading import load

    (entry,) = [entry for entry in catalog.entries() if entry.name == name]
    for key, value in SIZES.items():
        monkeypatch.setitem(entry.sizes, key, value if entry.sizes[key] else 0)  # type: ignore[arg-type]
    codec = load(tiny.ensure_tiny(name=built_in), device="cpu").parts.codec.get()
    monkeypatch.setattr(bench_loading, "random_codec", lambda *args, **options: codec)
    words = [f"model={name}", "weights=random", "layers=1", "seconds=0.2", "kv_cache=int8", "dtype=bf16"]
    report, table = bench(capsys, *words)
    assert (report["weights"], report["dtype"], report["kv_cache"]) == ("random", "bfloat16", "int8")
    assert report["layers"] == stacks and report["results"][0]["render"]["seconds"] > 0
    assert "baseline_ratio" not in report and "of plain" not in table.splitlines()[2]
    report, table = bench(capsys, "render=false", *words)
    assert "render" not in report["results"][0] and " - " in table
    assert report["results"][0]["rtf"] == report["results"][0]["compose"]["rtf"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=nonsense", "weights=random"], "model 'nonsense' is neither a folder nor a name"),
        (
            ["model=songbloom_full_150s", "weights=random"],
            "songgen bench measures models of the LeVo family only",
        ),
        (["model=tiny", "batch=0"], "batch=0: must be whole numbers, 1 or more, with commas between"),
        (["model=tiny", "batch=1,x"], "batch=1,x: must be whole numbers, 1 or more, with commas between"),
        (["model=tiny", "weights=half"], "weights=half: must be one of checkpoint, random"),
        (["model=tiny", "layers=1"], "layers=1 has no effect on a checkpoint: its layers are in its files"),
        (["model=tiny", "memory=low"], "memory has no effect on `songgen bench`"),
        (["model=tiny", "seconds=0"], "seconds=0: must be a number above 0"),
    ],
)
def test_what_cannot_be_measured_says_why(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_weights_that_do_not_fit_are_not_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("songgen.models.levo.bench_loading.free_bytes", lambda device: 9 * 10**9)
    assert main(["bench", "model=large", "weights=random", "device=cpu", "dtype=bf16"]) == 2
    error = capsys.readouterr().err
    assert "not enough memory: 10.0 GB for the language model alone, 9.0 GB free; dtype=bf16 halves" in error


def test_help_names_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert "baseline=false" in text and "kv_cache=auto" in text and "of copying: bytes" in text
