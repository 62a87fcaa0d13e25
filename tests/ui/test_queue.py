"""The queue: order, progress, cancelling, and that one song's trouble is not the next one's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel, boom

from songgen.engine.journal import Journal
from songgen.engine.settings import Output
from songgen.lrc import TimedLine
from songgen.requests import parse_request
from songgen.runtime.sampling import Sampling
from songgen.ui.queue import MOST_ENDED, MOST_WAITING, SongQueue, View, Wanted

LYRICS = "[verse] One line of words."


class Gate:
    """A fault that holds a song until it is opened, and tells when it is there."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, model: FakeModel) -> None:
        self.reached.set()
        assert self.opened.wait(20)


class Bench:
    """A queue on a model without a network."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.model, self.folder = FakeModel(**options), folder
        self.queue = SongQueue(self.model, Output(folder))

    def add(self, name: str, **keys: Any) -> View:
        def want(idx: str) -> Wanted:
            request = parse_request({"idx": idx, "gt_lyric": LYRICS, "seed": 5, **keys})
            return Wanted(request, self.model.sampling)

        return self.queue.add(name, want)

    def hold(self, name: str, stage: str = "compose") -> Gate:
        gate = self.model.faults[stage, name] = Gate()
        return gate

    def end_of(self, view: View) -> View:
        return self.queue.wait(view.number, 20)

    def records(self) -> list[dict[str, Any]]:
        path = self.folder / "jsonl" / "page.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "audio").glob("*"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for fault in made.model.faults.values():
        if isinstance(fault, Gate):
            fault.opened.set()
    made.queue.close()


def test_the_page_writes_the_files_that_it_was_started_for(tmp_path: Path) -> None:
    """Pictures and times of the lyrics: settings of the page that its queue once let fall."""
    queue = SongQueue(
        FakeModel(timing=(TimedLine(0.0, "[verse]", True),)), Output(tmp_path, plot=True, lrc=True)
    )
    request = parse_request({"idx": "a", "gt_lyric": LYRICS, "seed": 5})
    view = queue.add("a", lambda idx: Wanted(request, Sampling(), format="flac"))
    queue.wait(view.number, 20)
    queue.close()
    assert sorted(path.name for path in tmp_path.glob("*/a.*")) == ["a.flac", "a.lrc", "a.png"]


def test_songs_are_made_in_order(bench: Bench) -> None:
    gate = bench.hold("c")
    views = [bench.add(name, num_samples=number) for name, number in (("c", 1), ("a", 2), ("b", 1))]
    assert gate.reached.wait(20)
    assert [(view.idx, view.state) for view in bench.queue.views()] == [
        ("c", "making"), ("a", "waiting"), ("b", "waiting")
    ]  # fmt: skip
    gate.opened.set()
    ended = [bench.end_of(view) for view in views]
    assert [(view.state, view.made) for view in ended] == [
        ("made", ("c",)), ("made", ("a_s0", "a_s1")), ("made", ("b",))
    ]  # fmt: skip
    assert [record["name"] for record in bench.records()] == ["c", "a_s0", "a_s1", "b"]
    assert bench.files() == ["a_s0.wav", "a_s1.wav", "b.wav", "c.wav"]


def test_progress_is_that_of_the_engine(bench: Bench) -> None:
    gate = bench.hold("a", "render")
    view = bench.add("a")
    assert view.state == "waiting" and view.progress is None
    assert gate.reached.wait(20)
    progress = bench.queue.views()[0].progress
    assert progress is not None and (progress.stage, progress.stage_fraction) == ("render", 0.0)
    assert progress.fraction == pytest.approx(0.7)
    gate.opened.set()
    assert bench.end_of(view).progress is None


def test_a_waiting_song_is_cancelled_and_never_begun(bench: Bench) -> None:
    gate = bench.hold("a")
    first, second, third = bench.add("a"), bench.add("b"), bench.add("c")
    assert gate.reached.wait(20)
    assert bench.queue.cancel(second.number)
    assert bench.end_of(second).state == "cancelled"
    gate.opened.set()
    assert (bench.end_of(first).state, bench.end_of(third).state) == ("made", "made")
    assert bench.model.names("compose") == ["a", "c"]
    assert not bench.queue.cancel(second.number) and not bench.queue.cancel(99)


def test_the_song_being_made_is_cancelled_at_its_next_report(bench: Bench) -> None:
    """It leaves no file and no record; what the run before it had finished stays."""
    gate = bench.hold("a_s1")
    view, after = bench.add("a", num_samples=3), bench.add("b")
    assert gate.reached.wait(20)
    assert bench.queue.cancel(view.number) and bench.queue.views()[0].is_cancelled
    assert bench.queue.views()[0].state == "making"
    gate.opened.set()
    ended = bench.end_of(view)
    assert (ended.state, ended.made, ended.error) == ("cancelled", ("a_s0",), "")
    assert bench.end_of(after).state == "made"
    assert bench.files() == ["a_s0.wav", "b.wav"]
    assert [record["name"] for record in bench.records()] == ["a_s0", "b"]


def test_a_failed_song_says_why_and_the_next_is_made(bench: Bench) -> None:
    bench.model.faults["render", "a"] = boom
    first, second = bench.add("a"), bench.add("b")
    failed = bench.end_of(first)
    assert (failed.state, failed.error) == ("failed", "render: RuntimeError: boom")
    assert bench.end_of(second).state == "made"


def test_trouble_with_the_folder_does_not_end_the_queue(bench: Bench) -> None:
    with Journal(Output(bench.folder), "page"):
        failed = bench.end_of(bench.add("a"))
    assert failed.state == "failed" and "another run is writing these records" in failed.error
    assert bench.end_of(bench.add("a")).state == "made"


def test_no_song_is_written_over(bench: Bench) -> None:
    """Not one that waits, whose files are not there yet, nor one of the folder."""
    gate = bench.hold("a")
    first = bench.add("a")
    assert gate.reached.wait(20)
    assert [bench.add("a", num_samples=2).idx, bench.add("A").idx] == ["a-2", "A-3"]
    gate.opened.set()
    bench.end_of(first)


def test_the_names_of_the_folder_are_taken(tmp_path: Path) -> None:
    queue = SongQueue(FakeModel(), Output(tmp_path), taken=lambda: {"a", "a-2_vocal"})
    request = {"gt_lyric": LYRICS, "seed": 1}
    view = queue.add("a", lambda idx: Wanted(parse_request({"idx": idx, **request}), FakeModel().sampling))
    assert view.idx == "a-3"
    queue.close()


def test_a_full_queue_says_so(bench: Bench) -> None:
    gate = bench.hold("a")
    bench.add("a")
    assert gate.reached.wait(20)
    for number in range(MOST_WAITING):
        bench.add(f"b{number}")
    with pytest.raises(ValueError, match="100 songs wait already: wait for some, or cancel them"):
        bench.add("c")


def test_old_entries_are_forgotten(bench: Bench) -> None:
    views = [bench.add(f"a{number}") for number in range(MOST_ENDED + 3)]
    bench.end_of(views[-1])
    assert [view.idx for view in bench.queue.views()] == [view.idx for view in views[3:]]


def test_closing_cancels_all(bench: Bench) -> None:
    gate = bench.hold("a")
    views = [bench.add("a"), bench.add("b")]
    assert gate.reached.wait(20)
    closing = threading.Thread(target=bench.queue.close)
    closing.start()
    gate.opened.set()
    closing.join(20)
    assert [bench.queue.wait(view.number, 0).state for view in views] == ["cancelled", "cancelled"]
    with pytest.raises(ValueError, match="the page is closing"):
        bench.add("c")
    assert bench.files() == []
