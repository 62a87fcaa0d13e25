"""SongBloom's lyric string: read, written, told from LeVo's, turned into it, and the publisher's cleaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from songgen.lyrics import Lyrics, Section, parse_lyrics, tag_for
from songgen.songbloom_form import (
    clean_lyrics,
    find_tags,
    is_levo_form,
    is_songbloom_form,
    levo_to_songbloom,
    parse_songbloom,
    scan_songbloom,
    songbloom_text,
    songbloom_to_levo,
)
from songgen.text_length import estimate_seconds

CLEANED = Path(__file__).parent / "golden" / "songbloom" / "text" / "clean_lyrics.json"
SONG = Lyrics(
    (
        Section("intro-medium", seconds=10.0),
        Section("verse", "Up the hill. Down the road"),
        Section("inst-short", seconds=5.0),
        Section("chorus", "你好.世界"),
        Section("silence"),
    )
)


def test_one_song_is_written_for_either_family() -> None:
    by_second = songbloom_text(SONG, 1.0)
    assert by_second == (
        f"{' '.join(['[intro]'] * 10)} , [verse] Up the hill. Down the road , "
        f"{' '.join(['[inst]'] * 5)} , [chorus] 你好.世界 , [silence] [silence]"
    )
    assert songbloom_text(SONG, 5.0) == (
        "[intro] [intro] , [verse] Up the hill. Down the road , [inst] , [chorus] 你好.世界 , [silence]"
    )
    assert SONG.text == (
        "[intro-medium] ; [verse] Up the hill. Down the road ; [inst-short] ; [chorus] 你好.世界 ; [silence]"
    )


def test_repeated_tags_are_read_as_seconds() -> None:
    text = f"{' '.join(['[intro]'] * 3)} , [verse] a. b , {' '.join(['[inst]'] * 5)} , [outro]"
    parsed = parse_songbloom(text, 5.0)
    assert [(item.tag, item.seconds, item.text) for item in parsed.sections] == [
        ("intro-medium", 15.0, ""),
        ("verse", None, "a. b"),
        ("inst-long", 25.0, ""),
        ("outro-short", 5.0, ""),
    ]
    assert [item.column for item in parsed.sections] == [1, 27, 42, 79]
    assert songbloom_text(parsed, 5.0) == text
    assert songbloom_to_levo(text, 5.0) == "[intro-medium] ; [verse] a. b ; [inst-long] ; [outro-short]"


def test_levo_lengths_become_as_many_tags() -> None:
    text = "[intro-short] ; [verse] Low tide. ; [inst-medium] ; [outro-long]"
    assert levo_to_songbloom(text, 5.0) == (
        "[intro] , [verse] Low tide. , [inst] [inst] , [outro] [outro] [outro] [outro]"
    )
    assert levo_to_songbloom(text, 1.0).count("[inst]") == 12


@pytest.mark.parametrize(
    ("text", "levo", "songbloom"),
    [
        ("[verse] a ; [chorus] b", True, False),
        ("[intro-short] , [verse] a", True, False),
        ("[verse] a , [chorus] b", False, True),
        ("[intro] [intro] [intro]", False, True),
        ("[intro] [intro] ; [verse] a", True, False),
        ("[verse] a, b [chorus] c", False, False),
        ("[verse] Hello, [chorus] b", False, False),
        ("[verse] a", False, False),
        ("", False, False),
    ],
)
def test_the_forms_are_told_apart(text: str, levo: bool, songbloom: bool) -> None:
    assert (is_levo_form(text), is_songbloom_form(text)) == (levo, songbloom)


def test_tags_are_found_in_every_spelling() -> None:
    found = [
        (tag.role, tag.spelling) for tag in find_tags("[intro][Chorus][Verse 2] x [solo] [intro-long] [foo]")
    ]
    assert found == [
        ("intro", "exact"),
        ("chorus", "spacing"),
        ("verse", "other name"),
        ("inst", "other name"),
        ("intro", "spacing"),
    ]


def test_blocks_hold_words_without_separators() -> None:
    text = "so , [intro] [intro],[verse] a b , [verse] , [inst]"
    blocks = [(item.number, item.tag, text[item.text_start : item.text_end]) for item in scan_songbloom(text)]
    assert blocks == [
        (0, None, "so"),
        (1, "intro", ""),
        (2, "verse", "a b"),
        (3, "verse", ""),
        (4, "inst", ""),
    ]


def test_text_before_the_first_tag_is_kept() -> None:
    assert songbloom_text(parse_songbloom("la la , [verse] a")) == "la la , [verse] a"
    assert songbloom_to_levo("la la , [verse] a") == "la la ; [verse] a"


@pytest.mark.parametrize(
    ("role", "seconds", "tag"),
    [
        ("intro", 0.5, "intro-short"),
        ("intro", 10, "intro-short"),
        ("outro", 10.5, "outro-medium"),
        ("inst", 20, "inst-medium"),
        ("inst", 21, "inst-long"),
        ("silence", 9, "silence"),
        ("bridge", 9, "bridge"),
    ],
)
def test_a_length_in_seconds_has_a_tag(role: str, seconds: float, tag: str) -> None:
    assert tag_for(role, seconds) == tag


def test_seconds_of_a_section_count_before_its_tag() -> None:
    assert Section("intro-long").length == 22.0 and Section("intro-long", seconds=40.0).length == 40.0
    assert Section("verse", "a").length == 0.0 and Section("silence").length == 2.0
    assert (
        estimate_seconds(Lyrics((Section("intro-long", seconds=40.0), Section("verse", "one two")))) == 41.0
    )
    assert estimate_seconds("[intro-long] ; [verse] one two") == 23.0
    assert parse_lyrics("[intro-long]").sections[0].role == "intro"


@pytest.mark.parametrize("case", json.loads(CLEANED.read_text("utf-8")), ids=lambda case: case["input"][:20])
def test_the_publishers_cleaning_is_as_recorded(case: dict[str, str]) -> None:
    assert clean_lyrics(case["input"]) == case["output"]


WORDS = st.lists(st.sampled_from(["up", "down", "夢", "don't", "a."]), min_size=1, max_size=3).map(" ".join)
SUNG = st.tuples(st.sampled_from(["verse", "chorus", "bridge"]), WORDS).map(lambda x: Section(x[0], x[1]))
PLAYED = st.tuples(st.sampled_from(["intro", "outro", "inst"]), st.integers(1, 30)).map(
    lambda x: Section(tag_for(x[0], float(x[1])), seconds=float(x[1]))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SUNG | PLAYED, min_size=1, max_size=6))
def test_what_is_written_is_read_back(sections: list[Section]) -> None:
    kept = [sections[0]]
    for section in sections[1:]:  # two equal sections without words are one
        if section.role != kept[-1].role or section.text:
            kept.append(section)
    assert parse_songbloom(songbloom_text(Lyrics(tuple(kept)))).sections == tuple(kept)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="[]verschouintVERSE ,;.\n夢a1-", max_size=60))
def test_no_string_breaks_reading_and_cleaning(text: str) -> None:
    once = songbloom_text(parse_songbloom(text))
    assert isinstance(clean_lyrics(text), str)
    assert parse_songbloom(once).sections == parse_songbloom(songbloom_text(parse_songbloom(once))).sections
