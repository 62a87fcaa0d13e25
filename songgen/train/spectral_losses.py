"""How far two signals are apart as spectra: losses to train on, and a distance in decibels to report.

Magnitudes of several resolutions, of both channels and of their sum and difference, compared as logarithms
bin by bin and in mel bands (Yamamoto et al. 2020, arXiv:1910.11480; Kumar et al. 2023, arXiv:2306.06546).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from songgen.nn.mel import MelSpectrogram, decibels, mel_filterbank
from songgen.train.fast_snake import fused

MEL_BANDS = {256: 16, 512: 32, 1024: 64, 2048: 96, 4096: 128}
"""Bands by FFT size: no more than the resolution can tell apart."""
FLOOR = 3e-5
"""Magnitude below which nothing is heard, where 1 is a sine of full scale: -90 dB."""
DISTANCE_FLOOR_DB = -20.0
"""Of the power mel spectrogram of `mel_distance`, whose full scale is 54 dB."""


def magnitudes(spectrum: Tensor) -> Tensor:
    """Magnitudes `[B, 4, F, T]` (left, right, half the sum, half the difference) of `[B, 2, F, T, re im]`."""
    left, right = spectrum[:, 0], spectrum[:, 1]
    signals = torch.stack([left, right, (left + right) * 0.5, (left - right) * 0.5], dim=1)
    return torch.sqrt(signals.square().sum(-1) + FLOOR * FLOOR)


def log_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance of natural logarithms of magnitudes."""
    return (first.log() - second.log()).abs().mean()


def spectral_convergence(first: Tensor, second: Tensor) -> Tensor:
    """Energy of the difference of magnitudes over that of `second`, square root; loud bins decide."""
    return ((first - second).square().sum() / (second.square().sum() + FLOOR)).sqrt()


class SpectralLoss(nn.Module):
    """Losses at one resolution.

    Args:
        fft_size: a key of `MEL_BANDS`; the hop is a quarter.
        sample_rate: Hz.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, fft_size: int, sample_rate: int) -> None:
        super().__init__()
        if fft_size not in MEL_BANDS:
            raise ValueError(f"FFT size {fft_size}; it must be one of {', '.join(map(str, MEL_BANDS))}")
        self.fft_size = fft_size
        window = torch.hann_window(fft_size)
        self.register_buffer("window", window * (2 / window.sum()), persistent=False)
        filters = mel_filterbank(fft_size // 2 + 1, MEL_BANDS[fft_size], sample_rate)
        self.register_buffer("bands", filters / filters.sum(0).clamp(min=1e-6), persistent=False)

    def spectrum(self, audio_BCN: Tensor) -> Tensor:
        """`[B, 2, N]` to `[B, 2, F, T, 2]`, the last axis real and imaginary."""
        stft = torch.stft(
            audio_BCN.flatten(0, 1),
            self.fft_size,
            self.fft_size // 4,
            window=self.window,
            return_complex=True,
        )
        return torch.view_as_real(stft).unflatten(0, (-1, 2))

    def forward(self, audio_BCN: Tensor, target_BCN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances of logarithmic bins, of logarithmic mel bands, and the spectral convergence."""
        ours = fused(magnitudes)(self.spectrum(audio_BCN))
        with torch.no_grad():
            theirs = fused(magnitudes)(self.spectrum(target_BCN))
        bins = fused(log_distance)(ours, theirs)
        mels = log_distance(*(torch.matmul(one.transpose(2, 3), self.bands) for one in (ours, theirs)))
        return bins, mels, fused(spectral_convergence)(ours, theirs)


class MultiResolutionLoss(nn.Module):
    """`SpectralLoss` at several resolutions, of which each step sees some in turn.

    Args:
        fft_sizes: the resolutions.
        sample_rate: Hz.
        at_once: resolutions of a step.
    """

    def __init__(self, fft_sizes: Sequence[int], sample_rate: int, *, at_once: int) -> None:
        super().__init__()
        if not 1 <= at_once <= len(fft_sizes):
            raise ValueError(
                f"{at_once} resolutions a step; there are {len(fft_sizes)}, and at least 1 is needed"
            )
        self.losses = nn.ModuleList(SpectralLoss(size, sample_rate) for size in fft_sizes)
        self.at_once = at_once

    def forward(
        self, audio_BCN: Tensor, target_BCN: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of `SpectralLoss`, means over a step's resolutions or over all, in float32."""
        count = len(self.losses)
        turns = range(count) if step is None else range(step * self.at_once, (step + 1) * self.at_once)
        with torch.autocast(audio_BCN.device.type, enabled=False):
            parts = [self.losses[turn % count](audio_BCN.float(), target_BCN.float()) for turn in turns]
        bins, mels, convergence = (torch.stack(values).mean() for values in zip(*parts, strict=True))
        return bins, mels, convergence


class MelDistance(nn.Module):
    """Mean distance in dB of mel spectrograms of 80 bands, hop 10 ms, with a floor 74 dB below full scale."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.mel = MelSpectrogram(sample_rate=sample_rate, fft_size=2048, hop=sample_rate // 100, num_mels=80)

    @torch.no_grad()
    def forward(self, first_CN: Tensor, second_CN: Tensor) -> float:
        """Of two signals `[C, N]` of one length, N > 1024."""
        levels = [
            decibels(self.mel(one.float())).clamp(min=DISTANCE_FLOOR_DB) for one in (first_CN, second_CN)
        ]
        return float((levels[0] - levels[1]).abs().mean())
