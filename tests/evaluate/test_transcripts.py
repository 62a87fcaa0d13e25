"""Transcripts from files, and from an ASR behind the interface of faster-whisper."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_audio import music

from songgen.audio import Audio, write_audio
from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.transcripts import FasterWhisper, Given, Transcript, read_transcripts


def test_a_file_of_transcripts(tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    path.write_text(
        '\ufeff{"name": "a", "text": "one\u2028two", "asr": "big model"}\n\n{"idx": "b", "text": ""}\n',
        encoding="utf-8",
    )
    assert read_transcripts(path) == {
        "a": Transcript("one\u2028two", "big model"),
        "b": Transcript("", "heard.jsonl"),
    }


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello\n")
    assert read_transcripts(tmp_path) == {"a": Transcript("hello\n", tmp_path.name)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no transcripts$"),
        ("nonsense\n", 'line 1: not JSON: a transcript is {"name": "<song>", "text": "<words>"}$'),
        ('{"name": "a", "text": "x"}\n{"name": "b"}', 'line 2: a transcript is {"name"'),
        ('{"text": "x"}', 'line 1: a transcript is {"name"'),
        ("[1]", 'line 1: a transcript is {"name"'),
        ('{"name": "a", "text": "x"}\n{"name": "a", "text": "y"}', "line 2: 'a' is there twice$"),
    ],
)
def test_a_bad_file_of_transcripts_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "heard.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"heard\.jsonl: {message}"):
        read_transcripts(path)


def test_transcripts_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"heard: no such file or folder of transcripts$"):
        read_transcripts(tmp_path / "heard")
    with pytest.raises(ValueError, match=r"holds no \*\.txt: one file of words a song, named as the song$"):
        read_transcripts(tmp_path)
    (tmp_path / "x.jsonl").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match=r"x\.jsonl: is not UTF-8$"):
        read_transcripts(tmp_path / "x.jsonl")


class FakeWhisper:
    """Stands for `faster_whisper.WhisperModel`; keeps how it was used."""

    made: list[dict[str, Any]]
    heard: list[tuple[np.ndarray, dict[str, Any]]]

    def __init__(self, model: str, **options: Any) -> None:
        if model == "broken":
            raise RuntimeError("no model.bin in broken")
        self.made.append({"model": model, **options})

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Any, Any]:
        self.heard.append((audio, options))
        return iter([SimpleNamespace(text=" hello "), SimpleNamespace(text="world")]), None


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch) -> type[FakeWhisper]:
    FakeWhisper.made, FakeWhisper.heard = [], []
    module = SimpleNamespace(WhisperModel=FakeWhisper, __version__="9.9")
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return FakeWhisper


def test_the_asr_hears_16_khz_mono_in_the_songs_language(whisper: type[FakeWhisper], tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", Audio(music(1.0, 44100), 44100))
    listener = FasterWhisper("models/large", "cuda:1")
    found = listener.listen("a", tmp_path / "a.wav", "zh")
    assert found == Transcript("hello world", "faster-whisper 9.9, large")
    assert whisper.made == [{"model": "models/large", "device": "cuda", "device_index": 1}]
    [(samples, options)] = whisper.heard
    assert samples.shape == (16000,) and samples.dtype == np.float32
    assert options["language"] == "zh" and options["temperature"] == 0.0
    assert options["condition_on_previous_text"] is False


def test_given_transcripts_go_first(whisper: type[FakeWhisper], tmp_path: Path) -> None:
    write_audio(tmp_path / "b.wav", Audio(music(0.5), 48000))
    given = {"a": Transcript("by hand", "me")}
    assert Given(given, tmp_path / "heard.jsonl").listen("a", tmp_path / "a.wav", "en").text == "by hand"
    with pytest.raises(NotMeasured, match=r"heard\.jsonl holds no transcript of b$"):
        Given(given, tmp_path / "heard.jsonl").listen("b", tmp_path / "b.wav", "en")
    both = Given(given, tmp_path / "heard.jsonl", FasterWhisper("small"))
    assert both.listen("b", tmp_path / "b.wav", "en").text == "hello world"


def test_an_asr_that_cannot_run_says_why(whisper: type[FakeWhisper], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^asr\.model=broken: faster-whisper cannot load it: no model\.bin"):
        FasterWhisper("broken")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'songgen\[asr\]'$"):
        FasterWhisper("large-v3")
