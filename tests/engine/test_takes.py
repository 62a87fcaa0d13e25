"""`keep=best`: which take of a request is rendered, what is recorded of the others, what a next run makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel, boom

from songgen.engine.journal import Journal
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.evaluate.songs import find_songs
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words. ; [chorus] Another one."
SCORES = {"a_s0": -3.0, "a_s1": -1.0, "a_s2": -2.0, "b_s0": -1.5, "b_s1": -1.5, "c": -9.0}


def request(idx: str, num_samples: int = 1, **options: Any) -> SongRequest:
    return SongRequest(idx=idx, lyrics=LYRICS, num_samples=num_samples, **options)


THREE = [request("a", 3), request("b", 2), request("c")]


def settings(model: FakeModel, **options: Any) -> Settings:
    return Settings(**{"sampling": Sampling(), "seed": 7, "memory": model.memory, "keep": "best", **options})


def made(
    model: FakeModel, requests: list[SongRequest], folder: Path, *, resume: bool = True, **options: Any
) -> dict[str, dict[str, Any] | None]:
    """A run as the command line does it: name to record, None for a song that was there; in order."""
    with Journal(Output(folder), "songs", resume=resume) as journal:
        chosen = settings(model, **options)
        run = Run(model, chosen, is_done=lambda plan: journal.is_done(plan, model))
        ended = record_all(run.songs(requests), journal, model, chosen.seed)
        return {outcome.name: record for outcome, record in ended}


def audio(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "audio").iterdir())


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize(("batch", "group"), [(1, 32), (2, 2), (4, 4)])
def test_the_best_take_of_each_request_is_rendered_under_its_own_name(
    tmp_path: Path, memory: Any, batch: int, group: int
) -> None:
    """Also where the takes of a request are in several batches and groups; of equal ones the first."""
    model = FakeModel(batch=batch, memory=memory, scores=SCORES)
    records = made(model, THREE, tmp_path, group=group)
    assert audio(tmp_path) == ["a_s1.wav", "b_s0.wav", "c.wav"]
    assert model.names("compose") == sorted(SCORES) and model.names("render") == ["a_s1", "b_s0", "c"]
    assert {name for name, record in records.items() if record and record.get("kept") is False} == {
        "a_s0", "a_s2", "b_s1",
    }  # fmt: skip
    assert len(records) == len(SCORES) and all(r and r["status"] == "ok" for r in records.values())


def test_the_record_of_a_take_that_was_not_kept(tmp_path: Path) -> None:
    records = made(FakeModel(scores=SCORES), [request("a", 3)], tmp_path)
    passed, kept = records["a_s2"], records["a_s1"]
    assert passed is not None and kept is not None
    assert passed["lm_score"] == {"conditional": -2.0, "null": -5.0, "difference": 3.0}
    assert (passed["kept"], passed["frames"], passed["stopped"]) == (False, 5, "length")
    assert set(passed["seconds"]) == {"condition", "compose"} and passed["seed"] == kept["seed"] + 1
    assert passed["fingerprint"] and not {"paths", "bytes", "duration", "error"} & set(passed)
    assert "kept" not in kept and kept["paths"] == {"mixed": "audio/a_s1.wav"}
    assert [song.name for song in find_songs(tmp_path)] == ["a_s1"]


def test_the_kept_take_is_the_song_that_keep_all_makes(tmp_path: Path) -> None:
    made(FakeModel(scores=SCORES), THREE, tmp_path / "best")
    made(FakeModel(scores=SCORES), THREE, tmp_path / "all", keep="all")
    for name in audio(tmp_path / "best"):
        one, other = (tmp_path / kind / "audio" / name for kind in ("best", "all"))
        assert one.read_bytes() == other.read_bytes()
    assert len(audio(tmp_path / "all")) == len(SCORES)


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_takes_that_fail_do_not_keep_the_others_waiting(tmp_path: Path, memory: Any, batch: int) -> None:
    """The last take, the best, all, or all but one; in low memory also those behind the last group."""
    faults = dict.fromkeys([("compose", "a_s2"), ("compose", "b_s0"), ("compose", "c")], boom)
    model = FakeModel(batch=batch, memory=memory, scores=SCORES, faults=faults)
    records = made(model, THREE, tmp_path, group=2)
    assert audio(tmp_path) == ["a_s1.wav", "b_s1.wav"]
    failed = [name for name, record in records.items() if record and record["status"] == "failed"]
    assert sorted(failed) == ["a_s2", "b_s0", "c"]
    faults = dict.fromkeys([("compose", name) for name in SCORES], boom)
    records = made(FakeModel(batch=batch, memory=memory, faults=faults), THREE, tmp_path / "none", group=2)
    assert {record["status"] for record in records.values() if record} == {"failed"}


@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_last_take_without_conditions_keeps_nobody_waiting(tmp_path: Path, memory: Any) -> None:
    """Nothing is composed after it, so that no draft brings the others on."""

    class Reluctant(FakeModel):
        def condition(self, request: SongRequest) -> Any:
            if len(self.names("condition")) == 2:
                raise ValueError("enough")
            return super().condition(request)

    model = Reluctant(memory=memory, scores=SCORES)
    records = made(model, [request("a", 3)], tmp_path, group=2)
    assert audio(tmp_path) == ["a_s1.wav"] and records["a_s2"] is not None
    assert records["a_s2"]["error"] == "ValueError: enough"


def test_the_same_again_makes_nothing(tmp_path: Path) -> None:
    made(FakeModel(scores=SCORES), THREE, tmp_path)
    again = FakeModel(scores=SCORES)
    assert made(again, THREE, tmp_path) == dict.fromkeys(SCORES)
    assert again.names("compose") == []
    assert len(made(FakeModel(scores=SCORES), THREE, tmp_path, resume=False)) == len(SCORES)


def test_a_request_whose_kept_take_failed_or_was_lost_is_made_anew(tmp_path: Path) -> None:
    broken = FakeModel(scores=SCORES, faults={("render", "a_s1"): boom})
    first = made(broken, [request("a", 3)], tmp_path)
    assert first["a_s1"] is not None and first["a_s1"]["status"] == "failed"
    assert not (tmp_path / "audio").exists()
    for _ in range(2):
        again = FakeModel(scores=SCORES)
        made(again, [request("a", 3)], tmp_path)
        assert (again.names("compose"), again.names("render")) == (["a_s0", "a_s1", "a_s2"], ["a_s1"])
        (tmp_path / "audio" / "a_s1.wav").unlink()


def test_a_run_that_keeps_all_does_not_count_as_one_that_kept_the_best(tmp_path: Path) -> None:
    """A folder with some takes of an interrupted run: none of them was compared with the others."""
    made(FakeModel(), [request("a", 3)], tmp_path, keep="all")
    (tmp_path / "audio" / "a_s1.wav").unlink()
    model = FakeModel(scores=SCORES)
    made(model, [request("a", 3)], tmp_path)
    assert model.names("compose") == ["a_s0", "a_s1", "a_s2"] and model.names("render") == ["a_s1"]
    model = FakeModel()
    made(model, [request("a", 3), request("c")], tmp_path, keep="all")
    assert model.names("render") == ["a_s0", "a_s1", "a_s2", "c"]


def test_what_an_earlier_run_left_of_takes_that_are_not_kept_now_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Switching keep=, or making the request anew with another best take, left audio that no record named."""
    made(FakeModel(), [request("a", 3), request("b", 2)], tmp_path, keep="all")
    made(FakeModel(scores=SCORES), [request("a", 3)], tmp_path)
    assert audio(tmp_path) == ["a_s1.wav", "b_s0.wav", "b_s1.wav"]
    said = "a_s0: audio/a_s0.wav of an earlier run is removed, as another take is kept now"
    assert caplog.messages.count(said) == 1
    made(FakeModel(scores={**SCORES, "a_s2": 0.0}), [request("a", 3)], tmp_path, seed=8)
    assert audio(tmp_path) == ["a_s2.wav", "b_s0.wav", "b_s1.wav"]
    made(FakeModel(), [request("a", 3)], tmp_path, keep="all")
    assert audio(tmp_path) == ["a_s0.wav", "a_s1.wav", "a_s2.wav", "b_s0.wav", "b_s1.wav"]


