"""The pace of an entry of the queue: from what the engine reports to one fraction, a stage and the time
left."""

from __future__ import annotations

from dataclasses import dataclass

COMPOSE_SHARE = 0.7
"""Of the time that a song takes, until one has shown what it is on this machine."""

_LEAST_FRACTION, _LEAST_SECONDS = 0.03, 1.0


@dataclass(frozen=True)
class Progress:
    """How far an entry is.

    Args:
        stage: `prepare` until the model reports, then `compose`, `render`, and `save` when all is rendered.
        stage_fraction: of the songs in this stage, 0 ... 1.
        fraction: of the whole entry, 0 ... 1.
        seconds_left: None while there is too little to go by.
    """

    stage: str
    stage_fraction: float
    fraction: float
    seconds_left: float | None


class Pace:
    """Follows the songs of one entry; a `Report`.

    Args:
        num_songs: songs of the entry.
        compose_share: of a song's time that is composing, 0 ... 1.
        start: seconds of a clock; `progress` takes the same clock.
    """

    def __init__(self, num_songs: int, compose_share: float, start: float) -> None:
        self._num_songs, self._share, self._start = num_songs, compose_share, start
        self._done: dict[str, dict[str, float]] = {"compose": {}, "render": {}}

    def __call__(self, stage: str, name: str, fraction: float) -> None:
        """Take one report of a song's stage; what goes back is passed over."""
        done = self._done.get(stage)
        if done is not None:
            done[name] = max(fraction, done.get(name, 0.0))

    def end(self, name: str) -> None:
        """A song of the entry ended, however it did."""
        for done in self._done.values():
            done[name] = 1.0

    def progress(self, now: float) -> Progress:
        """How far the entry is at a time of the clock."""
        composed, rendered = (sum(done.values()) / self._num_songs for done in self._done.values())
        fraction = self._share * composed + (1 - self._share) * rendered
        elapsed = now - self._start
        known = fraction >= _LEAST_FRACTION and elapsed >= _LEAST_SECONDS
        left = elapsed * (1 - fraction) / fraction if known else None
        if not composed:
            return Progress("prepare", 0.0, 0.0, None)
        if rendered >= 1:
            return Progress("save", 1.0, fraction, left)
        if composed >= 1 or self._is_rendering():
            return Progress("render", rendered, fraction, left)
        return Progress("compose", composed, fraction, left)

    def _is_rendering(self) -> bool:
        return any(0 < fraction < 1 for fraction in self._done["render"].values())
