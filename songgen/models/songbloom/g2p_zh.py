"""Chinese: a run of Han characters to the symbols of the vocabulary.

Traditional characters become simplified ones, jieba cuts words with their parts of speech, pypinyin reads
each word, `tone_sandhi` changes tones, and a table parts each syllable into initial and final. As
published, except that a character without a reading is reported and left out where the published program
ends with an error.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from songgen.models.songbloom.g2p_data import need, read_lines
from songgen.models.songbloom.tone_sandhi import ToneRules

_REPLACED = {"嗯": "恩", "呣": "母"}
# Spellings after an initial, of a whole syllable without one, and of its first letter.
_AFTER_INITIAL = {"uei": "ui", "iou": "iu", "uen": "un"}
_WITHOUT_INITIAL = {"ing": "ying", "i": "yi", "in": "yin", "u": "wu"}
_FIRST_LETTER = {"v": "yu", "e": "e", "i": "y", "u": "w"}
_TONES = "12345"


class ChineseG2P:
    """Reads runs of characters from U+4E00 to U+9FA5; loads its dictionaries with the first one.

    Raises:
        ValueError: pypinyin or jieba is not installed.
    """

    def phonemes(self, run: str) -> tuple[list[str], list[str]]:
        """Symbols of a run, and the characters that have no reading."""
        text = "".join(self._simplified.get(character, character) for character in run)
        for written, read in _REPLACED.items():
            text = text.replace(written, read)
        symbols: list[str] = []
        lost: list[str] = []
        words = [(pair.word, pair.flag) for pair in self._tagger.lcut(text)]
        for word, tag in self._tone_rules.join_words(words):
            initials, finals = self._initials_and_finals(word)
            finals = self._tone_rules.change_tones(word, tag, finals)
            for character, initial, final in zip(word, initials, finals, strict=True):
                parts = self._parts(initial, final)
                if parts is None:
                    lost.append(character)
                else:
                    symbols += parts
        return symbols, lost

    def _initials_and_finals(self, word: str) -> tuple[list[str], list[str]]:
        styles = self._pypinyin.Style
        initials, finals = (
            self._pypinyin.lazy_pinyin(
                word, style=style, neutral_tone_with_five=True, errors=lambda unknown: [""] * len(unknown)
            )
            for style in (styles.INITIALS, styles.FINALS_TONE3)
        )
        return initials, finals

    def _parts(self, initial: str, final: str) -> tuple[str, str] | None:
        """The two symbols of a syllable, or None if it is in no table."""
        body, tone = final[:-1], final[-1:]
        if not body or tone not in _TONES:
            return None
        if initial:
            syllable = initial + _AFTER_INITIAL.get(body, body)
        elif body in _WITHOUT_INITIAL:
            syllable = _WITHOUT_INITIAL[body]
        else:
            syllable = _FIRST_LETTER.get(body[0], body[0]) + body[1:]
        parts = self._table.get(syllable)
        return None if parts is None else (parts[0], f"{parts[1]}{tone}")

    @cached_property
    def _table(self) -> dict[str, tuple[str, str]]:
        rows = (line.split() for line in read_lines("syllables.txt"))
        return {syllable: (initial, final) for syllable, initial, final in rows}

    @cached_property
    def _simplified(self) -> dict[str, str]:
        return {line[0]: line[1] for line in read_lines("simplified.txt")}

    @cached_property
    def _pypinyin(self) -> Any:
        return need("pypinyin")

    @cached_property
    def _cutter(self) -> Any:
        jieba = need("jieba")
        jieba.setLogLevel(logging.WARNING)
        return jieba.Tokenizer()

    @cached_property
    def _tagger(self) -> Any:
        return need("jieba.posseg").POSTokenizer(self._cutter)

    @cached_property
    def _tone_rules(self) -> ToneRules:
        lists = dict(line.split(" ", 1) for line in read_lines("neutral_tones.txt"))
        return ToneRules(
            neutral=frozenset(lists["neutral"].split()),
            not_neutral=frozenset(lists["not_neutral"].split()),
            finals_of=lambda word: self._initials_and_finals(word)[1],
            search_cut=lambda word: list(self._cutter.cut_for_search(word)),
        )
