"""The stage `latents`: the latents of all songs, for the stage that learns to draw them, and statistics.

A song is encoded piece by piece, with margins that make the pieces equal to the whole.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from songgen.files import write_together
from songgen.nn.flow_matching import STATS_FROZEN_FROM, LatentStats
from songgen.nn.oobleck import OobleckVAE
from songgen.train.additive import scales
from songgen.train.levels import song_levels
from songgen.train.stem_crops import STEMS, Songs, stem_of

if TYPE_CHECKING:
    from songgen.train.vae import VaeSettings

FOLDER = "latents"
STATISTICS = "statistics.npz"
STATISTICS_SONGS = 200
"""Songs that the statistics are taken from, at most."""
NOTE_EVERY = 50
"""Songs between lines of the log."""

logger = logging.getLogger(__name__)


def latents_path(work: Path, number: int) -> Path:
    """The file of the latents of the song of a number: float16 `mixed`, `vocal`, `bgm`, each `[T, Z]`."""
    return work / FOLDER / f"{number:06d}.npz"


@torch.inference_mode()
def encode_song(vae: OobleckVAE, audio_CN: Tensor, *, chunk: int, margin: int) -> Tensor:
    """Mean latents `[T, Z]` float32 of whole frames of a signal.

    Args:
        chunk: frames encoded at once.
        margin: frames on either side of a chunk that are encoded with it and dropped.
    """
    hop = vae.config.hop
    total = audio_CN.shape[-1] // hop
    pieces = []
    for start in range(0, total, chunk):
        first, end = max(0, start - margin), min(total, start + chunk + margin)
        mean_1ZT, _ = vae.encode_moments(audio_CN[None, :, first * hop : end * hop])
        pieces.append(mean_1ZT[0, :, start - first : min(start + chunk, total) - first].T.float())
    return torch.cat(pieces)


def write_latents(data: Path, work: Path, settings: VaeSettings, *, seconds: float | None = None) -> bool:
    """Write the latents of all songs that have none yet, then their statistics.

    Args:
        seconds: when to stop; None for no limit.

    Returns:
        Whether all songs have latents.

    Raises:
        FileNotFoundError: the VAE is not trained, or there are no songs.
    """
    from songgen.train.dataset import SongStore
    from songgen.train.vae import load_vae

    store = SongStore(data)
    return write_all(store, work, load_vae(work, settings), settings, seconds=seconds)


def write_all(
    songs: Songs,
    work: Path,
    vae: OobleckVAE,
    settings: VaeSettings,
    *,
    seconds: float | None = None,
) -> bool:
    """`write_latents` with songs and VAE given."""
    began, num_songs = time.monotonic(), len(songs)
    missing = [song for song in range(num_songs) if not latents_path(work, songs.number(song)).is_file()]
    for number, song in enumerate(missing):
        if seconds is not None and time.monotonic() - began > seconds:
            return False
        write_song(songs, song, work, vae, settings)
        if (number + 1) % NOTE_EVERY == 0:
            logger.info("latents: %d of %d songs", num_songs - len(missing) + number + 1, num_songs)
    write_statistics(work, [songs.number(song) for song in songs.train_indices[:STATISTICS_SONGS]])
    return True


def write_song(songs: Songs, song: int, work: Path, vae: OobleckVAE, settings: VaeSettings) -> None:
    """Write the latents of one song."""
    stems_SCN = songs.stems(song)
    if settings.additive:
        latents = song_levels(stems_SCN, songs.truth(song).f0_hz)
    else:
        sizes = {"chunk": settings.latent_chunk, "margin": settings.latent_margin}
        latents = {stem: encode_song(vae, stem_of(stems_SCN, stem), **sizes) for stem in STEMS}
    arrays = {stem: latents_TZ.half().numpy() for stem, latents_TZ in latents.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_together({latents_path(work, songs.number(song)): buffer.getvalue()})


def read_latents(work: Path, number: int) -> dict[str, Tensor]:
    """The latents `[T, Z]` of the song of a number by stem, float16.

    Raises:
        FileNotFoundError: they are not written.
    """
    path = latents_path(work, number)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write the latents first (songgen train latents)")
    with np.load(path) as arrays:
        return {stem: torch.from_numpy(arrays[stem]) for stem in STEMS}


def write_statistics(work: Path, numbers: Sequence[int]) -> None:
    """Write mean and deviation of each channel, `[Z]`, over songs; mixed counts as much as vocal and bgm."""
    sums, squares, count = [], [], 0
    for number in numbers:
        for stem, latents_TZ in read_latents(work, number).items():
            weight = 2 if stem == "mixed" else 1
            values = latents_TZ.double()
            sums.append(weight * values.sum(0))
            squares.append(weight * values.square().sum(0))
            count += weight * len(values)
    mean = torch.stack(sums).sum(0) / count
    std = (torch.stack(squares).sum(0) / count - mean.square()).clamp(min=0).sqrt()
    buffer = io.BytesIO()
    np.savez(buffer, mean=mean.float().numpy(), std=std.float().numpy())
    write_together({work / FOLDER / STATISTICS: buffer.getvalue()})


def latent_stats(work: Path, *, additive: bool = False) -> LatentStats:
    """The statistics as a checkpoint holds them, counted to the end: nothing moves them any more.

    Args:
        additive: whether latents are those of `additive.py`, which are normalised by its `scales`.

    Raises:
        FileNotFoundError: they are not written.
    """
    path = work / FOLDER / STATISTICS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write the latents first (songgen train latents)")
    with np.load(path) as arrays:
        mean_Z, std_Z = torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["std"])
    return frozen_stats(*(scales(mean_Z, std_Z) if additive else (mean_Z, std_Z)))


def frozen_stats(mean_Z: Tensor, std_Z: Tensor) -> LatentStats:
    """Statistics of that mean and deviation."""
    counts = torch.tensor([float(STATS_FROZEN_FROM)])
    return LatentStats(counts, mean_Z * counts, (mean_Z.square() + std_Z.square()) * counts)
