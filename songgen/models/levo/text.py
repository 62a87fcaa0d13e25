"""From a request's text to token ids, as published.

The tokenizer is Qwen2's byte-level BPE. Lyrics and descriptions have their own added tokens: 13 structure
tags for lyrics; v2 adds quality tags for descriptions and makes "." a token of its own in both, which only
means that text is cut there before BPE.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TextVersion = Literal["v1", "v2"]

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

MUSICALITY_HIGHEST, MUSICALITY_LOWEST = "[Musicality-very-high]", "[Musicality-very-low]"
PURE_MUSIC = "[Pure-Music]"
DESCRIPTION_TOKENS_V2 = (
    MUSICALITY_HIGHEST,
    "[Musicality-high]",
    "[Musicality-medium]",
    "[Musicality-low]",
    MUSICALITY_LOWEST,
    PURE_MUSIC,
)
NULL_DESCRIPTION_V2 = f"{MUSICALITY_LOWEST}, ."
EMPTY_TEXT = "."

PRE_TOKEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def version_of(description_rows: int, base_rows: int) -> TextVersion:
    """The text version of a checkpoint, by the rows of its `type_info` table.

    Args:
        base_rows: rows of the tokenizer without added tokens.
    """
    if description_rows == base_rows:
        return "v1"
    if description_rows == base_rows + len(DESCRIPTION_TOKENS_V2):
        return "v2"
    raise ValueError(
        f"type_info.output_proj has {description_rows} rows; with this tokenizer it must have "
        f"{base_rows} (v1) or {base_rows + len(DESCRIPTION_TOKENS_V2)} (v2)"
    )


def model_lyrics(lyrics: str, *, bgm: bool) -> str:
    """The lyrics as the model gets them: pairs of blanks made one in a single pass; none at all for bgm."""
    return EMPTY_TEXT if bgm else lyrics.replace("  ", " ")


def model_description(description: str | None, version: TextVersion, *, bgm: bool) -> str | None:
    """The description as the model gets it; None is the null condition.

    Published: v2 asks for the highest musicality, and for pure music in bgm mode, but a bgm request without a
    description gets neither.
    """
    if version == "v1":
        return description.lower() if description else None
    if bgm:
        if not description:
            return EMPTY_TEXT
        return f"{MUSICALITY_HIGHEST}, {PURE_MUSIC}, {description.lower()}"
    return f"{MUSICALITY_HIGHEST}, {description.lower() if description else EMPTY_TEXT}"


def null_description(description: str | None, version: TextVersion) -> str | None:
    """The description of the null row: None, but lowest musicality where v2 asked for the highest."""
    if version == "v2" and description is not None and MUSICALITY_HIGHEST in description:
        return NULL_DESCRIPTION_V2
    return None


class LyricTokenizer(Protocol):
    """What conditioning asks of the lyrics' tokenizer; `TextTokenizer` is one, and the phonemes'."""

    pad_id: int
    end_id: int

    @property
    def num_rows(self) -> int:
        """Rows of the embedding table that fits."""

    def id_of(self, token: str) -> int:
        """The id of a token. Raises ValueError if there is none."""

    def encode(self, text: str | None) -> list[int]:
        """Ids of the start token and the text."""

    def token_spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text as it is read, and where in it each token lies."""

    def structure_rows(self, ids: Sequence[int], num_tags: int) -> list[int]:
        """For each token the row of the structure tag whose section it stands in."""


