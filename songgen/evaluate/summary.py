"""From rows to the summary of a folder: a group a model, each measure with its interval or the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from songgen.evaluate.bootstrap import Bootstrap, Estimate, estimate_mean, estimate_ratio
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.phonemes import PER_RULE
from songgen.evaluate.rows import Row

VERSION = 1


@dataclass(frozen=True)
class Group:
    """The songs of one model in one folder.

    Args:
        folder, model: whose they are.
        songs, failed: how many there are, and how many of them could not be scored.
        measures: name to estimate, of those that any song has.
        missing: name to reason to how many songs have it.
        asrs: who made the transcripts.
    """

    folder: str
    model: str
    songs: int
    failed: int
    measures: Mapping[str, Estimate]
    missing: Mapping[str, Mapping[str, int]]
    asrs: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with all measures in order, null where no song has one."""
        return {
            "folder": self.folder,
            "model": self.model,
            "songs": self.songs,
            "failed": self.failed,
            "measures": {
                name: asdict(self.measures[name]) if name in self.measures else None for name in MEASURES
            },
            "missing": self.missing,
            "asr": list(self.asrs),
        }


@dataclass(frozen=True)
class Reference:
    """Published figures of a model: nothing that was measured here.

    Args:
        source: the publication and its table. asr: what the published PER was heard with, if it says.
    """

    model: str
    source: str
    measures: Mapping[str, float]
    asr: str | None = None


@dataclass(frozen=True)
class Summary:
    """What a report says.

    Args:
        groups: models and folders, in the order in which they were given.
        bootstrap: how the intervals were drawn.
        not_run: scorer to the reason why it did not run.
        references: published figures.
    """

    groups: Sequence[Group]
    bootstrap: Bootstrap
    not_run: Mapping[str, str] = field(default_factory=dict)
    references: Sequence[Reference] = ()

    def as_dict(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "version": VERSION,
            "groups": [group.as_dict() for group in self.groups],
            "published": [asdict(reference) for reference in self.references],
            "bootstrap": asdict(self.bootstrap),
            "per_rule": PER_RULE,
            "scorers_not_run": dict(self.not_run),
        }


def group_rows(folder: Path, rows: Sequence[Row], bootstrap: Bootstrap) -> list[Group]:
    """The rows of a folder by model, in order of their first song."""
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    return [_group(str(folder), model, some, bootstrap) for model, some in by_model.items()]


def _group(folder: str, model: str, rows: Sequence[Row], bootstrap: Bootstrap) -> Group:
    able = [row for row in rows if row.error is None]
    estimates, missing = {}, {}
    for name in MEASURES:
        having = [row for row in able if name in row.measures]
        if having:
            estimates[name] = _estimate(name, having, bootstrap)
        reasons = Counter(row.missing[name] for row in able if name in row.missing)
        if reasons:
            missing[name] = dict(sorted(reasons.items()))
    asrs = sorted({row.details["per"]["asr"] for row in able if "per" in row.measures})
    return Group(folder, model, len(rows), len(rows) - len(able), estimates, missing, asrs)


def _estimate(name: str, rows: Sequence[Row], bootstrap: Bootstrap) -> Estimate:
    """A group's value: a mean over songs, of error rates the ratio of the sums."""
    if name == "per":
        counts = [row.details["per"] for row in rows]
        return estimate_ratio(
            [item["errors"] for item in counts], [item["phonemes"] for item in counts], bootstrap
        )
    return estimate_mean([row.measures[name] for row in rows], bootstrap)
