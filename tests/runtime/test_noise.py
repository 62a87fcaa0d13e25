"""Noise from a seed and a label."""

from __future__ import annotations

import torch

from songgen.runtime.noise import seeded_normal


def test_noise_follows_from_seed_and_label_alone() -> None:
    first = seeded_normal(3, "block/0", 16, 8)
    torch.rand(5)  # the global generator has no part in it
    assert torch.equal(first, seeded_normal(3, "block/0", 16, 8))
    assert not torch.equal(first, seeded_normal(3, "block/1", 16, 8))
    assert not torch.equal(first, seeded_normal(4, "block/0", 16, 8))
    assert first.shape == (16, 8) and first.dtype == torch.float32
