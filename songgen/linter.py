"""The linter: what in a request's text will hurt the song, and the mended text.

A rule finds places and says how each would be mended; `mend_*` applies what is safe until nothing safe is
left, so mending twice changes nothing and mended text has no safe findings. Mending never loses a word:
letters, digits and apostrophes outside tags stay (full-width letters and curly apostrophes become ASCII).
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

from songgen.lint_characters import (
    full_width_letters,
    invisible_characters,
    pictures,
    special_tokens,
    typographic_quotes,
)
from songgen.lint_descriptions import DESCRIPTION_RULES
from songgen.lint_language import language_findings, refuse_languages
from songgen.lint_sections import (
    Document,
    has_words,
    missing_tags,
    section_contents,
    separators,
    stray_brackets,
    tag_spelling,
)
from songgen.lint_sentences import (
    blanks,
    final_periods,
    full_width_marks,
    line_breaks,
    phrase_blanks,
    semicolons,
    sentence_marks,
)
from songgen.lint_songbloom import SONGBLOOM_RULES, other_form, uncovered
from songgen.requests import GenerateType, SongRequest
from songgen.songbloom_form import parse_songbloom
from songgen.text_length import estimate_seconds, estimate_tokens
from songgen.text_rules import Edit, Finding, TextField, TextRules, apply_edits

__all__ = [
    "Finding",
    "Policy",
    "TextRules",
    "apply_policy",
    "lint_descriptions",
    "lint_lyrics",
    "lint_request",
    "mend_descriptions",
    "mend_lyrics",
    "mend_request",
]

Policy = Literal["fix", "strict", "asis"]

# In the order they are applied: first what others have to see already mended.
LYRIC_RULES: tuple[Callable[[Document], list[Edit]], ...] = (
    tag_spelling,
    full_width_marks,
    missing_tags,
    semicolons,
    line_breaks,
    separators,
    blanks,
    sentence_marks,
    phrase_blanks,
    final_periods,
    section_contents,
    stray_brackets,
)
# v2 sends "[Musicality-very-high], " ahead of the descriptions.
_V2_DESCRIPTION_TOKENS = 2
_MOST_ROUNDS = 1000


def lint_lyrics(
    text: str,
    rules: TextRules,
    *,
    generate_type: GenerateType | None = "mixed",
    max_seconds: float | None = None,
) -> list[Finding]:
    """Find what in the lyrics will hurt.

    Args:
        generate_type: with `bgm` the model sings nothing and does not read the lyrics: one hint at most.
        max_seconds: the request's own limit, if it has one.

    Returns:
        The findings in order of place.
    """
    foreign = other_form(text, rules)
    if foreign is not None and foreign.mended is not None:
        rest = lint_lyrics(foreign.mended, rules, generate_type=generate_type, max_seconds=max_seconds)
        mended = mend_lyrics(foreign.mended, rules)
        return [dataclasses.replace(foreign, mended=mended), *(item for item in rest if not item.safe)]
    document = Document.read(text, rules)
    if generate_type == "bgm":
        if not any(has_words(document.words(block)) for block in document.blocks):
            return []
        why = "generate_type is bgm: the model does not read the lyrics"
        return [Finding("bgm-lyrics", "hint", "lyrics", None, None, 1, why)]
    findings = []
    for edits in [*_lyric_edits(document), uncovered(document)]:
        for _, group in itertools.groupby(edits, key=lambda e: (e.rule, _block_number(document, e))):
            findings.append(_in_section(document, list(group)))
    if not any(has_words(document.words(block)) for block in document.blocks):
        advice = ": for music without a voice set generate_type to bgm" if rules.family == "levo" else ""
        why = f"there is nothing to sing{advice}"
        findings.append(Finding("nothing-to-sing", "hint", "lyrics", None, None, 1, why))
    findings += _token_count(document) + _duration(document, max_seconds)
    findings += language_findings(text, "lyrics", rules)
    return sorted(findings, key=lambda finding: finding.column)


def lint_descriptions(text: str | None, rules: TextRules) -> list[Finding]:
    """Find what in the descriptions will hurt; None (no descriptions) has no findings."""
    if not text:
        return []
    if not rules.reads_descriptions:
        why = "this model takes no descriptions: its style comes from the prompt alone"
        return [Finding("descriptions-not-read", "hint", "descriptions", None, None, 1, why)]
    findings = []
    for edits in _description_edits(text, rules):
        if not edits:
            continue
        for _, group in itertools.groupby(edits, key=lambda e: e.rule):
            findings.append(_in_descriptions(text, rules, list(group)))
    count = rules.count_description_tokens
    tokens = count(text) if count else _estimate_description(text, rules)
    if tokens > rules.max_description_tokens:
        about = "" if count else "about "
        why = f"{about}{tokens} tokens, the model reads {rules.max_description_tokens}: the rest is cut"
        findings.append(Finding("too-many-tokens", "error", "descriptions", None, None, 1, why))
    findings += language_findings(text, "descriptions", rules)
    return sorted(findings, key=lambda finding: finding.column)


def mend_lyrics(text: str, rules: TextRules) -> str:
    """Mend what is safe in the lyrics, the other family's form included; idempotent."""
    foreign = other_form(text, rules)
    text = text if foreign is None or foreign.mended is None else foreign.mended
    return _mend(text, lambda current: _lyric_edits(Document.read(current, rules)))


