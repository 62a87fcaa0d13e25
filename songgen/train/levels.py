"""What the latents of `additive.py` are for a song: how loud each tone and each band of noise is.

The voice's tones are the harmonics of the pitch it sings, which is known, put on the nearest semitone; those
of the band are the peaks of its spectrum. Noise is what is left of each band of frequencies without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from songgen.train.additive import NUM_LATENTS, NUM_LEVELS, NUM_TONES, bands, tone_hz, tone_numbers
from songgen.train.truth import FRAME_SAMPLES, SAMPLE_RATE

FFT_SIZE = 8192
BIN_HZ = SAMPLE_RATE / FFT_SIZE
SHORT_WINDOW, LONG_WINDOW = 1920, 5760
"""Samples: the voice and noises move, and the band's notes are close to each other."""
PROMINENCE = 2.5
"""By what factor a peak is above what is beside it, to be a tone."""
BESIDE_HZ = 25.0
"""How far from a peak that is measured."""
LOBE_BINS = 16
"""How far from a partial, in bins, its power is taken away before noise is measured."""


@dataclass(frozen=True)
class Partials:
    """Sinusoids found in frames, P in all: the frame of each, its frequency in Hz, its amplitude."""

    frame: Tensor
    hz: Tensor
    amplitude: Tensor


