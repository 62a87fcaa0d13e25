"""The queue: entries wait in order, and one thread makes them with the engine of the command line.

An entry is one request, its songs made together. It can be cancelled while it waits, and while it is made:
then the run ends at its next report, and what it had finished stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from songgen.audio import AudioFormat
from songgen.engine.folder import Stopped, make_songs
from songgen.engine.journal import Journal
from songgen.engine.outcome import Failure
from songgen.engine.plan import seconds_limit
from songgen.engine.run import Run, attempt
from songgen.engine.settings import LyricsPolicy, Output, Settings
from songgen.models.base import SongModel
from songgen.request_names import song_names
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling
from songgen.ui.history import free_name
from songgen.ui.pace import COMPOSE_SHARE, Pace, Progress

RECORDS_NAME = "page"
"""Of the record file: OUT/jsonl/page.jsonl."""

MOST_WAITING, MOST_ENDED = 100, 20
"""Entries that may wait; ended ones that are still shown."""

State = Literal["waiting", "making", "made", "failed", "cancelled"]


@dataclass(frozen=True)
class Wanted:
    """What an entry is made from: a request with a seed, the run's sampling, and the form of its files."""

    request: SongRequest
    sampling: Sampling
    format: AudioFormat = "wav"
    bits: int | None = None


@dataclass
class Entry:
    """One entry of the queue. `made` are the names of its finished songs; `error` says what went wrong."""

    number: int
    wanted: Wanted
    state: State = "waiting"
    is_cancelled: bool = False
    made: list[str] = field(default_factory=list)
    error: str = ""
    pace: Pace | None = None


@dataclass(frozen=True)
class View:
    """An entry at one moment, for whoever shows it."""

    number: int
    idx: str
    num_songs: int
    state: State
    is_cancelled: bool
    made: tuple[str, ...]
    error: str
    progress: Progress | None


