"""The state of B songs in fixed slots, and the step that writes the next column of each.

Everything about a song is a row of a tensor allocated once and written in place, so that a step can be
captured as a graph. A step reads no other state but the settings that `SamplingRows` tells the host, and
never waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from songgen.runtime.sampling import (
    Sampling,
    SamplingRows,
    choose,
    guide,
    penalize,
    penalize_frequency,
)


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
    def max_delay(self) -> int:
        """Columns by which the last codebook lags."""
        return max(self.delays)

    @property
    def num_columns(self) -> int:
        """Columns of the longest song."""
        return 1 + self.max_frames + self.max_delay


def uniforms_of(seed: int, num_codebooks: int, num_columns: int) -> Tensor:
    """All uniform numbers of a song, float64 `[S, K]`: row s decides column s.

    Drawn column by column, so that a song's beginning does not depend on how long it may get.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_columns, num_codebooks, generator=generator, dtype=torch.float64)


def per_row(of_slots: Tensor) -> Tensor:
    """A tensor of B slots as one of their 2B rows, without asking the host (as `repeat_interleave` may)."""
    return of_slots.unsqueeze(1).expand(-1, 2, *of_slots.shape[1:]).flatten(0, 1)


class SlotState:
    """Static tensors of B slots.

    Attributes:
        columns_BKS: the delayed columns written so far, SPECIAL elsewhere.
        log_probs_B2KS: natural log-probability of each code of the columns, by the conditional and the null
            logits as they were before guidance; 0 where no code is written.
        column_B: the last column written, which the next step feeds.
        rows: sampling settings of each slot.
    """

    def __init__(self, layout: Layout, num_slots: int, device: torch.device, *, stop_early: bool) -> None:
        columns, codebooks, size = layout.num_columns, len(layout.delays), layout.eos + 1
        self._layout, self._stop_early = layout, stop_early
        self._delays_K = torch.tensor(layout.delays, device=device)
        self._slots_B = torch.arange(num_slots, device=device)
        self.columns_BKS = torch.full((num_slots, codebooks, columns), layout.special, device=device)
        self.log_probs_B2KS = torch.zeros((num_slots, 2, codebooks, columns), device=device)
        precise = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs do not have
        self._uniforms_BSK = torch.zeros((num_slots, columns, codebooks), dtype=precise, device=device)
        self._banned_BV = torch.zeros((num_slots, size), dtype=torch.bool, device=device)
        self._counts_BKV = torch.zeros((num_slots, codebooks, size), device=device)
        self.column_B = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self._num_frames_B = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self._has_ended_BK = torch.ones((num_slots, codebooks), dtype=torch.bool, device=device)
        self._first_eos_B = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self._is_done_B = torch.ones(num_slots, dtype=torch.bool, device=device)
        self.rows = SamplingRows.of([Sampling()] * num_slots, device)

    def tensors(self) -> list[Tensor]:
        """All tensors, for a graph to hold on to."""
        own = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return own + self.rows.tensors

    def place_(self, slot: int, *, num_frames: int, seed: int, banned: Tensor) -> None:
        """Reset a slot for a song of at most `num_frames` frames."""
        device, num_columns = self.column_B.device, 1 + num_frames + self._layout.max_delay
        uniforms_SK = uniforms_of(seed, len(self._layout.delays), num_columns)
        self.columns_BKS[slot] = self._layout.special
        self.log_probs_B2KS[slot] = 0
        self._uniforms_BSK[slot, :num_columns] = uniforms_SK.to(self._uniforms_BSK.dtype).to(device)
        self._counts_BKV[slot] = 0
        self._banned_BV[slot] = False
        self._banned_BV[slot, banned.to(device)] = True
        self.column_B[slot] = 0
        self._num_frames_B[slot] = num_frames
        self._has_ended_BK[slot] = False
        self._first_eos_B[slot] = num_frames
        self._is_done_B[slot] = False

    def stop_(self) -> None:
        """Mark every slot as done."""
        self._is_done_B.fill_(True)

    def flags(self) -> list[list[int]]:
        """Per slot: whether it is done, whether codebook 0 has ended, the earliest EOS frame of any codebook.

        The only place where the host waits for the device.
        """
        flags = [self._is_done_B.long(), self._has_ended_BK[:, 0].long(), self._first_eos_B]
        rows: list[list[int]] = torch.stack(flags, dim=1).tolist()
        return rows

    def inputs(self) -> Tensor:
        """The column that the next step feeds, `[B, K]`."""
        return self.columns_BKS[self._slots_B, :, self.column_B]

    def guided_(self, conditional_BKV: Tensor, null_BKV: Tensor) -> Tensor:
        """The logits that the next column is chosen from: guidance, penalties, banned ids."""
        if self._layout.guides_log_probs:
            conditional_BKV, null_BKV = conditional_BKV.log_softmax(-1), null_BKV.log_softmax(-1)
        logits_BKV = guide(conditional_BKV, null_BKV, self.rows.cfg_coef)
        if self.rows.longest_window > 0:
            logits_BKV = penalize(logits_BKV, self._recent(), self.rows.penalty)
        if self.rows.has_frequency_penalty:
            logits_BKV = penalize_frequency(logits_BKV, self._counts_BKV, self.rows.frequency_penalty)
        logits_BKV[:, 0].masked_fill_(self._banned_BV, float("-inf"))
        return logits_BKV

    def write_(self, logits_BKV: Tensor, conditional_BKV: Tensor, null_BKV: Tensor) -> None:
        """Choose the next column of the songs that still run, write it, and mark what has ended.

        Args:
            logits_BKV: what `guided_` made of the other two, by which the column is scored.
        """
        tokens_BK = choose(logits_BKV, self._uniforms_BSK[self._slots_B, self.column_B], self.rows)
        layout, next_B = self._layout, self.column_B + 1
        frames_BK = next_B[:, None] - 1 - self._delays_K
        is_frame = (frames_BK >= 0) & (frames_BK < self._num_frames_B[:, None]) & ~self._has_ended_BK
        tokens_BK = torch.where(is_frame, tokens_BK, layout.special)
        is_eos = tokens_BK == layout.eos
        ends_B = torch.where(is_eos, frames_BK, layout.max_frames).amin(1)
        runs_B = ~self._is_done_B
        place_B = next_B.clamp(max=layout.num_columns - 1)
        kept_BK = self.columns_BKS[self._slots_B, :, place_B]
        self.columns_BKS[self._slots_B, :, place_B] = torch.where(runs_B[:, None], tokens_BK, kept_BK)
        self._score_(tokens_BK, place_B, (conditional_BKV, null_BKV))
        self._count_(tokens_BK, runs_B)
        self._has_ended_BK |= is_eos & runs_B[:, None]
        earliest_B = torch.minimum(self._first_eos_B, ends_B)
        self._first_eos_B.copy_(torch.where(runs_B, earliest_B, self._first_eos_B))
        is_over_B = self._has_ended_BK.all(1) | (next_B >= self._num_frames_B + layout.max_delay)
        if self._stop_early:
            is_over_B |= next_B >= self._first_eos_B + layout.max_delay
        self.column_B.copy_(torch.where(runs_B, next_B, self.column_B))
        self._is_done_B |= is_over_B

    def _score_(self, tokens_BK: Tensor, place_B: Tensor, logits: tuple[Tensor, Tensor]) -> None:
        """Note how likely the codes of a column were, in the songs that still run."""
        ids_BK1 = tokens_BK.clamp(max=self._layout.eos).unsqueeze(-1)
        found_B2K = torch.stack([each.log_softmax(-1).gather(-1, ids_BK1)[..., 0] for each in logits], dim=1)
        found_B2K = torch.where(tokens_BK[:, None] < self._layout.eos, found_B2K, 0.0)
        kept_B2K = self.log_probs_B2KS[self._slots_B, :, :, place_B]
        runs_B11 = ~self._is_done_B[:, None, None]
        self.log_probs_B2KS[self._slots_B, :, :, place_B] = torch.where(runs_B11, found_B2K, kept_B2K)

    def _count_(self, tokens_BK: Tensor, runs_B: Tensor) -> None:
        """Count the codes of a column, for the frequency penalty."""
        is_code_BK = (tokens_BK < self._layout.eos) & runs_B[:, None]
        places_BK1 = tokens_BK.clamp(max=self._layout.eos).unsqueeze(-1)
        self._counts_BKV.scatter_add_(2, places_BK1, is_code_BK.unsqueeze(-1).float())

    def _recent(self) -> Tensor:
        """The columns that the repetition penalty looks at, `[B, K, W]`; SPECIAL where there is none."""
        back_W = torch.arange(self.rows.longest_window, device=self.column_B.device)
        places_BW = self.column_B[:, None] - back_W
        recent_BKW = self.columns_BKS.gather(
            2, places_BW.clamp(min=0)[:, None].expand(-1, len(self._delays_K), -1)
        )
        is_seen_BW = (places_BW > 0) & (back_W < self.rows.window[:, None])
        return torch.where(is_seen_BW[:, None], recent_BKW, self._layout.special)
