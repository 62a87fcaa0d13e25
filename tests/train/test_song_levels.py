"""What the synthesiser's latents are for a signal."""

from __future__ import annotations

import math

import pytest
import torch
from synthesised import heard, synthesiser
from torch import Tensor

from songgen.nn.oobleck import OobleckVAE
from songgen.train.additive import NUM_LATENTS, NUM_LEVELS, NUM_TONES, bands, tone_hz, tone_numbers
from songgen.train.levels import harmonics, noise_levels, on_semitones, peaks, song_levels, tone_levels
from songgen.train.truth import FRAME_SAMPLES, SAMPLE_RATE

NUM_FRAMES = 30
TIMES = torch.arange(NUM_FRAMES * FRAME_SAMPLES).double() / SAMPLE_RATE
INNER = slice(3, -3)


def waves(hz: float, amplitudes: list[float]) -> Tensor:
    parts = [a * torch.sin(2 * math.pi * (h + 1) * hz * TIMES + h) for h, a in enumerate(amplitudes)]
    return torch.stack(parts).sum(0).float()


def tone_of(midi: float) -> int:
    return int((tone_numbers() - midi).abs().argmin())


def test_a_voice_is_its_harmonics_on_the_nearest_semitone() -> None:
    """40 cents sharp of A3: the amplitudes are of where it is, the tones of where it should be."""
    hz = 220 * 2 ** (40 / 1200)
    samples_N, f0_hz = waves(hz, [0.2, 0.1, 0.0, 0.05]), [0.0] * 5 + [hz] * (NUM_FRAMES - 5)
    found = harmonics(samples_N, f0_hz)
    levels_TL = tone_levels(on_semitones(found, f0_hz), NUM_FRAMES)
    assert (levels_TL[:5] == 0).all()
    inner = levels_TL[8:-3]
    for midi, amplitude in ((57, 0.2), (69, 0.1), (76, 0.0), (81, 0.05)):
        assert inner[:, tone_of(midi)].mean().item() == pytest.approx(amplitude, abs=0.005)
    assert float(inner.sum(1).mean()) < 0.4
    assert float(noise_levels(samples_N, NUM_FRAMES, found)[8:-3].square().sum(1).sqrt().max()) < 0.03
    assert not len(harmonics(samples_N, [0.0] * NUM_FRAMES).hz)


def test_a_band_is_the_peaks_of_its_spectrum() -> None:
    samples_N = waves(110, [0.2]) + waves(164.8, [0.1]) + waves(277.2, [0.05])
    found = peaks(samples_N, NUM_FRAMES)
    inner = tone_levels(found, NUM_FRAMES)[INNER]
    for midi, amplitude in ((45, 0.2), (52, 0.1), (61, 0.05)):
        assert inner[:, tone_of(midi)].mean().item() == pytest.approx(amplitude, rel=0.05)
    others = [n for n in range(NUM_TONES) if n not in map(tone_of, (45, 52, 61))]
    assert float(inner[:, others].max()) < 0.01
    assert float(noise_levels(samples_N, NUM_FRAMES, found)[INNER].square().sum(1).sqrt().max()) < 0.06


def test_noise_is_noise() -> None:
    torch.manual_seed(0)
    samples_N = 0.1 * torch.randn(len(TIMES))
    found = peaks(samples_N, NUM_FRAMES)
    tones_TL, noise_TB = tone_levels(found, NUM_FRAMES), noise_levels(samples_N, NUM_FRAMES, found)
    share = torch.tensor([(1 if not band.half else 0.5) for band in bands()])
    total = (noise_TB[INNER].square() * share).sum(1) + tones_TL[INNER].square().sum(1) / 2
    # bands end at 20 of 24 kHz
    assert float(total.mean().sqrt()) == pytest.approx(0.1 * math.sqrt(20 / 24), rel=0.05)
    assert float(tones_TL.square().sum(1).mean() / 2) < 0.15 * float(total.mean())


def test_levels_of_what_the_synthesiser_made_are_those_it_made_it_from(vae: OobleckVAE) -> None:
    wanted = {tone_of(57): 0.1, tone_of(69): 0.05, NUM_TONES + 20: 0.03, NUM_TONES + 21: 0.03}
    samples_N = heard(vae, wanted).mean(0)
    f0_hz = [float(tone_hz()[tone_of(57)])] * (len(samples_N) // FRAME_SAMPLES)
    num_frames, found = len(f0_hz), harmonics(samples_N, f0_hz)
    tones_TL = tone_levels(found, num_frames)[INNER]
    assert tones_TL[:, tone_of(57)].mean().item() == pytest.approx(0.1, rel=0.05)
    assert tones_TL[:, tone_of(69)].mean().item() == pytest.approx(0.05, rel=0.05)
    noise_TB = noise_levels(samples_N, num_frames, found)
    middle = noise_TB[INNER][:, 20:22].square().mean().sqrt().item()
    assert 0.015 < middle < 0.035  # of both channels' mean, which is less loud than each


def test_a_song_has_latents_of_all_its_stems() -> None:
    voice_N, band_N = waves(220, [0.1]), waves(130.8, [0.1])
    stems_SCN = torch.stack([voice_N, band_N])[:, None].expand(2, 2, -1)
    found = song_levels(stems_SCN, [220.0] * NUM_FRAMES)
    assert {stem: tuple(one.shape) for stem, one in found.items()} == dict.fromkeys(
        ("mixed", "vocal", "bgm"), (NUM_FRAMES, NUM_LATENTS)
    )
    levels = {stem: one.square() for stem, one in found.items()}
    torch.testing.assert_close(levels["mixed"], torch.hypot(levels["vocal"], levels["bgm"]))
    assert not found["mixed"][:, NUM_LEVELS:].any()
    inner = levels["mixed"][INNER]
    assert inner[:, tone_of(57)].mean().item() == pytest.approx(0.1, rel=0.05)
    assert inner[:, tone_of(48)].mean().item() == pytest.approx(0.1, rel=0.05)


@pytest.fixture(scope="module")
def vae() -> OobleckVAE:
    return synthesiser()
