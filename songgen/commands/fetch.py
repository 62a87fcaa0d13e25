"""`songgen fetch NAME`: downloads a published model and the files that all models share from the hub.

    songgen fetch base [--yes] [--dir models]
    songgen fetch runtime

A model goes to DIR/<its published name>, the shared files to DIR/runtime, where songgen looks for them by
itself. A download that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from songgen.models import catalog
from songgen.models.levo.locate import find_checkpoint

RUNTIME_FOLDERS = ("ckpt", "third_party")
"""What the shared files must bring."""


class FetchError(Exception):
    """A download that cannot be made, with the one line that says why."""


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if everything is on disk, 1 if not, 2 for a name that cannot be fetched."""
    parser = argparse.ArgumentParser(prog="songgen fetch", description="Download a published model.")
    parser.add_argument(
        "name", help=f"a name of `songgen models`, or `{catalog.RUNTIME}` for the shared files alone"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dir", type=Path, default=Path("models"), metavar="DIR", help="default: models")
    args = parser.parse_args(argv)
    try:
        wanted = _wanted(args.name)
    except ValueError as error:
        print(f"songgen fetch: {error}", file=sys.stderr)
        return 2
    for entry in wanted:
        print(f"{entry.repository} on the Hugging Face hub -> {args.dir / entry.name}")
        print(f"  licence: {entry.licence}")
    if not args.yes and not _agreed():
        print("songgen fetch: nothing was downloaded (answer y, or give --yes)", file=sys.stderr)
        return 1
    try:
        for entry in wanted:
            fetch(entry, args.dir / entry.name)
    except FetchError as error:
        print(f"songgen fetch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsonggen fetch: stopped; the same line goes on where it stopped", file=sys.stderr)
        return 130
    if wanted[0].name != catalog.RUNTIME:
        print(f"Ready: sh generate.sh {args.dir / wanted[0].name} sample/lyrics.jsonl output")
    return 0


def fetch(entry: catalog.CatalogEntry, target: Path) -> None:
    """Download one repository of the catalogue into a folder, and look whether it is whole.

    Raises:
        FetchError: no network, no such repository, no leave to read it, no room; one line.
    """
    download(entry.repository, target, entry.files)
    if entry.name == catalog.RUNTIME:
        missing = [name for name in RUNTIME_FOLDERS if not (target / name).is_dir()]
        if missing:
            raise FetchError(f"{entry.repository} did not bring {' and '.join(missing)}")
        return
    try:
        find_checkpoint(target)
    except (FileNotFoundError, ValueError) as error:
        raise FetchError(f"{entry.repository} did not bring what a checkpoint needs: {error}") from None


def download(repository: str, target: Path, patterns: Sequence[str]) -> None:
    """Download the files of a hub repository that match the patterns. Raises FetchError."""
    import huggingface_hub
    from huggingface_hub import errors

    http_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        target.mkdir(parents=True, exist_ok=True)
        huggingface_hub.snapshot_download(repository, local_dir=target, allow_patterns=list(patterns))
    except errors.GatedRepoError:
        raise FetchError(
            f"{repository} is gated: accept its terms on its page of the hub and log in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FetchError(f"{repository} is not on the hub (any more), or is private") from None
    except errors.OfflineModeIsEnabled:
        raise FetchError("the hub is switched off by HF_HUB_OFFLINE=1") from None
    except errors.HfHubHTTPError as error:
        raise FetchError(f"{repository}: the hub answered: {_first_line(error)}") from None
    except (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError):
        raise FetchError(f"{repository}: the hub could not be reached; is there a network?") from None
    except OSError as error:
        raise FetchError(_disk_message(error, target)) from None
    except (http_error, RuntimeError) as error:
        raise FetchError(f"{repository}: the download broke off: {_first_line(error)}") from None


def _wanted(name: str) -> tuple[catalog.CatalogEntry, ...]:
    if name.lower() == catalog.RUNTIME:
        return (catalog.runtime_entry(),)
    if name.lower() in catalog.BUILT_IN:
        raise ValueError(f"{name.lower()} is built in; there is nothing to download")
    entry = catalog.find_entry(name)
    if entry is None:
        raise ValueError(catalog.explain_unknown(name))
    return (entry, catalog.runtime_entry())


def _agreed() -> bool:
    try:
        return input("Download? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _disk_message(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room left on the disk of {target.absolute()}; what is there is kept"
    return f"{target}: {error.strerror or _first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
