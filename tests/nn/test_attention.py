"""Attention over the static cache: right, and independent of neighbours and window to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from songgen.nn.attention import WINDOW_STEP, attend_prompt, attend_step, window_of


def random_rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_step_equals_reference_attention(length: int) -> None:
    q, k, v = random_rows(3, 2, 16), random_rows(3, 2, 256, 16), random_rows(3, 2, 256, 16) + 1
    got = attend_step(q, k, v, torch.full((3,), length))
    expected = functional.scaled_dot_product_attention(q.unsqueeze(2), k[:, :, :length], v[:, :, :length])
    torch.testing.assert_close(got, expected.squeeze(2))


def test_rows_see_their_own_length_only() -> None:
    q, k, v = random_rows(2, 2, 16), random_rows(2, 2, 128, 16), random_rows(2, 2, 128, 16) + 1
    lengths = torch.tensor([5, 90])
    before = attend_step(q, k, v, lengths)
    k[0, :, 5:], v[0, :, 5:] = 1e3, 1e3
    assert torch.equal(attend_step(q, k, v, lengths), before)


@pytest.mark.parametrize("length", [3, 64, 130, 700])
def test_bits_do_not_depend_on_batch_or_window(length: int) -> None:
    q, k, v = random_rows(8, 4, 16), random_rows(8, 4, 1024, 16), random_rows(8, 4, 1024, 16) + 1
    small = window_of(length, 1024)
    alone = attend_step(q[:2], k[:2, :, :small], v[:2, :, :small], torch.full((2,), length))
    together = attend_step(q, k, v, torch.full((8,), length))
    assert torch.equal(together[:2], alone)


def test_prompt_is_causal() -> None:
    q, k, v = random_rows(1, 2, 10, 8), random_rows(1, 2, 10, 8) + 1, random_rows(1, 2, 10, 8) + 2
    whole = attend_prompt(q, k, v)
    torch.testing.assert_close(attend_prompt(q[:, :, :4], k[:, :, :4], v[:, :, :4]), whole[:, :, :4])


@pytest.mark.parametrize(("length", "window"), [(1, 64), (64, 64), (65, 128), (190, 190)])
def test_window_is_rounded_up_within_the_capacity(length: int, window: int) -> None:
    assert window_of(length, 190) == min(window, 190)
    assert window_of(length, 10_000) % WINDOW_STEP == 0
