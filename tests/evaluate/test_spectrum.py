"""Bandwidth, stereo and likeness of spectra, on noise that was filtered by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fake_audio import music

from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.spectrum import (
    bandwidth_hz,
    mean_spectrum,
    mel_decibels,
    spectral_similarity,
    stereo_correlation,
)

RATE = 48000


def noise(seconds: float = 4.0, rate: int = RATE, seed: int = 0, top_hz: float | None = None) -> np.ndarray:
    """White noise `[2, N]`, cut off at a frequency."""
    samples = 0.1 * np.random.default_rng(seed).standard_normal((2, round(seconds * rate)))
    if top_hz is not None:
        spectrum = np.fft.rfft(samples)
        spectrum[:, np.fft.rfftfreq(samples.shape[1], 1 / rate) > top_hz] = 0
        samples = np.fft.irfft(spectrum, samples.shape[1])
    return samples.astype(np.float32)


@pytest.mark.parametrize("top_hz", [4000, 8000, 16000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_bandwidth_of_noise_is_where_it_was_cut_off(top_hz: float, rate: int) -> None:
    assert bandwidth_hz(noise(rate=rate, top_hz=top_hz), rate) == pytest.approx(top_hz, abs=100)


def test_bandwidth_survives_a_16_bit_file_and_opposed_channels() -> None:
    song = noise(top_hz=8000)
    rounded = np.round(song * 32767) / 32767
    assert bandwidth_hz(rounded.astype(np.float32), RATE) == pytest.approx(8000, abs=100)
    assert bandwidth_hz(np.stack([song[0], -song[0]]), RATE) == pytest.approx(8000, abs=100)
    assert bandwidth_hz(noise(), RATE) == RATE / 2


def test_bandwidth_needs_a_window_with_sound() -> None:
    with pytest.raises(NotMeasured, match=r"^shorter than a window of the spectrum$"):
        bandwidth_hz(noise(0.01), RATE)
    with pytest.raises(NotMeasured, match=r"^the song is digital silence$"):
        bandwidth_hz(np.zeros((2, RATE), np.float32), RATE)


def test_stereo_correlation_of_equal_opposed_and_unrelated_channels() -> None:
    left, right = noise()
    assert stereo_correlation(np.stack([left, left])) == pytest.approx(1.0)
    assert stereo_correlation(np.stack([left, -0.3 * left])) == pytest.approx(-1.0)
    assert abs(stereo_correlation(np.stack([left, right]))) < 0.02
    assert stereo_correlation(np.stack([left, left + right])) == pytest.approx(0.5**0.5, abs=0.01)


def test_stereo_correlation_needs_two_channels_with_sound() -> None:
    with pytest.raises(NotMeasured, match=r"^the song has one channel$"):
        stereo_correlation(noise()[:1])
    with pytest.raises(NotMeasured, match=r"^a channel is digital silence$"):
        stereo_correlation(np.stack([noise()[0], np.zeros(4 * RATE, np.float32)]))


def test_mel_frames_do_not_depend_on_how_many_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    song = noise(1.0)
    whole = mel_decibels(song, RATE, num_mels=40, frame_rate=100)
    monkeypatch.setattr("songgen.evaluate.spectrum.FRAMES_AT_ONCE", 7)
    assert np.allclose(mel_decibels(song, RATE, num_mels=40, frame_rate=100), whole, atol=1e-4)
    assert whole.shape == ((RATE - 2048) // 480 + 1, 40)
    assert mel_decibels(noise(0.01), RATE, num_mels=40, frame_rate=100).shape == (0, 40)


def test_similarity_is_of_timbre_not_of_level_rate_or_melody() -> None:
    dark, bright = noise(top_hz=3000), noise(seed=1)
    same = spectral_similarity(
        mean_spectrum(dark, RATE), mean_spectrum(0.1 * noise(2.0, 44100, 5, 3000), 44100)
    )
    other = spectral_similarity(mean_spectrum(dark, RATE), mean_spectrum(bright, RATE))
    assert same > 0.99 and other < 0.7
    assert spectral_similarity(
        mean_spectrum(music(1.0), RATE), mean_spectrum(music(1.0), RATE)
    ) == pytest.approx(1)


def test_similarity_needs_spectra_with_a_shape() -> None:
    with pytest.raises(NotMeasured, match=r"^shorter than a window of the spectrum, or silent$"):
        mean_spectrum(np.zeros((2, RATE), np.float32), RATE)
    with pytest.raises(NotMeasured, match=r"^a spectrum is flat$"):
        spectral_similarity(np.zeros(64, np.float32), mean_spectrum(noise(), RATE))
