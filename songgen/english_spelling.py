"""Letter-to-sound rules for English words that no dictionary has: rough, but always the same.

Knows no dictionary; `english.py` asks here last. The phoneme error rate reads unknown words
by the plain table.
"""

from __future__ import annotations

from itertools import pairwise

_RULES = """
tch=CH sch=S_K igh=AY eau=OW dge=JH tion=SH_AH_N sion=ZH_AH_N ough=AO
ch=CH sh=SH th=TH ph=F wh=W ck=K ng=NG qu=K_W kn=N wr=R gh=G
ee=IY ea=IY oo=UW ou=AW ow=OW oa=OW ai=EY ay=EY oi=OY oy=OY au=AO aw=AO ie=IY ey=IY ew=UW
er=ER ir=ER ur=ER ar=AA_R or=AO_R
a=AE b=B c=K d=D e=EH f=F g=G h=HH i=IH j=JH k=K l=L m=M n=N o=AA p=P
q=K r=R s=S t=T u=AH v=V w=W x=K_S y=IY z=Z
"""
"""Of several that fit, the longest counts."""

_SPELLING = {
    letters: sounds.split("_") for letters, _, sounds in (rule.partition("=") for rule in _RULES.split())
}
_LONGEST_SPELLING = max(map(len, _SPELLING))
_LONG_VOWELS = {"a": "EY", "e": "IY", "i": "AY", "o": "OW", "u": "UW", "y": "AY"}
_CONSONANTS = frozenset("bcdfghjklmnpqrstvxz")
_NOT_LENGTHENED = frozenset("x")
_VOWEL_SYMBOLS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
VOWELS = frozenset(_VOWEL_SYMBOLS.split())
"""The phonemes that carry a stress."""


def by_table(word: str) -> list[str]:
    """The sounds of a lower-case word by the plain table, without stress; what is no letter is skipped."""
    sounds: list[str] = []
    place = 0
    while place < len(word):
        for length in range(_LONGEST_SPELLING, 0, -1):
            letters = word[place : place + length]
            if letters in _SPELLING:
                sounds += _SPELLING[letters]
                break
        place += max(1, len(letters))
    return sounds


def by_letters(word: str) -> tuple[str, ...]:
    """The sounds of a lower-case word of letters with stress digits, as English would likely say it.

    Double consonants are one, c and g are soft before e, i and y, a final e is silent and lengthens the vowel
    before it, and the first vowel is stressed.
    """
    letters = _single_consonants(word)
    sounds: list[str] = []
    if _has_silent_e(letters):
        sounds = [*by_table(_soft(letters[:-3], letters[-3])), _LONG_VOWELS[letters[-3]]]
        sounds += by_table(_soft(letters[-2], "e"))
    elif letters.endswith("le") and letters[-3:-2] in _CONSONANTS:
        sounds = [*by_table(_soft(letters[:-2])), "AH", "L"]
    else:
        is_silent = (
            letters[-1:] == "e" and letters[-2:-1] in _CONSONANTS and _LONG_VOWELS.keys() & {*letters[:-1]}
        )
        sounds = by_table(_soft(letters[:-1], "e")) if is_silent else by_table(_soft(letters))
    return tuple(_stressed(sounds))


def _has_silent_e(word: str) -> bool:
    return (
        len(word) >= 3
        and word[-1] == "e"
        and word[-2] in _CONSONANTS - _NOT_LENGTHENED
        and word[-3] in _LONG_VOWELS
        and word[-4:-3] not in tuple(_LONG_VOWELS)
    )


def _single_consonants(word: str) -> str:
    kept = word[:1]
    for before, letter in pairwise(word):
        if letter != before or letter not in _CONSONANTS:
            kept += letter
    return kept


def _soft(letters: str, following: str = "") -> str:
    """The letters with s for a soft c and j for a soft g."""
    text = letters + following
    soft = ""
    for place, letter in enumerate(letters):
        is_before_front = text[place + 1 : place + 2] in ("e", "i", "y")
        is_hard = not is_before_front or (letter == "g" and place == 0 and text[1:2] != "y")
        soft += letter if is_hard else {"c": "s", "g": "j"}.get(letter, letter)
    return soft


def _stressed(sounds: list[str]) -> list[str]:
    stressed: list[str] = []
    for sound in sounds:
        is_first = not any(item.endswith("1") for item in stressed)
        stressed.append(f"{sound}{int(is_first)}" if sound in VOWELS else sound)
    return stressed
