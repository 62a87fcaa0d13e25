"""Where sections are estimated to lie in a finished song."""

from __future__ import annotations

import pytest

from songgen.text_length import Span, estimate_seconds, estimate_spans

LYRICS = "[intro-short] ; [verse] One two three four five six. ; [silence] ; [chorus] One two."
"""Estimated at 5, 3, 2 and 1 s."""


def bounds(*numbers: float) -> tuple[Span, ...]:
    tags = ("intro-short", "verse", "silence", "chorus")
    return tuple(
        Span(tag, start, end) for tag, start, end in zip(tags, (0.0, *numbers), numbers, strict=False)
    )


def test_estimated_lengths_are_stretched_to_fill_the_song() -> None:
    assert estimate_seconds(LYRICS) == 11
    assert estimate_spans(LYRICS, 11.0) == bounds(5.0, 8.0, 10.0, 11.0)
    assert estimate_spans(LYRICS, 22.0) == bounds(10.0, 16.0, 20.0, 22.0)
    assert estimate_spans(LYRICS, 5.5) == bounds(2.5, 4.0, 5.0, 5.5)


def test_a_song_that_was_cut_off_lacks_its_last_sections() -> None:
    assert estimate_spans(LYRICS, 8.5, is_cut=True) == bounds(5.0, 8.0, 8.5)
    assert estimate_spans(LYRICS, 22.0, is_cut=True) == estimate_spans(LYRICS, 22.0)


@pytest.mark.parametrize("lyrics", ["", "words without any tag", "[verse]"])
def test_without_sections_there_are_no_marks(lyrics: str) -> None:
    assert estimate_spans(lyrics, 10.0) == ()


def test_what_stands_before_the_first_tag_is_no_section() -> None:
    assert estimate_spans("la la la [verse] Sing. ; [chorus]", 4.0) == (Span("verse", 0.0, 4.0),)
