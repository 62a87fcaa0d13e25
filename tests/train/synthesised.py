"""The synthesiser of `additive.py`, and what it makes of constant levels."""

from __future__ import annotations

import torch
from torch import Tensor

from songgen.nn.oobleck import OobleckVAE
from songgen.train.additive import NUM_LATENTS, completed, config, set_as_synthesiser_
from songgen.train.truth import FRAME_SAMPLES


def synthesiser() -> OobleckVAE:
    vae = OobleckVAE(config(), has_encoder=False)
    set_as_synthesiser_(vae)
    return vae.requires_grad_(False)


def heard(vae: OobleckVAE, levels: dict[int, float], num_frames: int = 60) -> Tensor:
    """Audio `[2, N]` of constant levels, without the frames at its ends."""
    latents_TZ = torch.zeros(num_frames, NUM_LATENTS)
    for number, level in levels.items():
        latents_TZ[:, number] = level**0.5
    noise_TZ = torch.randn(latents_TZ.shape, generator=torch.Generator().manual_seed(1))
    audio_CN = vae.decode(completed(latents_TZ, noise_TZ).T[None])[0]
    return audio_CN[:, 2 * FRAME_SAMPLES : -2 * FRAME_SAMPLES]
