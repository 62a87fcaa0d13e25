"""Prompt clips: formats, rates and channels, bad files, mono for models of the mixture alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from fake_audio import music
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from songgen.audio import Audio, AudioFormat, write_audio
from songgen.models.clip import clip_of, load_clip, mono_clip_of, to_rate


@pytest.mark.parametrize(
    ("format", "rate", "channels"),
    [
        ("wav", 44100, 2),
        ("wav", 8000, 1),
        ("wav", 96000, 6),
        ("wav", 44099, 2),
        ("flac", 48000, 2),
        ("flac", 22050, 1),
        ("ogg", 32000, 2),
        ("mp3", 44100, 1),
        ("opus", 16000, 2),
    ],
)
def test_every_format_rate_and_channel_count(
    tmp_path: Path, format: AudioFormat, rate: int, channels: int
) -> None:
    path = tmp_path / f"prompt.{format}"
    write_audio(path, Audio(music(11, rate, channels), rate), format)
    got = load_clip(path)
    assert got.full_CN.shape == (2, 480000)
    assert got.full_CN.dtype == got.mixture_CN.dtype == torch.float32
    # libsndfile leaves the codec's padding at the end of an opus file
    assert abs(got.mixture_CN.shape[1] - 11 * 44100) <= (1000 if format == "opus" else 1)
    assert 0.2 < float(got.full_CN.abs().max()) < 0.5
    assert any("6 channels; the first two are used" in warning for warning in got.warnings) == (channels == 6)


@pytest.mark.parametrize("rate", [44100, 44099])
def test_a_tone_keeps_its_pitch(rate: int) -> None:
    """Both resamplers, the published one and the one for odd rates."""
    time = torch.arange(2 * rate) / rate
    got = to_rate(torch.sin(2 * math.pi * 440 * time).expand(2, -1), rate, 48000)
    wanted = torch.sin(2 * math.pi * 440 * torch.arange(got.shape[1]) / 48000)
    assert float((got[0] - wanted)[1000:-1000].abs().max()) < 1e-2


def test_mono_is_both_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "mono.wav", Audio(music(2, channels=1), 48000))
    write_audio(tmp_path / "stereo.wav", Audio(music(2, channels=1).repeat(2, 0), 48000))
    mono, stereo = load_clip(tmp_path / "mono.wav"), load_clip(tmp_path / "stereo.wav")
    assert torch.equal(mono.full_CN, stereo.full_CN)
    assert torch.equal(mono.mixture_CN, stereo.mixture_CN)


def test_a_short_clip_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    write_audio(path, Audio(music(3.5), 48000))
    (warning,) = load_clip(path).warnings
    assert warning == "is 3.5 s long; the model was trained on prompts of 10 s"
    assert clip_of(torch.from_numpy(music(10)), 48000).warnings == ()


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """An hour of audio costs what half a minute costs."""
    path = tmp_path / "long.flac"
    write_audio(path, Audio(music(40, 8000, 1), 8000), "flac")
    got = load_clip(path)
    assert got.mixture_CN.shape == (2, 30 * 44100)
    assert got.full_CN.shape == (2, 480000)


def broken_file(folder: Path, kind: str) -> Path:
    """A file that is no usable prompt."""
    path = folder / f"{kind}.wav"
    samples = music(1)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("[verse] this is no audio\n" * 50, "utf-8")
    elif kind == "wrong header":
        path.write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256)) * 20)
    elif kind == "folder":
        path.mkdir()
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 2)), 48000)
    elif kind == "silent":
        soundfile.write(path, np.zeros((48000, 2)), 48000)
    elif kind == "silent start":
        soundfile.write(path, np.concatenate([np.zeros((11 * 8000, 2)), samples.T]), 8000)
    elif kind == "one sample":
        soundfile.write(path, np.full((1, 2), 0.5), 48000)
    elif kind == "NaN":
        samples[0, 100:103] = np.nan
        soundfile.write(path, samples.T, 48000, subtype="FLOAT")
    elif kind == "infinity":
        samples[1, 7] = np.inf
        soundfile.write(path, samples.T, 48000, subtype="FLOAT")
    elif kind == "integers as floats":
        soundfile.write(path, samples.T * 32768, 48000, subtype="FLOAT")
    elif kind == "odd rate":
        soundfile.write(path, samples.T, 7)
    return path


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("missing", FileNotFoundError, "no such file"),
        ("folder", ValueError, "is not a file"),
        ("empty", ValueError, "cannot be read as audio"),
        ("text", ValueError, "cannot be read as audio"),
        ("wrong header", ValueError, "cannot be read as audio"),
        ("no samples", ValueError, "holds no samples"),
        ("silent", ValueError, "is silent in its first 10 s"),
        ("silent start", ValueError, "is silent in its first 10 s"),
        ("one sample", ValueError, "too short for a prompt: 1 samples at 48000 Hz"),
        ("NaN", ValueError, "holds 3 samples that are not finite"),
        ("infinity", ValueError, "holds 1 samples that are not finite"),
        ("integers as floats", ValueError, "where full scale is 1"),
        ("odd rate", ValueError, "a sample rate of 7 Hz"),
    ],
)
def test_bad_files_are_errors_with_path_and_reason(
    tmp_path: Path, kind: str, error: type[Exception], reason: str
) -> None:
    path = broken_file(tmp_path, kind)
    with pytest.raises(error, match=reason) as caught:
        load_clip(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(["wav", "flac", "ogg", "mp3"]))
def test_no_bytes_crash_a_run(tmp_path: Path, garbage: bytes, start: int, format: AudioFormat) -> None:
    """Audio files with bytes overwritten, or cut off, are read or refused, nothing else."""
    whole = tmp_path / f"whole.{format}"
    if not whole.exists():
        write_audio(whole, Audio(music(0.2, 16000, 1), 16000), format)
    data = whole.read_bytes()
    path = tmp_path / f"fuzzed.{format}"
    path.write_bytes(data[:start] + garbage + data[start + len(garbage) : len(data) - start])
    try:
        got = load_clip(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert got.full_CN.isfinite().all()


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 2), (8000, 1), (96000, 6), (22050, 2)])
def test_a_model_of_the_mixture_hears_the_mean_of_all_channels(
    tmp_path: Path, rate: int, channels: int
) -> None:
    """Published for v2-fast: mono at the file's rate, then soxr HQ; the same on both channels."""
    samples = music(11, rate, channels)
    soundfile.write(tmp_path / "prompt.wav", samples.T, rate, subtype="FLOAT")
    got = load_clip(tmp_path / "prompt.wav", separator_rate=None)
    expected = soxr.resample(samples.mean(0), rate, 48000, quality="HQ")[:480000]
    assert got.full_CN.shape == (2, 480000) and got.full_CN.dtype == torch.float32
    assert torch.equal(got.full_CN[0], got.full_CN[1])
    np.testing.assert_allclose(got.full_CN[0].numpy(), expected, atol=1e-6)
    assert got.mixture_CN.numel() == 0 and got.warnings == ()


