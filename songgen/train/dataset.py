"""Reading synthetic songs for training: stems in parts, truths, and labels per frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from songgen.audio import read_part
from songgen.english import PHONEMES
from songgen.train.truth import FRAME_RATE, FRAME_SAMPLES, SongTruth, read_truth

SONGS = "songs"
HELD_OUT_EVERY = 40
DRUMS = ("kick", "snare", "hat")
_PHONEME_IDS = {symbol: index + 1 for index, symbol in enumerate(PHONEMES)}


@dataclass(frozen=True)
class FrameLabels:
    """What sounds in each frame of 1/25 s.

    Args:
        phoneme: int64 [T]; 0 none, else 1 + the index in `PHONEMES`.
        note: int64 [T]; MIDI number of the sung note that is nearest, 0 in a song without any.
        chord: int64 [T]; 0 none, 1 + root of a major, 13 + root of a minor triad.
        drums: float32 [T, 3]; 1 where a kick, snare, hat begins.
        beat: bool [T]; where a beat falls.
    """

    phoneme: Tensor
    note: Tensor
    chord: Tensor
    drums: Tensor
    beat: Tensor


class SongStore:
    """The songs of a folder that `songgen train synth` wrote, in the order of their numbers.

    Raises:
        FileNotFoundError: the folder holds no songs.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._paths = sorted((self.folder / SONGS).glob("[0-9]*.json"))
        if not self._paths:
            raise FileNotFoundError(f"{self.folder / SONGS}: no songs; make some with `songgen train synth`")
        self._truths: dict[int, SongTruth] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def number(self, index: int) -> int:
        """The number of a song in its file names."""
        return int(self._paths[index].stem)

    @property
    def train_indices(self) -> list[int]:
        """Songs to train on."""
        return [index for index in range(len(self)) if self.number(index) % HELD_OUT_EVERY]

    @property
    def held_out_indices(self) -> list[int]:
        """Songs to measure on: one number in forty; their words are partly in no other song."""
        return [index for index in range(len(self)) if self.number(index) % HELD_OUT_EVERY == 0]

    def truth(self, index: int) -> SongTruth:
        """What is true of a song."""
        if index not in self._truths:
            self._truths[index] = read_truth(self._paths[index])
        return self._truths[index]

    def stems(self, index: int, start: int = 0, num_frames: int | None = None) -> Tensor:
        """Float32 [2 stems (vocal, bgm), 2 channels, samples] at 48 kHz of some frames; reads no others.

        Raises:
            ValueError: the song has no such frames.
        """
        path = self._paths[index].with_suffix(".flac")
        last = self.truth(index).num_frames
        num_frames = last - start if num_frames is None else num_frames
        if start < 0 or num_frames < 0 or start + num_frames > last:
            raise ValueError(f"{path}: frames {start} to {start + num_frames} asked for, it has 0 to {last}")
        audio = read_part(path, start * FRAME_SAMPLES, num_frames * FRAME_SAMPLES)
        return torch.from_numpy(audio.samples).reshape(2, 2, -1)


def frame_labels(truth: SongTruth) -> FrameLabels:
    """What sounds in the middle of each frame, and in which frames drums and beats begin.

    A phoneme between the middles of two frames has the frame of its own middle, if the one there has others.
    """
    num_frames = truth.num_frames
    middles = (np.arange(num_frames) + 0.5) / FRAME_RATE
    chord = np.zeros(num_frames, np.int64)
    for bar in truth.chords:
        label = bar.root + (1 if bar.mode == "major" else 13)
        chord[(middles >= bar.start) & (middles < bar.end)] = label
    drums = np.zeros((num_frames, len(DRUMS)), np.float32)
    for hit in truth.drums:
        drums[_frame_of(hit.start, num_frames), DRUMS.index(hit.kind)] = 1.0
    beat = np.zeros(num_frames, bool)
    beat[[_frame_of(time, num_frames) for time in truth.beats]] = True
    classes = np.array([0, *(_PHONEME_IDS[span.name] for span in truth.phonemes)])
    arrays = (classes[phoneme_numbers(truth) + 1], _notes(truth, middles), chord, drums, beat)
    return FrameLabels(*(torch.from_numpy(array) for array in arrays))


def _frame_of(seconds: float, num_frames: int) -> int:
    return min(int(seconds * FRAME_RATE), num_frames - 1)


def phoneme_numbers(truth: SongTruth) -> np.ndarray:
    """Which of the truth's phonemes each frame has, `[T]`, -1 for none; as `frame_labels` tells."""
    middles = (np.arange(truth.num_frames) + 0.5) / FRAME_RATE
    place_T = np.full(len(middles), -1)
    for place, span in enumerate(truth.phonemes):
        place_T[(middles >= span.start) & (middles < span.end)] = place
    has_frame = set(place_T.tolist())
    for place, span in enumerate(truth.phonemes):
        frame = _frame_of((span.start + span.end) / 2, len(middles))
        if place not in has_frame and (place_T[frame] < 0 or (place_T == place_T[frame]).sum() > 1):
            place_T[frame] = place
    return place_T


def _notes(truth: SongTruth, middles: np.ndarray) -> np.ndarray:
    """MIDI numbers `[T]`."""
    if not truth.notes:
        return np.zeros(len(middles), np.int64)
    starts, ends = (np.array([getattr(note, key) for note in truth.notes]) for key in ("start", "end"))
    away = np.maximum(starts - middles[:, None], middles[:, None] - ends).clip(0)
    return np.asarray([note.pitch for note in truth.notes])[away.argmin(1)]
