"""Character rules, the same for lyrics and descriptions: what no model has learnt to sing or to read.

Every rule is a function of the text that returns edits; none removes a letter, a digit or an apostrophe.
"""

from __future__ import annotations

import re
import unicodedata

from songgen.characters import (
    APOSTROPHES,
    ASCII_OF_WIDE,
    JOINERS,
    LINE_ENDS,
    PICTURES,
    QUOTES,
    REPLACEMENT,
    WIDE_LETTERS,
)
from songgen.text_rules import Edit, find_edits

# Those of the published tokenizer: written in a text they become control tokens.
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)), re.IGNORECASE)
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")
_QUOTE = re.compile(f"[{QUOTES}]")
_WIDE_LETTER = re.compile(f"[{WIDE_LETTERS}]")
_PICTURE = re.compile(rf"[ ]*[{PICTURES}][\s{PICTURES}{JOINERS}]*")


def special_tokens(text: str) -> list[Edit]:
    """Control tokens written out."""
    return find_edits(
        "special-token",
        "error",
        _SPECIAL,
        " ",
        lambda m: (
            f"'{m.group()}' is a control token of the model, not text: it would end or restart the prompt"
        ),
        text=text,
        span=(0, len(text)),
    )


def invisible_characters(text: str) -> list[Edit]:
    """Control and zero-width characters, and the mark that a broken encoding leaves."""
    edits = []
    for position, character in enumerate(text):
        category = unicodedata.category(character)
        name = f"U+{ord(character):04X}"
        if character == REPLACEMENT:
            why = (
                "the character U+FFFD stands where a file was read with the wrong encoding: a letter is lost"
            )
            edits.append(Edit("broken-encoding", "warning", position, position + 1, None, why, False))
        elif character in LINE_ENDS:
            why = f"{name} is a line end of another system: the model reads it as noise"
            edits.append(Edit("control-character", "warning", position, position + 1, "\n", why))
        elif category in ("Cc", "Cs") and character not in "\t\n\r":
            why = f"the control character {name} is noise for the model"
            edits.append(Edit("control-character", "warning", position, position + 1, " ", why))
        elif category == "Cf" and character not in JOINERS:
            why = f"the invisible character {name} splits words into tokens the model never saw"
            edits.append(Edit("control-character", "warning", position, position + 1, "", why))
    return edits


def pictures(text: str) -> list[Edit]:
    """Emoji, notes, arrows and other pictures: they cannot be sung."""

    def blank(match: re.Match[str]) -> str:
        at_edge = match.start() == 0 or match.end() == len(text)
        if "\n" in match.group():
            return "\n"
        return "" if at_edge or text[match.end()] in ".,;!?)" else " "

    return find_edits(
        "picture",
        "warning",
        _PICTURE,
        blank,
        lambda m: f"'{m.group().strip()}' cannot be sung and costs several tokens",
        text=text,
        span=(0, len(text)),
    )


def typographic_quotes(text: str, span: tuple[int, int]) -> list[Edit]:
    """Apostrophes and quotation marks other than the ASCII ones."""
    apostrophes = find_edits(
        "apostrophe",
        "warning",
        _APOSTROPHE,
        "'",
        lambda m: f'{m.group()} is not the apostrophe of the training text: "don\'t" falls into other tokens',
        text=text,
        span=span,
    )
    quotes = find_edits(
        "quotation-mark",
        "warning",
        _QUOTE,
        '"',
        lambda m: f"{m.group()} is a quotation mark the model hardly saw",
        text=text,
        span=span,
    )
    return apostrophes + quotes


def full_width_letters(text: str, span: tuple[int, int]) -> list[Edit]:
    """Letters and digits of the full-width block."""
    return find_edits(
        "full-width-letter",
        "warning",
        _WIDE_LETTER,
        lambda m: ASCII_OF_WIDE[m.group()],
        lambda m: f"'{m.group()}' is a full-width letter: words of these are unknown to the model",
        text=text,
        span=span,
    )
