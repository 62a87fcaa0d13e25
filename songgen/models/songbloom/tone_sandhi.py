"""Tones that change in speech: the rules of a Mandarin front end, from a word to its finals as they are sung.

Two halves: neighbouring words are joined where a tone looks across them (`join_words`), then the tones
inside a word are changed (`change_tones`). The rules and their order are those of the PaddleSpeech lineage
that the published model was trained with; the word lists are data. Knows nothing of symbols or
vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Finals = list[str]
Tagged = tuple[str, str]

_BU, _YI, _ER, _GE = "不", "一", "儿", "个"
_NUMBERS_BEFORE_GE = "几有两半多各整每做是"
_PARTICLES = "吧呢哈啊呐噻嘛吖嗨呐哦哒额滴哩哟喽啰耶喔诶"
_STRUCTURAL = "的地得"
_ASPECTS, _ASPECT_TAGS = "了着过", ("ul", "uz", "ug")
_PLURALS, _PLURAL_TAGS = "们子", ("r", "n")
_PLACES, _PLACE_TAGS = "上下里", ("s", "l", "f")
_DIRECTIONS, _BEFORE_DIRECTIONS = "来去", "上下进出回过起开"
_DOUBLED_TAGS = ("n", "v", "a")
_MARKS = "\uff1a\uff0c\uff1b\u3002\uff1f\uff01\u201c\u201d\u2018\u2019':,;.?!"
_LONGEST_JOINED = 3


@dataclass(frozen=True)
class ToneRules:
    """What the tone rules need besides the text.

    Args:
        neutral: words whose last syllable has the neutral tone.
        not_neutral: words that look as if they had one and do not.
        finals_of: a word's finals with tone digits, 5 = neutral.
        search_cut: a word's parts, as a search engine would cut it.
    """

    neutral: frozenset[str]
    not_neutral: frozenset[str]
    finals_of: Callable[[str], Finals]
    search_cut: Callable[[str], list[str]]

    def join_words(self, words: Sequence[Tagged]) -> list[Tagged]:
        """Join neighbouring words (`(word, part of speech)`) whose tones depend on each other."""
        joined = _join_equal(_join_one(_join_bu(words)))
        joined = self._join_third_tones(joined, whole_words=True)
        joined = self._join_third_tones(joined, whole_words=False)
        return _join_er(joined)

    def change_tones(self, word: str, tag: str, finals: Finals) -> Finals:
        """The finals of a word as they are sung; `tag` is its part of speech, one final a character."""
        finals = _change_bu(word, list(finals))
        finals = _change_one(word, finals)
        finals = self._neutral_tones(word, tag, finals)
        return self._third_tones(word, finals)

    def _join_third_tones(self, words: Sequence[Tagged], *, whole_words: bool) -> list[Tagged]:
        """Join two short words that are all third tone, or whose syllables that meet are."""
        finals = [self.finals_of(word) for word, _ in words]
        joined: list[Tagged] = []
        was_joined = False
        for i, (word, tag) in enumerate(words):
            before = words[i - 1][0] if i else ""
            meet = bool(
                i
                and finals[i - 1]
                and finals[i]
                and (
                    _is_third(finals[i - 1]) and _is_third(finals[i])
                    if whole_words
                    else _is_third(finals[i - 1][-1:]) and _is_third(finals[i][:1])
                )
            )
            if (
                meet
                and not was_joined
                and not _is_doubled(before)
                and len(before) + len(word) <= _LONGEST_JOINED
            ):
                joined[-1] = (joined[-1][0] + word, joined[-1][1])
                was_joined = True
            else:
                joined.append((word, tag))
                was_joined = False
        return joined

    def _neutral_tones(self, word: str, tag: str, finals: Finals) -> Finals:
        """Doubled syllables, particles, suffixes, and the words of the list."""
        for j in range(1, len(word)):
            is_doubled = word[j] == word[j - 1] and tag[:1] in _DOUBLED_TAGS
            if is_doubled and word not in self.not_neutral:
                finals[j] = _neutral(finals[j])
        place = word.find(_GE)
        if self._ends_neutral(word, tag):
            finals[-1] = _neutral(finals[-1])
        elif word == _GE or (
            place >= 1 and (word[place - 1].isnumeric() or word[place - 1] in _NUMBERS_BEFORE_GE)
        ):
            finals[place] = _neutral(finals[place])
        elif self._is_neutral_word(word):
            finals[-1] = _neutral(finals[-1])
        first, second = self._halves(word)
        parts = [finals[: len(first)], finals[len(first) :]]
        for part, its_finals in zip((first, second), parts, strict=True):
            if its_finals and self._is_neutral_word(part):
                its_finals[-1] = _neutral(its_finals[-1])
        return [*parts[0], *parts[1]]

    def _ends_neutral(self, word: str, tag: str) -> bool:
        last = word[-1]
        if last in _PARTICLES or last in _STRUCTURAL:
            return True
        if len(word) == 1:
            return last in _ASPECTS and tag in _ASPECT_TAGS
        if last in _PLURALS and tag in _PLURAL_TAGS and word not in self.not_neutral:
            return True
        if last in _PLACES and tag in _PLACE_TAGS:
            return True
        return last in _DIRECTIONS and word[-2] in _BEFORE_DIRECTIONS

    def _is_neutral_word(self, word: str) -> bool:
        return word in self.neutral or word[-2:] in self.neutral

    def _third_tones(self, word: str, finals: Finals) -> Finals:
        """A third tone before another becomes a second."""
        if len(word) == 2 and _is_third(finals):
            finals[0] = _second(finals[0])
        elif len(word) == 3:
            finals = self._third_tones_of_three(word, finals)
        elif len(word) == 4:
            for at in (0, 2):
                if _is_third(finals[at : at + 2]):
                    finals[at] = _second(finals[at])
        return finals

    def _third_tones_of_three(self, word: str, finals: Finals) -> Finals:
        first, _ = self._halves(word)
        if _is_third(finals):
            if len(first) == 2:
                finals[0] = _second(finals[0])
                finals[1] = _second(finals[1])
            elif len(first) == 1:
                finals[1] = _second(finals[1])
            return finals
        parts = [finals[: len(first)], finals[len(first) :]]
        for i, part in enumerate(parts):
            if len(part) == 2 and _is_third(part):
                part[0] = _second(part[0])
            elif i == 1 and part and not _is_third(part) and _is_third(part[:1]) and _is_third(parts[0][-1:]):
                parts[0][-1] = _second(parts[0][-1])
        return [*parts[0], *parts[1]]

    def _halves(self, word: str) -> tuple[str, str]:
        """A word in two: its shortest part at one end, and the rest."""
        shortest = sorted(self.search_cut(word), key=len)[0]
        if word.find(shortest) == 0:
            return shortest, word[len(shortest) :]
        return word[: -len(shortest)], shortest


def _join_bu(words: Sequence[Tagged]) -> list[Tagged]:
    joined: list[Tagged] = []
    last = ""
    for word, tag in words:
        if last == _BU:
            word = last + word
        if word != _BU:
            joined.append((word, tag))
        last = word
    return [*joined, (_BU, "d")] if last == _BU else joined


def _join_one(words: Sequence[Tagged]) -> list[Tagged]:
    """A verb, `yi` and the same verb again; then `yi` with what follows it."""
    between = [
        i
        for i in range(1, len(words) - 1)
        if words[i][0] == _YI and words[i - 1][0] == words[i + 1][0] and words[i - 1][1] == "v"
    ]
    if len(between) > 1:  # as published: the second such place in a run undoes every join with `yi`
        return list(words)
    joined = list(words)
    for i in between:
        joined[i - 1 : i + 2] = [("".join(word for word, _ in words[i - 1 : i + 2]), words[i - 1][1])]
    return _join_after_one(joined)


def _join_after_one(words: Sequence[Tagged]) -> list[Tagged]:
    joined: list[Tagged] = []
    for word, tag in words:
        if joined and joined[-1][0] == _YI:
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, tag))
    return joined


def _join_equal(words: Sequence[Tagged]) -> list[Tagged]:
    joined: list[Tagged] = []
    for word, tag in words:
        if joined and joined[-1][0] == word:
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, tag))
    return joined


def _join_er(words: Sequence[Tagged]) -> list[Tagged]:
    joined: list[Tagged] = []
    for word, tag in words:
        if joined and word == _ER:
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, tag))
    return joined


def _change_bu(word: str, finals: Finals) -> Finals:
    if len(word) == 3 and word[1] == _BU:
        finals[1] = _neutral(finals[1])
        return finals
    for i, character in enumerate(word[:-1]):
        if character == _BU and finals[i + 1].endswith("4"):
            finals[i] = _second(finals[i])
    return finals


def _change_one(word: str, finals: Finals) -> Finals:
    if _YI in word and all(character.isnumeric() for character in word if character != _YI):
        return finals
    if len(word) == 3 and word[1] == _YI and word[0] == word[2]:
        finals[1] = _neutral(finals[1])
    elif word.startswith("第一"):
        finals[1] = f"{finals[1][:-1]}1"
    else:
        for i, character in enumerate(word[:-1]):
            if character != _YI:
                continue
            if finals[i + 1].endswith("4"):
                finals[i] = _second(finals[i])
            elif word[i + 1] not in _MARKS:
                finals[i] = f"{finals[i][:-1]}4"
    return finals


def _neutral(final: str) -> str:
    return f"{final[:-1]}5"


def _second(final: str) -> str:
    return f"{final[:-1]}2"


def _is_third(finals: Finals) -> bool:
    return all(final.endswith("3") for final in finals)


def _is_doubled(word: str) -> bool:
    return len(word) == 2 and word[0] == word[1]
