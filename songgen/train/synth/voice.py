"""A singer: words spoken once, analysed by WORLD, and put on notes.

WORLD (Morise et al. 2016) makes speech from pitch, spectral envelope and aperiodicity. The envelope is
analysed; the pitch espeak speaks on is known, and how noisy a phoneme is, is a matter of its class.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from songgen.english import bare, is_vowel
from songgen.train.synth.speech import SPEECH_RATE, Speaker

PERIOD = 0.005
UNVOICED = frozenset(("P", "T", "K", "F", "S", "SH", "TH", "CH", "HH"))
_BUZZING = frozenset(("Z", "V", "DH", "JH", "ZH"))
_NOISE_HZ = (1500.0, 4500.0)
_LEAST_NOISE, _VOWEL_NOISE, _BUZZ_NOISE = 0.002, 0.12, 0.8
_VOWEL_LEVEL = 0.1
_VOWEL_EVENNESS = 0.7
_CACHED_WORDS = 900
_MISSING = (
    "pyworld: not installed; synthetic songs need it: pip install 'songgen[data]' "
    "(with setuptools<82, which its release 0.3.5 imports)"
)


@dataclass(frozen=True)
class Singer:
    """A voice: espeak's name of it, the pitch it speaks on (Hz), its sung range (MIDI)."""

    name: str
    espeak: str
    spoken_hz: float
    lowest: int
    highest: int


SINGERS = {
    "female": Singer("female", "en-us+f3", 178.4, 57, 72),
    "male": Singer("male", "en-us+m3", 90.8, 47, 62),
}


@dataclass(frozen=True)
class WordSound:
    """An analysed word: envelopes (power) [frames of 5 ms, bins], phoneme bounds in frames."""

    envelope: np.ndarray
    bounds: np.ndarray


class Voice:
    """Speaks, analyses and remembers words of one singer."""

    def __init__(self, singer: Singer, speaker: Speaker) -> None:
        self.singer = singer
        self.world = load_world()
        self._speaker = speaker
        self._words: OrderedDict[tuple[str, ...], WordSound] = OrderedDict()

    def word(self, phonemes: tuple[str, ...]) -> WordSound:
        """The sound of a word; the same whatever was asked before."""
        if phonemes in self._words:
            self._words.move_to_end(phonemes)
            return self._words[phonemes]
        sound = self._analysed(phonemes)
        self._words[phonemes] = sound
        if len(self._words) > _CACHED_WORDS:
            self._words.popitem(last=False)
        return sound

    def _analysed(self, phonemes: tuple[str, ...]) -> WordSound:
        spoken = self._speaker.speak(self.singer.espeak, phonemes)
        samples = spoken.samples.astype(np.float64) / 32768
        num_frames = len(samples) // int(SPEECH_RATE * PERIOD) + 1
        times = np.arange(num_frames) * PERIOD
        bounds = np.asarray(spoken.bounds) / SPEECH_RATE / PERIOD
        f0 = np.full(num_frames, self.singer.spoken_hz)
        for index, phoneme in enumerate(phonemes):
            if bare(phoneme) in UNVOICED:
                f0[round(bounds[index]) : round(bounds[index + 1])] = 0.0
        envelope = self.world.cheaptrick(samples, f0, times, SPEECH_RATE)
        envelope *= _evening(envelope, bounds, phonemes)[:, None] ** 2
        return WordSound(envelope.astype(np.float32), bounds)


def aperiodicity(symbol: str, bins: np.ndarray) -> np.ndarray:
    """How much of a phoneme is noise, 0 ... 1 for each frequency in Hz: more of it higher up."""
    least, most = _NOISE_HZ
    most_noise = _BUZZ_NOISE if symbol in _BUZZING else _VOWEL_NOISE
    share = np.clip((bins - least) / (most - least), 0.0, 1.0)
    return _LEAST_NOISE + (most_noise - _LEAST_NOISE) * share


def load_world() -> Any:
    """The module pyworld.

    Raises:
        ModuleNotFoundError: it is not installed, or cannot be imported.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError as error:
        raise ModuleNotFoundError(_MISSING) from error
    return pyworld


def _evening(envelope: np.ndarray, bounds: np.ndarray, phonemes: tuple[str, ...]) -> np.ndarray:
    """Gains per frame that bring the vowels of a word near one level: singing is more even than speech."""
    places, gains = [], []
    for index, phoneme in enumerate(phonemes):
        if not is_vowel(phoneme):
            continue
        first, last = bounds[index], bounds[index + 1]
        middle = slice(int(first + 0.2 * (last - first)), int(first + 0.7 * (last - first)) + 1)
        level = float(np.sqrt(envelope[middle].mean()) + 1e-6)
        places.append((first + last) / 2)
        gains.append((_VOWEL_LEVEL / level) ** _VOWEL_EVENNESS)
    if not places:
        return np.ones(len(envelope))
    return np.interp(np.arange(len(envelope)), places, gains)
