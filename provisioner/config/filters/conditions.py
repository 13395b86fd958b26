"""Filters and tests that ask: is it defined, is it true, does it match."""

from __future__ import annotations

import math
from typing import Any

from jinja2.runtime import Undefined

from provisioner.config.filters.inputs import items_of, text_of
from provisioner.config.filters.sequences import same
from provisioner.config.filters.text import flags, pattern_of
from provisioner.config.filters.versions import compare_versions
from provisioner.config.values import Failed, FilterError, needed


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """The value, or ``default_value`` where it is undefined (with ``true`` also where it is empty)."""
    if isinstance(value, Failed):
        value.fail()
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def mandatory(value: Any, msg: str | None = None) -> Any:
    """The value; where it is undefined, an error with this message."""
    if isinstance(value, Undefined):
        if isinstance(value, Failed) or msg is None:
            needed(value)
        raise FilterError(str(msg))
    return value


def is_defined(value: Any) -> bool:
    if isinstance(value, Failed):
        value.fail()
    return not isinstance(value, Undefined)


def ternary(value: Any, true_val: Any, false_val: Any, none_val: Any = None) -> Any:
    """One value where the condition holds, another where it does not, a third where it is null."""
    needed(value)
    if value is None and none_val is not None:
        return none_val
    return true_val if bool(value) else false_val


def to_bool(value: Any) -> bool:
    """Whether the value means yes: 1, true, yes, on."""
    needed(value)
    if value is None or isinstance(value, bool):
        return bool(value)
    return str(value).lower() in ("yes", "on", "1", "true") or value == 1


def type_debug(value: Any) -> str:
    """The name of the value's type."""
    for kind, name in ((Undefined, "Undefined"), (str, "str"), (dict, "dict"), (list, "list")):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def _matches(value: Any, pattern: Any, flags: int, how: str) -> bool:
    compiled = pattern_of(pattern, flags)
    if how not in ("match", "search", "fullmatch"):
        raise FilterError(f"regex has no match_type '{how}'", "known here: match, search, fullmatch")
    return getattr(compiled, how)(text_of(value)) is not None


def is_match(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    return _matches(value, pattern, flags(ignorecase, multiline), "match")


def is_search(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    return _matches(value, pattern, flags(ignorecase, multiline), "search")


def is_regex(
    value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    return _matches(value, pattern, flags(ignorecase, multiline), match_type)


def is_version(
    value: Any, version: Any, operator: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    return compare_versions(text_of(value), text_of(version), operator, strict, version_type)


def is_subset(one: Any, other: Any) -> bool:
    there = {same(item) for item in items_of(other, "subset")}
    return all(same(item) in there for item in items_of(one, "subset"))


def is_truthy(value: Any, convert_bool: bool = False) -> bool:
    if convert_bool and isinstance(needed(value), (str, int)):
        lower = str(value).lower()
        if lower in ("yes", "on", "1", "true", "y", "t"):
            return True
        if lower in ("no", "off", "0", "false", "n", "f", ""):
            return False
    return bool(needed(value))


def is_nan(value: Any) -> bool:
    return isinstance(needed(value), float) and math.isnan(value)
