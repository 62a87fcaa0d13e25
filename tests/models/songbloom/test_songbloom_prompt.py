"""Prompts: files to latents."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from songgen.audio import Audio, write_audio
from songgen.models.songbloom.model import SongBloomModel
from songgen.models.songbloom.prompt import PromptEncoder, load_prompt, mono_prompt
from songgen.nn.oobleck import OobleckVAE


def write(path: Path, seconds: float = 1.0, *, rate: int = 48000, channels: int = 2) -> Path:
    time = np.arange(int(seconds * rate)) / rate
    samples = np.stack([0.3 * np.sin(2 * np.pi * 220 * (1 + number) * time) for number in range(channels)])
    write_audio(path, Audio(samples.astype(np.float32), rate), bits=32)
    return path


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2), (16000, 2), (96000, 1)])
def test_a_prompt_is_mono_at_48_khz(tmp_path: Path, rate: int, channels: int) -> None:
    mono_N, warnings = load_prompt(write(tmp_path / "p.wav", 0.5, rate=rate, channels=channels))
    assert mono_N.shape == (24000,)
    assert warnings == ("is 0.5 s long; the model was trained on prompts of 10 s",)


def test_ten_seconds_are_used(tmp_path: Path) -> None:
    mono_N, warnings = load_prompt(write(tmp_path / "p.wav", 12.0, channels=1))
    assert (mono_N.shape[0], warnings) == (480_000, ())


def test_channels_are_resampled_and_then_mixed() -> None:
    samples_CN = torch.randn(2, 441)
    assert torch.equal(mono_prompt(samples_CN, 48000), samples_CN.mean(0))
    assert mono_prompt(samples_CN, 44100).shape == (480,)


def test_a_prompt_follows_from_its_file_and_the_songs_seed(
    tiny_songbloom: SongBloomModel, tmp_path: Path
) -> None:
    calls: list[int] = []

    def vae() -> OobleckVAE:
        calls.append(1)
        return tiny_songbloom.parts.encoder.get()

    encoder, path = PromptEncoder(vae), write(tmp_path / "p.wav")
    prompt = encoder.of_file(path)
    assert prompt.mean_ZT.shape == (16, 25)
    assert torch.equal(prompt.draw(1), prompt.draw(1))
    assert not torch.equal(prompt.draw(1), prompt.draw(2))
    assert encoder.of_file(shutil.copy(path, tmp_path / "copy.wav")) is prompt
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.full((1, 2000), 0.5), r"p\.wav: too short for a prompt: 0\.042 s; 0\.043 s is the least"),
        (np.full((1, 10), 0.5), r"p\.wav: too short for a prompt: 10 samples"),
        (np.zeros((1, 48000)), r"p\.wav: is silent in its first 10 s"),
        (np.stack([np.full(48000, 0.5), np.full(48000, -0.5)]), r"p\.wav: its channels cancel each other"),
        (np.full((1, 48000), np.nan), r"p\.wav: holds 48000 samples that are not finite"),
    ],
)
def test_what_no_prompt_can_be_made_of_is_said(tmp_path: Path, samples: np.ndarray, said: str) -> None:
    import soundfile

    soundfile.write(tmp_path / "p.wav", samples.T, 48000, subtype="FLOAT")
    with pytest.raises(ValueError, match=said):
        load_prompt(tmp_path / "p.wav")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_prompt(tmp_path / "absent.wav")
