"""The chain: what fails, who goes on, in which order, and what is on disk when it was interrupted."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_model import FakeModel, boom, interrupt

from songgen.audio import Audio
from songgen.engine.journal import Journal
from songgen.engine.output import save_song
from songgen.engine.run import Run, record_all
from songgen.engine.settings import Output, Settings
from songgen.models.base import Draft, Song
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words. ; [chorus] Another one."


def request(idx: str, **options: Any) -> SongRequest:
    return SongRequest(idx=idx, lyrics=LYRICS, source={"idx": idx, "gt_lyric": LYRICS, "mine": 1}, **options)


def settings(model: FakeModel, **options: Any) -> Settings:
    return Settings(**{"sampling": Sampling(), "seed": 7, "memory": model.memory, **options})


def outcomes(model: FakeModel, requests: list[SongRequest], **options: Any) -> dict[str, str]:
    """Name to `ok`, `skipped` or the error, in the order they ended."""
    run = Run(model, settings(model, **options))
    return {
        outcome.name: "ok" if outcome.song else outcome.failure.error if outcome.failure else "skipped"
        for outcome in run.songs(requests)
    }


def run_in_folder(
    model: FakeModel, requests: list[SongRequest], folder: Path, *, seed: int | None = 7, **options: Any
) -> list[dict[str, Any] | None]:
    """A run as the command line does it; returns the records in order, None for a skipped song."""
    output = Output(folder, **options.pop("output", {}))
    with Journal(output, "songs", resume=options.pop("resume", True)) as journal:
        chosen = settings(model, seed=journal.run_seed(seed), **options)
        run = Run(model, chosen, is_done=lambda plan: journal.is_done(plan, model))
        return [record for _, record in record_all(run.songs(requests), journal, model, chosen.seed)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("stage", ["condition", "compose", "render"])
def test_only_the_song_that_throws_fails(stage: str, batch: int, memory: Any) -> None:
    model = FakeModel(batch=batch, memory=memory, faults={(stage, "c"): boom})
    ended = outcomes(model, [request(idx) for idx in "abcdef"])
    assert ended.pop("c") == "RuntimeError: boom"
    assert ended == dict.fromkeys("abdef", "ok")


def test_a_batch_that_throws_is_tried_again_one_song_at_a_time_and_alone() -> None:
    model = FakeModel(batch=4, faults={("compose", "c"): boom})
    outcomes(model, [request(idx) for idx in "abcdef"])
    assert model.names("compose") == ["a", "b", "c", "a", "b", "c", "d", "e", "f"]


def test_a_song_that_fails_alone_is_not_tried_twice() -> None:
    model = FakeModel(faults={("compose", "a"): boom})
    assert outcomes(model, [request("a")]) == {"a": "RuntimeError: boom"}
    assert model.names("compose") == ["a"]


def test_a_fault_that_comes_only_in_company_costs_no_song() -> None:
    """Out of memory with four songs at once: they are made in smaller company."""
    model = FakeModel(batch=4)

    def only_in_a_batch(fake: FakeModel) -> None:
        fake.faults.clear()
        raise MemoryError

    model.faults["compose", "d"] = only_in_a_batch
    assert outcomes(model, [request(idx) for idx in "abcde"]) == dict.fromkeys("abcde", "ok")


class Cramped(FakeModel):
    """Runs out of memory in a stage when it makes more than `most` songs at once."""

    most = 1
    stage = "compose"
    error: type[Exception] = torch.OutOfMemoryError

    def _do(self, stage: str, name: str) -> None:
        super()._do(stage, name)
        if stage == self.stage and self.batch > self.most and name != "a":
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")


def everything(model: FakeModel, names: str, **options: Any) -> dict[str, list[int]]:
    made = Run(model, settings(model, **options)).songs([request(idx) for idx in names])
    return {o.name: o.song.draft.tokens.flatten().tolist() for o in made if o.song}


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("stage", ["compose", "render"])
def test_a_batch_out_of_memory_is_halved_until_it_fits_and_no_finished_song_is_made_again(
    stage: str, memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = Cramped(batch=6, memory=memory)
    model.stage, model.most = stage, 2
    assert everything(model, "abcdefgh") == everything(FakeModel(memory=memory), "abcdefgh")
    assert model.batch == 1  # 6, 3, 1
    assert [name for what, name in model.events if what == "shrink"] == ["6", "3"]
    said = [record.getMessage() for record in caplog.records if "ran out of memory" in record.getMessage()]
    assert said == [
        f"{stage} ran out of memory with {before} at once, going on with {after} "
        "(OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.)"
        for before, after in ((6, 3), (3, 1))
    ]
    if stage == "render":  # `a` was rendered before memory ran out
        assert model.names("render").count("a") == 1


def test_songs_finished_before_memory_ran_out_are_kept() -> None:
    model = FakeModel(batch=2)

    def once(fake: FakeModel) -> None:
        fake.faults.clear()
        raise torch.OutOfMemoryError

    model.faults["compose", "d"] = once
    assert everything(model, "abcdef") == everything(FakeModel(), "abcdef")
    assert model.names("compose") == ["a", "b", "c", "d", "c", "d", "e", "f"]


@pytest.mark.parametrize(("memory", "first"), [("full", "memory=low, dtype"), ("low", "dtype")])
def test_one_song_that_does_not_fit_fails_with_what_would_help(memory: Any, first: str) -> None:
    model = Cramped(batch=2, memory=memory)
    model.most, model.error = 0, MemoryError
    ended = outcomes(model, [request("a"), request("b"), request("c")])
    assert ended["a"] == "ok"
    assert ended["b"].startswith("MemoryError: CUDA out of memory")
    assert ended["b"].endswith(f"; {first}=fp16 or bf16, kv_cache=int8 and a smaller max_seconds need less")
    assert ended["c"] == ended["b"]


def test_nothing_of_the_failed_try_is_alive_when_the_batch_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A traceback holds the frames that it went through, and those the tensors that filled the memory."""
    caplog.set_level("DEBUG", logger="songgen")  # the log keeps the error itself
    held: list[weakref.ref[np.ndarray]] = []

    class Hoarder(FakeModel):
        def shrink(self) -> bool:
            assert held and all(ref() is None for ref in held)
            return super().shrink()

    def hoard(fake: FakeModel) -> None:
        fake.faults.clear()
        tensor = np.zeros(8)
        held.append(weakref.ref(tensor))
        try:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")
        except RuntimeError as error:
            raise MemoryError from error

    model = Hoarder(batch=4, faults={("compose", "b"): hoard})
    assert len(everything(model, "abc")) == 3 and model.batch == 2
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("stage", ["compose", "render"])
def test_a_stage_that_cannot_start_fails_every_song_and_ends(stage: str) -> None:
    model = FakeModel(faults={("start", stage): boom})
    ended = outcomes(model, [request(idx) for idx in "abc"])
    assert ended == dict.fromkeys("abc", "RuntimeError: boom")


