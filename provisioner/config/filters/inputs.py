"""What filters are given, read as they need it: a text, a list, a value without positions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from provisioner.config.bounds import MAX_ITEMS
from provisioner.config.values import FilterError, Missing, needed


def text_of(value: Any) -> str:
    needed(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def plain(value: Any) -> Any:
    """A value without positions, as dumpers and encoders want it."""
    if isinstance(value, Missing):
        value.fail()
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, str) else key: plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return value


def items_of(value: Any, name: str) -> list[Any]:
    needed(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FilterError(f"{name} takes a list, not {kind_of(value)}")
    return list(itertools.islice(value, MAX_ITEMS))


def kind_of(value: Any) -> str:
    return {"str": "a text", "Str": "a text", "int": "a number", "float": "a number", "NoneType": "null"}.get(
        type(value).__name__, "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    )
