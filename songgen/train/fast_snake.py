"""The snake activation for training: one fused pass forward, one backward, instead of ten.

Same function as `songgen.nn.oobleck.SnakeBeta`, with the sine as a polynomial (error below 1e-7) and the
gradients written out. Fused by `torch.compile` where there is a C++ compiler; plain PyTorch elsewhere.
"""

from __future__ import annotations

import functools
import math
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SQUARED_SINE = (9.86960286, -32.46957832, 42.72533823, -30.08560427, 12.98952075, -3.27136675)
"""sin^2(pi w) over w^2, for |w| <= 1/2: least squares at Chebyshev points, error 6e-9; powers of w^2."""
DOUBLE_SINE = (6.28318527, -41.34169704, 81.6050236, -76.70153711, 42.01607168, -14.86830851, 3.19931986)
"""sin(2 pi w) over w, likewise, error 1e-9."""


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def snake_forward(x_MC: Tensor, turns_C: Tensor, height_C: Tensor) -> Tensor:
    """x + height sin^2(pi turns x), in the dtype of x."""
    x = x_MC.float()
    angle = x * turns_C
    angle = angle - torch.round(angle)
    square = angle * angle
    return (x + height_C * (square * _polynomial(square, SQUARED_SINE))).to(x_MC.dtype)


def snake_backward(
    grad_MC: Tensor, x_MC: Tensor, turns_C: Tensor, height_C: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `snake_forward` for x, turns and height."""
    x, grad = x_MC.float(), grad_MC.float()
    angle = x * turns_C
    angle = angle - torch.round(angle)
    square = angle * angle
    sine = grad * (angle * _polynomial(square, DOUBLE_SINE))
    grad_x = grad + sine * (math.pi * height_C * turns_C)
    grad_turns = (sine * x).sum(0) * (math.pi * height_C)
    grad_height = (grad * (square * _polynomial(square, SQUARED_SINE))).sum(0)
    return grad_x.to(x_MC.dtype), grad_turns, grad_height


def can_compile() -> bool:
    """Whether there are a C++ compiler and the headers of Python, which `torch.compile` needs."""
    has_compiler = any(shutil.which(name) for name in ("g++", "clang++"))
    return has_compiler and (Path(sysconfig.get_path("include")) / "Python.h").is_file()


@functools.cache
def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled for any sizes, or as it is where that cannot be."""
    if not can_compile():
        return function
    compiled: Callable[..., Any] = torch.compile(function, dynamic=True)
    return compiled


def _flat(x_BNC: Tensor) -> Tensor:
    """`[B N, C]`, not a view of anything: the compiler would treat each kind of view as another function."""
    shape = (x_BNC.shape[0] * x_BNC.shape[1], x_BNC.shape[2])
    plain = torch.empty(0, dtype=x_BNC.dtype, device=x_BNC.device)
    return plain.set_(x_BNC.untyped_storage(), x_BNC.storage_offset(), shape, (shape[1], 1))


class Snake(torch.autograd.Function):
    """`[B, C, N]` whose memory is `[B, N, C]`, `turns` and `height` `[C]` float32, to the same layout."""

    @staticmethod
    def forward(ctx: Any, x_BCN: Tensor, turns_C: Tensor, height_C: Tensor) -> Tensor:
        """Keeps its inputs, nothing else."""
        x_BNC = x_BCN.transpose(1, 2).contiguous()
        ctx.save_for_backward(x_BNC, turns_C, height_C)
        flat = fused(snake_forward)(_flat(x_BNC), turns_C, height_C)
        return flat.view(x_BNC.shape).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_BCN: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Written out above."""
        x_BNC, turns_C, height_C = ctx.saved_tensors
        grad_BNC = grad_BCN.transpose(1, 2).contiguous()
        flat, grad_turns, grad_height = fused(snake_backward)(
            _flat(grad_BNC), _flat(x_BNC), turns_C, height_C
        )
        return flat.view(x_BNC.shape).transpose(1, 2), grad_turns, grad_height


def snake(x_BCN: Tensor, alpha_C: Tensor, beta_C: Tensor) -> Tensor:
    """x + sin^2(e^alpha x) / (e^beta + 1e-9) per channel, in the dtype of x."""
    with torch.autocast(x_BCN.device.type, enabled=False):
        turns_C = alpha_C.float().exp() / math.pi
        height_C = 1 / (beta_C.float().exp() + 1e-9)
        result: Tensor = Snake.apply(x_BCN, turns_C, height_C)  # type: ignore[no-untyped-call]
    return result
