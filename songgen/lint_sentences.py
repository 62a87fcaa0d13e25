"""Rules for the sentences inside sections: line breaks, punctuation, blanks, final periods.

Punctuation is mapped to what the published samples show. In languages with blanks, sentences end with `. `
and commas stay; in Chinese and Japanese every mark that parts phrases (comma, colon, exclamation mark, dash)
becomes a plain `.`, and the section ends without one. The v1 models have no published rule for the ends of
sentences, so `sentence_marks`, `phrase_blanks` and `final_periods` look at v2 only.
"""

from __future__ import annotations

import re

from songgen.characters import (
    ASCII_OF_WIDE,
    CLOSERS,
    DASHES,
    ENUMERATION_COMMA,
    HALF_COMMA,
    UNSPACED,
    WAVE_DASH,
    WIDE_CLOSERS,
    WIDE_COLON,
    WIDE_COMMA,
    WIDE_ENDS,
    WIDE_EXCLAMATION,
    WIDE_MARKS,
    WIDE_OPENERS,
    WIDE_QUESTION,
)
from songgen.lint_sections import Document, has_words
from songgen.lyrics import SUNG_TAGS
from songgen.text_rules import Edit, find_edits

_WIDE_MARK = re.compile(rf"\s*[{WIDE_MARKS}](?:[ ]*[{WIDE_MARKS}])*")
_DASH = re.compile(rf"\s*[{DASHES}]+\s*")
_OTHER_WIDE = {
    **{
        wide: narrow
        for wide, narrow in ASCII_OF_WIDE.items()
        if not narrow.isalnum() and wide not in WIDE_MARKS
    },
    **dict.fromkeys(WIDE_OPENERS, "("),
    **dict.fromkeys(WIDE_CLOSERS, ")"),
    WAVE_DASH: "~",
}
_OTHER_WIDE_MARK = re.compile(f"[{re.escape(''.join(_OTHER_WIDE))}]")
_SPACED_MARKS = {
    **dict.fromkeys(WIDE_COMMA + ENUMERATION_COMMA + HALF_COMMA, ","),
    WIDE_EXCLAMATION: "!",
    WIDE_QUESTION: "?",
    WIDE_COLON: ":",
}


def line_breaks(document: Document) -> list[Edit]:
    """Lines inside a section; each becomes a sentence."""
    why = "a line break inside a section: the model's lines are sentences, ended by a period"
    return _sentence_breaks(document, "line-break", re.compile(r"[^\S\n\r]*[\n\r]\s*"), why)


def semicolons(document: Document) -> list[Edit]:
    """Semicolons inside a section; before a bracket (an unknown tag, it seems) they are left to the user."""
    why = "';' inside a section: the model learnt it only between sections"
    return _sentence_breaks(document, "semicolon", re.compile(r"\s*;[\s;]*(?![\s;\[])"), why)


def full_width_marks(document: Document) -> list[Edit]:
    """Chinese and other full-width punctuation."""
    edits = []
    for block in document.blocks:
        span = (block.text_start, block.text_end)
        unspaced = document.is_unspaced(block)

        def parting(match: re.Match[str], unspaced: bool = unspaced, end: int = block.text_end) -> str:
            marks = match.group().strip()
            if unspaced:
                return "."
            mark = next((_SPACED_MARKS[m] for m in marks if m in _SPACED_MARKS), ".")
            follower = document.text[match.end() : min(match.end() + 1, end)]
            return mark + (" " if follower and not follower.isspace() and follower not in CLOSERS else "")

        # A dash between words of an alphabet is fine.
        dashes = ((_DASH, parting),) if unspaced else ()
        for pattern, new in (
            (_WIDE_MARK, parting),
            (_OTHER_WIDE_MARK, lambda m: _OTHER_WIDE[m.group()]),
            *dashes,
        ):
            edits += find_edits(
                "full-width",
                "warning",
                pattern,
                new,
                lambda m: (
                    f"{m.group().strip()!r} is full-width punctuation, which the training text does not have"
                ),
                text=document.text,
                span=span,
            )
    return _without_overlaps(edits)


def blanks(document: Document) -> list[Edit]:
    """Tabs, wide blanks and several blanks in a row."""
    edits = []
    for block in document.blocks:
        edits += find_edits(
            "blanks",
            "warning",
            re.compile(r"(?:[^\S\n\r]{2,}|[^\S\n\r ])(?![\n\r])"),
            " ",
            "a tab or several blanks in a row make tokens the model never saw in lyrics",
            text=document.text,
            span=(block.text_start, block.text_end),
        )
    return edits


