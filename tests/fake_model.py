"""A song model without a network: noise decided by the seed, and faults on demand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from songgen.audio import Audio
from songgen.linter import TextRules
from songgen.lrc import TimedLine
from songgen.models.base import Draft, Job, LmScore, Report, Song, ignore_progress
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

STEMS = {"mixed": ["mixed"], "vocal": ["vocal"], "bgm": ["bgm"], "separate": ["mixed", "vocal", "bgm"]}


def boom(*args: object) -> None:
    """A fault."""
    raise RuntimeError("boom")


def interrupt(*args: object) -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


class FakeConditions(str):
    """Conditions that tell whose they are, and have something to say to the user."""

    notes: ClassVar[dict[str, Any]] = {"drawn": "Fake/en/0", "warnings": ["a short clip"]}


@dataclass
class FakeModel:
    """Composes `batch` jobs at a time (all of a batch start before the first ends), renders one by one.

    Args:
        faults: (stage, idx or name) to what happens there instead.
        frames: length of a song.
        events: what was done, as (what, name), in order.
        options: that it was loaded with.
        timing: of the lyrics of every song, given to those who ask.
        scores: name to what its draft scores with the request; without it, each draft scores -5.
    """

    batch: int = 1
    memory: Literal["full", "low"] = "full"
    faults: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)
    frames: int = 5
    name: str = "fake"
    sampling: Sampling = field(default_factory=Sampling)
    sample_rate: int = 48000
    max_seconds: float = 60.0
    device: str = "cpu"
    identity: str = "f" * 64
    summary: str = "fake, on nothing"
    prompt_styles: tuple[str, ...] = ("Pop", "Auto")
    events: list[tuple[str, str]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    timing: tuple[TimedLine, ...] | None = None
    scores_drafts: bool = True
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def text_rules(self) -> TextRules:
        return TextRules()

    def _do(self, stage: str, name: str) -> None:
        self.events.append((stage, name))
        fault = self.faults.get((stage, name))
        if fault is not None:
            fault(self)

    def names(self, stage: str) -> list[str]:
        """The names that went through a stage, in order."""
        return [name for what, name in self.events if what == stage]

    def prompt_identity(self, request: SongRequest) -> str | None:
        return "p" * 64 if request.prompt_audio_path or request.auto_prompt_audio_type else None

    def prepare(self, requests: Sequence[SongRequest]) -> None:
        for request in requests:
            self._do("prepare", request.idx)

    def condition(self, request: SongRequest) -> FakeConditions:
        self._do("condition", request.idx)
        return FakeConditions(f"conditions of {request.idx}")

    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        self._do("start", "compose")
        while batch := list(itertools.islice(jobs, self.batch)):
            for job in batch:
                assert job.conditions == f"conditions of {job.request.idx}"
                self._do("compose", job.name)
                report("compose", job.name, 0.5)
            for job in batch:
                generator = torch.Generator().manual_seed(job.seed)
                tokens = torch.randint(0, 100, (3, self.frames), generator=generator)
                timing = self.timing if job.wants_timing else None
                score = LmScore(self.scores[job.name], -5.0) if job.name in self.scores else None
                yield Draft(job, tokens, "length", seconds=0.25, timing=timing, lm_score=score)

    def render(self, drafts: Iterator[Draft], report: Report = ignore_progress) -> Iterator[Song]:
        self._do("start", "render")
        for draft in drafts:
            self._do("render", draft.job.name)
            start = time.perf_counter()
            stems = {
                stem: self.audio(draft, number)
                for number, stem in enumerate(STEMS[draft.job.request.generate_type or "mixed"])
            }
            yield Song(draft, stems, time.perf_counter() - start)

    def audio(self, draft: Draft, number: int) -> Audio:
        """1920 samples a frame of stereo noise from the tokens alone."""
        random = np.random.default_rng([number, *draft.tokens.flatten().tolist()])
        shape = (2, 1920 * draft.tokens.shape[-1])
        return Audio(random.uniform(-0.5, 0.5, shape).astype(np.float32), self.sample_rate)

    def shrink(self) -> bool:
        self._do("shrink", str(self.batch))
        if self.batch == 1:
            return False
        self.batch //= 2
        return True

    def release(self, stage: Literal["compose", "render"]) -> None:
        self._do("release", stage)
