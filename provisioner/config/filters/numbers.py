"""Filters on numbers, and on the sizes that people write."""

from __future__ import annotations

import math
import re
from typing import Any

from provisioner.config.filters.inputs import kind_of, text_of
from provisioner.config.values import FilterError, needed


def _number(value: Any, name: str) -> Any:
    needed(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FilterError(f"{name} takes a number, not {kind_of(value)}")
    return value


def logarithm(value: Any, base: float = math.e) -> float:
    """The logarithm of a number."""
    try:
        return math.log10(_number(value, "log")) if base == 10 else math.log(_number(value, "log"), base)
    except (ValueError, ZeroDivisionError) as error:
        raise FilterError(f"log: {error}") from None


def power(value: Any, exponent: float) -> float:
    """A number to the power of another."""
    try:
        return math.pow(_number(value, "pow"), _number(exponent, "pow"))
    except (ValueError, OverflowError) as error:
        raise FilterError(f"pow: {error}") from None


def root(value: Any, base: float = 2) -> float:
    """The root of a number."""
    try:
        return math.sqrt(_number(value, "root")) if base == 2 else math.pow(_number(value, "root"), 1 / float(base))
    except (ValueError, ZeroDivisionError) as error:
        raise FilterError(f"root: {error}") from None


_UNITS = "BKMGTPEZY"


def human_readable(value: Any, isbits: bool = False, unit: str | None = None) -> str:
    """A number of bytes (or bits) as a person reads it: 1.00 KB."""
    needed(value)
    try:
        size = float(value)
    except (TypeError, ValueError):
        raise FilterError(f"human_readable takes a number of bytes, not '{value}'") from None
    base = "bits" if isbits else "Bytes"
    for at in range(len(_UNITS) - 1, -1, -1):
        limit = 1 << 10 * at
        if (unit is None and size >= limit) or (unit is not None and unit.upper() == _UNITS[at]):
            break
    suffix = base if at == 0 else _UNITS[at] + base[0]
    return f"{size / limit:.2f} {suffix}"


def human_to_bytes(value: Any, default_unit: str | None = None, isbits: bool = False) -> int:
    """The number of bytes that a text such as 512M means."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)?\s*", text_of(value))
    if not found:
        raise FilterError(f"human_to_bytes cannot read '{value}'", "for example: 512M, 1.5GB")
    unit = found[2] or default_unit
    if not unit:
        return round(float(found[1]))
    at = _UNITS.find(unit[0].upper())
    rest = unit[1:] if at > 0 else unit
    words = ("", "b", "bit", "bits") if isbits else ("", "B", "byte", "bytes", "b")
    if (
        at < 0
        or (rest.lower() not in {word.lower() for word in words})
        or (len(rest) == 1 and rest != ("b" if isbits else "B"))
    ):
        raise FilterError(f"human_to_bytes cannot read the unit '{unit}'", "for example: K, KB, MB, GB")
    return round(float(found[1]) * (1 << 10 * at))
