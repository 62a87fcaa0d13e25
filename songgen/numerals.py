"""Numbers in words, as English and Chinese sing them: transcripts write digits where lyrics have words."""

from __future__ import annotations

import re

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ENGLISH_SCALES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_HAN_DIGITS = "\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d"
_HAN_SCALES = ((10**8, "\u4ebf"), (10**4, "\u4e07"), (1000, "\u5343"), (100, "\u767e"), (10, "\u5341"))
_TOO_LARGE = 10**12


def spell_numbers(text: str, language: str) -> str:
    """A text with its decimal numbers in words, set off by blanks in English.

    Cardinals below 10^12; longer ones, and those that begin with 0, digit by digit. `language` is `zh` or
    `en`.
    """
    if language == "zh":
        return re.sub(r"[0-9]+", lambda match: chinese_number(match[0]), text)
    return re.sub(r"[0-9]+", lambda match: f" {english_number(match[0])} ", text)


def english_number(digits: str) -> str:
    """The English words of a number in digits.

    >>> english_number("1234")
    'one thousand two hundred thirty four'
    """
    if _is_read_by_digit(digits):
        return " ".join(_ONES[int(digit)] for digit in digits)
    return " ".join(_english(int(digits)))


def chinese_number(digits: str) -> str:
    """The Chinese characters of a number in digits: 10 has no leading one, a gap of zeros is read once."""
    if _is_read_by_digit(digits):
        return "".join(_HAN_DIGITS[int(digit)] for digit in digits)
    words = _chinese(int(digits))
    return words[1:] if words.startswith(_HAN_DIGITS[1] + _HAN_SCALES[-1][1]) else words


def _is_read_by_digit(digits: str) -> bool:
    return (digits.startswith("0") and len(digits) > 1) or int(digits) >= _TOO_LARGE


def _english(number: int) -> list[str]:
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10], *([_ONES[number % 10]] if number % 10 else [])]
    scale, name = next(pair for pair in _ENGLISH_SCALES if number >= pair[0])
    head, rest = divmod(number, scale)
    return [*_english(head), name, *(_english(rest) if rest else [])]


def _chinese(number: int) -> str:
    if number < 10:
        return _HAN_DIGITS[number]
    scale, name = next(pair for pair in _HAN_SCALES if number >= pair[0])
    head, rest = divmod(number, scale)
    if not rest:
        return _chinese(head) + name
    return _chinese(head) + name + (_HAN_DIGITS[0] if rest < scale // 10 else "") + _chinese(rest)
