"""`songgen fetch NAME`: downloads a published model and the files that all models of its family share.

    songgen fetch base [--yes] [--dir models]
    songgen fetch runtime

A model goes to DIR/<its published name>, the shared files to DIR/<their name>, where songgen looks for them
by itself. A download that was broken off goes on where it stopped; what is there already is checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from songgen.commands.hub import FetchError, Listing, check_room, download, list_files, readable_size
from songgen.commands.songs import run_line
from songgen.models import catalog
from songgen.models.families import describe_built_in
from songgen.models.levo.locate import find_checkpoint


@dataclass(frozen=True)
class Wanted:
    """One repository to bring to disk: its entry, what it holds, and the folder that it goes to."""

    entry: catalog.CatalogEntry
    listing: Listing
    folder: Path

    @property
    def missing(self) -> int:
        """Bytes to download."""
        return self.listing.missing_bytes(self.folder)


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if everything is on disk, 1 if not, 2 for a name that cannot be fetched."""
    args = _parser().parse_args(argv)
    try:
        entries = wanted_entries(args.name)
    except ValueError as error:
        print(f"songgen fetch: {error}", file=sys.stderr)
        return 2
    try:
        return _fetch(entries, args.dir, is_agreed=args.yes)
    except FetchError as error:
        print(f"songgen fetch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsonggen fetch: stopped; the same line goes on where it stopped", file=sys.stderr)
        return 130


def wanted_entries(name: str) -> tuple[catalog.CatalogEntry, ...]:
    """What a name stands for: a model and the shared files of its family, or those files alone.

    Raises:
        ValueError: there is nothing to fetch under this name; says why, or which name is near.
    """
    runtimes = catalog.runtime_entries()
    for entry in runtimes.values():
        if name.lower() == entry.name:
            return (entry,)
    if name.lower() in catalog.BUILT_IN:
        raise ValueError(f"{name.lower()} is {describe_built_in(name.lower())}; there is nothing to download")
    found = catalog.find_entry(name)
    if found is None:
        raise ValueError(catalog.explain_unknown(name))
    return (found, runtimes[found.runtime]) if found.runtime else (found,)


def _fetch(entries: Sequence[catalog.CatalogEntry], folder: Path, *, is_agreed: bool) -> int:
    """Show, ask, download, check. Raises FetchError."""
    wanted = [
        Wanted(entry, list_files(entry.repository, entry.files, entry.needed), folder / entry.name)
        for entry in entries
    ]
    for item in wanted:
        _show(item)
    missing = sum(item.missing for item in wanted)
    check_room(missing, folder)
    if missing and not is_agreed and not _agreed(missing):
        print("songgen fetch: nothing was downloaded (answer y, or give --yes)", file=sys.stderr)
        return 1
    for item in wanted:
        download(item.listing, item.folder, lambda line: print(f"  {line}", flush=True))
        _check(item)
    _finish(wanted[0])
    return 0


def _show(item: Wanted) -> None:
    listing, entry = item.listing, item.entry
    print(f"{entry.repository} on the Hugging Face hub -> {item.folder}")
    if listing.repository != entry.repository:
        print(f"  it has moved there: it is called {listing.repository} now")
    there = f"{readable_size(item.missing)} to download" if item.missing else "all there already"
    print(f"  size: {readable_size(listing.size)} in {len(listing.files)} files; {there}")
    print(f"  licence: {entry.licence}")
    if listing.is_gated:
        print("  it is gated: its terms must have been accepted on its page of the hub")


def _check(item: Wanted) -> None:
    """Look whether what came is what songgen loads: every file had the hub's hash, but is it all?"""
    entry = item.entry
    if not catalog.holds_files(entry, item.folder):
        try:
            find_checkpoint(item.folder)
        except (FileNotFoundError, ValueError) as error:
            raise FetchError(f"{entry.repository} did not bring what a checkpoint needs: {error}") from None


def _finish(item: Wanted) -> None:
    entry = item.entry
    if entry.runtime:
        print(f"Ready: {run_line(item.folder)}")
    else:
        print(f"{item.folder} is complete")


def _agreed(missing: int) -> bool:
    try:
        return input(f"Download {readable_size(missing)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _parser() -> argparse.ArgumentParser:
    shared = " or ".join(f"`{entry.name}`" for entry in catalog.runtime_entries().values())
    parser = argparse.ArgumentParser(
        prog="songgen fetch",
        description="Download a published model, with the files that all models of its family share. Shows "
        "size and licence first, and asks. Run again, it goes on where it was broken off, and checks what is "
        "there.",
        epilog="exit status: 0 all is there, 1 it could not be downloaded, 2 there is nothing of that name; "
        "HF_ENDPOINT, HF_TOKEN and the proxy variables are the hub's usual ones",
    )
    parser.add_argument("name", help=f"a name of `songgen models`, or {shared} for shared files alone")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dir", type=Path, default=Path("models"), metavar="DIR", help="default: models")
    return parser
