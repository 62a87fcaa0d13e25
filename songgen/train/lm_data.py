"""What the language model reads in training: conditions and delayed codes of songs, and where in the lyrics
each frame is.

Conditions are those of inference (`levo/condition.py`), one row a song: the conditional or the null one.
"""

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
from songgen.models.levo.conditions import LevoConditions, fit_prompt, prompt_rows
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.pattern import frame_mask, to_sequence
from songgen.models.levo.text import model_lyrics
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.token_codes import codes_path
from songgen.train.truth import SongTruth

NOWHERE = -1
"""The place of a column that has none."""


@dataclass(frozen=True)
class LmSong:
    """One song.

    Args:
        codes_KT: int64, mixed, vocal, bgm.
        places_T: for each frame the lyric position (0 is the start token) that is being sung.
        phoneme_T: classes, 0 for none.
    """

    codes_KT: Tensor
    places_T: Tensor
    phoneme_T: Tensor
    lyrics: str
    descriptions: str
    genre: str


@dataclass(frozen=True)
class LmBatch:
    """B songs as sequences of S columns.

    Args:
        conditions: B rows instead of two.
        columns_BKS: codes in the delay pattern, EOS behind each row's last frame, SPECIAL elsewhere.
        is_scored_BKS: columns that hold a frame or EOS.
        places_BS: lyric position of the mixed frame that a column holds; `NOWHERE` without one, and in null
            rows.
        phoneme_BS: class of that frame's phoneme; `NOWHERE` where no frame is.
    """

    conditions: LevoConditions
    columns_BKS: Tensor
    is_scored_BKS: Tensor
    places_BS: Tensor
    phoneme_BS: Tensor


@dataclass(frozen=True)
class Dropout:
    """Odds of what a song is not told in training; `prompt` are the odds that it is given one.

    Args:
        everything: all conditions null, as guidance needs.
        description: no descriptions.
        prompt: a prompt of the mixed codes alone.
        foreign_prompt: of the prompts, those of another song of the genre.
    """

    everything: float = 0.1
    description: float = 0.15
    prompt: float = 0.4
    foreign_prompt: float = 0.5


NOTHING_DROPPED = Dropout(0.0, 0.0, 0.0)


