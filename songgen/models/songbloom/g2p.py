"""From one piece of a lyric string to phonemes: marks, runs of Chinese, and all else, each in its turn.

A piece is what stands between two blanks. Marks are unified first, then the piece is cut into marks, runs
of Han characters and other runs; digits beside Chinese are therefore read in English, as published.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from songgen.models.songbloom.g2p_en import EnglishG2P
from songgen.models.songbloom.g2p_ja import JapaneseG2P
from songgen.models.songbloom.g2p_zh import ChineseG2P

MARKS = ",.!?\u2026-"
"""The marks that are phonemes."""

_UNIFIED = (
    (re.compile("[\uff1a\uff1b\uff0c\u00b7\u3001/]"), ","),
    (re.compile("[\u3002\n$]"), "."),
    (re.compile("\uff01"), "!"),
    (re.compile("\uff1f"), "?"),
    (re.compile(r"\.\.\.|[~\uff5e]"), "\u2026"),
    (re.compile("\u2014"), "-"),
)
# Kana without the dot between names, which Chinese has, too.
_HAN, _KANA = "\u4e00-\u9fa5", "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_MARK = re.escape(MARKS)
_RUN = re.compile(rf"(?P<mark>[{_MARK}])|(?P<han>[{_HAN}]+)|(?P<other>[^{_MARK}{_HAN}]+)")
_RUN_WITH_KANA = re.compile(
    rf"(?P<mark>[{_MARK}])"
    rf"|(?P<kana>[{_HAN}\u3005]*[{_KANA}][{_HAN}{_KANA}\u3005]*)"
    rf"|(?P<han>[{_HAN}]+)"
    rf"|(?P<other>[^{_MARK}{_HAN}{_KANA}]+)"
)


def has_kana(text: str) -> bool:
    """Whether a text holds kana."""
    return bool(re.search(f"[{_KANA}]", text))


@dataclass(frozen=True)
class Phonemes:
    """A piece as phonemes, and the parts of it that have none."""

    symbols: list[str]
    lost: list[str]


class MixedG2P:
    """Chinese and English in one piece; with `japanese`, runs that hold kana as well.

    Args:
        symbols: the phonemes that the vocabulary has.
        japanese: read kana, and the characters beside them, in Japanese; the published program drops kana.

    Raises:
        ValueError: a package that a run needs is not installed.
    """

    def __init__(self, symbols: Collection[str], *, japanese: bool = False) -> None:
        self._symbols = symbols
        self._pattern = _RUN_WITH_KANA if japanese else _RUN

    def phonemes(self, piece: str) -> Phonemes:
        """The phonemes of a piece without blanks."""
        for pattern, mark in _UNIFIED:
            piece = pattern.sub(mark, piece)
        symbols: list[str] = []
        lost: list[str] = []
        for match in self._pattern.finditer(piece):
            if match.lastgroup == "mark":
                symbols.append(match.group())
                continue
            found, missed = self._read(match.lastgroup, match.group())
            symbols += found
            lost += missed
        return Phonemes(symbols, lost)

    def _read(self, kind: str | None, run: str) -> tuple[list[str], list[str]]:
        """Symbols of a run, and what was lost of it."""
        if kind == "han":
            return self._chinese.phonemes(run)
        return self._japanese.phonemes(run) if kind == "kana" else self._english.phonemes(run)

    @cached_property
    def _chinese(self) -> ChineseG2P:
        return ChineseG2P()

    @cached_property
    def _english(self) -> EnglishG2P:
        return EnglishG2P(self._symbols)

    @cached_property
    def _japanese(self) -> JapaneseG2P:
        return JapaneseG2P(self._symbols)
