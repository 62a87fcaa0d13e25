"""Parsing and writing lyrics: the tags, their spellings, and the exact published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from songgen.lyrics import (
    SECTION_TAGS,
    Lyrics,
    Section,
    format_lyrics,
    nearest_tag,
    parse_lyrics,
    resolve_tag,
)
from songgen.text_length import estimate_seconds, estimate_tokens, is_unspaced

PUBLISHED = (
    "[intro-short] ; [verse] 雪花舞动在无尽的天际.情缘如同雪花般逝去 ; [chorus] 我怀抱着守护 ; [outro-short]",
    "[intro-medium] ; [verse] Trails wind through. Trees stand. ; [chorus] Is the moss. ; [outro-medium]",
)


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_form_is_written_back_to_the_letter(text: str) -> None:
    assert format_lyrics(parse_lyrics(text)) == text


def test_sections_have_tag_text_and_column() -> None:
    lyrics = parse_lyrics("[intro-short] ; [verse] one. two. ;[chorus]three")
    assert lyrics.sections == (
        Section("intro-short"),
        Section("verse", "one. two."),
        Section("chorus", "three"),
    )
    assert [section.column for section in lyrics.sections] == [1, 17, 36]
    assert lyrics.leading == ""


def test_tags_are_the_thirteen_of_the_published_vocabulary_in_its_order(parity_root: Path) -> None:
    """The order decides the structure rows, so it must be the published one."""
    expected = json.loads((parity_root / "levo/tokenization/expected.json").read_text(encoding="utf-8"))
    published = expected["added_tokens"]
    flat = json.dumps(published)
    positions = [flat.index(f"[{tag}]") for tag in SECTION_TAGS]
    assert len(SECTION_TAGS) == 13 and positions == sorted(positions)


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        ("Verse", "verse"),
        (" CHORUS ", "chorus"),
        ("intro - short", "intro-short"),
        ("INTRO_SHORT", "intro-short"),
        ("outro medium", "outro-medium"),
        ("instlong", "inst-long"),
        ("ｖｅｒｓｅ", "verse"),
        ("Verse 2", "verse"),
        ("verse#12", "verse"),
        ("Verse 1: Ann", "verse"),
        ("Chorus x2", "chorus"),
        ("Chorus (all)", "chorus"),
        ("Pre-Chorus", "verse"),
        ("Hook", "chorus"),
        ("Intro", "intro-short"),
        ("Guitar Solo", "inst-short"),
        ("副歌", "chorus"),
        ("主歌2", "verse"),
        ("chrous", "chorus"),
        ("intro-medum", "intro-medium"),
    ],
)
def test_spellings_of_tags_are_forgiven(written: str, tag: str) -> None:
    assert parse_lyrics(f"[{written}] la").sections == (Section(tag, "la"),)


@pytest.mark.parametrize(
    "written", ["laughs", "x2", "reverse", "verse hello world", "break my heart", "", " "]
)
def test_brackets_that_are_no_tag_stay_words(written: str) -> None:
    """A word of the lyrics in brackets must not vanish as a section's name."""
    assert resolve_tag(written) is None
    assert parse_lyrics(f"[verse] la [{written}] la").sections == (Section("verse", f"la [{written}] la"),)


def test_nearest_tag_suggests_only_what_is_near() -> None:
    assert nearest_tag("reverse") == "verse"
    assert nearest_tag("laughs") is None


def test_wide_brackets_count_where_they_hold_a_tag() -> None:
    assert parse_lyrics("【副歌】愛［bridge］b【心】").sections == (
        Section("chorus", "愛"),
        Section("bridge", "b【心】"),
    )


def test_text_before_the_first_tag_is_leading() -> None:
    lyrics = parse_lyrics(" Title\n[verse] la")
    assert lyrics == Lyrics((Section("verse", "la"),), "Title")
    assert lyrics.text == "Title ; [verse] la"


@given(
    st.text()
    | st.lists(st.sampled_from(["[Verse]", "[x]", "[", "]", ";", "；", " ", "\n", "a", "。"])).map("".join)
)
def test_parsing_what_was_written_gives_the_same(text: str) -> None:
    lyrics = parse_lyrics(text)
    assert parse_lyrics(lyrics.text) == lyrics


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="[]【】［］;；"), max_size=20).map(str.strip)


@given(st.lists(st.builds(Section, st.sampled_from(SECTION_TAGS), _TEXT)))
def test_writing_and_parsing_sections_gives_the_same(sections: list[Section]) -> None:
    lyrics = Lyrics(tuple(sections))
    assert parse_lyrics(format_lyrics(lyrics)) == lyrics


def test_token_estimate_is_near_the_published_tokenizer(parity_root: Path) -> None:
    """The estimate must be within a fifth of the true count on ordinary lyrics, or its warning misleads."""
    cases = json.loads((parity_root / "levo/tokenization/expected.json").read_text(encoding="utf-8"))[
        "lyrics"
    ]
    for case in (*cases[:6], cases[21]):
        assert estimate_tokens(case["text"]) == pytest.approx(len(case["v2"]), rel=0.2), case["text"][:40]


def test_seconds_grow_with_words_and_instrumental_sections() -> None:
    assert estimate_seconds("[verse] one two three four") == 2.0
    assert estimate_seconds("[verse] 一二三四五六") == 2.0
    assert estimate_seconds("[intro-short] ; [inst-medium] ; [outro-long] ; [silence]") == 5 + 12 + 22 + 2


@pytest.mark.parametrize(
    ("text", "unspaced"),
    [
        ("我爱你 baby", True),
        ("hello 你", False),
        ("夜の街", True),
        ("사랑해", False),
        ("", False),
        ("niña", False),
    ],
)
def test_language_of_a_section(text: str, unspaced: bool) -> None:
    assert is_unspaced(text) is unspaced
