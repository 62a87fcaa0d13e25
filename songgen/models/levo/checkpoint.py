"""The files of a LeVo checkpoint: which tensors they hold, and filling the modules with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from songgen.models.levo.config import LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.runtime.checkpoint import build, load_strictly, read_tensors

LM_PREFIX = "audiolm."

UNUSED_IN_LM = re.compile(
    r"transformer2?\.model\.embed_tokens\.weight|transformer2\.lm_head\.weight|layer2_emb\.0\.weight"
    r"|out_norm\.(weight|bias)"
)
"""Tensors of the published language models that inference never uses (out_norm's call is absent there)."""

DESCRIPTION_TABLE = "condition_provider.conditioners.type_info.output_proj.weight"
LYRIC_TABLE = "condition_provider.conditioners.description.output_proj.weight"


def read_lm_tensors(path: Path) -> dict[str, Tensor]:
    """The language model's tensors of a model file, without the published prefix; other keys are ignored.

    Raises:
        ValueError: the file holds no tensor of a LeVo language model.
    """
    prefixed = {name: tensor for name, tensor in read_tensors(path).items() if name.startswith(LM_PREFIX)}
    if not prefixed:
        raise ValueError(f"{path}: no tensor is named {LM_PREFIX}...; is this a LeVo language model?")
    return {name.removeprefix(LM_PREFIX): tensor for name, tensor in prefixed.items()}


def table_rows(tensors: Mapping[str, Tensor], name: str, source: Path | str) -> int:
    """Rows of an embedding table. Raises ValueError if it is not there."""
    if name not in tensors:
        raise ValueError(f"{source}: no tensor {LM_PREFIX}{name}; is this a LeVo language model?")
    return tensors[name].shape[0]


def build_lelm(
    config: LevoConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    dtype: torch.dtype,
    device: torch.device,
) -> LeLM:
    """LeLM with its weights. Raises ValueError if the tensors do not fit the configuration."""
    lyric_rows = table_rows(tensors, LYRIC_TABLE, source)
    description_rows = table_rows(tensors, DESCRIPTION_TABLE, source)
    lelm = build(lambda: LeLM(config, lyric_rows=lyric_rows, description_rows=description_rows))
    load_strictly(
        lelm,
        tensors,
        source=source,
        is_unused=lambda name: UNUSED_IN_LM.fullmatch(name) is not None,
        dtype=dtype,
        device=device,
    )
    return lelm