def test_no_file_is_removed_that_is_not_this_requests_own(tmp_path: Path) -> None:
    """Another request's song may have the take's name; a record that was edited may name any file."""
    made(FakeModel(), [request("a_s0")], tmp_path, keep="all")
    made(FakeModel(), [request("a", 3)], tmp_path / "edited", keep="all")
    made(FakeModel(scores=SCORES), [request("a", 3)], tmp_path)
    assert audio(tmp_path) == ["a_s0.wav", "a_s1.wav"]
    (tmp_path / "edited" / "own.txt").touch()
    records = tmp_path / "edited" / "jsonl" / "songs.jsonl"
    records.write_text(records.read_text().replace("audio/a_s0.wav", "audio/../own.txt"))
    made(FakeModel(scores=SCORES), [request("a", 3)], tmp_path / "edited")
    assert (tmp_path / "edited" / "own.txt").exists()
    assert audio(tmp_path / "edited") == ["a_s0.wav", "a_s1.wav"]


def test_another_number_of_takes_is_another_choice(tmp_path: Path) -> None:
    """The best of two once stood for the best of three."""
    made(FakeModel(scores=SCORES), [request("a", 2)], tmp_path)
    model = FakeModel(scores={**SCORES, "a_s2": 0.0})
    made(model, [request("a", 3)], tmp_path)
    assert model.names("compose") == ["a_s0", "a_s1", "a_s2"] and audio(tmp_path) == ["a_s2.wav"]


def test_takes_that_failed_beside_the_kept_one_are_named_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = dict.fromkeys([("compose", "a_s2"), ("compose", "b_s1")], boom)
    records = made(FakeModel(scores=SCORES, faults=faults), THREE, tmp_path)
    named = {r["name"]: r["failed_takes"] for r in records.values() if r and "failed_takes" in r}
    assert named == {"a_s1": ["a_s2"], "b_s0": ["b_s1"]}
    again = FakeModel(scores=SCORES)
    assert made(again, THREE, tmp_path) == dict.fromkeys(SCORES) and again.names("compose") == []
    assert [message for message in caplog.messages if message.startswith("a_s1: was kept")] == [
        "a_s1: was kept although a_s2 failed, and is left as it is; resume=false makes all takes again"
    ]
    whole = made(FakeModel(scores=SCORES), THREE, tmp_path, resume=False)
    assert not [record for record in whole.values() if record and "failed_takes" in record]


def test_a_single_song_is_the_same_song_whatever_is_kept(tmp_path: Path) -> None:
    made(FakeModel(), [request("c")], tmp_path, keep="all")
    assert made(FakeModel(), [request("c")], tmp_path) == {"c": None}


def test_a_model_without_scores_is_refused_before_anything_is_made() -> None:
    model = FakeModel(scores_drafts=False)
    message = "keep=best ranks takes by the language model's own score, which fake does not keep; use keep"
    with pytest.raises(ValueError, match=message):
        Run(model, settings(model))
    assert model.events == [] and Run(model, settings(model, keep="all"))
