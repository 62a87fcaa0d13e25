"""One synthetic song from its seed and number: the stems and everything true of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from songgen.train.synth.band import Band, band_notes, band_programs
from songgen.train.synth.form import BEATS_PER_BAR, TAIL_SECONDS, SongPlan, describe, plan_song, triad
from songgen.train.synth.melody import Composer
from songgen.train.synth.singing import SungLine, sing
from songgen.train.synth.speech import SPEECH_RATE, Speaker
from songgen.train.synth.voice import PERIOD, SINGERS, Voice
from songgen.train.truth import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE, Chord, SongTruth, Span, SungNote

HELD_OUT_EVERY = 40
_VOCAL_LEVEL, _BAND_LEVEL = 0.11, 0.062
_PEAK = 0.94
_REVERB_SECONDS, _REVERB_DECAY, _REVERB_LEVEL, _REVERB_SEED = 0.4, 0.09, 0.16, 7
_FADE_SECONDS = 0.1
_TILT_DB = {"bright": 6.0, "loud": 3.0, "dark": -6.0, "warm": -3.0}
_BREATH = {"soft": 1.0}


@dataclass(frozen=True)
class SynthSong:
    """Stems float32 [2 stems (vocal, bgm), 2 channels, samples] at 48 kHz, and their truth."""

    stems: np.ndarray
    truth: SongTruth


class Studio:
    """The singers and the band of one process; songs do not depend on what was made before.

    Raises:
        FileNotFoundError, ModuleNotFoundError: something is not installed; the sentence names its package.
    """

    def __init__(self) -> None:
        speaker = Speaker()
        self.voices = {name: Voice(singer, speaker) for name, singer in SINGERS.items()}
        self.band = Band()


@cache
def studio() -> Studio:
    """The studio of this process."""
    return Studio()


def is_held_out(number: int) -> bool:
    """Whether a song is kept for measuring: one in forty, by number."""
    return number % HELD_OUT_EVERY == 0


def make_song(seed: int, number: int) -> SynthSong:
    """Make one song; the same seed and number give the same bytes.

    Raises:
        FileNotFoundError, ModuleNotFoundError: as `Studio`.
    """
    rooms = studio()
    rng = np.random.default_rng([seed, number])
    plan = plan_song(rng, is_held_out(number))
    descriptions = describe(plan, rng)
    voice = rooms.voices[plan.voice]
    notes, lines = _sung(plan, voice, rng)
    num_frames = math.ceil((plan.sections[-1].end + TAIL_SECONDS) * FRAME_RATE)
    num_samples = num_frames * FRAME_SAMPLES
    played, hits = band_notes(plan, rng)
    bgm = rooms.band.play(played, band_programs(plan), num_samples)
    stems = _mastered(_vocal(lines, num_samples), bgm)
    words, phonemes = _spoken_spans(plan, lines)
    truth = SongTruth(
        seed=seed,
        num_frames=num_frames,
        lyrics=plan.lyrics,
        descriptions=descriptions,
        voice=plan.voice,
        genre=plan.genre,
        mood=plan.mood,
        bpm=plan.bpm,
        key=plan.key,
        sections=tuple(Span(s.tag, _rounded(s.start), _rounded(s.end)) for s in plan.sections),
        words=words,
        phonemes=phonemes,
        notes=tuple(notes),
        chords=_chords(plan),
        beats=_beats(plan),
        drums=hits,
        f0_hz=_frame_pitch(lines, num_frames),
    )
    return SynthSong(stems, truth)


def _sung(plan: SongPlan, voice: Voice, rng: np.random.Generator) -> tuple[list[SungNote], list[SungLine]]:
    composer = Composer(plan, rng, voice.singer.lowest, voice.singer.highest)
    notes: list[SungNote] = []
    lines: list[SungLine] = []
    tilt, breath = _TILT_DB.get(plan.timbre, 0.0), _BREATH.get(plan.timbre, 0.0)
    for section in plan.sections:
        for number, line in enumerate(section.lines):
            line_notes = composer.line_notes(section, number)
            lines.append(sing(line.phonemes, line_notes, voice, tilt_db=tilt, breath=breath))
            notes += line_notes
    return notes, lines


def _vocal(lines: Sequence[SungLine], num_samples: int) -> np.ndarray:
    """Float64 [2, num_samples]: the lines in their places at a fixed loudness, with a little room."""
    import soxr
    from scipy.signal import oaconvolve

    if not lines:
        return np.zeros((2, num_samples))
    dry = np.zeros(math.ceil(num_samples * SPEECH_RATE / SAMPLE_RATE) + SPEECH_RATE)
    for line in lines:
        first = round(line.start * SPEECH_RATE)
        dry[first : first + len(line.samples)] += line.samples[: len(dry) - first]
    is_sung = np.concatenate([line.samples for line in lines])
    dry *= _VOCAL_LEVEL / max(float(np.sqrt(np.mean(is_sung**2))), 1e-9)
    mono = soxr.resample(dry, SPEECH_RATE, SAMPLE_RATE)[:num_samples]
    return np.stack([mono + oaconvolve(mono, room)[:num_samples] for room in _rooms()])


@cache
def _rooms() -> tuple[np.ndarray, np.ndarray]:
    """The room's two ears: decaying noise after 12 ms."""
    rng = np.random.default_rng(_REVERB_SEED)
    times = np.arange(int(_REVERB_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    shape = np.exp(-times / _REVERB_DECAY) * (times > 0.012)
    rooms = []
    for _ in range(2):
        noise = rng.standard_normal(len(times)) * shape
        smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
        rooms.append(_REVERB_LEVEL * smooth / np.sqrt(np.sum(smooth**2)))
    return rooms[0], rooms[1]


def _mastered(vocal: np.ndarray, bgm: np.ndarray) -> np.ndarray:
    """Both stems float32 at their levels, without a click at the end, the mix below full scale."""
    level = float(np.sqrt(np.mean(bgm**2, dtype=np.float64)))
    bgm = bgm * (_BAND_LEVEL / max(level, 1e-9))
    fade = np.ones(vocal.shape[1], np.float32)
    size = int(_FADE_SECONDS * SAMPLE_RATE)
    fade[-size:] = np.linspace(1.0, 0.0, size)
    stems = np.stack([vocal.astype(np.float32), bgm.astype(np.float32)]) * fade
    peak = max(float(np.abs(stems.sum(0)).max()), float(np.abs(stems).max()))
    return stems * np.float32(min(1.0, _PEAK / max(peak, 1e-9)))


def _spoken_spans(plan: SongPlan, lines: Sequence[SungLine]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    words: list[Span] = []
    phonemes: list[Span] = []
    written = [line for section in plan.sections for line in section.lines]
    for line, sung in zip(written, lines, strict=True):
        for index, text in enumerate(line.words):
            said = [phoneme for phoneme in sung.phonemes if phoneme.word == index]
            words.append(Span(text, _rounded(said[0].start), _rounded(said[-1].end)))
        phonemes += [Span(p.symbol, _rounded(p.start), _rounded(p.end)) for p in sung.phonemes]
    return tuple(words), tuple(phonemes)


def _chords(plan: SongPlan) -> tuple[Chord, ...]:
    bar = BEATS_PER_BAR * plan.beat_seconds
    chords = []
    for section in plan.sections:
        for number, degree in enumerate(section.chords):
            start = section.start + number * bar
            chords.append(Chord(*triad(plan.key, degree), _rounded(start), _rounded(start + bar)))
    return tuple(chords)


def _beats(plan: SongPlan) -> tuple[float, ...]:
    beats = []
    for section in plan.sections:
        for number in range(len(section.chords) * BEATS_PER_BAR):
            beats.append(_rounded(section.start + number * plan.beat_seconds))
    return tuple(beats)


def _frame_pitch(lines: Sequence[SungLine], num_frames: int) -> tuple[float, ...]:
    """Hz in the middle of each frame."""
    middles = (np.arange(num_frames) + 0.5) / FRAME_RATE
    pitch = np.zeros(num_frames)
    for line in lines:
        places = np.round((middles - line.start) / PERIOD).astype(np.int64)
        is_inside = (places >= 0) & (places < len(line.f0_hz))
        pitch[is_inside] = line.f0_hz[places[is_inside]]
    return tuple(float(hz) for hz in np.round(pitch, 2))


def _rounded(seconds: float) -> float:
    return round(float(seconds), 5)
