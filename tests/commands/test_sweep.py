"""`songgen generate --multirun`: the runs of a sweep, their folders, their configurations and status."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_model import FakeModel, boom, interrupt

from songgen.cli import main
from songgen.commands.sweep import MAX_FOLDER_BYTES, folder_name, quoted


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """The model that `model=fake` and `model=other` load."""
    fake = FakeModel()

    def load_model(name: str, **options: Any) -> FakeModel:
        fake.events.append(("load", name))
        if name not in ("fake", "other"):
            raise ValueError(f"model {name!r} is unknown")
        return fake

    monkeypatch.setattr("songgen.models.catalog.load_model", load_model)
    return fake


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Hydra sets up the root logger for each run; put it back."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield
    root.handlers, root.level = kept[0], kept[1]


def songs(path: Path, *names: str) -> Path:
    rows = [{"idx": name, "gt_lyric": "[verse] One line of words."} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sweep(tmp_path: Path, *words: str) -> int:
    songs(tmp_path / "in.jsonl", "a", "b")
    given = ["model=fake", f"input={tmp_path / 'in.jsonl'}", f"output.dir={tmp_path / 'out'}"]
    return main(["generate", "--multirun", *given, *words])


def records(folder: Path, name: str = "in") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "jsonl" / f"{name}.jsonl").read_text().splitlines()]


def folders(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir())


def test_every_combination_has_its_folder_and_its_configuration(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "sampling.temperature=0.7,0.8", "seed=1,2", "batch=2") == 0
    names = [f"sampling.temperature={t},seed={s}" for t in (0.7, 0.8) for s in (1, 2)]
    assert folders(tmp_path / "out") == names
    for name in names:
        folder = tmp_path / "out" / name
        temperature, seed = (word.partition("=")[2] for word in name.split(","))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert (config["sampling"]["temperature"], config["seed"]) == (float(temperature), int(seed))
        assert (config["model"], config["batch"], config["output"]["dir"]) == ("fake", 2, str(folder))
        made = records(folder)
        assert [record["status"] for record in made] == ["ok", "ok"]
        assert {record["sampling"]["temperature"] for record in made} == {float(temperature)}
        assert {record["run_seed"] for record in made} == {int(seed)}
    out = capsys.readouterr().out
    assert f"Sweep: {tmp_path / 'out'}\n  {names[0]}: all songs are there\n" in out


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path, model: FakeModel) -> None:
    model.faults["compose", "b"] = interrupt
    assert sweep(tmp_path, "seed=1,2") == 130
    assert folders(tmp_path / "out") == ["seed=1"], "the second run must not start after Ctrl-C"
    model.faults.clear()
    model.events.clear()
    assert sweep(tmp_path, "seed=1,2") == 0
    assert model.names("compose") == ["b", "a", "b"]


def test_models_groups_and_files_are_swept_like_numbers(tmp_path: Path, model: FakeModel) -> None:
    for name in ("x", "y"):
        songs(tmp_path / f"{name}.jsonl", name)
    files = ",".join(str(tmp_path / f"{name}.jsonl") for name in ("x", "y"))
    out = f"output.dir={tmp_path / 'out'}"
    assert main(["generate", "-m", "model=fake,other", f"input={files}", out, "sampling=greedy,lowmem"]) == 0
    assert [name for what, name in model.events if what == "load"] == ["fake"] * 4 + ["other"] * 4
    found = folders(tmp_path / "out")
    assert len(found) == 8
    assert all(
        name.startswith("model=") and name.endswith(("sampling=greedy", "sampling=lowmem")) for name in found
    )
    greedy = next(name for name in found if "greedy" in name and "model=other" in name and "x.jsonl" in name)
    assert records(tmp_path / "out" / greedy, "x")[0]["sampling"]["temperature"] == 0


def test_a_quoted_value_may_hold_anything(tmp_path: Path, model: FakeModel) -> None:
    odd = songs(tmp_path / "a, b=(c)'s.jsonl", "a")
    root = tmp_path / "o,u t"
    words = [f"input={quoted(str(odd))}", f"output.dir={quoted(str(root))}", "seed=1,2", "model='fake'"]
    assert main(["generate", "--multirun", *words]) == 0
    assert folders(root) == ["seed=1", "seed=2"]
    assert yaml.safe_load((root / "seed=1" / "config.yaml").read_text())["input"] == str(odd)


def test_values_without_a_sweep_are_single(tmp_path: Path, model: FakeModel) -> None:
    """A range is several values, null and true are words of the settings, a later value wins."""
    assert (
        sweep(tmp_path, "seed=range(3,5)", "max_seconds=null", "output.tokens=true", "batch=4", "batch=2")
        == 0
    )
    assert folders(tmp_path / "out") == ["seed=3", "seed=4"]
    config = yaml.safe_load((tmp_path / "out" / "seed=4" / "config.yaml").read_text())
    assert (config["max_seconds"], config["output"]["tokens"], config["batch"]) == (None, True, 2)


def test_the_status_is_that_of_all_runs(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model.faults["compose", "a"] = boom
    assert sweep(tmp_path, "seed=1,2") == 1
    assert "  seed=1: some songs failed\n" in capsys.readouterr().out
    model.faults.clear()
    assert sweep(tmp_path, "model=fake,wrong", "seed=1") == 1
    out = capsys.readouterr().out
    assert "  model=fake: all songs are there\n  model=wrong: could not start\n" in out
    assert sweep(tmp_path, "model=wrong,nothing", "seed=1") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "--multirun: no setting has several values, such as sampling.temperature=0.7,0.9"),
        (["output.dir=a,b"], "output.dir cannot be swept: each run of a sweep gets its own folder in it"),
        (["seed=1,2", "seed=3,4"], "--multirun: a setting is given twice: seed, seed"),
        (["sampling.temperatur=0.7,0.8"], "did you mean sampling.temperature?"),
        (["sampling.temperature=0.7,-1"], "sampling.temperature=-1: must be a number, 0 or more"),
        (
            ["seed=1,2", "input=a=(b"],
            "input=a=(b: --multirun cannot read the value; text with a blank, comma",
        ),
        (["seed=1,2", "input=a=(b"], "in the shell as \"input='a=(b'\""),
        (
            ["seed=1,2", "--batch=3"],
            "--batch=3: settings are written key=value, without dashes; --multirun alone",
        ),
        (["input=a/b,a_b"], "two runs would share the folder input=a_b: give values that differ more"),
        (["sampling.temperature=interval(0,1)"], "BasicSweeper does not support sweep type"),
        (["seed=1,2", "hydra/launcher=submitit_moon"], "pip install 'songgen[slurm]'"),
        (["seed=1,2", "hydra.launcer.x=3"], "--multirun: Could not override 'hydra.launcer.x'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert sweep(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not model.events and not (tmp_path / "out").exists()


def test_folders_are_named_in_words_of_any_script_and_short_enough() -> None:
    assert (
        folder_name({"model": "ckpt/my model", "seed": "1"}, ["seed", "model"])
        == "seed=1,model=ckpt_my_model"
    )
    assert folder_name({"input": "\u6b4c\u8bcd.jsonl"}, ["input"]) == "input=\u6b4c\u8bcd.jsonl"
    long = [folder_name({"input": "\u6b4c" * 99 + end}, ["input"]) for end in "ab"]
    assert long[0] != long[1] and all(len(name.encode()) <= MAX_FOLDER_BYTES for name in long)


@pytest.mark.slow
def test_a_launcher_runs_the_points_in_processes_of_their_own(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Slurm, but for the queue: submitit's launcher, with processes of this machine."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    words = [
        f"model={tiny_folder}",
        f"input={songs(tmp_path / 'in.jsonl', 'a')}",
        "max_seconds=1",
        "seed=1,2",
    ]
    assert main(["generate", "--multirun", *words, f"output.dir={tmp_path / 'out'}", *launcher]) == 0
    assert folders(tmp_path / "out") == [".submitit", "seed=1", "seed=2"]
    for seed in (1, 2):
        made = records(tmp_path / "out" / f"seed={seed}")
        assert [(record["status"], record["run_seed"]) for record in made] == [("ok", seed)]
