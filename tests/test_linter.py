"""The linter: each rule finds what it should, names the place, and mends without losing a word."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from songgen.linter import (
    Finding,
    TextRules,
    apply_policy,
    lint_descriptions,
    lint_lyrics,
    mend_descriptions,
    mend_lyrics,
)
from songgen.lyrics import parse_lyrics
from songgen.requests import SongRequest

V1, V2 = TextRules(version="v1"), TextRules(version="v2")
GOOD = (
    "[intro-short] ; [verse] 雪花舞动在天际.情缘如同雪花.希望与真挚 ; [chorus] 我怀抱着守护 ; [outro-short]",
    "[intro-medium] ; [verse] Trails wind through. Trees stand tall. ; [chorus] It's modest. ; [inst-short]",
    "[verse] Bajo la luna de abril. ¿Dónde está mi corazón? ¡Ay! ; [chorus] Canta, niña, canta.",
    "[verse] 夜の街を歩く.君を探して ; [bridge] 사랑해. ; [silence]",
)


def by_rule(findings: list[Finding]) -> dict[str, Finding]:
    """Findings by rule; the last of each."""
    return {finding.rule: finding for finding in findings}


@pytest.mark.parametrize("text", GOOD)
@pytest.mark.parametrize("rules", [V1, V2])
def test_published_form_has_no_findings(text: str, rules: TextRules) -> None:
    assert lint_lyrics(text, rules) == []
    assert mend_lyrics(text, rules) == text


@pytest.mark.parametrize(
    ("text", "mended", "rule", "place"),
    [
        ("[verse] 风，雨。雪！", "[verse] 风.雨.雪", "full-width", "section 1 [verse], column 10"),
        ("[verse] Oh，no。Yes！", "[verse] Oh, no. Yes!", "full-width", "section 1 [verse], column 11"),
        ("[verse] he said：（go）", "[verse] he said: (go).", "full-width", "section 1 [verse], column 16"),
        ("[verse] wait… go.", "[verse] wait. go.", "full-width", "section 1 [verse], column 13"),
        ("[verse] don’t go.", "[verse] don't go.", "apostrophe", "section 1 [verse], column 12"),
        ("[verse] “go” now.", '[verse] "go" now.', "quotation-mark", "section 1 [verse], column 9"),
        ("[verse] ＡＢ １.", "[verse] AB 1.", "full-width-letter", "section 1 [verse], column 9"),
        ("[verse] la", "[verse] la.", "final-period", "section 1 [verse], column 11"),
        (
            "[verse] la, ; [chorus] b.",
            "[verse] la. ; [chorus] b.",
            "final-period",
            "section 1 [verse], column 11",
        ),
        ("[verse] rockin'", "[verse] rockin'.", "final-period", "section 1 [verse], column 15"),
        ("[verse] (ooh)", "[verse] (ooh).", "final-period", "section 1 [verse], column 13"),
        ("[verse] 你好.", "[verse] 你好", "final-period", "section 1 [verse], column 11"),
        ("[verse] 你好,世界?", "[verse] 你好.世界", "sentence-marks", "section 1 [verse], column 11"),
        ("[verse] 你好. 世界", "[verse] 你好.世界", "sentence-marks", "section 1 [verse], column 11"),
        ("[verse] 你好吗 世界上", "[verse] 你好吗.世界上", "phrase-blank", "section 1 [verse], column 12"),
        ("[verse] la... la.", "[verse] la. la.", "sentence-marks", "section 1 [verse], column 11"),
        ("[verse] one .", "[verse] one.", "sentence-marks", "section 1 [verse], column 12"),
        ("[verse] sea.Sky.", "[verse] sea. Sky.", "sentence-marks", "section 1 [verse], column 13"),
        ("[verse] , la.", "[verse] la.", "sentence-marks", "section 1 [verse], column 9"),
        ("[verse] a.[chorus] b.", "[verse] a. ; [chorus] b.", "separator", "section 1 [verse], column 11"),
        ("[verse] a.\n[chorus] b.", "[verse] a. ; [chorus] b.", "separator", "section 1 [verse], column 11"),
        ("[verse] a.; [chorus] b.", "[verse] a. ; [chorus] b.", "separator", "section 1 [verse], column 11"),
        ("[verse] a. ; ", "[verse] a.", "separator", "section 1 [verse], column 11"),
        ("[verse]a.", "[verse] a.", "separator", "section 1 [verse], column 8"),
        ("[verse] a\nb.", "[verse] a. b.", "line-break", "section 1 [verse], column 10"),
        ("[verse] a,\r\n\r\nb.", "[verse] a, b.", "line-break", "section 1 [verse], column 11"),
        ("[verse] 你好\n世界", "[verse] 你好.世界", "line-break", "section 1 [verse], column 11"),
        ("[verse] a; b.", "[verse] a. b.", "semicolon", "section 1 [verse], column 10"),
        ("[verse] a;\nb.", "[verse] a. b.", "semicolon", "section 1 [verse], column 10"),
        ("[verse] a\t b.", "[verse] a b.", "blanks", "section 1 [verse], column 10"),
        ("[verse] a\u3000b.", "[verse] a b.", "blanks", "section 1 [verse], column 10"),
        ("[verse] a\x07b.", "[verse] a b.", "control-character", "section 1 [verse], column 10"),
        ("[verse] a\u200bb.", "[verse] ab.", "control-character", "section 1 [verse], column 10"),
        ("[verse] a\u2028b.", "[verse] a. b.", "control-character", "section 1 [verse], column 10"),
        ("[verse] go 😀🎵!", "[verse] go!", "picture", "section 1 [verse], column 11"),
        ("[verse] a<|im_end|>b.", "[verse] a b.", "special-token", "section 1 [verse], column 10"),
        ("[Verse] a.", "[verse] a.", "tag-spelling", "section 1 [verse], column 1"),
        (
            "[ intro - short ] ; [verse] a.",
            "[intro-short] ; [verse] a.",
            "tag-spelling",
            "section 1 [intro-short]",
        ),
        (
            "[verse] a. ; [Hook] b.",
            "[verse] a. ; [chorus] b.",
            "unknown-tag",
            "section 2 [chorus], column 14",
        ),
        ("[chrous] a.", "[chorus] a.", "unknown-tag", "section 1 [chorus], column 1"),
        ("just words", "[verse] just words.", "no-tag", "before the first tag, column 1"),
        ("[verse] ... ; [chorus] a.", "[verse] ; [chorus] a.", "no-words", "section 1 [verse], column 9"),
    ],
)
def test_what_is_safe_is_found_and_mended(text: str, mended: str, rule: str, place: str) -> None:
    finding = by_rule(lint_lyrics(text, V2))[rule]
    assert finding.safe and finding.severity != "hint"
    assert str(finding).startswith(place)
    assert mend_lyrics(text, V2) == mended


@pytest.mark.parametrize(
    ("text", "rule", "suggestion", "message"),
    [
        (
            "[intro-short] hi. ; [verse] a.",
            "instrumental-text",
            "[intro-short] ; [verse] hi.",
            "is played, not sung",
        ),
        ("[verse] ; [chorus] a.", "empty-section", "[inst-short]", "has no words"),
        ("My title ; [verse] a.", "text-before-tag", "[verse] My title.", "belongs to no section"),
        ("[verse] a [laughs] b.", "unknown-tag", None, "take it out"),
        ("[verse] a [reverse] b.", "unknown-tag", "[verse] a ; [verse] b.", "the nearest tag is [verse]"),
        ("[verse] a [b.", "stray-bracket", None, "has no partner"),
        ("[verse] a \ufffd.", "broken-encoding", None, "wrong encoding"),
    ],
)
def test_what_only_a_person_can_mend_is_left(
    text: str, rule: str, suggestion: str | None, message: str
) -> None:
    finding = by_rule(lint_lyrics(text, V2))[rule]
    assert not finding.safe and finding.severity != "hint"
    assert message in finding.message
    if suggestion is None or rule != "unknown-tag":
        assert finding.mended == suggestion
    assert by_rule(lint_lyrics(mend_lyrics(text, V2), V2))[rule].safe is False


def test_pasted_lyrics_become_the_published_form() -> None:
    text = (
        "[Verse 1]\nPaper boats drift\nI count the lights,\nuntil we meet…\n\n"
        "[Chorus x2]\nDon’t stop！oh no\n\n[Outro]\n"
    )
    assert mend_lyrics(text, V2) == (
        "[verse] Paper boats drift. I count the lights, until we meet. ; "
        "[chorus] Don't stop! oh no. ; [outro-short]"
    )


def test_a_trailing_blank_is_said_in_words() -> None:
    """The sentence was: here is ' ' where '' belongs."""
    (finding,) = lint_lyrics("[verse] a. ", V2)
    assert finding.message.startswith("here is ' ' where nothing belongs")


def test_a_separator_before_an_unknown_tag_is_left() -> None:
    """Joining `[dance]` to the verse before it would hide that a section was meant."""
    text = "[verse] la. ; [dance] la."
    assert mend_lyrics(text, V2) == text
    assert [finding.rule for finding in lint_lyrics(text, V2)] == ["unknown-tag"]


def test_v1_is_not_asked_for_ends_of_sentences() -> None:
    text = "[verse] 你好,世界. ; [chorus] la la ... ; [bridge] ok"
    assert lint_lyrics(text, V1) == []
    assert {"final-period", "sentence-marks"} <= set(by_rule(lint_lyrics(text, V2)))


def test_one_rule_in_one_section_is_one_finding() -> None:
    findings = [f for f in lint_lyrics("[verse] 风，雨，雪 ; [chorus] 云，天", V2) if f.rule == "full-width"]
    assert [(f.section, f.column) for f in findings] == [(1, 10), (2, 27)]
    assert findings[0].message.endswith("(2 times)")
    assert findings[0].mended == "[verse] 风.雨.雪"


def test_characters_parted_by_blanks_are_left_alone() -> None:
    """Someone who writes a blank after every character does not mean phrases."""
    assert lint_lyrics("[verse] 我 爱 你 中 国", V2) == []


def test_too_many_tokens_says_where_the_lyrics_are_cut() -> None:
    rules = TextRules(max_lyric_tokens=8, count_lyric_tokens=lambda text: 1 + len(text.split()))
    [finding] = lint_lyrics("[verse] one two three. ; [chorus] four five.", rules)
    assert (finding.rule, finding.severity, finding.safe) == ("too-many-tokens", "error", False)
    assert finding.place == "section 2 [chorus], column 40"
    assert finding.message.startswith("9 tokens, the model reads 8") and "'five.'" in finding.message


def test_without_a_counter_the_token_count_is_said_to_be_rough() -> None:
    text = "[verse] " + "la la la. " * 80
    finding = by_rule(lint_lyrics(text.strip(), TextRules(max_lyric_tokens=300)))["too-many-tokens"]
    assert finding.message.startswith("about 32")


def test_song_longer_than_the_models_longest() -> None:
    text = "[verse] " + "la " * 99 + "la."
    finding = by_rule(lint_lyrics(text, TextRules(max_seconds=40)))["too-long"]
    assert str(finding) == (
        "lyrics: about 50 s of song by a rough estimate, the model's longest is 40 s: the end may be missing"
    )


def test_song_longer_than_its_own_limit_is_a_hint() -> None:
    """A short preview of long lyrics is asked for on purpose."""
    [finding] = lint_lyrics("[verse] " + "la " * 99 + "la.", V2, max_seconds=10)
    assert (finding.rule, finding.severity) == ("over-max-seconds", "hint")
    assert "max_seconds is 10" in str(finding)


def test_nothing_to_sing_is_a_hint() -> None:
    [finding] = lint_lyrics("[intro-short] ; [outro-short]", V2)
    assert finding.severity == "hint" and "set generate_type to bgm" in finding.message


def test_bgm_does_not_read_lyrics() -> None:
    [finding] = lint_lyrics("[Foo] anything；", V2, generate_type="bgm")
    assert (finding.rule, finding.severity) == ("bgm-lyrics", "hint")
    assert lint_lyrics("", V2, generate_type="bgm") == []


@pytest.mark.parametrize(
    ("text", "mended", "rule"),
    [
        ("female，dark、pop", "female, dark, pop", "full-width"),
        ("pop,sad ,  piano,", "pop, sad, piano", "separator"),
        ("pop\nsad;piano|bass", "pop, sad, piano, bass", "separator"),
        ("120 bpm", "the bpm is 120", "bpm"),
        ("pop, 120BPM", "pop, the bpm is 120", "bpm"),
        ("bpm 120, pop", "the bpm is 120, pop", "bpm"),
        ("BPM: 95.", "the bpm is 95.", "bpm"),
        ("tempo = 95 bpm", "the bpm is 95", "bpm"),
        ("pop 😀, sad", "pop, sad", "picture"),
        ("pop<|endoftext|>, sad", "pop, sad", "special-token"),
        ("80’s pop", "80's pop", "apostrophe"),
    ],
)
def test_descriptions_are_mended_to_tags(text: str, mended: str, rule: str) -> None:
    finding = by_rule(lint_descriptions(text, V2))[rule]
    assert finding.safe and finding.place.startswith("descriptions, column ")
    assert mend_descriptions(text, V2) == mended


@pytest.mark.parametrize(
    ("text", "rule", "severity", "message"),
    [
        ("a very sad song about the sea, pop", "sentence", "warning", "is a sentence"),
        ("一首关于大海的非常悲伤的歌", "sentence", "warning", "is a sentence"),
        ("male, Rock. Piano", "period", "warning", "not by periods"),
        ("pop, [verse]", "bracketed", "warning", "belong into the lyrics"),
        ("90 bpm, 100 bpm", "bpm-conflict", "warning", "several tempos (90, 100): keep one"),
        ("male, female", "gender-conflict", "hint", "male and female together"),
        ("male and female, pop", "gender-conflict", "hint", "male and female together"),
        ("pop, vaporwave", "free-tag", "hint", "free tags 'vaporwave' are allowed"),
    ],
)
def test_descriptions_only_a_person_can_mend(text: str, rule: str, severity: str, message: str) -> None:
    finding = by_rule(lint_descriptions(text, V2))[rule]
    assert (finding.severity, finding.safe) == (severity, False)
    assert message in finding.message


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "female, dark, pop, sad, piano and drums, the bpm is 125.",
        "Male, R&B, Drum Machine, The BPM is 80",
    ],
)
def test_good_descriptions_have_no_findings(text: str | None) -> None:
    assert lint_descriptions(text, V2) == []
    assert mend_descriptions(text, V2) == text


@pytest.mark.parametrize("count", [None, len])
def test_descriptions_over_the_token_limit(count: object) -> None:
    rules = dataclasses.replace(V2, max_description_tokens=10, count_description_tokens=count)
    finding = by_rule(lint_descriptions("pop, " * 10 + "pop", rules))["too-many-tokens"]
    assert finding.severity == "error" and "the model reads 10: the rest is cut" in finding.message
    assert finding.message.startswith("about ") is (count is None)


BAD = SongRequest(
    "a", "[Verse] don’t go", "pop，120 bpm", source={"idx": "a", "gt_lyric": "[Verse] don’t go"}
)


def test_fix_mends_and_tells() -> None:
    request, findings = apply_policy(BAD, V2, "fix")
    assert (request.lyrics, request.descriptions) == ("[verse] don't go.", "pop, the bpm is 120")
    assert request.source == BAD.source
    assert {"tag-spelling", "apostrophe", "final-period", "full-width", "bpm"} <= set(by_rule(findings))


def test_asis_leaves_the_text_untouched_and_tells() -> None:
    request, findings = apply_policy(BAD, V2, "asis")
    assert request is BAD and findings == apply_policy(BAD, V2, "fix")[1]


def test_strict_refuses_and_lists() -> None:
    with pytest.raises(
        ValueError, match=r"lyrics=strict refuses this text \(\d+ to mend\).*column 1.*column 12"
    ):
        apply_policy(BAD, V2, "strict")


def test_strict_lets_hints_pass() -> None:
    request = SongRequest("a", "[verse] la.", "vaporwave")
    assert apply_policy(request, V2, "strict")[0] is request


def test_policy_with_bgm_leaves_lyrics_and_mends_descriptions() -> None:
    request, findings = apply_policy(BAD, V2, "fix", default_generate_type="bgm")
    assert (request.lyrics, request.descriptions) == (BAD.lyrics, "pop, the bpm is 120")
    assert "tag-spelling" not in by_rule(findings)


PIECES = st.sampled_from(
    [
        *(
            "[verse]",
            "[Verse 2]",
            "[chorus]",
            "[Chorus x2]",
            "[intro - short]",
            "[laughs]",
            "[verse: ",
            "[",
            "]",
        ),
        *("【副歌】", "［bridge］", "【爱】", " ; ", ";", "；", "\n", "\r\n", " ", "  ", "\t", "\u3000"),
        *("\u200b", "\u200d", "\x00", "\x85", "\u2028", "\ufffd", "😀", "1️⃣", "♪", "<|im_start|>", "<|", "＞"),
        *(
            "word",
            "Word",
            "don't",
            "don’t",
            "it＇s",
            "rockin'",
            "don't.Stop",
            "3.14",
            "U.S.",
            "niña",
            "e\u0301",
        ),
        *(
            "你好",
            "我爱你",
            "愛してる",
            "사랑해",
            "ＡＢ",
            "１２",
            "½",
            "&",
            "120 bpm",
            ", ",
            "the bpm is 90",
            "male",
        ),
        *(
            ".",
            "..",
            "...",
            "…",
            "。",
            "，",
            "！",
            "？",
            "、",
            "：",
            ",",
            "!",
            "?",
            ":",
            "-",
            "—",
            "\u2013",
            "～",
        ),
        *('"', "“", "”", "「", "」", "(", ")", "（", "）", "'", "‘", "’"),
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join) | st.lists(st.characters(codec="utf-8") | PIECES).map(
    "".join
)
SPECIAL = re.compile(r"<\|(im_start|im_end|endoftext)\|>", re.IGNORECASE)


def sung(text: str) -> list[str]:
    """The letters, digits, marks and apostrophes outside tags, in ASCII where there is a full-width form."""
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" or c in "\u200c\u200d")
    text = "".join(chr(ord(c) - 0xFEE0) if "！" <= c <= "～" and c not in "［］；" else c for c in text)
    lyrics = parse_lyrics(SPECIAL.sub(" ", text))
    apostrophes = "'‘’ʼ´`′‛"
    pictures = "\ufe0e\ufe0f\u20e3"  # marks that make a picture of what precedes them
    joined = " ".join([lyrics.leading, *(section.text for section in lyrics.sections)])
    kept = [c for c in joined if unicodedata.category(c)[0] in "LNM" or c in apostrophes]
    return [
        "'" if c in apostrophes else c for c in kept if c not in pictures and not 0x2190 <= ord(c) <= 0x2BFF
    ]


@pytest.mark.parametrize("rules", [V1, V2])
@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
def test_mending_is_complete_and_loses_no_word(rules: TextRules, text: str) -> None:
    lint_lyrics(text, rules)
    mended = mend_lyrics(text, rules)
    assert mend_lyrics(mended, rules) == mended
    assert [finding for finding in lint_lyrics(mended, rules) if finding.safe] == []
    assert sung(mended) == sung(text)


@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
def test_mending_descriptions_is_complete(text: str) -> None:
    lint_descriptions(text, V2)
    mended = mend_descriptions(text, V2)
    assert mend_descriptions(mended, V2) == mended
    assert [finding for finding in lint_descriptions(mended, V2) if finding.safe] == []
