"""A Llama decoder stack with a static cache (Touvron et al. 2023, arXiv:2302.13971).

Pre-norm layers, rotary positions in the "rotate half" form, SiLU-gated feed-forward, no biases, one key/value
head per query head. Submodule names are those of published checkpoints, until `fuse_projections_` joins those
that read the same input. Embeddings and heads are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from songgen.nn.attention import attend_prompt
from songgen.nn.kv_cache import KVCache, LayerCache
from songgen.nn.step_ops import TORCH_OPS, StepOps, rms_norm, rotate

RMS_NORM_EPS = 1e-5


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a stack: width, feed-forward width, heads, layers, rotary base, positions of the rotary table,
    epsilon of the norms."""

    width: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    rope_theta: float
    num_positions: int
    norm_eps: float = RMS_NORM_EPS

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads


class RMSNorm(nn.Module):
    """The weight of `rms_norm`, and its epsilon."""

    def __init__(self, width: int, eps: float = RMS_NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return rms_norm(x, self.weight, self.eps)


@dataclass(frozen=True)
class RotaryTable:
    """cos and sin of all positions, `[S, E]`, angles duplicated over the two halves (Su et al. 2021).

    Computed in float32 and rounded to the compute dtype, as published.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def build(cls, config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> RotaryTable:
        """The table of a stack."""
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
        inverse_frequencies = 1.0 / config.rope_theta**exponents
        positions = torch.arange(config.num_positions, dtype=torch.float32, device=device)
        angles = torch.outer(positions, inverse_frequencies).repeat(1, 2)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def at(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """cos and sin of some positions."""
        return self.cos[positions], self.sin[positions]


@dataclass(frozen=True)
class Step:
    """What all layers of a step share.

    Args:
        rope: cos and sin `[B, E]` of each row's position.
        positions_B: int64, where each row is written.
        lengths_B: int64, positions that each row sees, its own included.
        window: cache positions to read, at least the largest length.
        ops: the functions between the matrix products.
    """

    rope: tuple[Tensor, Tensor]
    positions_B: Tensor
    lengths_B: Tensor
    window: int
    ops: StepOps


class LlamaAttention(nn.Module):
    """Self-attention with rotary positions over a cache."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj: nn.Linear | None = nn.Linear(config.width, config.width, bias=False)
        self.k_proj: nn.Linear | None = nn.Linear(config.width, config.width, bias=False)
        self.v_proj: nn.Linear | None = nn.Linear(config.width, config.width, bias=False)
        self.qkv_proj: nn.Linear | None = None
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def fuse_(self) -> None:
        """Join the three input projections."""
        self.qkv_proj = _joined(self.q_proj, self.k_proj, self.v_proj)
        self.q_proj = self.k_proj = self.v_proj = None

    def qkv(self, x: Tensor) -> Tensor:
        """`[..., D]` to queries, keys and values side by side, `[..., 3, H, E]`."""
        if self.qkv_proj is not None:
            joined: Tensor = self.qkv_proj(x)
        else:
            assert self.q_proj is not None and self.k_proj is not None and self.v_proj is not None
            joined = torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)
        return joined.unflatten(-1, (3, self.num_heads, -1))

    def prompt(
        self,
        x_BSD: Tensor,
        rope: tuple[Tensor, Tensor],
        cache: LayerCache | None,
        *,
        first_row: int,
        start: int,
    ) -> Tensor:
        """Positions from `start` on of some rows, which are written to the cache, if there is one."""
        q, k, v = rearrange(self.qkv(x_BSD), "b s three h e -> three b h s e")
        q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            cache.write_(first_row, start, k, v)
        if start:
            assert cache is not None, "what is before `start` is in the cache"
            rows = slice(first_row, first_row + x_BSD.shape[0])
            before_k, before_v = cache.read(rows, start, x_BSD.dtype)
            k, v = torch.cat([before_k, k], dim=2), torch.cat([before_v, v], dim=2)
        return self.o_proj(rearrange(attend_prompt(q, k, v), "b h s e -> b s (h e)"))

    def step(self, x_BD: Tensor, cache: LayerCache, step: Step) -> Tensor:
        """One new position per row."""
        q_BHE = step.ops.rotate_append(self.qkv(x_BD), *step.rope, cache, step.positions_B)
        attended = step.ops.attend(q_BHE, cache, step.lengths_B, step.window)
        return self.o_proj(attended.flatten(-2))


class LlamaMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj: nn.Linear | None = nn.Linear(config.width, config.ffn_dim, bias=False)
        self.up_proj: nn.Linear | None = nn.Linear(config.width, config.ffn_dim, bias=False)
        self.gate_up_proj: nn.Linear | None = None
        self.down_proj = nn.Linear(config.ffn_dim, config.width, bias=False)

    def fuse_(self) -> None:
        """Join the two input projections."""
        self.gate_up_proj = _joined(self.gate_proj, self.up_proj)
        self.gate_proj = self.up_proj = None

    def forward(self, x: Tensor, ops: StepOps = TORCH_OPS) -> Tensor:
        """Position by position; kernels of `ops` other than PyTorch's take `[B, D]` only."""
        if self.gate_up_proj is not None:
            gate_up = self.gate_up_proj(x)
        else:
            assert self.gate_proj is not None and self.up_proj is not None
            gate_up = torch.cat([self.gate_proj(x), self.up_proj(x)], dim=-1)
        return self.down_proj(ops.gate(gate_up))


def _joined(*projections: nn.Linear | None) -> nn.Linear:
    """One projection that computes several, their outputs side by side."""
    weight = torch.cat([projection.weight for projection in projections if projection is not None])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    return joined


class LlamaLayer(nn.Module):
    """One pre-norm layer: attention, then feed-forward, both with a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)

    def fuse_(self) -> None:
        """Join the projections that read the same input: fewer and larger products. For inference only."""
        self.self_attn.fuse_()
        self.mlp.fuse_()


class Llama(nn.Module):
    """The stack: layers and the final norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def new_cache(self, num_rows: int, capacity: int, *, is_int8: bool = False) -> KVCache:
        """An empty cache on the device and, unless in 8 bits, in the dtype of the weights."""
        weight = self.norm.weight
        return KVCache(
            num_layers=self.config.num_layers,
            num_rows=num_rows,
            num_heads=self.config.num_heads,
            capacity=capacity,
            head_dim=self.config.head_dim,
            dtype=weight.dtype,
            device=weight.device,
            is_int8=is_int8,
        )

    def rotary_table(self) -> RotaryTable:
        """The rotary table in the dtype and on the device of the weights."""
        return RotaryTable.build(self.config, self.norm.weight.dtype, self.norm.weight.device)

    def prompt(
        self, x_BSD: Tensor, rope: RotaryTable, cache: KVCache | None, first_row: int = 0, *, start: int = 0
    ) -> Tensor:
        """Run positions `start` ... `start` + S - 1 of B rows, the cache rows from `first_row` on.

        They see what the cache holds of these rows before `start`. Training keeps nothing: no cache, `start`
        0.

        Returns:
            `[B, S, D]`, after the final norm.
        """
        angles = rope.at(slice(start, start + x_BSD.shape[1]))
        x = x_BSD
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, LlamaLayer)
            own = None if cache is None else cache.layers[index]
            x = x + layer.self_attn.prompt(
                layer.input_layernorm(x), angles, own, first_row=first_row, start=start
            )
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.norm(x)

    def step(
        self,
        x_BD: Tensor,
        rope: RotaryTable,
        cache: KVCache,
        positions_B: Tensor,
        *,
        window: int,
        lengths_B: Tensor | None = None,
        ops: StepOps = TORCH_OPS,
    ) -> Tensor:
        """Run one position of every cache row.

        Args:
            positions_B: int64, the position of each row; it is written there.
            window: cache positions to read, at least the largest length.
            lengths_B: int64, positions that each row sees; all up to its own unless told.
            ops: the functions between the matrix products.

        Returns:
            `[B, D]`, after the final norm.
        """
        lengths_B = positions_B + 1 if lengths_B is None else lengths_B
        step = Step(rope.at(positions_B), positions_B, lengths_B, window, ops)
        delta: Tensor = x_BD
        residual: Tensor | None = None
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, LlamaLayer)
            first, second = layer.input_layernorm, layer.post_attention_layernorm
            normed, residual = ops.add_norm(delta, residual, first.weight, first.eps)
            delta = layer.self_attn.step(normed, cache.layers[index], step)
            normed, residual = ops.add_norm(delta, residual, second.weight, second.eps)
            delta = layer.mlp(normed, ops)
        return ops.add_norm(delta, residual, self.norm.weight, self.norm.eps)[0]


def fuse_projections_(llama: Llama) -> None:
    """Join the input projections of every layer, one layer after the other, after loading.

    Names on disk are not concerned; a fused stack no longer has the published names.
    """
    for layer in llama.layers:
        assert isinstance(layer, LlamaLayer)
        layer.fuse_()
