"""The form of a song: its tagged sections, how long each is, its key, tempo, chords and descriptions.

Plans only; no notes and no sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from songgen.lyrics import SILENCE_SECONDS, SUNG_TAGS, role_of
from songgen.train.synth.arrangements import ARRANGEMENTS, GENRES, Arrangement
from songgen.train.synth.verses import Line, Poet
from songgen.train.truth import Key

BEATS_PER_BAR = 4
BARS_PER_LINE = 2
LEAD_IN_SECONDS = 0.2
TAIL_SECONDS = 0.8
BGM_SHARE = 0.1
_LONGEST_SECONDS = 58.0
_SECONDS = {"short": (4.0, 8.2), "medium": (10.1, 16.0), "long": (20.1, 25.0)}

# Scale degrees (0 = tonic) of one chord a bar, four bars.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 6), (0, 3, 5, 4), (0, 5, 3, 4)),
}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_MAJOR_DEGREES = {"major": (0, 3, 4), "minor": (2, 5, 6)}


@dataclass(frozen=True)
class Mood:
    """A mood: its mode, the tempi it has (bpm), the timbres that go with it."""

    mode: str
    tempi: tuple[int, ...]
    timbres: tuple[str, ...]


MOODS = {
    "happy": Mood("major", (108, 114, 120, 126, 132), ("bright", "loud")),
    "energetic": Mood("major", (114, 120, 126, 132), ("bright", "loud")),
    "romantic": Mood("major", (72, 78, 84, 90, 96), ("warm", "soft")),
    "sweet": Mood("major", (84, 90, 96, 102, 108), ("bright", "soft")),
    "sad": Mood("minor", (72, 78, 84, 90), ("dark", "soft")),
    "mysterious": Mood("minor", (90, 96, 102, 108, 114), ("dark", "warm")),
}

FORMS = (
    (0.16, ("verse",)),
    (0.10, ("chorus",)),
    (0.14, ("intro-short", "verse")),
    (0.08, ("intro-short", "chorus")),
    (0.12, ("verse", "chorus")),
    (0.12, ("intro-short", "verse", "chorus")),
    (0.05, ("intro-short", "verse", "outro-short")),
    (0.06, ("intro-short", "verse", "chorus", "outro-short")),
    (0.04, ("verse", "inst-short", "chorus")),
    (0.03, ("verse", "bridge", "chorus")),
    (0.03, ("intro-short", "verse", "chorus", "bridge", "chorus")),
    (0.02, ("intro-medium", "verse", "chorus")),
    (0.02, ("verse", "chorus", "inst-medium", "chorus")),
    (0.01, ("verse", "chorus", "outro-medium")),
    (0.01, ("verse", "silence", "chorus")),
    (0.01, ("intro-long", "verse")),
)
BGM_FORMS = (
    (0.25, ("intro-short", "inst-short", "outro-short")),
    (0.25, ("intro-short", "inst-medium")),
    (0.2, ("inst-medium", "outro-short")),
    (0.2, ("inst-short", "inst-short")),
    (0.1, ("inst-long",)),
)


@dataclass(frozen=True)
class SectionPlan:
    """One section: seconds, bars, the degree of each bar's chord, the lines sung in it."""

    tag: str
    start: float
    end: float
    chords: tuple[int, ...]
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class SongPlan:
    """A song before its notes. `timbre` may be empty."""

    voice: str
    genre: str
    mood: str
    timbre: str
    arrangement: Arrangement
    bpm: int
    key: Key
    sections: tuple[SectionPlan, ...]

    @property
    def beat_seconds(self) -> float:
        """Seconds of a quarter note."""
        return 60.0 / self.bpm

    @property
    def lyrics(self) -> str:
        """In the published form."""
        parts = []
        for section in self.sections:
            words = " ".join(line.text for line in section.lines)
            parts.append(f"[{section.tag}] {words}".rstrip())
        return " ; ".join(parts)


def triad(key: Key, degree: int) -> tuple[int, str]:
    """Pitch class of the root, and the mode, of the triad on a degree of a key's scale."""
    root = (key.tonic + SCALES[key.mode][degree % 7]) % 12
    return root, "major" if degree % 7 in _MAJOR_DEGREES[key.mode] else "minor"


