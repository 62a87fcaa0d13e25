"""Requests with prompts through whole runs of the tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import songgen
from songgen.audio import Audio, encode_audio, write_audio
from songgen.cli import main
from songgen.models.built_in import has_separator
from songgen.models.levo.loading import load
from songgen.models.levo.model import LevoModel
from songgen.requests import SongRequest

pytestmark = pytest.mark.skipif(not has_separator(), reason="needs the demucs and julius packages")

SECONDS = 1.0


def music(seconds: float = 6.0, seed: int = 0, sample_rate: int = 32000) -> Audio:
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).standard_normal((2, times.size))
    tone = np.sin(2 * math.pi * (220 + 30 * seed) * times) * np.sin(2 * math.pi * 0.7 * times)
    return Audio((0.3 * tone + 0.05 * noise).astype(np.float32), sample_rate)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.flac"
    write_audio(path, music(), "flac")
    return path


def sing(folder: Path, *lines: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Make some songs into a folder; returns their records by name."""
    requests = folder / "lines.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    main(
        [
            "generate",
            "model=tiny",
            f"input={requests}",
            f"output.dir={folder}",
            "output.tokens=true",
            "seed=1",
        ]
    )
    records = (folder / "jsonl/lines.jsonl").read_text("utf-8").splitlines()
    return {record["name"]: record for record in map(json.loads, records)}


