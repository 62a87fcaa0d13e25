"""The stages `lm` and `lm-dual`: LeLM learns to write the tokens of songs.

`lm` trains transformer 1, which writes the mixed tokens, with all that it reads; `lm-dual` the rest, which
writes vocal and bgm tokens, over a transformer 1 that stays as it is. The network is LeVo's own; besides it
there is a head that names phonemes, in training only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from songgen.english import PHONEMES
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.lelm import LeLM
from songgen.nn.llama import Llama, RotaryTable
from songgen.train.dataset import SongStore
from songgen.train.lm_data import NOTHING_DROPPED, Dropout, LmBatch, LmSource
from songgen.train.lm_files import LmSizes, ensure_text_files, load_text
from songgen.train.lm_guide import Guide, Projections, ahead_of, guide_hits, guide_loss
from songgen.train.lm_songs import NOWHERE, SongReader
from songgen.train.lm_start import freeze_for_, is_second, start_
from songgen.train.loop import LoopSettings, load_trained

FIRST, DUAL = "lm", "lm-dual"


@dataclass(frozen=True)
class LmSettings:
    """Sizes and weights of the language model's training.

    Args:
        part: first for `lm`, dual for `lm-dual`.
        sizes: of the network; both parts need the same.
        dropout: what songs are not told.
        batch_positions: prefix and columns of a step, about.
        guides: heads of transformer 1 that follow the lyrics.
        guide_weight, guide_floor: of their loss at the first step and the last, linear between.
        phoneme_weight: of naming the phoneme that is sung after the present one. Of the codes only those that
            begin a phoneme tell the model to read on; this does in every frame.
        held_out: songs that are measured.
    """

    part: Literal["first", "dual"] = "first"
    sizes: LmSizes = field(default=LmSizes())
    dropout: Dropout = field(default=Dropout())
    batch_positions: int = 4400
    guides: tuple[Guide, ...] = (
        Guide(2, 0, ahead=0),
        Guide(3, 1, ahead=0, is_next=True),
        Guide(4, 0),
        Guide(5, 1, ahead=0, is_next=True),
    )
    guide_weight: float = 0.5
    guide_floor: float = 0.2
    phoneme_weight: float = 0.2
    held_out: int = 16

    def __post_init__(self) -> None:
        last = max((guide.layer for guide in self.guides), default=0)
        if self.part == "first" and last >= self.sizes.num_layers:
            raise ValueError(
                f"guides name layer {last}, the network has layers 0 to {self.sizes.num_layers - 1}: "
                "give it more, or other guides"
            )


class LmModule(nn.Module):
    """LeLM and the training head."""

    def __init__(self, lelm: LeLM) -> None:
        super().__init__()
        self.lelm = lelm
        self.phoneme_head = nn.Linear(lelm.config.width, 1 + len(PHONEMES))


@dataclass(frozen=True)
class FirstPass:
    """What transformer 1 makes of a batch; S inputs are all columns but the last that are needed."""

    hidden_BSD: Tensor
    prefix_sub: Tensor | None
    hidden_prefix: Tensor
    kept: Projections
    rope: RotaryTable


def rotary(stack: Llama, like: Tensor) -> RotaryTable:
    """The rotary table of a stack, in the precision that products have here."""
    is_bf16 = torch.is_autocast_enabled(like.device.type)
    return RotaryTable.build(stack.config, torch.bfloat16 if is_bf16 else like.dtype, like.device)


def first_pass(lelm: LeLM, batch: LmBatch, num_columns: int, layers: set[int]) -> FirstPass:
    """Run the prefix and the first `num_columns` columns through transformer 1, keeping some projections."""
    stack, provider = lelm.stacks[0], lelm.condition_provider
    prefix, prefix_sub = provider.prefix(batch.conditions)
    codes = lelm.emb[0](batch.inputs_BKS[:, 0, :num_columns])
    rope, kept = rotary(stack, prefix), Projections()
    with kept.of(stack, layers):
        hidden = stack.prompt(torch.cat([prefix, codes], dim=1), rope, None)
    length = prefix.shape[1]
    return FirstPass(hidden[:, length:], prefix_sub, hidden[:, :length], kept, rope)


def stem_hidden(lelm: LeLM, batch: LmBatch, first: FirstPass) -> Tensor:
    """Outputs of transformer 2 for the columns of `first`, `[B, S, D]`."""
    num_columns = first.hidden_BSD.shape[1]
    stems = lelm.embed_stems(batch.inputs_BKS[:, :, :num_columns])
    assert first.prefix_sub is not None
    inputs = torch.cat([first.prefix_sub, stems], dim=1)
    bridged = lelm.bridge(inputs, torch.cat([first.hidden_prefix, first.hidden_BSD], dim=1))
    assert bridged is not None
    stack = lelm.stacks[1]
    return stack.prompt(bridged, rotary(stack, bridged), None)[:, first.prefix_sub.shape[1] :]


def code_loss(logits_NV: Tensor, codes_N: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy, and the share of codes that are the most likely."""
    logits = logits_NV.float()
    return functional.cross_entropy(logits, codes_N), (logits.argmax(-1) == codes_N).float().mean()


