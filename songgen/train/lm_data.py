"""Batches for the language model: conditions, and codes in the delay pattern, of songs of similar length.

Conditions are those of inference (`levo/condition.py`), one row a song: the conditional or the null one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from songgen.models.levo.conditions import LevoConditions, fit_prompt, prompt_rows
from songgen.models.levo.pattern import frame_mask, sequence_length, to_sequence
from songgen.train.label_codes import without_beats
from songgen.train.lm_excerpts import Excerpt
from songgen.train.lm_songs import NOWHERE, SongReader


@dataclass(frozen=True)
class LmBatch:
    """B songs as sequences of S columns.

    Args:
        conditions: B rows instead of two.
        columns_BKS: codes in the delay pattern, EOS behind each row's last frame, SPECIAL elsewhere.
        inputs_BKS: the same with some codes replaced: what the model reads.
        is_scored_BKS: columns that hold a frame or EOS.
        places_BS, next_BS: lyric position of the mixed frame that a column holds, and the one after it;
            `NOWHERE` without one, where another code is read, and in null rows.
        next_phoneme_BS: class of the phoneme at that next position, 0 for a tag; `NOWHERE` as `next_BS`.
    """

    conditions: LevoConditions
    columns_BKS: Tensor
    inputs_BKS: Tensor
    is_scored_BKS: Tensor
    places_BS: Tensor
    next_BS: Tensor
    next_phoneme_BS: Tensor


@dataclass(frozen=True)
class Dropout:
    """Odds of what songs are not told or are told wrongly, and of how they are cut.

    Args:
        everything: all conditions null, as guidance needs.
        description: no descriptions.
        prompt: odds that there is a prompt, of mixed codes alone.
        foreign_prompt: of the prompts, those of another song of the genre.
        codes: share of the mixed codes read that are replaced by others of the song; sampling errs too.
        span: frames that are replaced at once, at most. Told without fault what was sung just now, the
            model goes on by itself and hardly looks at the lyrics; told something else for a while, it must.
        beats: share of the beats in the mixed codes read that are not told. Codes that are sampled miss some,
            as at any frame something else is likelier; so the band learns to keep time by itself.
        stem_codes: share of the vocal and bgm codes that are replaced one by one, more of which make the
            model look at the mixed ones.
        excerpt: batches of excerpts instead of whole songs.
    """

    everything: float = 0.1
    description: float = 0.15
    prompt: float = 0.4
    foreign_prompt: float = 0.5
    codes: float = 0.05
    span: int = 1
    beats: float = 0.0
    stem_codes: float = 0.05
    excerpt: float = 0.4


NOTHING_DROPPED = Dropout(0.0, 0.0, 0.0, 0.0, 0.0, 1, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Row:
    """One song of a batch; `number` is the row of the conditions that counts, `told_3T` the frames of
    `places_BS`, `next_BS` and `next_phoneme_BS`."""

    conditions: LevoConditions
    number: int
    prompt_2KP: Tensor
    columns_KS: Tensor
    inputs_KS: Tensor
    told_3T: Tensor


class LmSource:
    """Draws batches of songs of similar length.

    Args:
        batch_positions: prefix and columns of all songs of a batch, about.
    """

    def __init__(self, reader: SongReader, *, batch_positions: int) -> None:
        self.reader, self.config = reader, reader.config
        self._batch_positions = batch_positions
        fits = [reader.whole(song) for song in reader.songs]
        self.whole = _by_length(found for found in fits if found.num_frames <= self.config.max_frames)
        self.excerpts = _by_length(found for song in reader.songs for found in reader.excerpts(song))
        self._of_genre: dict[str, list[int]] = {}
        for song in reader.songs:
            self._of_genre.setdefault(reader.genre(song), []).append(song)

    def batch(self, rng: np.random.Generator, dropout: Dropout) -> LmBatch:
        """Songs of about one length; a function of the generator."""
        is_cut = bool(rng.random() < dropout.excerpt)
        pool = self.excerpts if (is_cut and self.excerpts) or not self.whole else self.whole
        anchor = int(rng.integers(len(pool)))
        count = max(1, round(self._batch_positions / self.config.capacity_for(pool[anchor].num_frames)))
        around = pool[max(0, anchor - 4 * count) : anchor + 4 * count + 1]
        chosen = rng.choice(len(around), min(count, len(around)), replace=False)
        return self.collate([around[number] for number in chosen], rng, dropout)

    def collate(
        self, songs: Sequence[Excerpt], rng: np.random.Generator, dropout: Dropout, *, is_null: bool = False
    ) -> LmBatch:
        """Given songs; `is_null` drops all conditions of all."""
        config = self.config
        rows = [self._row(song, rng, dropout, is_null) for song in songs]
        shape = (len(rows), config.num_codebooks, max(row.columns_KS.shape[1] for row in rows))
        columns_BKS, inputs_BKS = torch.full(shape, config.special), torch.full(shape, config.special)
        is_scored_BKS = torch.zeros(shape, dtype=torch.bool)
        told_3BS = torch.full((3, shape[0], shape[2]), NOWHERE)
        start = 1 + config.delays[0]
        for number, row in enumerate(rows):
            num_columns, num_frames = row.columns_KS.shape[1], row.told_3T.shape[1]
            columns_BKS[number, :, :num_columns] = row.columns_KS
            inputs_BKS[number, :, :num_columns] = row.inputs_KS
            is_scored_BKS[number, :, :num_columns] = frame_mask(num_frames + 1, config.delays)
            told_3BS[:, number, start : start + num_frames] = row.told_3T
        return LmBatch(_join(rows), columns_BKS, inputs_BKS, is_scored_BKS, *told_3BS)

    def _row(self, excerpt: Excerpt, rng: np.random.Generator, dropout: Dropout, is_null: bool) -> _Row:
        own, config = self.reader.read(excerpt), self.config
        is_null = bool(rng.random() < dropout.everything) or is_null
        has_description = bool(rng.random() >= dropout.description)
        prompt_2KP = self._prompt(excerpt.song, rng, dropout)
        end_K1 = torch.full((config.num_codebooks, 1), config.eos)
        read_KT = self._disturbed(own.codes_KT, rng, dropout)
        told_3T = torch.stack([own.places_T, own.next_T, own.next_phoneme_T])
        told_3T[:, (read_KT[0] != own.codes_KT[0]) | is_null] = NOWHERE
        is_kept_T = torch.from_numpy(rng.random(excerpt.num_frames) >= dropout.beats)
        read_KT[0] = torch.where(is_kept_T, read_KT[0], without_beats(read_KT[0]))
        columns_KS, inputs_KS = (
            to_sequence(torch.cat([codes_KT, end_K1], dim=1), config.delays, config.special)
            for codes_KT in (own.codes_KT, read_KT)
        )
        assert columns_KS.shape[1] == sequence_length(excerpt.num_frames + 1, config.delays)
        return _Row(
            self.reader.conditions(excerpt, has_description),
            int(is_null),
            prompt_2KP,
            columns_KS,
            inputs_KS,
            told_3T,
        )

    def _disturbed(self, codes_KT: Tensor, rng: np.random.Generator, dropout: Dropout) -> Tensor:
        """Some codes replaced by those of other frames."""
        num_tracks, num_frames = codes_KT.shape
        sources = [_replaced(num_frames, rng, dropout.codes, dropout.span)]
        sources += [_replaced(num_frames, rng, dropout.stem_codes, 1) for _ in range(num_tracks - 1)]
        return codes_KT.gather(1, torch.from_numpy(np.stack(sources)))

    def _prompt(self, song: int, rng: np.random.Generator, dropout: Dropout) -> Tensor:
        """Prefix ids `[2, K, P]` of a drawn prompt, or of none."""
        config = self.config
        is_given, is_foreign, place = rng.random(3)
        source = song
        if is_foreign < dropout.foreign_prompt:
            source = int(rng.choice(np.asarray(self._of_genre[self.reader.genre(song)])))
        if is_given >= dropout.prompt:
            return prompt_rows(fit_prompt(None, config), config)
        codes_KT = self.reader.codes(source)
        start = int(place * max(1, codes_KT.shape[1] - config.prompt_frames + 1))
        cut_KP = codes_KT[:, start : start + config.prompt_frames].clone()
        cut_KP[1:] = config.special
        return prompt_rows(fit_prompt(cut_KP, config), config)


def _replaced(num_frames: int, rng: np.random.Generator, share: float, longest: int) -> np.ndarray:
    """The frame that each one is read from, `[T]`: for about a share of them, in spans, one of elsewhere."""
    sources = np.arange(num_frames)
    for _ in range(rng.poisson(share * num_frames * 2 / (1 + longest))):
        start, length = rng.integers(num_frames), rng.integers(1, longest + 1)
        span = np.arange(start, min(num_frames, start + length))
        sources[span] = (span + rng.integers(num_frames)) % num_frames
    return sources


def _by_length(found: Iterable[Excerpt]) -> list[Excerpt]:
    return sorted(found, key=lambda excerpt: (excerpt.num_frames, excerpt.song, excerpt.first))


def _join(rows: Sequence[_Row]) -> LevoConditions:
    """Conditions of B rows, of each song the row that counts, and their prompts."""

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(row.conditions, name)[row.number] for row in rows])

    return LevoConditions(
        lyric_ids=stack("lyric_ids"),
        structure_rows=stack("structure_rows"),
        description_ids=stack("description_ids"),
        prompt_ids=torch.stack([row.prompt_2KP[row.number] for row in rows]),
        banned=torch.zeros(0, dtype=torch.int64),
    )
