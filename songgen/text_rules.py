"""The types of the linter: what a model demands of its text, what was found in it, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
TextField = Literal["lyrics", "descriptions", "prompt"]
Family = Literal["levo", "songbloom"]


@dataclass(frozen=True)
class Uncovered:
    """Something of the lyrics that has no phoneme, so that the model does not hear it.

    Args:
        text: what is lost: characters of the lyrics, or a phoneme that the vocabulary lacks.
        piece: what stands between two blanks and holds it, as written.
        column: 1-based column of that piece in the lyrics.
        advice: what would help, if anything does.
    """

    text: str
    piece: str
    column: int
    advice: str = ""

    @property
    def is_sung(self) -> bool:
        """Whether a letter or digit is lost; otherwise it is a mark or a picture."""
        return any(character.isalnum() for character in self.text)

    def __str__(self) -> str:
        piece = "" if self.piece == self.text else f"{self.piece!r}, "
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.text!r} ({piece}column {self.column}) has no phoneme and is not sung{advice}"


@dataclass(frozen=True)
class TextRules:
    """What a model demands of its text.

    Args:
        family: whose form of lyrics, and whose rules.
        version: `v1` or `v2` of the LeVo text rules.
        max_lyric_tokens, max_description_tokens: positions the model has; longer text is cut.
        count_lyric_tokens, count_description_tokens: exact counters of all that the model gets, including
            the start token; None = estimate.
        max_seconds: the model's longest song.
        tag_seconds: seconds that a bare tag stands for, in SongBloom's form.
        uncovered: what of the lyrics has no phoneme; None where words are not turned into phonemes.
        needs_prompt: whether songs suffer without a style prompt.
        reads_descriptions: whether the model knows descriptions at all.
        languages: ISO 639-1 codes of the only languages it knows; none for any text.
        model: its name, for sentences.
    """

    family: Family = "levo"
    version: Literal["v1", "v2"] = "v2"
    max_lyric_tokens: int = 600
    max_description_tokens: int = 100
    count_lyric_tokens: Callable[[str], int] | None = None
    count_description_tokens: Callable[[str], int] | None = None
    max_seconds: float = 270.0
    tag_seconds: float = 1.0
    uncovered: Callable[[str], Sequence[Uncovered]] | None = None
    needs_prompt: bool = False
    reads_descriptions: bool = True
    languages: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True)
class Finding:
    """One problem in a text: the same rule broken several times in one section is one finding.

    Args:
        rule: short id of the rule, such as `final-period`.
        severity: `error` (the song will be wrong), `warning` (it will suffer), `hint` (nothing to mend).
        field: the text it was found in.
        section: 1-based number of the section; 0 before the first tag; None: descriptions or whole lyrics.
        tag: the section's tag without brackets, or None.
        column: 1-based column in the whole text, of the first place.
        message: what is wrong and why it hurts.
        mended: the section (or the descriptions) with this and what is safe mended; None: nobody can say.
        safe: whether mending by itself keeps every word and the evident meaning.
    """

    rule: str
    severity: Severity
    field: TextField
    section: int | None
    tag: str | None
    column: int
    message: str
    mended: str | None = None
    safe: bool = False

    @property
    def place(self) -> str:
        """Where it is, in words: `section 2 [verse], column 14`."""
        if self.field == "descriptions":
            return f"descriptions, column {self.column}"
        if self.field == "prompt":
            return "prompt"
        if self.section is None:
            return "lyrics"
        if self.tag is None:
            return f"before the first tag, column {self.column}"
        return f"section {self.section} [{self.tag}], column {self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {'hint: ' if self.severity == 'hint' else ''}{self.message}"


@dataclass(frozen=True)
class Edit:
    """Replace `text[start:end]` by `new` (None: a person has to), for the reason given."""

    rule: str
    severity: Severity
    start: int
    end: int
    new: str | None
    message: str
    safe: bool = True


def apply_edits(text: str, edits: Sequence[Edit], offset: int = 0) -> str:
    """Apply edits that do not overlap; `offset` is where `text` begins in the string the edits speak of."""
    pieces, done = [], 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.new is None:
            continue
        start, end = edit.start - offset, edit.end - offset
        assert done <= start <= end <= len(text), edit
        pieces += [text[done:start], edit.new]
        done = end
    return "".join([*pieces, text[done:]])


def find_edits(
    rule: str,
    severity: Severity,
    pattern: re.Pattern[str],
    new: str | Callable[[re.Match[str]], str | None],
    message: str | Callable[[re.Match[str]], str],
    *,
    text: str,
    span: tuple[int, int],
    safe: bool = True,
) -> list[Edit]:
    """One edit for each match in `text[span]` that its replacement would change.

    Args:
        new: the replacement, or a function of the match; None as its result leaves the place alone.
        message: what is wrong and why, or a function of the match.
    """
    edits = []
    for match in pattern.finditer(text, *span):
        replacement = new if isinstance(new, str) else new(match)
        if replacement is None or replacement == match.group():
            continue
        why = message if isinstance(message, str) else message(match)
        edits.append(Edit(rule, severity, match.start(), match.end(), replacement, why, safe))
    return edits
