"""The journal of a run: the open record file, what earlier runs left, and the record of each song."""

from __future__ import annotations

import logging
import platform
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from songgen import __version__
from songgen.engine.outcome import Outcome
from songgen.engine.output import RECORDS_FOLDER, Saved, clear_leftovers, remove_song
from songgen.engine.plan import Plan
from songgen.engine.resume import History, fingerprint
from songgen.engine.settings import Output
from songgen.models.base import Draft, ModelFacts
from songgen.records import Record, RecordFile

if TYPE_CHECKING:
    from songgen.requests import BadLine

logger = logging.getLogger(__name__)

RANDOM_SEED_BITS = 32


class Journal:
    """Reads and writes the records of one input in an output folder; a context manager.

    Args:
        output: where the songs go and in what form.
        name: the input's name without suffix; names the record file.
        resume: whether songs that are there already count as made.

    Raises (on entering):
        OSError: the folder cannot be written, or another run is writing the same records.
    """

    def __init__(self, output: Output, name: str, *, resume: bool = True) -> None:
        self.output = output
        self.path = output.dir / RECORDS_FOLDER / f"{name}.jsonl"
        self.resume = resume
        self._file = RecordFile(self.path)
        self._fingerprints: dict[str, str] = {}
        self._failed_takes: dict[tuple[str, int], list[str]] = {}

    def __enter__(self) -> Journal:
        self._file.__enter__()
        clear_leftovers(self.output.dir)
        self._history = History(self.output.dir, self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def run_seed(self, seed: int | None) -> int:
        """The run's seed: the given one; else, on resuming, the folder's last; else a random one."""
        if seed is not None:
            return seed
        kept = self._history.run_seed if self.resume else None
        return draw_seed() if kept is None else kept

    def is_done(self, plan: Plan, model: ModelFacts) -> bool:
        """Whether a song is there already, made from the same recipe by the same model in the same form.

        A song that another input put there gets its record in this run's file too. A song that was kept of
        several takes counts for all of them, also for those that failed: they are named in a warning.
        """
        name = plan.job.name
        wanted = self._fingerprints[name] = fingerprint(plan, model.identity, self.output)
        record = self._history.find(name, wanted) if self.resume else None
        if record is None:
            return False
        if not self._history.is_in_own(name, wanted):
            self._file.append(record)
        if failed := record.get("failed_takes"):
            logger.warning(
                "%s: was kept although %s failed, and is left as it is; resume=false makes all takes again",
                name,
                ", ".join(map(str, failed)),
            )
        return True

    def write(
        self, outcome: Outcome, saved: Saved | None, model: ModelFacts, run_seed: int | None
    ) -> dict[str, Any]:
        """Append the record of a song that was made, passed over or failed; returns it.

        What an earlier run left of a take that is passed over now is removed first.
        """
        if outcome.passed_over is not None:
            self._remove_old(outcome)
        record = Record(
            idx=outcome.given.idx,
            name=outcome.name,
            status="ok" if outcome.failure is None else "failed",
            line=outcome.given.line or None,
            request=dict(outcome.given.source),
            model=model.name,
            identity=model.identity,
            run_seed=run_seed,
            device=model.device,
            versions=versions(),
            fingerprint=self._fingerprints.get(outcome.name),
            failed_takes=self._failed_beside(outcome),
            **_failure_keys(outcome),
            **_plan_keys(outcome.plan),
            **_song_keys(outcome, saved),
        ).as_dict()
        self._file.append(record)
        return record

    def write_bad_line(self, bad: BadLine, model_name: str) -> None:
        """Append the record of an input line that is no request."""
        record = Record(
            idx=bad.idx,
            name=None,
            status="failed",
            error=str(bad),
            stage="read",
            line=bad.line,
            request=bad.source,
            model=model_name,
            versions=versions(),
        )
        self._file.append(record.as_dict())

    def _failed_beside(self, outcome: Outcome) -> list[str] | None:
        """The failed takes of a request whose best this is; notes one that fails."""
        plan, request = outcome.plan, outcome.given
        if plan is None or "keep" not in plan.recipe or outcome.passed_over is not None:
            return None
        if outcome.failure is None:
            return self._failed_takes.pop((request.idx, request.line), None)
        self._failed_takes.setdefault((request.idx, request.line), []).append(outcome.name)
        return None

    def _remove_old(self, outcome: Outcome) -> None:
        old = self._history.songs.get(outcome.name, {})
        paths = old.get("paths")
        if old.get("idx") != outcome.given.idx or not isinstance(paths, Mapping):
            return
        if removed := remove_song(self.output.dir, map(str, paths.values())):
            logger.warning(
                "%s: %s of an earlier run is removed, as another take is kept now",
                outcome.name,
                ", ".join(removed),
            )


def draw_seed() -> int:
    """A random seed for a run, short enough to be typed again."""
    return secrets.randbits(RANDOM_SEED_BITS)


def versions() -> dict[str, str]:
    """Versions of what computes a song."""
    return {"songgen": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _failure_keys(outcome: Outcome) -> dict[str, Any]:
    return {} if outcome.failure is None else asdict(outcome.failure)


def _plan_keys(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        return {}
    job = plan.job
    return {
        "lyrics": job.request.lyrics,
        "descriptions": job.request.descriptions,
        "mended": plan.mended,
        "findings": [asdict(finding) for finding in plan.findings],
        "generate_type": job.request.generate_type,
        "stems": job.request.stems,
        "seed": job.seed,
        "sampling": asdict(job.sampling),
        "max_seconds": job.max_seconds,
    }


def _song_keys(outcome: Outcome, saved: Saved | None) -> dict[str, Any]:
    song = outcome.song
    if outcome.passed_over is not None:
        seconds = {"condition": outcome.condition_seconds, "compose": outcome.passed_over.seconds}
        return {"kept": False, **_draft_keys(outcome.passed_over), "seconds": _rounded(seconds)}
    if song is None or saved is None:
        return {}
    first = next(iter(song.stems.values()))
    seconds = {
        "condition": outcome.condition_seconds,
        "compose": song.draft.seconds,
        "render": song.seconds,
        "save": saved.seconds,
    }
    return {
        "paths": dict(saved.paths),
        "bytes": dict(saved.bytes),
        "clipped": saved.clipped,
        "duration": round(first.seconds, 6),
        "seconds": _rounded(seconds),
        **_draft_keys(song.draft),
    }


def _draft_keys(draft: Draft) -> dict[str, Any]:
    score, conditions = draft.lm_score, draft.job.conditions
    return {
        "stopped": draft.stopped,
        "frames": int(draft.tokens.shape[-1]),
        "lm_score": None if score is None else score.as_dict(),
        "notes": dict(conditions.notes) or None if conditions else None,
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}
