"""Lyrics of SongBloom: a lyric string to phonemes to rows of the vocabulary, and what got lost on the way.

The string is split at single blanks. A piece that is itself an entry of the vocabulary, and the empty piece
between two blanks, stays as it is; any other goes through the G2P alone, so English words have no
neighbours. Whatever has no row is left out of the condition, as published, but reported. Knows nothing of
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from songgen.models.songbloom.g2p import MixedG2P


@dataclass(frozen=True)
class Dropped:
    """Something of the lyrics that the model will not hear.

    Args:
        text: what was lost: characters of the lyrics, or a phoneme that the vocabulary lacks.
        piece: the piece it was in, as written.
        column: 1-based column of that piece in the lyrics.
    """

    text: str
    piece: str
    column: int

    @property
    def is_sung(self) -> bool:
        """Whether a letter or digit was lost; otherwise it is a mark or a picture."""
        return any(character.isalnum() for character in self.text)

    def __str__(self) -> str:
        piece = "" if self.piece == self.text else f"{self.piece!r}, "
        return f"{self.text!r} ({piece}column {self.column}) has no phoneme and is not sung"


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
    dropped: tuple[Dropped, ...]


class SongBloomText:
    """The text half of the lyrics condition; its dictionaries are read when a text first needs them.

    Args:
        vocab: the published vocabulary (`vocab_g2p.yaml`), row by row; row 0 is the empty string.
        japanese: whether kana are read, by pyopenjtalk. The published program drops them.
    """

    def __init__(self, vocab: Sequence[str], *, japanese: bool = True) -> None:
        self._rows = {entry: row for row, entry in enumerate(vocab)}
        self._g2p = MixedG2P(frozenset(vocab), japanese=japanese)

    def encode(self, lyrics: str) -> Encoded:
        """Phonemes and ids of a lyric string; an empty string gives the null condition `[0]`.

        Raises:
            ValueError: a package of the G2P is not installed; says which extra has it.
        """
        pieces: list[str] = []
        dropped: list[Dropped] = []
        column = 1
        for piece in lyrics.split(" "):
            if piece in self._rows:
                pieces.append(piece)
            else:
                found = self._g2p.phonemes(piece)
                pieces.append(" ".join(found.symbols))
                dropped += [Dropped(lost, piece, column) for lost in found.lost]
            column += len(piece) + 1
        phonemes = " ".join(pieces)
        items = tuple(phonemes.split(" "))
        return Encoded(phonemes, items, [self._rows[item] for item in items], tuple(dropped))