@pytest.fixture
def home(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the tiny model that the tests have made."""
    monkeypatch.setattr("songgen.models.levo.tiny.ensure_tiny", lambda name: tiny_folder)


def line(idx: str, **keys: Any) -> dict[str, Any]:
    return {"idx": idx, "gt_lyric": "[verse] La la la.", "max_seconds": SECONDS, **keys}


def tokens_of(folder: Path, name: str) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(folder / f"tokens/{name}.safetensors")["tokens"]


@pytest.mark.usefixtures("home")
def test_prompts_of_every_kind_make_songs_and_are_recorded(tmp_path: Path, clip: Path) -> None:
    records = sing(
        tmp_path,
        line("plain", seed=3),
        line("clip", seed=3, prompt_audio_path=str(clip), descriptions="pop", generate_type="separate"),
        line("auto", seed=3, auto_prompt_audio_type="r&b/soul"),
    )
    assert [record["status"] for record in records.values()] == ["ok"] * 3
    notes = records["clip"]["notes"]
    assert notes["prompt_seconds"] == 6
    assert any("is 6.0 s long" in warning for warning in notes["warnings"])
    assert any("the descriptions both set the style" in warning for warning in notes["warnings"])
    assert records["auto"]["notes"]["auto_prompt"].startswith("R&B/Soul/en/")
    assert sorted(records["clip"]["paths"]) == ["bgm", "mixed", "tokens", "vocal"]
    songs = [tokens_of(tmp_path, name) for name in records]
    assert not torch.equal(songs[0], songs[1]) and not torch.equal(songs[0], songs[2])


@pytest.mark.usefixtures("home")
def test_the_mixed_row_never_takes_a_code_of_the_prompt(tmp_path: Path, clip: Path, tiny: LevoModel) -> None:
    sing(tmp_path, line("clip", prompt_audio_path=str(clip)))
    conditions = tiny.condition(SongRequest(idx="a", lyrics="[verse] la", prompt_audio_path=str(clip)))
    assert conditions.banned.numel() > 0
    assert not set(tokens_of(tmp_path, "clip")[0].tolist()) & set(conditions.banned.tolist())


@pytest.mark.usefixtures("home")
def test_bad_clips_are_errors_of_their_songs_only(tmp_path: Path, clip: Path) -> None:
    """Truncated, wrong header, empty, one sample, silent, NaN, absent: the others are made all the same."""
    whole = clip.read_bytes()
    bad = {
        "truncated": whole[: len(whole) // 3],
        "header": b"RIFF" + whole[4:],
        "empty": b"",
        "one_sample": encode_audio(Audio(np.zeros((2, 1), np.float32) + 0.5, 48000), "wav")[0],
        "silent": encode_audio(Audio(np.zeros((2, 48000), np.float32), 48000), "wav")[0],
        "text": b"this is no audio",
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    soundfile.write(tmp_path / "nan.wav", np.full((48000, 2), np.nan, np.float32), 48000, subtype="FLOAT")
    names = (*bad, "nan", "absent")
    lines = [line(name, prompt_audio_path=str(tmp_path / f"{name}.wav")) for name in names]
    records = sing(tmp_path / "out", *lines, line("good", prompt_audio_path=str(clip)))
    assert records.pop("good")["status"] == "ok"
    for name, record in records.items():
        if name == "truncated" and record["status"] == "ok":
            continue  # a decoder may give back what is left of a file, and that may be enough
        assert record["status"] == "failed"
        assert f"{name}.wav" in record["error"], record["error"]


@pytest.mark.usefixtures("home")
def test_an_hour_long_clip_is_read_only_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    write_audio(path, Audio(np.tile(music(10, sample_rate=8000).samples, 360), 8000), "flac")
    records = sing(tmp_path / "out", line("hour", prompt_audio_path=str(path)))
    assert records["hour"]["status"] == "ok" and records["hour"]["notes"]["prompt_seconds"] == 10


@pytest.mark.usefixtures("home")
def test_a_changed_clip_makes_its_song_anew(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    write_audio(clip, music(2.0), "wav")
    first = sing(tmp_path / "out", line("a", prompt_audio_path=str(clip)))["a"]
    again = sing(tmp_path / "out", line("a", prompt_audio_path=str(clip)))["a"]
    assert again == first  # skipped: no new record
    write_audio(clip, music(2.0, seed=4), "wav")
    changed = sing(tmp_path / "out", line("a", prompt_audio_path=str(clip)))["a"]
    assert changed["fingerprint"] != first["fingerprint"]


@pytest.mark.usefixtures("home")
def test_a_path_beside_the_input_file_is_found(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "beside.flac").write_bytes(clip.read_bytes())
    records = sing(tmp_path, line("a", prompt_audio_path="beside.flac"))
    assert records["a"]["status"] == "ok"
    assert records["a"]["request"]["prompt_audio_path"] == "beside.flac"


def test_low_memory_and_batches_give_the_songs_of_one_by_one(tiny_folder: Path, clip: Path) -> None:
    """Prompts encoded together, several songs at once, one stage loaded at a time: the same tokens."""
    lines = [
        line("a", prompt_audio_path=str(clip)),
        line("b", auto_prompt_audio_type="Pop"),
        line("c"),
        line("d", prompt_audio_path=str(clip), generate_type="vocal"),
    ]
    plain = songgen.load(str(tiny_folder), device="cpu")
    packed = songgen.load(str(tiny_folder), device="cpu", batch=4, memory="low")
    alone = {song.name: song for song in plain.generate(lines, seed=5)}
    together = {song.name: song for song in packed.generate(lines, seed=5)}
    assert alone.keys() == together.keys()
    for name, song in alone.items():
        assert torch.equal(song.tokens, together[name].tokens)
        for stem, audio in song.stems.items():
            np.testing.assert_allclose(together[name].stems[stem].samples, audio.samples, atol=1e-4)


def test_the_networks_for_prompts_are_freed_after_the_last_prompt(tiny_folder: Path, clip: Path) -> None:
    model = load(tiny_folder, device="cpu")
    request = SongRequest(idx="a", lyrics="[verse] la", prompt_audio_path=str(clip))
    model.prepare([request])
    assert model.parts.prompt_networks.is_loaded
    model.release("condition")
    assert not model.parts.prompt_networks.is_loaded
    model.condition(request)  # kept by content: nothing is loaded for it
    assert not model.parts.prompt_networks.is_loaded


def test_an_unknown_style_lists_those_of_the_library(tiny: LevoModel) -> None:
    with pytest.raises(ValueError, match=r"'Polka' is not in .*it holds Pop, Latin, Rock"):
        tiny.condition(SongRequest(idx="a", lyrics="[verse] la", auto_prompt_audio_type="Polka"))


def test_the_draw_follows_the_seed(tiny: LevoModel) -> None:
    def drawn(seed: int) -> str:
        request = SongRequest(idx="a", lyrics="[verse] la", auto_prompt_audio_type="Pop", seed=seed)
        return str(tiny.condition(request).notes["auto_prompt"])

    assert drawn(4) == drawn(4)
    assert {drawn(seed) for seed in range(12)} == {"Pop/en/0", "Pop/en/1"}