def spectra(samples_N: Tensor, num_frames: int, window: int, *, hop: int = FRAME_SAMPLES) -> Tensor:
    """Magnitudes `[num_frames, 4097]` around the middles of frames; a sinusoid's peak is its amplitude."""
    middles = torch.arange(num_frames) * hop + hop // 2
    padded = functional.pad(samples_N, (window, window + num_frames * hop))
    pieces = padded[(middles + window - window // 2)[:, None] + torch.arange(window)]
    weights = torch.hann_window(window)
    return torch.fft.rfft(pieces * weights, n=FFT_SIZE).abs() * 2 / weights.sum()


def harmonics(samples_N: Tensor, f0_hz: Sequence[float]) -> Partials:
    """The harmonics of a pitch, as far as there are tones. `f0_hz` has one value a frame, 0 for none."""
    f0_T = torch.tensor(f0_hz, dtype=torch.float32)
    magnitudes_TF = spectra(samples_N, len(f0_T), SHORT_WINDOW)
    frames = f0_T.nonzero()[:, 0]
    if not len(frames):
        return Partials(frames, torch.zeros(0), torch.zeros(0))
    top_hz = float(tone_hz()[-1])
    numbers = torch.arange(1, int(top_hz / float(f0_T[frames].min())) + 1)
    hz = f0_T[frames, None] * numbers
    places, is_in = hz / BIN_HZ, hz <= top_hz
    below = places.floor().long().clamp(max=magnitudes_TF.shape[1] - 2)
    rows = frames[:, None].expand_as(hz)
    around = torch.lerp(magnitudes_TF[rows, below], magnitudes_TF[rows, below + 1], places - below)
    return Partials(rows[is_in], hz[is_in], around[is_in])


def peaks(samples_N: Tensor, num_frames: int) -> Partials:
    """The peaks of the spectrum that stand out, as far as there are tones.

    Frequency and amplitude are the top of the parabola through three logarithms (Smith & Serra 1987).
    """
    low_hz, top_hz = (float(tone_hz()[end]) for end in (0, -1))
    magnitudes_TF = spectra(samples_N, num_frames, LONG_WINDOW)[:, : int(top_hz / BIN_HZ) + 8]
    log_TF = magnitudes_TF.clamp(min=1e-7).log()
    middle, left, right = log_TF[:, 1:-1], log_TF[:, :-2], log_TF[:, 2:]
    reach = round(BESIDE_HZ / BIN_HZ)
    padded = functional.pad(magnitudes_TF, (reach, reach), mode="replicate")
    beside = (padded[:, : -2 * reach] + padded[:, 2 * reach :])[:, 1:-1] / 2
    is_peak = (middle > left) & (middle >= right) & (middle.exp() > PROMINENCE * beside)
    frames, columns = is_peak.nonzero(as_tuple=True)
    top, before, after = (part[frames, columns] for part in (middle, left, right))
    shift = 0.5 * (before - after) / (before - 2 * top + after).clamp(max=-1e-6)
    hz = (columns + 1 + shift) * BIN_HZ
    amplitude = (top - 0.25 * (before - after) * shift).exp()
    is_in = (hz > low_hz * 0.97) & (hz < top_hz * 1.01)
    return Partials(frames[is_in], hz[is_in], amplitude[is_in])


def on_semitones(partials: Partials, f0_hz: Sequence[float]) -> Partials:
    """Harmonics of a pitch moved to where they would be, were the pitch on the nearest semitone."""
    f0 = torch.tensor(f0_hz, dtype=torch.float32)[partials.frame]
    semitones = 12 * torch.log2(f0 / 440)
    return Partials(
        partials.frame, partials.hz * 2 ** ((semitones.round() - semitones) / 12), partials.amplitude
    )


def tone_levels(partials: Partials, num_frames: int) -> Tensor:
    """Amplitudes `[T, L]` of the tones that are nearest to partials."""
    numbers = tone_numbers().float()
    squares_TL = torch.zeros(num_frames, NUM_TONES)
    nearest = torch.searchsorted((numbers[1:] + numbers[:-1]) / 2, 69 + 12 * torch.log2(partials.hz / 440))
    squares_TL.index_put_((partials.frame, nearest), partials.amplitude.square(), accumulate=True)
    return squares_TL.sqrt()


def noise_levels(samples_N: Tensor, num_frames: int, partials: Partials) -> Tensor:
    """Root mean squares `[T, B]` of each band without the partials."""
    power_SF = spectra(samples_N, 2 * num_frames, SHORT_WINDOW, hop=FRAME_SAMPLES // 2).square()
    power_T2F = power_SF.unflatten(0, (num_frames, 2))
    nearest = (partials.hz / BIN_HZ).round().long()
    for offset in range(-LOBE_BINS, LOBE_BINS + 1):
        columns = nearest + offset
        away = (columns * BIN_HZ - partials.hz) * SHORT_WINDOW / SAMPLE_RATE
        lobe = (partials.amplitude * hann_transform(away)).square()
        is_in = columns >= 0
        rows, columns, lobe = partials.frame[is_in], columns[is_in], lobe[is_in]
        for half in (0, 1):
            power_T2F.index_put_((rows, torch.full_like(rows, half), columns), -lobe, accumulate=True)
    # a spectrum of amplitudes a has a mean square of a^2 / 2; a Hann window counts 1.5 of its bins for one
    mean_square_T2F = power_T2F.clamp(min=0) * (SHORT_WINDOW / FFT_SIZE / 2 / 1.5)
    hz = torch.arange(power_T2F.shape[-1]) * BIN_HZ
    found = []
    for band in bands():
        halves_T2 = mean_square_T2F[..., (hz >= band.low) & (hz < band.high)].sum(-1)
        found.append(halves_T2[:, (band.half + 1) // 2] if band.half else halves_T2.mean(1))
    return torch.stack(found, dim=1).sqrt()


def hann_transform(bins: Tensor) -> Tensor:
    """The spectrum of a Hann window so many of its bins from its peak of 1."""
    rest = 1 - bins.square()
    at_one = rest.abs() < 1e-3
    return torch.where(at_one, 0.5, torch.sinc(bins) / torch.where(at_one, 1.0, rest))


def song_levels(stems_SCN: Tensor, f0_hz: Sequence[float]) -> dict[str, Tensor]:
    """Latents `[T, Z]` of a song's stems but for plain ones and the clock, which are 0.

    Args:
        stems_SCN: vocal and bgm, two channels each.
        f0_hz: of the voice in each frame, 0 where it has none; as many as frames are wanted.
    """
    voice_N, band_N = stems_SCN.mean(1)
    vocal, bgm = _voice_levels(voice_N, f0_hz), _band_levels(band_N, len(f0_hz))
    return {"mixed": _latents(torch.hypot(vocal, bgm)), "vocal": _latents(vocal), "bgm": _latents(bgm)}


def voice_latents(voice_N: Tensor, f0_hz: Sequence[float]) -> Tensor:
    """Those of a voice alone; as `song_levels`."""
    return _latents(_voice_levels(voice_N, f0_hz))


def _voice_levels(voice_N: Tensor, f0_hz: Sequence[float]) -> Tensor:
    sung, num_frames = harmonics(voice_N, f0_hz), len(f0_hz)
    tones_TL = tone_levels(on_semitones(sung, f0_hz), num_frames)
    return torch.cat([tones_TL, noise_levels(voice_N, num_frames, sung)], dim=1)


def _band_levels(band_N: Tensor, num_frames: int) -> Tensor:
    played = peaks(band_N, num_frames)
    return torch.cat([tone_levels(played, num_frames), noise_levels(band_N, num_frames, played)], dim=1)


def _latents(levels_TX: Tensor) -> Tensor:
    return functional.pad(levels_TX.sqrt(), (0, NUM_LATENTS - NUM_LEVELS))
