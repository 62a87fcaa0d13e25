"""Weights in 8 and 16 bits on disk: a table of tensors to what a small file holds, and back.

A matrix `name` of floats is stored as int8 `name` and float32 `name.scale`, one scale a row of its first
axis: the row's largest magnitude is 127. Other floats are float16. Reading gives float32 matrices; knows no
files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

SCALE = ".scale"
LARGEST = 127
LEAST_ROW = 16
"""Shorter rows stay float16: their scale would weigh as much as they do."""

HALF_LARGEST = 65504.0
WeightFormat = Literal["int8", "fp16", "fp32"]


def pack(
    tensors: Mapping[str, Tensor],
    weights: WeightFormat = "int8",
    *,
    is_exact: Callable[[str], bool] = lambda name: False,
    is_half: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """Tensors as a file shall hold them.

    Args:
        weights: `int8` as described above; `fp16` for all floats in 16 bits; `fp32` for all as they are.
        is_exact: names that stay as they are.
        is_half: names of matrices that are float16, not int8.

    Raises:
        ValueError: a tensor is called like a scale, or a float is not finite.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            raise ValueError(f"tensor {name} ends in {SCALE}, which names the scales of 8-bit weights")
        if not tensor.is_floating_point() or weights == "fp32" or is_exact(name):
            packed[name] = tensor
            continue
        if not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name} holds numbers that are not finite")
        if weights == "int8" and _has_long_rows(tensor) and not is_half(name):
            packed[name], packed[name + SCALE] = to_int8(tensor)
        else:
            fits = not tensor.numel() or float(tensor.abs().max()) <= HALF_LARGEST
            packed[name] = tensor.half() if fits else tensor
    return packed


def to_int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A float tensor of at least two axes as int8, and its scales, float32 `[rows]`."""
    rows = tensor.float().flatten(1)
    scales = rows.abs().amax(dim=1) / LARGEST
    steps = (rows / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
    return steps.clamp(-LARGEST, LARGEST).to(torch.int8).view(tensor.shape), scales


def from_int8(tensor: Tensor, scales: Tensor) -> Tensor:
    """The float32 tensor of `to_int8`, within half a step."""
    return tensor.float() * scales.float().view(-1, *[1] * (tensor.ndim - 1))


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `pack`, matrices in float32 again; a table without int8 is returned as it is.

    Raises:
        ValueError: an int8 tensor without scales, scales without their tensor, or of another length.
    """
    packed = [name for name, tensor in tensors.items() if tensor.dtype == torch.int8]
    scales = scales_among(tensors, packed)
    unpacked: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        if tensor.dtype != torch.int8:
            unpacked[name] = tensor
            continue
        scale = tensors[name + SCALE]
        if tensor.ndim < 2 or scale.shape != tensor.shape[:1] or not scale.is_floating_point():
            raise ValueError(
                f"{name}{SCALE} is {scale.dtype} {list(scale.shape)}; the 8-bit weights {list(tensor.shape)} "
                "need a float for each of their rows"
            )
        unpacked[name] = from_int8(tensor, scale)
    return unpacked


def scales_among(names: Collection[str], packed: Collection[str]) -> set[str]:
    """The names of scales in a file that holds the int8 tensors `packed`; none in a file without any.

    Raises:
        ValueError: as `unpack`.
    """
    if not packed:
        return set()
    scales = {name for name in names if name.endswith(SCALE)}
    wanted = {name + SCALE for name in packed}
    if wanted - scales:
        name = min(wanted - scales)
        raise ValueError(f"the 8-bit weights {name.removesuffix(SCALE)} have no scales: {name} is missing")
    if scales - wanted:
        name = min(scales - wanted)
        raise ValueError(f"{name} is a scale without 8-bit weights: {name.removesuffix(SCALE)} is none")
    return scales


def _has_long_rows(tensor: Tensor) -> bool:
    return tensor.ndim >= 2 and tensor[0].numel() >= LEAST_ROW
