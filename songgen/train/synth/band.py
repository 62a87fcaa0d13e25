"""The band: the strokes and notes of an arrangement, played by FluidSynth in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from songgen.lyrics import SUNG_TAGS
from songgen.train.synth.arrangements import BASS_PATTERNS, CHORD_PATTERNS, DRUM_PATTERNS
from songgen.train.synth.form import SectionPlan, SongPlan, triad
from songgen.train.synth.melody import EIGHTHS_PER_BAR, scale_pitches
from songgen.train.truth import SAMPLE_RATE, DrumHit

SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
_CHORDS, _BASS, _LEAD, _PAD, _DRUMS = 0, 1, 2, 3, 9
_KEYS = {"kick": 36, "snare": 38, "hat": 42}
_STRENGTH = {"kick": 96, "snare": 84, "hat": 52}
_STROKE_SECONDS = 0.1
_BLOCK = 64
_GAIN = 0.5
_CHORD_LOWEST, _BASS_LOWEST, _LEAD_RANGE = 55, 36, (67, 84)
_DRUM_BANK = 128
_NO_LIBRARY = (
    "FluidSynth: not found; synthetic songs need it (Debian: apt-get install libfluidsynth3; "
    "and pip install 'songgen[data]' for pyfluidsynth)"
)


@dataclass(frozen=True)
class Played:
    """One note of the band: MIDI channel, key and velocity; seconds."""

    channel: int
    key: int
    velocity: int
    start: float
    end: float


class Band:
    """FluidSynth with its soundfont loaded.

    Raises:
        FileNotFoundError: the library or the soundfont is not installed.
        ModuleNotFoundError: pyfluidsynth is not installed.
    """

    def __init__(self, soundfont: Path = SOUNDFONT) -> None:
        self._fluid = load_fluidsynth()
        if not soundfont.is_file():
            raise FileNotFoundError(
                f"{soundfont}: no such file; synthetic songs need this soundfont "
                "(Debian: apt-get install timgm6mb-soundfont)"
            )
        self._soundfont = str(soundfont)

    def play(self, notes: list[Played], programs: dict[int, int], num_samples: int) -> np.ndarray:
        """Float32 [2, num_samples] at 48 kHz; the same notes give the same samples."""
        fluid = self._fluid
        synth = fluid.Synth(gain=_GAIN, samplerate=float(SAMPLE_RATE))
        try:
            synth.setting("synth.chorus.active", 0)
            synth.setting("synth.reverb.active", 0)
            font = synth.sfload(self._soundfont)
            for channel, program in programs.items():
                synth.program_select(channel, font, 0, program)
            synth.program_select(_DRUMS, font, _DRUM_BANK, 0)
            return _rendered(fluid, synth.synth, notes, num_samples)
        finally:
            synth.delete()


def load_fluidsynth() -> Any:
    """The module pyfluidsynth.

    Raises:
        ModuleNotFoundError: it is not installed.
        FileNotFoundError: it does not find FluidSynth itself.
    """
    try:
        import fluidsynth
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pyfluidsynth: not installed; synthetic songs need it: pip install 'songgen[data]'"
        ) from error
    except ImportError as error:
        raise FileNotFoundError(_NO_LIBRARY) from error
    return fluidsynth


def band_programs(plan: SongPlan) -> dict[int, int]:
    """General MIDI programs by channel."""
    band = plan.arrangement
    programs = {_CHORDS: band.chords, _BASS: band.bass, _LEAD: band.lead}
    return programs if band.pad is None else {**programs, _PAD: band.pad}


def band_notes(plan: SongPlan, rng: np.random.Generator) -> tuple[list[Played], tuple[DrumHit, ...]]:
    """All notes of the band, and its strokes of the drums."""
    notes: list[Played] = []
    hits: list[DrumHit] = []
    eighth = plan.beat_seconds / 2
    tunes: dict[int, list[tuple[int, int, int]]] = {}
    for section in plan.sections:
        for number, degree in enumerate(section.chords):
            start = section.start + number * EIGHTHS_PER_BAR * eighth
            notes += _harmony(plan, section, degree, start)
            notes += _bass(plan, degree, start)
            is_last = number == len(section.chords) - 1
            drums = list(_drums(plan, start, is_last))
            notes += [_stroke(hit) for hit in drums]
            hits += drums
        if section.tag not in SUNG_TAGS and section.chords:
            tune = tunes.setdefault(len(section.chords), _tune(plan, section, rng))
            notes += [
                Played(
                    _LEAD, key, 84, section.start + place * eighth, section.start + (place + long) * eighth
                )
                for place, long, key in tune
            ]
    return notes, tuple(sorted(hits, key=lambda hit: hit.start))


def _harmony(plan: SongPlan, section: SectionPlan, degree: int, start: float) -> Iterator[Played]:
    band, eighth = plan.arrangement, plan.beat_seconds / 2
    keys = chord_keys(plan, degree)
    strong = section.tag in ("chorus",)
    velocity = 82 if strong else 70
    if band.chord_pattern == "arpeggio":
        order = (0, 1, 2, 1, 0, 1, 2, 1)
        for place, tone in enumerate(order):
            at = start + place * eighth
            yield Played(_CHORDS, keys[tone], velocity, at, at + 2 * eighth)
    for place, long in CHORD_PATTERNS[band.chord_pattern]:
        at = start + place * eighth
        for key in keys:
            yield Played(_CHORDS, key, velocity, at, at + 0.95 * long * eighth)
    if band.pad is not None and section.tag != "verse":
        for key in keys:
            yield Played(_PAD, key, 56, start, start + EIGHTHS_PER_BAR * eighth * 0.98)


def _bass(plan: SongPlan, degree: int, start: float) -> Iterator[Played]:
    eighth = plan.beat_seconds / 2
    root, mode = triad(plan.key, degree)
    base = _BASS_LOWEST + (root - _BASS_LOWEST) % 12
    tones = (base, base + (4 if mode == "major" else 3), base + 7, base + 12)
    for place, long, tone in BASS_PATTERNS[plan.arrangement.bass_pattern]:
        at = start + place * eighth
        yield Played(_BASS, tones[tone], 86, at, at + 0.92 * long * eighth)


def _drums(plan: SongPlan, start: float, is_last: bool) -> Iterator[DrumHit]:
    """A bar's strokes; the last bar of a section ends with a fill on the snare."""
    eighth = plan.beat_seconds / 2
    pattern = DRUM_PATTERNS[plan.arrangement.drum_pattern]
    for kind, places in pattern.items():
        for place in places:
            if not (is_last and place >= 6):
                yield DrumHit(kind, start + place * eighth)
    if is_last and pattern:
        for stroke in range(4):
            yield DrumHit("snare", start + (6 + stroke / 2) * eighth)


