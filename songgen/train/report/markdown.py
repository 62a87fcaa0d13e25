"""The page's text from the report's numbers alone: what was reached, what was missed, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from songgen.train.report.measured import MEASURES, SOURCES, Aim
from songgen.train.report.prose import INTRO, LICENCE, METHODS, NO_FAILURES, REPRODUCE

Report = Mapping[str, Any]

PARTS = {
    "words": "Words",
    "language model": "Composition",
    "codec": "Codec",
}


def page_of(report: Report) -> str:
    """The Markdown of a report; its pictures lie where `report["pictures"]` says, relative to the page."""
    parts = [
        "# nano: a model that sings, trained from nothing",
        INTRO,
        "## Reached and missed",
        _aims(report),
        "## What it is made of",
        _model(report),
        *(_part(report, part) for part in PARTS),
        "## Heard by looking",
        _pictures(report),
        "## How it is measured",
        METHODS,
        "## What failed",
        _failures(report),
        "## Again",
        REPRODUCE,
        "## Licence",
        LICENCE,
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def verdicts(summary: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Aim, bool]]:
    """The rows that have an aim, the aim, and whether the mean reaches it."""
    found = []
    for row in summary:
        for source, aim in MEASURES[row["measure"]].aims:
            if source == row["source"]:
                found.append((row, aim, aim.is_reached(row["value"])))
    return found


def shown(measure: str, value: float) -> str:
    """A value with its unit, as the tables have it."""
    entry = MEASURES[measure]
    number = f"{value * 100 if entry.unit == '%' else value:.{entry.digits}f}"
    return f"{number} {entry.unit}".rstrip()


def with_interval(row: Mapping[str, Any]) -> str:
    """A value with its interval, and from how many songs."""
    text = shown(row["measure"], row["value"])
    if row["low"] is not None:
        entry = MEASURES[row["measure"]]
        low, high = (
            f"{value * 100 if entry.unit == '%' else value:.{entry.digits}f}"
            for value in (row["low"], row["high"])
        )
        text += f" ({low} to {high})"
    return text


def _aims(report: Report) -> str:
    lines = ["| measure | of | aim | reached | n | |", "|---|---|---|---|---|---|"]
    for row, aim, is_reached in verdicts(report["summary"]):
        sign = "at most" if aim.is_most else "at least"
        lines.append(
            f"| {MEASURES[row['measure']].doc} | {SOURCES[row['source']]} | {sign} "
            f"{shown(row['measure'], aim.limit)} | {with_interval(row)} | {row['songs']} | "
            f"{'reached' if is_reached else '**missed**'} |"
        )
    asked, measured = report["settings"], report["measured"]
    lines += [
        *_unmeasured(report),
        "",
        f"Measured on {measured['songs']} held-out songs of at most {measured['longest_seconds']:.0f} s, "
        f"{asked['takes']} take(s) of each; {min(asked['num_resynthesised'], measured['songs'])} of them "
        "went through the codec.",
    ]
    return "\n".join(lines)


def _unmeasured(report: Report) -> list[str]:
    """Rows of the aims that nothing was measured for."""
    there = {(row["measure"], row["source"]) for row in report["summary"]}
    lines = []
    for measure, entry in MEASURES.items():
        for source, aim in entry.aims:
            if (measure, source) not in there:
                limit = f"{'at most' if aim.is_most else 'at least'} {shown(measure, aim.limit)}"
                lines.append(f"| {entry.doc} | {SOURCES[source]} | {limit} | | 0 | **not measured** |")
    return lines


def _model(report: Report) -> str:
    lines = []
    model, data = report.get("model"), report["data"]
    if model:
        lines += ["| file | MB | numbers |", "|---|---|---|"]
        for entry in model["files"]:
            numbers = f"{entry['numbers'] / 1e6:.2f} M" if "numbers" in entry else ""
            lines.append(f"| `{entry['file']}` | {entry['bytes'] / 1e6:.2f} | {numbers} |")
        lines.append(f"| together | {model['bytes'] / 1e6:.2f} | |")
    train, held = data["train"], data["held_out"]
    lines += [
        "",
        f"It learned from {train['songs']} songs ({train['hours']:.1f} hours); {held['songs']} songs "
        f"({held['hours']:.2f} hours) were held out.",
        "",
        "| stage | steps | minutes | last loss | held out |",
        "|---|---|---|---|---|",
    ]
    for stage in report["training"]:
        loss = "" if stage["loss"] is None else f"{stage['loss']:.3g}"
        held_out = ", ".join(f"{name} {value:.3g}" for name, value in stage["held_out"].items())
        lines.append(
            f"| {stage['stage']} | {stage['steps']} | {stage['seconds'] / 60:.0f} | {loss} | {held_out} |"
        )
    if pace := report.get("pace"):
        lines += [
            "",
            f"Generating {pace['songs']} songs with all stems ({pace['song_seconds']:.0f} s) took "
            f"{pace['wall_seconds']:.0f} s with {pace['threads']} thread(s), {pace['batch']} songs at once: "
            f"{pace['wall_seconds'] / max(pace['song_seconds'], 1e-9):.2f} s a second of song.",
        ]
    return "\n".join(lines)


def _part(report: Report, part: str) -> str:
    """A table: measures by sources."""
    rows = [row for row in report["summary"] if MEASURES[row["measure"]].part == part]
    if not rows:
        return f"## {PARTS[part]}\n\nNot measured."
    sources = [source for source in SOURCES if any(row["source"] == source for row in rows)]
    heads = " | ".join(SOURCES[source] for source in sources)
    lines = [f"## {PARTS[part]}", "", f"| | {heads} |", "|---|" + "---|" * len(sources)]
    for measure in dict.fromkeys(row["measure"] for row in rows):
        by_source = {row["source"]: row for row in rows if row["measure"] == measure}
        cells = [
            f"{with_interval(by_source[source])}, n {by_source[source]['songs']}"
            if source in by_source
            else ""
            for source in sources
        ]
        lines.append(f"| {MEASURES[measure].doc} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _pictures(report: Report) -> str:
    pictures = report.get("pictures", {})
    if not pictures:
        return "No pictures were drawn."
    return "\n\n".join(f"{text}\n\n![{text}]({path})" for path, text in pictures.items())


def _failures(report: Report) -> str:
    lines = [
        f"* {MEASURES[row['measure']].doc}, {SOURCES[row['source']]}: {with_interval(row)}; the aim was "
        f"{'at most' if aim.is_most else 'at least'} {shown(row['measure'], aim.limit)}."
        for row, aim, is_reached in verdicts(report["summary"])
        if not is_reached
    ]
    lines += [f"* {text}" for text in report["failures"]]
    return "\n".join(lines) if lines else NO_FAILURES
