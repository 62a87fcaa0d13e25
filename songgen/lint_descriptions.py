"""Rules for descriptions: comma-separated tags such as `female, warm, pop, piano, the bpm is 120`.

Capitals need no rule (the model's text is lower-cased), and a period at the end is as published.
"""

from __future__ import annotations

import re

from songgen.characters import (
    ASCII_OF_WIDE,
    ELLIPSIS,
    ENUMERATION_COMMA,
    HALF_COMMA,
    HALF_STOP,
    UNSPACED,
    WIDE_CLOSERS,
    WIDE_COMMA,
    WIDE_OPENERS,
    WIDE_SEMICOLON,
    WIDE_STOP,
)
from songgen.tags import BPM_TAG, DESCRIPTION_TAGS, dimension_of
from songgen.text_rules import Edit, TextRules, find_edits

LONGEST_TAG_WORDS = 5
LONGEST_TAG_CHARACTERS = 10  # of Chinese or Japanese

_BPM = re.compile(
    r"(?:the\s+)?(?:bpm|tempo)\s*(?:is|=|:|at|of)?\s*(?P<after>\d{2,3})(?:\s*bpm)?"
    r"|(?:tempo\s*)?(?P<before>\d{2,3})\s*bpm",
    re.IGNORECASE,
)
_FULL_WIDTH = {
    **{wide: narrow for wide, narrow in ASCII_OF_WIDE.items() if not narrow.isalnum()},
    **dict.fromkeys(
        WIDE_COMMA + ENUMERATION_COMMA + HALF_COMMA + WIDE_SEMICOLON + WIDE_STOP + HALF_STOP, ","
    ),
    **dict.fromkeys(WIDE_OPENERS, "("),
    **dict.fromkeys(WIDE_CLOSERS, ")"),
    ELLIPSIS: ".",
}
_BETWEEN_TAGS = re.escape(",;|" + WIDE_COMMA + ENUMERATION_COMMA + HALF_COMMA + WIDE_SEMICOLON) + r"\n\r"


def full_width_marks(text: str, rules: TextRules) -> list[Edit]:
    """Chinese commas and other full-width marks."""
    return find_edits(
        "full-width",
        "warning",
        re.compile(f"[{re.escape(''.join(_FULL_WIDTH))}]"),
        lambda m: _FULL_WIDTH[m.group()],
        lambda m: f"{m.group()!r} is full-width punctuation: the model learnt tags separated by ', '",
        text=text,
        span=(0, len(text)),
    )


def separators(text: str, rules: TextRules) -> list[Edit]:
    """What stands between tags other than `, `: line breaks, semicolons, bars, missing blanks, empty tags."""
    pattern = re.compile(r"(?:\s*[,;|\n\r])+\s*|\s+\Z|\A\s+|[^\S\n\r]{2,}|[^\S\n\r ]")

    def right(match: re.Match[str]) -> str:
        if match.start() == 0 or match.end() == len(text):
            return ""
        return ", " if match.group().strip() or re.search(r"[\n\r]", match.group()) else " "

    why = "tags are separated by one comma and one blank: anything else is other tokens than in training"
    return find_edits("separator", "warning", pattern, right, why, text=text, span=(0, len(text)))


def tempos(text: str, rules: TextRules) -> list[Edit]:
    """The tempo in other words than `the bpm is N`; two tempos."""
    edits, seen = [], []
    for start, tag in _tags(text):
        match = _BPM.fullmatch(tag)
        if not match:
            continue
        number = match.group("after") or match.group("before")
        seen.append((start, number))
        if not BPM_TAG.fullmatch(tag):
            why = "the model learnt the tempo only in the words 'the bpm is N'"
            edits.append(Edit("bpm", "warning", start, start + len(tag), f"the bpm is {int(number)}", why))
    numbers = [number for _, number in seen]
    if len(set(numbers)) > 1:
        why = f"several tempos ({', '.join(numbers)}): keep one"
        edits.append(Edit("bpm-conflict", "warning", seen[1][0], seen[1][0], None, why, False))
    return edits


def sentences(text: str, rules: TextRules) -> list[Edit]:
    """Sentences where tags belong, and tags parted by periods."""
    edits = []
    for start, tag in _tags(text):
        words, characters = len(tag.split()), len(re.findall(f"[{UNSPACED}]", tag))
        if words > LONGEST_TAG_WORDS or characters > LONGEST_TAG_CHARACTERS:
            why = f"{_shorten(tag)!r} is a sentence: the model learnt short tags separated by commas"
            edits.append(Edit("sentence", "warning", start, start + len(tag), None, why, False))
            continue
        why = "tags are separated by ', ', not by periods"
        span = (start, start + len(tag))
        pattern = re.compile(r"\.\s+(?=\S)")
        edits += find_edits("period", "warning", pattern, ", ", why, text=text, span=span, safe=False)
    return edits


def bracketed(text: str, rules: TextRules) -> list[Edit]:
    """Structure tags or the model's own `[...]` marks in a description: plain text there."""
    return find_edits(
        "bracketed",
        "warning",
        re.compile(r"\s*\[[^\[\]]*\]"),
        "",
        lambda m: f"{m.group().strip()} means nothing here: structure tags belong into the lyrics",
        text=text,
        span=(0, len(text)),
        safe=False,
    )


def genders(text: str, rules: TextRules) -> list[Edit]:
    """Both genders asked for."""
    found = {
        name: start for start, tag in _tags(text) for name in _names(tag) if dimension_of(name) == "gender"
    }
    if len({name.casefold() for name in found}) < 2:
        return []
    why = "male and female together: the model sings with one lead voice, and may take either"
    start = max(found.values())
    return [Edit("gender-conflict", "hint", start, start, None, why, False)]


def unknown_tags(text: str, rules: TextRules) -> list[Edit]:
    """Free tags: allowed, but the published ones are the ones the model surely knows."""
    unknown = []
    for start, tag in _tags(text):
        if _BPM.fullmatch(tag) or len(tag.split()) > LONGEST_TAG_WORDS:
            continue
        unknown += [(start, name) for name in _names(tag) if dimension_of(name) is None]
    if not unknown:
        return []
    names = ", ".join(repr(_shorten(name)) for _, name in unknown)
    lists = "; ".join(f"{d}: {', '.join(tags)}" for d, tags in DESCRIPTION_TAGS.items() if d != "bpm")
    why = f"free tags {names} are allowed, but these are known to work: {lists}; the bpm is N"
    return [Edit("free-tag", "hint", unknown[0][0], unknown[0][0], None, why, False)]


DESCRIPTION_RULES = (
    full_width_marks,
    separators,
    tempos,
    sentences,
    bracketed,
    genders,
    unknown_tags,
)


def _tags(text: str) -> list[tuple[int, str]]:
    """The tags of a description with their offsets, without outer blanks and a final period."""
    tags = []
    for match in re.finditer(f"[^{_BETWEEN_TAGS}]+", text):
        tag = match.group().strip().rstrip("." + WIDE_STOP).rstrip()
        if tag:
            tags.append((match.start() + match.group().index(tag), tag))
    return tags


def _names(tag: str) -> list[str]:
    """`piano and drums` names two tags."""
    if dimension_of(tag):
        return [tag]
    return [name for name in re.split(r"\s+and\s+|\s*[&+]\s+|\.\s+", tag) if name]


def _shorten(text: str, limit: int = 40) -> str:
    """At most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
