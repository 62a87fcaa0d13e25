"""What a decoding step computes between its matrix products: one set of functions per machine.

`step_ops` picks them: PyTorch's own operations everywhere, fused Triton kernels on a CUDA GPU, and one of
three attention backends (`attention.py`). All sets compute the same; the kernels round less often.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from songgen.nn.attention import attend_step, attend_step_flash
from songgen.nn.kv_cache import LayerCache

CPU_WINDOW_STEP = 64
GRAPH_WINDOW_STEP = 512
"""Cache positions between two windows of `sdpa`: each window is a CUDA graph of its own."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) in float32, cast back, then times the weight (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    x32 = x.float()
    normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + E/2) of the last axis (Su et al. 2021, arXiv:2104.09864)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def add_norm(
    delta_BD: Tensor, residual_BD: Tensor | None, weight_D: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Add a layer's output to the residual stream; returns its norm, and the stream.

    Args:
        residual_BD: None at the start of the stream, which `delta_BD` then is; may be overwritten.
    """
    residual_BD = delta_BD if residual_BD is None else residual_BD + delta_BD
    return rms_norm(residual_BD, weight_D, eps), residual_BD


def rotate_append(
    qkv_B3HE: Tensor, cos_BE: Tensor, sin_BE: Tensor, cache: LayerCache, positions_B: Tensor
) -> Tensor:
    """Rotate queries and keys, write keys and values to the cache; returns the queries `[B, H, E]`."""
    q_BHE, k_BHE, v_BHE = qkv_B3HE.unbind(1)
    cos_B1E, sin_B1E = cos_BE.unsqueeze(1), sin_BE.unsqueeze(1)
    cache.append_(positions_B, rotate(k_BHE, cos_B1E, sin_B1E), v_BHE)
    return rotate(q_BHE, cos_B1E, sin_B1E)


def gate(gate_up_BF: Tensor) -> Tensor:
    """silu(gate) * up of the two halves of the last axis."""
    gate_half, up_half = gate_up_BF.chunk(2, dim=-1)
    return functional.silu(gate_half) * up_half


@dataclass(frozen=True)
class StepOps:
    """The functions of a step, with the signatures of this module's.

    Args:
        attention: name of the backend.
        window_step: `attend` reads the cache in windows of a multiple of this; None if each row's own length
            decides and no window is needed.
    """

    attention: str = "sdpa"
    add_norm: Callable[[Tensor, Tensor | None, Tensor, float], tuple[Tensor, Tensor]] = add_norm
    rotate_append: Callable[[Tensor, Tensor, Tensor, LayerCache, Tensor], Tensor] = rotate_append
    attend: Callable[[Tensor, LayerCache, Tensor, int], Tensor] = attend_step
    gate: Callable[[Tensor], Tensor] = gate
    window_step: int | None = CPU_WINDOW_STEP


TORCH_OPS = StepOps()
"""PyTorch's own operations."""


def step_ops(attention: str, device: torch.device) -> StepOps:
    """The functions for a device; `attention` is `flash`, `triton` or `sdpa` (see `choose_attention`)."""
    if device.type != "cuda":
        return TORCH_OPS
    attend = {"flash": attend_step_flash, "sdpa": attend_step}
    window_step = GRAPH_WINDOW_STEP if attention == "sdpa" else None
    if importlib.util.find_spec("triton") is None:
        return StepOps(attention, attend=attend[attention], window_step=window_step)
    from songgen.nn import triton_kernels as kernels

    return StepOps(
        attention,
        kernels.add_norm,
        kernels.rotate_append,
        attend.get(attention, kernels.attend_step),
        kernels.gate,
        window_step,
    )
