"""Every stage once, by the command, at sizes that learn nothing; the result is a model that songgen loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import songgen
from songgen.cli import main
from songgen.train.report.measured import SOURCES
from songgen.train.stages import STAGES
from songgen.train.synth.song import studio


def words(folder: Path) -> list[str]:
    places = [f"{name}={folder / name}" for name in ("data", "work", "out")]
    return ["train", "all", "recipe=smoke", "device=cpu", *places]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        studio()
    except (FileNotFoundError, ModuleNotFoundError) as error:
        pytest.skip(f"no songs can be made: {error}")
    folder = tmp_path_factory.mktemp("trained")
    assert main(words(folder)) == 0
    return folder


@pytest.mark.slow
def test_it_makes_a_model_and_measures_it(trained: Path) -> None:
    model = songgen.load(trained / "out", threads=1)
    request = {"idx": "tide", "gt_lyric": "[verse] Low tide.", "descriptions": "female, pop"}
    (song,) = model.generate([request], max_seconds=1, seed=7)
    num_channels, num_samples = song.stems["mixed"].samples.shape
    assert num_channels == 2 and 0 < num_samples <= 48000  # it may end by itself
    report = json.loads((trained / "work/report/report.json").read_text())
    assert not [failure for failure in report["failures"] if "measured" in failure]
    sources = {row["source"] for row in report["songs"]}
    assert sources == set(SOURCES) - {"chance"}  # that takes the lyrics of another song


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_train(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.glob("work/*/checkpoint.pt")}
    assert main([*words(trained), "max_seconds=0"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "synth: done"
    assert main([*words(trained)[:1], "vae", *words(trained)[2:]]) == 0
    assert capsys.readouterr().out == "vae: done\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.parent.name for path in before} <= set(STAGES)
