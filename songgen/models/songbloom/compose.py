"""From jobs to drafts: the slots go from block to block, and a slot whose song ends gets the next one.

The host looks at the device once a block. A song's tokens, noise and length depend on its own seed and
settings, not on its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from songgen.models.base import Draft, Job, Report, StopReason, ignore_progress
from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.config import FRAME_RATE, SongBloomConfig
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.models.songbloom.slots import BlockSlots, Diffusion, Phase
from songgen.nn.attention import choose_attention
from songgen.nn.step_ops import step_ops
from songgen.runtime.cuda_graph import StepGraph
from songgen.runtime.decode import slots_for
from songgen.runtime.noise import seeded_normal
from songgen.runtime.sampling import DiffusionSampling, Sampling
from songgen.runtime.slots import Layout, SlotState

NOT_FINITE = (
    "the model computed numbers that are not finite: its weights are damaged, dtype is too narrow (try bf16 "
    "or fp32), or temperature or cfg_coef is extreme"
)

Noise = Callable[[Job, int], Tensor]
"""A job and the number of its block to standard normal numbers `[T, Z]`, float32."""


@dataclass(frozen=True)
class ComposeOptions:
    """How the networks are run, none of which changes what they are asked to compute.

    Args:
        batch: songs at once.
        max_blocks: blocks of the longest song, None for the model's own limit.
        attention: backend of the token steps, see `nn/attention.py`.
        kv_cache: `auto` for the dtype of the weights, or `int8`.
    """

    batch: int
    max_blocks: int | None = None
    attention: str = "auto"
    kv_cache: str = "auto"


@dataclass
class _Running:
    """A slot's song, as far as the host knows it."""

    job: Job
    num_frames: int
    num_blocks: int
    started: float
    blocks: int = 0
    latents: list[Tensor] = field(default_factory=list)

    @property
    def diffusion(self) -> Diffusion:
        sampling = diffusion_sampling(self.job.sampling)
        return Diffusion(sampling.diffusion_steps, sampling.diffusion_temperature)


def diffusion_sampling(sampling: Sampling) -> DiffusionSampling:
    """The sampling of a job, which for this family has the fields of the diffusion."""
    assert isinstance(sampling, DiffusionSampling)
    return sampling


def seeded_noise(config: SongBloomConfig) -> Noise:
    """The noise of every block from its song's seed."""

    def noise(job: Job, block: int) -> Tensor:
        return seeded_normal(job.seed, f"block/{block}", config.block_size, config.latent_dim)

    return noise


