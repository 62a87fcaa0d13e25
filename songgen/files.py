"""Files that appear whole or not at all.

Bytes are written beside their target, forced to disk and renamed. A killed run leaves at most hidden part
files. They name the machine and process that wrote them, so the next run can tell a leftover from a live one.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

PART_PREFIX = ".songgen-"
PART_SUFFIX = ".part"
STALE_SECONDS = 3600.0


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files so that none appears before all are safely on disk.

    Raises:
        OSError: a file could not be written (disk full, no permission); then no part file is left.
    """
    parts = {path: _part_of(path) for path in files}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(parts[path], "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the part files that killed runs left in a folder; those of running processes stay.

    A part file of another machine is taken for a leftover once it is an hour old.
    """
    removed = []
    for part in sorted(folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}")):
        if _is_leftover(part):
            part.unlink(missing_ok=True)
            removed.append(part)
    return removed


def _part_of(path: Path) -> Path:
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return path.with_name(f"{PART_PREFIX}{digest}.{_host()}.{os.getpid()}{PART_SUFFIX}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64] or "host"


def _is_leftover(part: Path) -> bool:
    match = re.fullmatch(
        r"[0-9a-f]+\.([A-Za-z0-9-]+)\.(\d+)", part.name[len(PART_PREFIX) : -len(PART_SUFFIX)]
    )
    if match is None:
        return False
    if match[1] == _host():
        # Our own number at the start of a run is a killed process's: containers give the same one again.
        return int(match[2]) == os.getpid() or not _is_running(int(match[2]))
    try:
        return time.time() - part.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Force the renames themselves to disk, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: is not a file")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
