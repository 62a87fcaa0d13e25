"""The test signals that recorded cases describe by a formula instead of storing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

GATE_STEPS = 23
NUM_CHANNELS = 2


def _hash_noise(num_samples: int, channel: int, seed: int) -> npt.NDArray[np.float64]:
    """White noise in -1 ... 1 from a 32-bit hash of sample index and channel."""
    mask = np.uint64(0xFFFFFFFF)
    index = np.arange(num_samples, dtype=np.uint64)
    value = (index * np.uint64(2654435761) + np.uint64(channel * 40503 + seed)) & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        value = ((value ^ (value >> np.uint64(shift))) * np.uint64(factor)) & mask
    value ^= value >> np.uint64(16)
    return value.astype(np.float64) / 2.0**31 - 1.0


def signal(description: Mapping[str, Any]) -> Tensor:
    """Evaluate a recorded signal.

    Args:
        description: the fields of the formula: seconds, sr, gain, f, a, ph, fm, gate, gate_hz, noise,
            noise_seed.

    Returns:
        `[2, N]` float32 on the int16 grid (multiples of 1 / 32768).
    """
    num_samples = round(description["seconds"] * description["sr"])
    time = np.arange(num_samples, dtype=np.float64) / description["sr"]
    step = np.floor(time * description["gate_hz"]).astype(np.int64) % GATE_STEPS
    rows = []
    for channel in range(NUM_CHANNELS):
        amplitudes = description["a"][channel]
        total = np.zeros(num_samples)
        for index, frequency in enumerate(description["f"]):
            gate = np.asarray(description["gate"][index], dtype=np.float64)[step] / 3.0
            tone = np.sin(2 * np.pi * frequency * time + description["ph"][channel][index])
            tremolo = 0.55 + 0.45 * np.sin(2 * np.pi * description["fm"][index] * time + channel)
            total += amplitudes[index] * gate * tone * tremolo
        noise = description["noise"] * _hash_noise(num_samples, channel, description["noise_seed"])
        rows.append(description["gain"] * 2.0 * total / sum(amplitudes) + noise)
    pcm = np.clip(np.rint(32767.0 * np.stack(rows)), -32768, 32767)
    return torch.from_numpy((pcm / 32768.0).astype(np.float32))
