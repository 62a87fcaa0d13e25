"""Rules for the frame of lyrics: tags, separators, and what a section may hold.

A rule is a function of a `Document` and returns edits. Where several apply at one place they are run again
until nothing changes, so a rule may leave to another what the other mends.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from songgen.characters import APOSTROPHES, WIDE_SEMICOLON
from songgen.lint_characters import SPECIAL_TOKENS
from songgen.lyrics import SUNG_TAGS, Block, nearest_tag, scan_lyrics
from songgen.songbloom_form import SEPARATOR, scan_songbloom
from songgen.text_length import is_unspaced
from songgen.text_rules import Edit, TextRules


@dataclass(frozen=True)
class Document:
    """Lyrics as the rules see them: the text, its blocks (0 is what precedes the first tag), the rules."""

    text: str
    blocks: tuple[Block, ...]
    rules: TextRules

    @classmethod
    def read(cls, text: str, rules: TextRules) -> Document:
        """Scan a lyric string."""
        scan = scan_songbloom if rules.family == "songbloom" else scan_lyrics
        return cls(text, tuple(scan(text)), rules)

    @property
    def separator(self) -> str:
        """What stands between two sections."""
        return SEPARATOR if self.rules.family == "songbloom" else " ; "

    def words(self, block: Block) -> str:
        """What stands in a block, without tag and separators."""
        return self.text[block.text_start : block.text_end]

    def is_unspaced(self, block: Block) -> bool:
        """Whether a block is Chinese or Japanese."""
        return is_unspaced(self.words(block))


def has_words(text: str) -> bool:
    """Whether there is anything to sing in a text."""
    for token in SPECIAL_TOKENS:
        text = text.replace(token, " ")
    return any(unicodedata.category(c)[0] in "LNM" or c in "'" + APOSTROPHES for c in text)


def tag_spelling(document: Document) -> list[Edit]:
    """Tags that are meant but not written as the model knows them."""
    edits = []
    for block in document.blocks[1:]:
        if block.spelling == "exact":
            continue
        written, right = document.text[block.start : block.tag_end], f"[{block.tag}]"
        why = f"{written} is none of the model's 13 tags, which it must match to the letter: it would be sung"
        rule = "tag-spelling" if block.spelling == "spacing" else "unknown-tag"
        edits.append(Edit(rule, "error", block.start, block.tag_end, right, f"{why}; {right} is meant"))
    return edits


def stray_brackets(document: Document) -> list[Edit]:
    """Brackets that hold no tag, or are not closed: plain words to the model."""
    edits = []
    for block in document.blocks:
        for match in re.finditer(r"\[([^\[\]]*)\]|[\[\]]", document.words(block)):
            start, end = block.text_start + match.start(), block.text_start + match.end()
            written, near = match.group(), nearest_tag(match.group(1) or "")
            if match.group(1) is None:
                why = f"this {written!r} has no partner, so it opens or closes no section and would be sung"
                edits.append(Edit("stray-bracket", "error", start, end, None, why, False))
                continue
            meant = (
                f"; the nearest tag is [{near}]" if near else "; take it out, or say it in the descriptions"
            )
            why = f"{written} is none of the model's 13 tags: its words would be sung{meant}"
            edits.append(Edit("unknown-tag", "error", start, end, f"[{near}]" if near else None, why, False))
    return edits


def missing_tags(document: Document) -> list[Edit]:
    """Words before the first tag, or no tag at all."""
    leading = document.blocks[0]
    if not has_words(document.words(leading)):
        return []
    at = leading.text_start
    if len(document.blocks) == 1:
        why = "the lyrics have no tag such as [verse]: the model does not know what kind of section to sing"
        return [Edit("no-tag", "error", at, at, "[verse] ", why)]
    why = "text before the first tag belongs to no section: give it a tag, or take it out if it is a title"
    return [Edit("text-before-tag", "error", at, at, "[verse] ", why, False)]


def separators(document: Document) -> list[Edit]:
    """What stands between a tag and its words, and between two sections, other than the model's own."""
    edits = []
    last, mark = document.blocks[-1].number, document.separator.strip()
    for block in document.blocks:
        after = document.separator if block.number < last else ""
        if block.text_start < block.text_end:
            gaps = [
                (block.tag_end, block.text_start, " " if block.tag else ""),
                (block.text_end, block.end, after),
            ]
        else:
            gaps = [(block.tag_end, block.end, after if block.tag else "")]
        for start, end, right in gaps:
            found = document.text[start:end]
            if found == right:
                continue
            if right == after and after:
                why = (
                    f"sections are separated by {after!r}, here is {found!r}: the model learnt only that form"
                )
            elif not found:
                why = "no blank after the tag: the model learnt '[tag] text'"
            elif mark in found or WIDE_SEMICOLON in found:
                why = f"{found!r} separates nothing here: the model would expect another section"
            else:
                belongs = repr(right) if right else "nothing"
                why = f"here is {found!r} where {belongs} belongs: other tokens than in the training text"
            edits.append(Edit("separator", "warning", start, end, right, why))
    return edits


def section_contents(document: Document) -> list[Edit]:
    """Words under an instrumental tag, nothing under a sung one, and sections of marks only."""
    edits = []
    for block in document.blocks:
        words, is_sung = document.words(block), block.tag in SUNG_TAGS
        if words and not has_words(words) and (block.tag or len(document.blocks) > 1):
            why = f"{words!r} is nothing to sing"
            edits.append(Edit("no-words", "warning", block.text_start, block.text_end, "", why))
        elif block.tag and is_sung and not words:
            why = f"[{block.tag}] has no words: the model makes some up or skips it; [inst-short] is for that"
            edits.append(
                Edit("empty-section", "warning", block.start, block.tag_end, "[inst-short]", why, False)
            )
        elif block.tag and not is_sung and words:
            why = f"[{block.tag}] is played, not sung: its words are lost or sung by chance; give them a tag"
            at = block.text_start
            edits.append(Edit("instrumental-text", "warning", at, at, "; [verse] ", why, False))
    return edits
