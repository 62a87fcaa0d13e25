"""What LeLM is told about a song, and its embedding as a prefix of the sequence.

A prefix has two rows, conditional and null (for guidance). Published peculiarities: the conditioner called
`description` takes the lyrics, `type_info` the descriptions; padding positions are attended like any other.
The tables of the texts (over 1 GB for the large models) are looked up once a song: they may stay on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from songgen.models.levo.config import STRUCTURE_ROWS, LevoConfig


@dataclass(frozen=True)
class StylePrompt:
    """The style that a song shall have; empty where the request names none.

    Args:
        codes_KT: `[K, P]` (mixed, vocal, bgm), any number of frames.
        clip: audio for the codec to start from; opaque here.
        notes: JSON-ready facts for the record: which prompt was used, what to know of it.
    """

    codes_KT: Tensor | None = None
    clip: object | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


NO_PROMPT = StylePrompt()


@dataclass(frozen=True)
class LevoConditions:
    """Ids of the two prefix rows, conditional and null, padded or cut to the model's lengths.

    Args:
        lyric_ids, structure_rows: `[2, lyric_positions]`; the second index of a lyric token is its section's
            tag.
        description_ids: `[2, description_positions]`.
        prompt_ids: `[2, K, P]`, one EOS frame ahead of the prompt's frames, P = prompt_positions - 1.
        banned: ids `[n]` that the mixed row must never take: the codes of the mixed prompt.
        clip, notes: those of the prompt.
    """

    lyric_ids: Tensor
    structure_rows: Tensor
    description_ids: Tensor
    prompt_ids: Tensor
    banned: Tensor
    clip: object | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def null_key(self) -> bytes:
        """Equal for songs whose null rows are equal."""
        tables = (self.lyric_ids, self.structure_rows, self.description_ids, self.prompt_ids)
        return b"".join(table[1].contiguous().numpy().tobytes() for table in tables)


def fit_prompt(codes_KP: Tensor | None, config: LevoConfig) -> Tensor:
    """Cut or fill prompt codes to `[K, prompt_frames]`; no prompt is all SPECIAL."""
    fitted_KP = torch.full((config.num_codebooks, config.prompt_frames), config.special)
    if codes_KP is not None:
        frames = min(codes_KP.shape[1], config.prompt_frames)
        fitted_KP[:, :frames] = codes_KP[:, :frames]
    return fitted_KP


def prompt_rows(fitted_KP: Tensor, config: LevoConfig) -> Tensor:
    """Prefix ids of a fitted prompt: conditional and null row, `[2, K, prompt_positions - 1]`.

    An EOS frame goes first; a codebook without a prompt (first frame SPECIAL) is SPECIAL throughout, as is
    the null row.
    """
    eos_frame = torch.full((fitted_KP.shape[0], 1), config.eos)
    ids_KP = torch.cat([eos_frame, fitted_KP], dim=1)
    ids_KP[fitted_KP[:, 0] == config.special] = config.special
    rows = torch.full((2, fitted_KP.shape[0], config.prompt_positions - 1), config.special)
    frames = min(ids_KP.shape[1], rows.shape[2])
    rows[0, :, :frames] = ids_KP[:, :frames]
    return rows


def look_up(table: nn.Embedding, ids: Tensor) -> Tensor:
    """The rows of some ids, where the table is."""
    rows: Tensor = table(ids.to(table.weight.device))
    return rows


class LyricEmbedder(nn.Module):
    """Token embedding plus the embedding of the section that a token stands in."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.output_proj = nn.Embedding(num_rows, width)
        self.structure_emb = nn.Embedding(STRUCTURE_ROWS, width)

    def forward(self, ids_BL: Tensor, structure_rows_BL: Tensor) -> Tensor:
        """`[B, L, D]` where the structure table is; structure row 0 is looked up like any other."""
        device = self.structure_emb.weight.device
        structure: Tensor = self.structure_emb(structure_rows_BL.to(device))
        return look_up(self.output_proj, ids_BL).to(device) + structure


class DescriptionEmbedder(nn.Module):
    """Token embedding of the descriptions."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.output_proj = nn.Embedding(num_rows, width)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """`[B, L, D]` where the table is."""
        return look_up(self.output_proj, ids_BL)


class PromptEmbedder(nn.Module):
    """Prompt codes as prefix of both transformers, each behind a start embedding."""

    def __init__(self, config: LevoConfig) -> None:
        super().__init__()
        self.EOT_emb = nn.Parameter(torch.zeros(1, config.width))
        if config.num_codebooks > 1:
            self.layer2_EOT_emb = nn.Parameter(torch.zeros(1, config.width))
        self.emb = nn.ModuleList(
            nn.Embedding(config.code_size + 2, config.width) for _ in range(config.num_codebooks)
        )

    def forward(self, ids_BKP: Tensor) -> tuple[Tensor, Tensor | None]:
        """`[B, P + 1, D]` for transformer 1 (mixed row) and, if any, 2 (the sum of the other rows)."""
        first = self.emb[0](ids_BKP[:, 0])
        start = self.EOT_emb.expand(first.shape[0], 1, -1)
        if len(self.emb) == 1:
            return torch.cat([start, first], dim=1), None
        second = torch.stack([table(ids_BKP[:, row]) for row, table in enumerate(self.emb) if row]).sum(0)
        start_sub = self.layer2_EOT_emb.expand(first.shape[0], 1, -1)
        return torch.cat([start, first], dim=1), torch.cat([start_sub, second], dim=1)


class ConditionEmbedder(nn.Module):
    """The three conditioners under their published names, and the prefix that they make."""

    def __init__(self, config: LevoConfig, *, lyric_rows: int, description_rows: int) -> None:
        super().__init__()
        self.prefix_order = config.prefix_order
        self.conditioners = nn.ModuleDict(
            {
                "description": LyricEmbedder(lyric_rows, config.width),
                "prompt_audio": PromptEmbedder(config),
                "type_info": DescriptionEmbedder(description_rows, config.width),
            }
        )

    @property
    def device(self) -> torch.device:
        """Where prefixes are computed; the tables of the texts may be elsewhere."""
        start = self.conditioners["prompt_audio"].EOT_emb
        assert isinstance(start, Tensor)
        return start.device

    def embed(self, conditions: LevoConditions) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Per conditioner, the embeddings for transformer 1 and, if any, for 2, `[2, L, D]` each."""
        device = self.device
        lyrics = self.conditioners["description"](conditions.lyric_ids, conditions.structure_rows)
        description = self.conditioners["type_info"](conditions.description_ids).to(device)
        return {
            "description": (lyrics, lyrics),
            "prompt_audio": self.conditioners["prompt_audio"](conditions.prompt_ids.to(device)),
            "type_info": (description, description),
        }

    def prefix(self, conditions: LevoConditions) -> tuple[Tensor, Tensor | None]:
        """The prefix of transformer 1 and, if any, of 2 (before the bridge), `[2, prefix_length, D]` each."""
        embedded = self.embed(conditions)
        first = torch.cat([embedded[name][0] for name in self.prefix_order], dim=1)
        second = [part for name in self.prefix_order if (part := embedded[name][1]) is not None]
        return first, torch.cat(second, dim=1) if len(second) == len(self.prefix_order) else None
