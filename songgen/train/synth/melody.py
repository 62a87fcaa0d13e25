"""Tunes: notes for the syllables of each line, and for the lead where nobody sings.

A section's contour is drawn once per tag on a grid of eighths and is read wherever a syllable falls, so that
repeated sections sound alike whatever their words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from songgen.train.synth.form import BARS_PER_LINE, SCALES, SectionPlan, SongPlan
from songgen.train.synth.verses import Line
from songgen.train.truth import Key, SungNote

EIGHTHS_PER_BAR = 8
_GRID = BARS_PER_LINE * EIGHTHS_PER_BAR
_SUNG_EIGHTHS = 14
_STRONG = 4
_LONGEST_EIGHTHS = 4
_DRAWS = 24
_LINES_KNOWN = 4


class Composer:
    """Writes the notes of one song."""

    def __init__(self, plan: SongPlan, rng: np.random.Generator, lowest: int, highest: int) -> None:
        self._plan = plan
        self._rng = rng
        self._ladder = scale_pitches(plan.key, lowest, highest)
        self._contours: dict[str, np.ndarray] = {}

    def line_notes(self, section: SectionPlan, number: int) -> list[SungNote]:
        """Notes of one line, one for each syllable, without gaps; seconds in the song."""
        eighth = self._plan.beat_seconds / 2
        start = section.start + number * _GRID * eighth
        line = section.lines[number]
        lengths = line_rhythm(line, self._rng)
        contour = self._contour(section)[number % _LINES_KNOWN]
        places = np.cumsum([0, *lengths])
        notes = []
        for place, length in zip(places[:-1], lengths, strict=True):
            pitch = self._ladder[int(contour[place])]
            notes.append(SungNote(pitch, start + place * eighth, start + (place + length) * eighth))
        return notes

    def _contour(self, section: SectionPlan) -> np.ndarray:
        """Rungs of the ladder [lines, eighths] of a tag: chord tones on strong places, steps between."""
        if section.tag in self._contours:
            return self._contours[section.tag]
        num_rungs = len(self._ladder)
        centre = num_rungs * (0.62 if section.tag == "chorus" else 0.4)
        rungs = np.zeros((_LINES_KNOWN, _GRID), np.int64)
        rung = int(centre)
        for line in range(_LINES_KNOWN):
            anchors = []
            for place in range(0, _GRID + 1, _STRONG):
                bar = (line * BARS_PER_LINE + place // EIGHTHS_PER_BAR) % max(len(section.chords), 1)
                degree = section.chords[bar]
                is_end = line % 2 == 1 and place >= _GRID - _STRONG
                rung = self._chord_rung(0 if is_end else degree, rung, centre)
                anchors.append(rung)
            places = np.arange(0, _GRID + 1, _STRONG)
            rungs[line] = np.round(np.interp(np.arange(_GRID), places, anchors))
        self._contours[section.tag] = np.clip(rungs, 0, num_rungs - 1)
        return self._contours[section.tag]

    def _chord_rung(self, degree: int, rung: int, centre: float) -> int:
        """A rung of the chord near the one before and the section's centre."""
        scale = SCALES[self._plan.key.mode]
        classes = {(self._plan.key.tonic + scale[(degree + step) % 7]) % 12 for step in (0, 2, 4)}
        fitting = [i for i, pitch in enumerate(self._ladder) if pitch % 12 in classes]
        costs = np.array([abs(i - rung) + 0.7 * abs(i - centre) - 1.5 * (i != rung) for i in fitting])
        chances = np.exp(-costs)
        return int(fitting[int(self._rng.choice(len(fitting), p=chances / chances.sum()))])


def scale_pitches(key: Key, lowest: int, highest: int) -> list[int]:
    """MIDI numbers of a key's scale within a range, both ends included."""
    classes = {(key.tonic + step) % 12 for step in SCALES[key.mode]}
    return [pitch for pitch in range(lowest, highest + 1) if pitch % 12 in classes]


def line_rhythm(line: Line, rng: np.random.Generator) -> list[int]:
    """Eighths of each syllable: of some draws the one with most stresses on beats and a long last note."""
    count = line.num_syllables
    spare = _SUNG_EIGHTHS - count
    best: list[int] = []
    best_score = -np.inf
    for _ in range(_DRAWS):
        lengths = np.ones(count, np.int64)
        for _ in range(int(spare * rng.uniform(0.7, 1.0))):
            open_places = np.flatnonzero(lengths < _LONGEST_EIGHTHS)
            if len(open_places):
                lengths[int(rng.choice(open_places))] += 1
        score = _rhythm_score(lengths, line.stresses)
        if score > best_score:
            best, best_score = [int(length) for length in lengths], score
    return best


def _rhythm_score(lengths: np.ndarray, stresses: Sequence[bool]) -> float:
    starts = np.cumsum(lengths) - lengths
    on_beat = starts % 2 == 0
    score = float(np.sum(on_beat == np.asarray(stresses)))
    score -= 0.5 * float(np.sum((lengths > 2)[:-1])) + 0.3 * float(np.sum(np.abs(np.diff(lengths[:-1])) > 1))
    return score + 0.8 * min(int(lengths[-1]), 3)