class Composer:
    """The networks with their cache, graphs and slots, kept from one call to the next.

    Args:
        noise: of each block; from the songs' seeds unless told (tests).
        on_logits: called in each token step with the logits that tokens are chosen from, `[B, 1, V]`; what it
            returns is used instead (tests). Such a composer captures no graphs.
    """

    def __init__(
        self,
        network: SongBloomNetwork,
        options: ComposeOptions,
        *,
        noise: Noise | None = None,
        on_logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        config, device = network.config, network.device
        self.options, self.is_busy = options, False
        self.max_blocks = options.max_blocks or config.max_blocks
        self._config, self._device = config, device
        self._noise, self._on_logits = noise or seeded_noise(config), on_logits
        is_int8, num_slots = options.kv_cache == "int8", slots_for(options.batch, device)
        attention = choose_attention(options.attention, device, network.dtype, is_int8=is_int8)
        ops = step_ops(attention, device)
        is_captured = on_logits is None
        self.slots = BlockSlots(
            network,
            num_slots,
            max_blocks=self.max_blocks,
            ops=ops,
            is_int8=is_int8,
            is_captured=is_captured,
        )
        # Choosing tokens takes 64-bit floats, which MPS does not have.
        self._chooser = torch.device("cpu") if device.type == "mps" else device
        layout = Layout(delays=(0,), eos=config.eos, max_frames=self.max_blocks * config.block_size)
        self._state = SlotState(layout, num_slots, self._chooser, stop_early=True)
        self._running: list[_Running | None] = [None] * num_slots
        self._phase: Phase = "first"
        self._window = 0
        self._graph = StepGraph(
            self._advance,
            device,
            lambda: [*self._state.tensors(), *self.slots.tensors()],
            is_captured=is_captured,
        )

    @torch.inference_mode()
    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write the drafts of all jobs, in the order they end. One call at a time.

        Raises:
            ValueError: the networks computed numbers that are not finite.
        """
        assert not self.is_busy
        self.is_busy = True
        self._running = [None] * len(self._running)
        self._state.stop_()
        try:
            while self._refill(jobs):
                self._write_sketches()
                yield from self._collect_ended()
                self._diffuse()
                yield from self._collect_full(report)
        finally:
            self.is_busy = False

    def _refill(self, jobs: Iterator[Job]) -> bool:
        """Give every free slot the next job; returns whether any song runs."""
        for slot in range(self.options.batch):
            if self._running[slot] is None and (job := next(jobs, None)) is not None:
                self._place(slot, job)
        settings = [self._settings(run) for run in self._running]
        self._state.rows = self._state.rows.updated_(settings)
        return any(self._running)

    def _place(self, slot: int, job: Job) -> None:
        assert isinstance(job.conditions, SongBloomConditions)
        config, started = self._config, time.perf_counter()
        limit = self.max_blocks * config.block_size
        wanted = limit if job.max_seconds is None else int(round(job.max_seconds * FRAME_RATE, 6))
        num_frames = min(max(1, wanted), limit)
        num_blocks = config.num_blocks(num_frames)
        self.slots.place_(slot, job.conditions, diffusion_sampling(job.sampling).diffusion_guidance)
        nothing = torch.zeros(0, dtype=torch.int64)
        self._state.place_(slot, num_frames=num_blocks * config.block_size, seed=job.seed, banned=nothing)
        self._running[slot] = _Running(job, num_frames, num_blocks, started)

    def _settings(self, run: _Running | None) -> Sampling:
        """How a slot's next tokens are chosen. As published, the first block knows no repetition penalty."""
        if run is None:
            return Sampling(window=0)
        return run.job.sampling if run.blocks else replace(run.job.sampling, window=0)

    def _write_sketches(self) -> None:
        """The tokens of every slot's next block, and what the diffusion needs of them."""
        rows = self._state.rows
        traits = (rows.longest_window, rows.has_nucleus, rows.has_frequency_penalty)
        self._window = self.slots.window(max(run.blocks for run in self._running if run))
        last = self._config.block_size
        for number in range(last + 1):
            self._phase = "first" if number == 0 else "last" if number == last else "inner"
            self._graph((self._phase, self._window, traits))

    def _advance(self) -> None:
        """A token step on the static tensors."""
        state, device = self._state, self._device
        ids_B, column_B = state.inputs()[:, 0].to(device), state.column_B.to(device)
        logits = self.slots.step(ids_B, column_B, self._phase, self._window)
        if logits is None:
            return
        pairs = logits.to(self._chooser).unsqueeze(1)
        conditional_BKV, null_BKV = pairs[0::2], pairs[1::2]
        logits_BKV = state.guided_(conditional_BKV, null_BKV)
        if self._on_logits is not None:
            logits_BKV = self._on_logits(logits_BKV)
        state.write_(logits_BKV, conditional_BKV, null_BKV)

    def _collect_ended(self) -> Iterator[Draft]:
        """Free the slots whose songs have ended: the block that holds an EOS is dropped, as published."""
        for slot, (_, has_ended, _) in enumerate(self._state.flags()):
            run = self._running[slot]
            if run is not None and has_ended:
                self._running[slot] = None
                yield self._draft(slot, run, "eos")

    def _diffuse(self) -> None:
        """The latents of the block that each running slot has sketched."""
        block_size, wanted = self._config.block_size, {}
        for slot, run in enumerate(self._running):
            if run is not None:
                wanted[slot] = run.diffusion
                self.slots.noise_BTZ[slot] = self._noise(run.job, run.blocks).to(self._device)
        if not wanted:
            return
        state = self._state
        first_B = (state.column_B - block_size + 1).clamp(min=1)
        places_BT = first_B[:, None] + torch.arange(block_size, device=self._chooser)
        sketch_BT = state.columns_BKS[:, 0].gather(1, places_BT.clamp(max=state.columns_BKS.shape[2] - 1))
        self.slots.diffuse_(sketch_BT.to(self._device), wanted)
        for slot in wanted:
            run = self._running[slot]
            assert run is not None
            run.latents.append(self.slots.latents_BTZ[slot].clone())
            run.blocks += 1

    def _collect_full(self, report: Report) -> Iterator[Draft]:
        """Free the slots whose songs are as long as they may get, and report the others."""
        for slot, run in enumerate(self._running):
            if run is None:
                continue
            report("compose", run.job.name, run.blocks / run.num_blocks)
            if run.blocks == run.num_blocks:
                self._running[slot] = None
                yield self._draft(slot, run, "length")

    def _draft(self, slot: int, run: _Running, stopped: StopReason) -> Draft:
        """A song's tokens and latents, cut to the length that was asked for.

        Raises:
            ValueError: they are not finite.
        """
        config = self._config
        num_frames = min(run.blocks * config.block_size, run.num_frames)
        tokens_KT = self._state.columns_BKS[slot, :, 1 : 1 + num_frames].to("cpu", copy=True)
        blocks = [torch.zeros(0, config.latent_dim), *(latents.cpu() for latents in run.latents)]
        latents_ZT = torch.cat(blocks)[:num_frames].T.contiguous()
        if bool((tokens_KT > config.eos).any()) or not bool(latents_ZT.isfinite().all()):
            raise ValueError(NOT_FINITE)
        return Draft(
            job=run.job,
            tokens=tokens_KT,
            stopped=stopped,
            seconds=time.perf_counter() - run.started,
            latents=latents_ZT,
        )
