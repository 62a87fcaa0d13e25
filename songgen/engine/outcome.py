"""How a song ended."""

from __future__ import annotations

from dataclasses import dataclass

from songgen.engine.plan import Plan
from songgen.models.base import Song
from songgen.requests import SongRequest


@dataclass(frozen=True)
class Failure:
    """Why a song was not made: the stage it failed in, and `<exception type>: <message>`."""

    stage: str
    error: str


class OutOfMemory(Failure):
    """Memory ran out: the same may work with fewer songs at once, or with other settings."""


@dataclass(frozen=True)
class Outcome:
    """The end of one song: exactly one of `song`, `failure` and `skipped` is given.

    Args:
        name: the song's name.
        given: its request, as the user wrote it.
        plan: what was to be made; None if it failed before.
        song: the finished song.
        failure: why there is none.
        skipped: it was there already.
        condition_seconds: wall seconds spent on its conditions.
    """

    name: str
    given: SongRequest
    plan: Plan | None = None
    song: Song | None = None
    failure: Failure | None = None
    skipped: bool = False
    condition_seconds: float = 0.0
