"""Dynamic time warping: known paths through noise and silence, and the best of all paths on small maps."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from songgen.models.levo.warping import smooth, starts_of, warp


def planted(
    frames: list[int], num_tokens: int, *, noise: float = 0.0, silent: slice | None = None
) -> np.ndarray:
    """A map of ones on a path, with noise; nothing in the silence."""
    random = np.random.default_rng(3)
    scores = np.zeros((len(frames), num_tokens), np.float32)
    scores[np.arange(len(frames)), frames] = 1
    if silent is not None:
        scores[silent] = 0
    return (scores + noise * random.standard_normal(scores.shape)).astype(np.float32)


PATH = [0] * 5 + [1] * 9 + [2] * 3 + [4] * 8 + [5] * 20


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_known_path_is_found(noise: float) -> None:
    assert warp(planted(PATH, 6, noise=noise), ends_at_last=True).tolist() == PATH


def test_silence_between_does_not_move_what_is_around_it() -> None:
    path = warp(planted(PATH, 6, silent=slice(10, 16)), ends_at_last=True)
    assert path[:10].tolist() == PATH[:10] and path[16:].tolist() == PATH[16:]
    assert (np.diff(path) >= 0).all()


@pytest.mark.parametrize("ends_at_last", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_path_is_better(seed: int, ends_at_last: bool) -> None:
    scores = np.random.default_rng(seed).standard_normal((6, 4)).astype(np.float32)
    paths = [
        (0, *rest)
        for rest in itertools.combinations_with_replacement(range(4), 5)
        if rest[-1] == 3 or not ends_at_last
    ]
    best = max(paths, key=lambda path: sum(scores[frame, token] for frame, token in enumerate(path)))
    assert tuple(warp(scores, ends_at_last=ends_at_last)) == best


def test_a_song_that_was_cut_need_not_come_to_the_end() -> None:
    scores = planted([0, 0, 1, 1], 3)
    assert warp(scores, ends_at_last=False).tolist() == [0, 0, 1, 1]
    assert warp(scores, ends_at_last=True).tolist() == [0, 0, 1, 2]
    assert starts_of(np.array([0, 0, 1, 1]), 3).tolist() == [0, 2, 4]
    assert starts_of(np.array([0, 2, 2]), 3).tolist() == [0, 1, 1]


def test_one_frame_or_one_token() -> None:
    assert warp(np.ones((1, 4), np.float32), ends_at_last=True).tolist() == [0]
    assert warp(np.ones((4, 1), np.float32), ends_at_last=True).tolist() == [0] * 4


def test_a_long_song_takes_no_time() -> None:
    scores = np.random.default_rng(0).standard_normal((6750, 300)).astype(np.float32)
    start = time.process_time()
    warp(scores, ends_at_last=True)
    assert time.process_time() - start < 3


def test_smoothing_removes_single_peaks_and_keeps_steps() -> None:
    scores = np.array([0, 0, 9, 0, 0, 1, 1, 1, 1], np.float32)[:, None]
    assert smooth(scores, 5)[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert smooth(scores, 1)[:, 0].tolist() == scores[:, 0].tolist()
