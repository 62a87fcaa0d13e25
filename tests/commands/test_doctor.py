"""`songgen doctor`: what it finds, what it says of it, the line to type, and its exit status."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from songgen.commands import machine, packages
from songgen.commands.doctor import main
from songgen.models import families
from songgen.nn import attention

GB = 10**9


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder on a machine with 60 GB free and no GPU; a songgen without nano's weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(families, "NANO_FOLDER", tmp_path / "none")
    monkeypatch.setattr("songgen.commands.examination.free_bytes", lambda device: 60 * GB)
    return tmp_path


@pytest.fixture
def models(here: Path, tiny_folder: Path) -> Path:
    """The tiny checkpoint under two names, with its shared files beside them."""
    folder = here / "models"
    shutil.copytree(tiny_folder, folder / "songgeneration_v2_medium")
    shutil.copytree(tiny_folder, folder / "mine")
    for item in tiny_folder.parent.iterdir():
        if item.is_dir() and item.name != tiny_folder.name:
            shutil.copytree(item, folder / item.name)
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, str]:
    """What the command says by the heading of the section."""
    assert main(list(words)) == status
    sections = capsys.readouterr().out.strip().split("\n\n")
    return {block.partition("\n")[0].partition(" ")[0]: block.partition("\n")[2] for block in sections}


def test_an_empty_machine(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys)
    assert f"PyTorch {torch.__version__}" in found["Machine"]
    assert "cpu: " in found["Devices"] and "GB free in " in found["Devices"]
    assert "sdpa    available: PyTorch's own" in found["Attention"]
    assert "triton  not available: it needs a CUDA GPU" in found["Attention"]
    assert found["Checkpoints"] == "  none found"
    lines = found["To"].splitlines()
    assert lines[0].startswith("  songgen generate model=tiny ") and "noise" in lines[0]
    assert lines[1] == "  songgen fetch songgeneration_v2_large    (the largest that fits)"


def test_the_built_in_model_can_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "model=tiny")
    assert "files are there and whole; memory=full: about" in found["Checkpoints"]
    assert found["To"] == "  songgen generate model=tiny input=lyrics.jsonl output.dir=output"


def test_the_model_that_sings_is_what_to_type_where_nothing_else_is(
    here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(families, "NANO_FOLDER", shutil.copytree(tiny_folder, here / "lib" / "nano"))
    found = said(capsys)
    assert found["Checkpoints"].startswith("  nano (")
    assert found["To"] == "  songgen generate model=nano input=lyrics.jsonl output.dir=output"


def test_models_are_found_under_published_and_other_names(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(capsys)
    assert "  models/songgeneration_v2_medium (" in found["Checkpoints"]
    assert "  models/mine (" in found["Checkpoints"]
    assert found["To"] == "  songgen generate model=models/mine input=lyrics.jsonl output.dir=output"
    assert "Problems" not in found


def test_settings_are_part_of_the_line_to_type(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models.parent / "generate.sh").write_text("")
    found = said(capsys, "model=models/mine", "memory=low", "dtype=bf16", "runtime_dir=models")
    assert found["To"] == (
        "  sh generate.sh models/mine sample/lyrics.jsonl output runtime_dir=models dtype=bf16 memory=low"
    )


def test_a_broken_model_is_status_1_if_it_was_named(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = models / "songgeneration_v2_medium" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert f"{weights}: cut off: " in said(capsys)["Checkpoints"]
    for name in ("v2-medium", "models/songgeneration_v2_medium/"):
        found = said(capsys, f"model={name}", status=1)
        assert f"{weights}: cut off: " in found["Problems"]
        assert found["To"] == "  songgen fetch songgeneration_v2_medium"


def test_a_download_that_was_broken_off_is_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "models" / "songgeneration_base").mkdir(parents=True)
    (here / "models" / "songgeneration_base" / "config.yaml").write_text("a: 1")
    assert "is no checkpoint: no model.safetensors or model.pt in it" in said(capsys)["Checkpoints"]


@pytest.mark.parametrize(
    ("name", "problem", "line"),
    [
        ("base", "songgeneration_base is not on this disk", "songgen fetch songgeneration_base"),
        ("songbloom-150s", "songbloom_full_150s is not on this disk", "songgen fetch songbloom_full_150s"),
        ("nonsense", "neither a folder nor a name of the catalogue", "songgen doctor "),
    ],
)
def test_a_named_model_that_is_not_there(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str, line: str
) -> None:
    found = said(capsys, f"model={name}", status=1)
    assert problem in found["Problems"] and found["To"].strip().startswith(line.strip())


def test_a_model_that_does_not_fit(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("songgen.commands.examination.free_bytes", lambda device: GB // 100)
    found = said(capsys, "model=models/mine", status=1)
    assert "not enough memory: about" in found["Problems"] and found["To"].startswith("  songgen doctor ")


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("device=cuda:7", "this machine has 0 CUDA devices"),
        ("attention=flash", "attention=flash cannot run on cpu: it needs a CUDA GPU"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_settings_that_this_machine_cannot_take(
    here: Path, capsys: pytest.CaptureFixture[str], word: str, problem: str
) -> None:
    assert problem in said(capsys, "model=tiny", word, status=1)["Problems"]


def test_what_fits_is_told_by_the_catalogue(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 25 GB: half precision halves weights and caches, low memory leaves out the codec."""
    monkeypatch.setattr("songgen.commands.examination.free_bytes", lambda device: 25 * GB)
    lines = {line.split()[0]: line for line in said(capsys)["What"].splitlines()}
    assert lines["songgeneration_base"].endswith("fits with memory=low")
    assert lines["songgeneration_base_full"].endswith("fits with dtype=bf16 memory=full")
    assert lines["songgeneration_large"].endswith("fits with dtype=bf16 memory=low")
    assert lines["songbloom_full_150s"].endswith("fits with memory=full")
    monkeypatch.setattr("songgen.commands.examination.free_bytes", lambda device: GB)
    assert said(capsys)["What"].count("does not fit") == 10


