"""The built-in model `nano`: found in the package by its name, and what is said where its weights are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import songgen
from songgen.commands import models as models_command
from songgen.models import catalog, families
from songgen.train.report.pitch import track_pitch


@pytest.fixture
def nano(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in nano's place."""
    folder = shutil.copytree(tiny_folder, tmp_path / "package" / "nano")
    monkeypatch.setattr(families, "NANO_FOLDER", folder)
    return folder


@pytest.fixture
def no_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "NANO_FOLDER", tmp_path / "package" / "nano")


@pytest.mark.parametrize("name", ["nano", "Nano", "nano/"])
def test_it_is_loaded_by_its_name(nano: Path, name: str) -> None:
    assert catalog.built_in_folder(name) == nano
    assert catalog.load_model(name, device="cpu", max_seconds=1).name == "nano"


def test_it_is_a_folder_of_the_package() -> None:
    assert Path(families.__file__).parents[1] / "nano" == families.NANO_FOLDER
    assert "nano" not in families.NOISE and families.BUILT_IN[0] == "nano"


def test_a_copy_without_its_weights_says_so(no_nano: None) -> None:
    with pytest.raises(FileNotFoundError, match=r"nano is not in this copy of songgen: .*songgen train"):
        catalog.load_model("nano")


def test_the_list_of_models_tells_that_it_sings(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models_command.main([]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nano ")]
    assert line.split() == ["nano", "1", "min", "00", "s", "en", "-", "built", "in", "(sings)"]


def test_the_list_of_models_tells_that_it_is_missing(
    no_nano: None, capsys: pytest.CaptureFixture[str]
) -> None:
    models_command.main([])
    assert "built in, but its weights are not in this copy" in capsys.readouterr().out


def test_its_files_are_part_of_the_package(repository: Path) -> None:
    assert '"songgen" = ["nano/**/*"]' in (repository / "pyproject.toml").read_text("utf-8")


@pytest.mark.skipif(not families.has_built_in("nano"), reason="needs nano's weights")
def test_the_weights_in_the_package_are_small_and_load() -> None:
    files = [path for path in families.NANO_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30_000_000
    model = catalog.load_model("nano", device="cpu", max_seconds=1)
    assert model.text_rules.languages == ("en",) and len(model.prompt_styles) > 1


@pytest.mark.slow
@pytest.mark.skipif(not families.has_built_in("nano"), reason="needs nano's weights")
def test_the_weights_in_the_package_sing() -> None:
    """A voice with a pitch, apart from a band without one, both within full scale."""
    model = songgen.load("nano", device="cpu", threads=1)
    request = {
        "idx": "lights",
        "gt_lyric": "[verse] Harbour lights are burning low. The summer wind will let me go.",
        "descriptions": "female, bright, pop, piano, the bpm is 100",
        "generate_type": "separate",
    }
    (song,) = model.generate([request], seed=1, max_seconds=12)
    vocal, band = (song.stems[stem].samples for stem in ("vocal", "bgm"))
    pitch = track_pitch(vocal, 48000)
    assert (pitch > 0).mean() > 0.3
    assert 52 < np.median(pitch[pitch > 0]) < 80  # MIDI numbers
    assert np.sqrt(np.square(band).mean()) > 0.01
    assert np.abs(song.stems["mixed"].samples).max() <= 1.5
