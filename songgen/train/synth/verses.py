"""Lines of lyrics from templates, with light rhyme; some of random words of the dictionary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from songgen.english import is_vowel
from songgen.train.synth.vocabulary import GROUPS, group, phonemes_of

RANDOM_SHARE = 0.3
_HELD_OUT_SHARE = 0.5
_RHYME_SHARE = 0.6
_MOST_SYLLABLES = 11
_LEAST_SYLLABLES = 4
_TRIES = 40
_RANDOM_WORDS = (3, 7)

# N noun, V verb, A adjective, T adverb or time; the rest stands as it is.
TEMPLATES = tuple(
    line.strip()
    for line in """
    I V the A N
    you V my A N T
    we V in the A N
    the N is A and the N is A
    the A N will V T
    I will V you in the N
    come and V with me T
    the N of the N and the N
    V the N and V the N
    all the N will V T
    there is a N in the N
    oh my A N
    you are the N of my N
    I can V the N in your N
    we are A and we are A
    never V the A N
    let the N V T
    every N is a A N
    I want to V your N
    when the N begins to V
    under the A A N
    take my N and V me T
    like a N in the N
    I know that you V the N
    she will V the N of the N
    he can V the A N
    they V to the N in the N
    a N for the N
    give me a N to V
    this is the N that we V
    do you V the N
    what if we V T
    my N is a N
    no more N and no more N
    hold on to the A N
    so V me like a N
    over the N and into the N
    you and I V T
    where is the N that I V
    it was a A N
    """.strip().splitlines()
)


@dataclass(frozen=True)
class Line:
    """The words of a line and the ARPAbet of each, with stress."""

    words: tuple[str, ...]
    phonemes: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """As lyrics write it: a sentence."""
        text = " ".join(self.words)
        return f"{text[0].upper()}{text[1:]}."

    @property
    def num_syllables(self) -> int:
        """Vowels: each gets a note."""
        return sum(is_vowel(phoneme) for said in self.phonemes for phoneme in said)

    @property
    def stresses(self) -> tuple[bool, ...]:
        """Whether each syllable is stressed; of words with one syllable, those of the groups are."""
        flags = []
        for word, said in zip(self.words, self.phonemes, strict=True):
            vowels = [phoneme for phoneme in said if is_vowel(phoneme)]
            is_weak = len(vowels) == 1 and word.lower() in _WEAK
            flags += [not is_weak and vowel[-1] == "1" for vowel in vowels]
        return tuple(flags)


_WEAK = frozenset(
    word.lower()
    for template in TEMPLATES
    for word in template.split()
    if word not in GROUPS and word not in ("never", "no", "more", "come", "hold", "take", "give", "what")
)


class Poet:
    """Writes the lines of one song."""

    def __init__(self, rng: np.random.Generator, held_out: bool) -> None:
        self._rng = rng
        self._held_out = held_out

    def verse(self, num_lines: int) -> tuple[Line, ...]:
        """Lines of one section; a line may rhyme with the one before."""
        lines: list[Line] = []
        for _ in range(num_lines):
            lines.append(self._line(lines[-1] if lines else None))
        return tuple(lines)

    def _line(self, before: Line | None) -> Line:
        rng = self._rng
        is_random = rng.random() < RANDOM_SHARE
        wants_rhyme = before is not None and not is_random and rng.random() < _RHYME_SHARE
        best: Line | None = None
        for _ in range(_TRIES):
            words = self._random_words() if is_random else self._filled(str(rng.choice(TEMPLATES)))
            line = Line(words, tuple(phonemes_of(word) for word in words))
            if not _LEAST_SYLLABLES <= line.num_syllables <= _MOST_SYLLABLES:
                continue
            best = best or line
            if not wants_rhyme or (before is not None and _rhyme(line, before)):
                return line
        return best or self._line(before)

    def _random_words(self) -> tuple[str, ...]:
        return tuple(self._word("D") for _ in range(self._rng.integers(*_RANDOM_WORDS)))

    def _filled(self, template: str) -> tuple[str, ...]:
        words = [self._word(slot) if slot in GROUPS else slot for slot in template.split()]
        for index in range(len(words) - 1):
            if words[index] == "a" and words[index + 1][0] in "aeiou":
                words[index] = "the"
        return tuple(words)

    def _word(self, name: str) -> str:
        from_held_out = self._held_out and self._rng.random() < _HELD_OUT_SHARE
        words = group(name, from_held_out) or group(name, False)
        return words[int(self._rng.integers(len(words)))]


def _rhyme(line: Line, other: Line) -> bool:
    return line.words[-1] != other.words[-1] and _ending(line) == _ending(other)


def _ending(line: Line) -> tuple[str, ...]:
    """The last vowel of a line and what follows."""
    said = line.phonemes[-1]
    last = max(index for index, phoneme in enumerate(said) if is_vowel(phoneme))
    return tuple(phoneme.rstrip("012") for phoneme in said[last:])
