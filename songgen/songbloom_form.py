"""The lyric string of SongBloom: sections separated by ` , `, and one bare tag for each so many seconds.

`[intro] [intro] , [verse] text. text , [outro]`: sung sections are a tag and its words, the others repeat
their tag. Here a song is read from that form, written to it, told from LeVo's ` ; ` form, and turned into
either. Here is, too, the publisher's own cleaning of such strings, which the published program does not call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from songgen.characters import WIDE_COMMA, WIDE_EXCLAMATION, WIDE_QUESTION, WIDE_SEMICOLON
from songgen.lyrics import (
    BRACKETED,
    SUNG_TAGS,
    Block,
    Lyrics,
    Section,
    Spelling,
    parse_lyrics,
    resolve_tag,
    role_of,
    tag_for,
)

TAGS = ("verse", "chorus", "bridge", "intro", "outro", "inst", "silence")
"""The tags of the vocabulary, in its order."""

SEPARATOR = " , "
SHORT_TAG_SECONDS, LONG_TAG_SECONDS = 1.0, 5.0
"""Seconds that one bare tag stands for: in the models of 150 s, and in those of 240 s."""

_LEVO_TAG = re.compile(r"\[(?:intro|outro|inst)-(?:short|medium|long)\]", re.IGNORECASE)
_LEVO_SEPARATOR = re.compile(r";\s*\Z")
_REPEATED = re.compile(r"\[(intro|outro|inst|silence)\](?: \[\1\])+")
_COMMA_BEFORE_TAG = re.compile(r" , \[")
_EDGE = rf"[\s,;{WIDE_COMMA}{WIDE_SEMICOLON}]"
_LEFT, _RIGHT = re.compile(f"{_EDGE}*"), re.compile(rf"{_EDGE}+\Z")


@dataclass(frozen=True)
class FoundTag:
    """One bracketed tag in a string: its role, how it was recognised, and where it stands."""

    role: str
    spelling: Spelling
    start: int
    end: int


def find_tags(text: str) -> Iterator[FoundTag]:
    """Every bracketed tag that is recognised, in order; case, numbers and other names are forgiven."""
    for match in BRACKETED.finditer(text):
        written = match.group()[1:-1]
        found = resolve_tag(written)
        if written in TAGS:
            yield FoundTag(written, "exact", match.start(), match.end())
        elif found:
            spelling: Spelling = "spacing" if found[1] == "exact" else found[1]
            yield FoundTag(role_of(found[0]), spelling, match.start(), match.end())


def scan_songbloom(text: str) -> list[Block]:
    """Find the sections, repeated bare tags as one; block 0 is what stands before the first tag."""
    tags = list(find_tags(text))
    groups: list[list[FoundTag]] = []
    for tag in tags:
        before = groups[-1][-1] if groups else None
        if (
            before is not None
            and tag.role == before.role
            and tag.role not in SUNG_TAGS
            and not text[before.end : tag.start].strip(" ,\t")
        ):
            groups[-1].append(tag)
        else:
            groups.append([tag])
    ends = [group[0].start for group in groups] + [len(text)]
    blocks = [_block(text, 0, None, 0, ends[0])]
    for number, group in enumerate(groups, start=1):
        blocks.append(_block(text, number, group, group[0].start, ends[number]))
    return blocks


def parse_songbloom(text: str, tag_seconds: float = SHORT_TAG_SECONDS) -> Lyrics:
    """Read SongBloom's form; never raises. Text before the first tag becomes `leading`.

    Args:
        tag_seconds: seconds that a bare tag stands for.
    """
    leading, *blocks = scan_songbloom(text)
    sections = []
    for block in blocks:
        role, words = block.tag or "", text[block.text_start : block.text_end]
        if role in SUNG_TAGS:
            sections.append(Section(role, words, block.start + 1))
            continue
        seconds = tag_seconds * sum(1 for _ in find_tags(text[block.start : block.tag_end]))
        sections.append(Section(tag_for(role, seconds), words, block.start + 1, seconds))
    return Lyrics(tuple(sections), text[leading.text_start : leading.text_end])


def songbloom_text(lyrics: Lyrics, tag_seconds: float = SHORT_TAG_SECONDS) -> str:
    """Write a song in SongBloom's form.

    Args:
        tag_seconds: seconds that a bare tag stands for; a section without words has one tag at least.
    """
    parts = [lyrics.leading] if lyrics.leading else []
    for section in lyrics.sections:
        tag = f"[{section.role}]"
        if section.role in SUNG_TAGS:
            parts.append(f"{tag} {section.text}".rstrip(" "))
        else:
            repeated = " ".join([tag] * max(1, round(section.length / tag_seconds)))
            parts.append(f"{repeated} {section.text}".rstrip(" "))
    return SEPARATOR.join(parts)


def is_levo_form(text: str) -> bool:
    """Whether a string is written for LeVo: tags with a length, or ` ; ` before a tag."""
    if _LEVO_TAG.search(text):
        return True
    return any(_LEVO_SEPARATOR.search(text, 0, tag.start) for tag in find_tags(text))


def is_songbloom_form(text: str) -> bool:
    """Whether a string is written for SongBloom: bare tags repeated, or ` , ` before all but the first."""
    if is_levo_form(text):
        return False
    tags = list(find_tags(text))
    is_parted = len(tags) > 1 and all(_COMMA_BEFORE_TAG.match(text, tag.start - 3) for tag in tags[1:])
    return is_parted or bool(_REPEATED.search(text))


def levo_to_songbloom(text: str, tag_seconds: float) -> str:
    """LeVo's form in SongBloom's; `-short`, `-medium` and `-long` become as many tags as they last."""
    return songbloom_text(parse_lyrics(text), tag_seconds)


def songbloom_to_levo(text: str, tag_seconds: float = SHORT_TAG_SECONDS) -> str:
    """SongBloom's form in LeVo's; repeated tags become one of the three lengths."""
    return parse_songbloom(text, tag_seconds).text


def _block(text: str, number: int, group: list[FoundTag] | None, start: int, end: int) -> Block:
    """A block whose words have no blanks and separators at both ends."""
    tag_end = group[-1].end if group else start
    match = _LEFT.match(text, tag_end, end)
    assert match is not None
    text_start = match.end()
    text_end = text_start + len(_RIGHT.sub("", text[text_start:end]))
    spellings: list[Spelling] = [tag.spelling for tag in group or () if tag.spelling != "exact"]
    spelling = spellings[0] if spellings else "exact"
    return Block(
        number, group[0].role if group else None, spelling, start, tag_end, text_start, text_end, end
    )


_KNOWN = "|".join(TAGS)
_ENDS = re.compile(f"[!?;,:\u2026{WIDE_EXCLAMATION}{WIDE_QUESTION}{WIDE_COMMA}]")
_MARK_AFTER_TAG = re.compile(rf"(\[(?:{_KNOWN})\]) ?[,.]", re.IGNORECASE)
_GROUP, _KNOWN_GROUP = re.compile(r"(\[[^\[\]]*\])"), re.compile(rf"\[(?:{_KNOWN})\]", re.IGNORECASE)
_QUOTES = re.compile('["\u201c\u201d\u2018\u2019\u00ab\u00bb\u3008\u3009\u300a\u300b\u3010\u3011(){}]')
_HAN_GAP = re.compile("([\u4e00-\u9fa5])\\s+([\u4e00-\u9fa5])")


def clean_lyrics(text: str) -> str:
    """The publisher's cleaning: one mark for all ends of sentences, lower-case tags, ` , ` between sections.

    As published, so an unknown tag is glued to its words and every second gap of parted Chinese characters is
    left. The linter mends the same faults without those two.
    """
    text = _MARK_AFTER_TAG.sub(r"\1", _ENDS.sub(".", text))
    pieces = []
    for piece in _GROUP.split(text):
        if _KNOWN_GROUP.fullmatch(piece):
            pieces.append(piece.lower())
        else:
            pieces.append(" ".join(_QUOTES.sub("", piece).split()))
    pieces = [piece for piece in pieces if piece]
    joined = ""
    for before, piece in zip(["", *pieces], pieces, strict=False):
        joined += _between(before, piece) + piece
    joined = re.sub(r"\s+,", " ,", re.sub(r",\s+", ", ", joined))
    joined = re.sub(r"\.\s*,", ",", re.sub(r"\.+", ".", joined))
    return _HAN_GAP.sub(r"\1.\2", joined).strip()


def _between(before: str, piece: str) -> str:
    """What `clean_lyrics` puts between two pieces."""
    is_tag = [bool(_KNOWN_GROUP.fullmatch(item)) for item in (before, piece)]
    if not before or not any(is_tag):
        return ""
    if all(is_tag):
        return " " if before == piece else SEPARATOR
    return " " if before[1:-1] in SUNG_TAGS else SEPARATOR