def mend_descriptions(text: str | None, rules: TextRules) -> str | None:
    """Mend what is safe in the descriptions; idempotent; None stays None."""
    return (
        text
        if text is None or not rules.reads_descriptions
        else _mend(text, lambda current: _description_edits(current, rules))
    )


def lint_request(
    request: SongRequest, rules: TextRules, *, default_generate_type: GenerateType = "mixed"
) -> list[Finding]:
    """The findings of both texts of a request, lyrics first, and of its prompt.

    Args:
        default_generate_type: what the run makes of a request that does not say.
    """
    kind = request.generate_type or default_generate_type
    lyrics = lint_lyrics(request.lyrics, rules, generate_type=kind, max_seconds=request.max_seconds)
    prompt = []
    if rules.needs_prompt and request.prompt_audio_path is None:
        why = (
            "there is none (prompt_wav): the model takes the style from it, without one it is left to chance"
        )
        prompt.append(Finding("no-prompt", "warning", "prompt", None, None, 1, why))
    return lyrics + lint_descriptions(request.descriptions, rules) + prompt


def mend_request(
    request: SongRequest, rules: TextRules, *, default_generate_type: GenerateType = "mixed"
) -> SongRequest:
    """The request with both texts mended where that is safe; lyrics that `bgm` does not read stay."""
    is_read = (request.generate_type or default_generate_type) != "bgm"
    return dataclasses.replace(
        request,
        lyrics=mend_lyrics(request.lyrics, rules) if is_read else request.lyrics,
        descriptions=mend_descriptions(request.descriptions, rules) or None,
    )


def apply_policy(
    request: SongRequest, rules: TextRules, policy: Policy, *, default_generate_type: GenerateType = "mixed"
) -> tuple[SongRequest, list[Finding]]:
    """Lint a request and do with it what the run's `lyrics=` setting says.

    Args:
        policy: `fix` mends what is safe; `strict` refuses all but hints; `asis` leaves the text untouched.

    Returns:
        The request to run (its `source` as given) and the findings in the text as given.

    Raises:
        ValueError: `strict` and there are findings other than hints, or a text in a language that the model
            does not know; the message lists them.
    """
    findings = lint_request(request, rules, default_generate_type=default_generate_type)
    refuse_languages(findings)
    if policy == "fix":
        return mend_request(request, rules, default_generate_type=default_generate_type), findings
    faults = [finding for finding in findings if finding.severity != "hint"]
    if policy == "strict" and faults:
        listed = "; ".join(str(finding) for finding in faults)
        raise ValueError(f"lyrics=strict refuses this text ({len(faults)} to mend): {listed}")
    return request, findings


def _lyric_edits(document: Document) -> list[list[Edit]]:
    """The edits of every rule, rule by rule in the order they are to be applied."""
    text, is_levo = document.text, document.rules.family == "levo"
    spans = [(block.text_start, block.text_end) for block in document.blocks]
    quotes = [edit for span in spans for edit in typographic_quotes(text, span)]
    return [
        invisible_characters(text),
        special_tokens(text),
        pictures(text),
        quotes if is_levo else [],
        [edit for span in spans for edit in full_width_letters(text, span)],
        *(rule(document) for rule in (LYRIC_RULES if is_levo else SONGBLOOM_RULES)),
    ]