class LmStage:
    """Training of one part of LeLM; a `Stage` of the loop."""

    def __init__(
        self, train: LmSource, held_out: LmSource, module: LmModule, settings: LmSettings, num_steps: int
    ) -> None:
        self.name = FIRST if settings.part == "first" else DUAL
        self.module, self.settings = module, settings
        self._train, self._held_out, self._num_steps = train, held_out, num_steps
        self._device = torch.device("cpu")
        freeze_for_(module.lelm, settings.part)

    def to(self, device: torch.device) -> None:
        """Move what is trained."""
        self.module.to(device)
        self._device = device

    def batch(self, rng: np.random.Generator) -> LmBatch:
        """Songs of similar length."""
        return self._train.batch(rng, self.settings.dropout)

    def loss(self, batch: LmBatch, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Cross entropy of the part's codes; of the first also the guides' and the phonemes' losses."""
        batch = moved(batch, self._device)
        if self.settings.part == "dual":
            losses, facts = self._dual_losses(batch)
            return torch.stack(list(losses.values())).mean(), facts
        share = step / max(1, self._num_steps - 1)
        settings = self.settings
        weight = settings.guide_weight + (settings.guide_floor - settings.guide_weight) * share
        code, phoneme, guides, facts = self._first_losses(batch)
        total = code + settings.phoneme_weight * phoneme
        if guides:
            total = total + weight * torch.stack(guides).mean()
        return total, facts

    def _first_losses(self, batch: LmBatch) -> tuple[Tensor, Tensor, list[Tensor], dict[str, Tensor | float]]:
        """Losses of codes and phonemes, one of each guide, and what to log."""
        lelm, guides = self.module.lelm, self.settings.guides
        num_columns = last_scored(batch, 0)
        first = first_pass(lelm, batch, num_columns, {guide.layer for guide in guides})
        is_scored = batch.is_scored_BKS[:, 0, 1 : num_columns + 1]
        logits = lelm.transformer.lm_head(first.hidden_BSD[is_scored])
        code, hits = code_loss(logits, batch.columns_BKS[:, 0, 1 : num_columns + 1][is_scored])
        phonemes = batch.next_phoneme_BS[:, :num_columns]
        named = self.module.phoneme_head(first.hidden_BSD).float()
        phoneme = functional.cross_entropy(
            named.flatten(0, 1), phonemes.flatten(), ignore_index=NOWHERE, reduction="sum"
        ) / (phonemes != NOWHERE).sum().clamp(min=1)
        facts: dict[str, Tensor | float] = {
            "code_0": code.detach(),
            "top1_0": hits,
            "phoneme": phoneme.detach(),
        }
        losses = []
        for number, guide in enumerate(guides):
            weights, places = self._looks(first, batch, guide)
            losses.append(guide_loss(weights, places))
            facts[f"guide_{number}"] = losses[-1].detach()
        return code, phoneme, losses, facts

    def _looks(self, first: FirstPass, batch: LmBatch, guide: Guide) -> tuple[Tensor, Tensor]:
        """Weights of a guide over the lyrics, and the places where they should be."""
        lelm = self.module.lelm
        config = lelm.config
        keys = slice(config.lyric_start, config.lyric_start + config.lyric_positions)
        weights = first.kept.weights(lelm.stacks[0], guide, first.rope, config.prefix_length, keys)
        places_BS = batch.next_BS if guide.is_next else batch.places_BS
        return weights, ahead_of(places_BS, guide.ahead, weights.shape[1])

    def _dual_losses(self, batch: LmBatch) -> tuple[dict[int, Tensor], dict[str, Tensor | float]]:
        """Losses of the codebooks of transformer 2, and what to log.

        They never learn to end: the mixed codes do, and an end of any codebook is the end of a song.
        """
        lelm = self.module.lelm
        num_columns = last_scored(batch, lelm.config.num_codebooks - 1)
        with torch.no_grad():
            first = first_pass(lelm, batch, num_columns, set())
        hidden = stem_hidden(lelm, batch, first)
        losses: dict[int, Tensor] = {}
        facts: dict[str, Tensor | float] = {}
        for row, head in enumerate(lelm.linears, start=1):
            codes_BS = batch.columns_BKS[:, row, 1 : num_columns + 1]
            is_scored = batch.is_scored_BKS[:, row, 1 : num_columns + 1] & (codes_BS != lelm.config.eos)
            codes = codes_BS[is_scored]
            losses[row], hits = code_loss(head(hidden[is_scored]), codes)
            facts |= {f"code_{row}": losses[row].detach(), f"top1_{row}": hits}
        return losses, facts

    def evaluate(self) -> dict[str, float]:
        """On held-out songs: cross entropy and accuracy of each codebook, and where the guides look.

        `text_gain` is how much the conditions lower the cross entropy of the mixed codes.
        """
        source = self._held_out
        songs = source.whole[:: max(1, len(source.whole) // self.settings.held_out)]
        sums: dict[str, list[float]] = defaultdict(list)
        hits: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for song in songs:
            rng = np.random.default_rng(0)
            batch = moved(source.collate([song], rng, NOTHING_DROPPED), self._device)
            if self.settings.part == "dual":
                _, facts = self._dual_losses(batch)
            else:
                _, _, _, facts = self._first_losses(batch)
                null = moved(source.collate([song], rng, NOTHING_DROPPED, is_null=True), self._device)
                facts["text_gain"] = self._first_losses(null)[3]["code_0"] - facts["code_0"]
                self._count_looks(batch, hits)
            for name, value in facts.items():
                sums[name].append(float(value))
        values = {name: float(np.mean(parts)) for name, parts in sums.items()}
        return values | {f"looks_{name}": right / max(1, count) for name, (right, count) in hits.items()}

    def _count_looks(self, batch: LmBatch, hits: dict[int, list[int]]) -> None:
        guides = self.settings.guides
        num_columns = last_scored(batch, 0)
        first = first_pass(self.module.lelm, batch, num_columns, {guide.layer for guide in guides})
        for number, guide in enumerate(guides):
            right, count = guide_hits(*self._looks(first, batch, guide))
            hits[number][0] += right
            hits[number][1] += count


def last_scored(batch: LmBatch, row: int) -> int:
    """Columns that must be read so that all scored ones of codebook 0 ... `row` are predicted."""
    return int(batch.is_scored_BKS[:, : row + 1].any(0).any(0).nonzero().max())


def moved(batch: LmBatch, device: torch.device) -> LmBatch:
    """The batch on a device."""
    if device.type == "cpu":
        return batch
    own = batch.conditions
    conditions = LevoConditions(
        own.lyric_ids.to(device),
        own.structure_rows.to(device),
        own.description_ids.to(device),
        own.prompt_ids.to(device),
        own.banned,
    )
    parts = (
        batch.columns_BKS,
        batch.inputs_BKS,
        batch.is_scored_BKS,
        batch.places_BS,
        batch.next_BS,
        batch.next_phoneme_BS,
    )
    return LmBatch(conditions, *(part.to(device) for part in parts))


def make_module(store: SongStore, work: Path, settings: LmSettings) -> tuple[LmModule, Path]:
    """The untrained network, and the folder of its text files."""
    descriptions = [store.truth(song).descriptions for song in store.train_indices]
    folder = ensure_text_files(work, settings.sizes, descriptions)
    config, conditioner = load_text(folder)
    lelm = LeLM(
        config,
        lyric_rows=conditioner.lyrics.num_rows,
        description_rows=conditioner.descriptions.num_rows,
    )
    return LmModule(lelm), folder


def load_first_(module: LmModule, folder: Path) -> None:
    """Fill in what `lm` trained; the parts of transformer 2 stay as they are, which may know codebooks that
    were not trained yet when `lm` began.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    own = {name: value.clone() for name, value in module.lelm.state_dict().items() if is_second(name)}
    load_trained(module, folder)
    module.lelm.load_state_dict(own, strict=False)


def make_stage(data: Path, work: Path, settings: LmSettings, loop: LoopSettings) -> LmStage:
    """The stage of one part.

    `lm` starts from tables drawn with the loop's seed, those of codes by the codebooks; `lm-dual` from `lm`.

    Raises:
        FileNotFoundError: `lm-dual` finds no tokens, or `lm` is not trained.
    """
    store = SongStore(data)
    torch.manual_seed(loop.seed)
    module, folder = make_module(store, work, settings)
    start_(module.lelm, work)
    if settings.part == "dual":
        load_first_(module, work / FIRST)
    _, conditioner = load_text(folder)
    train, held_out = (
        LmSource(
            SongReader(store, work, conditioner, songs, needs_stems=settings.part == "dual"),
            batch_positions=settings.batch_positions,
        )
        for songs in (store.train_indices, store.held_out_indices)
    )
    return LmStage(train, held_out, module, settings, loop.steps)


def load_lelm(data: Path, work: Path, settings: LmSettings) -> LeLM:
    """The trained network: of `lm-dual`, or where that is not trained yet of `lm`.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`.
    """
    module, _ = make_module(SongStore(data), work, settings)
    folder = work / DUAL
    load_trained(module, folder if (folder / "checkpoint.pt").is_file() else work / FIRST)
    return module.lelm.requires_grad_(False).eval()
