"""The record of a training run: losses.jsonl, one line a note, and a picture of it."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path

from songgen.files import write_together

LINES = "losses.jsonl"
PICTURE = "losses.png"
MOST_PANELS = 12


class LossLog:
    """The log in a folder; lines are appended, and those behind a resumed step are dropped."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LINES
        self.picture = folder / PICTURE

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One line: the step, training seconds so far, and values by name."""
        line = {"step": step, "seconds": round(seconds, 1)}
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | rounded) + "\n")

    def cut(self, step: int) -> None:
        """Drop the lines behind a step."""
        kept = [line for line in read_losses(self.path) if line["step"] <= step]
        write_together({self.path: "".join(json.dumps(line) + "\n" for line in kept).encode()})

    def draw(self) -> None:
        """Draw losses.png, if matplotlib is installed."""
        lines = read_losses(self.path)
        if lines and importlib.util.find_spec("matplotlib") is not None:
            draw_losses(lines, self.picture)


def read_losses(path: Path) -> list[dict[str, float]]:
    """The lines of a log; a last one that was cut off is left out, and no file is no lines."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def draw_losses(lines: list[dict[str, float]], path: Path) -> None:
    """One panel a value over the steps, held-out values as dots in the panel of the same name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names: list[str] = []
    for line in lines:
        for key in line:
            name = key.removeprefix("held_out/")
            if name not in (*names, "step", "seconds", "learning_rate"):
                names.append(name)
    names = names[:MOST_PANELS]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), dpi=70)
    FigureCanvasAgg(figure)
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        for key, style in ((name, "-"), (f"held_out/{name}", "o")):
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axes.plot(*zip(*points, strict=True), style, markersize=3, linewidth=0.8)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_together({path: buffer.getvalue()})
