"""A few songs of seconds in the layout of `songgen/train/dataset.py`, their phonemes pitched noise bands."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from songgen.english import PHONEMES, bare, pronounce

SAMPLE_RATE, HOP, FRAME_RATE = 48000, 1920, 25
SUNG = "Go on and see me now. We run away."


def write_small_songs(folder: Path, *, count: int = 3, seconds: float = 4.0) -> None:
    """Songs of an instrumental intro (a quarter), a verse and nothing else; numbers 0 ... count - 1."""
    (folder / "songs").mkdir(parents=True)
    for number in range(count):
        frames = int(seconds * FRAME_RATE) - number
        truth = small_truth(number, frames)
        audio = _audio(truth, frames, number)
        path = folder / "songs" / f"{number:06d}.flac"
        soundfile.write(path, audio.T, SAMPLE_RATE, subtype="PCM_16")
        path.with_suffix(".json").write_text(json.dumps(truth), "utf-8")


def small_truth(number: int, frames: int) -> dict[str, object]:
    """The truth of a song of so many frames."""
    lyrics = f"[intro-short] ; [verse] {SUNG if number % 2 == 0 else SUNG.split('.')[0] + '.'}"
    seconds = frames / FRAME_RATE
    first, last = 0.25 * seconds, 0.95 * seconds
    words = pronounce(lyrics)
    symbols = [bare(phoneme) for word in words for phoneme in word.phonemes]
    edges = np.linspace(first, last, len(symbols) + 1).tolist()
    phonemes = [
        {"symbol": symbol, "start": start, "end": end}
        for symbol, (start, end) in zip(symbols, pairwise(edges), strict=True)
    ]
    ends = np.cumsum([len(word.phonemes) for word in words])
    spans = [(edges[end - len(word.phonemes)], edges[end]) for word, end in zip(words, ends, strict=True)]
    pitch = 55 + 2 * (number % 5)
    sung = [first <= frame / FRAME_RATE < last for frame in range(frames)]
    return {
        "seed": number,
        "num_frames": frames,
        "lyrics": lyrics,
        "descriptions": f"{'female' if number % 2 else 'male'}, pop, happy, piano, the bpm is 120",
        "voice": "female" if number % 2 else "male",
        "genre": "pop",
        "mood": "happy",
        "bpm": 120.0,
        "key": {"tonic": 0, "mode": "major"},
        "sections": [
            {"tag": "intro-short", "start": 0.0, "end": first},
            {"tag": "verse", "start": first, "end": seconds},
        ],
        "words": [
            {"text": word.text, "start": start, "end": end}
            for word, (start, end) in zip(words, spans, strict=True)
        ],
        "phonemes": phonemes,
        "notes": [{"pitch": pitch, "start": first, "end": last}],
        "chords": [{"root": 0, "mode": "major", "start": 0.0, "end": seconds}],
        "beats": np.arange(0, seconds, 0.5).tolist(),
        "drums": [{"kind": "kick", "start": float(start)} for start in np.arange(0, seconds, 0.5)],
        "f0_hz": [440 * 2 ** ((pitch - 69) / 12) if is_sung else 0.0 for is_sung in sung],
    }


def _audio(truth: dict[str, object], frames: int, number: int) -> np.ndarray:
    """`[4, N]`: each phoneme a tone of its own; a chord with clicks."""
    samples = frames * HOP
    times = np.arange(samples) / SAMPLE_RATE
    vocal = np.zeros(samples)
    phonemes = truth["phonemes"]
    assert isinstance(phonemes, list)
    for phoneme in phonemes:
        span = slice(int(phoneme["start"] * SAMPLE_RATE), int(phoneme["end"] * SAMPLE_RATE))
        tone = 300 * 1.08 ** PHONEMES.index(phoneme["symbol"])
        vocal[span] = 0.2 * np.sin(2 * np.pi * tone * times[span])
    bgm = sum(0.05 * np.sin(2 * np.pi * tone * times) for tone in (130.8, 164.8, 196.0))
    bgm[:: SAMPLE_RATE // 2] += 0.5
    noise = np.random.default_rng(number).normal(0, 1e-3, (4, samples))
    return noise + np.stack([vocal, vocal, bgm, bgm])
