"""Songs as the language model learns them: codes, texts, and where in the lyrics each frame is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from songgen.english import PHONEMES
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.text import model_lyrics
from songgen.train.dataset import SongStore, frame_labels, phoneme_numbers
from songgen.train.label_codes import label_codes
from songgen.train.lm_excerpts import Excerpt, cut_truth, excerpts_of
from songgen.train.token_codes import codes_path
from songgen.train.truth import SongTruth

NOWHERE = -1
"""The place of a frame that has none."""


@dataclass(frozen=True)
class LmSong:
    """A song, or an excerpt.

    Args:
        codes_KT: int64, mixed, vocal, bgm.
        places_T: for each frame the lyric position (0 is the start token) that is being sung.
        next_T: the one that is sung after it; `NOWHERE` if none is.
        next_phoneme_T: classes of the phonemes there, 0 where it is a tag; `NOWHERE` as `next_T`.
    """

    codes_KT: Tensor
    places_T: Tensor
    next_T: Tensor
    next_phoneme_T: Tensor
    lyrics: str
    descriptions: str


def lyric_places(truth: SongTruth, ids: Sequence[int], conditioner: TextConditioner) -> Tensor:
    """For each frame the lyric position that it sings, int64 `[T]`.

    A frame has the phoneme that it is labelled with or else is next, after the last one the last; but the
    rests of a section without words have the section's tag. `NOWHERE` if there are neither.

    Args:
        ids: the lyric tokens, the start token included.

    Raises:
        ValueError: the lyrics have other phonemes than the truth.
    """
    first = conditioner.lyrics.id_of(PHONEMES[0])
    spoken = [place for place, token in enumerate(ids) if first <= token < first + len(PHONEMES)]
    symbols = [PHONEMES[ids[place] - first] for place in spoken]
    if symbols != [span.name for span in truth.phonemes]:
        raise ValueError(
            f"song {truth.seed}: its lyrics have {len(symbols)} phonemes, which are not the "
            f"{len(truth.phonemes)} of its truth; make the songs again with this version of songgen"
        )
    middles_T = (np.arange(truth.num_frames) + 0.5) / conditioner.config.frame_rate
    places_T = np.full(truth.num_frames, NOWHERE, np.int64)
    is_rest_T = np.ones(truth.num_frames, bool)
    if spoken:
        ends = np.array([span.end for span in truth.phonemes])
        labelled_T = phoneme_numbers(truth)
        is_rest_T = labelled_T < 0
        coming_T = np.minimum(np.searchsorted(ends, middles_T, side="right"), len(spoken) - 1)
        places_T = np.asarray(spoken)[np.where(is_rest_T, coming_T, labelled_T)]
    tag_ids = {conditioner.lyrics.id_of(tag) for tag in conditioner.config.structure_tags}
    tags = [place for place, token in enumerate(ids) if token in tag_ids]
    if len(tags) == len(truth.sections):
        for number_of_tag, (place, section) in enumerate(zip(tags, truth.sections, strict=True)):
            begin = 0.0 if number_of_tag == 0 else section.start
            is_sung = any(begin <= (word.start + word.end) / 2 < section.end for word in truth.words)
            if not is_sung:
                places_T[is_rest_T & (middles_T >= begin) & (middles_T < section.end)] = place
    return torch.from_numpy(places_T)


def followers(places_T: Tensor) -> Tensor:
    """For each frame the place of the first later frame that has another one, or `NOWHERE`."""
    padded = torch.cat([places_T, torch.tensor([NOWHERE])])
    changes = (padded[1:] != padded[:-1]).nonzero()[:, 0] + 1
    changes = torch.cat([changes, torch.tensor([len(places_T)])])
    return padded[changes[torch.searchsorted(changes, torch.arange(len(places_T)), right=True)]]


class SongReader:
    """Reads songs and excerpts, and keeps them.

    Args:
        songs: of the store; those without the tokens that are needed are passed over.
        needs_stems: whether bgm tokens are needed, which `songgen train codes` writes. The others follow from
            the truth; without them only the mixed ones are there, and the rest is 0.

    Raises:
        FileNotFoundError: no song has tokens.
    """

    def __init__(
        self,
        store: SongStore,
        work: Path,
        conditioner: TextConditioner,
        songs: Sequence[int],
        *,
        needs_stems: bool,
    ) -> None:
        self._store, self._work, self._conditioner = store, work, conditioner
        self.config: LevoConfig = conditioner.config
        self._needs_stems = needs_stems
        self.songs = [
            song for song in songs if not needs_stems or codes_path(work, store.number(song)).is_file()
        ]
        if not self.songs:
            raise FileNotFoundError(
                f"{codes_path(work, 0).parent}: no tokens; run `songgen train codes` first"
            )
        self.codes = lru_cache(maxsize=None)(self._codes)
        self.read = lru_cache(maxsize=None)(self._read)
        self.conditions = lru_cache(maxsize=None)(self._conditions)

    def genre(self, song: int) -> str:
        """The genre of a song."""
        return self._store.truth(song).genre

    def whole(self, song: int) -> Excerpt:
        """All of a song."""
        truth = self._store.truth(song)
        return Excerpt(song, 0, len(truth.sections) - 1, 0, truth.num_frames)

    def excerpts(self, song: int) -> list[Excerpt]:
        """Its parts that the model may be given."""
        return list(excerpts_of(self._store.truth(song), song, longest=self.config.max_frames))

    def _codes(self, song: int) -> Tensor:
        if self._needs_stems:
            return torch.from_numpy(
                np.load(codes_path(self._work, self._store.number(song))).astype(np.int64)
            )
        mixed_T = label_codes(frame_labels(self._store.truth(song)))["mixed"]
        return torch.nn.functional.pad(mixed_T[None], (0, 0, 0, self.config.num_codebooks - 1))

    def _read(self, excerpt: Excerpt) -> LmSong:
        truth = self._store.truth(excerpt.song)
        if excerpt != self.whole(excerpt.song):
            truth = cut_truth(truth, excerpt)
        ids = self._conditioner.lyrics.encode(model_lyrics(truth.lyrics, bgm=False))
        places_T = lyric_places(truth, ids, self._conditioner)
        places_T[places_T >= self.config.lyric_positions] = NOWHERE
        next_T = followers(places_T)
        classes = torch.tensor(ids) - self._conditioner.lyrics.id_of(PHONEMES[0]) + 1
        classes[(classes < 1) | (classes > len(PHONEMES))] = 0
        return LmSong(
            self.codes(excerpt.song)[:, excerpt.start : excerpt.stop],
            places_T,
            next_T,
            torch.where(next_T == NOWHERE, NOWHERE, classes[next_T.clamp(min=0)]),
            truth.lyrics,
            truth.descriptions,
        )

    def _conditions(self, excerpt: Excerpt, has_description: bool) -> LevoConditions:
        own = self.read(excerpt)
        description = own.descriptions if has_description else None
        return self._conditioner.of_request(own.lyrics, description, bgm=False)
