"""Memory, planned before anything is loaded: what a run needs, what there is, and what stays loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

GB = 10**9
USABLE = 0.92
"""Part of the free memory that a plan may use; the rest is for what it does not count."""

Residency = Literal["full", "low"]
RESIDENCIES: tuple[Residency, ...] = ("full", "low")
MODES = ("auto", *RESIDENCIES)


@dataclass(frozen=True)
class Needs:
    """Bytes that each part of a run takes.

    Args:
        composer, renderer: weights of the language model and of the codec.
        slot: cache of one song in the batch.
        render_work: working memory of rendering one song.
    """

    composer: int
    renderer: int
    slot: int
    render_work: int

    def full(self, batch: int) -> int:
        """Everything loaded at once."""
        return self.composer + self.renderer + batch * (self.slot + self.render_work)

    def low(self, batch: int) -> int:
        """The larger of the two stages alone."""
        return max(self.composer + batch * self.slot, self.renderer + batch * self.render_work)


@dataclass(frozen=True)
class MemoryPlan:
    """How a run will use memory; `low` loads the composer and the renderer in turn."""

    residency: Residency
    batch: int
    needed: int
    free: int

    def sentence(self) -> str:
        """The plan in one line."""
        return (
            f"memory={self.residency}: about {self.needed / GB:.1f} GB for {self.batch} at once, "
            f"{self.free / GB:.1f} GB free"
        )


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; of a CPU what the system says is available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_memory(needs: Needs, *, mode: str, batch: int | None, free: int, largest_batch: int) -> MemoryPlan:
    """Choose what stays loaded and how many songs are made at once.

    Args:
        mode: `auto` keeps everything loaded if it fits, `full` and `low` are the user's word.
        batch: songs at once, or None for the most of 1, 2, 4, ... `largest_batch` that fit.
        free: bytes.

    Raises:
        ValueError: it cannot fit; says what is needed, what there is, and what could help.
    """
    if mode not in MODES:
        raise ValueError(f"memory is {mode!r}; it must be one of {', '.join(MODES)}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it must be 1 or more")
    powers = [1 << power for power in reversed(range(largest_batch.bit_length()))]
    batches = [batch] if batch is not None else powers
    residencies = [name for name in RESIDENCIES if mode in ("auto", name)]
    for residency in residencies:
        for size in batches:
            needed = needs.full(size) if residency == "full" else needs.low(size)
            if needed <= USABLE * free:
                return MemoryPlan(residency, size, needed, free)
    raise ValueError(_explain(needs, residencies[0], min(batches), free))


def _explain(needs: Needs, residency: Residency, batch: int, free: int) -> str:
    needed = needs.full(batch) if residency == "full" else needs.low(batch)
    parts = [
        f"not enough memory: about {needed / GB:.1f} GB needed for {batch} at once, {free / GB:.1f} GB free"
    ]
    if residency == "full":
        parts.append(f"with memory=low {needs.low(batch) / GB:.1f} GB would do")
    if batch > 1:
        parts.append(f"with memory=low batch=1 {needs.low(1) / GB:.1f} GB")
    parts.append("dtype=bf16 halves the weights and caches of fp32")
    return "; ".join(parts)
