"""The memory plan, and telling when memory ran out."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
import torch

from songgen.runtime.memory import GB, Needs, free_bytes, is_out_of_memory, plan_memory, slot_step

NEEDS = Needs(composer=10 * GB, renderer=6 * GB, slot=2 * GB, render_work=1 * GB)
LAYERED = replace(NEEDS, layer=GB // 4, num_layers=36, compose_work=GB // 2, seconds=90.0)


@pytest.mark.parametrize(
    ("free", "residency", "batch"),
    [(100, "full", 8), (32, "full", 4), (28, "full", 3), (22, "full", 1), (20, "low", 4), (14, "low", 1)],
)
def test_auto_takes_the_largest_batch_that_fits_loaded_at_once(free: int, residency: str, batch: int) -> None:
    plan = plan_memory(NEEDS, mode="auto", batch=None, free=free * GB, largest_batch=8)
    assert (plan.residency, plan.batch, plan.resident_layers) == (residency, batch, None)
    assert plan.needed <= free * GB


def test_the_users_word_is_kept_and_the_plan_names_its_parts() -> None:
    plan = plan_memory(NEEDS, mode="low", batch=2, free=100 * GB, largest_batch=8)
    assert (plan.residency, plan.batch, plan.needed) == ("low", 2, 14 * GB)
    assert plan.sentence() == (
        "memory=low: about 14.0 GB of 100.0 GB free "
        "(language model 10.0, its work 0.0, caches 4.0 for 2 songs, then codec 6.0, its work 2.0)"
    )
    full = plan_memory(LAYERED, mode="full", batch=1, free=100 * GB, largest_batch=8)
    assert full.needed == 19 * GB  # the stages work in turn: their working memory is not added up
    assert full.sentence() == (
        "memory=full: about 19.0 GB of 100.0 GB free (language model 10.0, its work 0.5, "
        "caches 2.0 for 1 song of up to 90 s, and codec 6.0, its work 1.0)"
    )
    assert full.with_batch(3).needed == 25 * GB


def test_slots_come_in_pairs_on_the_cpu() -> None:
    """A batch of one allocates two slots there, and three songs four."""
    assert (slot_step(torch.device("cpu")), slot_step(torch.device("cuda"))) == (2, 1)
    paired = replace(NEEDS, slot_step=2)
    assert [paired.caches(batch) for batch in (1, 2, 3)] == [4 * GB, 4 * GB, 8 * GB]
    assert [NEEDS.caches(batch) for batch in (1, 2, 3)] == [2 * GB, 4 * GB, 6 * GB]


@pytest.mark.parametrize(("mode", "batch"), [("auto", None), ("low", None), ("low", 1)])
def test_layers_that_do_not_fit_are_streamed_as_few_as_will_do(mode: str, batch: int | None) -> None:
    plan = plan_memory(LAYERED, mode=mode, batch=batch, free=12 * GB, largest_batch=8)
    # 12.5 GB in one piece, 11.04 to be had: six layers must go, and two buffers come
    assert (plan.residency, plan.batch, plan.resident_layers, plan.streamed_layers) == ("low", 1, 28, 8)
    assert plan.needed == 11 * GB
    assert plan.sentence().endswith("; 8 of 36 layers are streamed from CPU memory")
    assert plan.with_batch(1) == plan


def test_a_batch_that_the_user_wants_is_made_to_fit_by_streaming() -> None:
    plan = plan_memory(LAYERED, mode="low", batch=4, free=18 * GB, largest_batch=8)
    assert (plan.batch, plan.streamed_layers) == (4, 10)
    resident = plan_memory(LAYERED, mode="low", batch=None, free=18 * GB, largest_batch=8)
    assert (resident.batch, resident.streamed_layers) == (3, 0)  # auto makes fewer at once instead


@pytest.mark.parametrize("free", [3, 7])
def test_streaming_cannot_make_everything_fit(free: int) -> None:
    """Neither caches nor the renderer can be streamed."""
    with pytest.raises(ValueError, match=r"about 7\.0 GB needed with memory=low"):
        plan_memory(LAYERED, mode="auto", batch=None, free=free * GB, largest_batch=8)


def test_what_cannot_fit_says_so_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"about 28\.0 GB needed with memory=full, 5\.0 GB free") as caught:
        plan_memory(NEEDS, mode="full", batch=4, free=5 * GB, largest_batch=8)
    assert "caches 8.0 for 4 songs" in str(caught.value)
    assert "with memory=low 18.0 GB would do; with memory=low batch=1 12.0 GB" in str(caught.value)
    assert "shorter songs (max_seconds) and kv_cache=int8" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "batch", "message"), [("half", 1, "memory is 'half'"), ("auto", 0, "batch is 0")]
)
def test_wrong_settings_are_refused(mode: str, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_memory(NEEDS, mode=mode, batch=batch, free=GB, largest_batch=8)


def test_free_memory_of_the_cpu_is_known() -> None:
    assert free_bytes(torch.device("cpu")) > 0


def test_memory_that_ran_out_is_known_by_its_errors() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOENT, "No such file or directory"))
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    assert not is_out_of_memory(RuntimeError("boom")) and not is_out_of_memory(
        ValueError("not enough memory")
    )
