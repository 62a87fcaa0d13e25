"""The language rule: texts in letters that a model was never taught, which it refuses under any policy.

A model that names no languages reads any text. Knows only what letters English is written in.
"""

from __future__ import annotations

import unicodedata

from songgen.english import foreign_letters
from songgen.text_rules import Finding, TextField, TextRules

RULE = "language"
_NAMES = {"en": "English"}
_SHOWN = 12


def language_findings(text: str | None, field: TextField, rules: TextRules) -> list[Finding]:
    """The error of a text that holds other letters than those of the model's languages, if it is one."""
    if not text or rules.languages != ("en",):
        return []
    letters = foreign_letters(text)
    if not letters:
        return []
    column = text.index(letters[0]) + 1
    shown = letters[:_SHOWN] + ("..." if len(letters) > _SHOWN else "")
    scripts = ", ".join(dict.fromkeys(_script(letter) for letter in letters[:_SHOWN]))
    names = " and ".join(_NAMES[language] for language in rules.languages)
    why = (
        f"{shown!r} is written in {scripts} letters, and {rules.model or 'this model'} knows {names} only; "
        "take another model, or write it in English"
    )
    return [Finding(RULE, "error", field, None, None, column, why)]


def refuse_languages(findings: list[Finding]) -> None:
    """Raise ValueError if findings say that a text is in a language the model does not know."""
    refused = [finding for finding in findings if finding.rule == RULE]
    if refused:
        raise ValueError("; ".join(f"{finding.field}: {finding.message}" for finding in refused))


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "unknown").split()[0]
    return {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}.get(
        name, name.capitalize()
    )
