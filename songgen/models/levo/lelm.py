"""LeLM, the language model of SongGeneration: two Llama decoders over three delayed rows of codes.

Transformer 1 reads the mixed tokens; its last hidden state joins the vocal and bgm tokens as the input of
transformer 2, which writes those two in parallel. Module names are the published ones (without `audiolm.`);
tensors that inference never uses are not built (`levo/checkpoint.py` lists them).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.models.levo.conditions import ConditionEmbedder, LevoConditions
from songgen.models.levo.config import LevoConfig
from songgen.nn.kv_cache import KVCache
from songgen.nn.llama import Llama, LlamaConfig, RotaryTable


class Decoder(nn.Module):
    """A transformer under the published name `model`, with its head where it is used."""

    def __init__(self, config: LlamaConfig, head_size: int | None) -> None:
        super().__init__()
        self.model = Llama(config)
        if head_size is not None:
            self.lm_head = nn.Linear(config.width, head_size, bias=False)


@dataclass(frozen=True)
class LelmState:
    """The caches and rotary tables of both transformers, for a fixed number of rows."""

    cache: KVCache
    cache_sub: KVCache
    rope: RotaryTable
    rope_sub: RotaryTable


@dataclass(frozen=True)
class LelmOutput:
    """Every stage of a forward pass over S positions; `logits` are `[B, K, S, V]`, the rest `[B, S, D]`."""

    hidden: Tensor
    bridged: Tensor
    hidden_sub: Tensor
    logits: Tensor


class LeLM(nn.Module):
    """The network. V = code_size + 1: the codes and EOS; SPECIAL is an input only."""

    def __init__(self, config: LevoConfig, *, lyric_rows: int, description_rows: int) -> None:
        super().__init__()
        self.config = config
        width, input_rows, output_rows = config.width, config.code_size + 2, config.code_size + 1
        self.condition_provider = ConditionEmbedder(
            config, lyric_rows=lyric_rows, description_rows=description_rows
        )
        self.emb = nn.ModuleList([nn.Embedding(input_rows, width)])
        self.layer2_emb = nn.ModuleDict(
            {str(row): nn.Embedding(input_rows, width) for row in range(1, config.num_codebooks)}
        )
        self.transformer = Decoder(config.llama(), output_rows)
        self.transformer2 = Decoder(config.llama(second=True), None)
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width))
        self.linears = nn.ModuleList(
            nn.Linear(width, output_rows, bias=False) for _ in range(1, config.num_codebooks)
        )

    def new_state(self, num_rows: int, capacity: int | None = None) -> LelmState:
        """Caches for a number of rows, for the longest song unless told."""
        capacity = capacity or self.config.capacity
        first, second = self.transformer.model, self.transformer2.model
        return LelmState(
            cache=first.new_cache(num_rows, capacity),
            cache_sub=second.new_cache(num_rows, capacity),
            rope=first.rotary_table(),
            rope_sub=second.rotary_table(),
        )

    def embed_codes(self, ids_BKS: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of transformer 1 and, before the bridge, of transformer 2: `[B, S, D]` each."""
        first = self.emb[0](ids_BKS[:, 0])
        second = sum(table(ids_BKS[:, int(row)]) for row, table in self.layer2_emb.items())
        assert isinstance(second, Tensor)
        return first, second

    def prompt(
        self, inputs_BSD: Tensor, inputs_sub_BSD: Tensor, state: LelmState, first_row: int = 0
    ) -> LelmOutput:
        """Run positions 0 ... S-1 of some rows (prefix, and codes if any), filling their caches."""
        hidden = self.transformer.model.prompt(inputs_BSD, state.rope, state.cache, first_row)
        bridged = self.mlp(torch.cat([inputs_sub_BSD, hidden], dim=-1))
        hidden_sub = self.transformer2.model.prompt(bridged, state.rope_sub, state.cache_sub, first_row)
        return LelmOutput(hidden, bridged, hidden_sub, self._logits(hidden, hidden_sub))

    def prefill(self, conditions: LevoConditions, state: LelmState, first_row: int) -> None:
        """Write the prefix of one song (its conditional and its null row) into the caches."""
        prefix, prefix_sub = self.condition_provider.prefix(conditions)
        hidden = self.transformer.model.prompt(prefix, state.rope, state.cache, first_row)
        bridged = self.mlp(torch.cat([prefix_sub, hidden], dim=-1))
        self.transformer2.model.prompt(bridged, state.rope_sub, state.cache_sub, first_row)

    def step(self, ids_BK: Tensor, positions_B: Tensor, state: LelmState, window: int) -> Tensor:
        """Feed one column per row; returns logits `[B, K, V]` in float32."""
        inputs, inputs_sub = self.embed_codes(ids_BK.unsqueeze(-1))
        hidden = self.transformer.model.step(inputs[:, 0], state.rope, state.cache, positions_B, window)
        bridged = self.mlp(torch.cat([inputs_sub[:, 0], hidden], dim=-1))
        hidden_sub = self.transformer2.model.step(
            bridged, state.rope_sub, state.cache_sub, positions_B, window
        )
        return self._logits(hidden, hidden_sub)

    def _logits(self, hidden: Tensor, hidden_sub: Tensor) -> Tensor:
        """`[B, (S,) D]` twice to `[B, K, (S,) V]`."""
        heads = [self.transformer.lm_head(hidden)] + [head(hidden_sub) for head in self.linears]
        return torch.stack([head.float() for head in heads], dim=1)
