"""The language rule: letters that a model was never taught are refused, for that model only."""

from __future__ import annotations

import pytest

from songgen.linter import TextRules, apply_policy, lint_descriptions, lint_lyrics
from songgen.requests import SongRequest

NANO = TextRules(version="v1", languages=("en",), model="nano")
CHINESE = "[verse] \u4f60\u597d my friend."


def test_other_letters_are_an_error_that_names_them_and_the_model() -> None:
    finding = next(item for item in lint_lyrics(CHINESE, NANO) if item.rule == "language")
    assert finding.severity == "error"
    assert finding.column == 9
    assert "'\u4f60\u597d' is written in Chinese letters, and nano knows English only" in finding.message
    described = next(
        item for item in lint_descriptions("\u043f\u043e\u043f", NANO) if item.rule == "language"
    )
    assert "Cyrillic" in described.message and described.field == "descriptions"


@pytest.mark.parametrize(
    "text", ["[verse] Caf\u00e9, it's 9 o'clock \u2014 na\u00efve.", "[verse] Plain words."]
)
def test_english_with_accents_numbers_and_marks_is_none(text: str) -> None:
    assert not [item for item in lint_lyrics(text, NANO) if item.rule == "language"]


@pytest.mark.parametrize("policy", ["fix", "strict", "asis"])
def test_every_policy_refuses_it(policy: str) -> None:
    request = SongRequest(idx="a", lyrics=CHINESE)
    with pytest.raises(ValueError, match="nano knows English only"):
        apply_policy(request, NANO, policy)  # type: ignore[arg-type]


def test_other_models_and_lyrics_that_nobody_reads_are_unaffected() -> None:
    assert not [item for item in lint_lyrics(CHINESE, TextRules()) if item.rule == "language"]
    apply_policy(SongRequest(idx="a", lyrics=CHINESE, generate_type="bgm"), NANO, "fix")
