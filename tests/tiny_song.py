"""Songs of two seconds with a truth, for tests that read a folder of songs; sines and clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from songgen.audio import Audio, encode_audio
from songgen.train.truth import (
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Chord,
    DrumHit,
    Key,
    SongTruth,
    Span,
    SungNote,
)

TINY_TRUTH = SongTruth(
    seed=0,
    num_frames=50,
    lyrics="[verse] Go.",
    descriptions="female, pop, the bpm is 120",
    voice="female",
    genre="pop",
    mood="happy",
    bpm=120,
    key=Key(0, "major"),
    sections=(Span("verse", 0.0, 2.0),),
    words=(Span("go", 0.4, 1.2),),
    phonemes=(Span("G", 0.4, 0.5), Span("OW", 0.5, 1.2)),
    notes=(SungNote(69, 0.5, 1.2),),
    chords=(Chord(0, "major", 0.0, 1.0), Chord(9, "minor", 1.0, 2.0)),
    beats=(0.0, 0.5, 1.0, 1.5),
    drums=(DrumHit("kick", 0.0), DrumHit("snare", 0.5), DrumHit("hat", 0.52)),
    f0_hz=tuple(440.0 if 10 <= frame < 30 else 0.0 for frame in range(50)),
)


def write_song(folder: Path, number: int) -> np.ndarray:
    """Write a song as `songgen train synth` does; returns its stems [2, 2, samples]."""
    songs = folder / "songs"
    songs.mkdir(parents=True, exist_ok=True)
    times = np.arange(TINY_TRUTH.num_frames * FRAME_SAMPLES) / SAMPLE_RATE
    vocal = 0.3 * np.sin(2 * np.pi * 440 * times)
    bgm = 0.2 * np.sin(2 * np.pi * (110 + number) * times)
    stems = np.stack([[vocal, vocal], [bgm, -bgm]]).astype(np.float32)
    data, _ = encode_audio(Audio(stems.reshape(4, -1), SAMPLE_RATE), "flac")
    (songs / f"{number:06d}.flac").write_bytes(data)
    (songs / f"{number:06d}.json").write_text(replace(TINY_TRUTH, seed=number).to_json())
    return stems
