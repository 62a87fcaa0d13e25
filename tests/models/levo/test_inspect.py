"""A checkpoint looked at without loading it: each missing and broken file, and the memory plan of `load`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from songgen.models import catalog
from songgen.models.inspection import Inspection
from songgen.models.levo.inspect import inspect
from songgen.models.levo.model import LevoModel
from songgen.models.levo.tiny import DUAL_FILE, MIXED_FILE

CPU = torch.device("cpu")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:616dbe27\nsize 14959842\n"


@pytest.fixture
def copy(tmp_path: Path, tiny_folder: Path) -> Path:
    """A tiny checkpoint to harm."""
    shutil.copytree(tiny_folder.parent, tmp_path / "home")
    return tmp_path / "home" / tiny_folder.name


def look(folder: Path, **settings: Any) -> Inspection:
    wanted = {"runtime_dir": None, "memory": "auto", "batch": None, "free": 10**10, **settings}
    return inspect(folder, device=CPU, dtype=torch.float32, **wanted)


def test_a_whole_checkpoint_has_no_fault_and_the_plan_of_load(tiny_folder: Path, tiny: LevoModel) -> None:
    found = look(tiny_folder)
    assert not found.faults and not found.lacks_files
    assert all(file.path is not None and file.path.exists() and file.size > 0 for file in found.files)
    assert found.plan is not None and found.plan.needed == tiny.plan.needed
    assert found.size == sum(file.size for file in found.files)


def find(folder: Path, name: str) -> Path:
    (path,) = [path for place in (folder, folder.parent) for path in place.glob(name)][:1]
    return path


@pytest.mark.parametrize("name", [DUAL_FILE, "model.pt", "ckpt/vae/*.json"])
def test_a_pointer_where_a_file_should_be(copy: Path, name: str) -> None:
    path = find(copy, name)
    path.write_text(POINTER)
    found = look(copy)
    (fault,) = found.faults
    assert path.name in fault and "Git-LFS pointer" in fault
    assert found.plan is None


@pytest.mark.parametrize("name", [DUAL_FILE, "model.pt"])
def test_a_cut_weight_file(copy: Path, name: str) -> None:
    path = find(copy, name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = look(copy)
    (fault,) = found.faults
    assert fault.startswith(f"{path}: cut off: ")
    assert found.lacks_files and found.plan is None


def test_a_missing_shared_file(copy: Path) -> None:
    find(copy, DUAL_FILE).unlink()
    (fault,) = look(copy).faults
    assert "model_2.safetensors: was not found; it was looked for in" in fault


def test_a_cut_file_in_the_tokenizer_s_folder(copy: Path) -> None:
    path = find(copy, "third_party/*/vocab.json")
    path.write_text('{"a": 1')
    (fault,) = look(copy).faults
    assert f"{path.parent}: vocab.json is damaged: not JSON" in fault


def test_files_of_prompts_are_missed_but_hinder_nothing(copy: Path) -> None:
    find(copy, MIXED_FILE).unlink()
    found = look(copy)
    assert not found.faults and found.plan is not None
    (broken,) = [file for file in found.files if file.fault]
    assert broken.only_for == "prompt_audio_path" and broken.path is None


def test_what_is_no_checkpoint_or_does_not_fit(copy: Path, tmp_path: Path) -> None:
    assert "no such folder" in look(tmp_path / "nowhere").faults[0]
    (fault,) = look(copy, free=10**6).faults
    assert fault.startswith("not enough memory: about") and not look(copy, free=10**6).lacks_files
    (copy / "config.yaml").write_text("a: 1\n")
    assert "no key" in look(copy).faults[0]


def test_the_catalogue_tells_what_a_published_model_will_need() -> None:
    """Weights that lie on the device, 2 bytes each, codec and VAE in float32, caches for the longest song."""
    entry = catalog.find_entry("songgeneration_base")
    assert entry is not None
    gpu, cpu = (catalog.needs_of(entry, torch.float16, torch.device(kind)) for kind in ("cuda", "cpu"))
    assert gpu is not None and cpu is not None
    tables = 2 * (151659 + 151646) * 1536
    assert cpu.composer - gpu.composer == tables
    assert cpu.composer < 2 * entry.parameters < 1.1 * cpu.composer  # the file holds unused tensors too
    assert 3.2e9 < gpu.renderer < 3.4e9
    bloom = catalog.find_entry("songbloom_full_150s")
    assert bloom is not None and catalog.needs_of(bloom, torch.float16, torch.device("cpu")) is None
