"""Crops of songs as the audio tokenizers see them: normalised mels of the tracks, and what is true of them.

The mel is the tokenizer's own front end (`levo/encode.py`, `nn/musicfm.py`), computed faster: resampling as a
product of matrices, power without a root. It differs from inference by rounding alone. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from songgen.models.levo.encode import (
    CLIP_PEAK,
    ENCODER_RATE,
    FRAME_RATE,
    SAMPLE_RATE,
    SEGMENT_PEAK,
    AudioTokenizer,
    limit_peak,
)
from songgen.nn.mel import decibels
from songgen.nn.musicfm import MEL_MEAN, MEL_STD
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.label_codes import label_codes
from songgen.train.truth import SongTruth

BLOCK = 64
"""Samples at the encoder's rate that one row of the resampling product makes; a frame is 15 rows."""

STEMS = ("vocal", "bgm")


@dataclass(frozen=True)
class TrackTargets:
    """What is true of B crops of T frames.

    Args:
        mixed_BT, vocal_BT: codes of `label_codes.py`.
        chord_BT: classes, int64, 0 for none.
        drums_BTC: onsets of kick, snare and hat, float32.
    """

    mixed_BT: Tensor
    vocal_BT: Tensor
    chord_BT: Tensor
    drums_BTC: Tensor

    @classmethod
    def of_song(cls, truth: SongTruth) -> TrackTargets:
        """Those of all frames of a song, without the first axis."""
        labels = frame_labels(truth)
        codes = label_codes(labels)
        return cls(codes["mixed"], codes["vocal"], labels.chord, labels.drums)

    def codes_BT(self, stem: str) -> Tensor:
        """The codes of a track that has them in the truth."""
        return {"mixed": self.mixed_BT, "vocal": self.vocal_BT}[stem]


@dataclass(frozen=True)
class TokenBatch:
    """Crops of B songs: `mels[stem]` normalised `[B, 128, 4 T]`, and the truth."""

    mels: dict[str, Tensor]
    targets: TrackTargets

    def to(self, device: torch.device) -> TokenBatch:
        """On a device."""
        mels = {stem: mel.to(device) for stem, mel in self.mels.items()}
        parts = (getattr(self.targets, part.name).to(device) for part in fields(TrackTargets))
        return TokenBatch(mels, TrackTargets(*parts))


class MelMaker:
    """48 kHz stereo to the normalised mel that a tokenizer's encoder embeds."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        front = tokenizer.bestrq.model.preprocessor_melspec_2048.mel_stft
        kernel = tokenizer.rsq48tobestrq.kernel.flatten()
        step = SAMPLE_RATE // ENCODER_RATE
        self._before = (kernel.numel() - step) // 2
        self._size, self._step = step * (BLOCK - 1) + kernel.numel(), step
        self._matrix = torch.zeros(self._size, BLOCK)
        for sample in range(BLOCK):
            self._matrix[step * sample : step * sample + kernel.numel(), sample] = kernel
        self._window, self._filters = front.spectrogram.window, front.mel_scale.fb
        self._fft_size, self._hop = front.fft_size, front.hop

    def resampled(self, mono_BN: Tensor) -> Tensor:
        """48 kHz `[B, N]` to 24 kHz `[B, N / 2]`; N a multiple of 128."""
        padded = functional.pad(mono_BN, (self._before, self._size))
        blocks = padded.unfold(-1, self._size, self._step * BLOCK)[
            :, : mono_BN.shape[-1] // self._step // BLOCK
        ]
        return (blocks @ self._matrix).flatten(1)

    def __call__(self, audio_BCN: Tensor) -> Tensor:
        """48 kHz stereo `[B, 2, N]`, N whole frames, to `[B, 128, N / 480]` float32."""
        limited = limit_peak(audio_BCN, SEGMENT_PEAK, dim=-1)
        spectrum = torch.stft(
            self.resampled((limited[:, 0] + limited[:, 1]) / 2),
            self._fft_size,
            hop_length=self._hop,
            window=self._window,
            return_complex=True,
        )[..., :-1]
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        mel = torch.matmul(power.transpose(1, 2), self._filters).transpose(1, 2)
        return (decibels(mel) - MEL_MEAN) / MEL_STD


def track_audio(stems_SCN: Tensor, stem: str) -> Tensor:
    """The audio `[2, N]` of a track from stems `[2, 2, N]`, limited as inference limits clips."""
    audio_CN = stems_SCN.sum(0) if stem == "mixed" else stems_SCN[STEMS.index(stem)]
    return limit_peak(audio_CN, CLIP_PEAK, dim=(0, 1))


class CropSource:
    """Draws crops of songs.

    Args:
        stems: the tracks whose mels are made: mixed, or vocal and bgm.
        gain_db: each stem of a drawn crop is scaled by up to so many decibels, up or down.
    """

    def __init__(
        self, store: SongStore, mel: MelMaker, stems: Sequence[str], *, gain_db: float = 0.0
    ) -> None:
        self._store, self._mel, self._stems, self._gain_db = store, mel, tuple(stems), gain_db
        self._targets_of = lru_cache(maxsize=None)(lambda song: TrackTargets.of_song(store.truth(song)))

    def draw(
        self, songs: Sequence[int], rng: np.random.Generator, *, crop_seconds: float, count: int
    ) -> TokenBatch:
        """`count` crops of one length from drawn songs; of songs shorter than the crop all are shortened."""
        chosen = [int(song) for song in rng.choice(np.asarray(songs), count, replace=count > len(songs))]
        lengths = [self._num_frames(song) for song in chosen]
        num_frames = min(int(crop_seconds * FRAME_RATE), *lengths)
        starts = [int(rng.integers(0, length - num_frames + 1)) for length in lengths]
        gains = 10 ** (rng.uniform(-self._gain_db, self._gain_db, (count, 2)) / 20)
        return self.crops(list(zip(chosen, starts, strict=True)), num_frames, gains)

    def crops(
        self, places: Sequence[tuple[int, int]], num_frames: int, gains: np.ndarray | None = None
    ) -> TokenBatch:
        """Crops at given places (song, first frame); `gains` are factors `[B, 2]` of the stems."""
        audio: dict[str, list[Tensor]] = {stem: [] for stem in self._stems}
        for row, (song, start) in enumerate(places):
            stems_SCN = self._store.stems(song, start, num_frames)
            if gains is not None:
                stems_SCN = stems_SCN * torch.as_tensor(gains[row], dtype=torch.float32)[:, None, None]
            for stem, signals in audio.items():
                signals.append(track_audio(stems_SCN, stem))
        mels = {stem: self._mel(torch.stack(signals)) for stem, signals in audio.items()}
        return TokenBatch(mels, self._targets(places, num_frames))

    def held_out(self, songs: Sequence[int], *, crop_seconds: float) -> Iterator[TokenBatch]:
        """The beginning quarter on, song by song."""
        for song in songs:
            length = self._num_frames(song)
            num_frames = min(int(crop_seconds * FRAME_RATE), length)
            yield self.crops([(song, min(length // 4, length - num_frames))], num_frames)

    def _num_frames(self, song: int) -> int:
        return len(self._targets_of(song).mixed_BT)

    def _targets(self, places: Sequence[tuple[int, int]], num_frames: int) -> TrackTargets:
        def cut(name: str) -> Tensor:
            rows = (
                getattr(self._targets_of(song), name)[start : start + num_frames] for song, start in places
            )
            return torch.stack(list(rows))

        return TrackTargets(*(cut(part.name) for part in fields(TrackTargets)))
