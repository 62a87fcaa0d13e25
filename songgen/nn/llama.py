"""A Llama decoder stack with a static cache (Touvron et al. 2023, arXiv:2302.13971).

Pre-norm layers, rotary positions in the "rotate half" form, SiLU-gated feed-forward, no biases, one key/value
head per query head. Submodule names are those of published checkpoints. Embeddings and heads are the
caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from songgen.nn.attention import attend_prompt, attend_step
from songgen.nn.kv_cache import KVCache

RMS_NORM_EPS = 1e-5


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a stack: width, feed-forward width, heads, layers, rotary base, positions of the rotary
    table."""

    width: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    rope_theta: float
    num_positions: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads


class RMSNorm(nn.Module):
    """x / rms(x) in float32, cast back, then times the weight (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + RMS_NORM_EPS)
        return self.weight * normed.to(x.dtype)


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


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + E/2) of the last axis."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class LlamaAttention(nn.Module):
    """Self-attention with rotary positions over a cache."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, config.width, bias=False)
        self.v_proj = nn.Linear(config.width, config.width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def prompt(
        self, x_BSD: Tensor, rope: tuple[Tensor, Tensor], cache: KVCache, layer: int, first_row: int
    ) -> Tensor:
        """All positions of a prompt; fills the cache rows from `first_row` on."""
        q, k, v = (
            rearrange(project(x_BSD), "b s (h e) -> b h s e", h=self.num_heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *rope), rotate(k, *rope)
        cache.write_prompt_(layer, first_row, k, v)
        return self.o_proj(rearrange(attend_prompt(q, k, v), "b h s e -> b s (h e)"))

    def step(
        self,
        x_BD: Tensor,
        rope: tuple[Tensor, Tensor],
        cache: KVCache,
        layer: int,
        *,
        positions_B: Tensor,
        window: int,
    ) -> Tensor:
        """One new position per row, written to the cache at `positions_B`."""
        q, k, v = (
            project(x_BD).unflatten(-1, (self.num_heads, -1))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        cos_B1E, sin_B1E = rope[0].unsqueeze(1), rope[1].unsqueeze(1)
        cache.append_(layer, positions_B, rotate(k, cos_B1E, sin_B1E), v)
        attended = attend_step(rotate(q, cos_B1E, sin_B1E), *cache.read(layer, window), positions_B + 1)
        return self.o_proj(attended.flatten(-2))


class LlamaMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.ffn_dim, bias=False)
        self.up_proj = nn.Linear(config.width, config.ffn_dim, bias=False)
        self.down_proj = nn.Linear(config.ffn_dim, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Position by position."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    """One pre-norm layer: attention, then feed-forward, both with a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = RMSNorm(config.width)
        self.post_attention_layernorm = RMSNorm(config.width)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half of the layer."""
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The stack: layers and the final norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width)

    def new_cache(self, num_rows: int, capacity: int) -> KVCache:
        """An empty cache in the dtype and on the device of the weights."""
        weight = self.norm.weight
        return KVCache(
            num_layers=self.config.num_layers,
            num_rows=num_rows,
            num_heads=self.config.num_heads,
            capacity=capacity,
            head_dim=self.config.head_dim,
            dtype=weight.dtype,
            device=weight.device,
        )

    def rotary_table(self) -> RotaryTable:
        """The rotary table in the dtype and on the device of the weights."""
        return RotaryTable.build(self.config, self.norm.weight.dtype, self.norm.weight.device)

    def prompt(self, x_BSD: Tensor, rope: RotaryTable, cache: KVCache, first_row: int = 0) -> Tensor:
        """Run positions 0 ... S-1 of B rows, which become the cache rows from `first_row` on.

        Returns:
            `[B, S, D]`, after the final norm.
        """
        angles = rope.at(slice(0, x_BSD.shape[1]))
        x = x_BSD
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, LlamaLayer)
            x = x + layer.self_attn.prompt(layer.input_layernorm(x), angles, cache, index, first_row)
            x = layer.feed_forward(x)
        return self.norm(x)

    def step(
        self, x_BD: Tensor, rope: RotaryTable, cache: KVCache, positions_B: Tensor, window: int
    ) -> Tensor:
        """Run one position of every cache row.

        Args:
            positions_B: int64, the position of each row; it is written there and sees all before it.
            window: cache positions to read, more than the largest position.

        Returns:
            `[B, D]`, after the final norm.
        """
        angles = rope.at(positions_B)
        x = x_BD
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, LlamaLayer)
            x = x + layer.self_attn.step(
                layer.input_layernorm(x), angles, cache, index, positions_B=positions_B, window=window
            )
            x = layer.feed_forward(x)
        return self.norm(x)
