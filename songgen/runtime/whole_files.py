"""Whether a file is whole, told from its head, tail and size: gigabytes of weights are not read."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

LFS_POINTER_START = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_MAX_BYTES = 1024

ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
"""How a file of PyTorch begins: a zip since 1.6, a bare pickle before."""

PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
HEADER_MAX_BYTES = 100_000_000
"""The longest header that the safetensors format allows."""


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the few lines that Git leaves where git-lfs was not installed."""
    if not path.is_file() or path.stat().st_size > LFS_POINTER_MAX_BYTES:
        return False
    with path.open("rb") as stream:
        return stream.read(len(LFS_POINTER_START)) == LFS_POINTER_START


def fault_of(path: Path) -> str | None:
    """What is wrong with a file, in words that follow its name; None if it looks whole.

    Bare pickles of old PyTorch releases say nothing of their length and pass if they begin as they should.
    """
    if not path.is_file():
        return "no such file"
    if is_lfs_pointer(path):
        return "a Git-LFS pointer, not the file: `git lfs pull` in its clone, or `songgen fetch`, gets it"
    size = path.stat().st_size
    if not size:
        return "an empty file"
    if path.suffix == ".safetensors":
        return _safetensors_fault(path, size)
    if path.suffix in PICKLE_SUFFIXES:
        return _pickle_fault(path)
    return _json_fault(path) if path.suffix == ".json" else None


def _safetensors_fault(path: Path, size: int) -> str | None:
    """The header lists where each tensor lies: the last one must end where the file does."""
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= HEADER_MAX_BYTES:
            return "no safetensors file: it does not begin like one"
        header = stream.read(length)
    if len(header) < length:
        return f"cut off: it ends after {size} bytes, within its header"
    try:
        tensors = json.loads(header)
        ends = [int(item["data_offsets"][1]) for name, item in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError):
        return "damaged: its header cannot be read"
    wanted = 8 + length + max(ends, default=0)
    if size < wanted:
        return f"cut off: {size} of {wanted} bytes"
    return None if size == wanted else f"damaged: {size - wanted} bytes too long"


def _pickle_fault(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(len(ZIP_START))
    if start.startswith(PICKLE_START):
        return None
    if start != ZIP_START:
        return "no PyTorch file: it does not begin like one"
    try:
        with zipfile.ZipFile(path) as archive:  # reads the directory, which is at the end
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "cut off: its directory, at the end of the file, is missing"
    return (
        None if any(name.endswith("data.pkl") for name in names) else "no PyTorch file: it holds no data.pkl"
    )


def _json_fault(path: Path) -> str | None:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        return f"damaged: not JSON ({error})"
    return None
