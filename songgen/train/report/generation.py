"""Songs of held-out lyrics by the engine itself, from a checkpoint, with the model's own sampling."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from songgen.api import FailedSong, load
from songgen.train.report.stems_measured import Stems
from songgen.train.truth import FRAME_RATE, SongTruth

LONGEST_RATIO, LONGEST_MORE = 1.5, 4.0
"""A song may last as long as the true song of its lyrics times the first, and so many seconds more."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generated:
    """A song that the model made: of which held-out song's lyrics, its stems `[2, N]`, and its end."""

    number: int
    name: str
    stems: Stems
    has_ended: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stems["mixed"].shape[1] / 48000


def request_of(number: int, truth: SongTruth, *, takes: int, longest: float) -> dict[str, Any]:
    """The line of a JSONL that asks for a held-out song's lyrics, at most `longest` seconds."""
    seconds = truth.num_frames / FRAME_RATE * LONGEST_RATIO + LONGEST_MORE
    return {
        "idx": f"{number:06}",
        "gt_lyric": truth.lyrics,
        "descriptions": truth.descriptions,
        "generate_type": "separate",
        "num_samples": takes,
        "max_seconds": round(min(seconds, longest), 2),
    }


def generate(
    folder: Path, truths: Mapping[int, SongTruth], *, takes: int, batch: int, seed: int
) -> Iterator[Generated | FailedSong]:
    """Songs of the lyrics and descriptions of held-out songs, in the order in which they end.

    Raises:
        FileNotFoundError, ValueError: the checkpoint cannot be loaded.
    """
    model = load(folder, device="cpu", batch=batch, threads=torch.get_num_threads())
    requests = [
        request_of(number, truth, takes=takes, longest=model.max_seconds) for number, truth in truths.items()
    ]
    for song in model.generate(requests, seed=seed, on_error="yield"):
        if isinstance(song, FailedSong):
            logger.warning("%s failed: %s", song.name, song.error)
            yield song
        else:
            stems: dict[Any, Any] = {
                stem: np.ascontiguousarray(audio.samples) for stem, audio in song.stems.items()
            }
            logger.info("generated %s, %.1f s, %s", song.name, stems["mixed"].shape[1] / 48000, song.stopped)
            yield Generated(int(song.name[:6]), song.name, stems, song.stopped == "eos")