def sentence_marks(document: Document) -> list[Edit]:
    """Periods in a row, blanks before a mark, none after it; in Chinese, marks other than a period."""
    if document.rules.version == "v1":
        return []
    spaced_rules = (
        (r"\.(?:\s*\.)+", ".", "several periods in a row are as many sentence ends to the model"),
        (r"(?<=[!?,:])\s*\.", "", "a period after another mark ends the sentence twice"),
        (r"[^\S\n\r]+(?=[.,!?])", "", "a blank before a mark becomes a token of its own"),
        (
            r"(?:(?<=[^\W\d_A-Z]{2}[.!?])|(?<='[^\W\d_A-Z][.!?]))(?=[A-Z])",
            " ",
            "sentences are separated by a period and a blank",
        ),
    )
    unspaced_rules = (
        (r"(?:\s*\.)+[^\S\n\r]*", ".", "phrases are separated by one '.' without blanks"),
        (
            rf"(?:(?<=[{UNSPACED}])|(?<=[{UNSPACED}][\"')]))[^\S\n\r]*[,!?:][.,!?:\s]*",
            ".",
            "phrases are separated by '.', other marks were not in the Chinese training text",
        ),
    )
    edits = []
    for block in document.blocks:
        words = document.words(block)
        if not has_words(words):
            continue
        span = (block.text_start, block.text_end)
        start = re.match(r"[.,\s]*", words)
        assert start is not None
        if start.end():
            first = (span[0], span[0] + start.end())
            edits.append(Edit("sentence-marks", "warning", *first, "", "the section begins with a mark"))
        for pattern, new, why in unspaced_rules if document.is_unspaced(block) else spaced_rules:
            found = find_edits(
                "sentence-marks", "warning", re.compile(pattern), new, why, text=document.text, span=span
            )
            edits += found
    return _without_overlaps(edits)


def phrase_blanks(document: Document) -> list[Edit]:
    """Blanks between Chinese phrases; where single characters are parted it is another habit, left alone."""
    if document.rules.version == "v1":
        return []
    edits = []
    pattern = re.compile(rf"(?<=[{UNSPACED}])[^\S\n\r]+(?=[{UNSPACED}])")
    for block in document.blocks:
        if not document.is_unspaced(block):
            continue
        pieces = re.findall(f"[{UNSPACED}]+", document.words(block))
        if sum(map(len, pieces)) < 3 * len(pieces):
            continue
        why = "Chinese phrases are separated by '.', not by blanks"
        span = (block.text_start, block.text_end)
        edits += find_edits("phrase-blank", "warning", pattern, ".", why, text=document.text, span=span)
    return edits


def final_periods(document: Document) -> list[Edit]:
    """v2: a section ends with a period in languages with blanks, and without one in Chinese and Japanese."""
    if document.rules.version == "v1":
        return []
    edits = []
    for block in document.blocks:
        words = document.words(block)
        is_played = (
            block.tag is not None and block.tag not in SUNG_TAGS
        )  # words there are another rule's matter
        if is_played or not has_words(words):
            continue
        tail = re.search(rf"[\s.,:;!?~\u2013\u2014-]*([{CLOSERS}]*)\Z", words)
        assert tail is not None
        start, end = block.text_start + tail.start(), block.text_end
        marks = tail.group()[: len(tail.group()) - len(tail.group(1))]
        if document.is_unspaced(block):
            if re.search(r"[.,:!?]", marks):
                why = "Chinese sections end without a mark: with one the model tends to go on"
                edits.append(Edit("final-period", "warning", start, end, tail.group(1), why))
        elif not re.search(rf"[.!?{WIDE_ENDS}]", tail.group()) and not re.search(
            rf"[.!?{WIDE_ENDS}]\W*\Z", words
        ):
            why = "the last sentence has no period: the v2 models learnt sections that end with one"
            edits.append(Edit("final-period", "warning", start, end, f"{tail.group(1)}.", why))
    return edits


def _sentence_breaks(document: Document, rule: str, pattern: re.Pattern[str], why: str) -> list[Edit]:
    """Replace what matches inside a section by the end of a sentence, unless one stands there already."""
    edits = []
    for block in document.blocks:
        words, unspaced = document.words(block), document.is_unspaced(block)

        def sentence_end(
            match: re.Match[str], unspaced: bool = unspaced, start: int = block.text_start
        ) -> str:
            before = document.text[start : match.start()].rstrip(CLOSERS)
            is_ended = before.endswith(tuple(f".!?,:-\u2013{DASHES}{WIDE_MARKS}"))
            return ("" if is_ended else ".") + ("" if unspaced else " ")

        if words:
            span = (block.text_start, block.text_end)
            edits += find_edits(rule, "warning", pattern, sentence_end, why, text=document.text, span=span)
    return edits


def _without_overlaps(edits: list[Edit]) -> list[Edit]:
    """The edits in order of place, less those that touch what an earlier one touches."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda e: (e.start, -e.end)):
        if not kept or (edit.start >= kept[-1].end and edit.start > kept[-1].start):
            kept.append(edit)
    return kept
