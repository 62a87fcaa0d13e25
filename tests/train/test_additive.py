"""The synthesiser whose latents are levels."""

from __future__ import annotations

import math

import pytest
import torch
from synthesised import heard, synthesiser

from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.runtime.int8_weights import pack, unpack
from songgen.train.additive import (
    CLOCK,
    MIDDLE,
    NUM_LATENTS,
    NUM_LEVELS,
    NUM_PLAIN,
    NUM_TONES,
    PERIOD,
    PLAIN,
    TICK,
    ZERO,
    bands,
    clock,
    clock_turns,
    clock_waves,
    completed,
    config,
    scales,
    set_as_synthesiser_,
    tone_hz,
    tone_numbers,
    tone_steps,
)
from songgen.train.truth import FRAME_SAMPLES, SAMPLE_RATE


@pytest.fixture(scope="module")
def vae() -> OobleckVAE:
    return synthesiser()


@pytest.mark.parametrize("number", [0, 17, 40, 60, 103])
def test_a_tone_is_one_steady_sinusoid_as_loud_as_its_latent(vae: OobleckVAE, number: int) -> None:
    audio_CN = heard(vae, {number: 0.1})
    times = torch.arange(audio_CN.shape[1]).double() / SAMPLE_RATE
    angles = 2 * math.pi * tone_hz()[number] * times
    basis_N2 = torch.stack([angles.cos(), angles.sin()], dim=1)
    for channel_N in audio_CN.double():
        found = torch.linalg.lstsq(basis_N2, channel_N[:, None]).solution[:, 0]
        assert float(found.norm()) == pytest.approx(0.1, rel=0.05)
        rest = channel_N - basis_N2 @ found
        assert float(rest.square().mean().sqrt()) < 0.002


def test_tones_are_within_cents_of_a_tempered_scale() -> None:
    cents = (1200 * (tone_hz() / 440).log2() - 100 * (tone_numbers() - 69)).abs()
    assert float(cents.max()) < 22  # the lowest, 5/6 Hz apart, and those that are multiples of 25 Hz
    is_sung = (tone_numbers() > 50) & (tone_numbers() < MIDDLE)
    assert float(cents[is_sung].max()) < 5
    assert (tone_steps()[tone_numbers() >= MIDDLE] % PERIOD == 0).all()


@pytest.mark.parametrize("number", [2, 9, 30, len(bands()) - 1])
def test_a_band_is_noise_of_its_level_within_its_bounds(vae: OobleckVAE, number: int) -> None:
    band = bands()[number]
    levels = {NUM_TONES + other: 0.1 for other, one in enumerate(bands()) if one.low == band.low}
    audio_CN = heard(vae, levels, 400)
    assert float(audio_CN.square().mean().sqrt()) == pytest.approx(0.1, rel=0.15)
    power_F = torch.fft.rfft(audio_CN).abs().square().sum(0)
    hz_F = torch.fft.rfftfreq(audio_CN.shape[1], 1 / SAMPLE_RATE)
    is_in = (hz_F > band.low - 30) & (hz_F < band.high + 30)
    assert float(power_F[is_in].sum() / power_F.sum()) > 0.97


def test_noise_is_another_in_each_frame(vae: OobleckVAE) -> None:
    """The same piece over and over would buzz: each comes with a factor of its own, of either sign."""
    number = NUM_TONES + [band.half for band in bands()].index(0)
    pieces = heard(vae, {number: 0.1}, 200)[0].unflatten(0, (-1, FRAME_SAMPLES))
    assert float(torch.corrcoef(pieces).fill_diagonal_(0).mean().abs()) < 0.1