def plan_song(rng: np.random.Generator, held_out: bool) -> SongPlan:
    """Draw a song: everything but its notes."""
    voice = str(rng.choice(("female", "male")))
    genre = str(rng.choice(GENRES))
    mood = str(rng.choice(_moods_of(genre)))
    arrangement = ARRANGEMENTS[genre][int(rng.integers(len(ARRANGEMENTS[genre])))]
    bpm = int(rng.choice(MOODS[mood].tempi))
    key = Key(int(rng.integers(12)), MOODS[mood].mode)
    timbre = str(rng.choice(MOODS[mood].timbres)) if rng.random() < 0.5 else ""
    is_bgm = rng.random() < BGM_SHARE
    forms = BGM_FORMS if is_bgm else FORMS
    shares = np.array([share for share, _ in forms])
    form = forms[int(rng.choice(len(forms), p=shares / shares.sum()))][1]
    poet = Poet(rng, held_out)
    sections = _sections(rng, form, poet, bpm, key.mode)
    return SongPlan(voice, genre, mood, timbre, arrangement, bpm, key, sections)


def describe(plan: SongPlan, rng: np.random.Generator) -> str:
    """The description: gender nearly always where somebody sings, other fields left out at times."""
    is_sung = any(section.lines for section in plan.sections)
    fields = [
        (plan.voice if is_sung else "", 0.97),
        (plan.timbre if is_sung else "", 0.9),
        (plan.genre, 0.85),
        (plan.mood, 0.8),
        (", ".join(plan.arrangement.instruments[: int(rng.integers(1, 3))]), 0.6),
        (f"the bpm is {plan.bpm}", 0.85),
    ]
    kept = [text for text, share in fields if rng.random() < share and text]
    return ", ".join(kept or [plan.voice if is_sung else plan.genre])


def _moods_of(genre: str) -> list[str]:
    if genre == "ballad":
        return ["romantic", "sweet", "sad"]
    if genre in ("rock", "electronic"):
        return ["happy", "energetic", "mysterious", "sad"]
    return list(MOODS)


def _sections(
    rng: np.random.Generator, form: tuple[str, ...], poet: Poet, bpm: int, mode: str
) -> tuple[SectionPlan, ...]:
    bar = BEATS_PER_BAR * 60.0 / bpm
    progressions = PROGRESSIONS[mode]
    by_role = {}
    for role in ("verse", "chorus", "bridge"):
        by_role[role] = progressions[int(rng.integers(len(progressions)))]
    num_lines = _numbers_of_lines(rng, form, bar)
    chorus: tuple[Line, ...] = ()
    plans, start = [], LEAD_IN_SECONDS
    for place, tag in enumerate(form):
        lines: tuple[Line, ...] = ()
        if tag == "silence":
            plans.append(SectionPlan(tag, start, start + SILENCE_SECONDS, ()))
            start += SILENCE_SECONDS
            continue
        if tag in SUNG_TAGS:
            lines = chorus if tag == "chorus" and chorus else poet.verse(num_lines[place])
            chorus = lines if tag == "chorus" else chorus
            bars = BARS_PER_LINE * len(lines)
        else:
            bars = _bars(rng, tag, bar)
        progression = by_role.get(role_of(tag), by_role["verse"])
        chords = [progression[number % 4] for number in range(bars)]
        if place == len(form) - 1 and tag not in SUNG_TAGS:
            chords[-1] = 0
        end = start + bars * bar
        plans.append(SectionPlan(tag, start, end, tuple(chords), lines))
        start = end
    return tuple(plans)


def _numbers_of_lines(rng: np.random.Generator, form: tuple[str, ...], bar: float) -> list[int]:
    """Lines of each section; fewer where the song would be too long."""
    sung = [tag in SUNG_TAGS for tag in form]
    numbers = [int(rng.choice((1, 2, 3, 4), p=(0.1, 0.5, 0.1, 0.3))) * is_sung for is_sung in sung]
    if sum(sung) == 1:
        numbers = [int(rng.choice((2, 3, 4))) * is_sung for is_sung in sung]
    played = sum(_SECONDS[tag.partition("-")[2]][1] for tag in form if "-" in tag)
    while played + sum(numbers) * BARS_PER_LINE * bar > _LONGEST_SECONDS and max(numbers) > 1:
        numbers[numbers.index(max(numbers))] -= 1
    return numbers


def _bars(rng: np.random.Generator, tag: str, bar: float) -> int:
    least, most = _SECONDS[tag.partition("-")[2]]
    fitting = [bars for bars in range(2, 24, 2) if least <= bars * bar <= most]
    return int(rng.choice(fitting)) if fitting else max(1, round((least + most) / 2 / bar))
