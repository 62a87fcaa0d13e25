"""Stems of a finished song by source separation, for models whose tokens are of the mixture only.

The separator is that of the prompt road (`separation.py`). Knows nothing of files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from songgen.audio import Audio
from songgen.models.base import Song
from songgen.models.separation import PUBLISHED_SHIFT_OFFSET, Separator
from songgen.nn.resample import resample_pieces
from songgen.request_keys import STEMS, GenerateType, Stem

PIECE_SECONDS = 10
"""Seconds of a song that are resampled at once."""


def check_generate_type(generate_type: GenerateType | None, num_codebooks: int) -> None:
    """Raise ValueError if a language model of so many codebooks cannot make what a request asks for.

    Args:
        generate_type: None for mixed.
    """
    if num_codebooks == 1 and generate_type not in (None, "mixed"):
        raise ValueError(
            f"generate_type is {generate_type}: this model writes one token a frame, of the mixture, so its "
            "tokens hold no vocals or accompaniment apart; stems=separator takes them from the finished mix"
        )


def with_stems(song: Song, separator: Callable[[], Separator], *, rows: int = 1) -> Song:
    """A song with the stems that its request asks for: its own, or a separator's from its mix.

    Args:
        separator: gives the separator, which may be loaded only then.
        rows: chunks run at once.
    """
    wanted = STEMS[song.draft.job.request.generate_type or "mixed"]
    if set(wanted) <= song.stems.keys():
        return song
    started = time.perf_counter()
    mixed = song.stems["mixed"]
    parts = separate_song(torch.from_numpy(mixed.samples), mixed.sample_rate, separator(), rows=rows)
    stems = {"mixed": mixed} | {
        str(stem): Audio(part_CN.numpy(), mixed.sample_rate) for stem, part_CN in parts.items()
    }
    seconds = song.seconds + time.perf_counter() - started
    return replace(song, stems={stem: stems[stem] for stem in wanted}, seconds=seconds)


def separate_song(
    samples_CN: Tensor,
    sample_rate: int,
    separator: Separator,
    offset: int = PUBLISHED_SHIFT_OFFSET,
    *,
    rows: int = 1,
) -> dict[Stem, Tensor]:
    """Split a song into its vocals and the rest.

    The song passes through the separator in stretches; besides the song itself this needs three times its
    memory (the song at the separator's rate, and the result) and an amount that does not depend on its
    length.

    Args:
        samples_CN: `[2, N]` float32 at any level, N of at least two samples at the separator's rate.
        sample_rate: Hz.
        offset: the separator's shift, see `Separator.separate`.
        rows: chunks run at once.

    Returns:
        `vocal` and `bgm`, `[2, N]` float32 on the CPU at the song's rate; they add up to the song.

    Raises:
        ValueError: the song is not stereo or too short, the separator knows no vocals, an offset out of
            range, or no filter bank leads between the rates.
    """
    if samples_CN.ndim != 2 or samples_CN.shape[0] != 2:
        raise ValueError(f"a song of the shape {list(samples_CN.shape)}; only stereo, [2, N], is separated")
    song_CN, vocal = samples_CN.cpu(), separator.vocal
    num_samples, separated_rate = song_CN.shape[1], separator.sample_rate
    wanted = -(-num_samples * separated_rate // sample_rate)
    if wanted < 2:
        raise ValueError(f"a song of {num_samples} samples at {sample_rate} Hz is too short to separate")
    pieces = song_CN.split(PIECE_SECONDS * sample_rate, dim=1)
    mixture_CN = _joined(resample_pieces(pieces, sample_rate, separated_rate), wanted)
    stretches = (stems_SCN[vocal] for _, stems_SCN in separator.stretches([mixture_CN], [offset], rows=rows))
    vocal_CN = _joined(resample_pieces(stretches, separated_rate, sample_rate), num_samples)
    return {"vocal": vocal_CN, "bgm": song_CN - vocal_CN}


def _joined(pieces: Iterable[Tensor], num_samples: int) -> Tensor:
    """Consecutive pieces `[2, n]` as one tensor `[2, num_samples]`; a sample or so behind that is dropped."""
    joined_CN = torch.zeros(2, num_samples)
    end = 0
    for piece_CN in pieces:
        room_CN = joined_CN[:, end : end + piece_CN.shape[1]]
        room_CN.copy_(piece_CN[:, : room_CN.shape[1]])
        end += room_CN.shape[1]
    assert end == num_samples, f"{end} samples of {num_samples}"
    return joined_CN
