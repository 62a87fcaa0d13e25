"""The conditions of a song: lyric rows and prompt latents, and how they become the prefix.

The prefix is `[prompt][lyrics]`, each filled to its positions; the null row has the lyrics of an empty string
and no prompt. Knows neither G2P nor audio files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from songgen.models.songbloom.config import SongBloomConfig

NULL_IDS = (0,)
"""The lyrics of an empty string."""


@dataclass(frozen=True)
class SongBloomConditions:
    """What the model is told about one song.

    Args:
        ids: rows of the vocabulary, all of them; those behind the model's positions are cut.
        prompt_TZ: `[T, Z]` float32 on the CPU, the prompt's latents; None without a prompt.
        notes: facts for the record.
    """

    ids: tuple[int, ...]
    prompt_TZ: Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LyricRows:
    """Three table rows per lyric position: the item, its tag or itself, and the sentence in its section."""

    items: list[int]
    specials: list[int]
    sentences: list[int]


def lyric_rows(ids: Sequence[int], vocabulary: Sequence[str], max_sentences: int) -> LyricRows:
    """Walk through the lyrics, keeping the section's tag and counting sentences.

    As published: a tag, a full stop and a comma take themselves as tag and sentence 0; a tag starts at
    sentence 1, a full stop ends a sentence; sentences past the table share its last row.
    """
    stop, comma = vocabulary.index("."), vocabulary.index(",")
    tag, sentence = 0, 1
    rows = LyricRows([], [], [])
    for item in ids:
        is_tag = vocabulary[item].startswith("[")
        is_mark = is_tag or item in (stop, comma)
        rows.items.append(item)
        rows.specials.append(item if is_mark else tag)
        rows.sentences.append(0 if is_mark else min(sentence, max_sentences - 1))
        if is_tag:
            tag, sentence = item, 1
        elif item == stop:
            sentence += 1
    return rows


class LyricEmbedder(nn.Module):
    """Sums of table rows, filled with a learnt blank (zeros in published checkpoints)."""

    def __init__(self, config: SongBloomConfig) -> None:
        super().__init__()
        self.vocabulary, self.num_positions = config.vocabulary, config.lyric_positions
        self.blank_emb = nn.Parameter(torch.zeros(1, config.width))
        self.output_proj = nn.Embedding(len(config.vocabulary), config.width)
        self.sentence_idx_in_structure_emb = nn.Embedding(config.max_sentences, config.width)

    def forward(self, ids: Sequence[int]) -> Tensor:
        """Rows of the vocabulary to `[L, D]`; what does not fit is cut, as published."""
        sentences = self.sentence_idx_in_structure_emb
        rows = lyric_rows(ids, self.vocabulary, sentences.num_embeddings)
        device = self.blank_emb.device
        items, specials, places = (
            torch.tensor(column[: self.num_positions], dtype=torch.int64, device=device)
            for column in (rows.items, rows.specials, rows.sentences)
        )
        embedded = self.output_proj(items) + self.output_proj(specials) + sentences(places)
        blanks = self.blank_emb.expand(self.num_positions - len(items), -1)
        return torch.cat([embedded, blanks])


class PromptEmbedder(nn.Module):
    """VAE latents to positions of the prefix."""

    def __init__(self, config: SongBloomConfig) -> None:
        super().__init__()
        self.num_positions = config.prompt_positions
        self.output_proj = nn.Linear(config.latent_dim, config.width, bias=False)

    def forward(self, latents_TZ: Tensor | None) -> Tensor:
        """`[T, Z]` to `[S, D]`: cut, or filled with zeros; None is zeros alone."""
        weight = self.output_proj.weight
        if latents_TZ is None:
            return weight.new_zeros(self.num_positions, weight.shape[0])
        embedded = self.output_proj(latents_TZ[: self.num_positions].to(weight))
        return functional.pad(embedded, (0, 0, 0, self.num_positions - embedded.shape[0]))


class ConditionEmbedder(nn.Module):
    """Both embedders under their published names."""

    def __init__(self, config: SongBloomConfig) -> None:
        super().__init__()
        self.conditioners = nn.ModuleDict(
            {"prompt_wav": PromptEmbedder(config), "lyrics": LyricEmbedder(config)}
        )

    def prefix(self, conditions: SongBloomConditions) -> Tensor:
        """The conditional and the null row of a song's prefix, `[2, S, D]`."""
        prompt, lyrics = self.conditioners["prompt_wav"], self.conditioners["lyrics"]
        conditional = torch.cat([prompt(conditions.prompt_TZ), lyrics(conditions.ids)])
        return torch.stack([conditional, torch.cat([prompt(None), lyrics(NULL_IDS)])])
