"""The `songgen` command itself: finding the subcommand, exit status, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import songgen
from songgen.cli import COMMANDS, main


def test_version(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"songgen {songgen.__version__}\n"
    assert f'version = "{songgen.__version__}"' in (repository / "pyproject.toml").read_text()


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(words)
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([command, "--help"])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 0 and f"usage: songgen {command}" in capsys.readouterr().out


def test_an_unknown_command_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["frobnicate"])
    assert "invalid choice: 'frobnicate'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("x is wrong"), "songgen: x is wrong\n"),
        (FileNotFoundError("a: no such file"), "songgen: a: no such file\n"),
        (RuntimeError("out of memory"), "songgen: RuntimeError: out of memory\n"),
        (ModuleNotFoundError("No module named 'x'"), "songgen: ModuleNotFoundError: No module named 'x'\n"),
    ],
)
def test_what_a_command_throws_is_one_line_and_status_2(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def throw(argv: Any) -> int:
        raise error

    monkeypatch.setattr("songgen.commands.models.main", throw)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == message


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def throw(argv: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("songgen.commands.models.main", throw)
    assert main(["models"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_check_runs_with_its_options_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, fixed = tmp_path / "in.jsonl", tmp_path / "fixed.jsonl"
    file.write_text('{"idx": "a", "gt_lyric": "[verse] Hello\uff0c world."}\n', encoding="utf-8")
    assert main(["check", str(file), "--fix", str(fixed), "model=base"]) == 1
    assert main(["check", str(fixed), "model=base"]) == 0
    assert main(["check", str(fixed), "model=nothing"]) == 2
    assert "model 'nothing' is neither a folder nor a name" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["check", str(file), "batch=3"])
    assert "batch=3: only model=NAME can be set" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--help"], ["generate", "--help"], ["generate", "modle=x"], ["models", "--help"]]
)
def test_what_makes_no_songs_does_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys; from songgen.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_importing_songgen_does_no_work() -> None:
    code = "import sys, songgen; sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_closed_pipe_is_no_traceback() -> None:
    """`songgen models | head -1`"""
    command = f"{sys.executable} -m songgen.cli models | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and done.stdout.count("\n") == 1
