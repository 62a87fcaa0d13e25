"""How long a text is: in tokens and in seconds of song, estimated without a tokenizer or a model.

Both are rough figures of songgen's own. The token estimate stays within a fifth of the published
tokenizer's count on ordinary lyrics; a loaded model brings an exact counter in its `TextRules`.
"""

from __future__ import annotations

import re

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
    seconds = 0.0
    for words in (song.leading, *(section.text for section in song.sections)):
        seconds += len(_SYLLABLE.findall(words)) / SYLLABLES_PER_SECOND
        seconds += len(_WORD.findall(_SYLLABLE.sub(" ", words))) / WORDS_PER_SECOND
    return seconds + sum(section.length for section in song.sections)


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
