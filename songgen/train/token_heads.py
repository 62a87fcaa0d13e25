"""What the features of learnt audio tokens are trained to tell: heads that exist in training only.

A small temporal convolution net (a receptive field of 0.3 s to each side) reads the quantised features and
predicts the mel of the track, chords and drums.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from songgen.nn.musicfm import NUM_MELS
from songgen.train.token_audio import TrackTargets

MELS_PER_FRAME = 2
MEL_FLOOR = -3.0
"""Normalised mels below it (about -48 dB) count as it."""
NUM_CHORDS, NUM_DRUMS = 25, 3
KERNEL, NUM_CONVS = 5, 4
DRUM_WEIGHT = 4.0
"""Of frames with an onset, which are few."""


@dataclass(frozen=True)
class HeadWeights:
    """Weights of the losses of a track; those at 0 have no head."""

    mel: float = 0.0
    chord: float = 0.0
    drums: float = 0.0

    def sizes(self) -> dict[str, int]:
        """Outputs a frame of each head."""
        sizes = {
            "mel": MELS_PER_FRAME * NUM_MELS,
            "chord": NUM_CHORDS,
            "drums": NUM_DRUMS,
        }
        return {name: size for name, size in sizes.items() if getattr(self, name) > 0}


class TrackHeads(nn.Module):
    """The net of one track."""

    def __init__(self, dim: int, width: int, weights: HeadWeights) -> None:
        super().__init__()
        self.weights = weights
        self.entry = nn.Conv1d(dim, width, KERNEL, padding=KERNEL // 2)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2) for _ in range(NUM_CONVS - 1)
        )
        self.outputs = nn.ModuleDict({name: nn.Linear(width, size) for name, size in weights.sizes().items()})

    def forward(self, features_BDT: Tensor) -> dict[str, Tensor]:
        """Predictions `[B, T, size]` by name."""
        hidden = self.entry(features_BDT)
        for conv in self.convs:
            hidden = hidden + conv(functional.gelu(hidden))
        hidden_BTW = functional.gelu(hidden).transpose(1, 2)
        return {name: head(hidden_BTW) for name, head in self.outputs.items()}


def mel_target(mel_BMT: Tensor) -> Tensor:
    """A normalised mel `[B, 128, 4 T]` as the head predicts it, `[B, T, 256]`."""
    pooled = functional.avg_pool1d(mel_BMT.clamp(min=MEL_FLOOR), 4 // MELS_PER_FRAME)
    return pooled.transpose(1, 2).unflatten(1, (-1, MELS_PER_FRAME)).flatten(2)


def head_losses(predicted: dict[str, Tensor], mel_BMT: Tensor, targets: TrackTargets) -> dict[str, Tensor]:
    """The loss of each head, means over frames, float32."""
    losses: dict[str, Tensor] = {}
    for name, value in predicted.items():
        value = value.float()
        if name == "mel":
            error = value - mel_target(mel_BMT)
            losses[name] = error.abs().mean() + 0.5 * error.square().mean()
        elif name == "drums":
            weight = value.new_full((NUM_DRUMS,), DRUM_WEIGHT)
            losses[name] = functional.binary_cross_entropy_with_logits(
                value, targets.drums_BTC, pos_weight=weight
            )
        else:
            losses[name] = functional.cross_entropy(value.flatten(0, 1), targets.chord_BT.flatten())
    return losses


def head_scores(
    predicted: dict[str, Tensor], mel_BMT: Tensor, targets: TrackTargets
) -> dict[str, tuple[float, int]]:
    """What the heads get right: by name the sum, and of how many.

    Chords over frames that have one, mels as mean absolute error, drums as frames whose most likely kind is
    an onset's.
    """
    scores: dict[str, tuple[float, int]] = {}

    def count(name: str, right: Tensor, where: Tensor) -> None:
        scores[name] = (float(right[where].float().sum()), int(where.sum()))

    if "mel" in predicted:
        error = (predicted["mel"].float() - mel_target(mel_BMT)).abs()
        scores["mel_l1"] = (float(error.mean(-1).sum()), error.shape[0] * error.shape[1])
    if "chord" in predicted:
        count("chord", predicted["chord"].argmax(-1) == targets.chord_BT, targets.chord_BT > 0)
    if "drums" in predicted:
        onset = (targets.drums_BTC > 0.5).any(-1)
        best = predicted["drums"].argmax(-1, keepdim=True)
        count("drums", targets.drums_BTC.gather(-1, best)[..., 0] > 0.5, onset)
    return scores
