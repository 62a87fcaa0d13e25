"""Mel spectrogram in decibels, with the float32 arithmetic of torchaudio (HTK scale, no area normalisation).

Buffers carry torchaudio's names (`spectrogram.window`, `mel_scale.fb`), as they are part of published
checkpoints.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POWER_FLOOR = 1e-10


def _hertz_to_mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def mel_filterbank(num_bins: int, num_mels: int, sample_rate: int) -> Tensor:
    """Triangular HTK mel filters from 0 Hz to half the sample rate.

    Evaluated in float32 like torchaudio's: a float64 evaluation moves a normalised mel by 6e-5, enough to
    change a token in a quiet band.

    Args:
        num_bins: bins of the power spectrum, n_fft // 2 + 1.
        num_mels: number of filters.
        sample_rate: Hz.

    Returns:
        `[num_bins, num_mels]` float32 on the CPU, each filter peaking at 1.
    """
    cpu = torch.device("cpu")
    top = sample_rate // 2
    bins = torch.linspace(0, top, num_bins, device=cpu)
    mels = torch.linspace(_hertz_to_mel(0.0), _hertz_to_mel(float(top)), num_mels + 2, device=cpu)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    widths = edges[1:] - edges[:-1]
    distance = edges[None] - bins[:, None]
    rising = -distance[:, :-2] / widths[:-1]
    falling = distance[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0.0)


class _Spectrogram(nn.Module):
    """Holds the window under its published name."""

    window: Tensor

    def __init__(self, fft_size: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(fft_size))


class _MelScale(nn.Module):
    """Holds the filterbank under its published name."""

    fb: Tensor

    def __init__(self, num_bins: int, num_mels: int, sample_rate: int) -> None:
        super().__init__()
        self.register_buffer("fb", mel_filterbank(num_bins, num_mels, sample_rate).to(torch.empty(0).device))


class MelSpectrogram(nn.Module):
    """Power mel spectrogram: periodic Hann window of the whole FFT, centred frames with reflected edges."""

    def __init__(self, *, sample_rate: int, fft_size: int, hop: int, num_mels: int) -> None:
        super().__init__()
        self.fft_size, self.hop = fft_size, hop
        self.spectrogram = _Spectrogram(fft_size)
        self.mel_scale = _MelScale(fft_size // 2 + 1, num_mels, sample_rate)

    def forward(self, signal_BN: Tensor) -> Tensor:
        """`[B, N]`, N > fft_size / 2 -> power `[B, num_mels, N // hop + 1]`."""
        spectrum = torch.stft(
            signal_BN,
            self.fft_size,
            hop_length=self.hop,
            window=self.spectrogram.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.abs().pow(2.0)
        return torch.matmul(power.transpose(1, 2), self.mel_scale.fb).transpose(1, 2)


def decibels(power: Tensor) -> Tensor:
    """10 log10 of a power, floored at -100 dB."""
    return 10.0 * torch.log10(power.clamp(min=POWER_FLOOR))
