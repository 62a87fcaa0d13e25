"""The chain on several workers: the driver plans and records, and the workers make the songs between.

    read -> plan -> (skip what is done) -> [worker: condition -> compose -> render] -> save and record

A worker holds enough songs never to have a slot empty, and near the end of a run no more than its share. The
songs of a worker that was lost are made again by others; the last try of a song is made alone, so that a song
that takes its worker down fails by itself. What is given, lost and tried again is a piece: a song, or with
`keep=best` the takes of a request together, as the worker that composes them all can tell which is the best.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

from songgen.engine.cluster import Cluster, Lost, Seat
from songgen.engine.outcome import Failure, Outcome
from songgen.engine.plan import Piece, Plan
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.engine.worker import Facts, Made
from songgen.models.base import Draft, Report, Song, SongModel, ignore_progress
from songgen.requests import SongRequest

logger = logging.getLogger(__name__)

MOST_TRIES = 3
"""Workers that may be lost with a song before it is recorded as failed."""

BATCHES_HELD = 3
"""Batches that a worker holds: songs being composed, songs that wait for their rendering, and the next."""

GROUPS_HELD = 2
"""Groups that a worker in low memory holds: the one that it makes, and the next."""

PIECES_HELD = 2
"""Requests that a worker holds of which the takes are more than that: the one that it makes, and the next."""


class SpreadRun(Run):
    """A run over requests whose songs are made by the workers of a cluster; used once.

    Args:
        cluster: the workers, whose model it plans for.
        settings, report, is_done: as of `Run`.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        *,
        report: Report = ignore_progress,
        is_done: Callable[[Plan], bool] = lambda plan: False,
    ) -> None:
        facts = cast(SongModel, cluster.model)  # its three verbs are the workers' to call
        super().__init__(facts, settings, report=report, is_done=is_done)
        self.cluster = cluster
        self._tries: Counter[str] = Counter()
        self._again: deque[Piece] = deque()
        self._last_try: deque[Piece] = deque()
        self._unplanned = 0
        self._is_all_given = False

    def songs(self, requests: Iterable[SongRequest]) -> Iterator[Outcome]:
        """Make the songs of some requests; outcomes come in the order in which songs end.

        Raises:
            RuntimeError: no worker is left.
        """
        requests = list(requests)
        self._unplanned = sum(request.num_samples for request in requests)
        return self._outcomes(self._spread(self._pieces(self._counted(requests))))

    def stop(self) -> None:
        """Nothing to free here: the workers end with their cluster."""

    def _counted(self, requests: list[SongRequest]) -> Iterator[SongRequest]:
        for request in requests:
            self._unplanned -= request.num_samples
            yield request

    def _spread(self, pieces: Iterator[Piece]) -> Iterator[Song]:
        """The songs that workers make; those that fail or are passed over end on the way."""
        seats = self.cluster.seats
        self._group = max(1, min(self.settings.group, -(-self._unplanned // len(seats))))
        while True:
            for seat in seats:
                self._fill(seat, pieces)
            if self._is_all_given and not (
                self._again or self._last_try or any(seat.pieces for seat in seats)
            ):
                return
            for seat, event in self.cluster.events():
                if isinstance(event, Made):
                    yield from self._ended_in(seat, event)
                elif isinstance(event, Lost):
                    self._try_again(seat, event)
                elif not isinstance(event, Facts):
                    for stage, name, fraction in event:
                        if name in seat.open:
                            self.report(stage, name, fraction)

    def _fill(self, seat: Seat, pieces: Iterator[Piece]) -> None:
        """Give a worker as many songs as it should hold."""
        if seat.facts is None or seat.is_alone:
            return
        if seat.songs is None:
            self.cluster.open(seat, self._group)
        if self._last_try and not seat.pieces:
            seat.is_alone = True
            self.cluster.give(seat, [self._last_try.popleft()])
            return
        given = list(self._pieces_for(seat, seat.facts, pieces))
        if given:
            self.cluster.give(seat, given)

    def _pieces_for(self, seat: Seat, facts: Facts, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """What a worker gets beside what it holds: as much as is useful, and no more than its share.

        It gets a piece that is larger than its share if it has no other.
        """
        useful = GROUPS_HELD * self._group if facts.memory == "low" else BATCHES_HELD * facts.batch
        share, held, num_pieces = self._share(), len(seat.open), len(seat.pieces)
        while held < share and (held < useful or num_pieces < PIECES_HELD):
            piece = self._next(pieces)
            if piece is None:
                return
            if num_pieces and held + len(piece) > share:
                self._again.appendleft(piece)
                return
            held, num_pieces = held + len(piece), num_pieces + 1
            yield piece

    def _share(self) -> int:
        """The songs that are not ended yet for each worker, at least one."""
        seats = [seat for seat in self.cluster.seats if not seat.is_given_up]
        waiting = sum(map(len, self._again))
        unfinished = self._unplanned + waiting + sum(len(seat.open) for seat in seats)
        return max(1, -(-unfinished // len(seats)))

    def _next(self, pieces: Iterator[Piece]) -> Piece | None:
        """What to give next: that which was lost, then what is new."""
        if self._again:
            return self._again.popleft()
        piece = next(pieces, None)
        self._is_all_given = piece is None
        return piece

    def _ended_in(self, seat: Seat, made: Made) -> Iterator[Song]:
        plan = seat.end(made.name)
        seat.is_alone = seat.is_alone and bool(seat.pieces)
        self._condition_seconds[made.name] = made.condition_seconds
        if made.song is None:
            passed_over = None if made.passed_over is None else _whole(made.passed_over, plan)
            self._end(made.name, failure=made.failure, passed_over=passed_over)
            return
        yield replace(made.song, draft=_whole(made.song.draft, plan))

    def _try_again(self, seat: Seat, lost: Lost) -> None:
        """Put the songs of a lost worker back, or end those that were lost too often."""
        logger.warning(
            "worker %d was lost with %d songs and is replaced (%s)",
            seat.number,
            len(seat.open),
            lost.reason,
        )
        for piece in seat.pieces:
            self._tries.update(piece.keys())
            tries = max(self._tries[name] for name in piece)
            if tries == MOST_TRIES:
                error = f"WorkerLost: it was tried {MOST_TRIES} times, and each time its worker was lost"
                for name in piece:
                    self._end(name, failure=Failure("cluster", f"{error}; the last: {lost.reason}"))
            else:
                waiting = self._last_try if tries == MOST_TRIES - 1 else self._again
                waiting.append(tuple(piece.values()))
        seat.pieces.clear()
        seat.is_alone = False


def _whole(draft: Draft, plan: Plan) -> Draft:
    """A draft that has travelled, with its job as it was planned here."""
    return replace(draft, job=replace(plan.job, conditions=draft.job.conditions))
