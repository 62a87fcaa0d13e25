"""The run: a chain of generators from requests to songs, and the one place that catches what a job throws.

    plan -> (skip what is done) -> condition -> compose -> (keep the best take) -> render -> save and record

A song that fails leaves the chain with its error and the others go on. In low memory the same chain runs by
groups, the other stage released. Where memory runs out, half as many songs are made at once.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from songgen.engine.drafts import read_draft
from songgen.engine.flight import Flight, Item, name_of
from songgen.engine.journal import Journal
from songgen.engine.outcome import Failure, Outcome, OutOfMemory, remedy
from songgen.engine.output import Saved, save_song
from songgen.engine.plan import FileNames, Piece, Plan, plan_request
from songgen.engine.settings import Settings
from songgen.engine.takes import Takes, check_keep
from songgen.models.base import Draft, Job, ModelFacts, Report, Song, SongModel, ignore_progress
from songgen.request_names import song_names
from songgen.requests import GenerateType, SongRequest
from songgen.runtime.memory import free_frames, is_out_of_memory

logger = logging.getLogger(__name__)

P = ParamSpec("P")
Value = TypeVar("Value")
Product = TypeVar("Product", Draft, Song)
Stage = Callable[[Iterator[Item]], Iterator[Product]]


def attempt(stage: str, action: Callable[P, Value], *args: P.args, **options: P.kwargs) -> Value | Failure:
    """The edge of a job: what an action returns, or why it failed. Nothing else catches broadly."""
    try:
        return action(*args, **options)
    except Exception as error:
        logger.debug("%s failed", stage, exc_info=True)
        message = str(error).strip()
        if is_out_of_memory(error):
            free_frames(error)
            message = message.partition("\n")[0].partition(" GPU ")[0]  # not the allocator's statistics
            return OutOfMemory(stage, f"{type(error).__name__}: {message or 'memory ran out'}")
        return Failure(stage, f"{type(error).__name__}: {message}" if message else type(error).__name__)


def record_all(
    outcomes: Iterable[Outcome], journal: Journal, model: ModelFacts, run_seed: int | None
) -> Iterator[tuple[Outcome, dict[str, Any] | None]]:
    """Write each song and its record as it ends; yields the outcome, without the audio, and the record.

    A skipped song has no new record.

    Raises:
        OSError: a record could not be written.
    """
    for outcome in outcomes:
        if outcome.skipped:
            yield outcome, None
            continue
        saved: Saved | Failure | None = None
        if outcome.song is not None:
            saved = attempt("save", save_song, outcome.song, journal.output, model)
        if isinstance(saved, Failure):
            outcome, saved = replace(outcome, song=None, failure=saved), None
        record = journal.write(outcome, saved, model, run_seed)
        yield replace(outcome, song=None), record


class Run:
    """One run of a model over requests or saved tokens; used once.

    Args:
        model: the loaded model.
        settings: what requests do not decide themselves.
        report: told how far each song is.
        is_done: whether a song can be left out, being there already.

    Raises:
        ValueError: takes are to be ranked by a score that the model does not keep.
    """

    def __init__(
        self,
        model: SongModel,
        settings: Settings,
        *,
        report: Report = ignore_progress,
        is_done: Callable[[Plan], bool] = lambda plan: False,
    ) -> None:
        check_keep(settings, model)
        self.model = model
        self.settings = settings
        self.report = report
        self.is_done = is_done
        self._plans: dict[str, Plan] = {}
        self._files = FileNames()
        self._condition_seconds: dict[str, float] = {}
        self._ended: deque[Outcome] = deque()
        self._takes = Takes(lambda draft: self._end(draft.job.name, passed_over=draft))

    def songs(self, requests: Iterable[SongRequest]) -> Iterator[Outcome]:
        """Make the songs of some requests; outcomes come in the order in which songs end."""
        jobs = self._jobs(self._pieces(list(requests)))
        return self._outcomes(self._made(self._conditioned(jobs)))

    def planned(self, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        """Make songs that another process has planned; of the takes of a piece the best."""
        jobs = self._jobs(tuple(filter(self._is_wanted, piece)) for piece in pieces)
        return self._outcomes(self._made(self._conditioned(jobs)))

    def stop(self) -> None:
        """Free what a run that is given up would have freed at its end."""
        self.model.release("condition")
        if self.settings.memory == "low":
            self.model.release("compose")
            self.model.release("render")

    def renders(self, paths: Iterable[Path], generate_type: GenerateType | None = None) -> Iterator[Outcome]:
        """Render saved tokens; `generate_type` None keeps the stems that each song was made with."""
        if self.settings.memory == "low":
            self.model.release("compose")
        return self._outcomes(self._rendered(self._read(list(paths), generate_type)))

    def _outcomes(self, songs: Iterator[Song]) -> Iterator[Outcome]:
        """Songs as they end, failed and skipped ones between them; every planned song has one outcome."""
        for song in songs:
            self._end(song.draft.job.name, song=song)
            yield from self._drain()
        yield from self._drain()
        assert not self._plans, f"songs without an outcome: {sorted(self._plans)}"

    def _drain(self) -> Iterator[Outcome]:
        while self._ended:
            yield self._ended.popleft()

    def _end(
        self,
        name: str,
        *,
        song: Song | None = None,
        failure: Failure | None = None,
        passed_over: Draft | None = None,
    ) -> None:
        """End a planned song: made, failed, passed over for another take or, with none of these, skipped."""
        if isinstance(failure, OutOfMemory):
            failure = replace(failure, error=f"{failure.error}; {remedy(self.settings.memory)}")
        plan = self._plans.pop(name)
        seconds = self._condition_seconds.pop(name, 0.0)
        skipped = song is None and failure is None and passed_over is None
        self._ended.append(Outcome(name, plan.given, plan, song, failure, skipped, passed_over, seconds))
        self._takes.end(name)

    def _pieces(self, requests: Iterable[SongRequest]) -> Iterator[Piece]:
        for request in requests:
            plans = attempt("plan", plan_request, request, self.model, self.settings)
            if isinstance(plans, Failure):
                names = song_names(request.idx, request.num_samples)
                self._ended.extend(Outcome(name, request, failure=plans) for name in names)
                continue
            for finding in plans[0].findings:
                level = logging.INFO if finding.severity == "hint" else logging.WARNING
                mended = " (mended)" if finding.safe and self.settings.lyrics == "fix" else ""
                logger.log(level, "%s: %s%s", request.idx, finding, mended)
            yield from self._wanted(plans)

    def _wanted(self, plans: list[Plan]) -> Iterator[Piece]:
        """Enter a request's plans into the run; of takes of which one is kept, its being there is enough."""
        before = len(self._ended)
        wanted = [plan for plan in plans if self._is_wanted(plan)]
        if self.settings.keep == "all" or len(plans) == 1:
            yield from ((plan,) for plan in wanted)
        elif any(outcome.skipped for outcome in list(self._ended)[before:]):
            for plan in wanted:
                self._end(plan.job.name)
        elif wanted:
            yield tuple(wanted)

    def _jobs(self, pieces: Iterable[Piece]) -> Iterator[Job]:
        for piece in pieces:
            if len(piece) > 1:
                self._takes.expect([plan.job.name for plan in piece])
            for plan in piece:
                yield plan.job

    def _is_wanted(self, plan: Plan) -> bool:
        """Enter a plan into the run; False if its song ended at once, being there already or impossible."""
        name = plan.job.name
        clash = attempt("plan", self._files.claim, plan)
        if isinstance(clash, Failure):
            self._ended.append(Outcome(name, plan.given, plan, failure=clash))
            return False
        self._plans[name] = plan
        done = attempt("plan", self.is_done, plan)
        if done is False:
            return True
        self._end(name, failure=done if isinstance(done, Failure) else None)
        return False

    def _conditioned(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """Conditions for as many jobs together as will be composed together.

        What made them is freed after the last, in low memory after each group.
        """
        is_low = self.settings.memory == "low"
        size = self.settings.group if is_low else self.model.batch
        while group := list(itertools.islice(jobs, size)):
            start = time.perf_counter()
            failure = attempt("condition", self.model.prepare, [job.request for job in group])
            if isinstance(failure, Failure):
                logger.warning("prompts together: %s; taking them one by one", failure.error)
            shared = (time.perf_counter() - start) / len(group)
            ready = [conditioned for job in group for conditioned in self._condition(job, shared)]
            if is_low:
                self.model.release("condition")
            yield from ready
        if not is_low:
            self.model.release("condition")

    def _condition(self, job: Job, shared_seconds: float = 0.0) -> Iterator[Job]:
        start = time.perf_counter()
        conditions = attempt("condition", self.model.condition, job.request)
        self._condition_seconds[job.name] = shared_seconds + time.perf_counter() - start
        if isinstance(conditions, Failure):
            self._end(job.name, failure=conditions)
            return
        for warning in conditions.notes.get("warnings", ()):
            logger.warning("%s: %s", job.name, warning)
        yield replace(job, conditions=conditions)

    def _read(self, paths: list[Path], generate_type: GenerateType | None) -> Iterator[Draft]:
        """Saved drafts, with conditions where rendering needs them: in-context decode of a prompt."""
        for path in paths:
            found = attempt("read", read_draft, path, generate_type)
            if isinstance(found, Failure):
                self._ended.append(Outcome(path.stem, SongRequest(idx=path.stem, lyrics=""), failure=found))
                continue
            plan, draft, identity = found
            if identity not in (None, self.model.identity):
                logger.warning("%s: was composed by another model than %s", path, self.model.name)
            if not self._is_wanted(plan):
                continue
            job = draft.job
            has_prompt = bool(job.request.prompt_audio_path or job.request.auto_prompt_audio_type)
            if has_prompt and draft.latents is None:
                yield from (replace(draft, job=ready) for ready in self._condition(job))
            else:
                yield draft

    def _made(self, jobs: Iterator[Job]) -> Iterator[Song]:
        """Compose and render: as one stream, or in low memory group by group."""
        if self.settings.memory == "full":
            yield from self._rendered(self._takes.best(self._composed(jobs)))
            return
        while group := list(itertools.islice(jobs, self.settings.group)):
            drafts = list(self._takes.best(self._composed(iter(group))))
            self.model.release("compose")
            yield from self._rendered(iter(drafts))
            self.model.release("render")
        if left := list(self._takes.best(iter(()))):  # whose last takes got no conditions
            yield from self._rendered(iter(left))
            self.model.release("render")

    def _composed(self, jobs: Iterator[Job]) -> Iterator[Draft]:
        for draft in self._through("compose", lambda some: self.model.compose(some, self.report), jobs):
            name = draft.job.name
            self.report("compose", name, 1.0)
            if draft.tokens.shape[-1]:
                yield draft
            else:
                self._end(name, failure=Failure("compose", "the model ended the song before its first frame"))

    def _rendered(self, drafts: Iterator[Draft]) -> Iterator[Song]:
        for song in self._through("render", lambda some: self.model.render(some, self.report), drafts):
            self.report("render", song.draft.job.name, 1.0)
            yield song

    def _through(self, name: str, stage: Stage[Item, Product], items: Iterator[Item]) -> Iterator[Product]:
        """Send items through a stage of the model.

        When the stage throws, the items that it had taken and not given back are tried again one at a time,
        so that only those fail that fail alone; then the stage starts afresh with the items that follow. When
        it runs out of memory, it starts afresh with fewer at once, while the model can make fewer.
        """
        while True:
            flight: Flight[Item] = Flight(items)
            failure = yield from _drive(name, stage, flight)
            if isinstance(failure, OutOfMemory) and self._shrunk(failure):
                items = itertools.chain(list(flight.open.values()), items)
                continue
            for item in list(flight.open.values()):
                if failure is not None and flight.taken > 1:
                    logger.warning("%s: %s failed (%s); trying it alone", name_of(item), name, failure.error)
                    yield from self._alone(name, stage, item)
                else:
                    self._end(name_of(item), failure=failure or _nothing(name))
            if failure is not None and not flight.taken:  # the stage cannot even start: let each song say so
                flight = Flight(items)
                for item in itertools.islice(flight, 1):
                    self._end(name_of(item), failure=failure)
            if flight.exhausted:
                return
            assert flight.taken, f"{name} returned without taking the songs that wait"

    def _shrunk(self, failure: Failure) -> bool:
        before = self.model.batch
        if not self.model.shrink():
            return False
        logger.warning(
            "%s ran out of memory with %d at once, going on with %d (%s)",
            failure.stage,
            before,
            self.model.batch,
            failure.error,
        )
        return True

    def _alone(self, name: str, stage: Stage[Item, Product], item: Item) -> Iterator[Product]:
        flight: Flight[Item] = Flight(iter([item]))
        failure = yield from _drive(name, stage, flight)
        if flight.open or not flight.taken:
            self._end(name_of(item), failure=failure or _nothing(name))


def _drive(
    name: str, stage: Stage[Item, Product], flight: Flight[Item]
) -> Generator[Product, None, Failure | None]:
    """The products of a stage until it ends or throws; returns the failure, if any."""
    products = attempt(name, stage, iter(flight))
    while not isinstance(products, Failure):
        product = attempt(name, next, products, None)
        if product is None or isinstance(product, Failure):
            return product
        flight.open.pop(name_of(product))
        yield product
    return products


def _nothing(stage: str) -> Failure:
    return Failure(stage, "the model gave nothing back for it")
