"""A row of scores: what was measured of one song, and why the rest was not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from songgen.evaluate.measures import MEASURES


@dataclass
class Row:
    """The scores of a song, filled measure by measure.

    Args:
        name, model: the song's name, and its model's (`-` if unknown).
        error: why it could not be scored at all, or None.
        stem: which stem was measured.
        measures: name to value, of `MEASURES`.
        missing: name to the reason of a measure that the song does not have.
        details: JSON-ready facts behind the measures.
    """

    name: str
    model: str
    error: str | None = None
    stem: str | None = None
    measures: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def measure(self, names: Sequence[str], function: Callable[[], Mapping[str, float]]) -> None:
        """Fill measures from a function, or note its reason for having none; other measures go on."""
        try:
            found = function()
        except (ValueError, OSError) as error:
            self.missing.update(dict.fromkeys(names, str(error)))
            return
        for name in names:
            value = float(found[name])
            if math.isfinite(value):
                self.measures[name] = value
            else:
                self.missing[name] = f"came out as {value}"

    def as_dict(self) -> dict[str, Any]:
        """The line of `scores.jsonl`: all measures in order, null where there is none, with the reasons."""
        line: dict[str, Any] = {
            "name": self.name,
            "model": self.model,
            "status": "ok" if self.error is None else "failed",
        }
        if self.error is not None:
            return {**line, "error": self.error}
        return {
            **line,
            "stem": self.stem,
            "measures": {name: self.measures.get(name) for name in MEASURES},
            "missing": {name: self.missing[name] for name in MEASURES if name in self.missing},
            "details": self.details,
        }
