"""Normal noise that follows from a song's seed alone, wherever and beside whatever it is computed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seeded_normal(seed: int, label: str, *shape: int) -> Tensor:
    """Standard normal numbers of a shape, float32 on the CPU, that follow from the seed and the label."""
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(*shape, generator=generator)
