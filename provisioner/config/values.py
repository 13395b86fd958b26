"""The values that templates handle: what is missing, what failed, and what may leave a template."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.runtime import Undefined
from jinja2.utils import missing as absent
from markupsafe import Markup

from provisioner.config.source import Map, Seq, Str, UnsafeSecret
from provisioner.config.variables import OMIT
from provisioner.errors import Problem, did_you_mean
from provisioner.secrets import Secret, SecretFloat, SecretInt

if TYPE_CHECKING:
    pass

__all__ = [
    "SCALARS",
    "Failed",
    "FilterError",
    "Missing",
    "UndefinedVariableError",
    "absent",
    "finished",
    "located",
    "needed",
    "what",
]

SCALARS = frozenset([str, int, float, bool, type(None), Str, Secret, UnsafeSecret, SecretInt, SecretFloat])
_LAZY = (types.GeneratorType, range, map, filter, zip, KeysView, ValuesView, ItemsView, set, frozenset, deque)


class FilterError(Exception):
    """What a filter, test or lookup says of its input; ``hint`` is what would be right."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UndefinedVariableError(jinja2.UndefinedError):
    """A value that is not there was used."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(missing.told)
        self.missing = missing


class Missing(jinja2.StrictUndefined):
    """A value that is not there. Its items are not there either, so that ``a.b | default(1)`` is 1."""

    __slots__ = ("problem",)

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = absent,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
        problem: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(hint, obj, name, exc)
        self.problem = problem

    @property
    def told(self) -> str:
        """What is missing, in words."""
        name, obj = self._undefined_name, self._undefined_obj
        if self._undefined_hint:
            return str(self._undefined_hint)
        if obj is absent:
            return f"'{name}' is undefined"
        if isinstance(obj, Mapping):
            return f"'{name}' is undefined: the mapping has no such key"
        if isinstance(obj, list):
            shown = f"a list of {len(obj)}"
            return f"{shown} has no item {name}" if isinstance(name, int) else f"{shown} has no '{name}'"
        return f"{what(obj)} has no '{name}'"

    @property
    def suggestion(self) -> str | None:
        obj = self._undefined_obj
        if isinstance(obj, Mapping):
            return did_you_mean(self._undefined_name, map(str, obj)) or "known here: " + ", ".join(
                sorted(map(str, obj))[:12]
            )
        return None

    def fail(self, *_: Any, **__: Any) -> Any:
        raise UndefinedVariableError(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> Any:
        return self

    # Every other use of it fails, with what is missing.
    __str__ = __len__ = __iter__ = __eq__ = __ne__ = __bool__ = __hash__ = __contains__ = fail
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = fail
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = fail
    __pos__ = __neg__ = __call__ = __lt__ = __le__ = __gt__ = __ge__ = fail
    __int__ = __float__ = __complex__ = __pow__ = __rpow__ = fail


class Failed(Missing):
    """A variable whose own value could not be worked out. Not even ``default`` passes over it."""

    __slots__ = ()


def what(value: Any) -> str:
    """What a value is, as a person calls it."""
    for kind, name in (
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "a text"),
        (Mapping, "a mapping"),
        (list, "a list"),
        (tuple, "a list"),
        (type(None), "nothing (null)"),
    ):
        if isinstance(value, kind):
            return name
    return f"a value of the type {type(value).__name__}"


def finished(value: Any) -> Any:
    """A value as variables hold it: no generators, no tuples, no undefined parts, nothing that is not a value."""
    kind = type(value)
    if kind in SCALARS or kind is Map or kind is Seq or value is OMIT:
        return value
    if isinstance(value, Undefined):
        if isinstance(value, Missing):
            value.fail()
        raise FilterError("an inline 'if' without 'else' has no value here", "write: a if condition else b")
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return Seq([finished(item) for item in value])
    if isinstance(value, dict):
        return Map({key: finished(item) for key, item in value.items()})
    if isinstance(value, _LAZY):
        return Seq([finished(item) for item in value])
    if isinstance(value, Mapping):
        return value
    if callable(value):
        name = getattr(value, "__name__", "it")
        raise FilterError(
            f"'{name}' is a function here, not a value", f"for a key of that name write ['{name}'], or call {name}()"
        )
    return value


def located(value: Any) -> Any:
    """A value whose mappings and lists no template can change."""
    if isinstance(value, Mapping):
        return Map({key: located(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Seq([located(item) for item in value])
    return value


def needed(value: Any) -> Any:
    """The value, which must be there."""
    if isinstance(value, Missing):
        value.fail()
    return value