def test_missing_packages_are_told_before_anything_is_imported(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A doctor that needs torch to say that torch is missing is none."""
    real = packages.version_of
    monkeypatch.setattr(
        packages, "version_of", lambda name: None if name in ("torch", "demucs") else real(name)
    )
    monkeypatch.delitem(sys.modules, "songgen.commands.examination", raising=False)
    found = said(capsys, status=1)
    assert "torch is MISSING: pip install -r requirements.txt" in found["Packages"]
    assert "demucs is not installed: no style prompts" in found["Packages"]
    assert "pip install 'songgen[prompt]'" in found["Packages"] and "examination" not in str(
        sys.modules.keys()
    )


def test_the_extras_that_it_names_exist(repository: Path) -> None:
    """And what it calls required is what pyproject.toml requires."""
    text = (repository / "pyproject.toml").read_text()

    def names(key: str) -> set[str]:
        (found,) = re.findall(rf"^{key} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
        return {name.lower() for name in re.findall(r'"([\w.-]+)[^"]*"', found)}

    for package, (extra, _) in packages.OPTIONAL.items():
        assert package in names(extra)
    assert names("dependencies") == {name.lower() for name in packages.REQUIRED}


def test_a_gpu_s_backends_depend_on_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        attention.importlib.util, "find_spec", lambda name: object() if name == "triton" else None
    )
    found = attention.backends(torch.device("cuda"))
    assert found == {"flash": "the package flash_attn is not installed", "triton": None, "sdpa": None}
    assert set(found) == set(attention.backends(torch.device("cpu")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_told_with_its_memory() -> None:
    (line,) = [line for line in machine.about_devices(torch.device("cuda", 0)) if "cuda:0" in line]
    assert line.startswith("* cuda:0: ") and "GB free" in line
