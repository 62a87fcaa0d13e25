"""The history: the songs of an output folder, from its records, whichever command made them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from songgen.engine.output import AUDIO_FOLDER, RECORDS_FOLDER
from songgen.records import read_records
from songgen.request_keys import STEMS


@dataclass(frozen=True)
class PastSong:
    """A song that is there: its record, and stem to audio file, in the order in which they were written."""

    name: str
    record: Mapping[str, Any]
    stems: Mapping[str, Path]


class History:
    """The songs of a folder, read again when its records have changed.

    Args:
        folder: the output folder; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._state: dict[Path, tuple[int, int]] = {}
        self._songs: dict[str, PastSong] = {}
        self._names: set[str] = set()

    def songs(self) -> list[PastSong]:
        """The songs whose last record is ok and whose files are there, the newest first."""
        self._refresh()
        return list(self._songs.values())

    def find(self, name: str) -> PastSong | None:
        """The song of a name, if it is there."""
        self._refresh()
        return self._songs.get(name)

    def names(self) -> set[str]:
        """Every name that a record or an audio file of the folder has, in lower case."""
        self._refresh()
        files = (self.folder / AUDIO_FOLDER).glob("*") if (self.folder / AUDIO_FOLDER).is_dir() else ()
        return self._names | {file.stem.casefold() for file in files}

    def _refresh(self) -> None:
        """Read the records again if a record file is new, gone or has grown."""
        files = sorted((self.folder / RECORDS_FOLDER).glob("*.jsonl"))
        state = {path: (found.st_mtime_ns, found.st_size) for path in files for found in [path.stat()]}
        if state == self._state:
            return
        last: dict[str, Mapping[str, Any]] = {}
        for path in files:
            for record in read_records(path):
                name = record.get("name")
                if isinstance(name, str) and _finished(record) >= _finished(last.get(name, {})):
                    last[name] = record
        self._names = {name.casefold() for name in last}
        songs = (self._song(name, record) for name, record in last.items())
        found_songs = sorted((song for song in songs if song), key=lambda song: _finished(song.record))
        self._songs = {song.name: song for song in reversed(found_songs)}
        self._state = state

    def _song(self, name: str, record: Mapping[str, Any]) -> PastSong | None:
        """The song of a record; None if it failed or its files are not in the folder's audio."""
        paths = record.get("paths")
        if record.get("status") != "ok" or not isinstance(paths, Mapping):
            return None
        audio = self.folder / AUDIO_FOLDER
        stems = {
            str(stem): (self.folder / str(path)).resolve()
            for stem, path in paths.items()
            if stem in STEMS["separate"]
        }
        if not stems or not all(file.parent == audio and file.is_file() for file in stems.values()):
            return None
        return PastSong(name, record, stems)


def free_name(wanted: str, taken: Collection[str]) -> str:
    """A name that writes over no song: the wanted one, or with the first free number behind it.

    Args:
        taken: names in use, in lower case; that of a stem (`<name>_vocal`) takes `<name>` too.

    >>> free_name("Song", {"song", "song-2_vocal"})
    'Song-3'
    """
    number, name = 1, wanted
    while any(used == name.casefold() or used.startswith(f"{name.casefold()}_") for used in taken):
        number += 1
        name = f"{wanted}-{number}"
    return name


def _finished(record: Mapping[str, Any]) -> str:
    return str(record.get("finished", ""))
