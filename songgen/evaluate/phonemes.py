"""Phoneme error rate of sung words, of songgen's own definition, from any transcript.

Both texts go through the same normalisation and the same grapheme-to-phoneme callable; the sequences are
aligned by Levenshtein distance; the rate is (substitutions + deletions + insertions) / phonemes of the
lyrics. It may exceed 1. Knows nothing of where transcripts come from or how words are pronounced.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from songgen.characters import HANGUL
from songgen.evaluate.measures import NotMeasured
from songgen.lyrics import scan_lyrics

G2P = Callable[[str, str], list[str]]
"""Phonemes of a normalised text in a language, `zh` or `en`."""

LANGUAGES = ("zh", "en")
PER_RULE = (
    "PER = (substitutions + deletions + insertions) / phonemes of the lyrics, Levenshtein alignment of the "
    "whole song; section tags, punctuation and a transcript's remarks in square brackets removed, case "
    "folded (NFKC), numbers spelt out; zh: pinyin initials and finals without tones, en: CMU phonemes "
    "without stress; a folder's PER is the ratio of its sums"
)

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(f"[{HANGUL}]")
_LATIN_WORD = re.compile(r"[^\W\d_]+")
_REMARK = re.compile(r"\[[^\[\]]*\]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_UNSPOKEN = re.compile(r"[^\w\s']|_")
_STRAY_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")


@dataclass(frozen=True)
class PhonemeErrors:
    """The errors of a transcript against the lyrics, and how many phonemes these have."""

    substitutions: int
    deletions: int
    insertions: int
    phonemes: int

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors a phoneme of the lyrics, 0 or more."""
        return self.errors / self.phonemes


def sung_words(lyrics: str) -> str:
    """The words of a lyric string, sections joined by blanks and their tags removed."""
    parts = (lyrics[block.text_start : block.text_end] for block in scan_lyrics(lyrics))
    return " ".join(part for part in parts if part)


def normalise(text: str) -> str:
    """Letters, digits and apostrophes within words, case folded, single blanks between words.

    NFKC makes full-width letters and digits plain; curly apostrophes become straight ones, `1,000` is one
    number. Accents stay.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").replace("\u2018", "'")
    text = _STRAY_APOSTROPHE.sub(" ", _UNSPOKEN.sub(" ", _THOUSANDS.sub("", text)))
    return " ".join(text.split())


def language_of(text: str) -> str:
    """`zh`, `en`, `ja` or `ko` by script.

    Kana means Japanese, hangul Korean, more Han characters than Latin words Chinese; any other text is taken
    for English.
    """
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    return "zh" if len(_HAN.findall(text)) > len(_LATIN_WORD.findall(_HAN.sub(" ", text))) else "en"


def check_language(language: str) -> None:
    """Raise NotMeasured for a language whose pronunciation is not known."""
    if language not in LANGUAGES:
        raise NotMeasured(f"the lyrics are in {language!r}; phonemes are known for {' and '.join(LANGUAGES)}")


def phoneme_errors(lyrics: str, transcript: str, language: str, g2p: G2P) -> PhonemeErrors:
    """Compare a transcript with the lyrics of a song.

    Args:
        lyrics: the lyric string, with its section tags.
        transcript: the words; `[Music]` and the like are an ASR's remarks and do not count.
        language: `zh` or `en`, of both texts.

    Raises:
        NotMeasured: no words to sing, a language without pronunciation, or no rapidfuzz.
    """
    check_language(language)
    wanted = g2p(normalise(sung_words(lyrics)), language)
    if not wanted:
        raise NotMeasured("the lyrics hold no words to sing")
    return align(wanted, g2p(normalise(_REMARK.sub(" ", transcript)), language))


def align(wanted: Sequence[str], heard: Sequence[str]) -> PhonemeErrors:
    """Count the edits of a least Levenshtein alignment; `wanted` is not empty.

    Raises:
        NotMeasured: no rapidfuzz.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise NotMeasured("rapidfuzz is not installed: pip install 'songgen[evaluate]'") from None
    kinds = [operation.tag for operation in Levenshtein.editops(wanted, heard)]
    return PhonemeErrors(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(wanted))
