"""Rules for SongBloom's lyrics: tags that stand alone, ` , ` between sections only, `.` between sentences.

The model reads phonemes. A tag glued to a word or capitalised is read aloud; a comma, semicolon, colon or
slash inside a sentence ends the section; a doubled blank becomes an empty item. What is mended follows the
publisher's own cleaning (`clean_lyrics`), which the published program holds and does not call.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable

from songgen.characters import APOSTROPHES, CLOSERS, PICTURES, QUOTES, WIDE_LETTERS, WIDE_OPENERS
from songgen.lint_sections import Document, has_words, missing_tags, separators
from songgen.lint_sentences import blanks, line_breaks, phrase_blanks
from songgen.lyrics import SUNG_TAGS
from songgen.songbloom_form import (
    TAGS,
    find_tags,
    is_levo_form,
    is_songbloom_form,
    levo_to_songbloom,
    songbloom_to_levo,
)
from songgen.text_rules import Edit, Finding, Severity, TextRules, find_edits

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# What the G2P turns into the mark of a section's end.
_COMMAS = re.compile("[ ]*(?:[,;:\uff0c\uff1b\uff1a\u3001]|(?<!\\d)/|/(?!\\d))+")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[,;:/]+(?=\d)")
_NAME_DOT = re.compile("[\u00b7\u30fb\uff65]")
_ENDS = re.compile("[ ]*(?:[!?\u2026~\uff01\uff1f\uff5e\u3002\uff61\uff0e]|\\.(?=\\.))+\\.*")
_LONG_DASH = re.compile("[\u2013\u2015\u2212]")
_DOLLAR = re.compile(r"\$")
# A blank before a period is wrong, but not behind a phoneme that is given directly, such as OW1 or D.
_PERIODS = re.compile(r"\.(?:\s*\.)+|(?<![A-Z0-9 ])[ ]+\.")
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")
_QUOTE = re.compile(f'["(){{}}{QUOTES}{WIDE_OPENERS}{re.escape(CLOSERS[3:])}]')
_LEFT_TO_OTHERS = re.compile(
    rf"[\s\[\]\"(){{}}{QUOTES}{APOSTROPHES}{WIDE_OPENERS}{re.escape(CLOSERS)}{PICTURES}{WIDE_LETTERS}"
    "\u2013\u2015\u2212\u30fb\uff65]+"
)


_COMMA_WHY = "inside a sentence is the end of a section to the model; sentences are separated by '.'"
_ENDS_WHY = "the training text has '.' at the end of every sentence"
_PLAIN: tuple[tuple[str, Severity, re.Pattern[str], str, str], ...] = (
    ("comma", "error", _THOUSANDS, "", _COMMA_WHY),
    ("comma", "error", _BETWEEN_DIGITS, " ", _COMMA_WHY),
    ("comma", "error", _NAME_DOT, "", _COMMA_WHY),
    ("comma", "error", _COMMAS, ".", _COMMA_WHY),
    ("sentence-marks", "warning", _ENDS, ".", _ENDS_WHY),
    ("sentence-marks", "warning", _PERIODS, ".", "sentences are separated by one '.', no blank before it"),
    ("dash", "warning", _LONG_DASH, "-", "only '-' is read; without it the words around run together"),
    ("apostrophe", "warning", _APOSTROPHE, "'", "the dictionary knows the plain apostrophe only"),
    ("quotation-mark", "warning", _QUOTE, "", "quotation marks and brackets are not sung"),
)


def tags(document: Document) -> list[Edit]:
    """Tags that are meant but not written as one of the seven."""
    edits = []
    for tag in find_tags(document.text):
        if tag.spelling == "exact":
            continue
        written, right = document.text[tag.start : tag.end], f"[{tag.role}]"
        why = f"{written} is none of the model's seven tags, so it would be read aloud; {right} is meant"
        rule = "tag-spelling" if tag.spelling == "spacing" else "unknown-tag"
        edits.append(Edit(rule, "error", tag.start, tag.end, right, why))
    return edits


def stray_brackets(document: Document) -> list[Edit]:
    """Brackets that hold no tag, or are not closed: what is in them is read aloud."""
    known = {tag.start for tag in find_tags(document.text)}
    edits = []
    for match in re.finditer(r"\[([^\[\]]*)\]|[\[\]]", document.text):
        if match.start() in known:
            continue
        near = difflib.get_close_matches((match.group(1) or "").casefold(), TAGS, n=1)
        right = f"[{near[0]}]" if near else None
        meant = f"; the nearest is {right}" if right else f"; known: {', '.join(TAGS)}"
        why = f"{match.group()!r} is none of the model's tags and would be read aloud{meant}"
        edits.append(Edit("unknown-tag", "error", *match.span(), right, why, False))
    return edits


def repeated_tags(document: Document) -> list[Edit]:
    """What stands between two bare tags of one section, other than one blank."""
    edits = []
    for block in document.blocks[1:]:
        found = list(find_tags(document.text[block.start : block.tag_end]))
        for before, tag in itertools.pairwise(found):
            start, end = block.start + before.end, block.start + tag.start
            if document.text[start:end] != " ":
                between = document.text[start:end]
                why = f"repeated tags of one section are separated by one blank, not {between!r}"
                edits.append(Edit("separator", "error", start, end, " ", why))
    return edits


def inner_marks(document: Document) -> list[Edit]:
    """Commas and the like inside a sentence, and ends of sentences other than `.`."""
    edits: list[Edit] = []
    for block in document.blocks:
        span = (block.text_start, block.text_end)
        for rule, severity, pattern, new, why in _PLAIN:
            edits += find_edits(rule, severity, pattern, new, _naming(why), text=document.text, span=span)
        for match in _DOLLAR.finditer(document.text, *span):
            why = "'$' is read as the end of a sentence: write the word"
            edits.append(Edit("dollar", "error", *match.span(), None, why, False))
    return _first_of_overlapping(edits)


def edge_marks(document: Document) -> list[Edit]:
    """Marks at the start of a section's words, and periods right before the comma that ends a section."""
    edits = []
    last = document.blocks[-1].number
    for block in document.blocks:
        words = document.words(block)
        if not has_words(words):
            continue
        start = re.match(r"[.\s]*", words)
        if start and start.end():
            span = (block.text_start, block.text_start + start.end())
            edits.append(Edit("sentence-marks", "warning", *span, "", "words begin with a mark"))
        end = re.search(r"[.\s]+\Z", words)
        if end and block.number < last:
            span = (block.text_start + end.start(), block.text_end)
            why = "a section ends with ' , ' alone, without a period before it"
            edits.append(Edit("final-period", "warning", *span, "", why))
    return edits


