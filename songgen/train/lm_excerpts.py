"""Excerpts: consecutive sections of a song, as if they were all of it. They multiply forms and texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from songgen.english import pronounce
from songgen.train.truth import FRAME_RATE, SongTruth, Span

SEPARATOR = " ; "


@dataclass(frozen=True)
class Excerpt:
    """Sections `first` ... `last` of a song, which are its frames `start` ... `stop` - 1."""

    song: int
    first: int
    last: int
    start: int
    stop: int

    @property
    def num_frames(self) -> int:
        """Its length."""
        return self.stop - self.start


def section_starts(truth: SongTruth) -> list[int]:
    """The frame that each section begins with, consonants before its first beat included; the first has 0."""
    counts = [_num_phonemes(part) for part in truth.lyrics.split(SEPARATOR)]
    firsts = [0, *accumulate(counts)]
    starts = []
    for section, count, first in zip(truth.sections, counts, firsts, strict=False):
        onset = truth.phonemes[first].start if count else section.start
        starts.append(int(min(section.start, onset) * FRAME_RATE))
    return [0, *starts[1:]]


def excerpts_of(truth: SongTruth, song: int, *, longest: int) -> Iterator[Excerpt]:
    """All that have words and are not the whole song, up to `longest` frames.

    None of a song whose lyrics are not divided as its sections are.
    """
    parts = truth.lyrics.split(SEPARATOR)
    counts = [_num_phonemes(part) for part in parts]
    if len(parts) != len(truth.sections) or sum(counts) != len(truth.phonemes):
        return
    bounds = [*section_starts(truth), truth.num_frames]
    for first in range(len(parts)):
        for last in range(first, len(parts)):
            found = Excerpt(song, first, last, bounds[first], bounds[last + 1])
            is_whole = (first, last) == (0, len(parts) - 1)
            if sum(counts[first : last + 1]) and not is_whole and found.num_frames <= longest:
                yield found


def cut_truth(truth: SongTruth, excerpt: Excerpt) -> SongTruth:
    """The truth of an excerpt; chords and drums are left out."""
    parts = truth.lyrics.split(SEPARATOR)
    counts = [_num_phonemes(part) for part in parts]
    spoken = slice(sum(counts[: excerpt.first]), sum(counts[: excerpt.last + 1]))
    begin, end = excerpt.start / FRAME_RATE, excerpt.stop / FRAME_RATE

    def moved(span: Span) -> Span:
        return Span(span.name, max(0.0, span.start - begin), min(end, span.end) - begin)

    words = tuple(span for span in truth.words if begin <= (span.start + span.end) / 2 < end)
    return replace(
        truth,
        num_frames=excerpt.num_frames,
        lyrics=SEPARATOR.join(parts[excerpt.first : excerpt.last + 1]),
        sections=tuple(moved(span) for span in truth.sections[excerpt.first : excerpt.last + 1]),
        words=tuple(moved(span) for span in words),
        phonemes=tuple(moved(span) for span in truth.phonemes[spoken]),
        notes=(),
        chords=(),
        beats=(),
        drums=(),
        f0_hz=truth.f0_hz[excerpt.start : excerpt.stop],
    )


def _num_phonemes(text: str) -> int:
    return sum(len(word.phonemes) for word in pronounce(text))
