"""The static key/value cache of a stack of decoder layers, in the compute dtype or in 8 bits.

Allocated once; rows are written in place and never moved. In 8 bits each head vector (row, head, position)
has its own float32 scale, symmetric: x is about `scale * q`, q in -127 ... 127. Knows nothing of what the
rows mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

INT8_LEVELS = 127
SMALLEST_SCALE = 1e-8
"""Of a head vector that is all zeros."""


def bytes_per_position(num_heads: int, head_dim: int, dtype: torch.dtype, *, is_int8: bool = False) -> int:
    """Bytes that one layer keeps of one position of one row: key and value."""
    per_head = head_dim + torch.float32.itemsize if is_int8 else head_dim * dtype.itemsize
    return 2 * num_heads * per_head


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Head vectors `[..., E]` as int8 of the same shape, and their scales `[...]` in float32."""
    x32 = x.float()
    scale = x32.abs().amax(-1).clamp(min=SMALLEST_SCALE) / INT8_LEVELS
    return torch.floor(x32 / scale.unsqueeze(-1) + 0.5).to(torch.int8), scale


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps, views of the whole cache.

    Args:
        keys, values: `[B, H, S, E]`, keys rotated; int8 if there are scales.
        key_scales, value_scales: `[B, H, S]` float32, or None.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def append_(self, positions_B: Tensor, k_BHE: Tensor, v_BHE: Tensor) -> None:
        """Write one position per row, each row at its own position."""
        rows = torch.arange(self.keys.shape[0], device=self.keys.device)
        if self.key_scales is not None and self.value_scales is not None:
            k_BHE, self.key_scales[rows, :, positions_B] = quantize(k_BHE)
            v_BHE, self.value_scales[rows, :, positions_B] = quantize(v_BHE)
        self.keys[rows, :, positions_B] = k_BHE
        self.values[rows, :, positions_B] = v_BHE

    def write_(self, first_row: int, start: int, k_BHSE: Tensor, v_BHSE: Tensor) -> None:
        """Write S positions from `start` on into the rows from `first_row` on."""
        rows = slice(first_row, first_row + k_BHSE.shape[0])
        places = slice(start, start + k_BHSE.shape[2])
        if self.key_scales is not None and self.value_scales is not None:
            k_BHSE, self.key_scales[rows, :, places] = quantize(k_BHSE)
            v_BHSE, self.value_scales[rows, :, places] = quantize(v_BHSE)
        self.keys[rows, :, places] = k_BHSE
        self.values[rows, :, places] = v_BHSE

    def read(self, rows: slice, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of some rows' first `length` positions, `[B, H, length, E]` each.

        Views, or of an 8-bit cache copies in `dtype`.
        """
        k_BHSE, v_BHSE = self.keys[rows, :, :length], self.values[rows, :, :length]
        if self.key_scales is None or self.value_scales is None:
            return k_BHSE, v_BHSE
        k_scale, v_scale = self.key_scales[rows, :, :length, None], self.value_scales[rows, :, :length, None]
        return (k_BHSE.float() * k_scale).to(dtype), (v_BHSE.float() * v_scale).to(dtype)


class KVCache:
    """Keys (rotated) and values of all layers, two tensors `[layers, B, H, S, E]`.

    Args:
        num_layers, num_rows, num_heads, head_dim: layers, B, H, E.
        capacity: positions S that a row can hold.
        dtype: of keys and values, unless `is_int8`.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_rows: int,
        num_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        is_int8: bool = False,
    ) -> None:
        shape = (num_layers, num_rows, num_heads, capacity, head_dim)
        self.is_int8 = is_int8
        stored = torch.int8 if is_int8 else dtype
        self.keys = torch.zeros(shape, dtype=stored, device=device)
        self.values = torch.zeros(shape, dtype=stored, device=device)
        self.key_scales = torch.zeros(shape[:-1], device=device) if is_int8 else None
        self.value_scales = torch.zeros(shape[:-1], device=device) if is_int8 else None
        self.layers = tuple(self._layer(index) for index in range(num_layers))

    def _layer(self, index: int) -> LayerCache:
        if self.key_scales is None or self.value_scales is None:
            return LayerCache(self.keys[index], self.values[index])
        return LayerCache(
            self.keys[index], self.values[index], self.key_scales[index], self.value_scales[index]
        )

    @property
    def capacity(self) -> int:
        """Positions that a row can hold."""
        return self.keys.shape[3]

    def copy_row_(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row to another."""
        for tensor in (self.keys, self.values, self.key_scales, self.value_scales):
            if tensor is not None:
                tensor[:, target, :, :length] = tensor[:, source, :, :length]
