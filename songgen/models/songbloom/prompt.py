"""Style prompts: the start of an audio file, brought to the published form and encoded by the VAE.

As published, a prompt is mono, and its latents are drawn from what the encoder says: by the song's seed.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from songgen.audio import read_audio
from songgen.files import content_digest
from songgen.models.clip import (
    PROMPT_SECONDS,
    READ_SECONDS,
    SAMPLE_RATE,
    SILENCE_PEAK,
    check_rate,
    check_samples,
    to_rate,
)
from songgen.nn.oobleck import OobleckVAE
from songgen.runtime.noise import seeded_normal

LEAST_SAMPLES = 2048
"""As published: shorter prompts are not encoded."""

PROMPTS_KEPT = 512
"""Encoded prompts kept in memory, 128 kB each."""


@dataclass(frozen=True)
class EncodedPrompt:
    """What the VAE's encoder says of a prompt, `[Z, T]` float32 on the CPU each.

    Args:
        warnings: what the user should know of the file, phrases to put behind its name.
    """

    mean_ZT: Tensor
    deviation_ZT: Tensor
    seconds: float
    warnings: tuple[str, ...] = ()

    def draw(self, seed: int) -> Tensor:
        """The latents of a song, `[T, Z]`."""
        return self.latents(seeded_normal(seed, "prompt", *self.mean_ZT.shape))

    def latents(self, noise_ZT: Tensor) -> Tensor:
        """The latents that standard normal noise picks, `[T, Z]`."""
        return (self.mean_ZT + self.deviation_ZT * noise_ZT).T


def mono_prompt(samples_CN: Tensor, sample_rate: int) -> Tensor:
    """The published form of a prompt, `[N]` at 48 kHz: channels resampled, their mean, the first seconds."""
    return to_rate(samples_CN, sample_rate, SAMPLE_RATE).mean(0)[: PROMPT_SECONDS * SAMPLE_RATE]


def load_prompt(path: Path | str) -> tuple[Tensor, tuple[str, ...]]:
    """Read a prompt file of any rate and channel count: `[N]` at 48 kHz, and warnings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as audio, or no prompt can be made of it; names path and reason.
    """
    audio = read_audio(path, max_seconds=READ_SECONDS)
    samples_CN = torch.from_numpy(audio.samples)
    try:
        check_rate(audio.sample_rate)
        warnings = check_samples(samples_CN, audio.sample_rate)
        mono_N = mono_prompt(samples_CN, audio.sample_rate)
        if mono_N.shape[0] < LEAST_SAMPLES:
            raise ValueError(
                f"too short for a prompt: {mono_N.shape[0] / SAMPLE_RATE:.3f} s; "
                f"{LEAST_SAMPLES / SAMPLE_RATE:.3f} s is the least"
            )
        if float(mono_N.abs().max()) < SILENCE_PEAK:
            raise ValueError("its channels cancel each other, and this model takes a prompt in mono")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return mono_N, tuple(warnings)


def encode_prompt(vae: OobleckVAE, mono_N: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a mono prompt's latents, `[Z, T]` each on the CPU.

    A rest of less than a frame is encoded too, as published, as far as the strides of the encoder let it.
    """
    device = next(vae.parameters()).device
    stereo_BCN = mono_N.to(device).expand(1, 2, -1)
    mean_BZT, deviation_BZT = vae.encode_moments(stereo_BCN)
    return mean_BZT[0].cpu(), deviation_BZT[0].cpu()


class PromptEncoder:
    """Encodes prompt files; what is encoded depends on the content of a file alone, and is kept.

    Args:
        vae: gives the VAE with its encoder, which may be loaded only then.
    """

    def __init__(self, vae: Callable[[], OobleckVAE]) -> None:
        self._vae = vae
        self._kept: OrderedDict[str, EncodedPrompt] = OrderedDict()

    def prepare(self, paths: Iterable[Path | str]) -> None:
        """Encode several prompts. Files that cannot be used are left to `of_file`."""
        for path in dict.fromkeys(map(str, paths)):
            with contextlib.suppress(ValueError, OSError):
                self.of_file(path)

    @torch.inference_mode()
    def of_file(self, path: Path | str) -> EncodedPrompt:
        """The encoded prompt of a file.

        Raises:
            FileNotFoundError, ValueError: the file cannot be used; names path and reason.
        """
        digest = content_digest(path)
        if digest not in self._kept:
            mono_N, warnings = load_prompt(path)
            moments = encode_prompt(self._vae(), mono_N)
            self._kept[digest] = EncodedPrompt(*moments, mono_N.shape[0] / SAMPLE_RATE, warnings)
            while len(self._kept) > PROMPTS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return self._kept[digest]
