"""The stages `tokens-mixed` and `tokens-dual`: audio tokenizers that learn what a song's truth tells.

Trained is LeVo's own `AudioTokenizer`. Mixed and vocal codes are given by the truth (`label_codes.py`), and
the encoder learns to find them. Those of the band are learnt, with heads that exist in training only
(`token_heads.py`), in three parts: the encoder alone, its latents on the unit sphere; with the codebook,
started from the latents (`token_codebook.py`); and, at last, with the batch norms as inference uses them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS, AudioTokenizer, AudioTokenizerConfig, Track
from songgen.nn.musicfm import MusicFm, MusicFmConfig
from songgen.train.dataset import SongStore
from songgen.train.label_codes import (
    LABEL_DIM,
    LABELLED,
    NUM_LABEL_CODES,
    label_codebook,
    label_hits,
    label_losses,
)
from songgen.train.loop import CHECKPOINT, LoopSettings, load_trained
from songgen.train.token_audio import CropSource, MelMaker, TokenBatch
from songgen.train.token_codebook import CodebookTrainer, finish_codebook_, usage
from songgen.train.token_codes import write_codes
from songgen.train.token_heads import HeadWeights, TrackHeads, head_losses, head_scores

__all__ = ["TokensSettings", "TokensStage", "load_tokenizer", "make_stage", "write_codes"]

TRACKS = {"mixed": MIXED_TRACKS, "dual": DUAL_TRACKS}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearntSettings:
    """How the codes of the tracks are learnt that no truth gives, which is the band's.

    Args:
        num_codes: codes of the codebook that are searched.
        head_width: of the nets that read the features in training.
        weights: of the losses of these nets.
        commitment: weight of the distance of latents and codes.
        free_share: share of the steps before the codebook is used.
        revive_every: steps between revivals of dead codes, which end when the still steps begin.
    """

    num_codes: int = 2048
    head_width: int = 128
    weights: HeadWeights = field(default=HeadWeights(1.0, 0.5, 0.5))
    commitment: float = 0.25
    free_share: float = 0.2
    revive_every: int = 25


@dataclass(frozen=True)
class TokensSettings:
    """Sizes and weights of an audio tokenizer.

    Args:
        tracks: mixed for the single-track codec, dual for vocal and bgm.
        conv_dim, dim, ffn_dim, num_heads: of the encoder.
        codebook_size: rows of each codebook.
        batch_seconds: audio of a track a step.
        crop_seconds: lengths that a step's crops may have, drawn with equal odds.
        gain_db: how much the level of each stem is varied.
        still_share: share of the steps, the last ones, with the batch norms as in inference.
        held_out: songs that are measured.
        learnt: of the tracks whose codes are learnt. The mixed tokenizer has none.
    """

    tracks: Literal["mixed", "dual"] = "mixed"
    conv_dim: int = 24
    dim: int = 96
    ffn_dim: int = 384
    num_heads: int = 4
    codebook_size: int = 9728
    batch_seconds: float = 48.0
    crop_seconds: tuple[float, ...] = (4.0, 8.0, 8.0, 16.0)
    gain_db: float = 3.0
    still_share: float = 0.25
    held_out: int = 12
    learnt: LearntSettings = field(default=LearntSettings())

    def __post_init__(self) -> None:
        if not self.learnt_stems and self.learnt != LearntSettings():
            raise ValueError(
                f"`learnt` has no effect on {self.tracks} tokens, whose codes are all given by the truth: "
                "leave it out here; tokens-dual has it"
            )

    @property
    def learnt_stems(self) -> list[str]:
        """The tracks whose codes are learnt."""
        return [track.stem for track in TRACKS[self.tracks] if track.stem not in LABELLED]

    def config(self) -> AudioTokenizerConfig:
        """The sizes of the tokenizer."""
        tracks = TRACKS[self.tracks]
        layers = max(track.layer for track in tracks)
        musicfm = MusicFmConfig(self.conv_dim, self.dim, self.ffn_dim, self.num_heads, layers)
        return AudioTokenizerConfig(tracks, musicfm, self.codebook_size, LABEL_DIM)


class TokensModule(nn.Module):
    """A tokenizer, and the averages and heads of its learnt tracks."""

    def __init__(self, settings: TokensSettings) -> None:
        super().__init__()
        self.tokenizer = AudioTokenizer(settings.config())
        self.tracks = self.tokenizer.config.tracks
        learnt, stems = settings.learnt, settings.learnt_stems
        self.codebooks = nn.ModuleDict({stem: CodebookTrainer(learnt.num_codes, LABEL_DIM) for stem in stems})
        self.heads = nn.ModuleDict(
            {stem: TrackHeads(settings.dim, learnt.head_width, learnt.weights) for stem in stems}
        )
        for track in self.tracks:
            quantizer = self.tokenizer.quantizer(track).quantizer
            quantizer.codebook.requires_grad_(False)
            if track.stem in LABELLED:
                quantizer.codebook.weight.copy_(label_codebook(settings.codebook_size))
                quantizer.out_proj.requires_grad_(False)
        prepare_encoder_(self.tokenizer.bestrq)

    def codebook(self, track: Track) -> CodebookTrainer:
        """The averages of a track's codebook."""
        module = self.codebooks[track.stem]
        assert isinstance(module, CodebookTrainer)
        return module

    def latents(self, track: Track, features_BDT: Tensor) -> Tensor:
        """What a track's codebook is searched with, `[B, E, T]`, float32, of length 1."""
        quantizer = self.tokenizer.quantizer(track).quantizer
        with torch.autocast(features_BDT.device.type, enabled=False):
            return nn.functional.normalize(quantizer.in_proj(features_BDT.float()), dim=1)

    def features(self, mels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features before the quantiser by stem, `[B, D, T]`, of mels `[B, 128, 4 T]`."""
        musicfm = self.tokenizer.bestrq
        stacked = torch.cat([mels[track.stem] for track in self.tracks])
        frames = musicfm.embed(stacked)
        return layer_outputs(musicfm, frames, self.tracks)


def prepare_encoder_(musicfm: MusicFm) -> None:
    """No dropout, fused attention, and images in the memory order that convolves fastest."""
    for module in musicfm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for layer in musicfm.model.conformer.layers:
        attention: Any = layer.self_attn
        attention.config._attn_implementation = "sdpa"
    musicfm.model.conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def layer_outputs(musicfm: MusicFm, frames_BTD: Tensor, tracks: Sequence[Track]) -> dict[str, Tensor]:
    """Conformer outputs `[b, D, T]` of stacked tracks, each after its own number of layers.

    All tracks pass a layer together, so that batch norms see in training what their averages are of.
    """
    conformer = musicfm.model.conformer
    left = list(zip(tracks, frames_BTD.chunk(len(tracks)), strict=True))
    angles = conformer.embed_positions(frames_BTD.shape[1]).to(frames_BTD.dtype)
    outputs: dict[str, Tensor] = {}
    for depth, layer in enumerate(conformer.layers, start=1):
        output = layer(torch.cat([rows for _, rows in left]), relative_position_embeddings=angles)
        stacked = output[0] if isinstance(output, tuple) else output
        left = [(track, rows) for (track, _), rows in zip(left, stacked.chunk(len(left)), strict=True)]
        outputs |= {track.stem: rows.transpose(1, 2) for track, rows in left if track.layer == depth}
        left = [(track, rows) for track, rows in left if track.layer > depth]
    return outputs


class TokensStage:
    """Training of one tokenizer; a `Stage` of the loop."""

    def __init__(self, store: SongStore, settings: TokensSettings, num_steps: int) -> None:
        self.name = f"tokens-{settings.tracks}"
        self.module = TokensModule(settings)
        self.store, self.settings = store, settings
        stems = [track.stem for track in self.module.tracks]
        self.crops = CropSource(store, MelMaker(self.module.tokenizer), stems, gain_db=settings.gain_db)
        self._still = CropSource(store, MelMaker(self.module.tokenizer), stems)
        self._first_coded = int(settings.learnt.free_share * num_steps)
        self._first_still = num_steps - int(settings.still_share * num_steps)
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Move what is trained."""
        self.module.to(device)
        self._device = device

    def batch(self, rng: np.random.Generator) -> TokenBatch:
        """Crops of one length."""
        seconds = float(rng.choice(self.settings.crop_seconds))
        count = max(1, round(self.settings.batch_seconds / seconds))
        with torch.no_grad():
            return self.crops.draw(self.store.train_indices, rng, crop_seconds=seconds, count=count)

    def loss(self, batch: TokenBatch, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The weighted losses of all tracks."""
        batch = batch.to(self._device)
        is_still = step >= self._first_still
        if is_still:
            _freeze_norms(self.module.tokenizer)
        features = self.module.features(batch.mels)
        total = torch.zeros((), device=self._device)
        facts: dict[str, Tensor | float] = {}
        for track in self.module.tracks:
            own, losses = self._track_loss(track, features[track.stem], batch, step)
            total = total + own
            facts |= {f"{track.stem}/{name}": value.detach() for name, value in losses.items()}
        return total, facts

    def _track_loss(
        self, track: Track, features_BDT: Tensor, batch: TokenBatch, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        module = self.module
        if track.stem in LABELLED:
            latents_BET = module.latents(track, features_BDT)
            losses = label_losses(latents_BET, batch.targets.codes_BT(track.stem))
            return torch.stack(list(losses.values())).sum(), losses
        self._advance_codebook(track, features_BDT.detach(), step)
        quantizer = module.tokenizer.quantizer(track).quantizer
        quantised, commitment, _ = module.codebook(track)(quantizer, features_BDT)
        heads = module.heads[track.stem]
        assert isinstance(heads, TrackHeads)
        losses = head_losses(heads(quantised), batch.mels[track.stem], batch.targets)
        weighted = [getattr(heads.weights, name) * value for name, value in losses.items()]
        total = torch.stack(weighted).sum() + self.settings.learnt.commitment * commitment
        return total, losses | {"commitment": commitment}

    @torch.no_grad()
    def _advance_codebook(self, track: Track, features_BDT: Tensor, step: int) -> None:
        """Collect latents; start, move and revive the codes."""
        codebook = self.module.codebook(track)
        quantizer = self.module.tokenizer.quantizer(track).quantizer
        latents_BET = self.module.latents(track, features_BDT)
        latents_NE = latents_BET.transpose(1, 2).flatten(0, 1)
        codebook.remember_(latents_NE)
        if step < self._first_coded:
            return
        if not codebook.is_started:
            codebook.start_(quantizer)
        codes_N = codebook.search(quantizer, latents_BET).flatten()
        codebook.update_(quantizer, latents_NE, codes_N)
        is_due = (step + 1) % self.settings.learnt.revive_every == 0
        if is_due and step < self._first_still:
            codebook.revive_(quantizer)

    def evaluate(self) -> dict[str, float]:
        """On held-out songs: what codes of labels have right, accuracies of heads, use of learnt codes."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        codes: dict[str, list[Tensor]] = defaultdict(list)
        songs = self.store.held_out_indices[: self.settings.held_out]
        for batch in self._still.held_out(songs, crop_seconds=20.0):
            batch = batch.to(self._device)
            features = self.module.features(batch.mels)
            for track in self.module.tracks:
                scores, codes_BT = self._scores(track, features[track.stem], batch)
                for name, (right, count) in scores.items():
                    sums[f"{track.stem}/{name}"][0] += right
                    sums[f"{track.stem}/{name}"][1] += count
                if codes_BT is not None:
                    codes[track.stem].append(codes_BT.flatten())
        values = {name: right / count for name, (right, count) in sums.items() if count}
        for stem, parts in codes.items():
            share, perplexity = usage(torch.cat(parts), self.settings.learnt.num_codes)
            values |= {f"{stem}/used": share, f"{stem}/perplexity": perplexity}
        return values

    def _scores(
        self, track: Track, features_BDT: Tensor, batch: TokenBatch
    ) -> tuple[dict[str, tuple[float, int]], Tensor | None]:
        """What is right in a crop, and the codes of a learnt codebook that is begun."""
        quantizer = self.module.tokenizer.quantizer(track).quantizer
        if track.stem in LABELLED:
            found_BT = quantizer.nearest(self.module.latents(track, features_BDT))
            return label_hits(found_BT, batch.targets.codes_BT(track.stem)), None
        quantised, _, codes_BT = self.module.codebook(track)(quantizer, features_BDT)
        predicted = self.module.heads[track.stem](quantised)
        return head_scores(predicted, batch.mels[track.stem], batch.targets), codes_BT


def _freeze_norms(module: nn.Module) -> None:
    """Batch norms use their averages, and keep them."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def make_stage(data: Path, work: Path, settings: TokensSettings, loop: LoopSettings) -> TokensStage:
    """The stage for a folder of songs; weights are drawn from the loop's seed."""
    torch.manual_seed(loop.seed)
    return TokensStage(SongStore(data), settings, loop.steps)


def load_tokenizer(work: Path, settings: TokensSettings) -> AudioTokenizer:
    """The trained tokenizer in evaluation mode, its codebooks finished (`finish_codebook_`).

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    module = TokensModule(settings)
    load_trained(module, work / f"tokens-{settings.tracks}")
    for track in module.tracks:
        codebook = module.tokenizer.quantizer(track).quantizer.codebook
        is_label = track.stem in LABELLED
        finish_codebook_(codebook.weight.data, NUM_LABEL_CODES if is_label else settings.learnt.num_codes)
    return module.tokenizer.requires_grad_(False).eval()


def trained_tokenizer(work: Path, tracks: Literal["mixed", "dual"], num_codes: int) -> AudioTokenizer:
    """`load_tokenizer` for whoever does not know the settings: sizes are those of the trained tensors.

    Args:
        num_codes: codes that are searched, those of the language model.

    Raises:
        FileNotFoundError: it is not trained.
    """
    path = work / f"tokens-{tracks}" / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; train this stage first (songgen train tokens-{tracks})"
        )
    saved = torch.load(path, map_location="cpu", weights_only=True)
    prefix, tensors = "tokenizer.", saved["ema"] or saved["module"]
    tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    tokenizer = AudioTokenizer(AudioTokenizerConfig.from_tensors(tensors, TRACKS[tracks]))
    tokenizer.load_state_dict(tensors)
    for track in tokenizer.config.tracks:
        finish_codebook_(tokenizer.quantizer(track).quantizer.codebook.weight.data, num_codes)
    return tokenizer.requires_grad_(False).eval()
