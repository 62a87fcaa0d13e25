"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


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
