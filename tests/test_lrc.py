"""LRC: which lines a lyric string has, and the text of the file."""

from __future__ import annotations

import re

import pytest

from songgen.lrc import TimedLine, encode_lrc, lyric_lines


def parsed(data: bytes) -> tuple[dict[str, str], list[tuple[float, str]]]:
    """An LRC file read by its published grammar: tags, and (seconds, words)."""
    tags, lines = {}, []
    for line in data.decode("utf-8").splitlines():
        timed = re.fullmatch(r"\[(\d{2,}):(\d\d)\.(\d\d)\](.*)", line)
        if timed:
            minutes, seconds, hundredths, words = timed.groups()
            lines.append((int(minutes) * 60 + int(seconds) + int(hundredths) / 100, words))
        else:
            tag = re.fullmatch(r"\[(\w+):(.*)\]", line)
            assert tag, line
            tags[tag[1]] = tag[2]
    return tags, lines


def test_a_file_reads_back() -> None:
    lines = [
        TimedLine(0.0, "[verse]", True),
        TimedLine(7.05, "A line."),
        TimedLine(59.999, "\u591c\u7684\u98ce"),
        TimedLine(6000.5, "late"),
    ]
    tags, found = parsed(encode_lrc(lines, title="one", seconds=6001.25))
    assert tags == {"ti": "one", "by": "songgen", "length": "100:01.25"}
    assert found == [(0.0, "[verse]"), (7.05, "A line."), (60.0, "\u591c\u7684\u98ce"), (6000.5, "late")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[intro-short] ; [verse] Hi there. It\'s 3.5 miles! "Wow." he ; [chorus] b',
            ["[intro-short]", "[verse]", "Hi there.", "It's 3.5 miles!", '"Wow."', "he", "[chorus]", "b"],
        ),
        ("[verse] \u591c\u98ce.\u518d\u89c1", ["[verse]", "\u591c\u98ce.", "\u518d\u89c1"]),
        ("before. [Hook] a\nb", ["before.", "[chorus]", "a", "b"]),
        ("[verse] a... b? ; [silence]", ["[verse]", "a...", "b?", "[silence]"]),
        ("", []),
    ],
)
def test_lines(text: str, expected: list[str]) -> None:
    lines = lyric_lines(text)
    assert [line.text for line in lines] == expected
    assert [line.is_section for line in lines] == [words.startswith("[") for words in expected]
    for line, following in zip(lines, [*lines[1:], None], strict=False):
        assert text[line.start : line.end].strip() == line.text or line.is_section
        assert following is None or line.end <= following.start
