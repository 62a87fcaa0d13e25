"""The parts of a model, loaded when first used, and a digest of the files that they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Part = TypeVar("Part")


class Loaded(Generic[Part]):
    """A part that is loaded when first used and can be dropped again."""

    def __init__(self, make: Callable[[], Part]) -> None:
        self._make = make
        self._part: Part | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether it takes memory now."""
        return self._part is not None

    def get(self) -> Part:
        """The part, loaded if it is not."""
        if self._part is None:
            self._part = self._make()
        return self._part

    def drop(self) -> None:
        """Free it; the next use loads it again."""
        self._part = None


def digest_of(paths: Sequence[Path]) -> str:
    """A digest of files by size, head and tail: quick for many gigabytes, and it tells builds apart."""
    digest, piece = hashlib.sha256(), 1 << 16
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(piece))
            file.seek(max(0, size - piece))
            digest.update(file.read(piece))
    return digest.hexdigest()
