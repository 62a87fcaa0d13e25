"""The linter: what in a request's text will hurt the song, and the mended text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TextRules:
    """What a model demands of its text.

    Args:
        version: `v1` or `v2` of the LeVo text rules.
        max_lyric_tokens, max_description_tokens: positions the model has; longer text is cut.
        count_lyric_tokens, count_description_tokens: exact counters, including the start token; None = estimate.
        max_seconds: the model's longest song.
    """

    version: Literal["v1", "v2"] = "v2"
    max_lyric_tokens: int = 600
    max_description_tokens: int = 100
    count_lyric_tokens: Callable[[str], int] | None = None
    count_description_tokens: Callable[[str], int] | None = None
    max_seconds: float = 270.0
