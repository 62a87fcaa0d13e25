"""How long a text is: in tokens and in seconds of song, estimated without a tokenizer or a model.

Both are rough figures of songgen's own. The token estimate stays within a fifth of the published
tokenizer's count on ordinary lyrics; a loaded model brings an exact counter in its `TextRules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from songgen.characters import HANGUL, UNSPACED
from songgen.lyrics import Lyrics, parse_lyrics, scan_lyrics

WORDS_PER_SECOND = 2.0
# Characters of Chinese and Japanese, and hangul, which is written with blanks but sung by the syllable.
SYLLABLES_PER_SECOND = 3.0

_UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
_SYLLABLE = re.compile(f"[{UNSPACED}{HANGUL}]")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_PIECE = re.compile(
    rf"(?P<special><\|\w+\|>)|(?P<unspaced>[{UNSPACED}])|(?P<hangul>[{HANGUL}])|(?P<digit>\d)"
    rf"|(?P<ending>'(?:s|t|re|ve|m|ll|d)\b)|(?P<word>[^\W\d_{UNSPACED}{HANGUL}]+)|(?P<period>\.)"
    r"|(?P<other> ?[^\w\s.]+|\s+(?=[\[.\d\s]|\Z)|_)"
)
_UNSPACED_TOKENS = 0.85


@dataclass(frozen=True)
class Span:
    """About where a section lies in a song, in seconds from its start."""

    tag: str
    start: float
    end: float


def is_unspaced(text: str) -> bool:
    """Whether most of a text is in Chinese or Japanese, characters counted against words of other scripts."""
    characters = len(_UNSPACED_CHARACTER.findall(text))
    return characters > len(_WORD.findall(_UNSPACED_CHARACTER.sub(" ", text)))


def estimate_tokens(text: str, *, has_sections: bool = True) -> int:
    """About how many tokens the published tokenizer makes of a text, with the start token.

    Args:
        has_sections: whether `[verse]` and the like are one token each (lyrics) or plain text (descriptions).
    """
    total, done = 1.0, 0
    for block in scan_lyrics(text) if has_sections else ():
        if block.tag is not None:
            total += _plain_tokens(text[done : block.start]) + 1
            done = block.tag_end
    return round(total + _plain_tokens(text[done:]))


def estimate_seconds(lyrics: str | Lyrics) -> float:
    """About how long a song with these lyrics is, in seconds.

    Two English words or three Chinese characters a second; sections without words as they say, else 5, 12,
    22 s for a short, medium, long one and 2 s of silence. Songs vary by half around this.

    Args:
        lyrics: a parsed song, or a string in LeVo's form.
    """
    song = parse_lyrics(lyrics) if isinstance(lyrics, str) else lyrics
    return _word_seconds(song.leading) + sum(
        _word_seconds(section.text) + section.length for section in song.sections
    )


def estimate_spans(lyrics: str | Lyrics, seconds: float, *, is_cut: bool = False) -> tuple[Span, ...]:
    """About where the sections of a song lie: their estimated lengths, stretched to fill it.

    Args:
        lyrics: a parsed song, or a string in LeVo's form.
        seconds: of the finished song, above 0.
        is_cut: it ended at its longest length and not by itself, so the last sections may be missing: the
            estimated lengths are then stretched only if they come to less than the song.
    """
    song = parse_lyrics(lyrics) if isinstance(lyrics, str) else lyrics
    lengths = [(section.tag, _word_seconds(section.text) + section.length) for section in song.sections]
    total = sum(length for _, length in lengths)
    if not total:
        return ()
    scale = max(1.0, seconds / total) if is_cut else seconds / total
    spans, start = [], 0.0
    for tag, length in lengths:
        end = min(start + scale * length, seconds)
        if end > start:
            spans.append(Span(tag, start, end))
        start = end
    return tuple(spans)


def _word_seconds(words: str) -> float:
    """About how long words are sung."""
    seconds = len(_SYLLABLE.findall(words)) / SYLLABLES_PER_SECOND
    return seconds + len(_WORD.findall(_SYLLABLE.sub(" ", words))) / WORDS_PER_SECOND


def _plain_tokens(text: str) -> float:
    """Tokens of a text without structure tags."""
    total = 0.0
    for match in _PIECE.finditer(text):
        kind = match.lastgroup or ""
        if kind == "word":
            word = match.group()
            total += 1 + max(0, len(word) - 6) / 6 if word.isascii() else 1 + (len(word) - 1) / 2
        else:
            total += _UNSPACED_TOKENS if kind == "unspaced" else 1
    return total
