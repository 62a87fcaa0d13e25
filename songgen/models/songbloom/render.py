"""From drafts to songs: latents through the VAE's decoder."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from songgen.audio import Audio
from songgen.models.base import Draft, Report, Song, ignore_progress
from songgen.nn.oobleck import OobleckVAE

VAE_ROWS = {"cpu": 1, "mps": 1, "cuda": 2}
"""Chunks of a song decoded together, at most, by device."""


@torch.inference_mode()
def render(vae: OobleckVAE, drafts: Iterator[Draft], *, report: Report = ignore_progress) -> Iterator[Song]:
    """Decode drafts, one after the other, in chunks; fewer latents than a chunk are decoded whole.

    Raises:
        ValueError: a draft without latents, or with latents of another model.
    """
    device, hop = next(vae.parameters()).device, vae.config.hop
    for draft in drafts:
        started = time.perf_counter()
        latents_ZT = draft.latents
        if latents_ZT is None:
            raise ValueError(
                "these are tokens alone, and this model renders from latents: they are not of its family"
            )
        if latents_ZT.shape[0] != vae.config.latent_dim:
            raise ValueError(
                f"latents of {latents_ZT.shape[0]} channels; this model has {vae.config.latent_dim}"
            )
        if latents_ZT.shape[1] == 0:
            raise ValueError("the model ended the song before its first block; try another seed")
        num_frames = latents_ZT.shape[1]
        samples = np.zeros((vae.config.audio_channels, num_frames * hop), dtype=np.float32)
        pieces = vae.decode_pieces([latents_ZT.to(device)], [num_frames], rows=VAE_ROWS[device.type])
        for _, first, piece_CN in pieces:
            end = first * hop + piece_CN.shape[1]
            samples[:, first * hop : end] = piece_CN.cpu().numpy()
            report("render", draft.job.name, end / samples.shape[1])
        audio = Audio(samples, vae.config.sample_rate)
        yield Song(draft=draft, stems={"mixed": audio}, seconds=time.perf_counter() - started)
