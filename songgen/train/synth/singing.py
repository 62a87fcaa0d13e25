"""Sung lines: where each phoneme of a line lies on its notes, and the sound of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from songgen.english import bare, is_vowel
from songgen.train.synth.speech import SPEECH_RATE
from songgen.train.synth.voice import PERIOD, UNVOICED, Voice, aperiodicity
from songgen.train.truth import SungNote

_CONSONANT_SECONDS = (0.035, 0.13)
_MOST_CONSONANTS = 0.5
_MOST_BEFORE_SECONDS = 0.18
_HEAD_SECONDS, _TAIL_SECONDS = 0.05, 0.06
_GLIDE_SECONDS = 0.07
_VIBRATO_HZ, _VIBRATO_CENTS, _VIBRATO_AFTER = 5.5, 22.0, 0.3
_RELEASE_SECONDS = 0.05
_SILENT_FRAMES = 12
_FLOOR = 1e-12
_BREATH_NOISE = 0.4


@dataclass(frozen=True)
class LaidPhoneme:
    """A phoneme of a line: which word and which place in it, and its seconds in the song."""

    symbol: str
    word: int
    place: int
    start: float
    end: float


@dataclass(frozen=True)
class SungLine:
    """A line's sound at 22.05 kHz from `start` seconds on, and its pitch per 5 ms (0 unvoiced)."""

    samples: np.ndarray
    start: float
    f0_hz: np.ndarray
    phonemes: tuple[LaidPhoneme, ...]


def lay_out(words: Sequence[tuple[str, ...]], notes: Sequence[SungNote], voice: Voice) -> list[LaidPhoneme]:
    """Put the phonemes of a line on its notes, one vowel a note.

    Consonants between two vowels end where the later note begins; those after the last vowel, with its note.
    """
    flat = [(word, place, symbol) for word, said in enumerate(words) for place, symbol in enumerate(said)]
    vowels = [index for index, item in enumerate(flat) if is_vowel(item[2])]
    assert len(vowels) == len(notes), (words, len(notes))
    lengths = [_natural_seconds(voice, words[word], place) for word, place, _ in flat]
    starts, ends = np.zeros(len(flat)), np.zeros(len(flat))
    for number, index in enumerate(vowels):
        starts[index], ends[index] = notes[number].start, notes[number].end
    bounds = [-1, *vowels, len(flat)]
    for number in range(len(vowels) + 1):
        between = range(bounds[number] + 1, bounds[number + 1])
        until = notes[number].start if number < len(notes) else notes[-1].end
        room = _MOST_CONSONANTS * (until - notes[number - 1].start) if number else _MOST_BEFORE_SECONDS
        scale = min(1.0, room / max(sum(lengths[i] for i in between), 1e-9))
        for index in reversed(between):
            ends[index] = until
            until -= lengths[index] * scale
            starts[index] = until
        if number:
            ends[vowels[number - 1]] = until
    return [
        LaidPhoneme(bare(symbol), word, place, float(starts[i]), float(ends[i]))
        for i, (word, place, symbol) in enumerate(flat)
    ]


def sing(
    words: Sequence[tuple[str, ...]],
    notes: Sequence[SungNote],
    voice: Voice,
    *,
    tilt_db: float = 0.0,
    breath: float = 0.0,
) -> SungLine:
    """Sing one line.

    Args:
        words: the ARPAbet of each word, with stress.
        notes: one for each vowel, without gaps.
        tilt_db: how much brighter (dB at 8 kHz, linear in octaves above 500 Hz).
        breath: added noise, 0 ... 1.
    """
    phonemes = lay_out(words, notes, voice)
    start = phonemes[0].start
    num_frames = int(np.ceil((phonemes[-1].end - start) / PERIOD)) + _SILENT_FRAMES
    times = start + np.arange(num_frames) * PERIOD
    envelope = _envelope(words, phonemes, voice, times)
    f0 = _pitch(notes, times)
    for phoneme in phonemes:
        if phoneme.symbol in UNVOICED:
            f0[(times >= phoneme.start) & (times < phoneme.end)] = 0.0
    is_silent = times >= phonemes[-1].end
    f0[is_silent] = 0.0
    envelope[is_silent] = _FLOOR
    fade = np.clip((phonemes[-1].end - times) / _RELEASE_SECONDS, 0.0, 1.0)
    bins = np.linspace(0.0, SPEECH_RATE / 2, envelope.shape[1])
    octaves = np.clip(np.log2(np.maximum(bins, 1.0) / 500.0), 0.0, 4.0) / 4.0
    envelope *= (fade[:, None] ** 2) * 10 ** (tilt_db * octaves / 10)
    envelope = np.maximum(envelope, _FLOOR)
    noise = _noise(phonemes, times, bins) + breath * octaves * _BREATH_NOISE
    samples = voice.world.synthesize(f0, envelope, np.clip(noise, 0.001, 0.999), SPEECH_RATE, PERIOD * 1000)
    return SungLine(samples, start, f0, tuple(phonemes))


