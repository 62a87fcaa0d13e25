"""Lyrics: finding the `[tag]`s of a lyric string, and writing the exact published form back.

The published form is `[tag] text ; [tag] text ; [tag]`. Inside a section, sentences are separated by `. ` in
languages that put blanks between words, and by `.` alone in Chinese and Japanese. Reading forgives case,
spacing and the usual other names of a section; whether the text is good for a model is the linter's business.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from songgen.characters import (
    APOSTROPHES,
    ENUMERATION_COMMA,
    HALF_COMMA,
    MIDDLE_DOT,
    QUOTES,
    WIDE_COMMA,
    WIDE_ENDS,
    WIDE_SEMICOLON,
)

# The order is that of the published vocabulary: the index + 1 is the section's row in the structure table.
SECTION_TAGS = (
    "verse",
    "chorus",
    "bridge",
    "intro-short",
    "intro-medium",
    "intro-long",
    "outro-short",
    "outro-medium",
    "outro-long",
    "inst-short",
    "inst-medium",
    "inst-long",
    "silence",
)
SUNG_TAGS = frozenset(("verse", "chorus", "bridge"))
# A section that is not sung: seconds up to which it is short, medium; seconds that each length stands for.
_LENGTHS = (("short", 10.0), ("medium", 20.0))
INSTRUMENTAL_SECONDS = {"short": 5.0, "medium": 12.0, "long": 22.0}
SILENCE_SECONDS = 2.0

# Other names people write, without blanks and hyphens. A tag without a length becomes the shortest.
_OTHER_NAMES = {
    "prechorus": "verse",
    "postchorus": "chorus",
    "hook": "chorus",
    "refrain": "chorus",
    "intro": "intro-short",
    "introduction": "intro-short",
    "outro": "outro-short",
    "inst": "inst-short",
    "instrumental": "inst-short",
    "interlude": "inst-short",
    "solo": "inst-short",
    "guitarsolo": "inst-short",
    "pianosolo": "inst-short",
    "主歌": "verse",
    "导歌": "verse",
    "副歌": "chorus",
    "桥段": "bridge",
    "前奏": "intro-short",
    "间奏": "inst-short",
    "尾奏": "outro-short",
}
# Names that are words of many lyrics too: accepted only when they stand alone in the brackets.
_OTHER_NAMES_ALONE = {
    "rap": "verse",
    "middle8": "bridge",
    "break": "inst-short",
    "end": "outro-short",
    "ending": "outro-short",
    "coda": "outro-short",
    "pause": "silence",
}
_BY_SQUASHED = {re.sub(r"\W", "", tag): tag for tag in SECTION_TAGS}
# Plain, full-width and lenticular brackets.
_WIDE_BRACKETS = r"\uff3b\uff3d\u3010\u3011"
BRACKETED = re.compile(
    r"\[[^\[\]]*\]"
    rf"|\uff3b[^\[\]{_WIDE_BRACKETS}]*\uff3d"
    rf"|\u3010[^\[\]{_WIDE_BRACKETS}]*\u3011"
)
_SEPARATOR = rf"[\s;{WIDE_SEMICOLON}]"
_SEPARATORS, _FINAL_SEPARATORS = re.compile(f"{_SEPARATOR}*"), re.compile(rf"{_SEPARATOR}+\Z")
# What follows a name and is not sung: `: Ann`, `(all)`, `x2`. Commas and full stops rather begin words.
_REMARK = re.compile(
    rf"(?<=\w)\s*(?:[^\w\s,.;!?'\"{WIDE_ENDS}{WIDE_COMMA}{WIDE_SEMICOLON}{ENUMERATION_COMMA}{HALF_COMMA}"
    rf"{MIDDLE_DOT}{APOSTROPHES}{QUOTES}]|\bx\d\b).*",
    re.DOTALL | re.IGNORECASE,
)
_LONGEST_TAG_WORDS = 6
_NEAR_RATIO, _VERY_NEAR_RATIO = 0.8, 0.9

Spelling = Literal["exact", "spacing", "other name", "near"]


@dataclass(frozen=True)
class Section:
    """One tagged part of the lyrics.

    Args:
        tag: one of `SECTION_TAGS`, whatever its spelling in the source.
        text: the words, without the separators around them; may be empty.
        column: 1-based column of the tag's bracket in the source; not part of equality.
        seconds: how long a section without words shall be; None leaves it to the tag.
    """

    tag: str
    text: str = ""
    column: int = field(default=1, compare=False)
    seconds: float | None = None

    @property
    def role(self) -> str:
        """The tag without its length: `intro` of `intro-short`."""
        return role_of(self.tag)

    @property
    def length(self) -> float:
        """Seconds of a section without words, as told or by its tag; 0 of a sung one."""
        if self.seconds is not None:
            return self.seconds
        if self.tag == "silence":
            return SILENCE_SECONDS
        return INSTRUMENTAL_SECONDS.get(self.tag.partition("-")[2], 0.0)


@dataclass(frozen=True)
class Lyrics:
    """Parsed lyrics: `sections`, and `leading`, the text before the first tag (empty in good lyrics)."""

    sections: tuple[Section, ...]
    leading: str = ""

    @property
    def text(self) -> str:
        """The exact published form."""
        parts = [self.leading] if self.leading else []
        parts += [f"[{section.tag}] {section.text}".rstrip(" ") for section in self.sections]
        return " ; ".join(parts)


@dataclass(frozen=True)
class Block:
    """Where a section lies in its source: offsets into the string, ends exclusive.

    Args:
        number: 1-based number of the section; 0 for the text before the first tag.
        tag: as in `Section`; None for the text before the first tag.
        spelling: how the tag was recognised.
        start, tag_end: the bracketed tag is `source[start:tag_end]`.
        text_start, text_end: the words are `source[text_start:text_end]`.
        end: start of the next section.
    """

    number: int
    tag: str | None
    spelling: Spelling
    start: int
    tag_end: int
    text_start: int
    text_end: int
    end: int


def resolve_tag(written: str) -> tuple[str, Spelling] | None:
    """Recognise what stands between brackets as one of the 13 tags, or return None.

    Forgiven: case, blanks, hyphens, numbers (`Verse 2`), other names (`hook`), a remark set off from the name
    (`Verse 1: Ann`, `Chorus (all)`, `Chorus x2`), and spelling mistakes that keep the first letter.
    """
    if written in SECTION_TAGS:
        return written, "exact"
    visible = "".join(c for c in written if unicodedata.category(c) != "Cf")
    squashed = _squash(visible)
    if squashed in _BY_SQUASHED:
        return _BY_SQUASHED[squashed], "spacing"
    name = _other_name(squashed) or _OTHER_NAMES_ALONE.get(squashed)
    if name:
        return name, "other name"
    near = nearest_tag(squashed, _VERY_NEAR_RATIO)
    if near and near[0] == squashed[0]:
        return near, "near"
    name = _other_name(_squash(_REMARK.sub("", visible)))
    if name and len(visible.split()) <= _LONGEST_TAG_WORDS:
        return name, "other name"
    near = nearest_tag(squashed, _NEAR_RATIO)
    return (near, "near") if near and near[0] == squashed[0] else None


def role_of(tag: str) -> str:
    """A tag without its length: `intro` of `intro-short`, `verse` of `verse`."""
    return tag.partition("-")[0]


def tag_for(role: str, seconds: float) -> str:
    """The tag of a role that lasts so many seconds.

    >>> tag_for("intro", 12), tag_for("verse", 12)
    ('intro-medium', 'verse')
    """
    if f"{role}-short" not in SECTION_TAGS:
        return role
    length = next((name for name, most in _LENGTHS if seconds <= most), "long")
    return f"{role}-{length}"


def nearest_tag(written: str, ratio: float = 0.6) -> str | None:
    """The tag most like what was written, by `difflib` with this least ratio (0 ... 1), or None."""
    near = difflib.get_close_matches(re.sub(r"\W", "", written.casefold()), _BY_SQUASHED, n=1, cutoff=ratio)
    return _BY_SQUASHED[near[0]] if near else None


def scan_lyrics(text: str) -> list[Block]:
    """Find the sections of a lyric string; the first block (number 0) is what stands before the first tag.

    Brackets that hold no recognisable tag are words of the section they stand in, as they are for the model.
    """
    tags = []
    for match in BRACKETED.finditer(text):
        resolved = resolve_tag(match.group()[1:-1])
        if resolved:
            exact = match.group() == f"[{resolved[0]}]"
            spelling: Spelling = "spacing" if resolved[1] == "exact" and not exact else resolved[1]
            tags.append((resolved[0], spelling, match.start(), match.end()))
    starts = [start for _, _, start, _ in tags] + [len(text)]
    blocks = [_block(text, 0, end=starts[0])]
    for number, (tag, spelling, start, tag_end) in enumerate(tags, start=1):
        blocks.append(
            _block(text, number, tag=tag, spelling=spelling, start=start, tag_end=tag_end, end=starts[number])
        )
    return blocks


def parse_lyrics(text: str) -> Lyrics:
    """Parse a lyric string; forgives case and spacing of tags, missing separators and line breaks.

    Never raises: text without any tag becomes `leading`. See `scan_lyrics` for what counts as a tag.
    """
    leading, *blocks = scan_lyrics(text)
    sections = tuple(
        Section(block.tag or "", text[block.text_start : block.text_end], block.start + 1) for block in blocks
    )
    return Lyrics(sections, text[leading.text_start : leading.text_end])


def format_lyrics(lyrics: Lyrics) -> str:
    """The exact published form of parsed lyrics: `[tag] text ; [tag] text ; [tag]`."""
    return lyrics.text


def _squash(written: str) -> str:
    """Letters and digits only, folded."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", written).casefold())


def _other_name(squashed: str) -> str | None:
    """The tag of a squashed name, with or without a number behind it."""
    names = {**_BY_SQUASHED, **_OTHER_NAMES}
    return names.get(squashed) or names.get(re.sub(r"\d{1,2}$", "", squashed))


def _block(
    text: str,
    number: int,
    *,
    end: int,
    tag: str | None = None,
    spelling: Spelling = "exact",
    start: int = 0,
    tag_end: int = 0,
) -> Block:
    """A block whose words are what is left between the tags without blanks and semicolons at both ends."""
    match = _SEPARATORS.match(text, tag_end, end)
    assert match is not None
    text_start = match.end()
    text_end = text_start + len(_FINAL_SEPARATORS.sub("", text[text_start:end]))
    return Block(number, tag, spelling, start, tag_end, text_start, text_end, end)
