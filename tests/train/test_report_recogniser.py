"""The recogniser on a language of tones: each phoneme a pitch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from songgen.english import PHONEMES
from songgen.train.loop import LoopSettings, train
from songgen.train.report.crops import Augmentation, crop_of, disturbed, frames_of, gate
from songgen.train.report.listener import (
    NUM_CLASSES,
    NUM_MELS,
    SAMPLE_RATE,
    Listener,
    ListenerConfig,
    LogMel,
    hear,
    spelt,
)
from songgen.train.report.recogniser import RecogniserSettings, RecogniserStage, load_listener, make_stage
from songgen.train.truth import Span

SMALL = RecogniserSettings(
    dim=24, num_blocks=2, taps=5, widening=2, batch=4, crop_frames=50, disturbed=0.5, held_out=2
)
HERTZ = {PHONEMES[0]: 500.0, PHONEMES[1]: 1100.0, PHONEMES[2]: 2500.0}


@dataclass(frozen=True)
class Song:
    num_frames: int
    phonemes: tuple[Span, ...]

    @property
    def f0_hz(self) -> tuple[float, ...]:
        """Of the tone that is heard in the middle of each frame."""
        middles = (np.arange(self.num_frames) + 0.5) / 25
        return tuple(
            next((HERTZ[tone.name] for tone in self.phonemes if tone.start <= at < tone.end), 0.0)
            for at in middles
        )


@dataclass(unsafe_hash=True)
class Tones:
    """Songs of four seconds, of tones that last a fifth of a second, with a band of noise."""

    train_indices: tuple[int, ...] = tuple(range(10))
    held_out_indices: tuple[int, ...] = (10, 11)

    def truth(self, index: int) -> Song:
        rng = np.random.default_rng(index)
        starts = 0.1 + 0.3 * np.arange(12)
        return Song(100, tuple(Span(str(rng.choice(list(HERTZ))), s, s + 0.2) for s in starts))

    def stems(self, index: int, start: int = 0, num_frames: int | None = None) -> Tensor:
        end = None if num_frames is None else (start + num_frames) * 1920
        return self._whole(index)[..., start * 1920 : end]

    @lru_cache  # noqa: B019
    def _whole(self, index: int) -> Tensor:
        truth = self.truth(index)
        times = torch.arange(truth.num_frames * 1920) / SAMPLE_RATE
        vocal = torch.zeros_like(times)
        for tone in truth.phonemes:
            is_sung = (times >= tone.start) & (times < tone.end)
            vocal += is_sung * torch.sin(2 * math.pi * HERTZ[tone.name] * times)
        band = torch.randn(len(times), generator=torch.Generator().manual_seed(index))
        return 0.2 * torch.stack([vocal, 0.3 * band])[:, None].expand(2, 2, -1)


def test_it_learns_a_language_of_tones(tmp_path: Path) -> None:
    stage = RecogniserStage(Tones(), SMALL)  # type: ignore[arg-type]
    settings = LoopSettings(steps=120, learning_rate=1e-2, warmup=5, evaluate_every=0, precision="fp32")
    train(stage, settings, tmp_path / "recogniser")
    assert stage.evaluate()["per"] <= 0.1
    listener = load_listener(tmp_path)
    wanted = [item.name for item in Tones().truth(10).phonemes]
    heard = hear(listener, LogMel(), Tones().stems(10)[0])
    assert [symbol for _, symbol in heard] == wanted
    assert [at for at, _ in heard] == pytest.approx(
        [item.start + 0.1 for item in Tones().truth(10).phonemes], abs=0.15
    )
    assert hear(listener, LogMel(), torch.zeros(2, SAMPLE_RATE)) == []


def test_a_batch_follows_from_its_generator() -> None:
    stage = RecogniserStage(Tones(), SMALL)  # type: ignore[arg-type]
    one, same, other = (stage.batch(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.mel_BMT, same.mel_BMT) and torch.equal(one.spellings, same.spellings)
    assert not torch.equal(one.mel_BMT, other.mel_BMT)
    assert one.mel_BMT.shape == (4, NUM_MELS, 100) and one.frames_BT.shape == (4, 100)
    assert one.lengths_B.sum() == len(one.spellings)
    assert one.mel_BMT.min() >= -3.0


def test_a_share_of_crops_is_heard_through_the_synthesiser() -> None:
    """As loud as they were, with the same truth; and not the same sound."""
    plain, through = (
        RecogniserStage(Tones(), replace(SMALL, disturbed=0.0, synthesised=share))  # type: ignore[arg-type]
        for share in (0.0, 1.0)
    )
    one, other = (stage.batch(np.random.default_rng(1)) for stage in (plain, through))
    assert one.lengths_B[0] == other.lengths_B[0] and one.mel_BMT.shape == other.mel_BMT.shape
    first, second = one.mel_BMT[0].amax(0), other.mel_BMT[0].amax(0)
    assert float((first - second).abs().median()) < 0.25  # of 20 dB
    assert float((one.mel_BMT[0] - other.mel_BMT[0]).abs().max()) > 0.25


def test_a_crop_holds_whole_phonemes_only() -> None:
    song = (Span(PHONEMES[4], 0.0, 0.5), Span(PHONEMES[1], 0.5, 0.9), Span(PHONEMES[2], 1.2, 1.6))
    crop = crop_of(song, 0.2, 1.2)
    assert crop.spelling.tolist() == [2]
    assert (crop.keep_from, crop.keep_to) == pytest.approx((0.3, 0.8))  # not the phoneme before; a margin
    assert len(crop.frames_T) == 60 and crop.frames_T.unique().tolist() == [0, 2]
    kept = gate(torch.ones(1, round(1.2 * SAMPLE_RATE)), crop)[0]
    assert kept[: round(0.3 * SAMPLE_RATE)].abs().max() == 0 and kept[round(0.5 * SAMPLE_RATE)] == 1
    assert crop_of(song, 0.1, 0.3).spelling.numel() == 0


def test_every_phoneme_has_a_frame() -> None:
    frames = frames_of((Span(PHONEMES[3], 0.1, 0.101), Span(PHONEMES[0], 0.2, 0.3)), 0.0, 0.4)
    assert (frames == 4).sum() == 1 and (frames == 1).sum() == 5


def test_disturbances_stay_below_the_vocal() -> None:
    vocal = torch.sin(torch.arange(48000) * 0.05)
    band = torch.cos(torch.arange(48000) * 0.31)
    for seed in range(5):
        added = disturbed(vocal, band, Augmentation(), np.random.default_rng(seed)) - vocal
        assert 0 < added.square().mean() < 0.05 * vocal.square().mean()


def test_ctc_is_read_by_its_rules() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 1, 3, 3, 0]), NUM_CLASSES).float()
    assert spelt(logits) == [PHONEMES[0], PHONEMES[0], PHONEMES[2]]


def test_the_mel_knows_no_level() -> None:
    log_mel = LogMel()
    signal = torch.randn(1, 48000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_mel(signal), log_mel(0.1 * signal), atol=1e-3, rtol=0)
    assert log_mel(signal).shape == (1, NUM_MELS, 50)
    assert log_mel(signal[:, :7]).shape == (1, NUM_MELS, 1)
    assert log_mel(torch.zeros(1, 9600)).max() == -3.0


def test_what_was_not_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"recogniser/checkpoint.pt: no such file; train it first"):
        load_listener(tmp_path)
    with pytest.raises(FileNotFoundError):
        make_stage(tmp_path, tmp_path, SMALL, LoopSettings(steps=1, learning_rate=1e-3))


def test_sizes_are_settings() -> None:
    mel = torch.zeros(2, NUM_MELS, 33)
    spelling, frames = Listener(ListenerConfig(dim=8, num_blocks=1, taps=3))(mel)
    assert spelling.shape == frames.shape == (2, 33, NUM_CLASSES)
