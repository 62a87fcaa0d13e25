"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from songgen.models.levo.model import LevoModel
    from songgen.models.songbloom.model import SongBloomModel

REPOSITORY = Path(__file__).resolve().parents[1]

if not torch.cuda.is_available():  # Triton decides when it is imported whether to compile or to interpret
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU say so where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One torch thread: two on a busy two-core machine are up to a hundred times slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def parity_root() -> Path:
    """The folder of recorded cases beside the checkout; tests that need it are skipped where it is absent."""
    root = REPOSITORY.parent / "shared" / "parity"
    if not root.is_dir():
        pytest.skip("needs the recorded cases in ../shared/parity")
    return root


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in tiny checkpoint, made once for all tests. Do not change it: copy it."""
    from songgen.models.levo.tiny import ensure_tiny

    return ensure_tiny(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LevoModel:
    """The tiny model on the CPU in float32, one song at a time."""
    from songgen.models.levo.loading import load

    return load(tiny_folder, device="cpu", dtype="fp32", memory="full")


@pytest.fixture(scope="session")
def tiny_songbloom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in tiny SongBloom checkpoint, made once for all tests. Do not change it: copy it."""
    from songgen.models.songbloom.tiny import ensure_tiny

    return ensure_tiny(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_songbloom(tiny_songbloom_folder: Path) -> SongBloomModel:
    """The tiny SongBloom model on the CPU in float32, one song at a time."""
    from songgen.models.songbloom.loading import load

    return load(tiny_songbloom_folder, device="cpu", dtype="fp32", memory="full")