@pytest.mark.parametrize(("length", "rate"), [(44101, 44100), (30001, 22050), (4411, 44100), (8001, 8000)])
def test_mono_clips_have_the_rounded_up_length(length: int, rate: int) -> None:
    """One sample decides how many codes and latents a prompt has."""
    clip = mono_clip_of(torch.from_numpy(music(3, rate))[:, :length], rate)
    assert clip.full_CN.shape[1] == math.ceil(length * 48000 / rate)


@pytest.mark.parametrize("kind", ["silent", "one sample", "NaN", "integers as floats", "odd rate"])
def test_mono_clips_are_checked_like_stereo_ones(tmp_path: Path, kind: str) -> None:
    path = broken_file(tmp_path, kind)
    with pytest.raises(ValueError) as stereo:
        load_clip(path)
    with pytest.raises(ValueError) as mono:
        load_clip(path, separator_rate=None)
    assert str(mono.value) == str(stereo.value)


def test_channels_that_cancel_each_other() -> None:
    """Not silent, but nothing is left of it in mono: codes of silence would be a style nobody asked for."""
    samples_CN = torch.from_numpy(music(1, channels=1)) * torch.tensor([[1.0], [-1.0]])
    assert clip_of(samples_CN, 48000).full_CN.abs().max() > 0.1
    with pytest.raises(ValueError, match="its channels cancel each other, and this model takes a prompt in"):
        mono_clip_of(samples_CN, 48000)
