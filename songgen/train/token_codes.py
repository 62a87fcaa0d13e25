"""The stage `codes`: the tokens of all songs, for the stages that learn to write and to play them."""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from songgen.files import write_together
from songgen.models.levo.encode import AudioTokenizer
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.label_codes import LABELLED, label_codes
from songgen.train.token_audio import MelMaker, track_audio

if TYPE_CHECKING:
    from songgen.train.tokens import TokensSettings

FOLDER = "codes"
NOTE_EVERY = 100
"""Songs between lines of the log."""

logger = logging.getLogger(__name__)


def codes_path(work: Path, number: int) -> Path:
    """The file of the tokens of the song of a number: int16 `[3, T]`, mixed, vocal, bgm."""
    return work / FOLDER / f"{number:06d}.npy"


def write_codes(data: Path, work: Path, settings: TokensSettings, *, seconds: float | None = None) -> bool:
    """Write the tokens of all songs that have none yet: mixed and vocal ones from the truth, bgm by encoder.

    Songs are encoded whole, not in repeated segments of 40 s, so there are as many tokens as frames.

    Args:
        settings: of `tokens-dual`.
        seconds: when to stop; None for no limit.

    Returns:
        Whether all songs have tokens.

    Raises:
        FileNotFoundError: the tokenizer is not trained, or there are no songs.
    """
    from songgen.train.tokens import load_tokenizer

    began = time.monotonic()
    store, tokenizer = SongStore(data), load_tokenizer(work, settings)
    missing = [song for song in range(len(store)) if not codes_path(work, store.number(song)).is_file()]
    for number, song in enumerate(missing):
        if seconds is not None and time.monotonic() - began > seconds:
            return False
        write_song(store, song, work, tokenizer)
        if (number + 1) % NOTE_EVERY == 0:
            logger.info("codes: %d of %d songs", len(store) - len(missing) + number + 1, len(store))
    return True


def write_song(store: SongStore, song: int, work: Path, tokenizer: AudioTokenizer) -> None:
    """Write the tokens of one song."""
    labels = label_codes(frame_labels(store.truth(song)))
    codes = [labels[stem] for stem in LABELLED] + learnt_codes(tokenizer, store.stems(song))
    buffer = io.BytesIO()
    np.save(buffer, torch.stack(codes).to(torch.int16).numpy())
    path = codes_path(work, store.number(song))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_together({path: buffer.getvalue()})


@torch.inference_mode()
def learnt_codes(tokenizer: AudioTokenizer, stems_SCN: Tensor) -> list[Tensor]:
    """The tokens `[T]` of each track with a learnt codebook, from a song's stems `[2, 2, N]`."""
    mel, codes = MelMaker(tokenizer), []
    for track in tokenizer.config.tracks:
        if track.stem not in LABELLED:
            frames = tokenizer.bestrq.embed(mel(track_audio(stems_SCN, track.stem)[None]))
            features_BDT = tokenizer.bestrq.encode(frames, track.layer).transpose(1, 2)
            codes.append(tokenizer.quantizer(track).encode(features_BDT)[0, 0])
    return codes
