"""Filters on paths, web addresses and dates."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from provisioner.config.filters.inputs import items_of, text_of
from provisioner.config.filters.refused import UNAVAILABLE
from provisioner.config.values import FilterError


def path_join(value: Any) -> str:
    """One path of its parts."""
    return posixpath.join(*([value] if isinstance(value, str) else map(text_of, items_of(value, "path_join"))))


def on_path(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(value: Any, *args: Any, **kwargs: Any) -> Any:
        made = function(text_of(value), *args, **kwargs)
        return list(made) if isinstance(made, tuple) else made

    apply.__doc__ = function.__doc__
    return apply


def relpath(value: Any, start: str) -> str:
    """The path as seen from another."""
    if not (posixpath.isabs(text_of(value)) and posixpath.isabs(start)):
        raise FilterError("relpath takes two absolute paths")
    return posixpath.relpath(text_of(value), start)


def split_url(value: Any, query: str = "") -> Any:
    """The parts of a web address, or one of them."""
    found = urlsplit(text_of(value))
    parts: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("fragment", "hostname", "netloc", "password", "path", "port", "query", "scheme", "username")
    }
    if not query:
        return parts
    if query not in parts:
        raise FilterError(f"urlsplit has no part '{query}'", "known here: " + ", ".join(parts))
    return parts[query]


def to_datetime(value: Any, format: str = "%Y-%m-%d %H:%M:%S") -> datetime:
    """The moment that a text names."""
    try:
        return datetime.strptime(text_of(value), format)
    except ValueError as error:
        raise FilterError(str(error)) from None


def strftime(pattern: Any, second: Any = None, utc: bool = True) -> str:
    """A moment (seconds since 1970, in UTC) as a text."""
    if second is None:
        raise FilterError(f"strftime needs the second: {UNAVAILABLE['now']}")
    return datetime.fromtimestamp(float(second), UTC).strftime(text_of(pattern))
