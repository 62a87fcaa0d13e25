"""The workers of a Ray cluster: how many, where they run, when they are ready, and what is wrong with them.

Ray places the workers, queues their calls, and carries the songs back with back-pressure. A worker that died
gets a successor and is not restarted: nobody knows which calls to a restarted one were carried out. Which
songs a worker gets is up to `spread.py`.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeAlias

from songgen.engine.placement import places
from songgen.engine.plan import Piece, Plan
from songgen.engine.settings import Engine
from songgen.engine.worker import Facts, LoadModel, Made, News, Worker
from songgen.requests import SongRequest

logger = logging.getLogger(__name__)

LOAD_TRIES = 3
"""Workers in a row that may die of loading the model before a seat is given up."""

CONNECT_SECONDS = 10.0
SONGS_UNREAD = 2
"""Songs that wait in Ray's memory for the driver, for each worker, before the worker itself has to wait."""

COLOURS = re.compile("\x1b\\[[0-9;]*m")


@dataclass
class ClusterModel(Facts):
    """The facts of the model that the workers hold."""

    ask: Callable[[SongRequest], str | None] = lambda request: None

    def prompt_identity(self, request: SongRequest) -> str | None:
        """Digest of the files that turn this request's prompt into conditions, as a worker finds them."""
        is_plain = request.prompt_audio_path is None and request.auto_prompt_audio_type is None
        return None if is_plain else self.ask(request)


@dataclass(frozen=True)
class Lost:
    """A worker died or cannot be reached any more, and with it what it was making; another takes its seat."""

    reason: str


Event: TypeAlias = "Facts | Made | News | Lost"


