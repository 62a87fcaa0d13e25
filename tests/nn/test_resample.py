"""The resampler: its formula, its two precisions, lengths, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from songgen.nn.resample import (
    MAX_KERNEL_VALUES,
    Resampler,
    kernel_values,
    resample,
    resample_pieces,
    sinc_kernel,
)

RATES = [(48000, 24000), (44100, 48000), (48000, 44100), (8000, 48000), (96000, 48000), (22050, 44100)]


def formula(source: int, target: int) -> np.ndarray:
    """The filter bank, entry by entry, in Python floats."""
    gcd = math.gcd(source, target)
    source, target = source // gcd, target // gcd
    cutoff = min(source, target) * 0.99
    width = math.ceil(6 * source / cutoff)
    bank = np.zeros((target, 2 * width + source))
    for phase in range(target):
        for tap in range(2 * width + source):
            u = min(6.0, max(-6.0, cutoff * ((tap - width) / source - phase / target)))
            sinc = 1.0 if u == 0 else math.sin(math.pi * u) / (math.pi * u)
            bank[phase, tap] = sinc * math.cos(math.pi * u / 12) ** 2 * cutoff / source
    return bank


@pytest.mark.parametrize("rates", [(48000, 24000), (44100, 48000), (8000, 48000)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-5), (torch.float64, 1e-7)])
def test_kernel_is_the_windowed_sinc(rates: tuple[int, int], dtype: torch.dtype, atol: float) -> None:
    kernel = sinc_kernel(*rates, dtype)
    expected = formula(*rates)
    assert kernel.dtype == torch.float32
    assert kernel.shape == (expected.shape[0], 1, expected.shape[1])
    assert kernel.numel() == kernel_values(*rates)
    np.testing.assert_allclose(kernel[:, 0].numpy(), expected, atol=atol)


def test_stored_kernel_of_the_tokenizer_has_28_taps() -> None:
    assert sinc_kernel(48000, 24000).shape == (1, 1, 28)


def test_the_two_precisions_differ() -> None:
    """They have to stay apart: with the wrong one a token of a quiet prompt was flipped once."""
    single, double = sinc_kernel(44100, 48000, torch.float32), sinc_kernel(44100, 48000, torch.float64)
    assert 0 < float((single - double).abs().max()) < 2e-5


@pytest.mark.parametrize("rates", RATES)
def test_a_tone_stays_a_tone(rates: tuple[int, int]) -> None:
    source, target = rates
    seconds = torch.arange(source) / source
    out = resample(torch.sin(2 * math.pi * 440 * seconds)[None], source, target)
    wanted = torch.sin(2 * math.pi * 440 * torch.arange(target) / target)
    assert out.shape == (1, target)
    assert float((out[0] - wanted)[200:-200].abs().max()) < 5e-3


def test_what_the_target_rate_cannot_hold_is_removed() -> None:
    seconds = torch.arange(48000) / 48000
    out = resample(torch.sin(2 * math.pi * 18000 * seconds), 48000, 24000)
    assert float(out[200:-200].abs().max()) < 1e-2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5000), st.sampled_from(RATES))
def test_length_is_rounded_up(length: int, rates: tuple[int, int]) -> None:
    source, target = rates
    assert resample(torch.zeros(2, length), source, target).shape == (2, math.ceil(length * target / source))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=6).filter(any),
    st.sampled_from([*RATES, (48000, 48000), (300, 700)]),
)
def test_pieces_are_the_whole(lengths: list[int], rates: tuple[int, int]) -> None:
    """However a song is cut, no seam may be heard, and no sample is lost or doubled."""
    generator = torch.Generator().manual_seed(sum(lengths))
    pieces = [torch.randn(2, length, generator=generator) for length in lengths]
    whole = resample(torch.cat(pieces, dim=1), *rates)
    joined = torch.cat(list(resample_pieces(pieces, *rates)), dim=1)
    assert joined.shape == whole.shape
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-6)


def test_pieces_come_while_the_signal_does() -> None:
    """A long song is never held as a whole: what is handed out keeps up with what came in."""
    taken = 0

    def source() -> Iterator[torch.Tensor]:
        nonlocal taken
        for _ in range(100):
            taken += 1000
            yield torch.zeros(1000)

    given_out = 0
    for piece in resample_pieces(source(), 48000, 44100):
        given_out += len(piece)
        assert given_out > 0.91 * taken - 2000
    assert given_out == 91875


def test_pieces_of_nothing() -> None:
    assert list(resample_pieces([], 48000, 44100)) == []


def test_equal_rates_change_nothing() -> None:
    signal = torch.randn(2, 10)
    assert resample(signal, 48000, 48000) is signal


def test_rows_do_not_touch_each_other() -> None:
    signal = torch.randn(3, 2, 500)
    together = resample(signal, 44100, 48000)
    assert together.shape == (3, 2, 545)
    torch.testing.assert_close(together[1, 0], resample(signal[1, 0], 44100, 48000), rtol=0, atol=1e-6)


def test_rates_without_a_common_divisor_are_refused() -> None:
    """The filter bank from 44099 Hz would take 8 GB."""
    assert kernel_values(44099, 48000) > MAX_KERNEL_VALUES
    with pytest.raises(ValueError, match="44099 Hz to 48000 Hz"):
        resample(torch.zeros(2, 10), 44099, 48000)


@pytest.mark.parametrize("rates", [(0, 48000), (48000, -1)])
def test_rates_must_be_positive(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        sinc_kernel(*rates)


def test_module_holds_its_kernel_under_the_published_name() -> None:
    module = Resampler(48000, 24000)
    assert list(module.state_dict()) == ["kernel"]
    signal = torch.randn(2, 4801)
    torch.testing.assert_close(module(signal), resample(signal, 48000, 24000), rtol=0, atol=1e-5)
    module.load_state_dict({"kernel": torch.zeros(1, 1, 28)})
    assert not module(signal).any()


def test_module_is_built_without_memory_on_meta() -> None:
    with torch.device("meta"):
        assert Resampler(48000, 24000).kernel.is_meta
