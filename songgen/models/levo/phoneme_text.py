"""Lyrics as phonemes: the text of LeVo models that never saw spelling, `songgen.lyric_text: phonemes`.

A structure tag is a token, a word as many as it has phonemes (without stress), the end of a line one. There
are no tokens for blanks and commas, so that the prefix stays short. Ids: the three special tokens, the tags
in the order of conf/vocab.yaml, the phonemes in the order of `songgen.english`, the line end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from songgen.english import PHONEMES, bare, pronounce
from songgen.lyrics import SUNG_TAGS, parse_lyrics
from songgen.models.levo.config import STRUCTURE_ROWS
from songgen.models.levo.text import END, PAD, START

WITHOUT_VOICE = "[inst-medium] ; [outro-short]"
"""What a song without voice is made of where its lyrics name no section that is played."""

LINE_END = "."
"""The token of one or several of `.`, `!`, `?` and line breaks behind words."""

TOKENS_A_ROW = 2
"""Tokens that share a row of the structure table, whose 200 rows are those of published models."""

_LINE_END = re.compile("[.!?\n\u2026]+")
_NUMBER_POINT = re.compile(r"(?<=\d)\.(?=\d)")
Span = tuple[int, int]


class PhonemeTokenizer:
    """Lyrics to ids of tags, phonemes and line ends; as `TextTokenizer` in all that conditioning asks.

    Args:
        structure_tags: with brackets, in the order of their ids.

    Raises:
        ValueError: the package with the pronunciations is not installed.
    """

    def __init__(self, structure_tags: Sequence[str]) -> None:
        tokens = (PAD, START, END, *structure_tags, *PHONEMES, LINE_END)
        self._ids = {token: number for number, token in enumerate(tokens)}
        self._tags = re.compile("|".join(map(re.escape, structure_tags)) or r"(?!)")
        self.pad_id, self.end_id = self._ids[PAD], self._ids[END]
        pronounce("a")  # loads the dictionary

    @property
    def num_rows(self) -> int:
        """Rows of the embedding table that fits."""
        return len(self._ids)

    def id_of(self, token: str) -> int:
        """The id of a tag, phoneme or special token. Raises ValueError if there is none."""
        if token not in self._ids:
            raise ValueError(f"the phoneme vocabulary has no token {token!r}")
        return self._ids[token]

    def encode(self, text: str | None) -> list[int]:
        """Ids of the start token and the lyrics; None and "" give the start token alone."""
        return [self._ids[token] for token, _ in self._tokens(text or "")]

    def token_spans(self, text: str) -> tuple[str, list[Span]]:
        """The text, and for each token of `encode` the characters it comes from: of a phoneme its word's.

        The start token is before it, at (0, 0).
        """
        return text, [span for _, span in self._tokens(text)]

    def structure_rows(self, ids: Sequence[int], num_tags: int) -> list[int]:
        """For each token half its place in the text, at most the table's last row; 0 for padding.

        Other models read here the section that a token stands in. Phonemes repeat so much that where one
        stands says more; the tags are tokens beside them.
        """
        return [
            0 if token == self.pad_id else min(place // TOKENS_A_ROW, STRUCTURE_ROWS - 1)
            for place, token in enumerate(ids)
        ]

    def _tokens(self, text: str) -> list[tuple[str, Span]]:
        found: list[tuple[int, str, Span]] = [
            (match.start(), match.group(), match.span()) for match in self._tags.finditer(text)
        ]
        found += self._line_ends(text)
        found += [
            (word.start, bare(phoneme), (word.start, word.end))
            for word in pronounce(text)
            for phoneme in word.phonemes
        ]
        found.sort(key=lambda token: token[0])  # stable: the phonemes of a word stay in order
        tokens: list[tuple[str, Span]] = [(START, (0, 0))]
        for _, token, span in found:
            last = tokens[-1][0]
            if token != LINE_END or not (last == LINE_END or self._tags.fullmatch(last)):
                tokens.append((token, span))
        return tokens

    def _line_ends(self, text: str) -> Iterator[tuple[int, str, Span]]:
        """The marks that end a line; a line break alone is none at the start, where nothing has been sung."""
        points = {match.start() for match in _NUMBER_POINT.finditer(text)}
        for match in _LINE_END.finditer(text):
            if match.start() not in points and (match.group().strip() or text[: match.start()].strip()):
                yield match.start(), LINE_END, match.span()


def lyrics_without_voice(lyrics: str) -> str:
    """The lyrics of a song without voice: its sections that are played, as such songs are written.

    >>> lyrics_without_voice("[intro-short] ; [verse] Go. ; [outro-short]")
    '[intro-short] ; [outro-short]'
    """
    sections = parse_lyrics(lyrics).sections
    played = [f"[{section.tag}]" for section in sections if section.tag not in SUNG_TAGS]
    return " ; ".join(played) or WITHOUT_VOICE
