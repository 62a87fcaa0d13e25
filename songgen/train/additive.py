"""An Oobleck decoder in closed form: an additive synthesiser whose latents are levels.

A latent is how loud a tone of a fixed frequency is, or a band of noise, in a frame of 40 ms: a plain function
of what is sung and played, so that the network from tokens to latents has means to learn and nothing else.
What levels do not tell is made here. Tones are a semitone apart, and their phases run on evenly (McAulay &
Quatieri 1986 drew them so too); noise is drawn anew in each frame (Serra & Smith 1990). A latent is the root
of a level: what is quiet then counts, and an error of a latent is one of a level squared.

A convolution is the same in each frame, and the phase of a tone is not. Latents of a *clock* help: of
periods of 2, 3 and 5 frames, which together tell every multiple of 1/30 cycle, so tones are multiples of
25/30 Hz; high ones of 25 Hz, and need no clock. *Plain* latents are the flow's own noise, untouched. Level
times phase is a product, which the snakes of the stage make,

    sin^2(p + l) + sin^2(p - l) - 2 sin^2(p) = 2 sin^2(l) cos(2 p) = 2 l^2 cos(2 p) for small l,

and a transposed convolution adds up windowed cosines and pieces of noise.

For models too small to train a learned autoencoder and a network that writes its latents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.nn.oobleck import OobleckConfig, OobleckVAE, ResidualUnit, SnakeBeta, Stage
from songgen.nn.weight_norm import WeightNorm, WeightNormConv1d, WeightNormConvTranspose1d
from songgen.train.truth import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE

CLOCK = (2, 3, 5)
"""Periods of the clock's latents, in frames; a window of the codec moves on by a multiple of them all."""
PERIOD = math.prod(CLOCK)
TICK = 0.5
"""How far a latent of the clock moves in a frame: so little that weights of angles are larger than those of
levels. In 8 bits, whose steps follow a row's largest, a product's three rows then have the same angle."""
NUM_PLAIN = 5
LOWEST, MIDDLE, HIGHEST = 28.0, 84.0, 108.0
"""MIDI numbers of tones: a semitone apart up to the middle, half of one above it, where they are multiples
of 25 Hz, up to 4.1 kHz."""
BAND_EDGES = (
    *(0, 200, 400, 600, 800, 1000, 1250, 1500, 1750, 2000, 2350, 2700, 3100, 3500, 4000, 4500, 5000),
    *(5600, 6300, 7100, 8000, 9000, 10000, 11500, 13500, 16000, 20000),
)
"""Hz."""
HALVED_FROM = 1000
"""Hz; bands from here on have a level for each half of a frame, as consonants are short."""
LEVEL_OVER_NOISE, CLOCK_OVER_NOISE = 5.0, 12.0
"""Deviation of latents where that of the flow's noise is 1."""
LEAST_STD = 1e-4
LINEAR_BETA = 40.0
"""Of a snake that is the identity: its bend is divided by e^40."""
SQUARE_BETA = -9.0
"""Of a snake that is a squared sine: it is e^9 times as large as the rest."""
HALF_ROOT = 0.5**0.5
NOISE_TURN = 8.0
"""Deviation of the angles of noise, radians: whole turns, so that cosines are as good as independent."""
SPREAD = 0.9
"""Radians between a high tone's phases left and right, at most."""
SHARED_NOISE = 0.6
"""Of the noise's amplitude, what both channels have in common."""


@dataclass(frozen=True)
class Band:
    """A band of noise: bounds in Hz, and which half of a frame it fills, -1 or 1; 0 for all of it."""

    low: float
    high: float
    half: int


def tone_numbers() -> Tensor:
    """MIDI numbers of the tones, float64 `[L]`."""
    return torch.cat([torch.arange(LOWEST, MIDDLE, 1.0), torch.arange(MIDDLE, HIGHEST, 0.5)]).double()


def tone_steps() -> Tensor:
    """Frequencies of the tones in 25/30 Hz, int64 `[L]`."""
    numbers = tone_numbers()
    hz = 440.0 * 2.0 ** ((numbers - 69.0) / 12.0)
    high = (hz / FRAME_RATE).round() * PERIOD
    return torch.where(numbers < MIDDLE, (hz * PERIOD / FRAME_RATE).round(), high).long()


def tone_hz() -> Tensor:
    """Frequencies of the tones in Hz, float64 `[L]`."""
    return tone_steps().double() * FRAME_RATE / PERIOD


def bands() -> list[Band]:
    """The bands of noise, in the order of their latents."""
    found: list[Band] = []
    for low, high in itertools.pairwise(BAND_EDGES):
        halves = (-1, 1) if low >= HALVED_FROM else (0,)
        found += [Band(low, high, half) for half in halves]
    return found


