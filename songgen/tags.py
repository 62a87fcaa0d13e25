"""The description tags that the published guides name, by dimension.

The model takes free tags as well; these are the ones it is known to have met in training. The files in
`sample/description` hold the same lists. What a description may not be is the linter's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

DESCRIPTION_TAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gender": ("male", "female"),
        "timbre": ("dark", "bright", "soft", "warm", "loud", "magnetic"),
        "genre": (
            "pop",
            "rock",
            "jazz",
            "R&B",
            "folk",
            "electronic",
            "country",
            "hip-hop",
            "blues",
            "synth-pop",
        ),
        "emotion": (
            "sad",
            "energetic",
            "romantic",
            "melancholic",
            "mysterious",
            "inspirational",
            "sweet",
            "loving",
        ),
        "instrument": (
            "piano",
            "guitar",
            "drums",
            "bass",
            "synthesizer",
            "electric guitar",
            "drum machine",
            "backing vocals",
            "drum kit",
            "bass guitar",
        ),
        "bpm": tuple(f"the bpm is {bpm}" for bpm in range(60, 181, 10)),
    }
)
"""Tags per dimension. The bpm entries are examples: any whole number may stand in `the bpm is N`."""

BPM_TAG = re.compile(r"the bpm is \d{2,3}", re.IGNORECASE)


def dimension_of(tag: str) -> str | None:
    """The dimension a tag belongs to, or None for a free tag; capitals and outer blanks do not matter.

    >>> dimension_of("Electric Guitar")
    'instrument'
    """
    name = tag.strip().casefold()
    if BPM_TAG.fullmatch(name):
        return "bpm"
    for dimension, tags in DESCRIPTION_TAGS.items():
        if any(name == known.casefold() for known in tags):
            return dimension
    return None
