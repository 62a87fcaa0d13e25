"""A SongBloom checkpoint ready to run: the three verbs of the seam over its parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from songgen.models.base import Draft, Job, Report, Song, ignore_progress
from songgen.models.parts import Loaded
from songgen.models.separation import Separator
from songgen.models.songbloom.compose import ComposeOptions, Composer
from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.config import FRAME_RATE, SongBloomConfig
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.models.songbloom.prompt import PromptEncoder
from songgen.models.songbloom.render import render
from songgen.models.songbloom.text import SongBloomText
from songgen.models.stems import check_generate_type, with_stems
from songgen.nn.attention import choose_attention
from songgen.nn.oobleck import OobleckVAE
from songgen.requests import SongRequest
from songgen.runtime.memory import MemoryPlan
from songgen.text_rules import TextRules

SEPARATED_ROWS = {"cpu": 1, "mps": 1, "cuda": 8}
"""Chunks of a song separated at once."""


@dataclass(frozen=True)
class Parts:
    """What a checkpoint consists of: the networks, the VAE with its encoder (for prompts) and without (to
    render), the text half, and the separator of stems."""

    network: Loaded[SongBloomNetwork]
    encoder: Loaded[OobleckVAE]
    decoder: Loaded[OobleckVAE]
    text: Loaded[SongBloomText]
    separator: Loaded[Separator]


class SongBloomModel:
    """One checkpoint on one device; `songgen.models.songbloom.loading.load` makes it.

    Args:
        name: the model's, as its yaml's.
        config: as read from the yaml.
        plan: what stays loaded, and how many songs are made at once.
        identity: digest of the checkpoint's files.
        options: how the networks are run; its `max_blocks` are those of the longest song.
    """

    scores_drafts = False

    def __init__(
        self,
        name: str,
        config: SongBloomConfig,
        plan: MemoryPlan,
        parts: Parts,
        *,
        device: torch.device,
        dtype: torch.dtype,
        identity: str,
        options: ComposeOptions,
    ) -> None:
        self.name, self.identity = name, identity
        self.sampling = config.sampling
        self.sample_rate = config.sample_rate
        blocks = options.max_blocks or config.max_blocks
        self.max_seconds = blocks * config.block_size / FRAME_RATE
        self.config, self.plan, self.parts = config, plan, parts
        self.device, self.memory = str(device), plan.residency
        self._device, self._dtype, self._options = device, dtype, options
        self._prompts = PromptEncoder(parts.encoder.get)
        self._composer: Composer | None = None

    @property
    def text_rules(self) -> TextRules:
        """What the linter has to know of this model's text."""
        return self.parts.text.get().rules(
            max_lyric_tokens=self.config.lyric_positions, max_seconds=self.config.max_seconds
        )

    @property
    def prompt_styles(self) -> tuple[str, ...]:
        """None: this family has no library of prompts."""
        return ()

    @property
    def batch(self) -> int:
        """Songs made at once."""
        return self.plan.batch

    @property
    def summary(self) -> str:
        """One line on how this model runs."""
        dtype = str(self._dtype).removeprefix("torch.")
        attention = choose_attention(
            self._options.attention, self._device, self._dtype, is_int8=self._options.kv_cache == "int8"
        )
        return f"{self.name} on {self.device}, {dtype}, {attention}; {self.plan.sentence()}"

    def prompt_identity(self, request: SongRequest) -> str | None:
        """The model's own identity, as the VAE that encodes prompts is among its files; None without one."""
        return self.identity if request.prompt_audio_path is not None else None

    def prepare(self, requests: Sequence[SongRequest]) -> None:
        """Encode the prompts of several requests; in low memory alone on the device."""
        paths = [request.prompt_audio_path for request in requests if request.prompt_audio_path is not None]
        if paths:
            if self.memory == "low":
                self.release("compose")
            self._prompts.prepare(paths)

    def condition(self, request: SongRequest) -> SongBloomConditions:
        """Turn one request into conditions: its phonemes, and its prompt encoded and drawn by its seed.

        Raises:
            ValueError: the request asks for what this model cannot do, or its prompt cannot be used.
            FileNotFoundError: the prompt is missing.
        """
        if request.max_seconds is not None and request.max_seconds > self.max_seconds:
            raise ValueError(
                f"max_seconds is {request.max_seconds:g}; "
                f"{self.name} makes songs of up to {self.max_seconds:g} s"
            )
        if request.stems != "separator":
            check_generate_type(request.generate_type, num_codebooks=1)
        if request.auto_prompt_audio_type is not None:
            raise ValueError(
                f"auto_prompt_audio_type is {request.auto_prompt_audio_type!r}, but {self.name} has no "
                "library of prompts: give prompt_audio_path"
            )
        ids = tuple(self.parts.text.get().encode(request.lyrics).ids)
        if request.prompt_audio_path is None:
            return SongBloomConditions(ids)
        prompt = self._prompts.of_file(request.prompt_audio_path)
        warnings = [f"{request.prompt_audio_path} {warning}" for warning in prompt.warnings]
        notes = {"prompt_seconds": prompt.seconds, "warnings": warnings}
        return SongBloomConditions(ids, prompt.draw(request.seed or 0), notes)

    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write tokens and latents for the jobs, several at once; drafts come in the order they end."""
        if self._composer is None or self._composer.is_busy:
            self._composer = Composer(self.parts.network.get(), replace(self._options, batch=self.plan.batch))
        yield from self._composer.compose(jobs, report)

    def render(self, drafts: Iterator[Draft], report: Report = ignore_progress) -> Iterator[Song]:
        """Decode drafts to audio, the stems that each request's generate type asks for."""
        first = next(drafts, None)  # so that in low memory the VAE is not loaded before it is needed
        if first is None:
            return
        for song in render(self.parts.decoder.get(), itertools.chain([first], drafts), report=report):
            yield with_stems(song, self.parts.separator.get, rows=SEPARATED_ROWS[self._device.type])

    def shrink(self) -> bool:
        """Make half as many songs at once from now on; False if it is one already. Frees what is not used."""
        if self.plan.batch == 1:
            return False
        self.plan = self.plan.with_batch(self.plan.batch // 2)
        self._composer = None
        self._empty_cache()
        return True

    def release(self, stage: Literal["condition", "compose", "render"]) -> None:
        """Free what only this stage needs; it is loaded again when next used."""
        parts = self.parts
        of_stage: dict[str, tuple[Loaded[Any], ...]] = {
            "condition": (parts.encoder,),
            "compose": (parts.network,),
            "render": (parts.decoder, parts.separator),
        }
        if stage == "compose":
            self._composer = None
        for part in of_stage[stage]:
            part.drop()
        self._empty_cache()

    def _empty_cache(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
