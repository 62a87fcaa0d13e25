"""The songs of an output folder: files, record and request of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from songgen.audio import FORMATS
from songgen.engine.drafts import TOKENS_KEY
from songgen.engine.output import AUDIO_FOLDER, RECORDS_FOLDER, TOKENS_FOLDER
from songgen.engine.resume import History
from songgen.request_keys import STEMS
from songgen.request_names import song_names
from songgen.requests import SongRequest, parse_request

STEM_ORDER = STEMS["separate"]
SUFFIXES = frozenset(f".{name}" for name in FORMATS)


@dataclass(frozen=True)
class FinishedSong:
    """A song to score.

    Args:
        name: its name in the folder.
        stems: stem to file; empty for a song that was not made.
        tokens: file of its tokens, if kept.
        record: what the run wrote of it; empty where there is none.
        request: what was asked for, if known.
    """

    name: str
    stems: Mapping[str, Path]
    tokens: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    request: SongRequest | None = None

    @property
    def stem(self) -> str | None:
        """The stem that is measured: the mix, else the voice, else the accompaniment."""
        return next((stem for stem in STEM_ORDER if stem in self.stems), None)

    @property
    def model(self) -> str:
        """The model's name, `-` if it is not known."""
        return str(self.record.get("model") or "-")

    @property
    def lyrics(self) -> str | None:
        """What the model was really given to sing, else what was asked for; None if unknown."""
        lyrics = self.record.get("lyrics", self.request.lyrics if self.request else None)
        return lyrics if isinstance(lyrics, str) else None

    @property
    def descriptions(self) -> str | None:
        """The descriptions that the model was given, else asked for."""
        found = self.record.get("descriptions", self.request.descriptions if self.request else None)
        return found if isinstance(found, str) else None


def song_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders with songs among those given: each itself, or those under it (a sweep's).

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is a file, or there are no songs in it nor under it.
    """
    folders: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
        if not path.is_dir():
            raise ValueError(f"{path}: is a file; give a folder of songs, such as the output.dir of a run")
        found = [path] if _has_songs(path) else sorted(_below(path))
        if not found:
            raise ValueError(f"{path}: holds no songs: no {RECORDS_FOLDER}/*.jsonl and no audio files")
        folders += found
    return list(dict.fromkeys(folders))


def find_songs(folder: Path, requests: Sequence[SongRequest] = ()) -> list[FinishedSong]:
    """The songs of a folder by name: those of its records, or all its audio files if it has no records.

    Takes that were passed over (`keep=best`) are no songs of it.
    Without records, `<name>_vocal` and `<name>_bgm` are stems of `<name>` where that is there too.

    Args:
        requests: what was asked for, for songs without a record; found by the song's name.
    """
    asked = {name: request for request in requests for name in song_names(request.idx, request.num_samples)}
    records = History(folder, folder / RECORDS_FOLDER).songs
    if records:
        return [
            _of_record(folder, name, record, asked)
            for name, record in sorted(records.items())
            if record.get("kept") is not False
        ]
    return [
        FinishedSong(name, stems, _tokens_of(folder, name), request=asked.get(name))
        for name, stems in sorted(_stems_by_name(_audio_files(folder)).items())
    ]


def _has_songs(folder: Path) -> bool:
    return any((folder / RECORDS_FOLDER).glob("*.jsonl")) or bool(_audio_files(folder))


def _below(folder: Path) -> Iterator[Path]:
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.name.startswith("."):
            if _has_songs(inner):
                yield inner
            else:
                yield from _below(inner)


def _audio_files(folder: Path) -> list[Path]:
    place = folder / AUDIO_FOLDER if (folder / AUDIO_FOLDER).is_dir() else folder
    return [
        path
        for path in sorted(place.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]


def _stems_by_name(files: Sequence[Path]) -> dict[str, dict[str, Path]]:
    by_name = {path.stem: path for path in files}
    found: dict[str, dict[str, Path]] = {}
    for name, path in by_name.items():
        base, _, stem = name.rpartition("_")
        if stem in ("vocal", "bgm") and base in by_name:
            found.setdefault(base, {})[stem] = path
        else:
            found.setdefault(name, {})["mixed"] = path
    return found


def _of_record(
    folder: Path, name: str, record: Mapping[str, Any], asked: Mapping[str, SongRequest]
) -> FinishedSong:
    paths = record.get("paths")
    paths = paths if isinstance(paths, Mapping) else {}
    stems = {stem: folder / str(path) for stem, path in paths.items() if stem in STEM_ORDER}
    tokens = folder / str(paths[TOKENS_KEY]) if TOKENS_KEY in paths else _tokens_of(folder, name)
    return FinishedSong(name, stems, tokens, record, _request_of(record) or asked.get(name))


def _tokens_of(folder: Path, name: str) -> Path | None:
    path = folder / TOKENS_FOLDER / f"{name}.safetensors"
    return path if path.is_file() else None


def _request_of(record: Mapping[str, Any]) -> SongRequest | None:
    try:
        return parse_request(record["request"], default_generate_type=record.get("generate_type", "mixed"))
    except (KeyError, ValueError):
        return None