def _stroke(hit: DrumHit) -> Played:
    return Played(_DRUMS, _KEYS[hit.kind], _STRENGTH[hit.kind], hit.start, hit.start + _STROKE_SECONDS)


def _tune(plan: SongPlan, section: SectionPlan, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """A melody of the lead: (eighth, eighths long, key), chord tones on the beats one and three."""
    ladder = scale_pitches(plan.key, *_LEAD_RANGE)
    rung = len(ladder) // 2
    notes = []
    for number, degree in enumerate(section.chords):
        classes = {key % 12 for key in chord_keys(plan, degree)}
        rhythm = ((0, 4), (4, 2), (6, 2)) if rng.random() < 0.5 else ((0, 2), (2, 2), (4, 4))
        for place, long in rhythm:
            rung = int(np.clip(rung + rng.integers(-2, 3), 0, len(ladder) - 1))
            if place in (0, 4):
                fitting = [i for i, key in enumerate(ladder) if key % 12 in classes]
                rung = min(fitting, key=lambda i: abs(i - rung))
            notes.append((number * EIGHTHS_PER_BAR + place, long, ladder[rung]))
    return notes


def chord_keys(plan: SongPlan, degree: int) -> list[int]:
    """Three keys of a chord in close position, from G3 up."""
    root, mode = triad(plan.key, degree)
    classes = (root, root + (4 if mode == "major" else 3), root + 7)
    return sorted(_CHORD_LOWEST + (pitch - _CHORD_LOWEST) % 12 for pitch in classes)


def _rendered(fluid: Any, synth: Any, notes: list[Played], num_samples: int) -> np.ndarray:
    write = fluid._fl.fluid_synth_write_float
    write.restype = ctypes.c_int
    write.argtypes = [ctypes.c_void_p, ctypes.c_int] + [ctypes.c_void_p, ctypes.c_int, ctypes.c_int] * 2
    num_blocks = -(-num_samples // _BLOCK)
    audio = np.zeros((2, num_blocks * _BLOCK), np.float32)
    events = sorted(
        [(round(n.start * SAMPLE_RATE / _BLOCK), 1, n.channel, n.key, n.velocity) for n in notes]
        + [(round(n.end * SAMPLE_RATE / _BLOCK), 0, n.channel, n.key, 0) for n in notes]
    )
    events.append((num_blocks, 0, 0, 0, 0))
    done = 0
    for block, is_start, channel, key, velocity in events:
        block = min(block, num_blocks)
        if block > done:
            size = (block - done) * _BLOCK
            offset = done * _BLOCK
            left = audio[0, offset:].ctypes.data
            right = audio[1, offset:].ctypes.data
            write(synth, size, left, 0, 1, right, 0, 1)
            done = block
        if is_start:
            fluid.fluid_synth_noteon(synth, channel, key, velocity)
        elif velocity == 0 and block < num_blocks:
            fluid.fluid_synth_noteoff(synth, channel, key)
    return audio[:, :num_samples]
