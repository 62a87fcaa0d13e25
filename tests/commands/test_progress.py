"""Progress: bars on a terminal, lines elsewhere, and nothing goes back or over the end."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

import pytest

from songgen.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(**keys: Any) -> dict[str, Any]:
    return {"status": "ok", "duration": 20.0, "seconds": {"compose": 4.0, "save": 0.01}, **keys}


def test_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Progress(3, ("compose", "render"), out) as progress:
        progress.end("a", record())
        progress.end("b", None)
        progress.end("c", {"status": "failed", "error": "ValueError: no"})
    assert out.getvalue().splitlines() == [
        "[1/3] a: 20.0 s of audio (compose 4.0 s)",
        "[2/3] b: there already",
        "[3/3] c: failed: ValueError: no",
    ]


def test_a_long_song_is_heard_of_now_and_then() -> None:
    now = [0.0]
    out = io.StringIO()
    with Progress(1, ("compose",), out, clock=lambda: now[0]) as progress:
        for second in range(90):
            now[0] = float(second)
            progress("compose", "a", second / 90)
    assert out.getvalue().splitlines() == ["compose a: 33%", "compose a: 67%"]


def test_bars_end_full_whatever_was_reported() -> None:
    """Skipped and failed songs report nothing; a batch tried again starts from the beginning."""
    out = Terminal()
    with Progress(3, ("compose", "render"), out) as progress:
        progress("compose", "a", 0.5)
        progress("compose", "a", 0.25)
        progress("compose", "a", 0.75)
        progress("load", "a", 1.0)
        progress.end("a", None)
        progress.end("b", {"status": "failed", "error": "ValueError: no"})
        progress.end("c", record())
        assert {stage: round(bar.n, 6) for stage, bar in progress._bars.items()} == {
            "compose": 3, "render": 3, "songs": 3,
        }  # fmt: skip
    assert "compose" in out.getvalue() and "songs" in out.getvalue()
    assert "[2/3] b: failed: ValueError: no" in out.getvalue()  # at once, not only in the summary


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_bars_show_on_a_terminal_that_does_not_know_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run -t` and `script` give 0 rows and 0 columns; three empty lines were all that was seen."""
    master, slave = os.openpty()
    with open(slave, "w", encoding="utf-8") as out, open(master, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", out)
        with Progress(2, ("compose", "render"), out) as progress:
            progress.end("a", record())
        out.flush()
        seen = ""
        while "songs" not in seen and select.select([screen], [], [], 5)[0]:  # a read may bring a part only
            seen += screen.read(1 << 16).decode()
    assert "compose" in seen and "songs" in seen
