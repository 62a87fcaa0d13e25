"""The text half of SongBloom's recorded folder: phonemes and ids of lyrics, cleaned lyrics, ids of strings.

Not compared: the `pinyin` strings of g2p.json, of a processor that no published model uses, and its `dropped`
lists, which are empty throughout. Where the published program ends with an error, ours has to report a loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from parity_cases.case import Check, compare
from songgen.models.songbloom.text import SongBloomText, published_vocabulary
from songgen.songbloom_form import clean_lyrics


def run_songbloom_text(folder: Path) -> Iterator[Check]:
    """Compare what the folder holds of g2p.json, clean_lyrics.json and the ids of lyric_cond.safetensors."""
    text = SongBloomText(published_vocabulary(), japanese=False)
    if (folder / "g2p.json").is_file():
        yield from run_g2p(folder / "g2p.json", text)
    if (folder / "clean_lyrics.json").is_file():
        for number, case in enumerate(json.loads((folder / "clean_lyrics.json").read_text("utf-8"))):
            yield same(f"clean_lyrics.{number}", clean_lyrics(case["input"]), case["output"])
    if (folder / "lyric_cond.safetensors").is_file():
        yield from run_processed(folder, text)


def run_g2p(path: Path, text: SongBloomText) -> Iterator[Check]:
    """Lyrics to phonemes and ids."""
    for name, case in json.loads(path.read_text("utf-8"))["cases"].items():
        encoded = text.encode(case["lyrics"])
        if "error" in case:
            yield same(f"g2p.{name}.reported", [bool(encoded.dropped)], [True])
            continue
        yield same(f"g2p.{name}.phonemes", encoded.phonemes.split(" "), case["phonemes"].split(" "))
        yield compare(f"g2p.{name}.ids", torch.tensor(encoded.ids), torch.tensor(case["ids"]))


def run_processed(folder: Path, text: SongBloomText) -> Iterator[Check]:
    """Processed strings to ids; the null condition is that of the empty string."""
    recorded = load_file(folder / "lyric_cond.safetensors")
    strings = json.loads((folder / "index.json").read_text("utf-8"))["files"]["lyric_cond"]["meta"]["strings"]
    for name, string in strings.items():
        ids = torch.tensor(text.rows(text.items(string or "")))
        yield compare(f"lyric_cond.{name}.ids", ids, recorded[f"{name}.ids"])


def same(name: str, got: Sequence[object], expected: Sequence[object]) -> Check:
    """Compare two sequences entry by entry; what is missing or too much counts as unequal."""
    pairs = zip(got, expected, strict=False)
    unequal = sum(mine != theirs for mine, theirs in pairs) + abs(len(got) - len(expected))
    return Check(name, unequal, unequal / max(1, len(expected)), None, unequal == 0)