def _description_edits(text: str, rules: TextRules) -> list[list[Edit]]:
    """As `_lyric_edits`, for descriptions."""
    whole = (0, len(text))
    return [
        invisible_characters(text),
        special_tokens(text),
        pictures(text),
        typographic_quotes(text, whole),
        full_width_letters(text, whole),
        *(rule(text, rules) for rule in DESCRIPTION_RULES),
    ]


def _mend(text: str, edits_of: Callable[[str], Sequence[Sequence[Edit]]]) -> str:
    """Apply the first rule that has safe edits, over and over, until none has."""
    for _ in range(_MOST_ROUNDS):
        safe = ([edit for edit in edits if edit.safe] for edits in edits_of(text))
        edits = next(filter(None, safe), None)
        if not edits:
            return text
        text = apply_edits(text, edits)
    raise AssertionError(f"mending does not end: {text!r}")


def _in_section(document: Document, edits: list[Edit]) -> Finding:
    """The finding of edits of one rule in one section."""
    block = document.blocks[_block_number(document, edits[0])]
    mended = None
    if all(edit.new is not None for edit in edits):
        section = document.text[block.start : block.end]
        mended = mend_lyrics(apply_edits(section, edits, block.start), document.rules)
    return _finding(edits, "lyrics", block.number, block.tag, mended)


def _in_descriptions(text: str, rules: TextRules, edits: list[Edit]) -> Finding:
    """The finding of edits of one rule in descriptions."""
    can_mend = all(edit.new is not None for edit in edits)
    mended = mend_descriptions(apply_edits(text, edits), rules) if can_mend else None
    return _finding(edits, "descriptions", None, None, mended)


def _finding(
    edits: list[Edit], field: TextField, section: int | None, tag: str | None, mended: str | None
) -> Finding:
    """One finding of edits of one rule in one place."""
    first = edits[0]
    times = f" ({len(edits)} times)" if len(edits) > 1 else ""
    is_safe = all(edit.safe for edit in edits)
    return Finding(
        first.rule,
        first.severity,
        field,
        section,
        tag,
        first.start + 1,
        first.message + times,
        mended,
        is_safe,
    )


def _block_number(document: Document, edit: Edit) -> int:
    """The number of the section that an edit lies in; an insertion between two belongs to the first."""
    starts = [block.start for block in document.blocks[1:]]
    find = bisect.bisect_left if edit.start == edit.end else bisect.bisect_right
    return find(starts, edit.start)


def _token_count(document: Document) -> list[Finding]:
    """Lyrics with more tokens than the model reads; the column is where they are cut."""
    rules, text = document.rules, document.text
    count = rules.count_lyric_tokens or estimate_tokens
    about = "" if rules.count_lyric_tokens else "about "
    tokens = count(text)
    if tokens <= rules.max_lyric_tokens:
        return []
    cut = _cut_offset(text, count, rules.max_lyric_tokens)
    why = (
        f"{about}{tokens} tokens, the model reads {rules.max_lyric_tokens}: the lyrics are cut from "
        f"{about}here on, {text[cut : cut + 30]!r}; make them shorter"
    )
    return [_in_section(document, [Edit("too-many-tokens", "error", cut, cut, None, why, False)])]


def _duration(document: Document, max_seconds: float | None) -> list[Finding]:
    """Lyrics longer than the model's longest song, or than the request's own limit."""
    text, rules = document.text, document.rules
    is_levo = rules.family == "levo"
    seconds = estimate_seconds(text if is_levo else parse_songbloom(text, rules.tag_seconds))
    rough = f"about {seconds:.0f} s of song by a rough estimate"
    if seconds > rules.max_seconds:
        why = f"{rough}, the model's longest is {rules.max_seconds:.0f} s: the end may be missing"
        return [Finding("too-long", "warning", "lyrics", None, None, 1, why)]
    if max_seconds is not None and seconds > max_seconds:
        why = f"{rough}, max_seconds is {max_seconds:g}: the song may be cut off"
        return [Finding("over-max-seconds", "hint", "lyrics", None, None, 1, why)]
    return []


def _cut_offset(text: str, count: Callable[[str], int], limit: int) -> int:
    """The length of the longest beginning of a text that has at most `limit` tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _estimate_description(text: str, rules: TextRules) -> int:
    """About how many tokens a description has, with what v2 puts ahead of it."""
    ahead = _V2_DESCRIPTION_TOKENS if rules.version == "v2" else 0
    return estimate_tokens(text, has_sections=False) + ahead
