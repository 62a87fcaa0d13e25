"""The seam between the engine and a model family: three verbs and the types that pass between them.

A family turns checked requests into conditions, conditions into drafts (what its language model wrote) and
drafts into songs. The engine above knows nothing of tokens or of music; a family knows nothing of files.

Shape legend for the whole package: B rows, K codebooks, T frames, S positions (prefix + delayed frames),
L text length, D width, H heads, E head width, V vocabulary, Z latent channels, C audio channels, N samples,
W window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from songgen.audio import Audio
from songgen.linter import TextRules
from songgen.lrc import TimedLine
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

StopReason = Literal["eos", "length"]


class Conditions(Protocol):
    """What a family's language model is told about one song; opaque to everything above the family.

    `notes` are JSON-ready facts for the record; those under `warnings` are shown to the user.
    """

    @property
    def notes(self) -> Mapping[str, Any]:
        """Such as which prompt was drawn."""


@dataclass(frozen=True)
class Job:
    """One song to make.

    Args:
        name: file stem of the song, unique in a run (`<idx>`, or `<idx>_s<i>` when a request asks for
            several).
        request: the checked request, its lyrics already as the model shall get them.
        seed: 0 ... 2**63 - 1; decides every random number of this song.
        sampling: how tokens are chosen, the request's overrides already applied.
        max_seconds: longest song allowed, None for the model's own limit.
        conditions: what `SongModel.condition` made of the request.
        wants_timing: whether the draft shall say when the lines of the lyrics begin, if the model can tell.
    """

    name: str
    request: SongRequest
    seed: int
    sampling: Sampling
    max_seconds: float | None = None
    conditions: Any = None
    wants_timing: bool = False


@dataclass(frozen=True)
class LmScore:
    """How likely a language model finds what it wrote: mean natural log-probability of a code.

    Args:
        conditional: given the request, before guidance, penalties and temperature.
        null: the same without the request.
    """

    conditional: float
    null: float

    @property
    def difference(self) -> float:
        """What the request adds: how much the song sounds asked for, whatever is likely in any song."""
        return self.conditional - self.null

    def as_dict(self) -> dict[str, float]:
        """The three as a record holds them; rounded, as the last bits depend on where they are computed."""
        conditional, null = round(self.conditional, 6), round(self.null, 6)
        return {"conditional": conditional, "null": null, "difference": round(conditional - null, 6)}


@dataclass(frozen=True)
class Draft:
    """What the language model wrote for a job; can be saved and rendered later.

    Args:
        tokens: `[K, T]` int64 on the CPU, trimmed at the end of the song.
        stopped: `eos` if the model ended the song itself, `length` if it ran into the limit.
        seconds: wall time from the job's entry into a slot to its last token.
        latents: `[Z, T]` float32 on the CPU, of a family that writes them in turn with its tokens and then
            renders from them; None of the others.
        timing: about when the tags and lines of the lyrics begin, in order; None if nobody asked or knows.
        lm_score: of the tokens, where the model keeps one.
    """

    job: Job
    tokens: torch.Tensor
    stopped: StopReason
    seconds: float = 0.0
    latents: torch.Tensor | None = None
    timing: tuple[TimedLine, ...] | None = None
    lm_score: LmScore | None = None


@dataclass(frozen=True)
class Song:
    """A rendered draft: one `Audio` per stem (`mixed`, `vocal`, `bgm`), in the order they are to be
    written."""

    draft: Draft
    stems: dict[str, Audio] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class RunSettings:
    """Where and how a model is run: nothing here says what it makes, though precision decides the last bits.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto`, `fp16`, `bf16` or `fp32` of the language model.
        codec_dtype: the same of the flow network that turns tokens into latents.
        memory: `auto`, `full` or `low`.
        batch: songs at once; None lets the model choose.
        attention: `auto`, `flash`, `triton` or `sdpa`.
        kv_cache: `auto` for the precision of the weights, or `int8`.
        threads: CPU threads, or `auto`.
        gpu_memory: bytes of GPU memory to use, as if there were no more; None for all that is free.
        max_seconds: longest song of the run; None for the model's limit. Caches are made for it.
        num_songs: songs of the run, if known; no more are made at once.
    """

    device: str = "auto"
    dtype: str = "auto"
    codec_dtype: str = "auto"
    memory: str = "auto"
    batch: int | None = None
    attention: str = "auto"
    kv_cache: str = "auto"
    threads: int | str = "auto"
    gpu_memory: int | None = None
    max_seconds: float | None = None
    num_songs: int | None = None


class Report(Protocol):
    """Called by a model as a job advances: stage (`compose`, `render`), job name, fraction done in 0 ...
    1."""

    def __call__(self, stage: str, name: str, fraction: float) -> None: ...


def ignore_progress(stage: str, name: str, fraction: float) -> None:
    """A `Report` for callers that show nothing."""


class ModelFacts(Protocol):
    """What planning and recording a song need to know of a checkpoint, wherever it is loaded.

    `device` and `memory` are what `auto` came to: where it runs, and whether its stages are loaded in turn.
    `max_seconds` is the longest song that it was loaded for. `scores_drafts`: whether its drafts have an
    `lm_score`.
    """

    name: str
    sample_rate: int
    max_seconds: float
    device: str
    memory: Literal["full", "low"]
    scores_drafts: bool

    @property
    def sampling(self) -> Sampling:
        """How the publisher chooses tokens; settings and requests change some of it."""

    @property
    def identity(self) -> str:
        """Hex digest that changes when the checkpoint's files change; part of a song's resume hash."""

    @property
    def summary(self) -> str:
        """One line on how this model runs: device, precision, memory."""

    @property
    def text_rules(self) -> TextRules:
        """What the linter has to know of this model's text: version, limits, token counter."""

    def prompt_identity(self, request: SongRequest) -> str | None:
        """Hex digest of the files that turn this request's prompt into conditions; None without a prompt."""

    @property
    def batch(self) -> int:
        """Songs that the model makes at once."""


class SongModel(ModelFacts, Protocol):
    """A loaded checkpoint of some family: its facts and the three verbs."""

    @property
    def prompt_styles(self) -> Sequence[str]:
        """What `auto_prompt_audio_type` may be; empty without a library of prompts."""

    def prepare(self, requests: Sequence[SongRequest]) -> None:
        """Do what `condition` would do for each of these requests where it is better done together."""

    def condition(self, request: SongRequest) -> Conditions:
        """Turn one request into conditions. Raises ValueError naming what the model cannot take."""

    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write tokens for the jobs, several at once; drafts come in the order they end."""

    def render(self, drafts: Iterator[Draft], report: Report = ignore_progress) -> Iterator[Song]:
        """Decode drafts to audio, the stems that each request's generate type asks for."""

    def shrink(self) -> bool:
        """Make fewer songs at once, memory having run out, and free what is not used; False if it is one."""

    def release(self, stage: Literal["condition", "compose", "render"]) -> None:
        """Free what only this stage needs (low-memory mode); it is loaded again when next used."""
