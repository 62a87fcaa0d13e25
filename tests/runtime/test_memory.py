"""The memory plan."""

from __future__ import annotations

import pytest
import torch

from songgen.runtime.memory import GB, Needs, free_bytes, plan_memory

NEEDS = Needs(composer=10 * GB, renderer=6 * GB, slot=2 * GB, render_work=1 * GB)


@pytest.mark.parametrize(
    ("free", "residency", "batch"),
    [(100, "full", 8), (32, "full", 4), (22, "full", 1), (20, "low", 4), (14, "low", 1)],
)
def test_auto_takes_the_largest_batch_that_fits_loaded_at_once(free: int, residency: str, batch: int) -> None:
    plan = plan_memory(NEEDS, mode="auto", batch=None, free=free * GB, largest_batch=8)
    assert (plan.residency, plan.batch) == (residency, batch)
    assert plan.needed <= free * GB


def test_the_users_word_is_kept() -> None:
    plan = plan_memory(NEEDS, mode="low", batch=2, free=100 * GB, largest_batch=8)
    assert (plan.residency, plan.batch, plan.needed) == ("low", 2, 14 * GB)
    assert plan.sentence() == "memory=low: about 14.0 GB for 2 at once, 100.0 GB free"


def test_what_cannot_fit_says_so_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"about 28\.0 GB needed for 4 at once, 5\.0 GB free") as caught:
        plan_memory(NEEDS, mode="full", batch=4, free=5 * GB, largest_batch=8)
    assert "with memory=low 18.0 GB would do; with memory=low batch=1 12.0 GB" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "batch", "message"), [("half", 1, "memory is 'half'"), ("auto", 0, "batch is 0")]
)
def test_wrong_settings_are_refused(mode: str, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_memory(NEEDS, mode=mode, batch=batch, free=GB, largest_batch=8)


def test_free_memory_of_the_cpu_is_known() -> None:
    assert free_bytes(torch.device("cpu")) > 0
