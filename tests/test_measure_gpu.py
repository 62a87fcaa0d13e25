"""tools/measure_gpu.sh: what it collects, and that every benchmark's settings are known."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from songgen.config import bench_config
from songgen.models.catalog import find_entry


def test_every_benchmark_of_the_script_can_be_asked_for(repository: Path) -> None:
    text = (repository / "tools/measure_gpu.sh").read_text()
    lines = re.findall(r"^bench (\S+) (.+)$", text, flags=re.MULTILINE)
    assert len(lines) >= 5
    for _, words in lines:
        config = bench_config([*words.split(), "weights=random", "seconds=60", "output.dir=x"])
        entry = find_entry(config.model)
        assert entry is not None and entry.family == "levo" and entry.sizes


def test_the_script_needs_a_folder(repository: Path) -> None:
    done = subprocess.run(
        ["sh", "tools/measure_gpu.sh"], cwd=repository, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0 and "usage: sh tools/measure_gpu.sh OUT [SECONDS]" in done.stderr
