"""The summary as a table for people: measures down, folders across, published figures marked as such.

Plain text that is Markdown too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from songgen.evaluate.bootstrap import Estimate
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.phonemes import PER_RULE
from songgen.evaluate.summary import Group, Reference, Summary

MOST_COLUMNS = 4
"""Folders side by side; more go into a further table."""

MOST_REASONS = 2
UNIT_WORDS = {"s": "seconds", "dB": "dbfs", "bit": "bits"}
NONE = "-"


def render_table(summary: Summary) -> str:
    """The table with its notes, ended by a newline."""
    columns: list[Group | Reference] = [*summary.groups, *summary.references]
    names = [name for name in MEASURES if any(name in column.measures for column in columns)]
    lines: list[str] = []
    for start in range(0, len(columns), MOST_COLUMNS):
        lines += [*_block(columns[start : start + MOST_COLUMNS], names), ""]
    lines += _notes(summary)
    return "\n".join(lines).rstrip("\n") + "\n"


def _block(columns: Sequence[Group | Reference], names: Sequence[str]) -> list[str]:
    rows = [
        ["measure", *(_title(column) for column in columns)],
        ["songs", *(_count(column) for column in columns)],
        *([_label(name), *(_cell(column, name) for column in columns)] for name in names),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]


def _title(column: Group | Reference) -> str:
    if isinstance(column, Reference):
        return f"{column.model} (published)".replace("|", "/")
    return (column.folder if column.model == "-" else f"{column.folder} ({column.model})").replace("|", "/")


def _count(column: Group | Reference) -> str:
    if isinstance(column, Reference):
        return NONE
    return f"{column.songs}" + (f", {column.failed} failed" if column.failed else "")


def _label(name: str) -> str:
    """The name, with its unit where it does not end with it."""
    unit = MEASURES[name].unit
    said = UNIT_WORDS.get(unit, unit.lower())
    return f"{name} ({unit})" if unit and not name.endswith(f"_{said}") else name


def _cell(column: Group | Reference, name: str) -> str:
    found = column.measures.get(name)
    if found is None:
        return NONE
    digits = MEASURES[name].digits
    if not isinstance(found, Estimate):
        return f"{found:.{digits}f}"
    text = f"{found.value:.{digits}f}"
    return text if found.low is None else f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _notes(summary: Summary) -> Iterator[str]:
    bootstrap = summary.bootstrap
    yield (
        f"Mean over songs [{100 * bootstrap.confidence:g} % interval, {bootstrap.samples} bootstrap "
        f"resamples of the songs, seed {bootstrap.seed}]; a measure counts the songs that have it."
    )
    if any("per" in group.measures for group in summary.groups):
        asrs = sorted({asr for group in summary.groups for asr in group.asrs})
        yield f"{PER_RULE}. Heard by: {', '.join(asrs)}."
    if summary.references:
        for reference in summary.references:
            heard = f"; PER heard by {reference.asr}" if reference.asr else ""
            yield f"Published, not measured here: {reference.model}: {reference.source}{heard}."
    else:
        yield (
            "Published figures: none are shipped; reference=FILE.yaml adds rows, each with its source "
            "(configs/reference/published.yaml says in what form)."
        )
    for scorer, reason in summary.not_run.items():
        yield f"{scorer} did not run: {reason}"
    yield from _absent(summary)


def _absent(summary: Summary) -> Iterator[str]:
    """Measures that no song has, with the most frequent reasons; those of absent scorers are told above."""
    told = set(summary.not_run.values())
    found: dict[str, list[str]] = {}
    for name in MEASURES:
        if any(name in group.measures for group in summary.groups):
            continue
        reasons: Counter[str] = Counter()
        for group in summary.groups:
            reasons.update(group.missing.get(name, {}))
        if reasons and not told & reasons.keys():
            most = [f"{reason} ({count})" for reason, count in reasons.most_common(MOST_REASONS)]
            most += ["other reasons"] if len(reasons) > MOST_REASONS else []
            found.setdefault("; ".join(most), []).append(name)
    for why, names in found.items():
        yield f"Not measured: {', '.join(names)}: {why}"
