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

from songgen.models.levo.conditions import ConditionEmbedder
from songgen.models.levo.config import LevoConfig
from songgen.nn.kv_cache import KVCache
from songgen.nn.llama import Llama, LlamaConfig, RotaryTable
from songgen.nn.step_ops import TORCH_OPS, StepOps


class Decoder(nn.Module):
    """A transformer under the published name `model`, with its head where it is used."""

    def __init__(self, config: LlamaConfig, head_size: int | None) -> None:
        super().__init__()
        self.model = Llama(config)
        if head_size is not None:
            self.lm_head = nn.Linear(config.width, head_size, bias=False)


@dataclass(frozen=True)
class LelmState:
    """Cache and rotary table of each transformer, for a fixed number of rows, and the operations of a
    step."""

    caches: tuple[KVCache, ...]
    ropes: tuple[RotaryTable, ...]
    ops: StepOps = TORCH_OPS

    def tensors(self) -> list[Tensor]:
        """All tensors."""
        found: list[Tensor | None] = []
        for cache, rope in zip(self.caches, self.ropes, strict=True):
            found += [cache.keys, cache.values, cache.key_scales, cache.value_scales, rope.cos, rope.sin]
        return [tensor for tensor in found if tensor is not None]


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

    def new_state(
        self, num_rows: int, capacity: int | None = None, *, is_int8: bool = False, ops: StepOps = TORCH_OPS
    ) -> LelmState:
        """Caches for a number of rows, for the longest song unless told."""
        capacity = capacity or self.config.capacity
        return LelmState(
            caches=tuple(stack.new_cache(num_rows, capacity, is_int8=is_int8) for stack in self.stacks),
            ropes=tuple(stack.rotary_table() for stack in self.stacks),
            ops=ops,
        )

    def embed_codes(self, ids_BKS: Tensor) -> tuple[Tensor, Tensor | None]:
        """The inputs of transformer 1 and, before the bridge, of transformer 2: `[B, S, D]` each."""
        first = self.emb[0](ids_BKS[:, 0])
        return first, None if self.config.num_codebooks == 1 else self.embed_stems(ids_BKS)

    def embed_stems(self, ids_BKS: Tensor) -> Tensor:
        """The sum of the embeddings of all codebooks but the first, `[B, S, D]`."""
        tables = self.layer2_emb.items()
        return torch.stack([table(ids_BKS[:, int(row)]) for row, table in tables]).sum(0)

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

    def prefill(self, prefix_BSD: Tensor, prefix_sub_BSD: Tensor | None, state: LelmState, row: int) -> None:
        """Write the prefix of some rows into the caches, from cache row `row` on; no logits are computed."""
        hidden = self.stacks[0].prompt(prefix_BSD, state.ropes[0], state.caches[0], row)
        bridged = self.bridge(prefix_sub_BSD, hidden)
        if bridged is not None:
            self.stacks[1].prompt(bridged, state.ropes[1], state.caches[1], row)

    def step_first(
        self, ids_B: Tensor, state: LelmState, *, positions_B: Tensor, lengths_B: Tensor, window: int
    ) -> Tensor:
        """Feed codebook 0 of one column per row to transformer 1; returns its hidden states `[B, D]`."""
        return self.stacks[0].step(
            self.emb[0](ids_B),
            state.ropes[0],
            state.caches[0],
            positions_B,
            window=window,
            lengths_B=lengths_B,
            ops=state.ops,
        )

    def step_second(
        self,
        ids_BK: Tensor,
        hidden_BD: Tensor,
        state: LelmState,
        *,
        positions_B: Tensor,
        lengths_B: Tensor,
        window: int,
    ) -> Tensor:
        """Feed the other codebooks, with what transformer 1 made of the column, to transformer 2."""
        bridged = self.bridge(self.embed_stems(ids_BK.unsqueeze(-1))[:, 0], hidden_BD)
        assert bridged is not None
        return self.stacks[1].step(
            bridged,
            state.ropes[1],
            state.caches[1],
            positions_B,
            window=window,
            lengths_B=lengths_B,
            ops=state.ops,
        )

    def logits_first(self, hidden: Tensor) -> Tensor:
        """Hidden states of transformer 1 to logits of codebook 0: `[..., D]` to `[..., V]`, float32."""
        logits: Tensor = self.transformer.lm_head(hidden)
        return logits.float()

    def logits_stems(self, hidden_sub: Tensor) -> list[Tensor]:
        """Hidden states of transformer 2 to logits of each other codebook, float32."""
        return [head(hidden_sub).float() for head in self.linears]

    def _logits(self, hidden: Tensor, hidden_sub: Tensor | None) -> Tensor:
        """`[B, S, D]` once or twice to `[B, K, S, V]`."""
        logits = [self.logits_first(hidden)]
        if hidden_sub is not None:
            logits += self.logits_stems(hidden_sub)
        return torch.stack(logits, dim=1)