def test_halves_of_a_frame_sound_one_after_the_other(vae: OobleckVAE) -> None:
    middles = {}
    for number, band in enumerate(bands()):
        if band.low == 4000:
            latents_TZ = torch.zeros(9, NUM_LATENTS)
            latents_TZ[4, NUM_TONES + number] = 0.3
            latents_TZ[:, PLAIN] = 0.3
            power_N = vae.decode(latents_TZ.T[None])[0].square().sum(0)
            middles[band.half] = float((power_N * torch.arange(len(power_N))).sum() / power_N.sum())
    frame = 4.5 * FRAME_SAMPLES
    assert middles[-1] == pytest.approx(frame - FRAME_SAMPLES / 4, abs=120)
    assert middles[1] == pytest.approx(frame + FRAME_SAMPLES / 4, abs=120)


def test_levels_of_zero_are_silence_whatever_clock_and_noise_say(vae: OobleckVAE) -> None:
    assert float(heard(vae, {}).abs().max()) < 1e-5


def test_eight_bits_a_weight_are_enough(vae: OobleckVAE) -> None:
    packed = OobleckVAE(config(), has_encoder=False).requires_grad_(False)
    packed.load_state_dict(unpack(pack(vae.state_dict())))
    for levels in ({}, {20: 0.1, 45: 0.05, NUM_TONES + 12: 0.03}):
        exact, rough = heard(vae, levels), heard(packed, levels)
        assert float((exact - rough).square().mean()) <= 1e-3 * float(exact.square().mean()) + 1e-10


def test_the_clock_tells_each_phase_and_each_of_its_ticks_is_read_off_the_positions() -> None:
    ticks = clock(0, 2 * PERIOD)
    for step in range(PERIOD):
        turns = ticks / TICK @ torch.tensor(list(clock_turns(step)))
        wanted = step * torch.arange(2 * PERIOD) / PERIOD
        wrong = (turns - turns[0] - wanted).remainder(1.0)
        assert torch.minimum(wrong, 1 - wrong).max() < 1e-4
    assert torch.equal(clock(PERIOD + 3, 4), ticks[3:7])
    waves = clock_waves(2 * PERIOD)
    assert torch.allclose(waves @ torch.linalg.lstsq(waves, ticks).solution, ticks, atol=1e-4)


def test_completed_latents_keep_levels_and_take_noise_and_clock() -> None:
    latents_WZ, noise_WZ = torch.rand(2, 10, NUM_LATENTS), torch.randn(2, 10, NUM_LATENTS)
    found = completed(latents_WZ, noise_WZ)
    assert torch.equal(found[..., :NUM_LEVELS], latents_WZ[..., :NUM_LEVELS])
    assert torch.equal(found[..., PLAIN], noise_WZ[..., PLAIN])
    assert torch.equal(found[1, :, -len(CLOCK) :], clock(0, 10)) and not found[..., ZERO].any()


def test_scales_leave_plain_noise_as_it_is_and_lift_the_rest_over_it() -> None:
    torch.manual_seed(0)
    mean_Z, std_Z = torch.rand(NUM_LATENTS), torch.rand(NUM_LATENTS)
    mean, std = scales(mean_Z, std_Z)
    assert (mean[PLAIN] == 0).all() and (std[PLAIN] == 1).all() and len(std[PLAIN]) == NUM_PLAIN
    assert mean[ZERO] == 0 and std[ZERO] < 1e-3
    assert torch.equal(mean[:NUM_LEVELS], mean_Z[:NUM_LEVELS])
    torch.testing.assert_close(std_Z[:NUM_LEVELS] / std[:NUM_LEVELS], torch.full((NUM_LEVELS,), 5.0))
    ticks = (clock(0, PERIOD) - mean[-3:]) / std[-3:]
    torch.testing.assert_close(ticks.std(0, correction=0), torch.full((3,), 12.0))


def test_sizes_that_do_not_fit_are_said() -> None:
    other = OobleckConfig(2, (4,), (FRAME_SAMPLES,), 64)
    with pytest.raises(ValueError, match=r"a synthesiser is of sizes .*c_mults=\(260,\).* not .*\(4,\)"):
        set_as_synthesiser_(OobleckVAE(other))
