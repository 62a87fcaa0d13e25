"""Memory, planned before anything is loaded: what a run needs, what there is, and what stays loaded.

Knows two stages, the language model and the renderer, and their numbers of bytes; not what is in them.
"""

from __future__ import annotations

import errno
import logging
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

logger = logging.getLogger(__name__)

GB = 10**9
USABLE = 0.92
"""Part of the free memory that a plan may use; the rest is for what it does not count."""

CUDA_CONTEXT = GB // 2
"""Bytes that a process takes of a GPU before its first tensor; a simulated smaller card has them too."""

STREAM_BUFFERS = 2
"""Layers' worth of device memory that streamed layers pass through (`runtime/offload.py`)."""

Residency = Literal["full", "low"]
RESIDENCIES: tuple[Residency, ...] = ("full", "low")
MODES = ("auto", *RESIDENCIES)

CPU_OUT_OF_MEMORY = ("defaultcpuallocator", "not enough memory", "can't allocate memory")
CUDA_OUT_OF_MEMORY = ("cuda error: out of memory", "status_alloc_failed", "mps backend out of memory")


def slot_step(device: torch.device) -> int:
    """Slots are allocated in multiples of this.

    On the CPU a matrix product of 4, 8, 12, ... rows gives each row the same bits whatever the rows beside
    it; one of 2 rows (a lone song and its null row), and with several threads one of 6 or 10, does not, and
    is hardly faster (`tools/measure_rows.py`). On other devices a slot more is only a slower step.
    """
    return 2 if device.type == "cpu" else 1


