"""How the mark of a secret survives templates: what a filter, an operator or a method makes of one is one.

Values carry the mark themselves, so that ``db.host`` is shown where only ``db.password`` is secret. What is taken out
of a list or mapping as it is keeps the mark that it has; what is made anew of something that has a secret in it is
a secret as a whole, but for texts that were no secret before.
"""

from __future__ import annotations

import types
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from functools import wraps
from typing import Any

from jinja2.runtime import Undefined

from provisioner.config.source import Map, Seq
from provisioner.secrets import Secret, SecretFloat, SecretInt, are_known, is_secret, learn, marked

__all__ = ["derived", "guarded", "holds_secret", "secret"]

_LAZY = (types.GeneratorType, map, filter, zip)
_VIEWS = (KeysView, ValuesView, ItemsView)
_LISTS = (list, tuple, set, frozenset, *_VIEWS)
#: A piece of a secret that is shorter than this is not looked for in what is printed: it may be any word.
_TELLING = 8
#: Filters that tell nothing of a secret but what is no secret: how many, of what type, whether.
_INNOCENT = frozenset(["length", "count", "type_debug", "bool", "_counted", "_joined"])


def secret(value: Any) -> Any:
    """The filter ``secret``: marks a value, and all that is in it."""
    if isinstance(value, Undefined):
        return str(value)  # fails, with what is missing
    if isinstance(value, _LAZY):
        value = list(value)
    made = marked(value)
    learn(made)
    return made


def holds_secret(value: Any) -> bool:
    """Whether there is a secret in a value. Variables of other hosts are not evaluated to find out."""
    if is_secret(value):
        return True
    if isinstance(value, dict):
        return any(map(holds_secret, value.values()))
    if isinstance(value, _LISTS):
        return any(map(holds_secret, value))
    return False


def derived(result: Any, given: Sequence[Any]) -> Any:
    """What was made of some values, with the marks that it must have."""
    if not any(map(holds_secret, given)):
        return result
    known: set[str] = set()
    for one in given:
        known.update(_plain_texts(one))
    return _marked(result, known, numbers=any(map(is_secret, given)))


def _plain_texts(value: Any) -> Iterator[str]:
    """The texts in a value that are no secrets, and its keys."""
    if isinstance(value, str):
        if not is_secret(value):
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield key
            yield from _plain_texts(item)
    elif isinstance(value, _LISTS):
        for item in value:
            yield from _plain_texts(item)


def _marked(value: Any, known: set[str], *, numbers: bool) -> Any:
    if is_secret(value) or value is None or isinstance(value, (bool, Undefined)):
        return value
    if isinstance(value, str):
        if str.__str__(value) in known:
            return value
        made = Secret(value)
        if len(made) >= _TELLING:
            learn(made, whole=True)
        return made
    if isinstance(value, int) and numbers:
        return SecretInt(value)
    if isinstance(value, float) and numbers:
        return SecretFloat(value)
    if isinstance(value, _LAZY):
        return (_marked(item, known, numbers=numbers) for item in value)
    if type(value) in (dict, Map):
        for key, item in list(value.items()):
            made = _marked(item, known, numbers=numbers)
            if made is not item:
                value[key] = made
        return value
    if type(value) in (list, Seq):
        value[:] = [_marked(item, known, numbers=numbers) for item in value]
        return value
    if type(value) is tuple:
        return tuple(_marked(item, known, numbers=numbers) for item in value)
    return value


def guarded(filters: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Filters under whose hands secrets stay secrets."""
    wrapped: dict[int, Callable[..., Any]] = {}
    made = {}
    for name, one in filters.items():
        if name.rpartition(".")[2] in _INNOCENT or one is secret:
            made[name] = one
            continue
        if id(one) not in wrapped:
            wrapped[id(one)] = _guard(one)
        made[name] = wrapped[id(one)]
    return made


def _guard(function: Callable[..., Any]) -> Callable[..., Any]:
    first = 0 if getattr(function, "jinja_pass_arg", None) is None else 1  # the context, or the environment

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        if not are_known():
            return function(*args, **options)
        # What comes item by item is looked at as a whole, and would be used up by that.
        given = [list(one) if isinstance(one, _LAZY) else one for one in args[first:]]
        inputs = [*given, *options.values()]
        if not any(map(holds_secret, inputs)):
            return function(*args[:first], *given, **options)
        return derived(function(*args[:first], *given, **options), inputs)

    return run
