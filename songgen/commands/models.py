"""`songgen models`: lists the catalogue, and what of it is on this disk."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from songgen.models import catalog
from songgen.models.families import BUILT_IN, NANO, describe_built_in

HEAD = ("name", "short", "longest", "languages", "GPU memory", "licence", "on disk")


def main(argv: Sequence[str]) -> int:
    """Print the catalogue. Returns 0."""
    parser = argparse.ArgumentParser(prog="songgen models", description="List the models.")
    parser.add_argument("--runtime-dir", type=Path, help="also look for models beside these runtime files")
    args = parser.parse_args(argv)
    licences = list(dict.fromkeys(entry.licence for entry in catalog.entries()))
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [
        (name, "", "1 min 00 s", "en" if name == NANO else "", "", "-", describe_built_in(name))
        for name in BUILT_IN
    ]
    rows += [_row(entry, licences, args.runtime_dir) for entry in catalog.entries()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        "\nGPU memory: as published, without and with prompt audio. Languages: as announced by the publisher."
    )
    for number, licence in enumerate(licences, start=1):
        print(f"Licence ({number}): {licence}.")
    print("Download one with `songgen fetch NAME`. Not to be run:")
    for name, reason in catalog.not_supported().items():
        print(f"  {name}: {reason}")
    return 0


def _row(entry: catalog.CatalogEntry, licences: Sequence[str], runtime_dir: Path | None) -> tuple[str, ...]:
    minutes, seconds = divmod(int(entry.max_seconds), 60)
    return (
        entry.name,
        entry.aliases[0] if entry.aliases else "",
        f"{minutes} min {seconds:02} s",
        ", ".join(entry.languages),
        f"{entry.memory_gb:g} / {entry.prompt_memory_gb:g} GB" if entry.memory_gb else "-",
        f"({licences.index(entry.licence) + 1})",
        str(catalog.folder_of(entry, runtime_dir=runtime_dir) or "-"),
    )
