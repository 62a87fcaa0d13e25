"""The decoding loop: B songs at once in fixed slots, each slot refilled as its song ends.

Knows a language model of K delayed codebooks with guidance, not what its tokens mean. Everything about a song
is a row of a tensor allocated once; the step reads no other state and never waits for the device; the host
looks at the ended flags every `CHECK_EVERY` steps. A song's tokens do not depend on its neighbours, on the
slot or on the number of slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from songgen.nn.attention import window_of
from songgen.runtime.sampling import Sampling, SamplingRows, choose, guide, penalize, penalize_frequency

CHECK_EVERY = 25
"""Steps between two looks at the ended flags: one second of audio."""

SLOT_STEP = 2
"""Slots are allocated in multiples of this. On the CPU a matrix product of 4, 8, 12, ... rows gives each row
the same bits whatever the rows beside it; one of 2 rows (a lone song and its null row), and with several
threads one of 6 or 10, does not, and is hardly faster (`tools/measure_rows.py`)."""

T_ = TypeVar("T_")


class SlotModel(Protocol):
    """What the loop needs of a network holding B slots, two rows each (conditional, then null)."""

    prefix_length: int
    capacity: int

    def prefill(self, slot: int, conditions: object) -> None:
        """Write a song's prefix into a slot."""

    def step(self, ids_BK: Tensor, positions_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Feed one column per slot; returns conditional and null logits, `[B, K, V]` float32 each."""


@dataclass(frozen=True)
class Layout:
    """The ids and delays of a model's rows: EOS ends a row and is a logit, SPECIAL = EOS + 1 is not.

    `guides_log_probs`: whether guidance mixes log-probabilities instead of logits. That shifts all logits of
        a
    row alike and changes no distribution, but it decides rounding at the edge of top-k.
    """

    delays: tuple[int, ...]
    eos: int
    max_frames: int
    guides_log_probs: bool = False

    @property
    def special(self) -> int:
        """The id of an empty cell."""
        return self.eos + 1

    @property
    def num_columns(self) -> int:
        """Columns of the longest song."""
        return 1 + self.max_frames + max(self.delays)


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
    """A song's delayed columns `[K, S]`, cells after the end SPECIAL, and the wall time since it got its
    slot."""

    label: T_
    columns: Tensor
    num_frames: int
    seconds: float


def slots_for(batch: int) -> int:
    """Slots to allocate so that `batch` songs run at once."""
    return -(-batch // SLOT_STEP) * SLOT_STEP


def uniforms_of(seed: int, num_codebooks: int, num_columns: int) -> Tensor:
    """All uniform numbers of a song, float64 `[S, K]`: row s decides column s.

    Drawn column by column, so that a song's beginning does not depend on how long it may get.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_columns, num_codebooks, generator=generator, dtype=torch.float64)


class SlotDecoder(Generic[T_]):
    """Decodes a stream of tasks in a fixed number of slots.

    Args:
        model: the network, with `num_slots` slots of two rows.
        num_used: slots that get songs, the others idling; all unless told.
        on_progress: called every `CHECK_EVERY` steps per running song with its label and the fraction of its
            columns written.
        stop_early: end a song as soon as all frames before the first EOS of any row are written; the rest
            would be trimmed. False runs until every row has ended, as published (the trimmed tokens are the
            same).
        on_logits: called after each step with the logits that tokens are chosen from (tests).
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
        self._model, self._layout, self._num_slots = model, layout, num_slots
        self._num_used = num_slots if num_used is None else num_used
        self._device, self._on_progress = device, on_progress
        self._stop_early, self._on_logits = stop_early, on_logits
        self._running: list[_Running[T_] | None] = [None] * num_slots
        self._allocate()

    def _allocate(self) -> None:
        slots, columns = self._num_slots, self._layout.num_columns
        codebooks, device = len(self._layout.delays), self._device
        self._delays_K = torch.tensor(self._layout.delays, device=device)
        self._slots_B = torch.arange(slots, device=device)
        self._columns_BKS = torch.full((slots, codebooks, columns), self._layout.special, device=device)
        self._uniforms_BSK = torch.zeros((slots, columns, codebooks), dtype=torch.float64, device=device)
        self._banned_BV = torch.zeros((slots, self._layout.eos + 1), dtype=torch.bool, device=device)
        self._counts_BKV = torch.zeros((slots, codebooks, self._layout.eos + 1), device=device)
        self._column_B = torch.zeros(slots, dtype=torch.int64, device=device)
        self._num_frames_B = torch.zeros(slots, dtype=torch.int64, device=device)
        self._has_ended_BK = torch.ones((slots, codebooks), dtype=torch.bool, device=device)
        self._first_eos_B = torch.zeros(slots, dtype=torch.int64, device=device)
        self._is_done_B = torch.ones(slots, dtype=torch.bool, device=device)
        self._rows = SamplingRows.of([Sampling()] * slots, device)

    def run(self, tasks: Iterator[Task[T_]]) -> Iterator[Decoded[T_]]:
        """Decode all tasks; results come in the order the songs end."""
        while True:
            self._refill(tasks)
            if not any(self._running):
                return
            for _ in range(CHECK_EVERY):
                self._step()
            yield from self._collect()

    def _refill(self, tasks: Iterator[Task[T_]]) -> None:
        """Give every free slot the next task."""
        placed = False
        for slot in range(self._num_used):
            if self._running[slot] is None and (task := next(tasks, None)) is not None:
                self._place(slot, task)
                placed = True
        if placed:
            settings = [run.task.sampling if run else Sampling(window=0) for run in self._running]
            self._rows = SamplingRows.of(settings, self._device)

    def _place(self, slot: int, task: Task[T_]) -> None:
        """Reset a slot for a task and write its prefix."""
        if not 1 <= task.num_frames <= self._layout.max_frames:
            raise ValueError(
                f"a song of {task.num_frames} frames; the model takes 1 ... {self._layout.max_frames}"
            )
        started = time.perf_counter()
        self._model.prefill(slot, task.conditions)
        num_columns = 1 + task.num_frames + max(self._layout.delays)
        self._columns_BKS[slot] = self._layout.special
        self._uniforms_BSK[slot, :num_columns] = uniforms_of(task.seed, len(self._delays_K), num_columns).to(
            self._device
        )
        self._counts_BKV[slot] = 0
        self._banned_BV[slot] = False
        self._banned_BV[slot, task.banned.to(self._device)] = True
        self._column_B[slot] = 0
        self._num_frames_B[slot] = task.num_frames
        self._has_ended_BK[slot] = False
        self._first_eos_B[slot] = task.num_frames
        self._is_done_B[slot] = False
        self._running[slot] = _Running(task, num_columns, started)

    def _window(self) -> int:
        """Cache positions that the longest running song has written after this step."""
        longest = max(run.steps for run in self._running if run)
        return window_of(self._model.prefix_length + longest + 1, self._model.capacity)

    def _step(self) -> None:
        """Feed the last column of every slot and write the next one."""
        column_B = self._column_B
        ids_BK = self._columns_BKS[self._slots_B, :, column_B]
        conditional, null = self._model.step(ids_BK, self._model.prefix_length + column_B, self._window())
        if self._layout.guides_log_probs:
            conditional, null = conditional.log_softmax(-1), null.log_softmax(-1)
        logits_BKV = guide(conditional, null, self._rows.cfg_coef)
        if self._rows.longest_window > 0:
            logits_BKV = penalize(logits_BKV, self._recent(), self._rows.penalty)
        if self._rows.has_frequency_penalty:
            logits_BKV = penalize_frequency(logits_BKV, self._counts_BKV, self._rows.frequency_penalty)
        logits_BKV[:, 0].masked_fill_(self._banned_BV, float("-inf"))
        if self._on_logits is not None:
            self._on_logits(logits_BKV)
        tokens_BK = choose(logits_BKV, self._uniforms_BSK[self._slots_B, column_B], self._rows)
        self._write(tokens_BK)
        for run in self._running:
            if run:
                run.steps = min(run.steps + 1, run.num_columns - 1)

    def _recent(self) -> Tensor:
        """The columns that the repetition penalty looks at, `[B, K, W]`; SPECIAL where there is none."""
        back_W = torch.arange(self._rows.longest_window, device=self._device)
        places_BW = self._column_B[:, None] - back_W
        recent_BKW = self._columns_BKS.gather(
            2, places_BW.clamp(min=0)[:, None].expand(-1, len(self._delays_K), -1)
        )
        is_seen_BW = (places_BW > 0) & (back_W < self._rows.window[:, None])
        return torch.where(is_seen_BW[:, None], recent_BKW, self._layout.special)

    def _write(self, tokens_BK: Tensor) -> None:
        """Write the next column of the songs that still run, and mark what has ended."""
        layout, next_B = self._layout, self._column_B + 1
        frames_BK = next_B[:, None] - 1 - self._delays_K
        is_frame = (frames_BK >= 0) & (frames_BK < self._num_frames_B[:, None]) & ~self._has_ended_BK
        tokens_BK = torch.where(is_frame, tokens_BK, layout.special)
        is_eos = tokens_BK == layout.eos
        ends_B = torch.where(is_eos, frames_BK, layout.max_frames).amin(1)
        runs_B = ~self._is_done_B
        place_B = next_B.clamp(max=layout.num_columns - 1)
        kept_BK = self._columns_BKS[self._slots_B, :, place_B]
        self._columns_BKS[self._slots_B, :, place_B] = torch.where(runs_B[:, None], tokens_BK, kept_BK)
        is_code_BK = (tokens_BK < layout.eos) & runs_B[:, None]
        places_BK1 = tokens_BK.clamp(max=layout.eos).unsqueeze(-1)
        self._counts_BKV.scatter_add_(2, places_BK1, is_code_BK.unsqueeze(-1).float())
        self._has_ended_BK |= is_eos & runs_B[:, None]
        self._first_eos_B = torch.where(runs_B, torch.minimum(self._first_eos_B, ends_B), self._first_eos_B)
        last_B = self._num_frames_B + max(layout.delays)
        is_over_B = self._has_ended_BK.all(1) | (next_B >= last_B)
        if self._stop_early:
            is_over_B |= next_B >= self._first_eos_B + max(layout.delays)
        self._column_B = torch.where(runs_B, next_B, self._column_B)
        self._is_done_B |= is_over_B

    def _collect(self) -> Iterator[Decoded[T_]]:
        """Free the slots whose songs have ended; the only place where the host waits for the device."""
        is_done: Sequence[bool] = self._is_done_B.tolist()
        for slot, run in enumerate(self._running):
            if run is None:
                continue
            if self._on_progress is not None:
                self._on_progress(run.task.label, 1.0 if is_done[slot] else run.steps / (run.num_columns - 1))
            if is_done[slot]:
                columns = self._columns_BKS[slot, :, : run.num_columns].to("cpu", copy=True)
                self._running[slot] = None
                yield Decoded(run.task.label, columns, run.task.num_frames, time.perf_counter() - run.started)


@dataclass
class _Running(Generic[T_]):
    """A slot's song, as far as the host knows it."""

    task: Task[T_]
    num_columns: int
    started: float
    steps: int = 0
