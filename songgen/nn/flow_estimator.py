"""The velocity network of a flow-matching codec: a GPT-2 shaped, bidirectional transformer.

Every frame attends to every other. The solver's time modulates each layer norm (adaLN-single of
PixArt-alpha, Chen et al. 2023, arXiv:2310.00426); positions enter twice, as a learnt table and as rotary
angles of interleaved pairs. Submodule names are those of published checkpoints. The matrix products of the
blocks may run in float16 or bfloat16 (`convert_products_`); the residual stream, norms, modulation, rotary
angles, time and the last projection stay float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPS = 1e-5
ROPE_THETA = 10000.0
NUM_SINUSOIDS = 512
TIME_SCALE = 1000.0
"""The solver's time 0 ... 1 is multiplied by this before its sinusoids, as published."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Sizes: width, feed-forward width, heads, layers and the longest sequence."""

    width: int = 2200
    inner_dim: int = 4400
    num_heads: int = 20
    num_layers: int = 16
    num_positions: int = 1000

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_heads):
            raise ValueError(f"width {self.width} is not divisible into {self.num_heads} heads of even width")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads


def sinusoids(time_B: Tensor) -> Tensor:
    """Time in 0 ... 1 as `[B, 512]` float32: cosines, then sines, of geometrically spaced frequencies."""
    half = NUM_SINUSOIDS // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time_B.device) / half
    frequencies = torch.exp(-math.log(10000.0) * exponents)
    angles = time_B.float()[:, None] * frequencies * TIME_SCALE
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rotary_table(num_positions: int, head_dim: int, device: torch.device) -> Tensor:
    """Unit complex numbers `[num_positions, head_dim / 2]` that turn the pairs (2i, 2i + 1) of a head."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    positions = torch.arange(num_positions, dtype=torch.float32, device=device)
    angles = torch.outer(positions, 1.0 / ROPE_THETA**exponents)
    return torch.polar(torch.ones_like(angles), angles)


class TransposedLinear(nn.Module):
    """y = x W + b with W stored `[in, out]`, as GPT-2 checkpoints do."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        return functional.linear(x.to(self.weight.dtype), self.weight.t(), self.bias)


class ModulatedNorm(nn.LayerNorm):
    """LayerNorm in float32, then x (1 + scale) + shift."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=LAYER_NORM_EPS)

    def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """`x` `[B, W, D]`, `shift` and `scale` `[B or 1, 1, D]`; all float32."""
        normed = functional.layer_norm(
            x, self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
        )
        return torch.addcmul(shift, normed, 1 + scale)


def attend(q: Tensor, k: Tensor, v: Tensor, *, multiple: int) -> Tensor:
    """Attention of all positions to all, `[B, H, W, E]` each.

    Args:
        multiple: E is filled up with zeros to a multiple of this, which changes nothing. The fused kernels of
            a GPU need one of 8; without them the whole `[W, W]` matrix of every head would be written out.
    """
    head_dim = q.shape[-1]
    missing = -head_dim % multiple
    if not missing:
        return functional.scaled_dot_product_attention(q, k, v)
    q, k, v = (functional.pad(heads, (0, missing)) for heads in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, scale=head_dim**-0.5)[..., :head_dim]


class FlowAttention(nn.Module):
    """Bidirectional self-attention with rotary positions."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.c_attn = TransposedLinear(config.width, 3 * config.width)
        self.c_proj = TransposedLinear(config.width, config.width)

    def forward(self, x_BWD: Tensor, rope: Tensor) -> Tensor:
        """`rope` is a `rotary_table` of at least W positions."""
        qkv: Tensor = self.c_attn(x_BWD).unflatten(-1, (3, self.num_heads, -1))
        pairs = torch.view_as_complex(qkv[:, :, :2].float().unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * rope[: x_BWD.shape[1], None, None]).flatten(-2).to(qkv.dtype)
        q, k = turned.transpose(1, 3).unbind(2)
        heads = attend(q, k, qkv[:, :, 2].transpose(1, 2), multiple=8 if q.is_cuda else 1)
        return self.c_proj(heads.transpose(1, 2).flatten(2))


