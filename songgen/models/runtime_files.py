"""The files that all checkpoints of a family share: where they are looked for, and what is said if one is
missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from songgen.runtime.whole_files import is_lfs_pointer


def places_of(checkpoint: Path, shared: str, runtime_dir: Path | None = None) -> tuple[Path, ...]:
    """The folders in which shared files are looked for, first to last, each once.

    Args:
        checkpoint: the checkpoint's folder.
        shared: name of the folder that the family's shared files are fetched to.
        runtime_dir: the folder that the user names, searched first.
    """
    folder = Path(checkpoint).absolute()
    here = Path.cwd()
    wanted = [folder, folder.parent, folder.parent / shared, folder.parent.parent, here, here / shared]
    if runtime_dir is not None:
        wanted.insert(0, Path(runtime_dir).absolute())
    return tuple(dict.fromkeys(wanted))


def find_shared(
    relative: str, places: Sequence[Path], *, fetch: str, runtime_dir: Path | None = None
) -> Path:
    """Find a file or folder below one of some places; an absolute path is taken as it is.

    Args:
        fetch: the command that gets it.
        runtime_dir: the folder that the user names, which must exist.

    Raises:
        FileNotFoundError: it is nowhere; lists where it was looked for and the command that fetches it.
        ValueError: what was found is only a Git-LFS pointer.
    """
    if runtime_dir is not None and not Path(runtime_dir).is_dir():
        raise FileNotFoundError(f"runtime_dir={runtime_dir}: no such folder")
    for place in places:
        path = place / relative
        if path.exists():
            require_content(path)
            return path
    looked = "".join(f"\n  {place}" for place in places)
    raise FileNotFoundError(
        f"{relative} was not found; it was looked for in{looked}\n"
        f"Get the runtime files with `{fetch}`, or name their folder with runtime_dir=FOLDER"
    )


def require_content(path: Path) -> None:
    """Refuse a Git-LFS pointer, or a folder that holds one, with the way out. Raises ValueError."""
    for item in sorted(path.iterdir()) if path.is_dir() else [path]:
        if is_lfs_pointer(item):
            raise ValueError(
                f"{item} is a Git-LFS pointer, not the file: the repository was cloned without git-lfs. "
                "Run `git lfs pull` in that clone, or download it with `songgen fetch`"
            )
