"""Measuring LeVo models: composing, rendering, a plain loop beside them, and one step traced.

All songs of a measurement are equally long and run to their limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from songgen.models.base import Job
from songgen.models.levo.baseline import compose_plainly
from songgen.models.levo.checkpoint import CodecParts
from songgen.models.levo.compose import ComposeOptions, Composer, task_of
from songgen.models.levo.conditions import LevoConditions, prompt_rows
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.render import VAE_ROWS, WINDOWS
from songgen.models.levo.traffic import traffic_of
from songgen.models.levo.windows import Stream, decode_streams, seeded_noise
from songgen.requests import SongRequest
from songgen.runtime.decode import CHECK_EVERY
from songgen.runtime.measure import forget_peak_memory, peak_memory, seconds_of, write_trace

WARM_UP_FRAMES = {"cuda": 325, "cpu": 25, "mps": 25}
"""On CUDA long enough that every phase of a song is captured before time is taken."""


@dataclass(frozen=True)
class BenchModel:
    """What is measured, and how it is run.

    Args:
        lelm: the language model.
        codec: gives codec and VAE; called before the first rendering.
        attention, kv_cache: as in `ComposeOptions`.
        bandwidth: bytes a second that this machine copies, read plus written.
    """

    lelm: LeLM
    codec: Callable[[], CodecParts]
    device: torch.device
    attention: str
    kv_cache: str
    bandwidth: float

    def num_frames(self, seconds: float) -> int:
        """Frames of a song of some seconds, at most the model's longest."""
        config = self.lelm.config
        return min(max(1, int(seconds * config.frame_rate)), config.max_frames)

    def compose(self, batch: int, seconds: float) -> dict[str, float]:
        """Compose `batch` songs side by side, after a warm-up; all facts as plain numbers.

        `floor_seconds` is the time in which a machine of this bandwidth could read what the published steps
        need (both transformers at every column); `bandwidth_fraction` counts what songgen's steps read.
        """
        num_frames = self.num_frames(seconds)
        composer = Composer(self.lelm, self._options(batch, num_frames))
        self._run(composer, batch, min(num_frames, WARM_UP_FRAMES[self.device.type]))
        forget_peak_memory(self.device)
        composer.decoder.num_steps = 0
        took = seconds_of(lambda: self._run(composer, batch, num_frames), self.device)
        traffic = traffic_of(self.lelm, num_frames, batch, is_int8=self.kv_cache == "int8")
        steps, audio = composer.decoder.num_steps, batch * num_frames / self.lelm.config.frame_rate
        floor = traffic.plain / self.bandwidth
        return {
            "seconds": took,
            "steps": steps,
            "steps_per_second": steps / took,
            "rtf": took / audio,
            "bytes_per_step": traffic.ours / traffic.steps,
            "bandwidth_fraction": traffic.ours / took / self.bandwidth,
            "floor_seconds": floor,
            "floor_ratio": took / floor,
            "peak_memory": peak_memory(self.device),
        }

    def _options(self, batch: int, num_frames: int) -> ComposeOptions:
        frames = max(num_frames, WARM_UP_FRAMES[self.device.type])
        return ComposeOptions(batch, frames, self.attention, self.kv_cache)

    def _run(self, composer: Composer, batch: int, num_frames: int) -> None:
        for draft in composer.compose(self._jobs(batch, num_frames)):
            assert draft.tokens.shape[1] <= num_frames

    def _jobs(self, batch: int, num_frames: int) -> Iterator[Job]:
        config = self.lelm.config
        for seed in range(batch):
            request = SongRequest(idx=f"bench{seed}", lyrics="")
            seconds = (num_frames + 0.5) / config.frame_rate
            yield Job(
                request.idx,
                request,
                seed,
                config.sampling,
                seconds,
                random_conditions(config, self.lelm, seed),
            )

    def render(self, batch: int, seconds: float) -> dict[str, float]:
        """Render the mixes of `batch` songs of random codes, after a warm-up of one window."""
        parts, num_frames = self.codec(), self.num_frames(seconds)
        self._decode(parts, 1, 25)
        forget_peak_memory(self.device)
        took = seconds_of(lambda: self._decode(parts, batch, num_frames), self.device)
        audio = batch * num_frames / self.lelm.config.frame_rate
        return {"seconds": took, "rtf": took / audio, "peak_memory": peak_memory(self.device)}

    def _decode(self, parts: CodecParts, batch: int, num_frames: int) -> None:
        together, rows = min(batch, WINDOWS[self.device.type]), VAE_ROWS[self.device.type]
        streams = self._streams(parts, batch, num_frames)
        for _, samples_CN in decode_streams(parts.codec, parts.vae, streams, batch=together, rows=rows):
            assert samples_CN.shape[1]

    def _streams(self, parts: CodecParts, batch: int, num_frames: int) -> Iterator[Stream]:
        config = parts.codec.config
        for seed in range(batch):
            generator = torch.Generator().manual_seed(seed)
            size = (config.num_tracks, num_frames)
            codes_KT = torch.randint(0, config.codebook_size, size, generator=generator)
            yield Stream(codes_KT, seeded_noise(seed, "flow", config.latent_dim))

    def baseline(self, seconds: float) -> float:
        """Wall seconds of one song through the plain loop, after a warm-up."""
        config, conditions = self.lelm.config, random_conditions(self.lelm.config, self.lelm, 0)

        def run(num_frames: int) -> None:
            compose_plainly(self.lelm, conditions, num_frames, config.sampling, seed=0)

        seconds_of(lambda: run(1), self.device)
        return seconds_of(lambda: run(self.num_frames(seconds)), self.device)

    def trace(self, batch: int, path: Path) -> None:
        """Write a Chrome trace of one step of `batch` songs, in their longest phase."""
        config = self.lelm.config
        num_frames = min(max(config.delays) + 2 * CHECK_EVERY, config.max_frames)
        composer = Composer(self.lelm, self._options(batch, num_frames))
        tasks = [task_of(job, config) for job in self._jobs(batch, num_frames)]
        decoder = composer.decoder
        with torch.inference_mode():
            for _ in range(max(config.delays) // CHECK_EVERY + 1):
                assert decoder.begin(iter(tasks))
                tasks = []
                for _ in range(CHECK_EVERY):
                    decoder.step()
            decoder.begin(iter(tasks))
            for _ in range(3):
                decoder.step()
            write_trace(decoder.step, self.device, path)


def random_conditions(config: LevoConfig, lelm: LeLM, seed: int) -> LevoConditions:
    """Conditions of random text, without a prompt; codebook 0 must not end the song."""
    generator = torch.Generator().manual_seed(seed)
    tables = lelm.condition_provider.conditioners

    def ids(table: Any, length: int) -> torch.Tensor:
        found = torch.randint(0, table.output_proj.num_embeddings, (2, length), generator=generator)
        found[1] = 0  # the null row is the same for all songs
        return found

    no_prompt = torch.full((config.num_codebooks, config.prompt_frames), config.special)
    return LevoConditions(
        lyric_ids=ids(tables["description"], config.lyric_positions),
        structure_rows=torch.zeros(2, config.lyric_positions, dtype=torch.int64),
        description_ids=ids(tables["type_info"], config.description_positions),
        prompt_ids=prompt_rows(no_prompt, config),
        banned=torch.tensor([config.eos]),
    )


def measure(
    model: BenchModel, batches: Sequence[int], seconds: float, *, has_render: bool, has_baseline: bool
) -> tuple[list[dict[str, Any]], float | None]:
    """Measurements per batch, and the seconds of a song through the plain loop if wanted.

    Each measurement has the part `compose` and, if wanted, `render`; over what was measured `rtf` and
    `songs_per_hour`; and `baseline_ratio`, how often faster than the plain loop a song is composed.
    """
    plain = model.baseline(seconds) if has_baseline else None
    results: list[dict[str, Any]] = []
    for batch in batches:
        composed = model.compose(batch, seconds)
        parts = {"compose": composed}
        if has_render:
            parts["render"] = model.render(batch, seconds)
        result: dict[str, Any] = {"batch": batch, **parts}
        result["rtf"] = sum(part["rtf"] for part in parts.values())
        result["songs_per_hour"] = 3600 * batch / sum(part["seconds"] for part in parts.values())
        if plain is not None:
            result["baseline_ratio"] = plain * batch / composed["seconds"]
        results.append(result)
    return results, plain
