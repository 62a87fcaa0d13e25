"""The prompt library of a finished model: the beginnings of what is sung in held-out songs, by genre.

Songs that were held out of training, so that a prompt is no more than a style: none is known by heart.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from songgen.models.levo.prompt_library import ENGLISH, NUM_ROWS
from songgen.train.token_codes import codes_path
from songgen.train.truth import FRAME_RATE, SongTruth

if TYPE_CHECKING:
    from songgen.train.dataset import SongStore


def library_of(store: SongStore, work: Path, *, frames: int, per_genre: int) -> dict[str, Tensor]:
    """Prompts under their names in a library file, `<Genre>/en/<number>`: int16 `[3, frames]`.

    Args:
        work: where the stage `codes` wrote the tokens; songs without all three rows are passed over.
        frames: of a prompt; shorter songs are passed over.
        per_genre: prompts of each genre, at most.
    """
    library: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for song in store.held_out_indices:
        truth = store.truth(song)
        genre, path = truth.genre.title(), codes_path(work, store.number(song))
        number = counts.get(genre, 0)
        if number >= per_genre or not path.is_file():
            continue
        codes_KT = torch.from_numpy(np.load(path)).to(torch.int16)
        if codes_KT.shape[0] < NUM_ROWS or codes_KT.shape[1] < frames:
            continue
        start = min(first_sung_frame(truth), codes_KT.shape[1] - frames)
        library[f"{genre}/{ENGLISH}/{number}"] = codes_KT[:, start : start + frames].contiguous()
        counts[genre] = number + 1
    return library


def first_sung_frame(truth: SongTruth) -> int:
    """The frame in which the first section with words begins; 0 in a song without words."""
    sung = (
        section.start
        for section, word in itertools.product(truth.sections, truth.words)
        if section.start <= word.start < section.end
    )
    return int(next(sung, 0.0) * FRAME_RATE)
