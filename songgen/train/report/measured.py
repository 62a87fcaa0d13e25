"""The report's measures by name, and from values of single songs to means with intervals.

A measure is taken of a source: the true stems, those that went through the autoencoder or the whole codec, or
generated ones. A rate is the ratio of its sums over songs; takes of one request are one song.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from songgen.evaluate.bootstrap import Bootstrap, estimate_ratio

SOURCES = {
    "true": "true stems",
    "vae": "autoencoder alone",
    "resynthesised": "tokens and back",
    "generated": "generated",
    "chance": "by chance",
}
"""Source to its name in tables, in their order."""


@dataclass(frozen=True)
class Aim:
    """A value to be reached: at most, or at least."""

    limit: float
    is_most: bool

    def is_reached(self, value: float) -> bool:
        """Whether a value is within the limit."""
        return value <= self.limit if self.is_most else value >= self.limit


@dataclass(frozen=True)
class ReportMeasure:
    """A measure: its part of the page, its words, its unit, digits behind the point, aims by source."""

    part: str
    doc: str
    unit: str = ""
    digits: int = 2
    aims: tuple[tuple[str, Aim], ...] = ()


MEASURES: dict[str, ReportMeasure] = {
    "mel_mixed": ReportMeasure("codec", "mel distance of the mix", "dB", 1),
    "mel_vocal": ReportMeasure("codec", "mel distance of the vocal", "dB", 1),
    "mel_bgm": ReportMeasure("codec", "mel distance of the band", "dB", 1),
    "pitch_cents": ReportMeasure("codec", "median pitch error of the vocal", "cents", 0),
    "pitch_near": ReportMeasure("codec", "voiced frames within 50 cents of the truth", "%", 0),
    "voiced": ReportMeasure("codec", "sung frames that are heard as voiced", "%", 0),
    "silence_level": ReportMeasure("codec", "vocal where nobody sings, against where somebody does", "dB", 0),
    "band_in_vocal": ReportMeasure("codec", "band within the vocal stem, against the band", "dB", 0),
    "vocal_in_band": ReportMeasure("codec", "vocal within the band stem, against the vocal", "dB", 0),
    "per": ReportMeasure(
        "words", "phoneme error rate of the vocal stem", "%", 1,
        (("true", Aim(0.10, True)), ("generated", Aim(0.35, True))),
    ),
    "in_scale": ReportMeasure(
        "language model", "voiced frames within 50 cents of the best-fitting scale", "%", 0,
        (("generated", Aim(0.90, False)),),
    ),
    "in_band_scale": ReportMeasure(
        "language model", "the same, of the scale that fits the band stem best", "%", 0
    ),
    "beat": ReportMeasure("language model", "beat strength at the tempo asked for", "", 2),
    "tempo_met": ReportMeasure("language model", "songs whose tempo is the one asked for", "%", 0),
    "ended": ReportMeasure("language model", "songs that end by themselves", "%", 0),
    "length_ratio": ReportMeasure("language model", "length against the true song of the same lyrics", "", 2),
    "length_off": ReportMeasure("language model", "the same, distance from 1", "%", 0),
    "entry_off": ReportMeasure("language model", "singing begins, distance from the true song", "s", 1),
    "entry_short": ReportMeasure("language model", "singing begins after [intro-short]", "s", 1),
    "entry_medium": ReportMeasure("language model", "singing begins after [intro-medium]", "s", 1),
    "entry_long": ReportMeasure("language model", "singing begins after [intro-long]", "s", 1),
    "entry_none": ReportMeasure("language model", "singing begins without an intro", "s", 1),
    "sung": ReportMeasure("language model", "songs that are sung, or not, as asked for", "%", 0),
    "register": ReportMeasure("language model", "songs in the register of the voice asked for", "%", 0),
}  # fmt: skip
"""In the order of the page. Shares are 0 ... 1 in the rows, their unit is how they are shown."""


@dataclass(frozen=True)
class Row:
    """A value of one song: `value` is the numerator of a rate whose denominator is `weight`."""

    song: str
    measure: str
    source: str
    value: float
    weight: float = 1.0


def rows_of(song: str, source: str, values: dict[str, float | None]) -> list[Row]:
    """Rows of the measures that could be taken."""
    return [Row(song, name, source, float(value)) for name, value in values.items() if value is not None]


def summarise(rows: Iterable[Row], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Means by measure and source, in the order of the page: value, low, high, songs."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        assert row.measure in MEASURES and row.source in SOURCES, row
        song = sums.setdefault((row.measure, row.source), {}).setdefault(row.song, [0.0, 0.0])
        song[0], song[1] = song[0] + row.value, song[1] + row.weight
    summary = []
    for measure, source in ((measure, source) for measure in MEASURES for source in SOURCES):
        songs = sums.get((measure, source))
        if songs:
            values: Sequence[list[float]] = list(songs.values())
            estimate = estimate_ratio([v[0] for v in values], [v[1] for v in values], bootstrap)
            found = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            rounded = {key: None if item is None else round(item, 5) for key, item in found.items()}
            summary.append({"measure": measure, "source": source, **rounded, "songs": estimate.songs})
    return summary
