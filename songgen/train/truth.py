"""What is true of a synthetic song: its words, phonemes, notes, chords and beats with their times.

The JSON file beside each song's audio holds one. Times are in seconds from the first sample.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FRAME_RATE = 25
SAMPLE_RATE = 48_000
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE


@dataclass(frozen=True)
class Span:
    """Something named that lasts: a section by its tag, a word by its text, a phoneme by its symbol."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class SungNote:
    """One note of the voice; `pitch` is a MIDI number."""

    pitch: int
    start: float
    end: float


@dataclass(frozen=True)
class Chord:
    """One triad of the band: `root` 0 (C) ... 11, `mode` major or minor."""

    root: int
    mode: str
    start: float
    end: float


@dataclass(frozen=True)
class DrumHit:
    """One stroke: `kind` is kick, snare or hat."""

    kind: str
    start: float


@dataclass(frozen=True)
class Key:
    """A key: `tonic` 0 (C) ... 11, `mode` major or minor."""

    tonic: int
    mode: str


@dataclass(frozen=True)
class SongTruth:
    """Everything known of a song.

    Args:
        num_frames: its length in frames of 1/25 s.
        lyrics, descriptions: as a request would give them.
        voice: female or male.
        phonemes: bare ARPAbet, in the order of `pronounce(lyrics)`.
        beats: seconds.
        f0_hz: of the voice in the middle of each frame; 0 where it has none.
    """

    seed: int
    num_frames: int
    lyrics: str
    descriptions: str
    voice: str
    genre: str
    mood: str
    bpm: int
    key: Key
    sections: tuple[Span, ...]
    words: tuple[Span, ...]
    phonemes: tuple[Span, ...]
    notes: tuple[SungNote, ...]
    chords: tuple[Chord, ...]
    beats: tuple[float, ...]
    drums: tuple[DrumHit, ...]
    f0_hz: tuple[float, ...]

    def to_json(self) -> str:
        """The text of the file."""
        data = asdict(self)
        for key, name in _NAMES.items():
            data[key] = [{name: span.pop("name"), **span} for span in data[key]]
        return json.dumps(data)


_NAMES = {"sections": "tag", "words": "text", "phonemes": "symbol"}
_ROWS = {"notes": SungNote, "chords": Chord, "drums": DrumHit}


def read_truth(path: Path) -> SongTruth:
    """The truth of one song.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else; names the file and what is missing.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key, name in _NAMES.items():
            data[key] = tuple(Span(span[name], span["start"], span["end"]) for span in data[key])
        for key, kind in _ROWS.items():
            data[key] = tuple(kind(**row) for row in data[key])
        data["key"] = Key(**data["key"])
        data["beats"], data["f0_hz"] = tuple(data["beats"]), tuple(data["f0_hz"])
        return SongTruth(**{field.name: data[field.name] for field in fields(SongTruth)})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: is not the truth of a song ({error!r}); delete it and run `songgen train synth` again"
        ) from error