def lyric_places(truth: SongTruth, ids: Sequence[int], conditioner: TextConditioner) -> Tensor:
    """For each frame the lyric position that it sings, int64 `[T]`.

    A frame of a section with words has the phoneme that sounds in its middle or else is next; after the last
    one the last. A frame of a section without words has the section's tag.

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
    if spoken:
        ends = np.array([span.end for span in truth.phonemes])
        number = np.minimum(np.searchsorted(ends, middles_T, side="right"), len(spoken) - 1)
        places_T = np.asarray(spoken)[number]
    tag_ids = {conditioner.lyrics.id_of(tag) for tag in conditioner.config.structure_tags}
    tags = [place for place, token in enumerate(ids) if token in tag_ids]
    if len(tags) == len(truth.sections):
        for place, section in zip(tags, truth.sections, strict=True):
            inside_T = (middles_T >= section.start) & (middles_T < section.end)
            is_sung = any(section.start <= word.start < section.end for word in truth.words)
            if not is_sung:
                places_T[inside_T] = place
    return torch.from_numpy(places_T)


class LmSource:
    """Draws batches of songs of similar length.

    Args:
        songs: those that have tokens; the order is kept.
        batch_positions: prefix and columns of all songs of a batch, about.

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
        batch_positions: int,
    ) -> None:
        self._store, self._work, self._conditioner = store, work, conditioner
        self.config: LevoConfig = conditioner.config
        self.songs = [song for song in songs if codes_path(work, store.number(song)).is_file()]
        if not self.songs:
            raise FileNotFoundError(
                f"{codes_path(work, 0).parent}: no tokens; run `songgen train codes` first"
            )
        self._batch_positions = batch_positions
        self.song = lru_cache(maxsize=None)(self._read)
        self.conditions = lru_cache(maxsize=None)(self._conditions)
        lengths = [self.song(song).codes_KT.shape[1] for song in self.songs]
        self._by_length = [self.songs[place] for place in np.argsort(lengths, kind="stable")]
        self._of_genre: dict[str, list[int]] = {}
        for song in self.songs:
            self._of_genre.setdefault(self.song(song).genre, []).append(song)

    def _read(self, song: int) -> LmSong:
        truth = self._store.truth(song)
        codes_KT = torch.from_numpy(
            np.load(codes_path(self._work, self._store.number(song))).astype(np.int64)
        )
        codes_KT = codes_KT[: self.config.num_codebooks, : self.config.max_frames]
        num_frames = codes_KT.shape[1]
        ids = self._conditioner.lyrics.encode(model_lyrics(truth.lyrics, bgm=False))
        places_T = lyric_places(truth, ids, self._conditioner)[:num_frames]
        places_T[places_T >= self.config.lyric_positions] = NOWHERE
        return LmSong(
            codes_KT,
            places_T,
            torch.as_tensor(frame_labels(truth).phoneme)[:num_frames],
            truth.lyrics,
            truth.descriptions,
            truth.genre,
        )

    def _conditions(self, song: int, has_description: bool) -> LevoConditions:
        own = self.song(song)
        return self._conditioner.of_request(
            own.lyrics, own.descriptions if has_description else None, bgm=False
        )

    def batch(self, rng: np.random.Generator, dropout: Dropout) -> LmBatch:
        """Songs of about one length; a function of the generator."""
        anchor = int(rng.integers(len(self._by_length)))
        length = self.song(self._by_length[anchor]).codes_KT.shape[1]
        count = max(1, round(self._batch_positions / self.config.capacity_for(length)))
        around = self._by_length[max(0, anchor - 4 * count) : anchor + 4 * count + 1]
        chosen = rng.choice(np.asarray(around), min(count, len(around)), replace=False)
        return self.collate([int(song) for song in chosen], rng, dropout)

    def collate(
        self, songs: Sequence[int], rng: np.random.Generator, dropout: Dropout, *, is_null: bool = False
    ) -> LmBatch:
        """Given songs; `is_null` drops all conditions of all."""
        rows = [self._row(song, rng, dropout, is_null) for song in songs]
        width = max(columns.shape[1] for _, columns, _, _ in rows)
        special, config = self.config.special, self.config
        columns_BKS = torch.full((len(rows), config.num_codebooks, width), special)
        is_scored_BKS = torch.zeros(columns_BKS.shape, dtype=torch.bool)
        places_BS = torch.full((len(rows), width), NOWHERE)
        phoneme_BS = torch.full((len(rows), width), NOWHERE)
        for row, (_, columns_KS, places, phoneme) in enumerate(rows):
            columns_BKS[row, :, : columns_KS.shape[1]] = columns_KS
            num_frames = columns_KS.shape[1] - 1 - max(config.delays)
            mask_KS = frame_mask(num_frames, config.delays)
            is_scored_BKS[row, :, : mask_KS.shape[1]] = mask_KS
            start = 1 + config.delays[0]
            places_BS[row, start : start + len(places)] = places
            phoneme_BS[row, start : start + len(phoneme)] = phoneme
        return LmBatch(
            join_conditions([conditions for conditions, *_ in rows]),
            columns_BKS,
            is_scored_BKS,
            places_BS,
            phoneme_BS,
        )

    def _row(
        self, song: int, rng: np.random.Generator, dropout: Dropout, is_null: bool
    ) -> tuple[tuple[LevoConditions, int, Tensor], Tensor, Tensor, Tensor]:
        """Conditions with the row that counts and the prompt, columns, places, phonemes."""
        own, config = self.song(song), self.config
        is_null = bool(rng.random() < dropout.everything) or is_null
        has_description = bool(rng.random() >= dropout.description)
        prompt_2KP = self._prompt(song, rng, dropout)
        conditions = self.conditions(song, has_description)
        end_K1 = torch.full((config.num_codebooks, 1), config.eos)
        columns_KS = to_sequence(torch.cat([own.codes_KT, end_K1], dim=1), config.delays, config.special)
        places = torch.full_like(own.places_T, NOWHERE) if is_null else own.places_T
        return (conditions, int(is_null), prompt_2KP), columns_KS, places, own.phoneme_T

    def _prompt(self, song: int, rng: np.random.Generator, dropout: Dropout) -> Tensor:
        """Prefix ids `[2, K, P]` of a drawn prompt, or of none."""
        config = self.config
        is_given, is_foreign, place = rng.random(3)
        source = song
        if is_foreign < dropout.foreign_prompt:
            source = int(rng.choice(np.asarray(self._of_genre.get(self.song(song).genre, [song]))))
        if is_given >= dropout.prompt:
            return prompt_rows(fit_prompt(None, config), config)
        codes_KT = self.song(source).codes_KT
        start = int(place * max(1, codes_KT.shape[1] - config.prompt_frames + 1))
        cut_KP = codes_KT[:, start : start + config.prompt_frames].clone()
        cut_KP[1:] = config.special
        return prompt_rows(fit_prompt(cut_KP, config), config)


def join_conditions(rows: Sequence[tuple[LevoConditions, int, Tensor]]) -> LevoConditions:
    """Conditions of B rows, from pairs of which row 0 (conditional) or 1 (null) counts, and their prompts."""

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(conditions, name)[row] for conditions, row, _ in rows])

    return LevoConditions(
        lyric_ids=stack("lyric_ids"),
        structure_rows=stack("structure_rows"),
        description_ids=stack("description_ids"),
        prompt_ids=torch.stack([prompt_2KP[row] for _, row, prompt_2KP in rows]),
        banned=torch.zeros(0, dtype=torch.int64),
    )
