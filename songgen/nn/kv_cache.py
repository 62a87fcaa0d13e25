"""The static key/value cache of a stack of decoder layers.

Allocated once; rows are written in place and never moved. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys (rotated) and values of all layers, two tensors `[layers, B, H, S, E]`.

    Args:
        num_layers, num_rows, num_heads, head_dim: layers, B, H, E.
        capacity: positions S that a row can hold.
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
    ) -> None:
        shape = (num_layers, num_rows, num_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._rows = torch.arange(num_rows, device=device)

    @property
    def capacity(self) -> int:
        """Positions that a row can hold."""
        return self.keys.shape[3]

    def write_prompt_(self, layer: int, first_row: int, k_BHSE: Tensor, v_BHSE: Tensor) -> None:
        """Write S positions from position 0 into the rows from `first_row` on."""
        rows = slice(first_row, first_row + k_BHSE.shape[0])
        self.keys[layer, rows, :, : k_BHSE.shape[2]] = k_BHSE
        self.values[layer, rows, :, : v_BHSE.shape[2]] = v_BHSE

    def append_(self, layer: int, positions_B: Tensor, k_BHE: Tensor, v_BHE: Tensor) -> None:
        """Write one position per row, each row at its own position."""
        self.keys[layer][self._rows, :, positions_B] = k_BHE
        self.values[layer][self._rows, :, positions_B] = v_BHE

    def read(self, layer: int, window: int) -> tuple[Tensor, Tensor]:
        """Views of the first `window` positions of all rows, `[B, H, W, E]` each."""
        return self.keys[layer, :, :, :window], self.values[layer, :, :, :window]
