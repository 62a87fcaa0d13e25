"""What a listener heard: transcripts from a file, or from an ASR that is installed.

A file of transcripts is JSON Lines, `{"name": "<song>", "text": "...", "asr": "<which, optional>"}`; `idx`
may stand for `name`. A folder holds `<song>.txt` instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from songgen.audio import read_audio
from songgen.evaluate.measures import NotMeasured

ASR_RATE = 16000
NO_TRANSCRIPTS = "no transcript: give transcripts=FILE, or asr.program=faster-whisper with asr.model"


@dataclass(frozen=True)
class Transcript:
    """The words that were heard in a song, and by whom (the name of an ASR, or of the file)."""

    text: str
    asr: str


class Listener(Protocol):
    """Finds the transcript of a song."""

    def listen(self, name: str, audio: Path, language: str) -> Transcript:
        """The transcript. Raises NotMeasured where there is none, ValueError or OSError for bad audio."""
        ...


class Given:
    """Transcripts that somebody made, with another listener for songs that they do not hold."""

    def __init__(
        self, transcripts: Mapping[str, Transcript], source: Path, other: Listener | None = None
    ) -> None:
        self.transcripts, self.source, self.other = transcripts, source, other

    def listen(self, name: str, audio: Path, language: str) -> Transcript:
        """The given transcript, else the other listener's."""
        if name in self.transcripts:
            return self.transcripts[name]
        if self.other is None:
            raise NotMeasured(f"{self.source} holds no transcript of {name}")
        return self.other.listen(name, audio, language)


class FasterWhisper:
    """Whisper through the package faster-whisper, greedy, without the text of the window before.

    Greedy at temperature 0 and without carried text, so that a transcript does not depend on chance and a
    loop of one window does not run on.

    Args:
        model: a folder of a converted model, or a size such as `large-v3`, which the package downloads.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ValueError: the package is not installed, or cannot load the model.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        try:
            import faster_whisper
        except ImportError:
            raise ValueError(
                "asr.program=faster-whisper: it is not installed: pip install 'songgen[asr]'"
            ) from None
        self.name = f"faster-whisper {faster_whisper.__version__}, {Path(model).name}"
        kind, _, index = device.partition(":")
        try:
            self._model: Any = faster_whisper.WhisperModel(model, device=kind, device_index=int(index or 0))
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"asr.model={model}: faster-whisper cannot load it: {reason}") from error

    def listen(self, name: str, audio: Path, language: str) -> Transcript:
        """Transcribe an audio file."""
        import soxr

        heard = read_audio(audio)
        mono = soxr.resample(heard.samples.mean(axis=0), heard.sample_rate, ASR_RATE).astype(np.float32)
        segments, _ = self._model.transcribe(
            mono, language=language, beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return Transcript(" ".join(segment.text.strip() for segment in segments), self.name)


def read_transcripts(path: Path) -> dict[str, Transcript]:
    """The transcripts of a JSON Lines file, or of a folder of text files, by the song's name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a transcript, a name comes twice, or there is none.
    """
    if path.is_dir():
        found = {file.stem: Transcript(_text(file), path.name) for file in sorted(path.glob("*.txt"))}
        if not found:
            raise ValueError(f"{path}: holds no *.txt: one file of words a song, named as the song")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder of transcripts")
    found = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, transcript = _parse(line, path.name)
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        if name in found:
            raise ValueError(f"{path}: line {number}: {name!r} is there twice")
        found[name] = transcript
    if not found:
        raise ValueError(f"{path}: holds no transcripts")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8") from None


def _parse(line: str, source: str) -> tuple[str, Transcript]:
    wanted = 'a transcript is {"name": "<song>", "text": "<words>"}'
    try:
        entry = json.loads(line)
    except ValueError:
        raise ValueError(f"not JSON: {wanted}") from None
    name = (entry.get("name") or entry.get("idx")) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not isinstance(entry.get("text"), str):
        raise ValueError(wanted)
    asr = entry.get("asr")
    return name, Transcript(entry["text"], asr if isinstance(asr, str) and asr else source)
