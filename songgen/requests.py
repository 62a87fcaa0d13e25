"""The requests: what one line of the input file asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

GenerateType = Literal["mixed", "vocal", "bgm", "separate"]


@dataclass(frozen=True)
class SongRequest:
    """One checked request.

    Args:
        idx: the song's name; names its files. No path separators.
        lyrics: the lyric string, `[tag] text ; [tag] ...`.
        descriptions: comma-separated style tags, or None.
        generate_type: which stems are wanted; None lets the run decide.
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
