"""tools/measure_long_run.py: that it sees what must not happen, and a short run of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SLOPE = 7_000


@pytest.fixture(scope="module")
def tool(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("long_run", repository / "tools/measure_long_run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["long_run"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def write(out: Path, *names: str) -> Path:
    """A folder of a run with some records, one line each, and their files."""
    songs = out / "songs"
    (songs / "jsonl").mkdir(parents=True)
    (songs / "audio").mkdir()
    lines = [json.dumps({"name": name, "status": "ok"}) + "\n" for name in names]
    (songs / "jsonl" / "in.jsonl").write_text("".join(lines))
    for name in names:
        (songs / "audio" / f"{name}.wav").touch()
    return songs / "jsonl" / "in.jsonl"


def test_what_must_hold_is_checked(tool: ModuleType, tmp_path: Path) -> None:
    records = write(tmp_path / "well", "song000000", "song000001")
    kept = records.read_bytes()[:-10]
    assert set(tool.check(tmp_path / "well", records, kept, 2).values()) == {True}
    lost = tool.check(tmp_path / "well", records, kept, 3)
    assert not lost["each_line_has_one_record"] and not lost["each_line_has_one_song"]
    twice = write(tmp_path / "twice", "song000000", "song000001", "song000001")
    assert not tool.check(tmp_path / "twice", twice, kept, 2)["each_line_has_one_record"]
    other = tool.check(tmp_path / "well", records, b"another\n", 2)
    assert not other["records_were_only_appended"]
    (tmp_path / "well" / "songs" / "audio" / ".song000000.wav.x").touch()
    assert not tool.check(tmp_path / "well", records, kept, 2)["nothing_half_written_is_left"]


def test_growth_is_that_behind_the_warm_up(tool: ModuleType) -> None:
    samples = [(100 + n, 50_000_000 * (n > 10) + SLOPE * n) for n in range(100)]
    part = tool.Part(100, samples=samples)
    assert part.as_dict()["growth_kb_per_song"] == SLOPE / 1000
    assert part.as_dict()["songs"] == 99 and len(part.as_dict()["samples"]) <= tool.MOST_SAMPLES
    assert tool.Part(0).as_dict()["growth_kb_per_song"] is None


@pytest.mark.slow
def test_a_short_run_is_killed_and_goes_on(repository: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / "out"), "--lines", "20", "--report", str(tmp_path / "report.json")]
    done = subprocess.run(
        [sys.executable, "tools/measure_long_run.py", *words],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads((tmp_path / "report.json").read_text())
    first, second = report["runs"]
    assert first["status"] == -9 and 10 <= second["recorded_before"] <= 20
    assert second["songs"] == report["songs_of_the_second_run"] == 20 - second["recorded_before"]
    assert report["files_without_record_after_kill"] <= 1
    assert report["model"].startswith("tiny-songbloom on cpu")
    assert first["peak_mb"] > 0
