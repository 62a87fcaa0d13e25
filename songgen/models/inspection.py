"""What can be said of a checkpoint without loading it: its files, what is wrong with them, and its memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from songgen.runtime.memory import MemoryPlan


@dataclass(frozen=True)
class FoundFile:
    """A file, or a folder of files, that a checkpoint names.

    Args:
        name: as the checkpoint names it.
        path: where it is, None if it is nowhere.
        size: bytes on disk.
        fault: what is wrong with it, in words that follow its name; None if it looks whole.
        only_for: what cannot be done without it; empty if nothing can.
    """

    name: str
    path: Path | None
    size: int = 0
    fault: str | None = None
    only_for: str = ""


@dataclass(frozen=True)
class Inspection:
    """A checkpoint that was looked at.

    Args:
        folder: the checkpoint's.
        files: its own and the shared ones, in the order in which they are used.
        plan: how it would use memory, None if it cannot run.
        problems: why it cannot run, besides files without which nothing can be done.
    """

    folder: Path
    files: tuple[FoundFile, ...] = ()
    plan: MemoryPlan | None = None
    problems: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that keeps it from running, each in a line."""
        broken = [
            f"{file.path or file.name}: {file.fault}"
            for file in self.files
            if file.fault and not file.only_for
        ]
        return (*broken, *self.problems)

    @property
    def lacks_files(self) -> bool:
        """Whether a file without which nothing can be done is missing or not whole."""
        return any(file.fault and not file.only_for for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of its files on disk."""
        return sum(file.size for file in self.files)
