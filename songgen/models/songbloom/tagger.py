"""Parts of speech of English words: the averaged perceptron that the published model's text went through.

Only homographs need a tag, and nearly always they stand alone, so `data/tagger.json.xz` holds the weights
that decide on those: alone, between quotation marks and commas, and beside numbers, exactly as the whole
tagger does; beside other words by their endings. Features and greedy order: Honnibal, "A Good Part-of-
Speech Tagger" (2013).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from songgen.models.songbloom.g2p_data import read_text

_STARTS, _ENDS = ("-START-", "-START2-"), ("-END-", "-END2-")
_SUFFIX = 3


class PerceptronTagger:
    """Tags the words of one run of text; reads its weights with the first."""

    def tag(self, tokens: Sequence[str]) -> list[str]:
        """A Penn Treebank tag for each token."""
        context = [*_STARTS, *(_normalized(token) for token in tokens), *_ENDS]
        before, before_that = _STARTS
        tags = []
        for i, token in enumerate(tokens):
            tag = self._data["tags"].get(token) or self._best(
                _features(token, context[i : i + 5], before, before_that)
            )
            tags.append(tag)
            before_that, before = before, tag
        return tags

    def _best(self, features: Sequence[str]) -> str:
        scores: defaultdict[str, float] = defaultdict(float)
        for feature in features:
            for tag, weight in self._data["weights"].get(feature, {}).items():
                scores[tag] += weight
        return max(scores, key=lambda tag: (scores[tag], tag))

    @cached_property
    def _data(self) -> dict[str, dict]:
        return json.loads(read_text("tagger.json.xz"))


def _normalized(token: str) -> str:
    """A token as the weights know it."""
    return "!HYPHEN" if "-" in token[1:] and token[0] != "-" else token.lower()


def _features(token: str, around: Sequence[str], before: str, before_that: str) -> list[str]:
    """The names of what is looked at; `around` is two tokens to the left ... two to the right."""
    left2, left, here, right, right2 = around
    return [
        "bias",
        f"i suffix {token[-_SUFFIX:]}",
        f"i pref1 {token[:1]}",
        f"i-1 tag {before}",
        f"i-2 tag {before_that}",
        f"i tag+i-2 tag {before} {before_that}",
        f"i word {here}",
        f"i-1 tag+i word {before} {here}",
        f"i-1 word {left}",
        f"i-1 suffix {left[-_SUFFIX:]}",
        f"i-2 word {left2}",
        f"i+1 word {right}",
        f"i+1 suffix {right[-_SUFFIX:]}",
        f"i+2 word {right2}",
    ]
