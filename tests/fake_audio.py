"""Audio to test with."""

from __future__ import annotations

import numpy as np


def music(seconds: float, rate: int = 48000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Two tones and a little noise, `[C, N]`."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    rows = [
        0.3 * np.sin(2 * np.pi * (220 + 60 * seed + 40 * c) * time) * np.cos(3 * time)
        for c in range(channels)
    ]
    return (np.stack(rows) + 0.01 * rng.standard_normal((channels, len(time)))).astype(np.float32)
