"""The stage `codes`: the tokens of all songs, for the stages that learn to write and to play them."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from songgen.files import write_together
from songgen.models.levo.encode import AudioTokenizer
from songgen.train.dataset import SongStore
from songgen.train.token_audio import MelMaker, track_audio

if TYPE_CHECKING:
    from songgen.train.tokens import TokensSettings

FOLDER = "codes"
NOTE_EVERY = 100
"""Songs between lines of the log."""

logger = logging.getLogger(__name__)


def codes_path(work: Path, number: int) -> Path:
    """The file of the tokens of the song of a number: int16 `[3, T]`, mixed, vocal, bgm; or the first row."""
    return work / FOLDER / f"{number:06d}.npy"


def write_codes(
    data: Path,
    work: Path,
    settings: TokensSettings,
    *,
    seconds: float | None = None,
    mixed_only: bool = False,
) -> bool:
    """Write the tokens of all songs that have none yet.

    Songs are encoded whole, not in repeated segments of 40 s, so there are as many tokens as frames.

    Args:
        settings: of either tokenizer; both have the same sizes.
        seconds: when to stop; None for no limit.
        mixed_only: the first row alone, which is all that `lm` needs, so that it need not wait for
            `tokens-dual`. Files that have it are completed by a later call.

    Returns:
        Whether all songs have these tokens.

    Raises:
        FileNotFoundError: a tokenizer is not trained, or there are no songs.
    """
    from songgen.train.tokens import load_tokenizer

    began = time.monotonic()
    store = SongStore(data)
    names: tuple[Literal["mixed", "dual"], ...] = ("mixed",) if mixed_only else ("mixed", "dual")
    tokenizers = [load_tokenizer(work, replace(settings, tracks=tracks)) for tracks in names]
    num_rows = sum(len(tokenizer.config.tracks) for tokenizer in tokenizers)
    written = [rows_of(codes_path(work, store.number(song))) for song in range(len(store))]
    missing = [song for song, rows in enumerate(written) if rows < num_rows]
    for number, song in enumerate(missing):
        if seconds is not None and time.monotonic() - began > seconds:
            return False
        write_song(store, song, work, tokenizers)
        if (number + 1) % NOTE_EVERY == 0:
            logger.info("codes: %d of %d songs", len(store) - len(missing) + number + 1, len(store))
    return True


def rows_of(path: Path) -> int:
    """Rows of a file of tokens: 3, or 1 where only the mixture is encoded; 0 if it is not there."""
    return int(np.load(path, mmap_mode="r").shape[0]) if path.is_file() else 0


def write_song(store: SongStore, song: int, work: Path, tokenizers: Sequence[AudioTokenizer]) -> None:
    """Write the tokens of one song."""
    stems_SCN = store.stems(song)
    codes = [row for tokenizer in tokenizers for row in song_codes(tokenizer, stems_SCN)]
    buffer = io.BytesIO()
    np.save(buffer, torch.stack(codes).to(torch.int16).numpy())
    path = codes_path(work, store.number(song))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_together({path: buffer.getvalue()})


@torch.inference_mode()
def song_codes(tokenizer: AudioTokenizer, stems_SCN: Tensor) -> list[Tensor]:
    """The tokens `[T]` of each track of a tokenizer, from a song's stems `[2, 2, N]`."""
    mel, tracks = MelMaker(tokenizer), tokenizer.config.tracks
    codes = []
    for track in tracks:
        frames = tokenizer.bestrq.embed(mel(track_audio(stems_SCN, track.stem)[None]))
        features_BDT = tokenizer.bestrq.encode(frames, track.layer).transpose(1, 2)
        codes.append(tokenizer.quantizer(track).encode(features_BDT)[0, 0])
    return codes
