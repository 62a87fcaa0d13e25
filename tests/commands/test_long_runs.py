"""Long runs: memory stays flat, and a run that is killed loses no more than the songs in flight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel

from songgen.cli import main
from songgen.engine.journal import Journal
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.requests import read_requests
from songgen.runtime.sampling import Sampling

BATCH = 4
SLOW_RUN = """
import sys, time
import songgen.models.catalog
from fake_model import FakeModel
from songgen.cli import main

class Slow(FakeModel):
    def _do(self, stage, name):
        time.sleep(0.003)

songgen.models.catalog.load_model = lambda name, **options: Slow(batch=4)
sys.exit(main(sys.argv[1:]))
"""
PATIENCE_SECONDS = 60.0


class Forgetful(FakeModel):
    """Keeps no list of what it did."""

    def _do(self, stage: str, name: str) -> None:
        pass


def requests(path: Path, number: int) -> Path:
    rows = ({"idx": f"song{i:04d}", "gt_lyric": "[verse] One line of words."} for i in range(number))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def whole_lines(records: Path) -> list[bytes]:
    return records.read_bytes().split(b"\n")[:-1] if records.exists() else []


def test_memory_stays_flat_over_hundreds_of_songs(tmp_path: Path) -> None:
    """A song's audio alone is 0.4 MB here: 150 of them kept would be 58 MB."""
    file = read_requests(requests(tmp_path / "in.jsonl", 250))
    model = Forgetful(batch=BATCH, frames=25)
    taken: dict[int, int] = {}
    tracemalloc.start()
    try:
        with Journal(Output(tmp_path / "out"), "in") as journal:
            run = Run(model, Settings(Sampling(), 7), is_done=lambda plan: journal.is_done(plan, model))
            ended = record_all(run.songs(file.requests), journal, model, 7)
            for number, _ in enumerate(ended, start=1):
                taken[number] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(taken) == 250
    assert taken[250] - taken[100] < 1_000_000


def test_after_kill_9_no_recorded_song_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = 40
    given = [f"input={requests(tmp_path / 'in.jsonl', number)}", f"output.dir={tmp_path / 'out'}", "seed=7"]
    root = Path(__file__).resolve().parents[2]
    places = os.pathsep.join([str(root), str(root / "tests")])
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, "generate", "model=fake", *given],
        env={**os.environ, "PYTHONPATH": places},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    records = tmp_path / "out" / "jsonl" / "in.jsonl"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(whole_lines(records)) < 10 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    kept = whole_lines(records)
    names = {json.loads(line)["name"] for line in kept}
    assert 10 <= len(names) < number
    files = {path.stem for path in (tmp_path / "out" / "audio").glob("*.wav")}
    assert names <= files and len(files - names) <= BATCH, "files that a kill left without a record"
    with records.open("ab") as file:
        file.write(kept[0][: len(kept[0]) // 2])  # as a kill in the middle of a write leaves it

    model = FakeModel(batch=BATCH)
    monkeypatch.setattr("songgen.models.catalog.load_model", lambda name, **options: model)
    assert main(["generate", "model=fake", *given]) == 0
    out, err = capsys.readouterr()
    assert f"Songs: {number - len(names)} made, {len(names)} there already" in out
    assert "the last line was torn by a kill and is removed" in err
    assert not names & set(model.names("compose"))
    lines = whole_lines(records)
    assert lines[: len(kept)] == kept, "records are only ever appended"
    ended: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert sorted(record["name"] for record in ended) == [f"song{i:04d}" for i in range(number)]
    assert not list((tmp_path / "out" / "audio").glob(".*"))
