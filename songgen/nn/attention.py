"""Causal attention over a static key/value cache: one function for a prompt, one for a decoding step.

Knows nothing of models. Every row of a batch is independent: a row's result does not change, not by one bit
on the CPU in float32, with the rows beside it or with the window that is read, so that a song does not depend
on its neighbours. `F.scaled_dot_product_attention` does not keep that promise for one query position (its
blocking depends on the window and on the number of threads), and is no faster there.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor
from torch.nn import functional

WINDOW_STEP = 64
"""Decoding reads the cache in windows of a multiple of this many positions; unwritten ones are masked."""


PACKAGES = {"flash": "flash_attn", "triton": "triton"}
"""The package that a backend needs, besides CUDA; `sdpa` is PyTorch's own and runs everywhere."""


def backends(device: torch.device) -> dict[str, str | None]:
    """Every attention backend by name, the fastest first: None if it can run on a device, else why not."""
    found: dict[str, str | None] = {}
    for name, package in PACKAGES.items():
        if device.type != "cuda":
            found[name] = f"it needs a CUDA GPU, and this is {device.type}"
        elif importlib.util.find_spec(package) is None:
            found[name] = f"the package {package} is not installed"
        else:
            found[name] = None
    return {**found, "sdpa": None}


def window_of(length: int, capacity: int) -> int:
    """The number of cache positions to read so that `length` positions are seen."""
    return min(-(-length // WINDOW_STEP) * WINDOW_STEP, capacity)


def attend_prompt(q_BHSE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor) -> Tensor:
    """Causal attention of S positions among themselves, from position 0; returns `[B, H, S, E]`."""
    return functional.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, is_causal=True)


def attend_step(q_BHE: Tensor, k_BHWE: Tensor, v_BHWE: Tensor, lengths_B: Tensor) -> Tensor:
    """Attention of one new position per row over the first `lengths_B` positions of a window of the cache.

    Softmax in float32, weights cast back to the dtype of the values, as published.

    Args:
        q_BHE: queries, rotated.
        k_BHWE, v_BHWE: the window of the cache, W >= lengths_B.
        lengths_B: int64, positions written, the new one included.

    Returns:
        `[B, H, E]`.
    """
    scores_BHW = (
        torch.matmul(q_BHE.unsqueeze(2), k_BHWE.transpose(2, 3)).squeeze(2).float() * q_BHE.shape[-1] ** -0.5
    )
    positions_W = torch.arange(k_BHWE.shape[2], device=lengths_B.device)
    unwritten_BW = positions_W >= lengths_B[:, None]
    weights_BHW = scores_BHW.masked_fill(unwritten_BW[:, None], float("-inf")).softmax(-1)
    return torch.matmul(weights_BHW.to(v_BHWE.dtype).unsqueeze(2), v_BHWE).squeeze(2)
