"""A worker: a process of its own that holds a model and runs the chain over the songs that it is given.

What it is told and what it hands back are plain values that travel between machines. It knows nothing of the
cluster that it is part of, of the other workers, or of files.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from songgen.engine.outcome import Failure, Outcome
from songgen.engine.plan import Piece
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.linter import TextRules
from songgen.models.base import Draft, Song, SongModel
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LoadModel = Callable[[], SongModel]
News = list[tuple[str, str, float]]
"""Stage, name and fraction done, as a `Report` is told."""

NEWS_SECONDS = 1.0


@dataclass
class Facts:
    """The facts of a model that is loaded elsewhere, as `ModelFacts` names them."""

    name: str
    sample_rate: int
    max_seconds: float
    device: str
    memory: Literal["full", "low"]
    batch: int
    sampling: Sampling
    identity: str
    summary: str
    text_rules: TextRules
    scores_drafts: bool

    @classmethod
    def of(cls, model: SongModel) -> Facts:
        """The facts of a loaded model."""
        return cls(**{name: getattr(model, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Notes:
    """What is left of a song's conditions once it is made: what the record says of them."""

    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """How a song ended in a worker: made, failed, or passed over for another take of its request."""

    name: str
    song: Song | None
    failure: Failure | None
    passed_over: Draft | None
    condition_seconds: float

    @classmethod
    def of(cls, outcome: Outcome) -> Made:
        """What travels back: the audio and tokens, without the conditions, which may lie on a GPU."""
        song, failure, passed_over = outcome.song, outcome.failure, outcome.passed_over
        if failure is not None:
            failure = Failure(failure.stage, failure.error)
        if song is not None:
            song = replace(song, draft=_light(song.draft))
        if passed_over is not None:
            passed_over = _light(passed_over)
        return cls(outcome.name, song, failure, passed_over, outcome.condition_seconds)


def _light(draft: Draft) -> Draft:
    conditions = draft.job.conditions
    notes = Notes(dict(conditions.notes) if conditions is not None else {})
    return replace(draft, job=replace(draft.job, conditions=notes))


class Worker:
    """Makes the songs that it is given, with a model that it loads itself.

    Args:
        load: loads the model.
        folder: the working folder of the run, from which relative paths count; entered where it exists.
        threads: CPU threads at most, None for no limit.
    """

    def __init__(self, load: LoadModel, folder: Path, threads: int | None = None) -> None:
        self._load, self._folder, self._threads = load, folder, threads
        self._model: SongModel | None = None
        self._loading = threading.Lock()
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self._told: dict[tuple[str, str], float] = {}
        self._telling = threading.Lock()

    def facts(self) -> Facts:
        """The facts of the model, loaded if it is not yet."""
        return Facts.of(self._loaded())

    def prompt_identity(self, request: SongRequest) -> str | None:
        """As of the model: digest of the files behind a request's prompt."""
        return self._loaded().prompt_identity(request)

    def give(self, pieces: Sequence[Piece]) -> None:
        """Songs to make, once there is room for them; of a piece of several takes, the best."""
        for piece in pieces:
            self._pieces.put(piece)

    def news(self) -> News:
        """How far songs have come since the last call, after a pause."""
        time.sleep(NEWS_SECONDS)
        with self._telling:
            told, self._told = self._told, {}
        return [(stage, name, fraction) for (stage, name), fraction in told.items()]

    def songs(self, group: int) -> Iterator[Made]:
        """Make songs for ever, waiting for more to be given.

        Args:
            group: songs composed before they are rendered, in low memory.

        Raises:
            RuntimeError: the device can no longer be used; what it was making is to be made elsewhere.
        """
        model = self._loaded()
        settings = Settings(sampling=model.sampling, seed=0, memory=model.memory, group=group)
        while True:
            first = self._pieces.get()
            for outcome in Run(model, settings, report=self._tell).planned(self._waiting(first)):
                if outcome.failure is not None and model.device.startswith("cuda"):
                    torch.cuda.synchronize()  # a GPU that has faulted would fail all songs to come
                yield Made.of(outcome)

    def _waiting(self, first: Piece) -> Iterator[Piece]:
        """That piece and those that wait behind it; ends rather than keep begun songs waiting for more."""
        yield first
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._pieces.get_nowait()

    def _tell(self, stage: str, name: str, fraction: float) -> None:
        with self._telling:
            self._told[stage, name] = fraction

    def _loaded(self) -> SongModel:
        with self._loading:
            if self._model is None:
                if self._folder.is_dir():
                    os.chdir(self._folder)
                self._model = self._load()
                if self._threads is not None and torch.get_num_threads() > self._threads:
                    torch.set_num_threads(self._threads)
            return self._model