class TextTokenizer:
    """Qwen2 BPE with the added tokens of one conditioner.

    Args:
        tokenizer: the base tokenizer with this conditioner's added tokens registered.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pad_id = self.id_of(PAD)
        self.end_id = self.id_of(END)

    def id_of(self, token: str) -> int:
        """The id of a token. Raises ValueError if there is none."""
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise ValueError(f"the tokenizer has no token {token!r}")
        return int(token_id)

    @property
    def num_rows(self) -> int:
        """Rows of the embedding table that fits: the largest id + 1."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str | None) -> list[int]:
        """Ids of the start token and the text; None and "" give the start token alone."""
        return list(self._tokenizer.encode(_normal(text), add_special_tokens=False).ids)

    def token_spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text as it is read (NFC), and for each token of `encode` where in it its characters lie.

        The start token is before it, at (0, 0). Tokens that share a character have overlapping spans.
        """
        normal = _normal(text)
        offsets = self._tokenizer.encode(normal, add_special_tokens=False).offsets
        return normal[len(START) :], [
            (max(0, start - len(START)), max(0, end - len(START))) for start, end in offsets
        ]

    def structure_rows(self, ids: Sequence[int], num_tags: int) -> list[int]:
        """For each token the row of the structure tag whose section it stands in; 0 before the first.

        A section reaches from its tag to the next tag, the last one to the number of tokens that are not
        padding.
        """
        return structure_rows_of(ids, num_tags, end_id=self.end_id, pad_id=self.pad_id)


def structure_rows_of(ids: Sequence[int], num_tags: int, *, end_id: int, pad_id: int) -> list[int]:
    """The rows of `TextTokenizer.structure_rows`, of any vocabulary whose tags follow its end token."""
    tag_ids = range(end_id + 1, end_id + 1 + num_tags)
    starts = [place for place, token in enumerate(ids) if token in tag_ids]
    stops = [*starts[1:], sum(token != pad_id for token in ids)]
    rows = [0] * len(ids)
    for start, stop in zip(starts, stops, strict=False):
        for place in range(start, stop):
            rows[place] = ids[start] - end_id
    return rows


def _normal(text: str | None) -> str:
    """The start token and a text, normalised."""
    return unicodedata.normalize("NFC", START + (text or ""))


def pad_pair(conditional: Sequence[int], null: Sequence[int], length: int | None, pad: int) -> Tensor:
    """Two id lists as `[2, length]`, padded or cut on the right; None pads to the longer one."""
    length = max(len(conditional), len(null)) if length is None else length
    rows = torch.full((2, length), pad)
    for row, ids in enumerate((conditional, null)):
        kept = torch.tensor(ids[:length], dtype=torch.int64)
        rows[row, : kept.numel()] = kept
    return rows


def load_base_tokenizer(folder: Path) -> Tokenizer:
    """Build the base tokenizer from a folder with vocab.json and merges.txt.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file cannot be read.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    files = [folder / "vocab.json", folder / "merges.txt"]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: missing; the tokenizer folder must hold vocab.json and merges.txt"
            )
    try:
        tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    except Exception as error:  # tokenizers throws nothing narrower
        raise ValueError(f"{folder}: vocab.json and merges.txt cannot be read: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in _base_added_tokens(folder)]
    )
    return tokenizer


def _base_added_tokens(folder: Path) -> list[str]:
    """The added tokens of the tokenizer itself, in the order of their ids."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return [PAD, START, END]
    added = json.loads(path.read_text("utf-8")).get("added_tokens_decoder", {})
    tokens = [added[key]["content"] for key in sorted(added, key=int)]
    return tokens or [PAD, START, END]


def _with_tokens(folder: Path, tokens: Sequence[str]) -> TextTokenizer:
    from tokenizers import AddedToken

    tokenizer = load_base_tokenizer(folder)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    return TextTokenizer(tokenizer)


def base_rows(folder: Path) -> int:
    """Rows of the tokenizer in a folder, without a conditioner's added tokens."""
    return TextTokenizer(load_base_tokenizer(folder)).num_rows


def lyric_tokenizer(folder: Path, structure_tags: Sequence[str], version: TextVersion) -> TextTokenizer:
    """The lyric conditioner's tokenizer."""
    return _with_tokens(folder, [*structure_tags, *([EMPTY_TEXT] if version == "v2" else [])])


def description_tokenizer(folder: Path, version: TextVersion) -> TextTokenizer:
    """The description conditioner's tokenizer."""
    return _with_tokens(folder, [*DESCRIPTION_TOKENS_V2, EMPTY_TEXT] if version == "v2" else [])
