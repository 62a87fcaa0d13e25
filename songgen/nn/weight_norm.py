"""Convolutions with weight normalisation, W = g * v / |v| (Salimans and Kingma 2016, arXiv:1602.07868).

Parameters keep their published names `weight_g` and `weight_v`, so that state dicts load strictly. After
loading, `fuse_weight_norm_` replaces the pair by the plain weight, so that inference does not compute the
norm again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class WeightNorm(nn.Module):
    """A weight held as `weight_g` `[shape[0], 1, 1]` and `weight_v` `shape`, or, once fused, as `weight`.

    The norm is over all axes but the first: per output channel of a convolution, per input channel of a
        transposed one.
    """

    weight_g: nn.Parameter | None
    weight_v: nn.Parameter | None
    weight: nn.Parameter | None

    def __init__(self, shape: tuple[int, int, int], num_outputs: int, bias: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(shape[0] * shape[1] * shape[2] / num_outputs)
        v = torch.empty(shape).uniform_(-bound, bound)
        self.weight_g = nn.Parameter(v.norm(dim=(1, 2), keepdim=True))
        self.weight_v = nn.Parameter(v)
        self.register_parameter("weight", None)
        self.bias = nn.Parameter(torch.zeros(num_outputs)) if bias else None

    def effective_weight(self) -> Tensor:
        """The weight that the convolution uses."""
        if self.weight is not None:
            return self.weight
        assert self.weight_g is not None and self.weight_v is not None
        return self.weight_v * (self.weight_g / self.weight_v.norm(dim=(1, 2), keepdim=True))

    def fuse_(self) -> None:
        """Replace g and v by the plain weight, which the state dict then has; a second call does nothing."""
        if self.weight is None:
            with torch.no_grad():
                fused = self.effective_weight()
            self.weight_g = None
            self.weight_v = None
            self.weight = nn.Parameter(fused, requires_grad=False)


class WeightNormConv1d(WeightNorm):
    """`[B, in, N]` to `[B, out, N']`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__((out_channels, in_channels, kernel_size), out_channels, bias)
        self.stride, self.padding, self.dilation = stride, padding, dilation

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the last axis."""
        weight = self.effective_weight()
        return functional.conv1d(x, weight, self.bias, self.stride, self.padding, self.dilation)


class WeightNormConvTranspose1d(WeightNorm):
    """`[B, in, N]` to `[B, out, (N - 1) * stride - 2 * padding + kernel_size]`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__((in_channels, out_channels, kernel_size), out_channels, bias=True)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the last axis, upsampling by the stride."""
        weight = self.effective_weight()
        return functional.conv_transpose1d(x, weight, self.bias, self.stride, self.padding)


def fuse_weight_norm_(module: nn.Module) -> None:
    """Fuse every weight-normalised convolution under `module`; call it once, after loading."""
    for child in module.modules():
        if isinstance(child, WeightNorm):
            child.fuse_()
