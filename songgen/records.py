"""The records: one JSON line a song, appended as it ends.

A line is handed to the system in one write and forced to disk, so a killed run leaves at most a torn last
line, which is mended when the file is next opened. Knows nothing of how songs are made.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What is written of one song; keys that are None are left out of the line.

    Args:
        idx, name: the request's idx and the song's name (`<idx>` or `<idx>_s<i>`).
        error, stage: what went wrong and where, of a failed song.
        line: 1-based line number in the input file.
        request: the line as it was given, keys in order, unknown ones included; text if it was not JSON.
        lyrics, descriptions: what the model was really given.
        mended: whether that differs from what was asked for; `findings` says why.
        paths: stem (or `tokens`, `plot`, `lrc`) to file, relative to the output folder, with `/`.
        bytes: file to its size; resuming believes only files of that size.
        clipped: samples beyond -1 ... 1 that the format could not hold.
        stems: whether the model made the stems, or a separator.
        seed, run_seed: the song's seed; the run's, from which it may have been derived.
        stopped: `eos` if the model ended the song, `length` if it ran into the limit.
        kept: false if it was composed but not rendered, another take of its request having scored higher.
        failed_takes: names of the takes that failed beside the one that was kept.
        duration: seconds of audio. frames: frames of tokens.
        lm_score: the model's mean log-probability of a code in nats, `conditional` on the request, `null`
            without it, and their `difference`.
        seconds: stage to wall seconds spent on it.
        notes: what the model says of its conditions, such as the prompt that it drew.
        fingerprint: digest of all that decides the song's files.
        finished: UTC time, ISO 8601.
    """

    idx: str | None
    name: str | None
    status: Literal["ok", "failed"]
    error: str | None = None
    stage: str | None = None
    line: int | None = None
    request: object = None
    lyrics: str | None = None
    descriptions: str | None = None
    mended: bool | None = None
    findings: Sequence[Mapping[str, Any]] | None = None
    paths: Mapping[str, str] | None = None
    bytes: Mapping[str, int] | None = None
    clipped: int | None = None
    model: str | None = None
    identity: str | None = None
    generate_type: str | None = None
    stems: str | None = None
    seed: int | None = None
    run_seed: int | None = None
    sampling: Mapping[str, Any] | None = None
    max_seconds: float | None = None
    kept: bool | None = None
    failed_takes: Sequence[str] | None = None
    stopped: str | None = None
    duration: float | None = None
    frames: int | None = None
    lm_score: Mapping[str, float] | None = None
    seconds: Mapping[str, float] | None = None
    notes: Mapping[str, Any] | None = None
    device: str | None = None
    versions: Mapping[str, str] | None = None
    fingerprint: str | None = None
    finished: str = field(default_factory=lambda: utc_now())

    def as_dict(self) -> dict[str, Any]:
        """The record's keys in order, without those that are None."""
        pairs = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in pairs if value is not None}


def utc_now() -> str:
    """The time in UTC to the millisecond; such strings sort by time."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_record(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, UTF-8, ended by a newline and holding no other line break of any kind."""
    text = json.dumps(record, ensure_ascii=False)
    for separator in ("\u0085", "\u2028", "\u2029"):
        text = text.replace(separator, f"\\u{ord(separator):04x}")
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair in a user's key
        return json.dumps(record, ensure_ascii=True).encode() + b"\n"


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file in order; lines that are not records are passed over with a warning."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            record = _decode(line)
            if record is None:
                logger.warning("%s: line %d: not a record, passed over", path, number)
            else:
                yield record


class RecordFile:
    """An open file of records; a context manager that holds a lock, so that two runs cannot mix theirs.

    Raises (on entering):
        BlockingIOError: another run has the file open.
        OSError: the file cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def __enter__(self) -> RecordFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(self._handle, self.path)
            self._mend()
        except BaseException:
            os.close(self._handle)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        self._handle = -1

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record as a whole line and force it to disk.

        Raises:
            OSError: it could not be written whole; then nothing of it stays in the file.
        """
        assert self._handle >= 0, "the file of records is not open"
        line = encode_record(record)
        size = os.fstat(self._handle).st_size
        written = 0
        try:
            written = os.write(self._handle, line)
            if written != len(line):
                raise OSError(
                    f"{self.path}: only {written} of {len(line)} bytes could be written (disk full?)"
                )
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, size)
            raise

    def _mend(self) -> None:
        """Cut a last line that a kill tore; complete one that only lacks its newline."""
        data = self.path.read_bytes()
        if not data or data.endswith(b"\n"):
            return
        start = data.rfind(b"\n") + 1
        if _decode(data[start:]) is None:
            logger.warning("%s: the last line was torn by a kill and is removed", self.path)
            os.ftruncate(self._handle, start)
        else:
            os.write(self._handle, b"\n")


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "status" in record else None


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two runs into one folder are the user's to avoid
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, f"{path}: another run is writing these records") from error
