"""The value syntaxes that systemd's directives share: booleans, sizes, time spans, percentages, quoted words.

Each pair reads text as systemd does and writes it in one canonical form, so that ``512M`` and ``536870912``
are the same value. Pure; what is wrong is raised as ``BadValue`` with what would be right.
"""

from __future__ import annotations

import base64
import binascii
import re
from decimal import Decimal, InvalidOperation

from provisioner.errors import did_you_mean

__all__ = [
    "INFINITY",
    "BadValue",
    "base64_bytes",
    "boolean",
    "bytes_text",
    "c_unescape",
    "integer",
    "one_of",
    "percent",
    "percent_text",
    "quoted",
    "size",
    "span",
    "span_text",
    "words",
]

#: How systemd's D-Bus interface says "no limit", and "not set".
INFINITY = 2**64 - 1


class BadValue(ValueError):  # noqa: N818 - it is a value that is bad, not an error of the program
    """A value that systemd would not take: why, and what would be right."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_TRUE = {"1", "yes", "y", "true", "t", "on"}
_FALSE = {"0", "no", "n", "false", "f", "off"}


def boolean(text: str) -> bool:
    """``yes`` or ``no`` in any of systemd's spellings."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadValue(f"'{text}' is neither yes nor no", "write yes or no")


def one_of(text: str, choices: tuple[str, ...]) -> str:
    """One of some words."""
    if text in choices:
        return text
    raise BadValue(f"'{text}' is not one of its values", did_you_mean(text, choices) or f"one of {', '.join(choices)}")


def integer(text: str, low: int, high: int) -> int:
    """A whole number, also as 0x, 0o or 0b."""
    try:
        value = int(text.strip(), 0) if not re.fullmatch(r"[+-]?0\d+", text.strip()) else int(text, 8)
    except ValueError:
        raise BadValue(f"'{text}' is not a whole number", f"a number from {low} to {high}") from None
    if not low <= value <= high:
        raise BadValue(f"{value} is out of range", f"a number from {low} to {high}")
    return value


# -- sizes ----------------------------------------------------------------------------------------

_SIZE_LETTERS = "KMGTPE"
_SIZE_PART = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([BKMGTPE]?)", re.ASCII)


def size(text: str, base: int = 1024) -> int:
    """A number of bytes: ``512M``, ``1.5G``, ``1G 256M``, ``4096``."""
    hint = "a size such as 4096, 512M or 1.5G"
    if re.fullmatch(r"[\d.]+\s*([KMGTPE]i?B|[kmgtpe]i?b?)", text.strip()):
        hint = f"did you mean '{text.strip().rstrip('Bbi').upper()}'?"
        raise BadValue(f"'{text}' is not a size", hint)
    total, at, last = Decimal(0), 0, 99
    while at < len(text.rstrip()):
        match = _SIZE_PART.match(text, at)
        rank = _SIZE_LETTERS.find(match[2]) + 1 if match and match[2] else 0
        if not match or rank >= last:
            raise BadValue(f"'{text}' is not a size", hint)
        total += Decimal(match[1]) * base**rank
        at, last = match.end(), rank
    if not text.strip() or total >= INFINITY:
        raise BadValue(f"'{text}' is not a size", hint)
    return int(total)


def bytes_text(value: int, base: int = 1024) -> str:
    """The shortest exact spelling of a size."""
    for rank in range(len(_SIZE_LETTERS), 0, -1):
        if value and value % base**rank == 0:
            return f"{value // base**rank}{_SIZE_LETTERS[rank - 1]}"
    return str(value)


# -- percentages ----------------------------------------------------------------------------------

_PERCENT = re.compile(r"(\d+)(?:\.(\d{1,2}))?%", re.ASCII)
_PERMILLE = re.compile(r"(\d+)(?:\.(\d))?‰", re.ASCII)
_PERMYRIAD = re.compile(r"(\d+)‱", re.ASCII)


def percent(text: str) -> int | None:
    """A percentage in hundredths of a percent (systemd's permyriads), or None for what is not one."""
    word = text.strip()
    if match := _PERCENT.fullmatch(word):
        return int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0"))
    if match := _PERMILLE.fullmatch(word):
        return int(match[1]) * 10 + int(match[2] or "0")
    if match := _PERMYRIAD.fullmatch(word):
        return int(match[1])
    return None


def percent_text(permyriad: int) -> str:
    """``50%``, ``12.5%``."""
    whole, rest = divmod(permyriad, 100)
    return f"{whole}.{rest:02}".rstrip("0").rstrip(".") + "%" if rest else f"{whole}%"


# -- time spans -----------------------------------------------------------------------------------