def _natural_seconds(voice: Voice, said: tuple[str, ...], place: int) -> float:
    bounds = voice.word(said).bounds
    return float(np.clip((bounds[place + 1] - bounds[place]) * PERIOD, *_CONSONANT_SECONDS))


def _noise(phonemes: Sequence[LaidPhoneme], times: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Aperiodicity [frames, bins]."""
    ends = np.array([phoneme.end for phoneme in phonemes])
    places = np.minimum(np.searchsorted(ends, times), len(phonemes) - 1)
    return np.stack([aperiodicity(phoneme.symbol, bins) for phoneme in phonemes])[places]


def _envelope(
    words: Sequence[tuple[str, ...]], phonemes: Sequence[LaidPhoneme], voice: Voice, times: np.ndarray
) -> np.ndarray:
    """Power per frame and bin: each phoneme's stretch of its word, read at the line's pace."""
    sounds = [voice.word(said) for said in words]
    offsets = np.cumsum([0, *(len(sound.envelope) for sound in sounds)])
    envelopes = np.concatenate([sound.envelope for sound in sounds])
    from_song, to_source = [], []
    for phoneme in phonemes:
        sound, offset = sounds[phoneme.word], offsets[phoneme.word]
        last = len(sound.envelope) - 1
        first, end = sound.bounds[phoneme.place], min(sound.bounds[phoneme.place + 1], last)
        first = min(first, end)
        song, source = _pace(phoneme, first, end)
        from_song += song
        to_source += [offset + place for place in source]
    places = np.interp(times, from_song, to_source)
    low = np.minimum(places.astype(np.int64), len(envelopes) - 2)
    share = (places - low)[:, None]
    return (1 - share) * envelopes[low] + share * envelopes[low + 1]


def _pace(phoneme: LaidPhoneme, first: float, end: float) -> tuple[list[float], list[float]]:
    """Points (song seconds, source frames) of a phoneme; a vowel keeps the pace of its ends."""
    after = phoneme.end - 1e-6
    length, natural = phoneme.end - phoneme.start, (end - first) * PERIOD
    if not is_vowel(phoneme.symbol) or length <= natural:
        return [phoneme.start, after], [first, end - 1e-3]
    head, tail = min(_HEAD_SECONDS, 0.3 * natural), min(_TAIL_SECONDS, 0.35 * natural)
    song = [phoneme.start, phoneme.start + head, phoneme.end - tail, after]
    return song, [first, first + head / PERIOD, end - tail / PERIOD, end - 1e-3]


def _pitch(notes: Sequence[SungNote], times: np.ndarray) -> np.ndarray:
    """Hz per frame: the notes, gliding just before each, with vibrato on long ones."""
    from_song, pitches = [], []
    for index, note in enumerate(notes):
        if index:
            from_song += [note.start - _GLIDE_SECONDS * 0.75, note.start + _GLIDE_SECONDS * 0.25]
            pitches += [notes[index - 1].pitch, note.pitch]
        else:
            from_song.append(note.start)
            pitches.append(note.pitch)
    pitch = np.interp(times, from_song, pitches)
    for note in notes:
        since = times - note.start - _VIBRATO_AFTER
        depth = np.clip(since / 0.2, 0.0, 1.0) * (times < note.end) * _VIBRATO_CENTS / 100
        pitch += depth * np.sin(2 * np.pi * _VIBRATO_HZ * since)
    return 440.0 * 2 ** ((pitch - 69) / 12)
