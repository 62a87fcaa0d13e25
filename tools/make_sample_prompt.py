"""Make sample/prompt.ogg, ten seconds of a band that is all arithmetic: the clip of the sample with a prompt.

python tools/make_sample_prompt.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from songgen.audio import Audio, write_audio

SAMPLE_RATE = 48000
SECONDS = 10
BEAT = 0.5
CHORDS = ((60, 64, 67), (55, 59, 62), (57, 60, 64), (53, 57, 60))
MELODY = (72, 71, 67, 69, 71, 67, 64, 62, 69, 72, 76, 74, 72, 69, 67, 65, 72, 74, 76, 72)

Signal = npt.NDArray[np.float64]


def note(pitch: int, seconds: float, partials: tuple[float, ...], decay: float) -> Signal:
    """A decaying tone of a MIDI pitch with harmonics of given strengths."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(level * np.sin(2 * np.pi * frequency * (k + 1) * times) for k, level in enumerate(partials))
    fade = np.minimum(1, np.minimum(times, seconds - times) / 0.01)
    return np.asarray(tone * np.exp(-decay * times) * fade)


def add(track: Signal, start: float, sound: Signal, left: float, right: float) -> None:
    """Mix a sound into a stereo track at a time, with a level for each side."""
    first = int(start * SAMPLE_RATE)
    length = min(sound.size, track.shape[1] - first)
    track[:, first : first + length] += np.array([[left], [right]]) * sound[:length]


def band() -> Signal:
    """Chords, bass, a tune and drums, `[2, N]`, peaking at 0.7."""
    random = np.random.default_rng(1)
    track = np.zeros((2, SECONDS * SAMPLE_RATE))
    for beat in range(int(SECONDS / BEAT)):
        chord, time = CHORDS[beat // 4 % len(CHORDS)], beat * BEAT
        for number, pitch in enumerate(chord):
            add(track, time + 0.02 * number, note(pitch, 1.2, (1, 0.4, 0.2), 3), 0.10, 0.06)
        add(track, time, note(chord[0] - 24, BEAT, (1, 0.5, 0.3, 0.1), 2), 0.16, 0.16)
        add(track, time, note(MELODY[beat % len(MELODY)], 0.9 * BEAT, (1, 0.6, 0.5, 0.3, 0.2), 1), 0.10, 0.14)
        hit = random.standard_normal(int(0.12 * SAMPLE_RATE)) * np.exp(
            -np.arange(int(0.12 * SAMPLE_RATE)) / 900
        )
        add(track, time + (BEAT / 2 if beat % 2 else 0), hit, 0.05, 0.05)
        if beat % 2 == 0:
            add(track, time, note(31, 0.2, (1,), 18), 0.35, 0.35)
    return track * (0.7 / np.abs(track).max())


def main() -> int:
    """Write the clip into the checkout."""
    path = Path(__file__).resolve().parents[1] / "sample" / "prompt.ogg"
    write_audio(path, Audio(band().astype(np.float32), SAMPLE_RATE), "ogg")
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