def test_a_model_that_keeps_a_song_to_itself_is_found_out() -> None:
    class Forgetful(FakeModel):
        def compose(self, jobs: Any, report: Any = None) -> Any:
            for draft in super().compose(jobs):
                if draft.job.name != "b":
                    yield draft

    ended = outcomes(Forgetful(), [request(idx) for idx in "abc"])
    assert ended == {"a": "ok", "b": "the model gave nothing back for it", "c": "ok"}


def test_a_song_without_frames_fails_with_a_sentence() -> None:
    assert outcomes(FakeModel(frames=0), [request("a")]) == {
        "a": "the model ended the song before its first frame"
    }


def test_the_first_song_is_done_before_the_last_is_begun() -> None:
    model = FakeModel()
    run = Run(model, settings(model)).songs([request("a"), request("b")])
    assert next(run).name == "a"
    assert model.names("compose") == ["a"]


def test_low_memory_is_the_same_songs_with_one_stage_loaded() -> None:
    def tokens(model: FakeModel) -> dict[str, list[int]]:
        made = Run(model, settings(model, group=2)).songs([request(idx) for idx in "abc"])
        return {o.name: o.song.draft.tokens.flatten().tolist() for o in made if o.song}

    low = FakeModel(memory="low")
    assert tokens(low) == tokens(FakeModel())
    order = [event for event in low.events if event[0] in ("compose", "render", "release")]
    groups = [("a", "b"), ("c",)]
    assert order == [
        event
        for group in groups
        for event in (
            ("release", "condition"),
            *(("compose", name) for name in group),
            ("release", "compose"),
            *(("render", name) for name in group),
            ("release", "render"),
        )
    ]


