"""A worker by itself: what it hands back, when it stops waiting for company, and when it gives up."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_model import FakeModel, boom

from songgen.engine import worker as worker_module
from songgen.engine.plan import Piece, plan_request
from songgen.engine.settings import Settings
from songgen.engine.worker import Facts, Worker
from songgen.models.levo.model import LevoModel
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling


def plans(*names: str) -> list[Piece]:
    model, settings = FakeModel(), Settings(Sampling(), 7)
    return [
        (plan,)
        for name in names
        for plan in plan_request(SongRequest(name, "[verse] One line of words."), model, settings)
    ]


def test_songs_come_back_without_what_may_lie_on_a_gpu() -> None:
    worker = Worker(FakeModel, Path())
    worker.give(plans("a", "b"))
    songs = worker.songs(32)
    made = pickle.loads(pickle.dumps([next(songs), next(songs)]))
    assert [one.name for one in made] == ["a", "b"]
    job = made[0].song.draft.job
    assert vars(job.conditions) == {"notes": {"drawn": "Fake/en/0", "warnings": ["a short clip"]}}
    assert made[0].song.stems["mixed"].samples.shape == (2, 9600)


def test_begun_songs_do_not_wait_for_more_to_fill_the_batch() -> None:
    """Three songs in a model of four slots: the worker must end them, as nothing else may ever come."""
    model = FakeModel(batch=4)
    worker = Worker(lambda: model, Path())
    songs = worker.songs(32)
    worker.give(plans("a", "b", "c"))
    assert [next(songs).name for _ in range(3)] == ["a", "b", "c"]
    threading.Timer(0.1, worker.give, [plans("d")]).start()
    assert next(songs).name == "d"


def test_a_failed_song_is_told_and_the_next_is_made() -> None:
    worker = Worker(lambda: FakeModel(faults={("compose", "a"): boom}), Path())
    worker.give(plans("a", "b"))
    songs = worker.songs(32)
    first, second = next(songs), next(songs)
    assert first.song is None and first.failure is not None and first.failure.error == "RuntimeError: boom"
    assert second.song is not None


def test_a_worker_whose_gpu_has_faulted_hands_its_songs_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of CUDA is for the life of the process: it would fail song after song, faster than others."""

    def faulted() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", faulted)
    worker = Worker(lambda: FakeModel(device="cuda:0", faults={("compose", "b"): boom}), Path())
    worker.give(plans("a", "b"))
    songs = worker.songs(32)
    assert next(songs).name == "a"
    with pytest.raises(RuntimeError, match="illegal memory access"):
        next(songs)


def test_news_are_the_latest_of_each_song(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "NEWS_SECONDS", 0.0)
    worker = Worker(FakeModel, Path())
    worker.give(plans("a"))
    next(worker.songs(32))
    assert worker.news() == [("compose", "a", 1.0), ("render", "a", 1.0)]
    assert worker.news() == []


def test_the_model_is_loaded_once_in_the_runs_folder_with_no_more_threads_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())
    loaded: list[Any] = []

    def load() -> FakeModel:
        loaded.append(Path.cwd())
        torch.set_num_threads(3)
        return FakeModel()

    try:
        worker = Worker(load, tmp_path, threads=2)
        assert worker.facts() == Facts.of(FakeModel())
        assert worker.prompt_identity(SongRequest("a", "", prompt_audio_path="x.wav")) == "p" * 64
        assert loaded == [tmp_path] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_facts_of_a_real_model_travel(tiny: LevoModel) -> None:
    facts = pickle.loads(pickle.dumps(Facts.of(tiny)))
    assert (facts.identity, facts.sampling, facts.batch) == (tiny.identity, tiny.sampling, tiny.batch)
    text = "[verse] Hello world."
    assert facts.text_rules.count_lyric_tokens(text) == tiny.text_rules.count_lyric_tokens(text)  # type: ignore[misc]
