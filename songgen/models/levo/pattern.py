"""The delay pattern: how K rows of codes are written as one sequence of columns (MusicGen, arXiv:2306.05284).

Column 0 is SPECIAL in every row. Column s >= 1 of row k holds frame t = s - 1 - delay_k while 0 <= t < T,
else SPECIAL. A sequence has 1 + T + max(delays) columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sequence_length(num_frames: int, delays: Sequence[int]) -> int:
    """Columns of a song of T frames, S."""
    return 1 + num_frames + max(delays)


def frame_mask(num_frames: int, delays: Sequence[int]) -> Tensor:
    """Where a sequence holds frames: bool `[K, S]`."""
    columns_S = torch.arange(sequence_length(num_frames, delays))
    frames_KS = columns_S - 1 - torch.tensor(delays)[:, None]
    return (frames_KS >= 0) & (frames_KS < num_frames)


def to_sequence(codes_KT: Tensor, delays: Sequence[int], special: int) -> Tensor:
    """Write codes as delayed columns: `[K, S]`."""
    num_frames = codes_KT.shape[1]
    sequence_KS = torch.full(
        (len(delays), sequence_length(num_frames, delays)), special, dtype=codes_KT.dtype
    )
    for row, delay in enumerate(delays):
        sequence_KS[row, 1 + delay : 1 + delay + num_frames] = codes_KT[row]
    return sequence_KS


def from_sequence(sequence_KS: Tensor, delays: Sequence[int]) -> Tensor:
    """Read the frames of a sequence back: `[K, T]`."""
    num_frames = sequence_KS.shape[1] - 1 - max(delays)
    return torch.stack(
        [row[1 + delay :][:num_frames] for row, delay in zip(sequence_KS, delays, strict=True)]
    )


def trim(codes_KT: Tensor, eos: int) -> tuple[Tensor, bool]:
    """Cut all rows at the earliest EOS of any row, as published.

    Returns:
        The codes before it, and whether there was one.
    """
    ends = (codes_KT == eos).any(0).nonzero()
    if ends.numel() == 0:
        return codes_KT, False
    return codes_KT[:, : int(ends[0])], True
