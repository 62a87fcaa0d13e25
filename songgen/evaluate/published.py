"""Published figures: a YAML file of reference rows, each with its source. songgen measures none of them.

rows:
  - model: NAME
    source: the publication and its table
    asr: what the PER was heard with (optional)
    measures: {per: 0.1, audiobox_pq: 8.0}      # names of `measures.MEASURES`, in their units
"""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from songgen.config_keys import did_you_mean
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.summary import Reference


def read_published(path: Path) -> list[Reference]:
    """The reference rows of a file; it may hold none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of the documented form; names the row and what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of published figures")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    rows = tree.get("rows", []) if isinstance(tree, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: must hold the key `rows` with a list of published figures")
    references = []
    for number, row in enumerate(rows, start=1):
        try:
            references.append(_reference(row))
        except ValueError as error:
            raise ValueError(f"{path}: row {number}: {error}") from None
    return references


def _reference(row: object) -> Reference:
    if not isinstance(row, dict):
        raise ValueError("must be a mapping with model, source and measures")
    for key in ("model", "source"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ValueError(f"{key} is missing: a published figure names its model and its source")
    asr = row.get("asr")
    if asr is not None and not isinstance(asr, str):
        raise ValueError(f"asr is {asr!r}: must be text")
    unknown = row.keys() - {"model", "source", "asr", "measures"}
    if unknown:
        raise ValueError(f"unknown key {sorted(map(str, unknown))[0]!r}")
    measures = row.get("measures")
    if not isinstance(measures, dict) or not measures:
        raise ValueError("measures is missing: name to number")
    for name, value in measures.items():
        if name not in MEASURES:
            raise ValueError(f"{name!r} is not a measure{did_you_mean(str(name), MEASURES)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}: must be a number")
    return Reference(row["model"], row["source"], {name: float(measures[name]) for name in measures}, asr)
