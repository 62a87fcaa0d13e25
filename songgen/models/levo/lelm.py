"""LeLM, the language model of SongGeneration: two Llama decoders over three delayed rows of codes.

Transformer 1 reads the mixed tokens; its last hidden state joins the vocal and bgm tokens as the input of
transformer 2, which writes those two in parallel. A model of one codebook (v2-fast) is transformer 1 alone.
Module names are the published ones (without `audiolm.`); tensors that inference never uses are not built
(`levo/checkpoint.py` lists them).
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
    """Cache and rotary table of each transformer, for a fixed number of rows."""

    caches: tuple[KVCache, ...]
    ropes: tuple[RotaryTable, ...]


@dataclass(frozen=True)
class LelmOutput:
    """Every stage of a forward pass over S positions; `logits` are `[B, K, S, V]`, the rest `[B, S, D]`.

    `bridged` and `hidden_sub` are the input and the output of transformer 2; a model without one has None.
    """

    hidden: Tensor
    bridged: Tensor | None
    hidden_sub: Tensor | None
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
        self.transformer = Decoder(config.llama(), output_rows)
        if config.num_codebooks == 1:
            return
        self.layer2_emb = nn.ModuleDict(
            {str(row): nn.Embedding(input_rows, width) for row in range(1, config.num_codebooks)}
        )
        self.transformer2 = Decoder(config.llama(second=True), None)
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width))
        self.linears = nn.ModuleList(
            nn.Linear(width, output_rows, bias=False) for _ in range(1, config.num_codebooks)
        )

    @property
    def stacks(self) -> tuple[Llama, ...]:
        """The transformers, one or two."""
        first = self.transformer.model
        return (first,) if self.config.num_codebooks == 1 else (first, self.transformer2.model)

    def new_state(self, num_rows: int, capacity: int | None = None) -> LelmState:
        """Caches for a number of rows, for the longest song unless told."""
        capacity = capacity or self.config.capacity
        return LelmState(
            caches=tuple(stack.new_cache(num_rows, capacity) for stack in self.stacks),
            ropes=tuple(stack.rotary_table() for stack in self.stacks),
        )

    def embed_codes(self, ids_BKS: Tensor) -> tuple[Tensor, Tensor | None]:
        """The inputs of transformer 1 and, before the bridge, of transformer 2: `[B, S, D]` each."""
        first = self.emb[0](ids_BKS[:, 0])
        if self.config.num_codebooks == 1:
            return first, None
        tables = self.layer2_emb.items()
        return first, torch.stack([table(ids_BKS[:, int(row)]) for row, table in tables]).sum(0)

    def bridge(self, inputs_sub: Tensor | None, hidden: Tensor) -> Tensor | None:
        """The input of transformer 2, from its tokens and the hidden state of transformer 1."""
        if inputs_sub is None:
            return None
        bridged: Tensor = self.mlp(torch.cat([inputs_sub, hidden], dim=-1))
        return bridged

    def prompt(
        self, inputs_BSD: Tensor, inputs_sub_BSD: Tensor | None, state: LelmState, first_row: int = 0
    ) -> LelmOutput:
        """Run positions 0 ... S-1 of some rows (prefix, and codes if any), filling their caches."""
        hidden = self.stacks[0].prompt(inputs_BSD, state.ropes[0], state.caches[0], first_row)
        bridged = self.bridge(inputs_sub_BSD, hidden)
        hidden_sub = None
        if bridged is not None:
            hidden_sub = self.stacks[1].prompt(bridged, state.ropes[1], state.caches[1], first_row)
        return LelmOutput(hidden, bridged, hidden_sub, self._logits(hidden, hidden_sub))

    def prefill(self, conditions: LevoConditions, state: LelmState, first_row: int) -> None:
        """Write the prefix of one song (its conditional and its null row) into the caches."""
        prefix, prefix_sub = self.condition_provider.prefix(conditions)
        hidden = self.stacks[0].prompt(prefix, state.ropes[0], state.caches[0], first_row)
        bridged = self.bridge(prefix_sub, hidden)
        if bridged is not None:
            self.stacks[1].prompt(bridged, state.ropes[1], state.caches[1], first_row)

    def step(self, ids_BK: Tensor, positions_B: Tensor, state: LelmState, window: int) -> Tensor:
        """Feed one column per row; returns logits `[B, K, V]` in float32."""
        inputs, inputs_sub = self.embed_codes(ids_BK.unsqueeze(-1))
        hidden = self.stacks[0].step(inputs[:, 0], state.ropes[0], state.caches[0], positions_B, window)
        bridged = self.bridge(None if inputs_sub is None else inputs_sub[:, 0], hidden)
        hidden_sub = None
        if bridged is not None:
            hidden_sub = self.stacks[1].step(bridged, state.ropes[1], state.caches[1], positions_B, window)
        return self._logits(hidden, hidden_sub)

    def _logits(self, hidden: Tensor, hidden_sub: Tensor | None) -> Tensor:
        """`[B, (S,) D]` once or twice to `[B, K, (S,) V]`."""
        logits = [self.transformer.lm_head(hidden).float()]
        if hidden_sub is not None:
            logits += [head(hidden_sub).float() for head in self.linears]
        return torch.stack(logits, dim=1)
