"""What the language model starts from, and which of its tensors a stage trains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from songgen.models.levo.conditions import LyricEmbedder, PromptEmbedder
from songgen.models.levo.lelm import LeLM
from songgen.nn.llama import LlamaLayer
from songgen.train.label_codes import label_codebook
from songgen.train.loop import CHECKPOINT

TABLE_STD = 0.5
HEAD_STD = 0.05
SECOND_PARTS = ("transformer2.", "mlp.", "layer2_emb.", "linears.")
SECOND_PROMPT = ("layer2_EOT_emb", "emb.1.", "emb.2.")
"""Of the prompt's tables, those of transformer 2."""

LEARNT = ("tokens-dual", "rvq_bestrq_bgm_emb")
"""Stage and quantiser of the codebook of the bgm codes; the others are `label_codes.py`'s."""


def is_second(name: str) -> bool:
    """Whether a tensor of LeLM is used by transformer 2 alone."""
    prompt = "condition_provider.conditioners.prompt_audio."
    return name.startswith(SECOND_PARTS) or name.removeprefix(prompt).startswith(SECOND_PROMPT)


def freeze_for_(lelm: LeLM, part: Literal["first", "dual"]) -> None:
    """Let a stage train its own tensors only."""
    for name, parameter in lelm.named_parameters():
        parameter.requires_grad_(is_second(name) == (part == "dual"))


@torch.no_grad()
def start_(lelm: LeLM, work: Path) -> None:
    """Draw the weights: layers that begin as nothing, tables and heads in which near codes are alike.

    The rows of a table of codes are a random projection of the codebook, of bgm codes where that is trained.
    """
    for module in lelm.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=TABLE_STD)
        elif isinstance(module, LlamaLayer):
            nn.init.zeros_(module.self_attn.o_proj.weight)
            nn.init.zeros_(module.mlp.down_proj.weight)
    conditioners = lelm.condition_provider.conditioners
    lyrics, prompt = conditioners["description"], conditioners["prompt_audio"]
    assert isinstance(lyrics, LyricEmbedder) and isinstance(prompt, PromptEmbedder)
    lyrics.structure_emb.weight.copy_(waves(*lyrics.structure_emb.weight.shape) * TABLE_STD)
    heads = [lelm.transformer.lm_head, *lelm.linears]
    tables = [lelm.emb[0], *lelm.layer2_emb.values()]
    labels, learnt = label_codebook(lelm.config.code_size), _learnt_directions(work, lelm.config.code_size)
    for row, directions in enumerate((labels, labels, learnt)):
        head, table, own_prompt = heads[row], tables[row], prompt.emb[row]
        assert isinstance(head, nn.Linear)
        nn.init.normal_(head.weight, std=HEAD_STD)
        if directions is None:
            continue
        projected = _projected(directions, lelm.config.width)
        for emb in (table, own_prompt):
            assert isinstance(emb, nn.Embedding)
            emb.weight[: len(projected)].mul_(0.5).add_(TABLE_STD * projected, alpha=0.85)
        head.weight[: len(projected)].mul_(0.5).add_(HEAD_STD * _projected(directions, lelm.config.width))


def waves(rows: int, width: int) -> Tensor:
    """Sines and cosines of the row's number, `[rows, width]`, so that near rows are alike."""
    rates = torch.exp(torch.linspace(math.log(math.pi / 2), math.log(math.pi / rows), width // 2))
    angles = torch.arange(rows)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1) * math.sqrt(2)


def _learnt_directions(work: Path, num_codes: int) -> Tensor | None:
    """The codebook of bgm codes, rows of length 1; None where there is none of this size."""
    stage, quantizer = LEARNT
    path = work / stage / CHECKPOINT
    if not path.is_file():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)
    codebook: Tensor = saved["module"][f"tokenizer.{quantizer}.quantizers.0.codebook.weight"][:num_codes]
    return nn.functional.normalize(codebook, dim=-1) if len(codebook) == num_codes else None


def _projected(directions_VE: Tensor, width: int) -> Tensor:
    """A random projection `[V, width]` whose entries have a deviation of about 1."""
    return directions_VE @ torch.randn(directions_VE.shape[1], width)
