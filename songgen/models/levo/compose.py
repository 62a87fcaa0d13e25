"""From jobs to drafts: LeLM in the slots of the decoding loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from songgen.models.base import Draft, Job, LmScore, Report, ignore_progress
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.config import LevoConfig, with_max_frames
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.pattern import from_sequence, trim
from songgen.models.levo.slots import LelmSlots
from songgen.nn.attention import choose_attention
from songgen.nn.step_ops import step_ops
from songgen.runtime.decode import Decoded, SlotDecoder, Task, slots_for
from songgen.runtime.slots import Layout


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
    return Task(
        label=job,
        conditions=job.conditions,
        banned=job.conditions.banned,
        num_frames=config.num_frames(job.max_seconds),
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
        lm_score=score_of(decoded, config, tokens_KT.shape[1]),
    )


def score_of(decoded: Decoded[Job], config: LevoConfig, num_frames: int) -> LmScore | None:
    """The mean over all codes of the frames that a song is cut to; None where it has none."""
    if not num_frames:
        return None
    conditional, null = (
        float(from_sequence(log_probs_KS, config.delays)[:, :num_frames].double().mean())
        for log_probs_KS in decoded.log_probs
    )
    return LmScore(conditional, null)


@dataclass(frozen=True)
class ComposeOptions:
    """How the language model is run, none of which changes what it is asked to compute.

    Args:
        batch: songs at once.
        max_frames: frames of the longest song, None for the model's own limit.
        attention: backend of the decoding steps, see `nn/attention.py`.
        kv_cache: `auto` for the dtype of the weights, or `int8`.
    """

    batch: int
    max_frames: int | None = None
    attention: str = "auto"
    kv_cache: str = "auto"


class Composer:
    """LeLM with its caches, graphs and slots, kept from one call to the next."""

    def __init__(self, lelm: LeLM, options: ComposeOptions) -> None:
        config = lelm.config
        if options.max_frames is not None and options.max_frames < config.max_frames:
            config = with_max_frames(config, options.max_frames)
        weight = lelm.stacks[0].norm.weight
        is_int8 = options.kv_cache == "int8"
        attention = choose_attention(options.attention, weight.device, weight.dtype, is_int8=is_int8)
        self.options, self.config, self.is_busy = options, config, False
        self.slots = LelmSlots(
            lelm,
            slots_for(options.batch, weight.device),
            capacity=config.capacity,
            ops=step_ops(attention, weight.device),
            is_int8=is_int8,
        )
        self.decoder: SlotDecoder[Job] = SlotDecoder(
            self.slots,
            layout_of(config),
            slots_for(options.batch, weight.device),
            num_used=options.batch,
            device=weight.device,
        )

    @torch.inference_mode()
    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write the tokens of all jobs; drafts come in the order they end. One call at a time."""
        assert not self.is_busy
        self.is_busy = True
        self.decoder.on_progress = lambda job, fraction: report("compose", job.name, fraction)
        try:
            for decoded in self.decoder.run(task_of(job, self.config) for job in jobs):
                yield draft_of(decoded, self.config)
        finally:
            self.is_busy = False


def compose(
    lelm: LeLM, jobs: Iterator[Job], options: ComposeOptions, report: Report = ignore_progress
) -> Iterator[Draft]:
    """Write the tokens of all jobs, with caches of their own; drafts come in the order they end."""
    return Composer(lelm, options).compose(jobs, report)
