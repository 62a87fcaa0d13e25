"""The checkpoint's library of prompts: codes by style and language, of which one is drawn for a song.

The published file is a pickled table type -> language -> list of `[1, 3, T]` tensors (mixed, vocal, bgm); the
same in safetensors has the names `<type>/<language>/<number>`. Knows nothing of where the file lies.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from songgen.runtime.checkpoint import unpickle

ANY_TYPE = "Auto"
CHINESE, ENGLISH = "zh", "en"
CHINESE_SHARE = 0.2
NUM_ROWS = 3

Table = dict[str, dict[str, list[Tensor]]]


@dataclass(frozen=True)
class LibraryPrompt:
    """A drawn prompt: its codes `[3, P]` int64, and its place `<type>/<language>/<number>` for the record."""

    codes_KT: Tensor
    place: str


class PromptLibrary:
    """Prompts by type and language.

    Args:
        table: type -> language -> codes `[3, T]` (or `[1, 3, T]`), each of at least one frame.
        source: named in errors.
    """

    def __init__(
        self, table: Mapping[str, Mapping[str, list[Tensor]]], source: Path | str = "library"
    ) -> None:
        self.source = source
        self._table: Table = {
            kind: {
                language: [self._codes(entry) for entry in entries] for language, entries in languages.items()
            }
            for kind, languages in table.items()
        }
        if not any(entries for languages in self._table.values() for entries in languages.values()):
            raise ValueError(f"{source}: holds no prompts")

    @property
    def types(self) -> tuple[str, ...]:
        """The types that can be asked for, in the file's order; `Auto`, which may be any of them, last."""
        return (*(name for name in self._table if name != ANY_TYPE), ANY_TYPE)

    def draw(self, kind: str, lyrics: str, seed: int) -> LibraryPrompt:
        """Draw a prompt of a type in the language of the lyrics.

        Args:
            kind: one of `types`, capitals as you like. `Auto` draws from the file's own entry of that name,
                or where it has none from all types.
            lyrics: the song's lyrics.
            seed: the song's seed; equal arguments give the same prompt.

        Raises:
            ValueError: an unknown type; lists those there are.
        """
        name = self._match(kind)
        language = language_of(lyrics)
        chosen = [name] if name in self._table else list(self._table)
        languages = {
            held for kind_held in chosen for held, entries in self._table[kind_held].items() if entries
        }
        if language not in languages:
            language = ENGLISH if ENGLISH in languages else sorted(languages)[0]
        places = [
            (kind_held, index)
            for kind_held in chosen
            for index in range(len(self._table[kind_held].get(language, [])))
        ]
        digest = hashlib.sha256(f"{seed}/auto_prompt".encode()).digest()
        kind_held, index = places[int.from_bytes(digest[:8], "big") % len(places)]
        return LibraryPrompt(
            self._table[kind_held][language][index].clone(), f"{kind_held}/{language}/{index}"
        )

    def _match(self, kind: str) -> str:
        by_folded = {name.casefold(): name for name in self.types}
        name = by_folded.get(kind.strip().casefold())
        usable = name == ANY_TYPE or (name is not None and any(self._table[name].values()))
        if name is None or not usable:
            near = difflib.get_close_matches(kind.strip().casefold(), by_folded, n=1)
            hint = f" (did you mean {by_folded[near[0]]}?)" if near and by_folded[near[0]] != name else ""
            raise ValueError(
                f"auto_prompt_audio_type {kind!r} is not in {self.source}{hint}; "
                f"it holds {', '.join(self.types)}"
            )
        return name

    def _codes(self, entry: Any) -> Tensor:
        codes = entry[0] if isinstance(entry, Tensor) and entry.ndim == 3 and entry.shape[0] == 1 else entry
        if not isinstance(codes, Tensor) or codes.is_floating_point() or codes.is_complex():
            raise ValueError(f"{self.source}: a prompt that is no tensor of integers")
        if codes.ndim != 2 or codes.shape[0] != NUM_ROWS or codes.shape[1] == 0:
            raise ValueError(
                f"{self.source}: a prompt of shape {list(entry.shape)}, must be [1, {NUM_ROWS}, T]"
            )
        if int(codes.min()) < 0:
            raise ValueError(f"{self.source}: a prompt with negative codes")
        return codes.long()


def load_library(path: Path) -> PromptLibrary:
    """Read a library. Pickled ones are opened with `weights_only=True`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a library.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (RuntimeError, OSError, SafetensorError) as error:
            raise ValueError(f"{path}: cannot be read as a prompt library: {error}") from error
        return PromptLibrary(_from_names(tensors, path), path)
    content = unpickle(path, what="a prompt library")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a table of prompts by type")
    table = {str(kind): _languages(languages, path) for kind, languages in content.items()}
    return PromptLibrary(table, path)


def _languages(languages: Any, path: Path) -> dict[str, list[Tensor]]:
    """Prompts by language; a type without languages serves every song."""
    by_language = languages if isinstance(languages, dict) else {ENGLISH: languages, CHINESE: languages}
    for entries in by_language.values():
        if not isinstance(entries, (list, tuple, Tensor)):
            raise ValueError(f"{path}: holds a {type(entries).__name__} where a list of prompts is expected")
    return {str(language): list(entries) for language, entries in by_language.items()}


def _from_names(tensors: Mapping[str, Tensor], path: Path) -> Table:
    table: Table = {}
    numbered: dict[tuple[str, str], dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        # a type may itself hold a slash (R&B/Soul)
        kind, language, number = (["", "", *name.rsplit("/", 2)])[-3:]
        if not kind or not number.isdecimal():
            raise ValueError(f"{path}: tensor {name!r} is not named <type>/<language>/<number>")
        numbered.setdefault((kind, language), {})[int(number)] = tensor
    for (kind, language), entries in numbered.items():
        table.setdefault(kind, {})[language] = [entries[number] for number in sorted(entries)]
    return table


def language_of(lyrics: str) -> str:
    """`zh` if at least a fifth of all characters are CJK ideographs (U+4E00 ... U+9FFF), else `en`."""
    ideographs = sum(0x4E00 <= ord(character) <= 0x9FFF for character in lyrics)
    return CHINESE if lyrics and ideographs / len(lyrics) >= CHINESE_SHARE else ENGLISH