NUM_TONES, NUM_BANDS = len(tone_numbers()), len(bands())
NUM_LEVELS = NUM_TONES + NUM_BANDS
PLAIN = slice(NUM_LEVELS, NUM_LEVELS + NUM_PLAIN)
"""Places of the plain latents."""
ZERO = NUM_LEVELS + NUM_PLAIN
"""Place of the latent that is always 0. Its weights make the norms of a product's three rows equal, so that 8
bits round their angles alike, and a level of 0 is silence."""
NUM_LATENTS = ZERO + 1 + len(CLOCK)
"""Z: roots of levels of tones (amplitudes) and bands (root mean squares), plain latents, zero, the clock."""


def clock(first: int, num_frames: int) -> Tensor:
    """The clock's latents `[num_frames, 3]`, centred, from a frame of a window on."""
    frames = torch.arange(first, first + num_frames)
    return TICK * torch.stack([frames % period - (period - 1) / 2 for period in CLOCK], dim=1)


def completed(latents_WZ: Tensor, noise_WZ: Tensor) -> Tensor:
    """Levels `[..., W, Z]` of a window's frames from its first on, with plain latents and the clock put in.

    Args:
        noise_WZ: standard normal; of it the plain latents are taken.
    """
    parts = [latents_WZ[..., :NUM_LEVELS], noise_WZ[..., PLAIN], torch.zeros_like(latents_WZ[..., :1])]
    ticks_WC = clock(0, latents_WZ.shape[-2]).to(latents_WZ)
    return torch.cat([*parts, ticks_WC.expand(*latents_WZ.shape[:-1], -1)], dim=-1)


