"""The Python interface: the same engine, nothing written unless asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel, boom

import songgen
from songgen.api import FailedSong, GeneratedSong, Model, SongError
from songgen.lrc import TimedLine
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words."
A, B = {"idx": "a", "gt_lyric": LYRICS, "note": 1}, {"idx": "b", "gt_lyric": LYRICS}


def made(requests: Any, fake: FakeModel | None = None, **options: Any) -> list[GeneratedSong]:
    songs = list(Model(fake or FakeModel()).generate(requests, **options))
    assert all(isinstance(song, GeneratedSong) for song in songs)
    return songs  # type: ignore[return-value]


def test_load_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def load_model(name: str, **options: Any) -> FakeModel:
        seen.update(options, name=name)
        return FakeModel()

    monkeypatch.setattr("songgen.models.catalog.load_model", load_model)
    model = songgen.load("fake", batch=2, device="cpu", runtime_dir="rt", gpu_memory="10GiB", max_seconds=20)
    assert (model.name, model.sample_rate, model.max_seconds) == ("fake", 48000, 60.0)
    assert seen == {
        "name": "fake", "runtime_dir": Path("rt"), "device": "cpu", "dtype": "auto", "codec_dtype": "auto",
        "memory": "auto", "batch": 2, "attention": "auto", "kv_cache": "auto", "threads": "auto",
        "checkpoint": None, "lora_alpha": None, "lora_rank": None, "lora_targets": None,
        "gpu_memory": 10 * 2**30, "max_seconds": 20.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="device=gpu: must be auto, cpu"):
        songgen.load("fake", device="gpu")
    with pytest.raises(ValueError, match="codec_dtype=fp8: must be one of auto, fp16, bf16, fp32"):
        songgen.load("fake", codec_dtype="fp8")
    with pytest.raises(ValueError, match="max_seconds=0: must be a number above 0"):
        songgen.load("fake", max_seconds=0)
    songgen.load("fake")
    assert seen["batch"] is None and seen["max_seconds"] is None  # auto, and the model's limit
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        songgen.lod  # noqa: B018


def test_one_request_several_or_a_file_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, [A, B])))
    hand_made = [SongRequest(idx="a", lyrics=LYRICS), SongRequest(idx="b", lyrics=LYRICS)]
    found = [made(requests, seed=4) for requests in ([A, B], path, str(path), iter([A, B]), hand_made)]
    found.append(made(A, seed=4) + made(hand_made[1], seed=4))
    for songs in found:
        assert [(song.name, song.seed) for song in songs] == [(song.name, song.seed) for song in found[0]]
        assert all((s.tokens == t.tokens).all() for s, t in zip(songs, found[0], strict=True))


def test_a_song_tells_what_it_is() -> None:
    (song,) = made({**A, "gt_lyric": "[verse] Hello\uff0c world.", "seed": 9}, generate_type="separate")
    assert list(song.stems) == ["mixed", "vocal", "bgm"] and song.stems["mixed"].samples.shape == (2, 9600)
    assert song.tokens.shape == (3, 5) and song.seed == 9 and song.stopped == "length"
    assert song.mended and song.findings and song.request.source["note"] == 1


def test_save_writes_what_the_command_line_writes(tmp_path: Path) -> None:
    (song,) = made(A, generate_type="vocal")
    paths = song.save(tmp_path, format="flac", bits=24, tokens=True, plot=True)
    assert paths == {
        "vocal": tmp_path / "audio" / "a_vocal.flac",
        "tokens": tmp_path / "tokens" / "a.safetensors",
        "plot": tmp_path / "plots" / "a.png",
    }
    assert all(path.is_file() for path in paths.values())
    with pytest.raises(ValueError, match="bits=16 has no meaning for mp3"):
        song.save(tmp_path, format="mp3", bits=16)


def test_times_of_the_lyrics(tmp_path: Path) -> None:
    timing = (TimedLine(0.1, "[verse]", True),)
    (song,) = made(A, FakeModel(timing=timing), timing=True)
    assert song.song.draft.timing == timing
    assert song.save(tmp_path, lrc=True)["lrc"] == tmp_path / "lrc" / "a.lrc"
    assert (tmp_path / "lrc" / "a.lrc").read_text().endswith("[00:00.10][verse]\n")
    (plain,) = made(A, FakeModel(timing=timing))
    assert plain.song.draft.timing is None and "lrc" not in plain.save(tmp_path, lrc=True)


def test_nothing_is_written_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made([A, B])
    assert not list(tmp_path.iterdir())


def test_settings() -> None:
    assert made(A, sampling="lowmem")[0].song.draft.job.sampling == Sampling(temperature=0.9, top_k=50)
    assert made(A, sampling={"top_p": 0.5})[0].song.draft.job.sampling == Sampling(top_p=0.5)
    assert made(A, sampling=Sampling(top_k=3))[0].song.draft.job.sampling.top_k == 3
    assert made(A, max_seconds=12)[0].song.draft.job.max_seconds == 12
    assert made(A)[0].seed != made(A)[0].seed  # no seed: drawn
    seen: list[Any] = []
    made(A, report=lambda *told: seen.append(told))
    assert ("render", "a", 1.0) in seen


def test_a_failed_song_raises_or_is_yielded() -> None:
    fake = FakeModel(faults={("render", "a"): boom})
    with pytest.raises(SongError, match="a: RuntimeError: boom") as caught:
        made([A, B], fake)
    assert caught.value.failed.stage == "render"
    failed, song = Model(fake).generate([A, B], on_error="yield")
    assert isinstance(failed, FailedSong) and isinstance(song, GeneratedSong)
    assert (failed.name, failed.error, song.name) == ("a", "RuntimeError: boom", "b")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"gt_lyric": LYRICS}, "request 2: .*idx"),
        ({"idx": "../x", "gt_lyric": LYRICS}, "request 2: .*path separator"),
        (SongRequest(idx="../x", lyrics=LYRICS), "request 2: .*path separator"),
        (SongRequest(idx="x", lyrics=LYRICS, num_samples=0), "request 2: .*num_samples"),
        (3, "request 2: "),
    ],
)
def test_a_request_that_cannot_be_read(request_: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made([A, request_])
    failed, song = Model(FakeModel()).generate([A, request_], on_error="yield")
    assert isinstance(failed, FailedSong) and failed.stage == "read" and failed.request is None
    assert isinstance(song, GeneratedSong) and song.name == "a"


def test_a_bad_line_of_a_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(A) + "\nnonsense\n")
    with pytest.raises(ValueError, match=r"in\.jsonl: line 2: "):
        made(path)
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        made(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "skip"}, "on_error=skip: must be one of raise, yield"),
        ({"seed": -1}, "seed=-1: must be a whole number"),
        ({"generate_type": "all"}, "generate_type=all: must be one of"),
        ({"generate_type": None}, "generate_type=None: must be one of"),
        ({"lyrics": "mend"}, "lyrics=mend: must be one of"),
        ({"sampling": "best"}, "sampling=best: must be one of"),
        ({"max_seconds": 61}, "max_seconds=61 is more than fake can make"),
    ],
)
def test_a_bad_setting_is_refused_at_the_call(options: dict[str, Any], message: str) -> None:
    """Not at the first song: `generate` returns an iterator that may be used much later."""
    with pytest.raises(ValueError, match=message):
        Model(FakeModel()).generate([A], **options)


def test_a_model_makes_songs_again_and_stops_when_told() -> None:
    fake = FakeModel()
    model = Model(fake)
    for _ in model.generate([A, B], seed=1):
        break
    assert fake.names("compose") == ["a"]
    assert [song.name for song in model.generate([A, B], seed=1)] == ["a", "b"]


def test_several_samples_of_requests_that_do_not_say() -> None:
    songs = made([A, {**B, "num_samples": 1}], seed=4, num_samples=2)
    assert [song.name for song in songs] == ["a_s0", "a_s1", "b"]
    with pytest.raises(ValueError, match="num_samples=0: must be a whole number from 1"):
        made(A, num_samples=0)


def test_of_several_takes_the_best_alone_is_yielded() -> None:
    fake = FakeModel(scores={"a_s0": -4.0, "a_s1": -2.5, "b": -3.0})
    songs = made([{**A, "num_samples": 2}, B], fake, keep="best")
    assert [song.name for song in songs] == ["a_s1", "b"]
    assert songs[0].lm_score is not None and songs[0].lm_score.difference == 2.5
    assert len(made([{**A, "num_samples": 2}], FakeModel())) == 2
    with pytest.raises(ValueError, match="keep=some: must be one of all, best"):
        made(A, keep="some")
    with pytest.raises(ValueError, match="which fake does not keep"):
        made(A, FakeModel(scores_drafts=False), keep="best")
