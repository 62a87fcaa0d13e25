"""Lyrics of SongBloom: a lyric string to phonemes to rows of the vocabulary, and what got lost on the way.

The string is split at single blanks. A piece that is itself an entry of the vocabulary, and the empty piece
between two blanks, stays as it is; any other goes through the G2P alone, so English words have no
neighbours. Whatever has no row is left out of the condition, as published, but reported. Knows nothing of
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources

import yaml

from songgen.models.songbloom.g2p import MixedG2P, has_kana
from songgen.models.songbloom.g2p_data import MissingPackageError
from songgen.songbloom_form import LONG_TAG_SECONDS, SHORT_TAG_SECONDS
from songgen.text_rules import TextRules, Uncovered

LONGEST_OF_SHORT_TAGS = 200.0
"""Models up to this long learnt one bare tag a second; longer ones, one for every five. Seconds."""

_KEPT_PIECES = 8192


def published_vocabulary() -> tuple[str, ...]:
    """The entries of the published `vocab_g2p.yaml`, row by row: all published models have this one."""
    path = resources.files("songgen") / "configs" / "songbloom" / "vocab_g2p.yaml"
    return tuple(yaml.safe_load(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Encoded:
    """Lyrics as the model gets them.

    Args:
        phonemes: the processed string, pieces joined by blanks.
        items: what has a row of the vocabulary, in order; `""` stands for a doubled blank or a piece without
            phonemes.
        ids: the row of each item, 0 ... len(vocab) - 1.
        dropped: what has none, in order of place.
    """

    phonemes: str
    items: tuple[str, ...]
    ids: list[int]
    dropped: tuple[Uncovered, ...]


class SongBloomText:
    """The text half of the lyrics condition; its dictionaries are read when a text first needs them.

    Args:
        vocab: the published vocabulary (`vocab_g2p.yaml`), row by row; row 0 is the empty string.
        japanese: whether kana are read, by pyopenjtalk. The published program drops them.
    """

    def __init__(self, vocab: Sequence[str], *, japanese: bool = True) -> None:
        self._vocab = tuple(vocab)
        self._rows = {entry: row for row, entry in enumerate(vocab)}
        self._japanese = japanese
        # A chorus comes again, and the linter encodes a text several times.
        self._phonemes = lru_cache(_KEPT_PIECES)(MixedG2P(frozenset(vocab), japanese=japanese).phonemes)

    def encode(self, lyrics: str) -> Encoded:
        """Phonemes and ids of a lyric string; an empty string gives the null condition `[0]`.

        Raises:
            ValueError: a package of the G2P is not installed, or pyopenjtalk for kana; says what to install.
        """
        pieces: list[str] = []
        dropped: list[Uncovered] = []
        column = 1
        for piece in lyrics.split(" "):
            if piece in self._rows:
                pieces.append(piece)
            else:
                found = self._phonemes(piece)
                pieces.append(" ".join(found.symbols))
                dropped += [Uncovered(lost, piece, column) for lost in found.lost]
            column += len(piece) + 1
        phonemes = " ".join(pieces)
        items = self.items(phonemes)
        return Encoded(phonemes, items, self.rows(items), tuple(dropped))

    def items(self, phonemes: str) -> tuple[str, ...]:
        """What of a processed string has a row; the model's own tokenizer leaves the rest out."""
        return tuple(item for item in phonemes.split(" ") if item in self._rows)

    def rows(self, items: Sequence[str]) -> list[int]:
        """The rows of items of the vocabulary."""
        return [self._rows[item] for item in items]

    def uncovered(self, lyrics: str) -> Sequence[Uncovered]:
        """What of the lyrics has no phoneme here; kana with the way to have them read.

        Raises:
            ValueError: a package that Chinese or English needs is not installed.
        """
        return self._encode_what_can_be(lyrics).dropped

    def count(self, lyrics: str) -> int:
        """Positions that lyrics take, as far as they can be read here; those behind the model's are cut.

        Raises:
            ValueError: a package that Chinese or English needs is not installed.
        """
        return len(self._encode_what_can_be(lyrics).ids)

    def _encode_what_can_be(self, lyrics: str) -> Encoded:
        """As `encode`; without pyopenjtalk, kana are dropped with the advice to install it."""
        try:
            return self.encode(lyrics)
        except MissingPackageError as error:
            if not (self._japanese and error.is_for_japanese):
                raise
            advice = str(error)
        found = self._without_japanese.encode(lyrics)
        dropped = [replace(item, advice=advice) if has_kana(item.text) else item for item in found.dropped]
        return replace(found, dropped=tuple(dropped))

    @cached_property
    def _without_japanese(self) -> SongBloomText:
        return SongBloomText(self._vocab, japanese=False)

    def rules(self, *, max_lyric_tokens: int, max_seconds: float) -> TextRules:
        """What the linter has to know of a model's text.

        Args:
            max_lyric_tokens: lyric positions of the model.
            max_seconds: its longest song; decides how many seconds a bare tag stands for.
        """
        is_short = max_seconds <= LONGEST_OF_SHORT_TAGS
        return TextRules(
            family="songbloom",
            max_lyric_tokens=max_lyric_tokens,
            count_lyric_tokens=self.count,
            max_seconds=max_seconds,
            tag_seconds=SHORT_TAG_SECONDS if is_short else LONG_TAG_SECONDS,
            uncovered=self.uncovered,
            needs_prompt=True,
            reads_descriptions=False,
        )
