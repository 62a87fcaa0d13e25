"""LeLM in the slots of the decoding loop.

Slot b holds rows 2b (conditional) and 2b + 1 (null) of the caches. Transformer 1 needs only codebook 0, and
transformer 2 writes nothing before the largest delay, so a song has a **head**, in which transformer 1 alone
is stepped and its hidden states are kept, and, once codebook 0 has ended, a **tail**, in which transformer 2
alone is. What is left out is made up in one pass over many positions: transformer 2 over the head, when it
ends; transformer 1 over the tail, whose inputs are all known, when it begins. Both happen at columns that the
song alone decides, so a song's tokens do not depend on its neighbours. A transformer that no slot needs is
not run.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.lelm import LeLM
from songgen.nn.step_ops import TORCH_OPS, StepOps
from songgen.runtime.decode import CHECK_EVERY, RunningSlot
from songgen.runtime.slots import per_row


class LelmSlots:
    """LeLM with B slots; a `SlotModel` of `runtime/decode.py`.

    Args:
        num_slots: B.
        capacity: positions of a cache row, prefix included; for the model's longest song unless told.
        ops: the operations of a step.
        is_int8: whether keys and values are kept in 8 bits.
    """

    def __init__(
        self,
        lelm: LeLM,
        num_slots: int,
        *,
        capacity: int | None = None,
        ops: StepOps = TORCH_OPS,
        is_int8: bool = False,
    ) -> None:
        config, weight = lelm.config, lelm.stacks[0].norm.weight
        device = weight.device
        self._lelm, self._state = lelm, lelm.new_state(2 * num_slots, capacity, is_int8=is_int8, ops=ops)
        self.prefix_length = config.prefix_length
        self.capacity = self._state.caches[0].capacity
        self.window_step = ops.window_step
        self.captures = not any(getattr(stack.layers, "is_streamed", False) for stack in lelm.stacks)
        self._head = max(config.delays) // CHECK_EVERY * CHECK_EVERY if config.num_codebooks > 1 else 0
        self._null_prefixes: list[bytes | None] = [None] * num_slots
        self._in_head, self._in_tail = set[int](), set[int]()
        self._has_seen, self._running = set[int](), set(range(num_slots))
        rows, width = 2 * num_slots, config.width
        kept = max(config.delays) if config.num_codebooks > 1 else 0
        self._kept_BSD = torch.zeros(rows, kept, width, dtype=weight.dtype, device=device)
        self._kept_from_B = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self._is_headed_B, self._is_tailed_B, self._is_idle_B = (
            torch.zeros(num_slots, dtype=torch.bool, device=device) for _ in range(3)
        )
        self._rows_B = torch.arange(rows, device=device)
        stems = (num_slots, config.num_codebooks - 1, config.eos + 1)
        self._no_first_logits = torch.zeros(num_slots, 1, config.eos + 1, device=device)
        self._no_stem_logits = torch.zeros(stems, device=device)

    @property
    def variant(self) -> Hashable:
        """Which transformers run, and whether some slots are in their head or tail."""
        return (self._needs_first, self._needs_second, bool(self._in_head), bool(self._in_tail))

    @property
    def _needs_first(self) -> bool:
        return not self._in_tail or bool(self._running - self._in_tail)

    @property
    def _needs_second(self) -> bool:
        is_dual = self._lelm.config.num_codebooks > 1
        return is_dual and (not self._in_head or bool(self._running - self._in_head))

    def tensors(self) -> list[Tensor]:
        """The static tensors that `step` reads and writes."""
        own = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return own + self._state.tensors()

    def prefill(self, slot: int, conditions: object) -> None:
        """Write a song's prefix into a slot.

        Row by row, so that it is computed alike whether or not the null row, which songs share, is there
        already.
        """
        assert isinstance(conditions, LevoConditions)
        prefix, prefix_sub = self._lelm.condition_provider.prefix(conditions)

        def fill(row: int) -> None:
            of_row = slice(row, row + 1)
            sub = None if prefix_sub is None else prefix_sub[of_row]
            self._lelm.prefill(prefix[of_row], sub, self._state, 2 * slot + row)

        fill(0)
        key = conditions.null_key
        if key not in self._null_prefixes:
            self._null_prefixes[slot] = None
            fill(1)
        elif self._null_prefixes[slot] != key:
            source = self._null_prefixes.index(key)
            for cache in self._state.caches:
                cache.copy_row_(2 * source + 1, 2 * slot + 1, self.prefix_length)
        self._null_prefixes[slot] = key
        for known in (self._in_head, self._in_tail, self._has_seen):
            known.discard(slot)

    def arrange(self, slots: Sequence[RunningSlot]) -> Mapping[int, int]:
        """Begin and end heads and tails; a song whose codebook 0 ends within its head goes on behind it."""
        moved: dict[int, int] = {}
        for running in slots:
            slot = running.slot
            if slot not in self._has_seen:
                self._has_seen.add(slot)
                if self._head:
                    self._in_head.add(slot)
            has_tail = running.first_is_over and slot not in self._in_tail and self._kept_BSD.shape[1] > 0
            if slot in self._in_head and (has_tail or running.column >= self._head):
                hidden = self._kept_BSD[2 * slot : 2 * slot + 2, : running.column]
                if running.column < self._head:
                    moved[slot] = self._head
                    hidden = torch.cat([hidden, self._run_first(running, self._head)], dim=1)
                self._catch_up_second(running, hidden)
            if has_tail:
                self._run_ahead_first(running, moved.get(slot, running.column))
        self._mark({running.slot for running in slots})
        return moved

    def _run_first(self, running: RunningSlot, stop: int, start: int | None = None) -> Tensor:
        """Hidden states of transformer 1 over known columns, `[2, n, D]`."""
        start = running.column if start is None else start
        ids_S = running.columns_KS[0, start:stop].expand(2, -1)
        return self._lelm.stacks[0].prompt(
            self._lelm.emb[0](ids_S),
            self._state.ropes[0],
            self._state.caches[0],
            2 * running.slot,
            start=self.prefix_length + start,
        )

    def _catch_up_second(self, running: RunningSlot, hidden_BSD: Tensor) -> None:
        """Run transformer 2 over the columns of the head."""
        lelm, slot = self._lelm, running.slot
        ids_BKS = running.columns_KS[:, : hidden_BSD.shape[1]].expand(2, -1, -1)
        bridged = lelm.bridge(lelm.embed_stems(ids_BKS), hidden_BSD)
        assert bridged is not None
        lelm.stacks[1].prompt(
            bridged, self._state.ropes[1], self._state.caches[1], 2 * slot, start=self.prefix_length
        )
        self._in_head.discard(slot)

    def _run_ahead_first(self, running: RunningSlot, start: int) -> None:
        """Run transformer 1 over the columns from `start` to the song's end, and keep its hidden states."""
        slot = running.slot
        if start < running.end:
            hidden_BSD = self._run_first(running, running.end, start)
            self._kept_BSD[2 * slot : 2 * slot + 2, : hidden_BSD.shape[1]] = hidden_BSD
        self._kept_from_B[slot] = start
        self._in_tail.add(slot)

    def _mark(self, running: set[int]) -> None:
        """Tell the step which slots are in their head or tail, and which idle."""
        self._running = running
        self._in_head &= running
        self._in_tail &= running
        for mask, marked in ((self._is_headed_B, self._in_head), (self._is_tailed_B, self._in_tail)):
            mask.copy_(torch.tensor([slot in marked for slot in range(len(mask))]))
        self._is_idle_B.copy_(torch.tensor([slot not in running for slot in range(len(self._is_idle_B))]))

    def step(self, ids_BK: Tensor, column_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Feed one column per slot; returns conditional and null logits, `[B, K, V]` float32 each."""
        ids = per_row(ids_BK)
        positions = per_row(self.prefix_length + column_B)
        hidden = self._step_first(ids, positions, column_B, window) if self._needs_first else None
        if self._in_tail:
            kept = self._kept_BSD[self._rows_B, self._places(column_B)]
            is_tailed = per_row(self._is_tailed_B)[:, None]
            hidden = kept if hidden is None else torch.where(is_tailed, kept, hidden)
        assert hidden is not None
        logits = [self._lelm.logits_first(hidden)] if self._needs_first else []
        if self._needs_second:
            lengths = self._lengths(positions, self._is_headed_B)
            hidden_sub = self._lelm.step_second(
                ids, hidden, self._state, positions_B=positions, lengths_B=lengths, window=window
            )
            logits += self._lelm.logits_stems(hidden_sub)
        return self._complete(logits, 0), self._complete(logits, 1)

    def _step_first(self, ids: Tensor, positions: Tensor, column_B: Tensor, window: int) -> Tensor:
        lengths = self._lengths(positions, self._is_tailed_B)
        hidden = self._lelm.step_first(
            ids[:, 0], self._state, positions_B=positions, lengths_B=lengths, window=window
        )
        if self._in_head:
            places = self._places(column_B)
            is_headed = per_row(self._is_headed_B)[:, None]
            before = self._kept_BSD[self._rows_B, places]
            self._kept_BSD[self._rows_B, places] = torch.where(is_headed, hidden, before)
        return hidden

    def _places(self, column_B: Tensor) -> Tensor:
        """Where each row's column is in what is kept."""
        first_B = torch.where(self._is_tailed_B, self._kept_from_B, 0)
        places_B = (column_B - first_B).clamp(0, self._kept_BSD.shape[1] - 1)
        return per_row(places_B)

    def _lengths(self, positions: Tensor, is_unused_B: Tensor) -> Tensor:
        """Positions that each row sees; one, lest it costs time, where nobody reads what it makes."""
        is_unused = per_row(is_unused_B | self._is_idle_B)
        return torch.where(is_unused, 1, positions + 1)

    def _complete(self, logits: list[Tensor], row: int) -> Tensor:
        """The logits of every other row, from `row` on, with zeros for a transformer that was not run."""
        found = [tensor[row::2].unsqueeze(1) for tensor in logits]
        if not self._needs_first:
            found.insert(0, self._no_first_logits)
        if not self._needs_second:
            found.append(self._no_stem_logits)
        return torch.cat(found, dim=1)
