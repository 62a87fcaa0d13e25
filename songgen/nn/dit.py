"""A diffusion transformer: pre-norm layers with full attention and partial rotary positions (Peebles and Xie
2023, arXiv:2212.09748; the layer of Stable Audio, Evans et al. 2024).

Conditions stand in front of the sequence, so nothing here knows of them. Submodule names are those of
published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from songgen.nn.llama import LlamaConfig, RotaryTable
from songgen.nn.step_ops import rotate

LAYER_NORM_EPS = 1e-5
ROPE_THETA = 20000.0
"""A constant of the published network, whatever base its language model has."""

LEAST_ROTARY_DIM = 32


@dataclass(frozen=True)
class DitConfig:
    """Sizes of a stack."""

    width: int
    ffn_dim: int
    num_heads: int
    num_layers: int

    @property
    def rotary_dim(self) -> int:
        """Leading entries of a head that are rotated; the others carry no position."""
        return max(self.width // self.num_heads // 2, LEAST_ROTARY_DIM)


class LayerNorm(nn.Module):
    """Layer norm with a weight; its bias is a buffer, zero in trained checkpoints."""

    beta: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return functional.layer_norm(x, x.shape[-1:], self.gamma, self.beta, LAYER_NORM_EPS)


class DitAttention(nn.Module):
    """Attention of all positions among themselves."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.num_heads, self.rotary_dim = config.num_heads, config.rotary_dim
        self.to_qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.to_out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """`[B, S, D]` to `[B, S, D]`."""
        q, k, v = rearrange(self.to_qkv(x_BSD), "b s (n h e) -> n b h s e", n=3, h=self.num_heads)
        attended = functional.scaled_dot_product_attention(self._rotated(q, rope), self._rotated(k, rope), v)
        return self.to_out(rearrange(attended, "b h s e -> b s (h e)"))

    def _rotated(self, x_BHSE: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        turned, plain = x_BHSE[..., : self.rotary_dim], x_BHSE[..., self.rotary_dim :]
        return torch.cat([rotate(turned, *rope), plain], dim=-1)


class GatedProjection(nn.Module):
    """up(x) * silu(gate(x))."""

    def __init__(self, width: int, ffn_dim: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, ffn_dim, bias=False)
        self.gate_proj = nn.Linear(width, ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Position by position."""
        return self.up_proj(x) * functional.silu(self.gate_proj(x))


class FeedForward(nn.Module):
    """A gated projection and back, under the published names `ff.0` and `ff.2`."""

    def __init__(self, width: int, ffn_dim: int) -> None:
        super().__init__()
        self.ff = nn.Sequential(
            GatedProjection(width, ffn_dim), nn.Identity(), nn.Linear(ffn_dim, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Position by position."""
        projected: Tensor = self.ff(x)
        return projected


class DitLayer(nn.Module):
    """One pre-norm layer: attention, then feed-forward, both with a residual."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.pre_norm = LayerNorm(config.width)
        self.self_attn = DitAttention(config)
        self.ff_norm = LayerNorm(config.width)
        self.ff = FeedForward(config.width, config.ffn_dim)

    def forward(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """`[B, S, D]` to `[B, S, D]`."""
        x_BSD = x_BSD + self.self_attn(self.pre_norm(x_BSD), rope)
        x_BSD = x_BSD + self.ff(self.ff_norm(x_BSD))
        return x_BSD


class DiffusionTransformer(nn.Module):
    """The stack of layers, without a final norm."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(DitLayer(config) for _ in range(config.num_layers))

    def rotary_table(self, num_positions: int) -> RotaryTable:
        """The angles of positions 0 ... num_positions - 1, in the dtype and on the device of the weights."""
        head = LlamaConfig(
            width=self.config.rotary_dim,
            ffn_dim=0,
            num_heads=1,
            num_layers=0,
            rope_theta=ROPE_THETA,
            num_positions=num_positions,
        )
        weight = next(self.parameters())
        return RotaryTable.build(head, weight.dtype, weight.device)

    def forward(self, x_BSD: Tensor, rope: RotaryTable) -> Tensor:
        """`[B, S, D]` to `[B, S, D]`; `rope` is of S positions."""
        angles = rope.at(slice(0, x_BSD.shape[1]))
        for layer in self.layers:
            x_BSD = layer(x_BSD, angles)
        return x_BSD
