"""The mel spectrogram: filters, frames, decibels, published names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from songgen.nn.mel import MelSpectrogram, decibels, mel_filterbank


def reference_filterbank(num_bins: int, num_mels: int, rate: int) -> np.ndarray:
    """HTK filters by interpolation, in float64."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, num_bins)
    columns = [np.interp(bins, edges[m : m + 3], [0, 1, 0], left=0, right=0) for m in range(num_mels)]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("sizes", [(1025, 128, 24000), (257, 40, 16000)])
def test_filters_are_htk_triangles(sizes: tuple[int, int, int]) -> None:
    bank = mel_filterbank(*sizes)
    assert bank.dtype == torch.float32
    assert bank.shape == sizes[:2]
    assert float(bank.min()) >= 0
    np.testing.assert_allclose(bank.numpy(), reference_filterbank(*sizes), atol=2e-4)


def test_filters_are_not_scaled_by_their_area() -> None:
    bank = mel_filterbank(1025, 128, 24000)
    assert float(bank[:, 100:].max()) > 0.95


def test_filters_are_float32_arithmetic() -> None:
    """A float64 evaluation flips tokens of quiet bands, so it must not sneak in."""
    bank = mel_filterbank(1025, 128, 24000).double().numpy()
    assert np.abs(bank - reference_filterbank(1025, 128, 24000)).max() > 1e-7


def tiny() -> MelSpectrogram:
    return MelSpectrogram(sample_rate=24000, fft_size=2048, hop=240, num_mels=128)


@pytest.mark.parametrize("length", [2400, 24000, 24001])
def test_frames(length: int) -> None:
    assert tiny()(torch.zeros(2, length)).shape == (2, 128, length // 240 + 1)


def test_a_tone_lies_in_its_band() -> None:
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(24000) / 24000)
    power = tiny()(tone[None])[0, :, 50]
    top = 2595 * math.log10(1 + 12000 / 700)
    band = 2595 * math.log10(1 + 1000 / 700) / top * 129 - 1
    assert abs(int(power.argmax()) - band) <= 1


def test_power_grows_with_the_square() -> None:
    signal = torch.randn(1, 4800)
    torch.testing.assert_close(tiny()(2 * signal), 4 * tiny()(signal), rtol=1e-4, atol=1e-6)


def test_decibels_have_a_floor() -> None:
    got = decibels(torch.tensor([0.0, 1e-12, 1e-10, 1.0, 100.0]))
    torch.testing.assert_close(got, torch.tensor([-100.0, -100.0, -100.0, 0.0, 20.0]))


def test_buffers_have_the_published_names() -> None:
    with torch.device("meta"):
        shapes = {name: list(value.shape) for name, value in tiny().state_dict().items()}
    assert shapes == {"spectrogram.window": [2048], "mel_scale.fb": [1025, 128]}
