"""How a song ended."""

from __future__ import annotations

from dataclasses import dataclass

from songgen.engine.plan import Plan
from songgen.engine.settings import Memory
from songgen.models.base import Draft, Song
from songgen.requests import SongRequest


@dataclass(frozen=True)
class Failure:
    """Why a song was not made: the stage it failed in, and `<exception type>: <message>`."""

    stage: str
    error: str


class OutOfMemory(Failure):
    """Memory ran out: the same may work with fewer songs at once, or with other settings."""


def remedy(memory: Memory) -> str:
    """What to do when memory is not enough for one song."""
    low = "memory=low, " if memory == "full" else ""
    return f"{low}dtype=fp16 or bf16, kv_cache=int8 and a smaller max_seconds need less"


@dataclass(frozen=True)
class Outcome:
    """The end of one song: exactly one of `song`, `failure`, `skipped` and `passed_over` is given.

    Args:
        name: the song's name.
        given: its request, as the user wrote it.
        plan: what was to be made; None if it failed before.
        song: the finished song.
        failure: why there is none.
        skipped: it was there already, or the take of its request that was kept.
        passed_over: what was composed, where another take of the request was kept.
        condition_seconds: wall seconds spent on its conditions.
    """

    name: str
    given: SongRequest
    plan: Plan | None = None
    song: Song | None = None
    failure: Failure | None = None
    skipped: bool = False
    passed_over: Draft | None = None
    condition_seconds: float = 0.0
