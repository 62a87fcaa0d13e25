"""From jobs to drafts: LeLM in the slots of the decoding loop."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from songgen.models.base import Draft, Job, Report, ignore_progress
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.pattern import from_sequence, trim
from songgen.runtime.decode import Decoded, Layout, SlotDecoder, Task, slots_for


class LelmSlots:
    """LeLM with B slots; slot b holds rows 2b (conditional) and 2b + 1 (null) of the caches."""

    def __init__(self, lelm: LeLM, num_slots: int) -> None:
        self._lelm = lelm
        self._state = lelm.new_state(2 * num_slots)
        self.prefix_length = lelm.config.prefix_length
        self.capacity = lelm.config.capacity

    def prefill(self, slot: int, conditions: object) -> None:
        """Write a song's prefix into a slot."""
        assert isinstance(conditions, LevoConditions)
        self._lelm.prefill(conditions, self._state, 2 * slot)

    def step(self, ids_BK: Tensor, positions_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Feed one column per slot; returns conditional and null logits, `[B, K, V]` float32 each."""
        ids, positions = ids_BK.repeat_interleave(2, 0), positions_B.repeat_interleave(2, 0)
        logits = self._lelm.step(ids, positions, self._state, window)
        return logits[0::2], logits[1::2]


def layout_of(config: LevoConfig) -> Layout:
    """The ids and delays of a LeVo model."""
    return Layout(
        delays=config.delays,
        eos=config.eos,
        max_frames=config.max_frames,
        guides_log_probs=config.num_codebooks == 1,
    )


def task_of(job: Job, config: LevoConfig) -> Task[Job]:
    """What the decoding loop needs to know of a job."""
    assert isinstance(job.conditions, LevoConditions)
    seconds = config.max_seconds if job.max_seconds is None else job.max_seconds
    return Task(
        label=job,
        conditions=job.conditions,
        banned=job.conditions.banned,
        num_frames=min(max(1, int(seconds * config.frame_rate)), config.max_frames),
        sampling=job.sampling,
        seed=job.seed,
    )


def draft_of(decoded: Decoded[Job], config: LevoConfig) -> Draft:
    """Undo the delays of a decoded song and cut it where it ends.

    Raises:
        ValueError: the logits were not finite.
    """
    tokens_KT, has_ended = trim(from_sequence(decoded.columns, config.delays), config.eos)
    if tokens_KT.numel() and int(tokens_KT.max()) > config.eos:  # no id was drawn: inverse CDF of NaN
        raise ValueError(
            "the language model computed numbers that are not finite: its weights are damaged, dtype is too "
            "narrow (try bf16 or fp32), or temperature or cfg_coef is extreme"
        )
    return Draft(
        job=decoded.label,
        tokens=tokens_KT,
        stopped="eos" if has_ended else "length",
        seconds=decoded.seconds,
    )


@torch.inference_mode()
def compose(
    lelm: LeLM, jobs: Iterator[Job], *, batch: int, report: Report = ignore_progress
) -> Iterator[Draft]:
    """Write the tokens of all jobs, `batch` at once; drafts come in the order they end."""
    config = lelm.config
    decoder: SlotDecoder[Job] = SlotDecoder(
        LelmSlots(lelm, slots_for(batch)),
        layout_of(config),
        slots_for(batch),
        num_used=batch,
        device=lelm.condition_provider.device,
        on_progress=lambda job, fraction: report("compose", job.name, fraction),
    )
    for decoded in decoder.run(task_of(job, config) for job in jobs):
        yield draft_of(decoded, config)
