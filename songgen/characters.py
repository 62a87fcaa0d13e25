"""The characters that lyrics and descriptions are cleaned of or told apart by, written as code points.

Strings are meant for use inside a regular expression's `[...]`, too: none holds `]`, `^`, `-` or a backslash.
"""

from __future__ import annotations

# Scripts written without blanks: ideographs (with iteration mark and zero), hiragana, katakana (not its dot).
UNSPACED = (
    "\u3005\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
)
HANGUL = "\uac00-\ud7a3"

WIDE_COMMA, WIDE_STOP, WIDE_SEMICOLON, WIDE_COLON = "\uff0c", "\u3002", "\uff1b", "\uff1a"
WIDE_EXCLAMATION, WIDE_QUESTION, ENUMERATION_COMMA, ELLIPSIS = "\uff01", "\uff1f", "\u3001", "\u2026"
HALF_STOP, HALF_COMMA, WIDE_PERIOD, MIDDLE_DOT = "\uff61", "\uff64", "\uff0e", "\u00b7"
WIDE_ENDS = WIDE_STOP + WIDE_EXCLAMATION + WIDE_QUESTION + ELLIPSIS + HALF_STOP + WIDE_PERIOD
# Full-width marks that part phrases.
WIDE_MARKS = WIDE_ENDS + WIDE_COMMA + WIDE_SEMICOLON + WIDE_COLON + ENUMERATION_COMMA + HALF_COMMA
DASHES = "\u2014\u2015"

# Curly, modifier, full-width, acute, grave, prime and reversed; all stand for the ASCII one.
APOSTROPHES = "\u2018\u2019\u02bc\uff07\u00b4`\u2032\u201b"
# Curly, low, full-width, angle and corner quotation marks.
QUOTES = (
    "\u201c\u201d\u201e\u201f\u2033\uff02\u00ab\u00bb"
    "\u300c\u300d\u300e\u300f\u300a\u300b\u3008\u3009\uff62\uff63"
)
# Round, square, lenticular and tortoise-shell brackets.
WIDE_OPENERS, WIDE_CLOSERS = "\uff08\uff3b\u3010\u3014", "\uff09\uff3d\u3011\u3015"
CLOSERS = "\"')" + WIDE_CLOSERS + "\u201d\u2019\u300d\u300f"
WAVE_DASH = "\u301c"

# The ASCII character for each full-width form; letters and digits are among them.
ASCII_OF_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
WIDE_LETTERS = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"

# Emoji and other pictures, with what modifies them.
PICTURES = (
    "\U0001f000-\U0001f0ff\U0001f110-\U0001faff\u2600-\u2775\u2794-\u27bf"
    "\u2b00-\u2bff\u2300-\u23ff\u2190-\u21ff\u25a0-\u25ff\ufe0e\ufe0f\u20e3"
)
# Separators of records, vertical tab, form feed, next line, line and paragraph separators.
LINE_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Zero-width non-joiner and joiner: invisible, but they spell words in some scripts.
JOINERS = "\u200c\u200d"
REPLACEMENT = "\ufffd"  # what a wrong encoding leaves
