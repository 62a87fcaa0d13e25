"""The tokenization case: texts and their published ids.

The published vocabulary is not recorded. With a folder that holds it (`--tokenizer`) all ids are compared;
without, what does not depend on it: where added tokens cut a text, which they are, and pieces of a single
byte, whose ids are those of every byte-level vocabulary.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from parity_cases.case import Case, Check, compare
from songgen.models.levo.config_form import STRUCTURE_TAGS
from songgen.models.levo.text import base_rows, description_tokenizer, lyric_tokenizer
from songgen.models.levo.tiny_parts import write_byte_tokenizer

VERSIONS = ("v1", "v2")


def run_tokenization(case: Case) -> Iterator[Check]:
    """Compare all texts of the case."""
    recorded = json.loads((case.folder / "expected.json").read_text("utf-8"))
    if case.tokenizer is not None:
        yield from _compare_all(recorded, case.tokenizer, is_exact=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_byte_tokenizer(Path(folder))
        yield from _compare_all(recorded, Path(folder), is_exact=False)


def _compare_all(recorded: dict[str, Any], folder: Path, *, is_exact: bool) -> Iterator[Check]:
    offset = recorded["embedding_rows"]["type_info.v1"] - base_rows(folder)
    for version in VERSIONS:
        tokenizers = {
            "lyrics": ("description", lyric_tokenizer(folder, STRUCTURE_TAGS, version)),  # type: ignore[arg-type]
            "descriptions": ("type_info", description_tokenizer(folder, version)),  # type: ignore[arg-type]
        }
        for texts, (conditioner, tokenizer) in tokenizers.items():
            name = f"{conditioner}.{version}"
            rows = torch.tensor([tokenizer.num_rows + offset, len(tokenizer.encode(None))])
            expected_rows = torch.tensor(
                [recorded["embedding_rows"][name], len(recorded["null_text"]["ids"])]
            )
            yield compare(f"{name}.rows", rows, expected_rows)
            published = recorded["added_tokens"][name]
            added = {tokenizer.id_of(token): token_id for token, token_id in published.items()}
            for number, item in enumerate(recorded[texts]):
                got, expected = tokenizer.encode(item["text"]), item[version]
                if not is_exact:
                    got, expected = _skeletons(got, expected, added)
                yield compare(f"{name}.{number}", torch.tensor(got), torch.tensor(expected))


def _skeletons(got: list[int], expected: list[int], added: dict[int, int]) -> tuple[list[int], list[int]]:
    """Both id lists with added tokens under their published ids, and text between them as one mark.

    The mark is -1, or the id itself where our piece is a single byte.
    """
    ours = _cut([added.get(token, token) for token in got], set(added.values()))
    theirs = _cut(expected, set(added.values()))
    left, right = [], []
    for mine, yours in zip(ours, theirs, strict=False):
        is_known = mine[0] in added.values() or len(mine) == 1
        left.append(mine[0] if is_known else -1)
        right.append((yours[0] if len(yours) == 1 else -2) if is_known else -1)
    if len(ours) != len(theirs):
        left, right = [*left, len(ours)], [*right, len(theirs)]
    return left, right


def _cut(ids: list[int], added: set[int]) -> list[list[int]]:
    """Cut a list of ids into added tokens, one each, and the runs between them."""
    pieces: list[list[int]] = []
    is_open = False
    for token in ids:
        if token in added or not is_open:
            pieces.append([token])
        else:
            pieces[-1].append(token)
        is_open = token not in added
    return pieces
