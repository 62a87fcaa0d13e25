"""LRC, the text format of lyrics with times: the lines of a lyric string, and a file of timed lines.

A line `[mm:ss.xx]words` says when words begin. Sections have lines of their own, with their tag for words.
Knows nothing of where times come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from songgen.characters import CLOSERS, UNSPACED, WIDE_ENDS
from songgen.lyrics import scan_lyrics

SOURCE = "songgen"

# A period ends a sentence before a blank, or beside a character of a script without blanks.
_END = rf"(?:[!?{WIDE_ENDS}]|\.(?=[{CLOSERS}]*(?:\s|\Z|[{UNSPACED}]))|(?<=[{UNSPACED}])\.)+"
_SENTENCE = re.compile(rf"\S.*?(?:{_END}[{CLOSERS}]*(?=\s|\Z|\w|[{UNSPACED}])|[\n\r]|\Z)", re.DOTALL)


@dataclass(frozen=True)
class TimedLine:
    """A line of lyrics, or a section's tag in brackets, and when it begins.

    Args:
        start: seconds from the start of the song, 0 or more, to a hundredth.
        text: in one line, without blanks around it.
        is_section: whether it is a tag.
    """

    start: float
    text: str
    is_section: bool = False


@dataclass(frozen=True)
class LyricLine:
    """Where a line stands in a lyric string: `text[start:end]`; a section's tag or a sentence."""

    start: int
    end: int
    text: str
    is_section: bool


def lyric_lines(text: str) -> list[LyricLine]:
    """The tags and sentences of a lyric string, in order; separators between sections belong to none."""
    lines = []
    for block in scan_lyrics(text):
        if block.tag is not None:
            lines.append(LyricLine(block.start, block.tag_end, f"[{block.tag}]", True))
        for match in _SENTENCE.finditer(text, block.text_start, block.text_end):
            words = " ".join(match.group().split())
            lines.append(LyricLine(match.start(), match.end(), words, False))
    return lines


def encode_lrc(lines: Sequence[TimedLine], *, title: str, seconds: float) -> bytes:
    """An LRC file, UTF-8: title, source and length, then a line for each timed line, in their order.

    Args:
        seconds: length of the song.
    """
    head = [f"[ti:{title}]", f"[by:{SOURCE}]", f"[length:{_clock(seconds)}]"]
    body = [f"[{_clock(line.start)}]{line.text}" for line in lines]
    return ("\n".join([*head, *body]) + "\n").encode()


def _clock(seconds: float) -> str:
    """`mm:ss.xx`; minutes may need three digits."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"
