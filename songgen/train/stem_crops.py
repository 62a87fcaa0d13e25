"""Pieces of the stems of synthetic songs, from memory where they fit: what `vae` trains on.

Songs are kept as 16-bit integers, as their files are, until the memory given is full; the rest are read from
their files each time. What a piece holds does not depend on where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from songgen.request_keys import Stem
from songgen.train.truth import FRAME_SAMPLES

PEAK_16_BIT = 32768.0
STEMS: tuple[Stem, ...] = ("mixed", "vocal", "bgm")
QUIET = 1e-3
"""RMS below which a piece is drawn again, once."""


class Truth(Protocol):
    """What is known of a song: its length, and the pitch of its voice in each frame."""

    @property
    def num_frames(self) -> int: ...
    @property
    def f0_hz(self) -> Sequence[float]: ...


class Songs(Protocol):
    """What is asked of a `SongStore`."""

    def __len__(self) -> int: ...
    @property
    def train_indices(self) -> list[int]: ...
    @property
    def held_out_indices(self) -> list[int]: ...
    def number(self, index: int) -> int: ...
    def truth(self, index: int) -> Truth: ...
    def stems(self, index: int, start: int = 0, num_frames: int | None = None) -> Tensor: ...


def stem_of(stems_SCN: Tensor, stem: str) -> Tensor:
    """A stem `[C, N]` of vocal and bgm `[2, C, N]`; mixed is their sum."""
    return {"mixed": stems_SCN.sum(0), "vocal": stems_SCN[0], "bgm": stems_SCN[1]}[stem]


class StemCrops:
    """Draws pieces.

    Args:
        songs: where they come from.
        memory_bytes: of songs kept.
    """

    def __init__(self, songs: Songs, memory_bytes: int) -> None:
        self.songs = songs
        self._left = memory_bytes
        self._kept: dict[int, Tensor] = {}

    def stems(self, index: int, start: int, num_frames: int) -> Tensor:
        """Vocal and bgm `[2, C, N]` float32 from frame `start` on."""
        kept = self._kept.get(index)
        if kept is None:
            num_bytes = self.songs.truth(index).num_frames * FRAME_SAMPLES * 2 * 2 * 2
            if num_bytes > self._left:
                return self.songs.stems(index, start, num_frames)
            self._left -= num_bytes
            kept = (self.songs.stems(index) * PEAK_16_BIT).round().clamp(-32768, 32767).to(torch.int16)
            self._kept[index] = kept
        first, end = start * FRAME_SAMPLES, (start + num_frames) * FRAME_SAMPLES
        return kept[..., first:end].float() / PEAK_16_BIT

    def draw(self, rng: np.random.Generator, num_frames: int, stem: str) -> Tensor:
        """A piece `[C, N]` of a song of the training set; shorter songs are padded with silence."""
        piece_CN = self._draw(rng, num_frames, stem)
        if piece_CN.square().mean().sqrt() < QUIET:
            piece_CN = self._draw(rng, num_frames, stem)
        return piece_CN

    def _draw(self, rng: np.random.Generator, num_frames: int, stem: str) -> Tensor:
        index = int(rng.choice(self.songs.train_indices))
        total = self.songs.truth(index).num_frames
        start = int(rng.integers(max(0, total - num_frames) + 1))
        piece_CN = stem_of(self.stems(index, start, min(num_frames, total)), stem)
        missing = num_frames * FRAME_SAMPLES - piece_CN.shape[-1]
        return torch.nn.functional.pad(piece_CN, (0, missing))

    def held_out(self, index: int, num_frames: int, stem: str) -> Tensor:
        """A piece `[C, N]` from the middle of a song, at most that long."""
        total = self.songs.truth(index).num_frames
        length = min(num_frames, total)
        return stem_of(self.songs.stems(index, (total - length) // 2, length), stem)