class FlowFeedForward(nn.Module):
    """Two layers with the tanh form of GELU between them."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.c_fc = TransposedLinear(config.width, config.inner_dim)
        self.c_proj = TransposedLinear(config.inner_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        return self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))


class FlowBlock(nn.Module):
    """Attention and feed-forward, each normalised, modulated and gated by the time."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, config.width) / math.sqrt(config.width))
        self.ln_1 = ModulatedNorm(config.width)
        self.attn = FlowAttention(config)
        self.ln_2 = ModulatedNorm(config.width)
        self.mlp = FlowFeedForward(config)

    def forward(self, h_BWD: Tensor, modulation_B6D: Tensor, rope: Tensor) -> Tensor:
        """`h_BWD` and `modulation_B6D` (B or 1 rows) are float32, so is the result."""
        table = (self.scale_shift_table.float() + modulation_B6D).unsqueeze(2)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = table.unbind(1)
        h_BWD = torch.addcmul(
            h_BWD, gate_a, self.attn(self.ln_1.modulate(h_BWD, shift_a, scale_a), rope).float()
        )
        return torch.addcmul(h_BWD, gate_m, self.mlp(self.ln_2.modulate(h_BWD, shift_m, scale_m)).float())


class TimestepEmbedder(nn.Module):
    """Sinusoids to the model's width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(NUM_SINUSOIDS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, time_B: Tensor) -> Tensor:
        """`[B]` to `[B, D]`, in the weights' dtype."""
        embedded: Tensor = self.linear_1(sinusoids(time_B).to(self.linear_1.weight.dtype))
        return self.linear_2(functional.silu(embedded))


class AdaLayerNormSingle(nn.Module):
    """The time's embedding, and the six modulations that all blocks share (each block adds its own table)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TimestepEmbedder(width)})
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, time_B: Tensor) -> tuple[Tensor, Tensor]:
        """`[B]` to the modulations `[B, 6 D]` and the embedding `[B, D]`, both in the weights' dtype."""
        embedded_BD = self.emb["timestep_embedder"](time_B)
        return self.linear(functional.silu(embedded_BD)), embedded_BD


class FlowEstimator(nn.Module):
    """Frames and a time to velocities of the same width."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.config = config
        self.scale_shift_table = nn.Parameter(torch.randn(2, config.width) / math.sqrt(config.width))
        self.wpe = nn.Embedding(config.num_positions, config.width)
        self.h = nn.ModuleList(FlowBlock(config) for _ in range(config.num_layers))
        self.ln_f = ModulatedNorm(config.width)
        self.proj_out = nn.Linear(config.width, config.width)
        self.adaln_single = AdaLayerNormSingle(config.width)

    def convert_products_(self, dtype: torch.dtype) -> None:
        """Let the blocks' matrix products, nearly all of the work, run in `dtype` from now on.

        What is small and acts on every channel stays float32: norms, tables, the time's embedding, the last
        projection.
        """
        for module in self.h.modules():
            if isinstance(module, TransposedLinear):
                module.to(dtype)

    def rotary_table(self, num_frames: int) -> Tensor:
        """The rotary angles of `num_frames` positions, on the weights' device; the same for every call."""
        return rotary_table(num_frames, self.config.head_dim, self.wpe.weight.device)

    def forward(
        self, x_BWD: Tensor, time_B: Tensor, *, rope: Tensor | None = None, num_outputs: int | None = None
    ) -> Tensor:
        """Velocities `[B, W, D]` float32, or only their last `num_outputs` channels.

        Args:
            x_BWD: float32, W <= num_positions.
            time_B: 0 ... 1, of B rows, or of one row for all.
            rope: `rotary_table` of at least W positions, if the caller has it.
            num_outputs: 1 ... D.
        """
        num_frames = x_BWD.shape[1]
        rope = self.rotary_table(num_frames) if rope is None else rope
        modulation, embedded_BD = self.adaln_single(time_B)
        modulation_B6D = modulation.float().unflatten(-1, (6, -1))
        h_BWD = x_BWD.float() + self.wpe.weight[:num_frames].float()
        for block in self.h:
            h_BWD = block(h_BWD, modulation_B6D, rope)
        shift, scale = (
            (self.scale_shift_table.float() + embedded_BD.float().unsqueeze(1)).unsqueeze(2).unbind(1)
        )
        h_BWD = self.ln_f.modulate(h_BWD, shift, scale)
        first = 0 if num_outputs is None else self.config.width - num_outputs
        weight, bias = self.proj_out.weight[first:], self.proj_out.bias[first:]
        return functional.linear(h_BWD.to(weight.dtype), weight, bias).float()
