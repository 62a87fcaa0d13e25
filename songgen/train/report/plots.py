"""The pictures of the page: losses of the stages, songs as spectrograms with their words, pitch over a scale.

Each is a PNG of few colours, well below 150 kB. matplotlib draws, and is imported only then.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from songgen.audio import Audio
from songgen.engine.picture import RANGE_DB, mel_picture
from songgen.files import write_together
from songgen.train.curves import LINES, read_losses
from songgen.train.report.pitch import FRAME_RATE, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES, DPI, COLOURS = 9.0, 80, 48
COLUMNS, MOST_WORDS = 640, 60
CURVES_PER_ROW = 3
SMOOTHED = 9
"""Notes of a loss that its curve is the running mean of."""


@dataclass(frozen=True)
class Shown:
    """A song to be drawn: title, stems in their order, words with their seconds (none: not known)."""

    title: str
    stems: Mapping[str, Audio]
    words: Sequence[tuple[float, str]] = ()


def draw_songs(songs: Sequence[Shown], path: Path) -> None:
    """Spectrograms below each other over one time axis, the words above each song's first stem."""
    strips = [(song, stem) for song in songs for stem in song.stems]
    figure = _figure(1.55 * len(strips) + 0.3)
    grid = figure.subplots(len(strips), 1, sharex=True, squeeze=False)[:, 0]
    seconds = max(audio.seconds for song in songs for audio in song.stems.values())
    for axis, (song, stem) in zip(grid, strips, strict=True):
        audio = song.stems[stem]
        picture = mel_picture(audio, COLUMNS)
        axis.imshow(
            picture, origin="lower", aspect="auto", extent=(0, audio.seconds, 0, len(picture)), cmap="magma",
            vmin=picture.max() - RANGE_DB, vmax=picture.max(), interpolation="nearest",
        )  # fmt: skip
        axis.set_yticks([])
        axis.set_ylabel(stem, fontsize=8)
        axis.tick_params(labelsize=7)
        if stem == next(iter(song.stems)):
            axis.set_title(song.title, fontsize=8, loc="left", pad=14 if song.words else 4)
            _draw_words(axis, song.words, seconds)
    grid[-1].set_xlim(0, seconds)
    grid[-1].set_xlabel("seconds", fontsize=7)
    _save(figure, path)


def draw_pitch(tracks: Sequence[tuple[str, npt.NDArray[np.float64], Scale]], path: Path) -> None:
    """Pitch tracks (MIDI, 0 unvoiced) as dots, each over the lines of its scale."""
    figure = _figure(2.1 * len(tracks) + 0.3)
    for axis, (title, pitch_T, scale) in zip(
        figure.subplots(len(tracks), 1, squeeze=False)[:, 0], tracks, strict=True
    ):
        voiced = np.flatnonzero(pitch_T > 0)
        if len(voiced):
            low, high = int(pitch_T[voiced].min()) - 1, int(pitch_T[voiced].max()) + 2
            for note in range(low, high + 1):
                if note % 12 in scale.pitch_classes:
                    axis.axhline(
                        note, color="#c9dcf0" if note % 12 != scale.tonic else "#7fa8d0", linewidth=1
                    )
            axis.set_ylim(low, high)
        axis.plot(voiced / FRAME_RATE, pitch_T[voiced], ".", markersize=2.5, color="#b5472f")
        axis.set_title(title, fontsize=8, loc="left")
        axis.set_ylabel("MIDI note", fontsize=7)
        axis.tick_params(labelsize=7)
    axis.set_xlabel("seconds", fontsize=7)
    _save(figure, path)


def draw_curves(work: Path, path: Path) -> bool:
    """The loss of each stage in a work folder over its steps, held-out values as dots; False if none."""
    logs = {file.parent.name: read_losses(file) for file in sorted(work.glob(f"*/{LINES}"))}
    logs = {stage: lines for stage, lines in logs.items() if any("loss" in line for line in lines)}
    if not logs:
        return False
    num_rows = -(-len(logs) // CURVES_PER_ROW)
    figure = _figure(2.0 * num_rows)
    for number, (stage, lines) in enumerate(logs.items()):
        axis = figure.add_subplot(num_rows, CURVES_PER_ROW, number + 1)
        points = np.array([(line["step"], line["loss"]) for line in lines if "loss" in line])
        size = min(SMOOTHED, len(points))
        smooth = np.convolve(points[:, 1], np.ones(size) / size, mode="valid")
        axis.plot(points[size - 1 :, 0], smooth, linewidth=0.9, color="#2f5d8a")
        held = [(line["step"], line["held_out/loss"]) for line in lines if "held_out/loss" in line]
        if held:
            axis.plot(*zip(*held, strict=True), "o", markersize=3, color="#b5472f")
        minutes = max(line["seconds"] for line in lines) / 60
        axis.set_title(f"{stage}, {minutes:.0f} min", fontsize=8)
        axis.tick_params(labelsize=6)
    _save(figure, path)
    return True


def draw_rates(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], path: Path) -> None:
    """Shares by source as bars with their intervals; rows as in the summary."""
    figure = _figure(0.45 * len(rows) + 0.7)
    axis = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        axis.barh(place, 100 * row["value"], color="#2f5d8a", height=0.6)
        if row["low"] is not None:
            axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color="#b5472f", linewidth=2)
    axis.set_yticks(range(len(rows)), [names[row["source"]] for row in reversed(rows)], fontsize=8)
    axis.set_xlabel("%", fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    _save(figure, path)


def _draw_words(axis: Axes, words: Sequence[tuple[float, str]], seconds: float) -> None:
    """Words above an axis, each where it begins, or behind the one before if there is no room."""
    free = 0.0
    for begins, word in list(words)[:MOST_WORDS]:
        place = max(begins, free)
        if place > seconds:
            return
        axis.annotate(
            word, (place, 1.02), xycoords=("data", "axes fraction"), fontsize=6, va="bottom",
            annotation_clip=False,
        )  # fmt: skip
        free = place + (len(word) + 1) * seconds / 175


def _figure(height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette; equal figures give equal bytes."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    packed = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS).save(packed, format="PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_together({path: packed.getvalue()})
