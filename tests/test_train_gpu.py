"""tools/train_gpu.sh, with a Python that only writes down what it is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from songgen.commands.train import read_settings


def run(repository: Path, folder: Path, last: str, *words: str) -> subprocess.CompletedProcess[str]:
    python = folder / "a-python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/asked\necho "{last}"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "WORK": str(folder / "train")}
    return subprocess.run(
        ["sh", "tools/train_gpu.sh", str(folder / "out"), *words],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def test_it_trains_all_stages_of_the_recipe_and_keeps_what_is_finished(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "train/work/vae").mkdir(parents=True)
    (tmp_path / "train/work/vae/losses.jsonl").write_text("{}\n")
    (tmp_path / "train/nano").mkdir()
    (tmp_path / "train/nano/config.yaml").write_text("max_dur: 60\n")
    done = run(repository, tmp_path, "report: done", "77")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:4] == ["-m", "songgen.cli", "train", "all"]
    config, _ = read_settings(asked[4:])
    assert (config.device, config.max_seconds, config.data) == ("cuda", 77.0, tmp_path / "train/data")
    assert (tmp_path / "out/vae_losses.jsonl").read_text() == "{}\n"
    parts = sorted((tmp_path / "out").glob("nano.tar.*"))
    tar = b"".join(part.read_bytes() for part in parts)
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "out")], input=tar, check=True)
    assert (tmp_path / "out/nano/config.yaml").read_text() == "max_dur: 60\n"


@pytest.mark.parametrize("last", ["lm: time is up; the same command goes on"])
def test_its_status_says_whether_all_is_done(repository: Path, tmp_path: Path, last: str) -> None:
    assert run(repository, tmp_path, last).returncode == 1


def test_it_needs_a_folder(repository: Path) -> None:
    done = subprocess.run(
        ["sh", "tools/train_gpu.sh"], cwd=repository, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0 and "usage: sh tools/train_gpu.sh OUT [SECONDS] [PACK]" in done.stderr