_UNITS = {
    "y": 31557600000000,
    "month": 2629800000000,
    "w": 604800000000,
    "d": 86400000000,
    "h": 3600000000,
    "min": 60000000,
    "s": 1000000,
    "ms": 1000,
    "us": 1,
}
_SPELLINGS = {
    **dict.fromkeys(("years", "year", "y"), _UNITS["y"]),
    **dict.fromkeys(("months", "month", "M"), _UNITS["month"]),
    **dict.fromkeys(("weeks", "week", "w"), _UNITS["w"]),
    **dict.fromkeys(("days", "day", "d"), _UNITS["d"]),
    **dict.fromkeys(("hours", "hour", "hr", "h"), _UNITS["h"]),
    **dict.fromkeys(("minutes", "minute", "min", "m"), _UNITS["min"]),
    **dict.fromkeys(("seconds", "second", "sec", "s"), _UNITS["s"]),
    **dict.fromkeys(("msec", "ms"), _UNITS["ms"]),
    **dict.fromkeys(("usec", "us", "µs", "μs"), _UNITS["us"]),
}
_SPAN_PART = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-zµμ]*)", re.ASCII)


def span(text: str, *, per_second: int = 1_000_000, default: str = "s") -> int:
    """A time span in microseconds (or nanoseconds): ``90``, ``1min 30s``, ``1.5h``, ``infinity``.

    ``default`` is the unit of a bare number.
    """
    if text.strip() == "infinity":
        return INFINITY
    units = dict(_SPELLINGS)
    if per_second == 1_000_000_000:
        units = {word: value * 1000 for word, value in units.items()} | dict.fromkeys(("nsec", "ns"), 1)
    total, at = Decimal(0), 0
    while at < len(text.rstrip()):
        match = _SPAN_PART.match(text, at)
        unit = units.get(match[2] or default) if match else None
        if match is None or unit is None:
            near = did_you_mean(match[2], units) if match and len(match[2]) > 2 else None
            raise BadValue(
                f"'{text}' is not a time span", near or "a time span such as 90, 1min 30s, 500ms or infinity"
            )
        total += Decimal(match[1]) * unit
        at = match.end()
    if not text.strip():
        raise BadValue("a time span is missing", "a time span such as 90, 1min 30s, 500ms or infinity")
    return min(int(total), INFINITY - 1)


def span_text(usec: int) -> str:
    """A time span as systemd writes it: ``1min 30s``."""
    if usec == INFINITY:
        return "infinity"
    parts = []
    for unit, length in _UNITS.items():
        count, usec = divmod(usec, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0"


# -- words ----------------------------------------------------------------------------------------

_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_CODED = re.compile(r"x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")


def _escape_at(text: str, at: int) -> tuple[str, int]:
    """The character that the escape at ``at`` (behind the backslash) stands for, and where it ends."""
    if match := _CODED.match(text, at):
        code = int(match[1] or match[3] or match[4], 16) if not match[2] else int(match[2], 8)
        return chr(code), match.end()
    letter = text[at : at + 1]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 1
    return "\\" + letter, at + 1  # systemd leaves what it does not know


def words(text: str, *, escapes: bool = True) -> list[str]:
    """The words of a value, with quotes taken off, and C escapes read; without ``escapes`` they stay."""
    found: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            return found
        word, at = _word_at(text, at, escapes)
        found.append(word)


def _word_at(text: str, at: int, escapes: bool) -> tuple[str, int]:
    word, quote = "", ""
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            if not escapes:
                word, at = word + text[at : at + 2], at + 2
                continue
            made, at = _escape_at(text, at + 1)
            word += made
            continue
        at += 1
        if quote:
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in "\"'":
            quote = char
        elif char.isspace():
            return word, at
        else:
            word += char
    if quote:
        raise BadValue(f"the quote {quote} is not closed in: {text}", "close it, or write \\" + quote)
    return word, at


def quoted(word: str) -> str:
    """A word as it is written into a unit file: in quotes where it must be."""
    if word and not re.search(r"[\s\"'\\\x00-\x1f]", word):
        return word
    made = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    made = re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", made)
    return f'"{made}"'


def c_unescape(text: str) -> bytes:
    """The bytes that a text with C escapes stands for."""
    made, at = bytearray(), 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            coded = _CODED.match(text, at + 1)
            char, at = _escape_at(text, at + 1)
            made += bytes([ord(char)]) if coded and (coded[1] or coded[2]) and ord(char) < 256 else char.encode()
        else:
            made += text[at].encode()
            at += 1
    return bytes(made)


def base64_bytes(text: str) -> bytes:
    """The bytes of a base64 text."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, InvalidOperation):
        raise BadValue("it is not base64", "encode it with `base64`, or the b64encode filter") from None
