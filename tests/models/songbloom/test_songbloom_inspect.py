"""Looking at a model without loading it, and what the catalogue says of published ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from songgen.models import catalog
from songgen.models.built_in import has_separator
from songgen.models.inspection import Inspection
from songgen.models.songbloom.config import read_config
from songgen.models.songbloom.inspect import inspect, needs_of_sizes
from songgen.models.songbloom.loading import needs_of
from songgen.nn.oobleck import OobleckConfig

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "songbloom"
CPU = torch.device("cpu")
GB = 10**9


def look(folder: Path, free: int = 8 * GB) -> Inspection:
    return inspect(
        folder, runtime_dir=None, device=CPU, dtype=torch.float32, memory="auto", batch=None, free=free
    )


def test_a_whole_model_has_a_plan(tiny_songbloom_folder: Path) -> None:
    found = look(tiny_songbloom_folder)
    assert not found.faults and found.plan is not None and found.plan.residency == "full"
    names = [file.name for file in found.files if not file.only_for]
    assert names == [
        "tiny-songbloom.yaml",
        "tiny-songbloom.safetensors",
        "stable_audio_1920_vae.json",
        "autoencoder_music_dsp1920.ckpt",
    ]
    assert all(file.fault is None for file in found.files if has_separator() or not file.only_for)


def test_what_is_missing_or_broken_is_named(tiny_songbloom_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-songbloom"
    shutil.copytree(tiny_songbloom_folder, folder)
    shutil.rmtree(folder / "third_party", ignore_errors=True)
    found = look(folder)
    assert not found.faults
    assert {file.only_for for file in found.files if file.fault} == {"stems=separator"}
    (folder / "autoencoder_music_dsp1920.ckpt").unlink()
    weights = folder / "tiny-songbloom.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    faults = look(folder).faults
    assert len(faults) == 2 and "cut off" in faults[0] and "was not found" in faults[1]
    weights.unlink()
    assert any("not beside its yaml" in fault for fault in look(folder).faults)
    assert "no SongBloom model" in look(tmp_path / "absent").faults[0]


def test_too_little_memory_is_a_problem(tiny_songbloom_folder: Path) -> None:
    assert "not enough memory" in look(tiny_songbloom_folder, free=1000).faults[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_catalogue_tells_what_the_yaml_tells(dtype: torch.dtype) -> None:
    """Weights as published; the caches of a song of 160 s, two rows of 5100 positions in 36 layers."""
    entry = catalog.find_entry("songbloom_full_150s")
    assert entry is not None
    gpu = torch.device("cuda")
    needs = needs_of_sizes(entry.sizes, entry.max_seconds, dtype=dtype, device=gpu)
    assert catalog.needs_of(entry, dtype, gpu) == needs
    config = read_config(GOLDEN / "songbloom_full_150s.yaml")
    assert needs == needs_of(config, OobleckConfig(), config.max_blocks, dtype, is_int8=False, device=gpu)
    assert needs.composer == dtype.itemsize * 1_872_372_929
    assert needs.slot == dtype.itemsize * 2 * 36 * 5100 * 2 * 1536
    assert needs.seconds == 160.0
