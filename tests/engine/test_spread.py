"""Songs spread over workers: who gets which, and what happens to those of a worker that is lost.

The workers here are objects of this process behind the face of `Cluster`; `test_cluster.py` has real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fake_model import FakeModel, boom

from songgen.engine.cluster import ClusterModel, Event, Lost, Seat
from songgen.engine.plan import Piece
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.engine.spread import SpreadRun
from songgen.engine.worker import Facts, Made
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words."


class Workers:
    """A cluster in this process; every round each worker ends one song, or is lost.

    Args:
        is_lost: told the seat and the song that it is about to end.
    """

    def __init__(
        self,
        number: int,
        model: FakeModel,
        is_lost: Callable[[Seat, str], bool] = lambda seat, name: False,
    ) -> None:
        self.fake, self.is_lost = model, is_lost
        self.facts = Facts.of(model)
        self.model = ClusterModel(**vars(self.facts))
        self.seats = [Seat(place + 1, loading="loading") for place in range(number)]
        self.seats[0].facts, self.seats[0].loading = self.facts, None
        self.given: list[tuple[int, list[str]]] = []
        self.most_open = 0

    def open(self, seat: Seat, group: int) -> None:
        seat.songs, self.group = "songs", group

    def give(self, seat: Seat, pieces: Sequence[Piece]) -> None:
        seat.take(pieces)
        self.given.append((seat.number, [plan.job.name for piece in pieces for plan in piece]))
        self.most_open = max(self.most_open, len(seat.open))

    def events(self) -> Iterator[tuple[Seat, Event]]:
        for seat in self.seats:
            if seat.loading:
                seat.facts, seat.loading = self.facts, None
                yield seat, self.facts
            elif seat.open:
                piece = tuple(seat.pieces[0].values())
                name = piece[0].job.name
                if self.is_lost(seat, name):
                    seat.facts = seat.songs = None
                    seat.loading = "again"
                    yield seat, Lost("killed")
                else:
                    yield seat, [("compose", name, 0.5), ("compose", "of another life", 0.9)]
                    for outcome in Run(self.fake, Settings(Sampling(), 0)).planned([piece]):
                        yield seat, Made.of(outcome)

    def gave(self, name: str) -> list[int]:
        return [seat for seat, names in self.given if name in names]


def settings(**options: Any) -> Settings:
    return Settings(**{"sampling": Sampling(), "seed": 7, **options})


def request(idx: str, **options: Any) -> SongRequest:
    return SongRequest(idx=idx, lyrics=LYRICS, **options)


def ended(workers: Any, requests: list[SongRequest], **options: Any) -> dict[str, str]:
    run = SpreadRun(workers, settings(), **options)
    return {
        outcome.name: "ok" if outcome.song else outcome.failure.error if outcome.failure else "skipped"
        for outcome in run.songs(requests)
    }


def test_the_songs_are_those_of_one_process() -> None:
    requests = [request("a", num_samples=3), request("b", seed=4), *map(request, "cdef")]

    def tokens(outcomes: Iterator[Any]) -> dict[str, list[int]]:
        return {o.name: o.song.draft.tokens.flatten().tolist() for o in outcomes if o.song}

    spread = tokens(SpreadRun(Workers(3, FakeModel()), settings()).songs(requests))  # type: ignore[arg-type]
    assert spread == tokens(Run(FakeModel(), settings()).songs(requests))
    assert len(spread) == 8


def test_what_the_record_needs_comes_back_with_the_song() -> None:
    (outcome,) = SpreadRun(Workers(1, FakeModel()), settings()).songs([request("a")])  # type: ignore[arg-type]
    assert outcome.song is not None and outcome.plan is not None
    job = outcome.song.draft.job
    assert job.conditions.notes["drawn"] == "Fake/en/0"
    assert (job.request, outcome.given.idx) == (outcome.plan.job.request, "a")


@pytest.mark.parametrize(("batch", "held"), [(1, 3), (4, 12)])
def test_a_worker_holds_enough_to_keep_its_slots_full_and_no_more(batch: int, held: int) -> None:
    workers = Workers(2, FakeModel(batch=batch))
    assert set(ended(workers, [request(f"s{i}") for i in range(60)]).values()) == {"ok"}
    assert workers.most_open == held


def test_few_songs_are_shared_out_fairly() -> None:
    """The worker that is ready first must not take them all."""
    workers = Workers(4, FakeModel(batch=4))
    ended(workers, [request(f"s{i}") for i in range(8)])
    assert workers.most_open == 2
    assert {seat for seat, _ in workers.given} == {1, 2, 3, 4}


def test_in_low_memory_a_worker_holds_two_groups_of_its_share() -> None:
    workers = Workers(2, FakeModel(memory="low"))
    ended(workers, [request(f"s{i}") for i in range(10)])
    assert (workers.group, workers.most_open) == (5, 5)
    many = Workers(2, FakeModel(memory="low"))
    ended(many, [request(f"s{i}") for i in range(200)])
    assert (many.group, many.most_open) == (32, 64)


def test_the_songs_of_a_lost_worker_are_made_again(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[str] = []

    def once(seat: Seat, name: str) -> bool:
        if lost or seat.number == 1:
            return False
        lost.extend(seat.open)
        return True

    workers = Workers(2, FakeModel(), once)
    names = [f"s{i}" for i in range(12)]
    assert ended(workers, [request(name) for name in names]) == dict.fromkeys(names, "ok")
    assert lost and all(len(workers.gave(name)) == 2 for name in lost)
    assert all(len(workers.gave(name)) == 1 for name in names if name not in lost)
    assert f"worker 2 was lost with {len(lost)} songs and is replaced (killed)" in caplog.text


@pytest.mark.parametrize("number", [1, 3])
def test_a_song_that_takes_its_workers_down_fails_alone(number: int) -> None:
    """Its neighbours were lost with it twice; the third time it is alone, so none of them fails with it."""
    workers = Workers(number, FakeModel(batch=2), lambda seat, name: name == "s3")
    names = [f"s{i}" for i in range(8)]
    found = ended(workers, [request(name) for name in names])
    assert found.pop("s3") == (
        "WorkerLost: it was tried 3 times, and each time its worker was lost; the last: killed"
    )
    assert set(found.values()) == {"ok"} and len(found) == 7
    tries = [given for _, given in workers.given if "s3" in given]
    assert len(tries) == 3 and tries[-1] == ["s3"]


def test_a_song_that_fails_by_itself_is_not_tried_again() -> None:
    workers = Workers(2, FakeModel(faults={("condition", "b"): boom}))
    assert ended(workers, [request("a"), request("b"), request("c", max_seconds=90.0)]) == {
        "a": "ok",
        "b": "RuntimeError: boom",
        "c": "ValueError: max_seconds=90 is more than fake can make as it was loaded: at most 60",
    }
    assert workers.gave("b") and len(workers.gave("b")) == 1 and not workers.gave("c")


def test_what_is_there_is_given_to_no_worker() -> None:
    workers = Workers(2, FakeModel())
    found = ended(workers, [request(idx) for idx in "abc"], is_done=lambda plan: plan.job.name != "b")
    assert found == {"a": "skipped", "b": "ok", "c": "skipped"}
    assert [names for _, names in workers.given] == [["b"]]
    all_there = ended(Workers(2, FakeModel()), [request("a")], is_done=lambda plan: True)
    assert all_there == {"a": "skipped"}


SCORES = {"a_s0": -3.0, "a_s1": -1.0, "a_s2": -2.0, "b_s0": -1.5, "b_s1": -1.5}
TAKES = [request("a", num_samples=3), request("b", num_samples=2), request("c")]


def kept(workers: Any, requests: list[SongRequest], **options: Any) -> dict[str, str]:
    run = SpreadRun(workers, settings(keep="best"), **options)
    return {
        outcome.name: "ok" if outcome.song else "not kept" if outcome.passed_over else "failed or there"
        for outcome in run.songs(requests)
    }


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize(("number", "batch"), [(1, 1), (2, 1), (3, 4)])
def test_the_takes_of_a_request_go_to_one_worker_and_the_best_comes_back(
    number: int, batch: int, memory: Any
) -> None:
    workers = Workers(number, FakeModel(batch=batch, memory=memory, scores=SCORES))
    assert kept(workers, TAKES) == {
        "a_s0": "not kept", "a_s1": "ok", "a_s2": "not kept", "b_s0": "ok", "b_s1": "not kept", "c": "ok",
    }  # fmt: skip
    assert workers.gave("a_s0") == workers.gave("a_s1") == workers.gave("a_s2")
    assert workers.fake.names("render").count("a_s1") == 1 and len(workers.fake.names("render")) == 3


def test_the_record_of_a_take_that_a_worker_passed_over_is_that_of_one_process() -> None:
    def facts(outcomes: Iterator[Any]) -> dict[str, Any]:
        return {
            o.name: (
                o.plan,
                o.passed_over.lm_score,
                o.passed_over.job.request,
                o.passed_over.job.conditions.notes,
            )
            for o in outcomes
            if o.passed_over
        }

    model = FakeModel(scores=SCORES)
    spread = facts(SpreadRun(Workers(2, model), settings(keep="best")).songs(TAKES))  # type: ignore[arg-type]
    assert spread == facts(Run(FakeModel(scores=SCORES), settings(keep="best")).songs(TAKES))
    assert sorted(spread) == ["a_s0", "a_s2", "b_s1"]


def test_a_worker_always_has_a_next_request_and_no_more_than_its_share() -> None:
    """Requests of eight takes are more than three batches of one song."""
    requests = [request(f"r{i}", num_samples=8) for i in range(6)]
    scores = {f"r{i}_s{j}": -1.0 for i in range(6) for j in range(8)}
    workers = Workers(2, FakeModel(scores=scores))
    assert list(kept(workers, requests).values()).count("ok") == 6
    assert workers.most_open == 16
    few = Workers(2, FakeModel(scores=scores))
    kept(few, requests[:3])
    assert few.most_open == 8


def test_the_takes_of_a_lost_worker_are_made_again_together() -> None:
    lost: list[str] = []

    def once(seat: Seat, name: str) -> bool:
        if lost or not name.startswith("a"):
            return False
        lost.extend(seat.open)
        return True

    workers = Workers(2, FakeModel(scores=SCORES), once)
    assert kept(workers, TAKES)["a_s1"] == "ok"
    assert {"a_s0", "a_s1", "a_s2"} <= set(lost)
    again = [names for _, names in workers.given if "a_s0" in names]
    assert len(again) == 2 and all({"a_s0", "a_s1", "a_s2"} <= set(names) for names in again)


def test_a_request_that_takes_its_workers_down_fails_alone() -> None:
    workers = Workers(2, FakeModel(scores=SCORES), lambda seat, name: name.startswith("a"))
    found = kept(workers, TAKES)
    assert [name for name, how in found.items() if how == "failed or there"] == ["a_s0", "a_s1", "a_s2"]
    tries = [given for _, given in workers.given if "a_s0" in given]
    assert len(tries) == 3 and tries[-1] == ["a_s0", "a_s1", "a_s2"]
    assert (found["b_s0"], found["c"]) == ("ok", "ok")


def test_a_worker_that_is_lost_while_the_best_is_rendered_costs_no_other_take() -> None:
    """What it passed over has its record already; the take that is left is the best."""
    lost: list[str] = []

    class Late(Workers):
        def events(self) -> Iterator[tuple[Seat, Event]]:
            for seat, event in super().events():
                if isinstance(event, Made) and event.name == "a_s1" and not lost:
                    lost.extend(seat.open)
                    seat.facts, seat.songs, seat.loading = None, None, "again"
                    yield seat, Lost("killed")
                    return
                yield seat, event

    workers = Late(1, FakeModel(scores=SCORES))
    found = kept(workers, TAKES[:1])
    assert lost == ["a_s1"]
    assert found == {"a_s0": "not kept", "a_s1": "ok", "a_s2": "not kept"}
    assert [names for _, names in workers.given] == [["a_s0", "a_s1", "a_s2"], ["a_s1"]]


def test_a_request_of_which_a_take_is_there_is_given_to_no_worker() -> None:
    workers = Workers(2, FakeModel(scores=SCORES))
    found = kept(workers, TAKES, is_done=lambda plan: plan.job.name == "a_s1")
    assert [name for name, how in found.items() if how == "failed or there"] == ["a_s1", "a_s0", "a_s2"]
    assert not workers.gave("a_s0")


def test_a_model_without_scores_is_refused_before_workers_begin() -> None:
    workers = Workers(1, FakeModel(scores_drafts=False))
    with pytest.raises(ValueError, match=r"keep=best ranks takes by .* which fake does not keep"):
        SpreadRun(workers, settings(keep="best"))  # type: ignore[arg-type]


def test_progress_is_told_of_songs_that_a_worker_still_has() -> None:
    told: list[tuple[str, str, float]] = []
    ended(Workers(1, FakeModel()), [request("a")], report=lambda *news: told.append(news))
    assert told == [("compose", "a", 0.5)]
