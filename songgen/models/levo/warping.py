"""Dynamic time warping of frames to the tokens of a text: a monotone path through a map of scores.

Knows nothing of where scores come from. Frames here are those of the map, which may be pooled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def warp(scores_TL: Floats, *, ends_at_last: bool) -> NDArray[np.int64]:
    """For each frame the token that it belongs to, so that the sum of scores is largest.

    The path begins at token 0 and never goes back; each frame has one token, tokens may be passed over. This
    is dynamic time warping (Sakoe and Chiba 1978) with steps (1, n), n >= 0: D[t, l] = score[t, l] + max over
    l' <= l of D[t - 1, l'].

    Args:
        scores_TL: T >= 1 frames, L >= 1 tokens.
        ends_at_last: whether the path must end at the last token, or may end anywhere.

    Returns:
        int64 `[T]`, not decreasing.
    """
    num_frames, num_tokens = scores_TL.shape
    from_TL = np.zeros((num_frames, num_tokens), dtype=np.int64)
    total_L = np.full(num_tokens, -np.inf)
    total_L[0] = scores_TL[0, 0]
    places_L = np.arange(num_tokens)
    for frame in range(1, num_frames):
        best_L = np.maximum.accumulate(total_L)
        is_new_L = np.concatenate([[True], total_L[1:] > best_L[:-1]])
        from_TL[frame] = np.maximum.accumulate(np.where(is_new_L, places_L, 0))
        total_L = best_L + scores_TL[frame]
    path_T = np.zeros(num_frames, dtype=np.int64)
    path_T[-1] = num_tokens - 1 if ends_at_last and num_frames > 1 else int(total_L.argmax())
    for frame in range(num_frames - 1, 0, -1):
        path_T[frame - 1] = from_TL[frame, path_T[frame]]
    return path_T


def starts_of(path_T: NDArray[np.int64], num_tokens: int) -> NDArray[np.int64]:
    """For each token the first frame at or behind it, `[L]`; T for those that the path does not come to."""
    return np.searchsorted(path_T, np.arange(num_tokens), side="left")


def smooth(scores_TL: Floats, width: int) -> Floats:
    """The median over `width` frames, an odd number; the ends are continued."""
    half = width // 2
    padded = np.pad(scores_TL, ((half, half), (0, 0)), mode="edge")
    windows_TLW = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)
    return np.median(windows_TLW, axis=-1).astype(np.float32)