class SongQueue:
    """Entries and the thread that makes them.

    Args:
        model: the loaded model; used by the thread alone.
        output: the folder, and whether tokens are kept.
        lyrics: what is done with faulty text.
        taken: the names of the folder's songs, in lower case.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        model: SongModel,
        output: Output,
        *,
        lyrics: LyricsPolicy = "fix",
        taken: Callable[[], set[str]] = set,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._output, self._lyrics = model, output, lyrics
        self._taken, self._clock = taken, clock
        self._entries: list[Entry] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._compose_share = COMPOSE_SHARE
        self._thread = threading.Thread(target=self._work, name="songgen-queue", daemon=True)
        self._thread.start()

    def add(self, name: str, want: Callable[[str], Wanted]) -> View:
        """Put an entry at the end of the queue.

        Args:
            name: the name that is wished for.
            want: the entry of the free name that it gets.

        Raises:
            ValueError: too many wait, the page is closing, or what `want` raises.
        """
        with self._changed:
            if self._is_closed:
                raise ValueError("the page is closing")
            if sum(entry.state == "waiting" for entry in self._entries) >= MOST_WAITING:
                raise ValueError(f"{MOST_WAITING} songs wait already: wait for some, or cancel them")
            wanted = want(free_name(name, self._taken() | self._names()))
            number = self._entries[-1].number + 1 if self._entries else 1
            entry = Entry(number, wanted)
            self._entries.append(entry)
            self._changed.notify_all()
            return self._view(entry)

    def cancel(self, number: int) -> bool:
        """Cancel an entry; False if there is none, or it has ended."""
        with self._changed:
            for entry in self._entries:
                if entry.number == number and entry.state in ("waiting", "making"):
                    entry.is_cancelled = True
                    if entry.state == "waiting":
                        entry.state = "cancelled"
                    self._changed.notify_all()
                    return True
        return False

    def views(self) -> list[View]:
        """All entries in order: the last that ended, the one being made, those that wait."""
        with self._changed:
            return [self._view(entry) for entry in self._entries]

    def wait(self, number: int, timeout: float) -> View:
        """The entry when it has ended, or after some seconds as it is then."""
        with self._changed:
            entry = next(entry for entry in self._entries if entry.number == number)
            self._changed.wait_for(lambda: entry.state not in ("waiting", "making"), timeout)
            return self._view(entry)

    def close(self, timeout: float = 60.0) -> None:
        """Cancel all and wait for the thread to end."""
        with self._changed:
            self._is_closed = True
            for entry in self._entries:
                entry.is_cancelled = True
                entry.state = "cancelled" if entry.state == "waiting" else entry.state
            self._changed.notify_all()
        self._thread.join(timeout)

    def _names(self) -> set[str]:
        """The names that unfinished entries will write."""
        return {
            name.casefold()
            for entry in self._entries
            if entry.state in ("waiting", "making")
            for name in (entry.wanted.request.idx, *_song_names(entry.wanted.request))
        }

    def _view(self, entry: Entry) -> View:
        progress = entry.pace.progress(self._clock()) if entry.pace and entry.state == "making" else None
        request = entry.wanted.request
        return View(
            entry.number,
            request.idx,
            request.num_samples,
            entry.state,
            entry.is_cancelled,
            tuple(entry.made),
            entry.error,
            progress,
        )

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            try:
                failure = attempt("record", self._make, entry)
                state: State = "failed" if isinstance(failure, Failure) or entry.error else "made"
            except Stopped:
                failure, state = None, "cancelled"
            with self._changed:
                if isinstance(failure, Failure):
                    entry.error = failure.error
                entry.state = state
                self._forget()
                self._changed.notify_all()

    def _next(self) -> Entry | None:
        """The first entry that waits, now being made; None when the page closes."""
        with self._changed:
            while not self._is_closed:
                entry = next((entry for entry in self._entries if entry.state == "waiting"), None)
                if entry is not None:
                    entry.state = "making"
                    entry.pace = Pace(entry.wanted.request.num_samples, self._compose_share, self._clock())
                    return entry
                self._changed.wait()
        return None

    def _make(self, entry: Entry) -> None:
        """Make an entry's songs, each recorded as it ends."""
        wanted, pace = entry.wanted, entry.pace
        assert pace is not None and wanted.request.seed is not None

        def report(stage: str, name: str, fraction: float) -> None:
            if entry.is_cancelled:
                raise Stopped
            with self._changed:
                pace(stage, name, fraction)

        output = replace(self._output, format=wanted.format, bits=wanted.bits)
        settings = Settings(
            sampling=wanted.sampling,
            seed=wanted.request.seed,
            lyrics=self._lyrics,
            max_seconds=seconds_limit(None, self._model),
            memory=self._model.memory,
            timing=output.lrc,
        )
        with Journal(output, RECORDS_NAME) as journal:
            run = Run(
                self._model,
                settings,
                report=report,
                is_done=lambda plan: journal.is_done(plan, self._model),
            )
            for outcome, record in make_songs(run, [wanted.request], journal):
                self._end(entry, outcome.name, record)

    def _end(self, entry: Entry, name: str, record: Mapping[str, Any] | None) -> None:
        """Note how one song of an entry ended."""
        with self._changed:
            assert entry.pace is not None
            entry.pace.end(name)
            if record is None or record["status"] == "ok":
                entry.made.append(name)
                self._learn(record)
            else:
                entry.error = f"{record['stage']}: {record['error']}"
            self._changed.notify_all()

    def _learn(self, record: Mapping[str, Any] | None) -> None:
        """What share of its time the last song was composed."""
        seconds = (record or {}).get("seconds") or {}
        compose, render = seconds.get("compose", 0.0), seconds.get("render", 0.0)
        if compose > 0 and render > 0:
            self._compose_share = compose / (compose + render)

    def _forget(self) -> None:
        """Drop the oldest of the entries that have ended."""
        ended = [entry for entry in self._entries if entry.state not in ("waiting", "making")]
        for entry in ended[:-MOST_ENDED]:
            self._entries.remove(entry)


def _song_names(request: SongRequest) -> list[str]:
    return song_names(request.idx, request.num_samples)
