"""Every recorded case through the parity tool's runners: those that the clone carries, and the rest where
they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import main, run_case

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CARRIED = sorted(
    str(path.relative_to(GOLDEN))
    for pattern in ("levo*/*", "songbloom/cases")
    for path in GOLDEN.glob(pattern)
)
OTHERS = [
    "levo/cfm",
    "levo/code2sound",
    "levo/code2sound_prompt",
    "levo/demucs",
    "levo/estimator",
    "levo/generate_e2e",
    "levo/lm_v1_greedy",
    "levo/lm_v1_prefill",
    "levo/lm_v2_prefill",
    "levo/musicfm",
    "levo_fast/code2sound_1rvq",
    "levo_fast/code2sound_1rvq_prompt",
    "levo_fast/fast_e2e",
    "levo_fast/fast_prefix",
    "levo_fast/fast_sampling",
    "songbloom",
]
"""Not carried for their size; `code2sound` is carried in part."""


def assert_all_ok(folder: Path) -> None:
    checks = run_case(folder)
    assert checks
    assert not [check.line() for check in checks if not check.ok]


@pytest.mark.parametrize("name", CARRIED)
def test_carried_case(name: str) -> None:
    assert_all_ok(GOLDEN / name)


@pytest.mark.parametrize("name", OTHERS)
def test_recorded_case(parity_root: Path, name: str) -> None:
    assert_all_ok(parity_root / name)


def test_the_tool_reports_and_exits_by_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN / "levo/pattern")]) == 0
    assert "42 of 42 ok" in capsys.readouterr().out
    case = (GOLDEN / "levo/pattern/case.json").read_text("utf-8")
    (tmp_path / "case.json").write_text(case.replace('"special": 99', '"special": 98'))
    assert main([str(tmp_path), "--quiet"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_the_tool_names_what_it_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "case.json").write_text('{"kind": "opera"}')
    assert main([str(tmp_path), str(tmp_path / "absent")]) == 2
    printed = capsys.readouterr().out
    assert "unknown kind 'opera'; known kinds: " in printed
    assert "no such folder" in printed


def test_our_tokenizer_is_the_librarys(tmp_path: Path) -> None:
    """On a small Qwen2 vocabulary, ids equal those of transformers' tokenizer with the same added tokens."""
    from transformers import Qwen2Tokenizer

    from songgen.models.levo.config_form import STRUCTURE_TAGS
    from songgen.models.levo.text import lyric_tokenizer

    folder = GOLDEN / "levo/lm_v2_greedy/tokenizer"
    ours = lyric_tokenizer(folder, STRUCTURE_TAGS, "v2")
    theirs = Qwen2Tokenizer.from_pretrained(folder)
    theirs.add_tokens([*STRUCTURE_TAGS, "."], special_tokens=True)
    texts = [
        "[intro-short] ; [verse] Trails wind through. Trees stand tall... ; [chorus] Don't, I'LL 42!",
        "[verse]\nline\r\n\r\n two\t tab ;  double  e\u0301 \u4f60\u597d.\u4e16\u754c \U0001f600",
        "",
        " . .",
        "<|im_end|> x <|endoftext|>",
        "[Verse] a.b .c",
    ]
    for text in texts:
        assert ours.encode(text) == theirs("<|im_start|>" + text)["input_ids"], text
