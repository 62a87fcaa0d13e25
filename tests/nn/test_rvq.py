"""The codec's quantiser."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from songgen.nn.rvq import ResidualVQ


@pytest.fixture
def quantizer() -> ResidualVQ:
    torch.manual_seed(1)
    return ResidualVQ(dim=12, codebook_size=40, codebook_dim=5).requires_grad_(False)


def test_encode_takes_the_row_of_the_smallest_angle(quantizer: ResidualVQ) -> None:
    """Nearest by distance instead of by angle gives other codes for rows of other lengths."""
    features = torch.randn(3, 12, 17)
    latents = functional.normalize(quantizer.project(features), dim=1)
    rows = functional.normalize(quantizer.quantizer.codebook.weight, dim=1)
    cosines = torch.einsum("bet,ve->btv", latents, rows)
    assert torch.equal(quantizer.encode(features), cosines.argmax(-1).unsqueeze(1))


def test_row_lengths_do_not_decide_but_are_decoded(quantizer: ResidualVQ) -> None:
    """Codes are searched on normalised rows and looked up in rows as they are."""
    features = torch.randn(1, 12, 9)
    codes, decoded = quantizer.encode(features), quantizer.from_codes(torch.arange(9).view(1, 1, 9))
    quantizer.quantizer.codebook.weight *= 3
    assert torch.equal(quantizer.encode(features), codes)
    bias = quantizer.quantizer.out_proj.bias
    assert bias is not None
    tripled = quantizer.from_codes(torch.arange(9).view(1, 1, 9))
    torch.testing.assert_close(tripled - bias[:, None], 3 * (decoded - bias[:, None]))


def test_first_of_equal_rows_wins(quantizer: ResidualVQ) -> None:
    """Parallel rows tie; the published system takes the first."""
    rows = quantizer.quantizer.codebook.weight
    rows[:] = rows[:1]
    assert torch.equal(quantizer.encode(torch.randn(2, 12, 4)), torch.zeros(2, 1, 4, dtype=torch.int64))


def test_decoding_is_frame_by_frame(quantizer: ResidualVQ) -> None:
    """A frame's feature depends on its own code only, whatever stands beside it."""
    codes = torch.randint(0, 40, (2, 1, 11))
    whole = quantizer.from_codes(codes)
    assert whole.shape == (2, 12, 11)
    torch.testing.assert_close(quantizer.from_codes(codes[:1, :, 4:5])[0, :, 0], whole[0, :, 4])