def contents(document: Document) -> list[Edit]:
    """Words under a tag that is not sung, none under one that is, and sections of marks only."""
    edits = []
    for block in document.blocks:
        words, is_sung = document.words(block), block.tag in SUNG_TAGS
        if words and not has_words(words) and (block.tag or len(document.blocks) > 1):
            why = f"{words!r} is nothing to sing"
            edits.append(Edit("no-words", "warning", block.text_start, block.text_end, "", why))
        elif is_sung and not words:
            why = f"[{block.tag}] has no words: the model makes some up; [inst] is for music without"
            edits.append(Edit("empty-section", "warning", block.start, block.tag_end, "[inst]", why, False))
        elif block.tag and not is_sung and words:
            why = f"[{block.tag}] is played, not sung: give the words a tag of their own"
            at = block.text_start
            edits.append(Edit("instrumental-text", "warning", at, at, ", [verse] ", why, False))
    return edits


SONGBLOOM_RULES: tuple[Callable[[Document], list[Edit]], ...] = (
    tags,
    missing_tags,
    repeated_tags,
    separators,
    line_breaks,
    blanks,
    inner_marks,
    edge_marks,
    phrase_blanks,
    contents,
    stray_brackets,
)
"""In the order they are applied: first what others have to see already mended."""


def uncovered(document: Document) -> list[Edit]:
    """Words and signs that no phoneme covers; what another rule mends is left to it."""
    if document.rules.uncovered is None:
        return []
    found = document.rules.uncovered(document.text)
    lost = [item for item in found if not _LEFT_TO_OTHERS.fullmatch(item.text)]
    edits = []
    for item in lost:
        rule = "other-language" if item.advice else "no-phoneme" if item.is_sung else "sign"
        advice = item.advice or ("write it in Chinese or English" if item.is_sung else "write the word")
        alike = [
            repr(other.text) for other in lost if (other.is_sung, other.advice) == (item.is_sung, item.advice)
        ]
        why = f"{', '.join(dict.fromkeys(alike))}: no phonemes, not sung; {advice}"
        severity: Severity = "error" if item.is_sung else "warning"
        start = item.column - 1
        edits.append(Edit(rule, severity, start, start + len(item.piece), None, why, False))
    return edits


def other_form(text: str, rules: TextRules) -> Finding | None:
    """A finding with the converted text if lyrics are written for the other family, else None."""
    if rules.family == "songbloom" and is_levo_form(text):
        converted = levo_to_songbloom(text, rules.tag_seconds)
        form = f"' , ' between sections and a bare tag for every {rules.tag_seconds:g} s"
        why = f"these lyrics are written for LeVo ('[tag] ; [tag-short]'); this model reads {form}"
    elif rules.family == "levo" and is_songbloom_form(text):
        converted = songbloom_to_levo(text)
        why = (
            "these lyrics are written for SongBloom (' , ' between sections, a bare tag for every second); "
            "this model reads ' ; ' and tags such as [intro-short]"
        )
    else:
        return None
    return Finding("other-family", "warning", "lyrics", None, None, 1, why, converted, True)


def _naming(why: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match.group().strip()!r}: {why}"


def _first_of_overlapping(edits: list[Edit]) -> list[Edit]:
    """The edits, less those that touch what an earlier one of the list touches."""
    kept: list[Edit] = []
    for edit in edits:
        if all(edit.end <= other.start or edit.start >= other.end for other in kept):
            kept.append(edit)
    return sorted(kept, key=lambda edit: edit.start)
