"""What the cases of the encode half rest on: signals, stored kernels, and the allowance for rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity_cases import Case
from parity_cases.encode import compare_codes
from parity_cases.signals import signal

from songgen.nn.resample import sinc_kernel


@pytest.mark.parametrize(
    ("case", "name", "left", "right", "total"),
    [
        ("musicfm", "unit_vocal", [-2539, -3224, -3886, -3973], [-2558, -2219, -1210, 124], 390592),
        ("musicfm", "s41_bgm", [-1284, -720, 1538, 3204], [1103, 1532, 1632, 2919], -907903),
        ("demucs", "file", [1786, 6666, 10248, 10214], [6976, 5430, 1005, -1384], 1049477),
    ],
)
def test_signals_have_their_check_values(
    parity_root: Path, case: str, name: str, left: list[int], right: list[int], total: int
) -> None:
    description = Case(parity_root / "levo" / case).meta["signals"][name]
    pcm = (signal(description).double() * 32768).long()
    assert pcm[:, 1000:1004].tolist() == [left, right]
    assert int(pcm.sum()) == total


@pytest.mark.parametrize(
    ("name", "rates"), [("rsq48tobestrq", (48000, 24000)), ("rsq48tohubert", (48000, 16000))]
)
def test_stored_kernels_are_the_formula_bit_for_bit(
    parity_root: Path, name: str, rates: tuple[int, int]
) -> None:
    weights = Case(parity_root / "levo" / "generate_e2e").tensors("model_septoken")
    assert torch.equal(weights[f"{name}.kernel"], sinc_kernel(*rates))


@pytest.mark.parametrize("stem", ["vocal", "bgm"])
def test_a_code_that_differs_at_a_wide_margin_fails(stem: str) -> None:
    """The allowance for rounding must not hide a wrong encoder."""
    expected = torch.arange(4).reshape(1, 1, 4)
    got = expected.clone()
    got[..., 2] = 9
    assert compare_codes(stem, got, expected, torch.tensor([[1.0, 1.0, 1e-5, 1.0]])).ok
    assert not compare_codes(stem, got, expected, torch.tensor([[1e-5, 1e-5, 1e-2, 1e-5]])).ok
    assert not compare_codes(stem, got[..., :3], expected, torch.ones(1, 4)).ok
