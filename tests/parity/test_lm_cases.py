"""The recorded cases of the language model, through the parity tool's runners."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import main, run_case

LM_CASES = ["lm_v1_prefill", "lm_v2_prefill", "lm_v1_greedy", "lm_v2_greedy", "pattern", "sampling"]


@pytest.mark.parametrize("name", LM_CASES)
def test_recorded_case(parity_root: Path, name: str) -> None:
    checks = run_case(parity_root / "levo" / name)
    assert checks
    assert not [check.line() for check in checks if not check.ok]


def test_the_tool_reports_and_exits_by_outcome(
    parity_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(parity_root / "levo" / "pattern")]) == 0
    assert "42 of 42 ok" in capsys.readouterr().out
    case = (parity_root / "levo/pattern/case.json").read_text("utf-8")
    (tmp_path / "case.json").write_text(case.replace('"special": 99', '"special": 98'))
    assert main([str(tmp_path), "--quiet"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_the_tool_names_what_it_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "case.json").write_text('{"kind": "opera"}')
    assert main([str(tmp_path), str(tmp_path / "absent")]) == 2
    printed = capsys.readouterr().out
    assert "unknown kind 'opera'; known kinds: " in printed
    assert "no such folder" in printed
