"""Measure a long run that is killed once: what it takes in memory, and what the kill costs.

    python tools/measure_long_run.py OUT [--lines 10000] [--model tiny-songbloom] [--report FILE.json]

Runs `songgen generate` over many lines of very short songs, kills it with SIGKILL once half of the lines are
recorded, runs the same command again to the end, and checks that each line has one record and one song, the
records of before the kill untouched. Resident memory is sampled all the while (Linux). The last line printed
is the report as JSON; exit status 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_SECONDS = 0.5
MOST_SAMPLES = 24
"""Of each run in the report."""

WARM_UP = 0.2
"""Of a run's songs, left out where the growth of memory is measured."""

INPUT_NAME, SONGS_NAME, LOG_NAME = "in.jsonl", "songs", "log"


@dataclass
class Part:
    """A run until it ended or was killed.

    Args:
        started_with: records that were there.
        status: its exit status; the negative number of a signal.
        wall: seconds that it ran. cpu: seconds of the processor. first: seconds until its first record.
        samples: (records there, bytes resident).
    """

    started_with: int
    status: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    first: float | None = None
    samples: list[tuple[int, int]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, in MB, with no more than some samples."""
        step = -(-len(self.samples) // MOST_SAMPLES) or 1
        made = self.samples[-1][0] - self.started_with if self.samples else 0
        return {
            "recorded_before": self.started_with,
            "songs": made,
            "status": self.status,
            "wall_s": round(self.wall, 1),
            "cpu_s": round(self.cpu, 1),
            "first_record_s": None if self.first is None else round(self.first, 1),
            "peak_mb": round(max((size for _, size in self.samples), default=0) / 1e6, 1),
            "growth_kb_per_song": _growth(self),
            "samples": [[records, round(size / 1e6, 1)] for records, size in self.samples[::step]],
        }


def main() -> int:
    """Run, kill, run again, check, and print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--model", default="tiny-songbloom")
    parser.add_argument("--seconds", type=float, default=0.2, help="max_seconds of each song")
    parser.add_argument("--report", type=Path, help="file for the report")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    rows = (
        {"idx": f"song{i:06d}", "gt_lyric": "[verse] One line of words.", "max_seconds": given.seconds}
        for i in range(given.lines)
    )
    (given.out / INPUT_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = given.out / SONGS_NAME / "jsonl" / INPUT_NAME
    first = run(given.out, given.model, records, kill_at=given.lines // 2)
    kept = records.read_bytes()
    without_record = _files(given.out) - {record["name"] for record in _whole(kept)}
    second = run(given.out, given.model, records)
    report = {
        "command": f"tools/measure_long_run.py --lines {given.lines} --model {given.model} "
        f"--seconds {given.seconds:g}",
        "model": _summary(given.out),
        "runs": [first.as_dict(), second.as_dict()],
        "files_without_record_after_kill": len(without_record),
        "songs_of_the_second_run": given.lines - len(_whole(kept)),
        "checks": check(given.out, records, kept, given.lines) | {"second_run_ended_well": not second.status},
    }
    if given.report is not None:
        given.report.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    return 0 if all(report["checks"].values()) else 1


def run(out: Path, model: str, records: Path, kill_at: int | None = None) -> Part:
    """Run the command and watch it until it ends, or until so many records are there."""
    words = [f"model={model}", f"input={out / INPUT_NAME}", f"output.dir={out / SONGS_NAME}"]
    command = [sys.executable, "-m", "songgen.cli", "generate", *words, "seed=7", "device=cpu"]
    size, count = _grown(records, 0)
    part = Part(count)
    start = time.monotonic()
    with (out / LOG_NAME).open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            new_size, new = _grown(records, size)
            size, count = new_size, count + new
            if new and part.first is None:
                part.first = time.monotonic() - start
            sample = _resident(process.pid)
            if sample is not None:
                part.samples.append((count, sample[0]))
                part.cpu = sample[1]
            if kill_at is not None and count >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
        part.status = process.wait()
    part.wall = time.monotonic() - start
    return part


def check(out: Path, records: Path, kept: bytes, lines: int) -> dict[str, bool]:
    """What must hold of a run that was killed and gone on with."""
    names = Counter(record["name"] for record in _whole(records.read_bytes()) if record["status"] == "ok")
    wanted = {f"song{i:06d}" for i in range(lines)}
    whole = kept[: kept.rfind(b"\n") + 1]
    return {
        "each_line_has_one_record": names.keys() == wanted and set(names.values()) == {1},
        "each_line_has_one_song": _files(out) == wanted,
        "records_were_only_appended": records.read_bytes().startswith(whole),
        "nothing_half_written_is_left": not list((out / SONGS_NAME / "audio").glob(".*")),
    }


def _grown(path: Path, size: int) -> tuple[int, int]:
    """The size of a file, and the lines that it has grown by since it had another."""
    if not path.exists():
        return 0, 0
    with path.open("rb") as file:
        file.seek(size)
        new = file.read()
    return size + len(new), new.count(b"\n")


def _resident(pid: int) -> tuple[int, float] | None:
    """Bytes resident and seconds of processor time of a process; None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    if not pages:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE"), sum(map(int, times)) / ticks


def _growth(part: Part) -> float | None:
    """The slope of a line through resident memory over songs, KB a song, behind the warm-up."""
    if not part.samples:
        return None
    last = part.samples[-1][0]
    begin = part.started_with + WARM_UP * (last - part.started_with)
    points = np.array([(count, size) for count, size in part.samples if count >= max(1, begin)])
    if len({count for count, _ in points.tolist()}) < 2:
        return None
    return round(float(np.polyfit(points[:, 0], points[:, 1], 1)[0]) / 1e3, 2)


def _whole(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def _files(out: Path) -> set[str]:
    return {path.stem for path in (out / SONGS_NAME / "audio").glob("[!.]*.wav")}


def _summary(out: Path) -> str:
    """What the command said of its model."""
    with (out / LOG_NAME).open(encoding="utf-8") as log:
        return next((line[7:].strip() for line in log if line.startswith("Model: ")), "")


if __name__ == "__main__":
    sys.exit(main())
