"""Names of songs as file names: what an idx may be, and which names two requests may not share."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

MAX_IDX_BYTES = 200  # leaves room for `_s999_vocal.safetensors` in the 255 bytes of a file name


def check_idx(idx: str) -> list[str]:
    """Sentences on why an idx cannot name files inside the output folder; empty if it can."""
    shown = repr(idx if len(idx) <= 60 else idx[:57] + "...")
    if not idx.strip():
        return [f"idx {shown} is empty: it names the song's files"]
    if idx != idx.strip():
        return [f"idx {shown} begins or ends with a blank: it names the song's files"]
    if "/" in idx or "\\" in idx:
        return [f"idx {shown} holds a path separator: the song would leave the output folder"]
    if idx.startswith("."):
        return [f"idx {shown} begins with a dot: it would leave the output folder or be a hidden file"]
    hidden = [c for c in idx if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if hidden:
        return [f"idx {shown} holds the control character U+{ord(hidden[0]):04X}: it names the song's files"]
    size = len(idx.encode("utf-8"))
    if size > MAX_IDX_BYTES:
        return [
            f"idx {shown} has {size} bytes, at most {MAX_IDX_BYTES} are allowed: it names the song's files"
        ]
    return []


def song_names(idx: str, num_samples: int) -> list[str]:
    """The names of a request's songs: its idx, or `<idx>_s<i>` from 0 when it asks for several.

    >>> song_names("a", 2)
    ['a_s0', 'a_s1']
    """
    return [idx] if num_samples == 1 else [f"{idx}_s{i}" for i in range(num_samples)]


class NameTable:
    """The file names that the requests of one input use; finds those that would overwrite each other.

    Names that differ only in case or in Unicode form are one file on some systems, so they count as equal.
    """

    def __init__(self) -> None:
        self._idx: dict[str, tuple[str, int]] = {}
        self._files: dict[str, tuple[str, int]] = {}

    def claim(self, idx: str, num_samples: int, generate_type: str, line: int) -> None:
        """Take the names of a request; takes none if one is taken.

        Raises:
            ValueError: naming the line that has it.
        """
        first, number = self._idx.get(_folded(idx), ("", 0))
        if number and first == idx:
            raise ValueError(f"duplicate idx {idx!r}: line {number} has it already")
        if number:
            raise ValueError(
                f"idx {idx!r} differs from {first!r} of line {number} only in case or Unicode form: "
                f"their files would overwrite each other on some systems"
            )
        files = list(_files(idx, num_samples, generate_type))
        for name in files:
            owner = self._files.get(_folded(name))
            if owner:
                raise ValueError(
                    f"idx {idx!r} would write the file {name!r}, as does idx {owner[0]!r} of line {owner[1]}"
                )
        self._idx[_folded(idx)] = (idx, line)
        self._files.update((_folded(name), (idx, line)) for name in files)


def _files(idx: str, num_samples: int, generate_type: str) -> Iterator[str]:
    """The stems of the files of a request, without suffix."""
    for name in song_names(idx, num_samples):
        yield name
        yield from (f"{name}_{stem}" for stem in ("vocal", "bgm") if generate_type in (stem, "separate"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
