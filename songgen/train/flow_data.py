"""What the flow network learns from: windows of codes and latents of songs, cut as inference cuts them.

Knows files and windows; not the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from songgen.models.levo.codec import track_codes
from songgen.models.levo.windows import OVERLAP_FRAMES
from songgen.request_keys import Stem
from songgen.train.latents import read_latents
from songgen.train.stem_crops import STEMS
from songgen.train.token_codes import codes_path


@dataclass(frozen=True)
class FlowBatch:
    """B windows of one length.

    Args:
        codes_BKW: int64, vocal and bgm.
        latents_BWZ: float32, on the VAE's scale.
        num_context_B: int64, frames that are given.
        is_null_B: bool, windows whose features are not told.
        noise_BWZ: standard normal.
        time_B: 0 ... 1.
    """

    codes_BKW: Tensor
    latents_BWZ: Tensor
    num_context_B: Tensor
    is_null_B: Tensor
    noise_BWZ: Tensor
    time_B: Tensor

    def to(self, device: torch.device) -> FlowBatch:
        """On a device."""
        return FlowBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class FlowSongs:
    """Codes and latents of songs, kept as they are read.

    Args:
        songs: numbers of songs.

    Raises:
        FileNotFoundError: a song has no codes or no latents.
    """

    def __init__(self, work: Path, songs: Sequence[int], *, memory_songs: int = 4096) -> None:
        for song in songs:
            if not codes_path(work, song).is_file():
                raise FileNotFoundError(
                    f"{codes_path(work, song)}: no such file; write the codes first (songgen train codes)"
                )
        self.work, self.songs = work, list(songs)
        self._read = lru_cache(memory_songs)(self._read_song)

    def _read_song(self, song: int) -> tuple[Tensor, dict[str, Tensor]]:
        codes_KT = torch.from_numpy(np.load(codes_path(self.work, song)))
        latents = read_latents(self.work, song)
        num_frames = min(codes_KT.shape[1], *(len(one) for one in latents.values()))
        return codes_KT[:, :num_frames], {stem: one[:num_frames] for stem, one in latents.items()}

    def num_frames(self, song: int) -> int:
        """Frames of a song that have codes and latents."""
        return int(self._read(song)[0].shape[1])

    def window(self, song: int, stem: Stem, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Codes `[K, W]` and latents `[W, Z]`; behind its end a song begins again, as in inference."""
        codes_KT, latents = self._read(song)
        frames = torch.arange(start, start + length) % codes_KT.shape[1]
        return track_codes(codes_KT[:, frames].long(), stem), latents[stem][frames].float()


@dataclass(frozen=True)
class WindowOdds:
    """How windows are drawn.

    Args:
        lengths: frames of a window, with equal odds.
        batch_frames: frames of all windows of a batch, about.
        stems: odds that a window's latents are those of the mixture, of the vocal and of the band.
        start: odds that a window begins where its song does.
        context: odds that a window has given frames; half of those have as many as inference gives.
        null: odds that a window's features are not told.
        time_spread: deviation of the normal whose logistic is the time; 0 for uniform times.
        time_zero: odds that the time is 0 instead, where nothing but tokens tells of the latents; 1 for what
            a solver of one step needs.
    """

    lengths: tuple[int, ...] = (250, 500, 750, 1000)
    batch_frames: int = 2000
    stems: tuple[float, float, float] = (0.5, 0.25, 0.25)
    start: float = 0.3
    context: float = 0.5
    null: float = 0.1
    time_spread: float = 1.0
    time_zero: float = 0.0

    def __post_init__(self) -> None:
        if min(self.stems) < 0 or abs(sum(self.stems) - 1) > 1e-6:
            raise ValueError(
                f"windows.stems={list(self.stems)}: give odds of mixed, vocal and bgm that make 1"
            )


def draw_batch(songs: FlowSongs, odds: WindowOdds, rng: np.random.Generator) -> FlowBatch:
    """Windows of songs, all that is random in a step included."""
    length = int(rng.choice(odds.lengths))
    count = max(1, round(odds.batch_frames / length))
    windows, contexts = [], []
    for _ in range(count):
        song = int(rng.choice(songs.songs))
        stem = STEMS[int(rng.choice(len(STEMS), p=odds.stems))]
        total = songs.num_frames(song)
        is_start = total <= length or rng.random() < odds.start
        start = 0 if is_start else int(rng.integers(total - length + 1))
        windows.append(songs.window(song, stem, start, length))
        most = min(OVERLAP_FRAMES, length - 1)
        given = most if rng.random() < 0.5 else int(rng.integers(1, most + 1))
        contexts.append(given if rng.random() < odds.context else 0)
    codes, latents = zip(*windows, strict=True)
    latents_BWZ = torch.stack(latents)
    if odds.time_spread:
        time_B = 1 / (1 + np.exp(-odds.time_spread * rng.standard_normal(count)))
    else:
        time_B = rng.random(count)
    if odds.time_zero:
        time_B[rng.random(count) < odds.time_zero] = 0.0
    return FlowBatch(
        torch.stack(codes),
        latents_BWZ,
        torch.tensor(contexts),
        torch.from_numpy(rng.random(count) < odds.null),
        torch.from_numpy(rng.standard_normal(latents_BWZ.shape, dtype=np.float32)),
        torch.from_numpy(time_B.astype(np.float32)),
    )
