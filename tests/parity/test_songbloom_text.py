"""The runner of SongBloom's recorded texts sees what is equal and what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from parity_cases.songbloom_text import run_songbloom_text, same
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "songbloom" / "text"


def test_a_changed_record_fails_alone(tmp_path: Path) -> None:
    cases = {
        "kept": {"lyrics": "[inst] a1", "phonemes": "[inst] a1", "ids": [6, 105], "dropped": []},
        "phoneme": {"lyrics": "[inst]", "phonemes": "[intro]", "ids": [6], "dropped": []},
        "longer": {"lyrics": "[inst]", "phonemes": "[inst]", "ids": [6, 0], "dropped": []},
        "error": {"lyrics": "[inst]", "error": "IndexError"},
    }
    (tmp_path / "g2p.json").write_text(json.dumps({"cases": cases}), "utf-8")
    failed = [check.name for check in run_songbloom_text(tmp_path) if not check.ok]
    assert failed == ["g2p.phoneme.phonemes", "g2p.longer.ids", "g2p.error.reported"]


def test_processed_strings_are_compared_by_their_ids(tmp_path: Path) -> None:
    strings = {"null": None, "odd": "[verse] xx a1 yy \n b", "wrong": "a1"}
    index = {"files": {"lyric_cond": {"meta": {"strings": strings}}}}
    (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    ids = {
        "null.ids": torch.tensor([0]),
        "odd.ids": torch.tensor([1, 105, 130]),
        "wrong.ids": torch.tensor([1]),
    }
    save_file(ids, tmp_path / "lyric_cond.safetensors")
    shutil.copy(GOLDEN / "clean_lyrics.json", tmp_path)
    checks = list(run_songbloom_text(tmp_path))
    assert len(checks) == 13
    assert [check.name for check in checks if not check.ok] == ["lyric_cond.wrong.ids"]


def test_missing_and_superfluous_entries_count() -> None:
    assert same("x", ["a", "b"], ["a"]).max_abs == 1
    assert same("x", ["a"], ["b", "c", "d"]).max_abs == 3
    assert same("x", "abc", "abc").ok
