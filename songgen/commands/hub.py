"""The Hugging Face hub as `songgen fetch` needs it: what a repository holds, and its files, whole, on disk.

A file is written beside its target under a hidden name that tells its content, so that the next run goes on
where this one was broken off, even by a kill; it takes its own name only when its hash is the hub's. (The
hub's own client resumes within one process only.)
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

READ_BYTES = 1 << 20

Say = Callable[[str], None]


class FetchError(Exception):
    """A download that cannot be made, with the one line that says why."""


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: its path there, bytes, and the SHA-256 of its content or its Git blob id."""

    name: str
    size: int
    sha256: str | None
    blob_id: str | None

    @property
    def digest(self) -> str:
        """What tells this content from another, for file names."""
        return (self.sha256 or self.blob_id or str(self.size))[:16]

    def is_whole(self, path: Path) -> bool:
        """Whether a file on disk has the size and the hash that the hub gives; reads it."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return _digest(path, hashlib.sha256()) == self.sha256
        if self.blob_id is not None:
            return _digest(path, hashlib.sha1(b"blob %d\0" % self.size)) == self.blob_id
        return True

    def part_of(self, target: Path) -> Path:
        """The hidden file that a download of this content is written to."""
        return target.with_name(f".{target.name}.{self.digest}.part")


@dataclass(frozen=True)
class Listing:
    """What a repository offers of some patterns.

    Args:
        repository: its name now, which may not be the one that was asked for.
        revision: the commit that the files are of.
        is_gated: its terms have to be accepted on its page.
    """

    repository: str
    revision: str
    is_gated: bool
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def missing_bytes(self, folder: Path) -> int:
        """Bytes still to come, by the sizes of the files and parts in a folder."""
        return sum(file.size - _bytes_there(file, folder / file.name) for file in self.files)


def list_files(repository: str, patterns: Sequence[str], needed: Sequence[str] = ()) -> Listing:
    """What a repository holds that matches some patterns.

    Args:
        needed: patterns that must each be matched.

    Raises:
        FetchError: no network, no such repository, or it does not hold what is needed.
    """
    import huggingface_hub

    with _one_line(repository):
        info = huggingface_hub.HfApi().model_info(repository, files_metadata=True)
    siblings = info.siblings or []
    for pattern in needed or [""]:
        if not any(fnmatch.fnmatch(item.rfilename, pattern or "*") for item in siblings):
            raise FetchError(
                f"{repository} holds no {pattern or 'files'}; is it still the model's repository?"
            )
    files = tuple(
        HubFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None, item.blob_id)
        for item in siblings
        if any(fnmatch.fnmatch(item.rfilename, pattern) for pattern in patterns)
    )
    for file in files:
        if PurePosixPath(file.name).is_absolute() or ".." in PurePosixPath(file.name).parts:
            raise FetchError(f"{repository}: a file is named {file.name!r}, which would leave the folder")
    return Listing(info.id, info.sha or "main", bool(info.gated), files)


def check_room(missing: int, folder: Path) -> None:
    """Refuse to start what cannot fit. Raises FetchError with both numbers."""
    there = next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())
    free = shutil.disk_usage(there).free
    if missing > free:
        raise FetchError(
            f"not enough room on the disk of {there}: {readable_size(missing)} to download, "
            f"{readable_size(free)} free; --dir FOLDER chooses another disk"
        )


def download(listing: Listing, folder: Path, say: Say) -> None:
    """Bring the files of a listing into a folder; those that are there whole are kept.

    Raises:
        FetchError: the network, the repository's terms, the disk, or a file that came damaged.
    """
    with _one_line(listing.repository, folder):
        for file in listing.files:
            path = folder / file.name
            if path.is_file() and path.stat().st_size == file.size:
                say(f"checking {path}")
            if not file.is_whole(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _download_file(listing, file, path, say)


def readable_size(size: int) -> str:
    """Bytes in a unit that people read: `412 bytes`, `14.9 MB`, `11.3 GB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _download_file(listing: Listing, file: HubFile, path: Path, say: Say) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # it logs each attempt of its own; what came of them is said below
    part = file.part_of(path)
    start = part.stat().st_size if part.is_file() else 0
    if start > file.size:
        part.unlink()
        start = 0
    going_on = f", going on after {readable_size(start)}" if start else ""
    say(f"downloading {path} ({readable_size(file.size)}{going_on})")
    with part.open("ab") as stream:
        http_get(
            hf_hub_url(listing.repository, file.name, revision=listing.revision),
            stream,
            resume_size=start,
            expected_size=file.size,
            headers=build_hf_headers(),
            displayed_filename=file.name,
        )
        stream.flush()
        os.fsync(stream.fileno())
    if not file.is_whole(part):
        part.unlink()
        raise FetchError(
            f"{listing.repository}: {file.name} came damaged and was removed; run the same line again"
        )
    os.replace(part, path)


@contextlib.contextmanager
def _one_line(repository: str, folder: Path | None = None) -> Iterator[None]:
    """Turn what the hub's client throws into a FetchError of one line."""
    from huggingface_hub import errors

    transport: type[Exception] = getattr(errors, "HTTPError", OSError)  # of whichever library the client uses
    try:
        yield
    except errors.GatedRepoError:
        raise FetchError(
            f"{repository} is gated: accept its terms on its page of the hub and log in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FetchError(f"{repository} is not on the hub (any more), or is private") from None
    except errors.EntryNotFoundError as error:
        raise FetchError(f"{repository} changed during the download: {_first_line(error)}") from None
    except errors.OfflineModeIsEnabled:
        raise FetchError("the hub is switched off by HF_HUB_OFFLINE=1") from None
    except errors.HfHubHTTPError as error:
        raise FetchError(f"{repository}: the hub answered: {_first_line(error)}") from None
    except (transport, RuntimeError, OSError) as error:
        raise FetchError(_explain(error, repository, folder)) from None
    except (ValueError, TypeError, KeyError) as error:
        raise FetchError(
            f"{repository}: what answered does not speak like the hub ({_first_line(error)}); "
            "is there a login page between, or is HF_ENDPOINT wrong?"
        ) from None


def _explain(error: Exception, repository: str, folder: Path | None) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"no room left on the disk of {(folder or Path()).absolute()}; what is there is kept"
    if number is not None and not isinstance(error, ConnectionError | TimeoutError):
        return f"{getattr(error, 'filename', None) or folder}: {os.strerror(number)}"
    if folder is None:
        return f"{repository}: the hub could not be reached; is there a network?"
    return (
        f"{repository}: the download broke off ({_first_line(error)}); the same line goes on where it stopped"
    )


def _bytes_there(file: HubFile, path: Path) -> int:
    if path.is_file() and path.stat().st_size == file.size:
        return file.size
    part = file.part_of(path)
    return min(part.stat().st_size, file.size) if part.is_file() else 0


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