def scales(mean_Z: Tensor, std_Z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation by which a flow network shall normalise, of those of levels.

    Deviations are told smaller than they are, so that latents are larger than the noise that they are drawn
    from: what is left of it when the solver ends does then no harm. Plain latents are the noise itself.
    """
    mean_Z, std_Z = mean_Z.clone(), std_Z.clamp(min=LEAST_STD) / LEVEL_OVER_NOISE
    mean_Z[PLAIN], std_Z[PLAIN] = 0.0, 1.0
    mean_Z[ZERO], std_Z[ZERO] = 0.0, LEAST_STD
    ticks = clock(0, PERIOD)
    mean_Z[-len(CLOCK) :], std_Z[-len(CLOCK) :] = 0.0, ticks.std(0, correction=0) / CLOCK_OVER_NOISE
    return mean_Z, std_Z


def clock_waves(num_positions: int) -> Tensor:
    """What positions have to tell for the clock to be read off: its cosines and sines, `[positions, 7]`."""
    positions = torch.arange(num_positions)
    waves = []
    for period in CLOCK:
        for harmonic in range(1, period // 2 + 1):
            angles = 2 * math.pi * harmonic / period * positions
            waves += [angles.cos()] if 2 * harmonic == period else [angles.cos(), angles.sin()]
    return torch.stack(waves, dim=1)


def clock_turns(step: int) -> Iterator[float]:
    """What the clock's ticks are multiplied by to give the phase, in cycles, of a tone of so many steps.

    `step / 30` cycles a frame is a sum of halves, thirds and fifths; of each the smallest multiple is taken.
    """
    for period in CLOCK:
        share = step * pow(PERIOD // period, -1, period) % period
        yield (share - period if share > period / 2 else share) / period


def num_channels() -> int:
    """Channels before the transposed convolution: three a product, of which a tone with a clock has two."""
    num_high = int((tone_steps() % PERIOD == 0).sum())
    return 6 * (NUM_TONES - num_high) + num_high + 3 * NUM_BANDS


def config() -> OobleckConfig:
    """The sizes of an Oobleck VAE that can be the synthesiser."""
    return OobleckConfig(
        channels=2,
        c_mults=(num_channels() // 2,),
        strides=(FRAME_SAMPLES,),
        latent_dim=NUM_LATENTS,
        audio_channels=2,
        sample_rate=SAMPLE_RATE,
    )


@torch.no_grad()
def set_as_synthesiser_(vae: OobleckVAE, *, seed: int = 0) -> None:
    """Make the decoder of a VAE the synthesiser.

    Args:
        seed: of the noise and the phases.

    Raises:
        ValueError: it has other sizes than these latents need.
    """
    if vae.config != config():
        raise ValueError(f"a synthesiser is of sizes {config()}, not {vae.config}")
    generator = torch.Generator().manual_seed(seed)
    entry, wave = [], []
    for level, angle_Z7, bias, wave_CN in itertools.chain(_tones(generator), _noises(generator)):
        terms = [(level, 1.0, 1.0)]
        if angle_Z7 is not None:
            terms = [(level, HALF_ROOT, 1.0), (level, -HALF_ROOT, 1.0), (ZERO, HALF_ROOT, -2.0)]
        for place, weight, size in terms:
            row_Z7 = torch.zeros(NUM_LATENTS, 7) if angle_Z7 is None else angle_Z7.clone()
            row_Z7[place, 3] = weight
            entry.append((row_Z7, bias))
            wave.append(size * wave_CN)
    layers = vae.decoder.layers
    stage = layers[1]
    assert isinstance(stage, Stage)
    for module in vae.decoder.modules():
        if isinstance(module, SnakeBeta):
            module.alpha.zero_()
            module.beta.fill_(LINEAR_BETA)
        elif isinstance(module, ResidualUnit):
            for layer in module.layers:
                if isinstance(layer, WeightNorm):
                    _set(layer, torch.zeros_like(layer.effective_weight()))
    square = stage.layers[0]
    assert isinstance(square, SnakeBeta)
    square.beta.fill_(SQUARE_BETA)
    _set(layers[0], torch.stack([row for row, _ in entry]), torch.tensor([bias for _, bias in entry]))
    _set(stage.layers[1], torch.stack(wave) * math.exp(SQUARE_BETA))
    last = torch.zeros(2, 2, 7)
    last[..., 3] = torch.eye(2)
    _set(layers[-1], last)


Product = tuple[int, Tensor | None, float, Tensor]
"""A level's number, what its angle is made of `[Z, 7]` or None where it has none, the angle's bias, and the
wave `[2, 3840]`."""


def _tones(generator: torch.Generator) -> Iterator[Product]:
    """cos(a + b) = cos(a) cos(b) - sin(a) sin(b), a the phase of the frame's middle, b that since then."""
    times = (torch.arange(2 * FRAME_SAMPLES) + 0.5 - FRAME_SAMPLES) / SAMPLE_RATE
    window = torch.hann_window(2 * FRAME_SAMPLES)
    for level, (hz, step) in enumerate(zip(tone_hz().tolist(), tone_steps().tolist(), strict=True)):
        first, apart = (torch.rand(2, generator=generator) * torch.tensor([2 * math.pi, 1.0])).tolist()
        apart = (apart - 0.5) * SPREAD * min(1.0, hz / 1000)
        phases = first + torch.tensor([apart, -apart])[:, None]
        since = (2 * math.pi * hz * times.double()).float() + phases
        if step % PERIOD == 0:
            yield level, None, 0.0, window * torch.cos(since)
            continue
        angle_Z7 = torch.zeros(NUM_LATENTS, 7)
        angle_Z7[-len(CLOCK) :, 3] = math.pi / TICK * torch.tensor(list(clock_turns(step)))
        yield level, angle_Z7, 0.0, window * torch.cos(since)
        yield level, angle_Z7, -math.pi / 4, -window * torch.sin(since)


def _noises(generator: torch.Generator) -> Iterator[Product]:
    for number, band in enumerate(bands()):
        angle_Z7 = torch.zeros(NUM_LATENTS, 7)
        mix = torch.randn(NUM_PLAIN, 7, generator=generator)
        angle_Z7[PLAIN] = NOISE_TURN / 2 * mix / mix.norm()
        yield NUM_TONES + number, angle_Z7, 0.0, _noise_wave(band, generator)


def _noise_wave(band: Band, generator: torch.Generator) -> Tensor:
    """Windowed noise `[2, 3840]` whose mean square, where frames follow each other, is 1 / level^2."""
    num_samples = 2 * FRAME_SAMPLES
    drawn = torch.randn(3, num_samples, generator=generator)
    both = SHARED_NOISE * drawn[0] + math.sqrt(1 - SHARED_NOISE**2) * drawn[1:]
    spectrum = torch.fft.rfft(both)
    hz = torch.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    noise = torch.fft.irfft(spectrum * ((hz >= band.low) & (hz < band.high)), n=num_samples)
    window = torch.hann_window(num_samples)
    hop = FRAME_SAMPLES
    if band.half:
        hop = FRAME_SAMPLES // 2
        first = FRAME_SAMPLES - hop + band.half * hop // 2
        window = torch.zeros(num_samples)
        window[first : first + 2 * hop] = torch.hann_window(2 * hop)
    wave = noise * window
    mean_square = wave.square().sum(1, keepdim=True) / hop / 2  # half of it is the cosine's
    return wave / mean_square.sqrt()


def _set(module: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Give a module a weight, also of rows that are zero, and a bias, of 0 if not given."""
    assert isinstance(module, WeightNormConv1d | WeightNormConvTranspose1d)
    assert module.weight_g is not None and module.weight_v is not None
    norms = weight.flatten(1).norm(dim=1).reshape(module.weight_g.shape)
    module.weight_g.copy_(norms)
    module.weight_v.copy_(torch.where(norms > 0, weight, torch.ones_like(weight)))
    if module.bias is not None:
        module.bias.zero_()
        if bias is not None:
            module.bias.copy_(bias)
