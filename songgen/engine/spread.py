"""The chain on several workers: the driver plans and records, and the workers make the songs between.

    read -> plan -> (skip what is done) -> [worker: condition -> compose -> render] -> save and record

A worker holds enough songs never to have a slot empty, and near the end of a run no more than its share. The
songs of a worker that was lost are made again by others; the last try of a song is made alone, so that a song
that takes its worker down fails by itself.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

from songgen.engine.cluster import Cluster, Lost, Seat
from songgen.engine.outcome import Failure, Outcome
from songgen.engine.plan import Plan
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.engine.worker import Facts, Made
from songgen.models.base import Job, Report, Song, SongModel, ignore_progress
from songgen.requests import SongRequest

logger = logging.getLogger(__name__)

MOST_TRIES = 3
"""Workers that may be lost with a song before it is recorded as failed."""

BATCHES_HELD = 3
"""Batches that a worker holds: songs being composed, songs that wait for their rendering, and the next."""

GROUPS_HELD = 2
"""Groups that a worker in low memory holds: the one that it makes, and the next."""


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
        self._again: deque[Plan] = deque()
        self._last_try: deque[Plan] = deque()
        self._unplanned = 0
        self._is_all_given = False

    def songs(self, requests: Iterable[SongRequest]) -> Iterator[Outcome]:
        """Make the songs of some requests; outcomes come in the order in which songs end.

        Raises:
            RuntimeError: no worker is left.
        """
        requests = list(requests)
        self._unplanned = sum(request.num_samples for request in requests)
        return self._outcomes(self._spread(self._planned(self._counted(requests))))

    def stop(self) -> None:
        """Nothing to free here: the workers end with their cluster."""

    def _counted(self, requests: list[SongRequest]) -> Iterator[SongRequest]:
        for request in requests:
            self._unplanned -= request.num_samples
            yield request

    def _spread(self, jobs: Iterator[Job]) -> Iterator[Song]:
        """The songs that workers make of the jobs; those that fail end on the way."""
        seats = self.cluster.seats
        self._group = max(1, min(self.settings.group, -(-self._unplanned // len(seats))))
        while True:
            for seat in seats:
                self._fill(seat, jobs)
            if self._is_all_given and not (self._again or self._last_try or any(seat.open for seat in seats)):
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

    def _fill(self, seat: Seat, jobs: Iterator[Job]) -> None:
        """Give a worker as many songs as it should hold."""
        if seat.facts is None or seat.is_alone:
            return
        if seat.songs is None:
            self.cluster.open(seat, self._group)
        if self._last_try and not seat.open:
            seat.is_alone = True
            self.cluster.give(seat, [self._last_try.popleft()])
            return
        room = max(0, self._most_held(seat.facts) - len(seat.open))
        plans = list(itertools.islice(self._next_plans(jobs), room))
        if plans:
            self.cluster.give(seat, plans)

    def _most_held(self, facts: Facts) -> int:
        """Songs that a worker should hold: no more than its share of those that are not ended yet."""
        useful = GROUPS_HELD * self._group if facts.memory == "low" else BATCHES_HELD * facts.batch
        seats = [seat for seat in self.cluster.seats if not seat.is_given_up]
        unfinished = self._unplanned + len(self._again) + sum(len(seat.open) for seat in seats)
        return max(1, min(useful, -(-unfinished // len(seats))))

    def _next_plans(self, jobs: Iterator[Job]) -> Iterator[Plan]:
        """The songs to give next: those that were lost, then new ones."""
        while True:
            if self._again:
                yield self._again.popleft()
            elif (job := next(jobs, None)) is not None:
                yield self._plans[job.name]
            else:
                self._is_all_given = True
                return

    def _ended_in(self, seat: Seat, made: Made) -> Iterator[Song]:
        plan = seat.open.pop(made.name)
        seat.is_alone = False
        self._condition_seconds[made.name] = made.condition_seconds
        if made.song is None:
            self._end(made.name, failure=made.failure)
            return
        draft = made.song.draft
        yield replace(made.song, draft=replace(draft, job=replace(plan.job, conditions=draft.job.conditions)))

    def _try_again(self, seat: Seat, lost: Lost) -> None:
        """Put the songs of a lost worker back, or end those that were lost too often."""
        logger.warning(
            "worker %d was lost with %d songs and is replaced (%s)",
            seat.number,
            len(seat.open),
            lost.reason,
        )
        for name, plan in seat.open.items():
            self._tries[name] += 1
            if self._tries[name] == MOST_TRIES:
                error = f"WorkerLost: it was tried {MOST_TRIES} times, and each time its worker was lost"
                self._end(name, failure=Failure("cluster", f"{error}; the last: {lost.reason}"))
            else:
                waiting = self._last_try if self._tries[name] == MOST_TRIES - 1 else self._again
                waiting.append(plan)
        seat.open.clear()
        seat.is_alone = False
