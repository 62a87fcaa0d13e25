"""English: a run of text without marks to phones.

Numbers become words, accents go, and whatever is then no letter, blank, apostrophe or mark is lost (and
reported). Each token is said alone; a homograph is chosen by its part of speech. The rules for numbers and
the list of homographs are g2p_en's; the published program calls no context into play, as every word comes
alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import cached_property
from typing import Any

from songgen.models.songbloom.g2p_data import need, package_file
from songgen.models.songbloom.pronounce import Pronouncer
from songgen.models.songbloom.tagger import PerceptronTagger

LONGEST_WORD = 100
"""Letters; what is longer is no word, and splitting it would take minutes."""

_COMMAS, _APOSTROPHES = re.compile("[;:\uff1a\uff0c\uff1b]"), re.compile('["\u2019]')
_COMMA_NUMBER, _POUNDS = re.compile(r"[0-9][0-9,]+[0-9]"), re.compile("\u00a3([0-9,]*[0-9]+)")
# Longer numbers have no name in the inflect package: they are lost, and reported.
_MOST_DIGITS = 36
_DIGITS = rf"(?<![0-9])[0-9]{{1,{_MOST_DIGITS}}}"
_ORDINAL, _NUMBER = re.compile(rf"{_DIGITS}(?:st|nd|rd|th)"), re.compile(rf"{_DIGITS}(?![0-9])")
_NOT_READ = re.compile(r"[^ A-Za-z'.,?!-]")
# More than three equal marks count as three.
_HANGING = re.compile(r"([^a-zA-Z0-9])\1{3,}")
_TOKEN = re.compile(r"[A-Za-z][A-Za-z'-]+[A-Za-z]|[A-Za-z]+|\.(?:\s*\.)+|\S")
_LETTER = re.compile("[a-z]")
# As published: these two are chosen otherwise than g2p_en does.
_HOMOGRAPHS = {
    "read": ("R IY1 D", "R EH1 D", "VBP"),
    "complex": ("K AH0 M P L EH1 K S", "K AA1 M P L EH0 K S", "JJ"),
}
# Phones that are no sound to the model. The unstressed UW is among them, as published.
_SILENT = (" ", "<pad>", "UW", "</s>", "<s>")
_RENAMED = {"<unk>": "UNK", "'": "-"}
_YEARS = range(1001, 3000)
_FIRST_OF_2000 = range(2001, 2010)


class EnglishG2P:
    """Reads runs of Latin letters and digits; loads its dictionaries with the first one.

    Args:
        symbols: the phonemes that the vocabulary has.

    Raises:
        ValueError: a package of the `songbloom` extra is not installed.
    """

    def __init__(self, symbols: Collection[str]) -> None:
        self._symbols = symbols
        self._pronouncer = Pronouncer()
        self._tagger = PerceptronTagger()

    def phonemes(self, run: str) -> tuple[list[str], list[str]]:
        """Symbols of a run, and what was lost of it: characters without a sound here."""
        text, lost = self._normalized(run)
        tokens = _TOKEN.findall(_HANGING.sub(r"\1\1\1", text))
        lost += [token for token in tokens if len(token) > LONGEST_WORD]
        words = [i for i, token in enumerate(tokens) if len(token) <= LONGEST_WORD]
        phones = [phone for i in words for phone in self._said(tokens, i)]
        symbols = [_RENAMED.get(phone, phone) for phone in phones if phone not in _SILENT]
        lost += [symbol for symbol in symbols if symbol not in self._symbols]
        return [symbol for symbol in symbols if symbol in self._symbols], lost

    def _normalized(self, run: str) -> tuple[str, list[str]]:
        """A run in letters, blanks and marks, and the characters that were taken out."""
        text = _APOSTROPHES.sub("'", _COMMAS.sub(",", run))
        text = _POUNDS.sub(r"\1 pounds", _COMMA_NUMBER.sub(lambda m: m.group().replace(",", ""), text))
        text = _ORDINAL.sub(lambda m: self._numbers.number_to_words(m.group()), text)
        text = _NUMBER.sub(lambda m: self._number(int(m.group())), text)
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        return _NOT_READ.sub("", text), _lost(unicodedata.normalize("NFC", text))

    def _number(self, number: int) -> str:
        """A number in words; from 1001 to 2999 as a year."""
        words = self._numbers.number_to_words
        if number not in _YEARS:
            return words(number, andword="")
        if number == 2000:
            return "two thousand"
        if number in _FIRST_OF_2000:
            return f"two thousand {words(number % 100)}"
        if number % 100 == 0:
            return f"{words(number // 100)} hundred"
        return words(number, andword="", zero="oh", group=2).replace(", ", " ")

    def _said(self, tokens: list[str], i: int) -> list[str]:
        """The phones of one token."""
        word = tokens[i].lower()
        if not _LETTER.search(word):
            return [word]
        if tokens[i] == "A":
            return self._pronouncer.letter("a")
        if len(word) == 1:
            return self._pronouncer.single(word)
        if word in self._homographs:
            first, second, wanted = self._homographs[word]
            tag = self._tagger.tag(tokens)[i]
            return (first if tag.startswith(wanted) or wanted.startswith(tag) else second).split()
        return self._pronouncer.phones(word)

    @cached_property
    def _homographs(self) -> dict[str, tuple[str, str, str]]:
        found = {}
        for line in package_file("g2p_en", "homographs.en").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                word, first, second, tag = line.strip().split("|")
                found[word.lower()] = (first, second, tag)
        return {**found, **_HOMOGRAPHS}

    @cached_property
    def _numbers(self) -> Any:
        return need("inflect").engine()


def _lost(text: str) -> list[str]:
    """Runs of characters that have no sound, in order."""
    return re.findall(rf"(?:{_NOT_READ.pattern})+", text)