def test_seeds_depend_on_nothing_but_request_and_run() -> None:
    def seeds(model: FakeModel, requests: list[SongRequest]) -> dict[str, int]:
        return {o.name: o.plan.job.seed for o in Run(model, settings(model)).songs(requests) if o.plan}

    several = [request("a", seed=5, num_samples=3), request("b"), request("c", num_samples=2)]
    found = seeds(FakeModel(), several)
    assert found == seeds(FakeModel(batch=4), several[::-1])
    assert found["b"] == seeds(FakeModel(), [request("b")])["b"]
    assert (found["a_s0"], found["a_s1"], found["a_s2"]) == (5, 6, 7)
    # SHA-256 of "7:b": fixed for ever, or old runs could not be made again.
    assert found["b"] == 3962230518
    assert len(set(found.values())) == len(found)


def test_a_request_overrides_the_run() -> None:
    model = FakeModel()
    own = request(
        "a", temperature=0.5, top_k=9, top_p=0.3, cfg_coef=2.0, max_seconds=12.0, generate_type="vocal"
    )
    outcome = next(Run(model, settings(model)).songs([own]))
    assert outcome.plan is not None and outcome.song is not None
    assert outcome.plan.job.sampling == Sampling(temperature=0.5, top_k=9, top_p=0.3, cfg_coef=2.0)
    assert outcome.plan.job.max_seconds == 12.0
    assert list(outcome.song.stems) == ["vocal"]


def test_a_bad_setting_of_a_request_fails_that_song_alone() -> None:
    ended = outcomes(FakeModel(), [request("a", max_seconds=61.0), request("b", top_p=2.0), request("c")])
    assert ended["a"] == "ValueError: max_seconds=61 is more than fake can make as it was loaded: at most 60"
    assert ended["b"].startswith("ValueError: sampling.top_p is 2.0")
    assert ended["c"] == "ok"


def test_strict_lyrics_fail_every_sample_of_the_request() -> None:
    bad = SongRequest(idx="a", lyrics="[verse] hello\uff0cworld", num_samples=2)
    ended = outcomes(FakeModel(), [bad, request("b")], lyrics="strict")
    assert list(ended) == ["a_s0", "a_s1", "b"]
    assert "strict" in ended["a_s0"] and ended["b"] == "ok"


@pytest.mark.parametrize(
    ("first", "second", "file"),
    [
        (request("a", generate_type="separate"), request("a_vocal"), "audio/a_vocal"),
        (request("a", num_samples=2), request("a_s1"), "tokens/a_s1"),
    ],
)
def test_two_songs_never_share_a_file(first: SongRequest, second: SongRequest, file: str) -> None:
    ended = outcomes(FakeModel(), [first, second])
    owner = next(iter(ended)) if first.num_samples == 1 else "a_s1"
    errors = [error for error in ended.values() if error != "ok"]
    assert errors == [f"ValueError: its file {file} is that of {owner} already: choose another idx"]


def test_record_of_a_song(tmp_path: Path) -> None:
    wanted = request("a", generate_type="separate", line=3)
    (record,) = run_in_folder(FakeModel(), [wanted], tmp_path, output={"tokens": True})
    assert record is not None
    written = json.loads((tmp_path / "jsonl" / "songs.jsonl").read_text())
    assert written == record
    assert record["status"] == "ok" and "error" not in record
    assert record["request"] == {"idx": "a", "gt_lyric": LYRICS, "mine": 1}
    assert list(record["request"]) == ["idx", "gt_lyric", "mine"]
    assert record["paths"] == {
        "mixed": "audio/a.wav",
        "vocal": "audio/a_vocal.wav",
        "bgm": "audio/a_bgm.wav",
        "tokens": "tokens/a.safetensors",
    }
    for path, size in record["bytes"].items():
        assert (tmp_path / path).stat().st_size == size > 0
    assert record["duration"] == 0.2 and record["frames"] == 5 and record["stopped"] == "length"
    assert set(record["seconds"]) == {"condition", "compose", "render", "save"}
    assert set(record["versions"]) == {"songgen", "torch", "python"}
    assert (record["model"], record["identity"], record["device"]) == ("fake", "f" * 64, "cpu")
    assert record["run_seed"] == 7 and record["line"] == 3 and record["clipped"] == 0
    assert record["sampling"]["temperature"] == 0.8


