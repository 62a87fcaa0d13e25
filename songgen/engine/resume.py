"""What an output folder already holds, and whether a song in it is the one that would be made now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from songgen.engine.output import RECORDS_FOLDER, form_of
from songgen.engine.plan import Plan
from songgen.engine.settings import Output
from songgen.records import read_records

FINGERPRINT_VERSION = 1


def fingerprint(plan: Plan, identity: str, output: Output) -> str:
    """SHA-256 of all that decides a song's files: its recipe, the model's files, the form of the output."""
    facts = {
        "version": FINGERPRINT_VERSION,
        "identity": identity,
        "recipe": plan.recipe,
        "output": form_of(output),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class History:
    """The last record of every song in an output folder, whichever input made it.

    All record files count, because all inputs share the folder's audio files: the latest record of a name
    says whose they are.

    Args:
        folder: the output folder; it may not exist yet.
        own: the record file of this run; its latest run seed goes before that of others.
    """

    def __init__(self, folder: Path, own: Path) -> None:
        self.folder = folder
        self._last: dict[str, dict[str, Any]] = {}
        self._in_own: dict[str, object] = {}
        self._run_seeds: dict[bool, tuple[str, int]] = {}
        for path in sorted((folder / RECORDS_FOLDER).glob("*.jsonl")):
            for record in read_records(path):
                self._take(record, is_own=path == own)

    def _take(self, record: dict[str, Any], *, is_own: bool) -> None:
        finished, name, run_seed = str(record.get("finished", "")), record.get("name"), record.get("run_seed")
        if isinstance(run_seed, int) and finished >= self._run_seeds.get(is_own, ("", 0))[0]:
            self._run_seeds[is_own] = (finished, run_seed)
        if not isinstance(name, str):
            return
        if finished >= str(self._last.get(name, {}).get("finished", "")):
            self._last[name] = record
        if is_own:
            self._in_own[name] = record.get("fingerprint") if record["status"] == "ok" else None

    @property
    def run_seed(self) -> int | None:
        """The seed of the last run into this folder, that of the same input first; None if there was none."""
        found = self._run_seeds.get(True) or self._run_seeds.get(False)
        return None if found is None else found[1]

    @property
    def songs(self) -> Mapping[str, dict[str, Any]]:
        """The last record of every song by its name."""
        return self._last

    @property
    def finished(self) -> dict[str, Mapping[str, Any]]:
        """Song name to its last record, of the songs of which that is ok and names their files."""
        return {
            name: record
            for name, record in self._last.items()
            if record["status"] == "ok" and isinstance(record.get("paths"), Mapping)
        }

    def find(self, name: str, wanted: str) -> dict[str, Any] | None:
        """The record of a song that need not be made again, or None.

        Its last record must be ok and of the wanted fingerprint, its files there and of the recorded size.
        """
        record = self._last.get(name)
        if record is None or record["status"] != "ok" or record.get("fingerprint") != wanted:
            return None
        return record if self._has_files(record.get("bytes")) else None

    def is_in_own(self, name: str, wanted: str) -> bool:
        """Whether this run's own record file ends with an ok record of that song."""
        return self._in_own.get(name) == wanted

    def _has_files(self, sizes: object) -> bool:
        if not isinstance(sizes, Mapping) or not sizes:
            return False
        for path, size in sizes.items():
            file = self.folder / path
            if not file.is_file() or not size or file.stat().st_size != size:
                return False
        return True
