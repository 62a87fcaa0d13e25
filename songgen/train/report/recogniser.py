"""Training the phoneme recogniser that the report listens with, on vocal stems of the synthetic songs.

The loss is CTC over the phonemes of a crop, with the phoneme of each frame, which the songs tell, beside it:
CTC alone finds the alignment late. It measures intelligibility to one who knows these voices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from songgen.evaluate.phonemes import align
from songgen.nn.oobleck import OobleckVAE
from songgen.train import additive
from songgen.train.levels import voice_latents
from songgen.train.loop import CHECKPOINT, LoopSettings, load_trained
from songgen.train.report.crops import Augmentation, Crop, crop_of, disturb_levels, disturbed, gate
from songgen.train.report.listener import (
    BLANK,
    SAMPLE_RATE,
    Listener,
    ListenerConfig,
    LogMel,
    relative,
    spelt,
)

if TYPE_CHECKING:
    from songgen.train.dataset import SongStore

SONG_RATE = 25
"""Frames a second that songs are read in."""
FRAME_SAMPLES = SAMPLE_RATE // SONG_RATE
FOLDER = "recogniser"


@dataclass(frozen=True)
class RecogniserSettings:
    """Sizes, batches and losses of the recogniser.

    Args:
        dim, num_blocks, taps, widening: of the network (`ListenerConfig`).
        batch: crops of a step.
        crop_frames: length of a crop in frames of 1/25 s.
        frame_weight: of the frame-by-frame loss beside CTC.
        disturbed: share of the crops that are disturbed.
        synthesised: share of the crops that are heard as the synthesiser of `additive.py` gives them back:
            words shall not be missed for its sound, which every song of a model with it has.
        held_out: songs that are measured.
    """

    dim: int = 144
    num_blocks: int = 8
    taps: int = 9
    widening: int = 4
    batch: int = 12
    crop_frames: int = 125
    frame_weight: float = 0.5
    disturbed: float = 0.7
    synthesised: float = 0.0
    held_out: int = 10

    @property
    def network(self) -> ListenerConfig:
        """Sizes of the network."""
        return ListenerConfig(self.dim, self.num_blocks, self.taps, self.widening)


@dataclass(frozen=True)
class HeardBatch:
    """B crops: mel `[B, NUM_MELS, T]`, classes frame by frame `[B, T]`, spellings one after the other."""

    mel_BMT: Tensor
    frames_BT: Tensor
    spellings: Tensor
    lengths_B: Tensor


@dataclass
class RecogniserStage:
    """Crops of the training songs to a loss, whole held-out stems to a phoneme error rate."""

    store: SongStore
    settings: RecogniserSettings
    augmentation: Augmentation = field(default_factory=Augmentation)
    name: str = "recogniser"

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.module = Listener(self.settings.network)
        self.log_mel = LogMel()
        self._synthesiser = OobleckVAE(additive.config(), has_encoder=False).requires_grad_(False)
        additive.set_as_synthesiser_(self._synthesiser)
        self._train = np.array(self.store.train_indices)

    def to(self, device: torch.device) -> RecogniserStage:
        """Move the network; mels are made on the CPU."""
        self.module.to(device)
        return self

    def batch(self, rng: np.random.Generator) -> HeardBatch:
        """Crops of songs drawn with the generator; crops without a phoneme are drawn anew, a few times."""
        levels, crops = zip(*(self._crop(rng) for _ in range(self.settings.batch)), strict=True)
        gains_db = rng.uniform(-1, 1, len(crops)).astype(np.float32) * self.augmentation.gain_db
        return HeardBatch(
            relative(torch.stack(levels), torch.from_numpy(gains_db)),
            torch.stack([crop.frames_T for crop in crops]),
            torch.cat([crop.spelling for crop in crops]),
            torch.tensor([len(crop.spelling) for crop in crops]),
        )

    def _crop(self, rng: np.random.Generator) -> tuple[Tensor, Crop]:
        """Levels `[NUM_MELS, T]` and truth of one crop."""
        length = self.settings.crop_frames
        for _ in range(4):
            index = int(rng.choice(self._train))
            truth = self.store.truth(index)
            start = int(rng.integers(0, max(1, truth.num_frames - length + 1)))
            crop = crop_of(truth.phonemes, start / SONG_RATE, length / SONG_RATE)
            if len(crop.spelling):
                break
        stems = self.store.stems(index, start, min(length, truth.num_frames - start)).mean(1)
        stems = functional.pad(stems, (0, length * FRAME_SAMPLES - stems.shape[-1]))
        vocal_N, band_N = gate(stems[:1], crop)[0], stems[1]
        if self.settings.synthesised and rng.random() < self.settings.synthesised:
            f0_hz = (*truth.f0_hz[start : start + length], *([0.0] * length))[:length]
            vocal_N = self._synthesised(vocal_N, f0_hz, rng)
        if rng.random() >= self.settings.disturbed:
            return self.log_mel.levels(vocal_N[None])[0], crop
        vocal_N = disturbed(vocal_N, band_N, self.augmentation, rng)
        return disturb_levels(self.log_mel.levels(vocal_N[None])[0], self.augmentation, rng), crop

    def _synthesised(self, vocal_N: Tensor, f0_hz: Sequence[float], rng: np.random.Generator) -> Tensor:
        latents_TZ = voice_latents(vocal_N, f0_hz)
        noise_TZ = torch.from_numpy(rng.standard_normal(latents_TZ.shape, dtype=np.float32))
        audio_1CN = self._synthesiser.decode(additive.completed(latents_TZ, noise_TZ).T[None])
        return audio_1CN[0].mean(0)

    def loss(self, batch: HeardBatch, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """CTC a phoneme, and cross-entropy a frame."""
        device = next(self.module.parameters()).device
        spelling_BTV, frames_BTV = self.module(batch.mel_BMT.to(device))
        log_probs = functional.log_softmax(spelling_BTV.float(), dim=-1).transpose(0, 1)
        num_frames = torch.full((len(batch.lengths_B),), log_probs.shape[0])
        ctc = functional.ctc_loss(
            log_probs, batch.spellings.to(device), num_frames, batch.lengths_B,
            blank=BLANK, reduction="sum", zero_infinity=True,
        ) / batch.lengths_B.sum().clamp(min=1)  # fmt: skip
        wanted_BT = batch.frames_BT.to(device)
        frame = functional.cross_entropy(frames_BTV.float().flatten(0, 1), wanted_BT.flatten())
        right = (frames_BTV.argmax(-1) == wanted_BT)[wanted_BT > 0].float().mean()
        loss = ctc + self.settings.frame_weight * frame
        return loss, {"ctc": ctc.detach(), "frame": frame.detach(), "frame_accuracy": right}

    def evaluate(self) -> dict[str, float]:
        """Phoneme error rate of whole vocal stems that were not trained on."""
        errors = phonemes = 0
        for index in list(self.store.held_out_indices)[: self.settings.held_out]:
            truth = self.store.truth(index)
            wanted = [item.name for item in truth.phonemes]
            if wanted:
                counts = align(wanted, self._heard(self.store.stems(index)[0]))
                errors, phonemes = errors + counts.errors, phonemes + counts.phonemes
        return {"per": errors / phonemes} if phonemes else {}

    def _heard(self, vocal_CN: Tensor) -> list[str]:
        mel_BMT = self.log_mel(vocal_CN.mean(0, keepdim=True))
        logits_BTV, _ = self.module(mel_BMT.to(next(self.module.parameters()).device))
        return spelt(logits_BTV[0].float().cpu())


def make_stage(data: Path, work: Path, settings: RecogniserSettings, loop: LoopSettings) -> RecogniserStage:
    """The stage over the songs of a folder.

    Raises:
        FileNotFoundError: there are no songs.
    """
    from songgen.train.dataset import SongStore

    return RecogniserStage(SongStore(data), settings)


def load_listener(work: Path) -> Listener:
    """The trained network at the sizes it was trained at, ready to listen.

    Raises:
        FileNotFoundError: it has not been trained.
    """
    path = work / FOLDER / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; train it first (songgen train {FOLDER})")
    tensors = torch.load(path, map_location="cpu", weights_only=True)["module"]
    listener = Listener(ListenerConfig.from_tensors(tensors))
    load_trained(listener, work / FOLDER)
    return listener.eval()
