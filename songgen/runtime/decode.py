"""The decoding loop: B songs at once in fixed slots, each slot refilled as its song ends.

Knows a language model of K delayed codebooks with guidance, not what its tokens mean. The host looks at the
ended flags every `CHECK_EVERY` steps; in between it only starts steps. A song's tokens do not depend on its
neighbours, on the slot or, on the CPU, on the number of slots: whatever is decided between the steps is
decided by the song's own column.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from songgen.nn.attention import window_of
from songgen.runtime.cuda_graph import StepGraph
from songgen.runtime.memory import slot_step
from songgen.runtime.sampling import Sampling
from songgen.runtime.slots import Layout, SlotState

CHECK_EVERY = 25
"""Steps between two looks at the ended flags: one second of audio."""

T_ = TypeVar("T_")


@dataclass(frozen=True)
class RunningSlot:
    """A song on its way, as far as the host knows it.

    Args:
        column: the last column written, which the next step feeds; a multiple of `CHECK_EVERY` unless the
            model moved the slot on.
        end: the column with which the song ends unless a codebook ends before.
        first_is_over: whether codebook 0 writes no more frames: all its columns up to the end are known.
        columns_KS: the columns, SPECIAL where nothing is written.
    """

    slot: int
    column: int
    end: int
    first_is_over: bool
    columns_KS: Tensor


class SlotModel(Protocol):
    """What the loop needs of a network holding B slots, two rows each (conditional, then null).

    Args:
        window_step: the cache is read in windows of a multiple of this; None if the model needs no window.
        captures: whether a step may be captured as a graph.
    """

    prefix_length: int
    capacity: int
    window_step: int | None
    captures: bool

    @property
    def variant(self) -> Hashable:
        """All that decides what `step` does besides its arguments and tensors."""

    def prefill(self, slot: int, conditions: object) -> None:
        """Write a song's prefix into a slot."""

    def arrange(self, slots: Sequence[RunningSlot]) -> Mapping[int, int]:
        """Called between the steps with the running slots; returns slots to go on at a later column.

        Columns in between must be known: they stay SPECIAL.
        """

    def step(self, ids_BK: Tensor, column_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Feed one column per slot; returns conditional and null logits, `[B, K, V]` float32 each.

        Logits of a codebook that writes no frame in the next column may be anything finite.
        """

    def tensors(self) -> list[Tensor]:
        """The static tensors that `step` reads and writes."""


@dataclass(frozen=True)
class Task(Generic[T_]):
    """One song to decode.

    Args:
        label: handed back with the result.
        conditions: handed to `SlotModel.prefill`.
        banned: ids `[n]` that codebook 0 must never take.
        num_frames: T, the longest it may get, at most `Layout.max_frames`.
        seed: of its uniform numbers.
    """

    label: T_
    conditions: object
    banned: Tensor
    num_frames: int
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Decoded(Generic[T_]):
    """A song as it was decoded.

    Args:
        columns: delayed, `[K, S]`; cells after the end are SPECIAL.
        seconds: wall time since it got its slot.
        log_probs: natural log-probability of each code of the columns, `[2, K, S]`: with the condition, and
            without.
    """

    label: T_
    columns: Tensor
    num_frames: int
    seconds: float
    log_probs: Tensor


def slots_for(batch: int, device: torch.device) -> int:
    """Slots to allocate so that `batch` songs run at once."""
    step = slot_step(device)
    return -(-batch // step) * step


class SlotDecoder(Generic[T_]):
    """Decodes a stream of tasks in a fixed number of slots.

    Args:
        model: the network, with `num_slots` slots of two rows.
        num_used: slots that get songs, the others idling; all unless told.
        on_progress: called every `CHECK_EVERY` steps per running song with its label and the fraction of its
            columns written.
        stop_early: end a song as soon as all frames before the first EOS of any row are written; the rest
            would be trimmed. False runs until every row has ended and never calls `SlotModel.arrange`, as
            published (the trimmed tokens are the same).
        on_logits: called after each step with the logits that tokens are chosen from (tests); such a decoder
            captures no graphs.
    """

    def __init__(
        self,
        model: SlotModel,
        layout: Layout,
        num_slots: int,
        *,
        num_used: int | None = None,
        device: torch.device,
        on_progress: Callable[[T_, float], None] | None = None,
        stop_early: bool = True,
        on_logits: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._model, self._layout = model, layout
        self._num_used = num_slots if num_used is None else num_used
        self.on_progress = on_progress
        self._stop_early, self._on_logits = stop_early, on_logits
        self._running: list[_Running[T_] | None] = [None] * num_slots
        self._state = SlotState(layout, num_slots, device, stop_early=stop_early)
        self._window = 0
        self._graph = StepGraph(
            self._advance,
            device,
            lambda: [*self._state.tensors(), *model.tensors()],
            is_captured=model.captures and on_logits is None,
        )
        self.num_steps = 0

    def run(self, tasks: Iterator[Task[T_]]) -> Iterator[Decoded[T_]]:
        """Decode all tasks; results come in the order the songs end.

        What a run that was broken off left in the slots is dropped.
        """
        self._running = [None] * len(self._running)
        self._state.stop_()
        while self.begin(tasks):
            for _ in range(CHECK_EVERY):
                self.step()
            yield from self._collect()

    def begin(self, tasks: Iterator[Task[T_]]) -> bool:
        """Fill the free slots and prepare for the next steps; False if no slot has a song."""
        self._refill(tasks)
        if self._stop_early and any(self._running):
            self._arrange()
        return any(self._running)

    def _refill(self, tasks: Iterator[Task[T_]]) -> None:
        """Give every free slot the next task."""
        placed = False
        for slot in range(self._num_used):
            if self._running[slot] is None and (task := next(tasks, None)) is not None:
                self._place(slot, task)
                placed = True
        if placed:
            settings = [run.task.sampling if run else Sampling(window=0) for run in self._running]
            self._state.rows = self._state.rows.updated_(settings)

    def _place(self, slot: int, task: Task[T_]) -> None:
        """Reset a slot for a task and write its prefix."""
        if not 1 <= task.num_frames <= self._layout.max_frames:
            raise ValueError(
                f"a song of {task.num_frames} frames; the model takes 1 ... {self._layout.max_frames}"
            )
        started = time.perf_counter()
        self._model.prefill(slot, task.conditions)
        self._state.place_(slot, num_frames=task.num_frames, seed=task.seed, banned=task.banned)
        self._running[slot] = _Running(task, task.num_frames + self._layout.max_delay, started)

    def _arrange(self) -> None:
        """Let the model look at the running slots, and move those on whose next columns are known."""
        slots = [
            RunningSlot(slot, run.column, run.end, run.first_is_over, self._state.columns_BKS[slot])
            for slot, run in enumerate(self._running)
            if run
        ]
        for slot, column in self._model.arrange(slots).items():
            run = self._running[slot]
            assert run is not None and run.column <= column <= run.last
            run.column = column
            self._state.column_B[slot] = column

    def step(self) -> None:
        """Feed the last column of every slot and write the next one."""
        model, rows = self._model, self._state.rows
        running = [run for run in self._running if run]
        self._window = model.capacity
        if model.window_step is not None:
            length = model.prefix_length + max(run.column for run in running) + 1
            self._window = window_of(length, model.capacity, model.window_step)
        traits = (rows.longest_window, rows.has_nucleus, rows.has_frequency_penalty)
        self._graph((self._window, model.variant, traits))
        self.num_steps += 1
        for run in running:
            run.column = min(run.column + 1, run.last)

    def _advance(self) -> None:
        """A step on the static tensors."""
        state = self._state
        conditional_BKV, null_BKV = self._model.step(state.inputs(), state.column_B, self._window)
        logits_BKV = state.guided_(conditional_BKV, null_BKV)
        if self._on_logits is not None:
            self._on_logits(logits_BKV)
        state.write_(logits_BKV, conditional_BKV, null_BKV)

    def _collect(self) -> Iterator[Decoded[T_]]:
        """Free the slots whose songs have ended."""
        flags = self._state.flags()
        for slot, run in enumerate(self._running):
            if run is None:
                continue
            is_done, first_has_ended, first_eos = flags[slot]
            run.end = min(run.last, first_eos + self._layout.max_delay)
            run.first_is_over = bool(first_has_ended) or run.column >= run.task.num_frames
            if self.on_progress is not None:
                self.on_progress(run.task.label, 1.0 if is_done else run.column / run.last)
            if is_done:
                yield self._decoded(slot, run)

    def _decoded(self, slot: int, run: _Running[T_]) -> Decoded[T_]:
        """Take the song of a slot that is done out of it."""
        written, state = slice(run.last + 1), self._state
        columns = state.columns_BKS[slot, :, written].to("cpu", copy=True)
        log_probs = state.log_probs_B2KS[slot, :, :, written].to("cpu", copy=True)
        self._running[slot] = None
        seconds = time.perf_counter() - run.started
        return Decoded(run.task.label, columns, run.task.num_frames, seconds, log_probs)


class _Running(Generic[T_]):
    """A slot's song, as far as the host knows it."""

    def __init__(self, task: Task[T_], last: int, started: float) -> None:
        self.task = task
        self.last = self.end = last
        self.started = started
        self.column = 0
        self.first_is_over = False