@dataclass(frozen=True)
class Needs:
    """Bytes on the device that each part of a run takes.

    Args:
        composer, renderer: weights of the language model and of the codec.
        slot: cache of one song in the batch.
        render_work: working memory of rendering that grows with the songs at once.
        render_base: working memory of rendering that does not.
        compose_work: working memory of composing.
        slot_step: slots are allocated in multiples of this.
        layer: one layer of the language model, 0 if its layers cannot be streamed from CPU memory.
        num_layers: layers of the language model.
        seconds: longest song that the caches hold, 0 if unknown.
    """

    composer: int
    renderer: int
    slot: int
    render_work: int
    render_base: int = 0
    compose_work: int = 0
    slot_step: int = 1
    layer: int = 0
    num_layers: int = 0
    seconds: float = 0.0

    def caches(self, batch: int) -> int:
        """Caches of the slots that `batch` songs at once get."""
        return -(-batch // self.slot_step) * self.slot_step * self.slot

    def weights(self, streamed: int = 0) -> int:
        """Weights of the language model on the device when so many of its layers are streamed."""
        return self.composer - max(0, streamed - STREAM_BUFFERS) * self.layer

    def compose(self, batch: int, streamed: int = 0) -> int:
        """The first stage alone."""
        return self.weights(streamed) + self.caches(batch) + self.compose_work

    def render(self, batch: int) -> int:
        """The second stage alone."""
        return self.renderer + self.render_working(batch)

    def render_working(self, batch: int) -> int:
        """Working memory of the second stage."""
        return self.render_base + batch * self.render_work

    def full(self, batch: int) -> int:
        """Everything loaded at once; the stages work in turn."""
        weights = self.composer + self.renderer
        return weights + self.caches(batch) + max(self.compose_work, self.render_working(batch))

    def low(self, batch: int, streamed: int = 0) -> int:
        """The larger of the two stages alone."""
        return max(self.compose(batch, streamed), self.render(batch))

    def of(self, residency: Residency, batch: int, streamed: int = 0) -> int:
        """Bytes of a way to run."""
        return self.full(batch) if residency == "full" else self.low(batch, streamed)

    def streamed_to_fit(self, batch: int, room: int) -> int | None:
        """The fewest layers to stream so that `room` bytes are enough; None if no number of them is."""
        excess = self.compose(batch) - room
        if excess <= 0:
            return 0 if self.render(batch) <= room else None
        streamed = STREAM_BUFFERS - (-excess // self.layer) if self.layer else self.num_layers + 1
        return streamed if streamed <= self.num_layers and self.low(batch, streamed) <= room else None

    def parts(self, residency: Residency, batch: int, streamed: int = 0) -> str:
        """What the bytes are for, in words."""
        of_length = f" of up to {self.seconds:g} s" if self.seconds else ""
        songs = f"{batch} song{'s' if batch > 1 else ''}{of_length}"
        composing = (
            f"language model {_gb(self.weights(streamed))}, its work {_gb(self.compose_work)}, "
            f"caches {_gb(self.caches(batch))} for {songs}"
        )
        joint = "and" if residency == "full" else "then"
        return f"{composing}, {joint} codec {_gb(self.renderer)}, its work {_gb(self.render_working(batch))}"


@dataclass(frozen=True)
class MemoryPlan:
    """How a run will use memory.

    Args:
        residency: `full` keeps everything loaded, `low` loads the composer and the renderer in turn.
        batch: songs at once.
        needed, free: bytes.
        needs: what the bytes are for.
        resident_layers: layers of the language model that stay on the device, the others being streamed from
            CPU memory at every step; None if all stay.
    """

    residency: Residency
    batch: int
    needed: int
    free: int
    needs: Needs
    resident_layers: int | None = None

    @property
    def streamed_layers(self) -> int:
        """Layers that are streamed."""
        return 0 if self.resident_layers is None else self.needs.num_layers - self.resident_layers

    def with_batch(self, batch: int) -> MemoryPlan:
        """The same plan for another number of songs at once."""
        needed = self.needs.of(self.residency, batch, self.streamed_layers)
        return replace(self, batch=batch, needed=needed)

    def sentence(self) -> str:
        """The plan in one line."""
        parts = self.needs.parts(self.residency, self.batch, self.streamed_layers)
        streamed = f"; {self.streamed_layers} of {self.needs.num_layers} layers are streamed from CPU memory"
        return (
            f"memory={self.residency}: about {_gb(self.needed)} GB of {_gb(self.free)} GB free ({parts})"
            f"{streamed if self.streamed_layers else ''}"
        )


def free_bytes(device: torch.device, limit: int | None = None) -> int:
    """Free memory of a device; of a CPU what the system says is available.

    Args:
        limit: bytes of a CUDA device that this process shall use in all.
    """
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        held = int(torch.cuda.memory_reserved(device)) + CUDA_CONTEXT
        return free if limit is None else max(0, min(free, limit - held))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limit_memory(device: torch.device, limit: int) -> None:
    """Have this process take at most `limit` bytes of a CUDA device, its CUDA context included.

    Raises:
        ValueError: nothing would be left beside the context.
    """
    total = torch.cuda.get_device_properties(device).total_memory
    if limit <= CUDA_CONTEXT:
        raise ValueError(
            f"gpu_memory is {_gb(limit)} GB, but a process takes about {_gb(CUDA_CONTEXT)} GB of a GPU "
            "before its first tensor"
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, (limit - CUDA_CONTEXT) / total), device)


def free_to_plan(device: torch.device, gpu_memory: int | None) -> int:
    """Bytes to plan with, those of a simulated smaller card where the user names one.

    Raises:
        ValueError: it is too small for anything.
    """
    if gpu_memory is None:
        return free_bytes(device)
    if device.type != "cuda":
        logger.warning("gpu_memory=%g GB has no effect: this runs on %s", gpu_memory / GB, device)
        return free_bytes(device)
    limit_memory(device, gpu_memory)
    return free_bytes(device, gpu_memory)


def plan_memory(needs: Needs, *, mode: str, batch: int | None, free: int, largest_batch: int) -> MemoryPlan:
    """Choose what stays loaded and how many songs are made at once.

    Args:
        mode: `auto` keeps everything loaded if it fits, `full` and `low` are the user's word.
        batch: songs at once, or None for the most of 1 ... `largest_batch` that fit.
        free: bytes.

    Raises:
        ValueError: it cannot fit; says what is needed, what there is, and what could help.
    """
    if mode not in MODES:
        raise ValueError(f"memory is {mode!r}; it must be one of {', '.join(MODES)}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it must be 1 or more")
    batches = [batch] if batch is not None else list(range(largest_batch, 0, -1))
    residencies = [name for name in RESIDENCIES if mode in ("auto", name)]
    room = int(USABLE * free)
    for residency in residencies:
        for size in batches:
            needed = needs.of(residency, size)
            if needed <= room:
                return MemoryPlan(residency, size, needed, free, needs)
    streamed = needs.streamed_to_fit(batches[-1], room) if "low" in residencies else None
    if streamed is not None:
        needed = needs.low(batches[-1], streamed)
        return MemoryPlan("low", batches[-1], needed, free, needs, needs.num_layers - streamed)
    raise ValueError(_explain(needs, residencies, batches, free))


def _explain(needs: Needs, residencies: Sequence[Residency], batches: Sequence[int], free: int) -> str:
    """Why it cannot fit, and what would need less."""
    batch, residency = batches[-1], residencies[-1]
    least = needs.num_layers if needs.layer else 0
    needed = needs.of(residency, batch, least)
    said = [
        f"not enough memory: about {_gb(needed)} GB needed with memory={residency}, {_gb(free)} GB free, of "
        f"which {USABLE:.0%} can be planned with ({needs.parts(residency, batch, least)})"
    ]
    if residency == "full":
        said.append(f"with memory=low {_gb(needs.low(batch, least))} GB would do")
    if batch > 1:
        said.append(f"with memory=low batch=1 {_gb(needs.low(1, least))} GB")
    said.append("shorter songs (max_seconds) and kv_cache=int8 have smaller caches")
    said.append("dtype=bf16 halves the weights and caches of fp32")
    return "; ".join(said)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in (*CPU_OUT_OF_MEMORY, *CUDA_OUT_OF_MEMORY)
    )


def free_frames(error: BaseException) -> None:
    """Let go of what the functions that an error passed through held: tensors, where memory ran out.

    A log handler, say, may keep the error for longer.
    """
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__


def _gb(size: float) -> str:
    return f"{size / GB:.1f}"