def test_the_record_says_what_was_mended(tmp_path: Path) -> None:
    wanted = SongRequest(
        idx="a", lyrics="[verse] Hello\uff0c world.", source={"gt_lyric": "[verse] Hello\uff0c world."}
    )
    (record,) = run_in_folder(FakeModel(), [wanted], tmp_path)
    assert record is not None and record["mended"] is True
    assert "\uff0c" not in record["lyrics"] and record["findings"]
    (record,) = run_in_folder(FakeModel(), [wanted], tmp_path, lyrics="asis")
    assert record is not None and record["mended"] is False and record["lyrics"] == wanted.lyrics


def test_a_failed_song_has_a_record_and_is_made_by_the_next_run(tmp_path: Path) -> None:
    requests = [request("a"), request("b")]
    model = FakeModel(faults={("render", "a"): boom})
    records = [record for record in run_in_folder(model, requests, tmp_path) if record]
    assert [(r["name"], r["status"]) for r in records] == [("a", "failed"), ("b", "ok")]
    failed = records[0]
    assert (failed["stage"], failed["error"]) == ("render", "RuntimeError: boom")
    assert failed["request"]["mine"] == 1 and "paths" not in failed
    again = FakeModel()
    ended = [record and record["status"] for record in run_in_folder(again, requests, tmp_path)]
    assert sorted(ended, key=str) == [None, "ok"]
    assert again.names("compose") == ["a"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_fail_the_song_and_leave_no_file(tmp_path: Path, value: float) -> None:
    class Broken(FakeModel):
        def audio(self, draft: Draft, number: int) -> Audio:
            audio = super().audio(draft, number)
            if number == 2:
                audio.samples[0, 3] = value
            return audio

    (record,) = run_in_folder(Broken(), [request("a", generate_type="separate")], tmp_path)
    assert record is not None and record["stage"] == "save"
    assert (
        record["error"] == "ValueError: stem bgm: audio holds 1 samples that are not finite (NaN or infinity)"
    )
    assert not list(tmp_path.glob("audio/*"))


def test_a_song_without_stems_is_an_error(tmp_path: Path) -> None:
    model = FakeModel()
    outcome = next(Run(model, settings(model)).songs([request("a")]))
    assert outcome.song is not None
    with pytest.raises(ValueError, match="the model gave no audio"):
        save_song(Song(outcome.song.draft), Output(tmp_path), model)


@pytest.mark.parametrize("stage", ["condition", "compose", "render"])
@pytest.mark.parametrize("memory", ["full", "low"])
def test_an_interrupted_run_goes_on_and_ends_as_if_never_interrupted(
    tmp_path: Path, stage: str, memory: Any
) -> None:
    requests = [request(idx) for idx in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        run_in_folder(
            FakeModel(memory=memory, faults={(stage, "c"): interrupt}), requests, tmp_path / "x", group=2
        )
    made = {path.stem for path in (tmp_path / "x" / "audio").glob("*.wav")}
    assert made == {"a", "b"}
    again = FakeModel(memory=memory)
    run_in_folder(again, requests, tmp_path / "x")
    assert again.names("compose") == ["c", "d"]
    run_in_folder(FakeModel(), requests, tmp_path / "straight")
    one, other = files(tmp_path / "x" / "audio"), files(tmp_path / "straight" / "audio")
    assert one == other and len(one) == 4


def test_a_run_without_a_seed_finds_the_folders_seed_again(tmp_path: Path) -> None:
    """Or every song would get another seed, and resuming would make them all anew."""
    run_in_folder(FakeModel(), [request("a")], tmp_path, seed=None)
    again = FakeModel()
    records = run_in_folder(again, [request("a"), request("b")], tmp_path, seed=None)
    assert records[-1] is not None and again.names("compose") == ["b"]
    first = json.loads((tmp_path / "jsonl" / "songs.jsonl").read_text().splitlines()[0])
    assert records[-1] is not None
    assert {record["run_seed"] for record in records if record} == {first["run_seed"]}
    third = FakeModel()
    run_in_folder(third, [request("a")], tmp_path, seed=None, resume=False)
    assert third.names("compose") == ["a"]


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[str, str, float]] = []
    model = FakeModel()
    run = Run(model, settings(model), report=lambda *told: seen.append(told))
    list(run.songs([request("a")]))
    assert seen == [("compose", "a", 0.5), ("compose", "a", 1.0), ("render", "a", 1.0)]


def test_tokens_are_rendered_again_by_the_same_road(tmp_path: Path) -> None:
    run_in_folder(FakeModel(), [request("a"), request("b")], tmp_path / "one", output={"tokens": True})
    model = FakeModel(memory="low")
    paths = sorted((tmp_path / "one" / "tokens").glob("*.safetensors"))
    run = Run(model, settings(model))
    songs = [outcome.song for outcome in run.renders(paths)]
    assert model.names("compose") == [] and model.events[0] == ("release", "compose")
    for song, path in zip(songs, paths, strict=True):
        assert song is not None
        save_song(song, Output(tmp_path / "two"), model)
        name = f"audio/{path.stem}.wav"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rendering_takes_the_stems_asked_for_and_fails_bad_files_alone(tmp_path: Path) -> None:
    run_in_folder(FakeModel(), [request("a")], tmp_path, output={"tokens": True})
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    model = FakeModel()
    paths = [
        tmp_path / "bad.safetensors",
        tmp_path / "tokens" / "a.safetensors",
        tmp_path / "none.safetensors",
    ]
    ended = {o.name: o for o in Run(model, settings(model)).renders(paths, "separate")}
    assert ended["bad"].failure is not None and "cannot be read as safetensors" in ended["bad"].failure.error
    assert ended["none"].failure is not None and "no such file" in ended["none"].failure.error
    assert ended["a"].song is not None and list(ended["a"].song.stems) == ["mixed", "vocal", "bgm"]


def test_tokens_of_another_model_are_rendered_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_in_folder(FakeModel(), [request("a")], tmp_path, output={"tokens": True})
    other = FakeModel(identity="e" * 64)
    (outcome,) = Run(other, settings(other)).renders([tmp_path / "tokens" / "a.safetensors"])
    assert outcome.song is not None
    assert "was composed by another model than fake" in caplog.text


def test_tokens_keep_what_rendering_needs(tmp_path: Path) -> None:
    from safetensors import safe_open

    run_in_folder(FakeModel(), [request("a", seed=3)], tmp_path, output={"tokens": True})
    with safe_open(tmp_path / "tokens" / "a.safetensors", framework="pt") as file:
        assert list(file.keys()) == ["tokens"]
        assert file.get_tensor("tokens").shape == (3, 5) and file.get_tensor("tokens").dtype == torch.int32
        facts = json.loads(file.metadata()["songgen"])
    assert (facts["name"], facts["seed"], facts["generate_type"], facts["model"]) == ("a", 3, "mixed", "fake")
    assert facts["sampling"]["top_k"] == 5000 and facts["request"]["source"]["mine"] == 1
    run_in_folder(
        FakeModel(batch=2), [request("b"), request("a", seed=3)], tmp_path / "x", output={"tokens": True}
    )
    one, other = (folder / "tokens" / "a.safetensors" for folder in (tmp_path, tmp_path / "x"))
    assert one.read_bytes() == other.read_bytes()


def test_the_score_of_the_language_model_is_recorded_and_goes_with_the_tokens(tmp_path: Path) -> None:
    model = FakeModel(scores={"a": -3.12345678})
    first, second = run_in_folder(model, [request("a"), request("b")], tmp_path, output={"tokens": True})
    assert first is not None and second is not None
    assert first["lm_score"] == {"conditional": -3.123457, "null": -5.0, "difference": 1.876543}
    assert "lm_score" not in second
    with Journal(Output(tmp_path / "again"), "render") as journal:
        paths = [tmp_path / "tokens" / f"{name}.safetensors" for name in "ab"]
        rendered = record_all(Run(model, settings(model)).renders(paths), journal, model, None)
        again = {record["name"]: record.get("lm_score") for _, record in rendered if record}
    assert again == {"a": first["lm_score"], "b": None}


def test_tokens_with_a_torn_score_fail_with_a_sentence(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    metadata = {"songgen": json.dumps({"lm_score": {"conditional": -1.0}})}
    save_file({"tokens": torch.zeros(3, 5, dtype=torch.int32)}, tmp_path / "a.safetensors", metadata)
    (outcome,) = Run(FakeModel(), settings(FakeModel())).renders([tmp_path / "a.safetensors"])
    assert outcome.failure is not None
    assert "its metadata is not that of a song's tokens: 'null'" in outcome.failure.error
