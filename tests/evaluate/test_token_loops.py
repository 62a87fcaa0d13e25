"""Entropy and loops of token sequences that were made for it."""

from __future__ import annotations

import numpy as np
import pytest

from songgen.evaluate.tokens import Loops, entropy_bits, find_loops


def fresh(count: int, start: int = 0) -> np.ndarray:
    """Tokens that never repeat."""
    return np.arange(start, start + count)


def test_entropy_of_equal_constant_and_uneven_tokens() -> None:
    assert entropy_bits(np.tile(np.arange(16), 10)) == pytest.approx(4.0)
    assert entropy_bits(np.full(100, 7)) == 0.0
    assert entropy_bits(np.array([0, 0, 0, 1])) == pytest.approx(0.811278, abs=1e-6)


def test_a_loop_has_its_place_length_and_period() -> None:
    song = np.concatenate([fresh(100), np.tile(fresh(10, 1000), 6), fresh(40, 2000)])
    assert find_loops(song, 25.0) == Loops(covered=60, longest=60, period=10)


def test_a_stuck_token_is_a_loop_of_period_one_from_one_second_on() -> None:
    assert find_loops(np.concatenate([fresh(50), np.full(25, 999), fresh(50, 3000)]), 25.0) == Loops(
        25, 25, 1
    )
    assert find_loops(np.concatenate([fresh(50), np.full(24, 999), fresh(50, 3000)]), 25.0) == Loops(0, 0, 0)


def test_a_chorus_that_returns_later_is_no_loop_and_two_in_a_row_are_one() -> None:
    chorus = fresh(100)
    assert find_loops(np.concatenate([chorus, fresh(50, 500), chorus]), 25.0) == Loops(0, 0, 0)
    assert find_loops(np.concatenate([chorus, chorus]), 25.0) == Loops(200, 200, 100)
    long = fresh(251)  # over 10 s
    assert find_loops(np.concatenate([long, long, long]), 25.0) == Loops(0, 0, 0)


def test_random_tokens_and_a_single_frame_have_no_loops() -> None:
    assert find_loops(np.random.default_rng(0).integers(0, 16384, 6000), 25.0).covered == 0
    assert find_loops(np.array([5]), 25.0) == Loops(0, 0, 0)
