"""Comparing versions as Ansible's ``version`` test does: loose, strict, semantic, and Python's own."""

from __future__ import annotations

import operator
import re
from typing import Any

from provisioner.config.values import FilterError

__all__ = ["compare_versions"]

_OPERATORS = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
}
_SEMANTIC = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_STRICT = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:([ab])(\d+))?")


def compare_versions(
    value: str, version: str, relation: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    """Whether one version stands in a relation (``>=``, ``lt``) to another. Raises FilterError."""
    if strict is not None and version_type:
        raise FilterError("version takes strict or version_type, not both")
    if relation not in _OPERATORS:
        raise FilterError(f"version has no comparison '{relation}'", "known here: ==, !=, <, <=, >, >=")
    if not value:
        raise FilterError("version needs a version, not an empty text")
    kind = "strict" if strict else version_type or "loose"
    readers = {"loose": _loose, "strict": _strict, "semver": _semantic, "semantic": _semantic, "pep440": _python}
    if kind not in readers:
        raise FilterError(f"version has no version_type '{kind}'", "known here: " + ", ".join(sorted(readers)))
    read = readers[kind]
    try:
        return bool(_OPERATORS[relation](read(value), read(version)))
    except TypeError:
        raise FilterError(f"the versions '{value}' and '{version}' cannot be compared") from None


def _loose(text: str) -> list[int | str]:
    return [
        int(part) if part.isdigit() else part for part in re.split(r"(\d+|[a-z]+|\.)", text) if part not in ("", ".")
    ]


def _strict(text: str) -> Any:
    found = _STRICT.fullmatch(text)
    if not found:
        raise FilterError(f"'{text}' is not a strict version", "for example: 1.2, 1.2.3, 1.2a1")
    numbers = (int(found[1]), int(found[2]), int(found[3] or 0))
    return (numbers, 0, found[4], int(found[5])) if found[4] else (numbers, 1, "", 0)


def _semantic(text: str) -> Any:
    found = _SEMANTIC.fullmatch(text)
    if not found:
        raise FilterError(f"'{text}' is not a semantic version", "for example: 1.2.3, 1.2.3-rc.1")
    numbers = (int(found[1]), int(found[2]), int(found[3]))
    if not found[4]:
        return (numbers, 1, ())
    # Numbers come before words, and a shorter row of them before a longer one.
    return (numbers, 0, tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in found[4].split(".")))


def _python(text: str) -> Any:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        raise FilterError(f"'{text}' is not a version of a Python package") from None
