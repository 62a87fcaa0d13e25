"""Bands: which instruments play which patterns, two bands for each genre. General MIDI programs."""

from __future__ import annotations

from dataclasses import dataclass

# Strokes on the eighths of a bar.
DRUM_PATTERNS = {
    "none": {},
    "straight": {"kick": (0, 4), "snare": (2, 6), "hat": (0, 1, 2, 3, 4, 5, 6, 7)},
    "rock": {"kick": (0, 3, 4), "snare": (2, 6), "hat": (0, 1, 2, 3, 4, 5, 6, 7)},
    "soft": {"kick": (0,), "snare": (4,), "hat": (0, 2, 4, 6)},
    "four": {"kick": (0, 2, 4, 6), "snare": (2, 6), "hat": (1, 3, 5, 7)},
    "swing": {"kick": (0, 4), "snare": (2, 6), "hat": (0, 2, 3, 4, 6, 7)},
    "brush": {"kick": (0,), "snare": (2, 6), "hat": (0, 2, 4, 6)},
}

# (eighth, eighths long) of the chord's strokes in a bar; "arpeggio" plays its notes one by one.
CHORD_PATTERNS = {
    "whole": ((0, 8),),
    "halves": ((0, 4), (4, 4)),
    "quarters": ((0, 2), (2, 2), (4, 2), (6, 2)),
    "strum": ((0, 2), (2, 1), (3, 2), (5, 1), (6, 2)),
    "comp": ((1, 1), (4, 2), (7, 1)),
    "offbeat": ((1, 1), (3, 1), (5, 1), (7, 1)),
    "arpeggio": (),
}

# (eighth, eighths long, chord tone: 0 root, 1 third, 2 fifth, 3 octave)
BASS_PATTERNS = {
    "whole": ((0, 8, 0),),
    "halves": ((0, 4, 0), (4, 4, 2)),
    "eighths": tuple((eighth, 1, 0) for eighth in range(8)),
    "walk": ((0, 2, 0), (2, 2, 1), (4, 2, 2), (6, 2, 3)),
    "bounce": ((0, 2, 0), (3, 1, 0), (4, 2, 2), (7, 1, 0)),
}


@dataclass(frozen=True)
class Arrangement:
    """A band.

    Args:
        chords, bass, lead, pad: General MIDI programs (0 ...); a pad of None is silent.
        chord_pattern, bass_pattern, drum_pattern: keys of the tables above.
        instruments: what a description may name.
    """

    chords: int
    chord_pattern: str
    bass: int
    bass_pattern: str
    lead: int
    pad: int | None
    drum_pattern: str
    instruments: tuple[str, ...]


ARRANGEMENTS = {
    "pop": (
        Arrangement(0, "quarters", 33, "bounce", 80, 89, "straight", ("piano", "drums")),
        Arrangement(25, "strum", 33, "halves", 0, None, "straight", ("guitar", "bass")),
    ),
    "rock": (
        Arrangement(29, "quarters", 34, "eighths", 30, None, "rock", ("electric guitar", "drums")),
        Arrangement(27, "strum", 34, "eighths", 29, None, "rock", ("electric guitar", "drum kit")),
    ),
    "ballad": (
        Arrangement(0, "arpeggio", 33, "whole", 73, 48, "none", ("piano",)),
        Arrangement(0, "halves", 32, "whole", 40, 48, "soft", ("piano", "strings")),
    ),
    "electronic": (
        Arrangement(81, "offbeat", 38, "eighths", 80, 90, "four", ("synthesizer", "drum machine")),
        Arrangement(90, "arpeggio", 39, "bounce", 81, None, "four", ("synthesizer", "bass")),
    ),
    "jazz": (
        Arrangement(0, "comp", 32, "walk", 66, None, "swing", ("piano", "saxophone")),
        Arrangement(26, "comp", 32, "walk", 11, None, "brush", ("guitar", "bass")),
    ),
    "folk": (
        Arrangement(24, "arpeggio", 32, "halves", 73, None, "none", ("guitar",)),
        Arrangement(25, "strum", 32, "halves", 21, None, "soft", ("guitar", "accordion")),
    ),
}
GENRES = tuple(ARRANGEMENTS)
