"""How much a template may make: no text, list or number that would exhaust the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from provisioner.config.values import FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MAX_ITEMS",
    "MAX_TEXT",
    "MAX_WORK",
    "bounded",
    "bounded_format",
    "bounded_method",
    "bounded_number",
    "bounded_power",
]

#: No text that a template makes may be longer.
MAX_TEXT = 16 * 1024 * 1024
#: No list that a template makes may be longer.
MAX_ITEMS = 1_000_000
#: Rounds of loops, items of ranges and calls that one evaluation may make.
MAX_WORK = 2_000_000


def bounded(size: int, *, items: bool = False) -> None:
    """Refuse a text or a list that would be larger than a template may make. Raises FilterError."""
    most = MAX_ITEMS if items else MAX_TEXT
    if size > most:
        what = "items" if items else "characters"
        raise FilterError(f"the result would have {size} {what}, more than the {most} that are allowed")


def bounded_number(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
        raise FilterError("the number would have more than 4096 bits")


def bounded_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * max(exponent, 0) > 4096:
        raise FilterError("the number would have more than 4096 bits")


_WIDTH = re.compile(r"\d{5,}|%[^%a-zA-Z]*\*|:[^{}]*\{")


def bounded_format(pattern: str) -> None:
    """Refuse a format whose widths are huge, or are given by another value. Raises FilterError."""
    if _WIDTH.search(pattern):
        raise FilterError("a width in a format is a number of at most four digits")


def bounded_method(text: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse calls of a text's methods that would make something huge of little."""
    if method in ("ljust", "rjust", "center", "zfill", "expandtabs"):
        width = max((one for one in (*args, *kwargs.values()) if isinstance(one, int)), default=0)
        bounded(width if method != "expandtabs" else width * (text.count("\t") + 1))
    elif method == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        bounded(len(text) + text.count(args[0]) * len(args[1]))
    elif method in ("format", "format_map"):
        bounded_format(text)
    elif method == "join" and args and isinstance(args[0], (list, tuple)):
        bounded(len(text) * len(args[0]))
    elif method == "translate":
        raise FilterError("translate is not available in templates", "use replace, or the filter regex_replace")