@dataclass
class Seat:
    """A worker as the driver sees it: loading, at work, or given up.

    Args:
        number: counts the workers of a run from 1.
        worker: Ray's handle of it.
        facts: of its model, once that is loaded.
        pieces: what it was given, of each the songs by name that have not ended.
        is_alone: whether it makes a piece's last try, and takes no other beside it.
        deaths: of workers in a row that loaded the model.
        loading, songs, news, giving: Ray's references to what it was asked and has not answered.
    """

    number: int
    worker: Any = None
    facts: Facts | None = None
    pieces: list[dict[str, Plan]] = field(default_factory=list)
    is_alone: bool = False
    loading: Any = None
    songs: Any = None
    news: Any = None
    giving: list[Any] = field(default_factory=list)
    deaths: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it will never be at work again."""
        return self.loading is None and self.facts is None

    @property
    def open(self) -> dict[str, Plan]:
        """The songs that it was given and has not ended, by name."""
        return {name: plan for piece in self.pieces for name, plan in piece.items()}

    def take(self, pieces: Sequence[Piece]) -> None:
        """Note what it is given."""
        self.pieces += [{plan.job.name: plan for plan in piece} for piece in pieces]

    def end(self, name: str) -> Plan:
        """Take off a song that has ended."""
        piece = next(piece for piece in self.pieces if name in piece)
        plan = piece.pop(name)
        if not piece:
            self.pieces.remove(piece)
        return plan

    def references(self) -> list[Any]:
        """All that it was asked and has not answered."""
        return [item for item in (self.loading, self.songs, self.news, *self.giving) if item is not None]


class Cluster:
    """Workers on a Ray cluster, or on all GPUs of this machine; a context manager.

    Args:
        engine: where, and how many workers.
        load: loads the model, in each worker.
        device: as in the settings: `cpu` places workers by CPUs, `cuda` by GPUs, `auto` by GPUs if there
            are any.

    Raises (on entering):
        ImportError: Ray is not installed.
        ConnectionError: no cluster answers at the address.
        ValueError: there is no room for so many workers; also what loading the model raises.
        RuntimeError: every worker died while it loaded the model.
    """

    def __init__(self, engine: Engine, load: LoadModel, *, device: str = "auto") -> None:
        self.engine, self.load, self.device = engine, load, device
        self.seats: list[Seat] = []

    def __enter__(self) -> Cluster:
        self._ray = _import_ray()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _connect(self._ray, self.engine.address)
        try:
            self._hire()
            self.model = ClusterModel(**vars(self._first()), ask=self._ask)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and leave the cluster or end it, if it was started for this run."""
        for seat in self.seats:
            self._ray.kill(seat.worker)
        if self._is_ours:
            self._ray.shutdown()

    def _hire(self) -> None:
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        number, options = places(machines, self.engine, self.device)
        threads = max(1, int(options["num_cpus"])) if options["num_cpus"] else None
        remote = self._ray.remote(concurrency_groups={"ask": 1, "tell": 1}, **options)(Worker)
        self._new_worker = partial(remote.remote, self.load, Path.cwd(), threads)
        for place in range(number):
            self.seats.append(Seat(place + 1))
            self._start(self.seats[-1])

    def _start(self, seat: Seat) -> None:
        """Put a new worker on a seat, wherever Ray finds room for it, and have it load its model."""
        seat.worker = self._new_worker()
        seat.loading = seat.worker.facts.remote()

    def _first(self) -> Facts:
        """Wait for the first worker that is ready: its facts count for all."""
        while True:
            loading = {seat.loading: seat for seat in self.seats if seat.loading is not None}
            ready, _ = self._ray.wait(list(loading), num_returns=1)
            try:
                facts = self._arrived(loading[ready[0]])
            except self._ray.exceptions.RayError as error:
                if all(seat.is_given_up for seat in self.seats):
                    raise self._cause(error) from None
                logger.warning("worker %d is given up: %s", loading[ready[0]].number, self._said(error))
            else:
                if facts is not None:
                    return facts

    def _arrived(self, seat: Seat) -> Facts | None:
        """Take up a worker that has loaded; None if it died and another has taken its place.

        Raises:
            RayError: its model cannot be loaded, or too many have died of it.
        """
        loading, seat.loading = seat.loading, None
        try:
            seat.facts = self._ray.get(loading)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            seat.deaths += 1
            if seat.deaths == LOAD_TRIES:
                raise
            self._start(seat)
        else:
            seat.deaths = 0
        return seat.facts

    def open(self, seat: Seat, group: int) -> None:
        """Set a worker that has loaded to work; `group` as of `Worker.songs`."""
        stream = seat.worker.songs.options(
            num_returns="streaming", _generator_backpressure_num_objects=SONGS_UNREAD
        )
        seat.songs = stream.remote(group)
        self._listen(seat)

    def give(self, seat: Seat, pieces: Sequence[Piece]) -> None:
        """Hand songs to a worker that is at work."""
        seat.take(pieces)
        seat.giving.append(seat.worker.give.options(concurrency_group="ask").remote(pieces))

    def events(self) -> Iterator[tuple[Seat, Event]]:
        """Wait until something happens, and tell all that has.

        `Facts`: a worker has loaded; `Made`: a song has ended; a list: how far songs are; `Lost`: a worker
        was lost and loads anew. A worker that cannot be used at all is given up with a warning.

        Raises:
            RuntimeError: no worker is left.
        """
        owners = {item: seat for seat in self.seats for item in seat.references()}
        if not owners:
            raise RuntimeError("no worker is left; the same command goes on where this run stopped")
        self._ray.wait(list(owners), num_returns=1)
        ready, _ = self._ray.wait(list(owners), num_returns=len(owners), timeout=0)
        for item in ready:
            seat = owners[item]
            if any(item is asked for asked in seat.references()):  # not asked of one lost in the meantime
                event = self._answer(seat, item)
                if event is not None:
                    yield seat, event

    def _answer(self, seat: Seat, item: Any) -> Event | None:
        """Take an answer of a worker; None if it says nothing."""
        if item is seat.loading:
            return self._joined(seat)
        try:
            if item is seat.songs:
                made: Made = self._ray.get(next(item))
                return made
            if item is seat.news:
                news: News = self._ray.get(item)
                self._listen(seat)
                return news
            seat.giving = [other for other in seat.giving if other is not item]
            self._ray.get(item)
        except (self._ray.exceptions.RayError, StopIteration) as error:
            return self._lost(seat, error)
        return None

    def _joined(self, seat: Seat) -> Facts | None:
        """Take up a worker that has loaded, if it can be used and has the same model as the first."""
        try:
            facts = self._arrived(seat)
        except self._ray.exceptions.RayError as error:
            logger.warning("worker %d is given up: %s", seat.number, self._said(error))
            return None
        if facts is not None and facts.identity != self.model.identity:
            seat.facts = None
            logger.warning(
                "worker %d is given up: its files of %s are others than the first's", seat.number, facts.name
            )
        return seat.facts

    def _lost(self, seat: Seat, error: BaseException) -> Lost:
        """Make sure that a worker is gone with all that it was doing, and put a new one in its place."""
        self._ray.kill(seat.worker)
        seat.facts = seat.songs = seat.news = None
        seat.giving = []
        self._start(seat)
        return Lost(self._said(error))

    def _listen(self, seat: Seat) -> None:
        seat.news = seat.worker.news.options(concurrency_group="tell").remote()

    def _ask(self, request: SongRequest) -> str | None:
        """The identity of a request's prompt, of a worker that is at work, else of one that will be."""
        at_work = [seat for seat in self.seats if seat.facts is not None]
        for seat in [*at_work, *(seat for seat in self.seats if seat.loading is not None)]:
            asked = seat.worker.prompt_identity.options(concurrency_group="ask")
            try:
                identity: str | None = self._ray.get(asked.remote(request))
                return identity
            except self._ray.exceptions.RayTaskError as error:
                raise self._cause(error) from None
            except self._ray.exceptions.RayError:
                continue
        raise RuntimeError("no worker is left that could look for the prompt's files")

    def _cause(self, error: BaseException) -> BaseException:
        """What a worker raised, or that it died."""
        if isinstance(error, self._ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
            return error.cause
        return RuntimeError(f"the workers died while they loaded the model: {self._said(error)}")

    def _said(self, error: BaseException) -> str:
        """An error of Ray or of a worker in one line: its first, and its last where the cause stands."""
        if isinstance(error, self._ray.exceptions.RayTaskError):
            error = error.cause
        lines = [line.strip() for line in COLOURS.sub("", str(error)).splitlines() if line.strip()]
        ends = dict.fromkeys([*lines[:1], *lines[-1:]])
        return f"{type(error).__name__}: {' ... '.join(ends)}".removesuffix(": ")


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"engine=ray needs Ray: pip install 'songgen[ray]' ({error})") from error
    return ray


def _connect(ray: ModuleType, address: str | None) -> None:
    if address is None:
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
        return
    host, has_port, port = address.rpartition(":")
    try:
        if has_port:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"engine.address={address}: no Ray cluster can be joined there ({error}); "
            "`ray start --head` starts one, and this machine must be part of it"
        ) from error
