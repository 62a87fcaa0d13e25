"""The linter with SongBloom's rules: each trap is found where it stands, and mended without losing a word."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from songgen.linter import TextRules, apply_policy, lint_lyrics, lint_request, mend_lyrics, mend_request
from songgen.requests import SongRequest
from songgen.songbloom_form import clean_lyrics
from songgen.text_rules import Uncovered

RULES = TextRules(
    family="songbloom",
    count_lyric_tokens=lambda text: len(text.split(" ")),
    max_seconds=160.0,
    needs_prompt=True,
    reads_descriptions=False,
)
GOOD = (
    "[intro] [intro] , [verse] I love my city. Dreams pass , [chorus] up high , [inst] [inst] , [outro]",
    "[verse] 晚风中闪过. 几帧从前啊. 飞驰中旋转",
    "[intro] , [verse] 风轻轻吹过古道.岁月在墙上刻下记号 , [silence] , [bridge] I'm slow-cooked",
    "[inst] [inst] [inst]",
)


def lost(*items: tuple[str, str, int, str]) -> TextRules:
    """The rules of a model that has no phonemes for something."""
    return dataclasses.replace(RULES, uncovered=lambda text: [Uncovered(*item) for item in items])


@pytest.mark.parametrize("text", GOOD)
def test_the_published_form_has_no_findings(text: str) -> None:
    findings = lint_lyrics(text, RULES)
    assert [str(item) for item in findings if item.severity != "hint"] == []
    assert mend_lyrics(text, RULES) == text


@pytest.mark.parametrize(
    ("text", "mended", "rule", "place"),
    [
        ("[verse]up high", "[verse] up high", "separator", "section 1 [verse], column 8"),
        ("[verse] up[chorus] a", "[verse] up , [chorus] a", "separator", "section 1 [verse], column 11"),
        (
            "[intro][intro] , [verse] a",
            "[intro] [intro] , [verse] a",
            "separator",
            "section 1 [intro], column 8",
        ),
        ("[inst] , [inst]", "[inst] [inst]", "separator", "section 1 [inst], column 7"),
        ("[verse] a,[chorus] b", "[verse] a , [chorus] b", "separator", "section 1 [verse], column 10"),
        ("[verse] a\n\n[chorus]\nb", "[verse] a , [chorus] b", "separator", "section 1 [verse], column 10"),
        ("[verse] a , ", "[verse] a", "separator", "section 1 [verse], column 10"),
        ("[Verse] up", "[verse] up", "tag-spelling", "section 1 [verse], column 1"),
        ("[Verse 2] up", "[verse] up", "unknown-tag", "section 1 [verse], column 1"),
        ("[verse] a , [solo]", "[verse] a , [inst]", "unknown-tag", "section 2 [inst], column 13"),
        ("[verse] a\nb", "[verse] a. b", "line-break", "section 1 [verse], column 10"),
        ("[verse] 你好\n世界", "[verse] 你好.世界", "line-break", "section 1 [verse], column 11"),
        ("[verse] up  high", "[verse] up high", "blanks", "section 1 [verse], column 11"),
        ("[verse] up\thigh", "[verse] up high", "blanks", "section 1 [verse], column 11"),
        ("[verse] oh, no", "[verse] oh. no", "comma", "section 1 [verse], column 11"),
        ("[verse] oh , no", "[verse] oh. no", "comma", "section 1 [verse], column 11"),
        ("[verse] one; two: three", "[verse] one. two. three", "comma", "section 1 [verse], column 12"),
        ("[verse] 风，雨、雪", "[verse] 风.雨.雪", "comma", "section 1 [verse], column 10"),
        ("[verse] 让·雅克", "[verse] 让雅克", "comma", "section 1 [verse], column 10"),
        ("[verse] 让・雅克", "[verse] 让雅克", "comma", "section 1 [verse], column 10"),
        ("[verse] 1,000 ships", "[verse] 1000 ships", "comma", "section 1 [verse], column 10"),
        ("[verse] 24/7 at 10:30", "[verse] 24 7 at 10 30", "comma", "section 1 [verse], column 11"),
        ("[verse] go! now? yes…", "[verse] go. now. yes.", "sentence-marks", "section 1 [verse], column 11"),
        ("[verse] a... b .c", "[verse] a. b.c", "sentence-marks", "section 1 [verse], column 10"),
        ("[verse] . up", "[verse] up", "sentence-marks", "section 1 [verse], column 9"),
        ("[verse] 走。吧", "[verse] 走.吧", "sentence-marks", "section 1 [verse], column 10"),
        ("[verse] up. , [outro]", "[verse] up , [outro]", "final-period", "section 1 [verse], column 11"),
        ('[verse] "up" (high)', "[verse] up high", "quotation-mark", "section 1 [verse], column 9"),
        ("[verse] 《夜曲》", "[verse] 夜曲", "quotation-mark", "section 1 [verse], column 9"),
        ("[verse] don’t ‘go", "[verse] don't 'go", "apostrophe", "section 1 [verse], column 12"),
        ("[verse] up–down", "[verse] up-down", "dash", "section 1 [verse], column 11"),
        ("[verse] Ｏｈ", "[verse] Oh", "full-width-letter", "section 1 [verse], column 9"),
        ("[verse] up ♥ high", "[verse] up high", "picture", "section 1 [verse], column 11"),
        ("[verse] 你好吗 世界上", "[verse] 你好吗.世界上", "phrase-blank", "section 1 [verse], column 12"),
        ("[verse] , [outro]", None, "empty-section", "section 1 [verse], column 1"),
        ("[inst] la la", None, "instrumental-text", "section 1 [inst], column 8"),
        ("[verse] a , [chorus] .", "[verse] a , [chorus]", "no-words", "section 2 [chorus], column 22"),
        ("up high", "[verse] up high", "no-tag", "before the first tag, column 1"),
        ("up , [verse] a", None, "text-before-tag", "before the first tag, column 1"),
        ("[verse] a [foo] b", None, "unknown-tag", "section 1 [verse], column 11"),
        ("[verse] pay $5", None, "dollar", "section 1 [verse], column 13"),
    ],
)
def test_a_trap_is_found_and_mended(text: str, mended: str | None, rule: str, place: str) -> None:
    found = {item.rule: item for item in reversed(lint_lyrics(text, RULES))}
    assert rule in found, [str(item) for item in found.values()]
    assert found[rule].place == place
    assert found[rule].safe == (mended is not None)
    if mended is not None:
        assert mend_lyrics(text, RULES) == mended


def test_a_near_tag_is_suggested_and_a_far_one_lists_what_there_is() -> None:
    found = lint_lyrics("[verse] a [xinst] b , [chorus] c [foo] d", RULES)
    near, far = [item for item in found if item.rule == "unknown-tag"]
    assert "the nearest is [inst]" in near.message and near.mended == "[verse] a , [inst] b"
    assert "known: verse, chorus, bridge" in far.message and far.mended is None


def test_words_without_phonemes_are_errors_that_name_them_all() -> None:
    rules = lost(
        ("Привет", "Привет.", 9, ""),
        ("안녕", "안녕", 17, ""),
        ("%", "5%", 20, ""),
        ("を", "を", 23, "get it"),
    )
    found = [
        (item.rule, item.severity, item.column, item.message)
        for item in lint_lyrics("[verse] Привет. 안녕 5% を", rules)
    ]
    assert (
        "no-phoneme",
        "error",
        9,
        "'Привет', '안녕': no phonemes, not sung; write it in Chinese or English (2 times)",
    ) in found
    assert ("sign", "warning", 20, "'%': no phonemes, not sung; write the word") in found
    assert ("other-language", "error", 23, "'を': no phonemes, not sung; get it") in found


def test_what_another_rule_mends_is_not_reported_twice() -> None:
    rules = lost(("(", "(up)", 9, ""), ("Ｏｈ", "Ｏｈ", 14, ""), ("♥", "♥", 17, ""))
    assert {item.rule for item in lint_lyrics("[verse] (up) Ｏｈ ♥", rules)} == {
        "quotation-mark",
        "full-width-letter",
        "picture",
    }


def test_more_items_than_the_model_has_are_an_error_at_the_place() -> None:
    rules = dataclasses.replace(RULES, max_lyric_tokens=4)
    (finding,) = [item for item in lint_lyrics("[verse] a b c d e", rules) if item.severity == "error"]
    assert finding.rule == "too-many-tokens" and "6 tokens, the model reads 4" in finding.message


def test_the_length_counts_repeated_tags() -> None:
    text = f"[verse] a , {' '.join(['[inst]'] * 40)}"
    assert not [item for item in lint_lyrics(text, RULES) if item.rule == "too-long"]
    long = dataclasses.replace(RULES, tag_seconds=5.0)
    (finding,) = [item for item in lint_lyrics(text, long) if item.rule == "too-long"]
    assert "about 200 s of song" in finding.message


def test_the_other_familys_form_is_converted_and_said_so() -> None:
    levo = "[intro-short] ; [verse] Low tide, high tide. ; [foo] ; [outro-short]"
    found = lint_lyrics(levo, dataclasses.replace(RULES, tag_seconds=5.0))
    assert found[0].rule == "other-family" and found[0].safe and "written for LeVo" in found[0].message
    assert "unknown-tag" in [item.rule for item in found]
    mended = mend_lyrics(
        "[intro-short] ; [verse] Low tide, high tide. ; [outro-short]",
        dataclasses.replace(RULES, tag_seconds=5.0),
    )
    assert mended == "[intro] , [verse] Low tide. high tide , [outro]"
    back = lint_lyrics(mended, TextRules())
    assert back[0].rule == "other-family" and "written for SongBloom" in back[0].message
    assert mend_lyrics(mended, TextRules()) == "[intro-short] ; [verse] Low tide. high tide. ; [outro-short]"


def test_a_request_without_prompt_and_with_descriptions() -> None:
    request = SongRequest("a", "[Verse] up", descriptions="pop,,rock")
    found = {item.rule: item for item in lint_request(request, RULES)}
    assert found["no-prompt"].place == "prompt" and found["no-prompt"].severity == "warning"
    assert str(found["descriptions-not-read"]).startswith("descriptions, column 1: hint: this model takes no")
    assert mend_request(request, RULES).descriptions == "pop,,rock"
    given = dataclasses.replace(request, prompt_audio_path="p.wav", descriptions=None)
    assert [item.rule for item in lint_request(given, RULES)] == ["tag-spelling"]


def test_strict_refuses_and_fix_mends() -> None:
    request = SongRequest("a", "[Verse] up", prompt_audio_path="p.wav")
    with pytest.raises(
        ValueError, match=r"lyrics=strict refuses .*\[Verse\] is none of the model's seven tags"
    ):
        apply_policy(request, RULES, "strict")
    assert apply_policy(request, RULES, "fix")[0].lyrics == "[verse] up"
    assert apply_policy(request, RULES, "asis")[0].lyrics == "[Verse] up"


@pytest.mark.parametrize(
    "text",
    [
        "[intro] [intro] [intro] , [verse] 你好，世界！ 再见 , [outro]",
        "[verse]a[chorus]b[inst][inst][outro]",
        "[VERSE] Up , [CHORUS] down , [inst] , [inst]",
        "[verse] a... b , [intro] , [verse] c.",
        "[verse] hello, world! how are you , [chorus] yes",
    ],
)
def test_where_the_publishers_cleaning_is_right_mending_is_the_same(text: str) -> None:
    assert mend_lyrics(text, RULES) == clean_lyrics(text)


PIECES = (
    *(
        "[verse]",
        "[Chorus]",
        "[inst]",
        "[intro-short]",
        "[foo]",
        "up",
        "don't",
        "你好",
        "1,000",
        ",",
        ".",
        ";",
    ),
    *("!", " ", "  ", "\n", "(", '"', "/", "…", "♥", "$", "-"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_mending_ends_keeps_words_and_leaves_nothing_safe(text: str) -> None:
    mended = mend_lyrics(text, RULES)
    assert mend_lyrics(mended, RULES) == mended
    assert [str(item) for item in lint_lyrics(mended, RULES) if item.safe] == []
    for word in ("up", "don't", "你好"):
        assert mended.count(word) == re.sub(r"\[[^\[\]]*\]", "", text).count(word)


def test_music_without_words_is_not_sent_to_bgm() -> None:
    (finding,) = lint_lyrics("[inst] [inst]", RULES)
    assert (finding.severity, finding.message) == ("hint", "there is nothing to sing")


def test_a_period_behind_a_phoneme_that_is_given_directly_stays_apart() -> None:
    """It was glued to the phoneme, which then was read as a word."""
    text = "[verse] HH AH0 L OW1 . W ER1 L D . n i3 h ao3 . go , [outro]"
    assert not [item for item in lint_lyrics(text, RULES) if item.rule == "sentence-marks"]
    assert mend_lyrics(text, RULES) == text
