"""The requests: what one line of the input file asks for, read and checked.

Input is JSON Lines: one object a line, UTF-8, blank lines and a byte order mark allowed. A line that cannot
be used becomes a `BadLine` with a sentence that names the key, the value and what is allowed; the others
still run. Knows nothing of models: limits that depend on one are checked where it is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from songgen.request_keys import GenerateType, StemSource, checked_values
from songgen.request_names import NameTable

__all__ = ["BadLine", "GenerateType", "RequestFile", "SongRequest", "parse_request", "read_requests"]


MAX_DIGITS = 300


@dataclass(frozen=True)
class SongRequest:
    """One checked request.

    Args:
        idx: the song's name; names its files. No path separators.
        lyrics: the lyric string, `[tag] text ; [tag] ...`.
        descriptions: comma-separated style tags, or None.
        generate_type: which stems are wanted; None lets the run decide.
        stems: whether the model makes them, or a separator from the finished mix; None lets the run decide.
        seed: 0 ... 2**63 - 1, or None to derive it from the run's seed and idx.
        num_samples: songs to make from this request, >= 1.
        temperature, top_k, top_p, cfg_coef, max_seconds: overrides of the run's settings, or None.
        prompt_audio_path, auto_prompt_audio_type: style prompt, at most one of the two.
        source: the line as given, keys in order, unknown keys included; echoed in the record.
        line: 1-based line number in the input file, 0 when made in Python.
    """

    idx: str
    lyrics: str
    descriptions: str | None = None
    generate_type: GenerateType | None = None
    stems: StemSource | None = None
    seed: int | None = None
    num_samples: int = 1
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cfg_coef: float | None = None
    max_seconds: float | None = None
    prompt_audio_path: str | None = None
    auto_prompt_audio_type: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True)
class BadLine:
    """A line that is no request.

    Args:
        line: 1-based line number.
        idx: the line's idx, if that much could be read.
        message: what is wrong and what is allowed.
        source: the parsed object if there is one, else the line's text.
        path: the file.
    """

    line: int
    idx: str | None
    message: str
    source: object = None
    path: Path | None = None

    def __str__(self) -> str:
        is_named = self.idx is None or f"idx {self.idx!r}" in self.message
        name = "" if is_named else f"idx {self.idx!r}: "
        return f"{self.path}: line {self.line}: {name}{self.message}"


@dataclass(frozen=True)
class RequestFile:
    """A file of requests: the good ones and the bad lines, each in the order of the file."""

    requests: list[SongRequest]
    bad_lines: list[BadLine]


def _find_prompt(request: SongRequest, folder: Path) -> SongRequest:
    """A prompt's path as given, or beside the input file where only that exists."""
    given = request.prompt_audio_path
    if given is None:
        return request
    try:
        is_beside = not Path(given).exists() and (folder / given).exists()
    except OSError:  # a name too long, a folder that may not be entered: the song's own error, later
        return request
    return replace(request, prompt_audio_path=str(folder / given)) if is_beside else request


def read_requests(
    path: Path, *, default_generate_type: GenerateType = "mixed", default_num_samples: int = 1
) -> RequestFile:
    """Read a JSON Lines file.

    A `prompt_audio_path` that is not found from the working folder is looked for beside the file.

    Args:
        default_generate_type: what the run makes of a line that does not say; with `bgm` lyrics may be empty.
        default_num_samples: songs to make from a line that does not say.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, is empty, or is not JSON Lines at all.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a JSON Lines file, one request a line")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file of requests") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is in UTF-16: save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise ValueError(f"{path} is empty: it should hold one JSON object a line")
    names, requests, bad = NameTable(), [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        source: object = line.decode("utf-8", "replace")
        try:
            source = _parse_json(line)
            request = _make_request(source, number, default_generate_type, default_num_samples)
            kind = request.generate_type or default_generate_type
            names.claim(request.idx, request.num_samples, kind, number)
            requests.append(_find_prompt(request, path.parent))
        except ValueError as error:
            bad.append(BadLine(number, _idx_of(source), str(error), source, path))
    if not requests:
        _refuse_other_json(path, data)
    return RequestFile(requests, bad)


def parse_request(
    mapping: Mapping[str, Any],
    *,
    line: int = 0,
    default_generate_type: GenerateType = "mixed",
    default_num_samples: int = 1,
) -> SongRequest:
    """Check one request given as a mapping with the keys of the JSONL.

    Raises:
        ValueError: naming the key, its value and what is allowed.
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"a request is a mapping of keys to values, not {type(mapping).__name__}")
    try:
        text = json.dumps(dict(mapping), ensure_ascii=False)
    except (TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"a request holds JSON values only: {error}") from None
    parsed = _parse_json(text.encode("utf-8", "surrogatepass"))
    return _make_request(parsed, line, default_generate_type, default_num_samples)


def _make_request(
    source: object, line: int, default_generate_type: GenerateType, default_num_samples: int
) -> SongRequest:
    """Check a parsed line."""
    if not isinstance(source, dict):
        raise ValueError(f"a line should be one JSON object, {{...}}, not {_kind(source)}")
    values = checked_values(
        source, default_generate_type=default_generate_type, default_num_samples=default_num_samples
    )
    return SongRequest(**values, source=source, line=line)


def _parse_json(line: bytes) -> object:
    """Parse one line strictly: UTF-8, no repeated keys, no NaN or infinity, no half surrogates."""
    try:
        value: object = json.loads(
            line.decode("utf-8", "surrogatepass"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_short_int,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}") from None
    except UnicodeEncodeError as error:
        raise ValueError(
            f"holds {error.object[error.start]!r}, half a surrogate pair: not a character"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not usable: nested too deeply") from None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is given twice: keep one")
        result[key] = value
    return result


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON: numbers must be finite")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large: numbers must be finite")
    return value


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)


def _idx_of(source: object) -> str | None:
    """The idx of a line that may be wrong otherwise, for its message."""
    if not isinstance(source, dict):
        return None
    value = source.get("idx", source.get("id"))
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _kind(value: object) -> str:
    """What JSON calls a value."""
    kinds: dict[type, str] = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _refuse_other_json(path: Path, data: bytes) -> None:
    """Say so if a file without a good line is one JSON value spread over lines, or a list of requests."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, list):
        raise ValueError(f"{path} holds one JSON list: write one object a line, without the list around them")
    if isinstance(value, dict) and data.strip().count(b"\n"):
        raise ValueError(f"{path} holds one JSON object over several lines: write each object in one line")
