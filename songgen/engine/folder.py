"""A run into an output folder: the one road that `songgen generate` and the page take.

Songs are written and recorded as they end, songs that are there already are left out, and whoever watches can
stop the run from its `Report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from songgen.engine.journal import Journal
from songgen.engine.outcome import Outcome
from songgen.engine.run import Run, record_all
from songgen.requests import SongRequest


class Stopped(BaseException):
    """Raised by a `Report` to end a run. No job's error: it passes through the chain, and what was not
    finished has no record."""


def make_songs(
    run: Run, requests: Iterable[SongRequest], journal: Journal
) -> Iterator[tuple[Outcome, dict[str, Any] | None]]:
    """Make the songs of some requests in the journal's folder, each written and recorded as it ends.

    Args:
        run: of a model in this process, or on the workers of a cluster; not used yet.

    Yields:
        The outcome, without the audio, and its record; None for a song that was there already.

    Raises:
        OSError: a record could not be written.
        Stopped: the report raised it. The model is as after any run, and can make the next song.
    """
    try:
        yield from record_all(run.songs(requests), journal, run.model, run.settings.seed)
    except Stopped:
        run.stop()
        raise
