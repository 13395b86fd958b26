"""What is wrong with a resource's fields, told at the file, line and column where the value was written.

Turns pydantic's errors into problems, with what would be right, and follows templates back to the variable
that the value came from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from provisioner.config.source import Map
from provisioner.config.values import what
from provisioner.config.variables import Frame, has_template, walk
from provisioner.errors import ConfigError, Problem, Source, did_you_mean
from provisioner.secrets import hide, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["origin", "problems_of"]

_NAMES = re.compile(r"(?<![\w.'\"])([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*|\[\d+\]|\['[^']*'\])*)(?!\s*\()")
_INSIDE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
#: Templates that lead to templates further than this are not followed.
_MAX_STEPS = 20


def origin(frame: Frame, name: str, path: tuple[Any, ...] = (), steps: int = 0) -> Source | None:
    """Where the value at a path into a variable was written, through the templates that it came by."""
    holder = frame.holder(name)
    if holder is None:
        return None
    value, rest, where = walk(holder.own[name], path)
    where = where if path and where else where or frame.written_at(name)
    if not path:
        where = frame.written_at(name) or where
    if isinstance(value, str) and has_template(value) and steps < _MAX_STEPS:
        scope = holder.home if holder.sealed else frame
        return _through(value, tuple(rest), scope, steps + 1) or where
    return where


def _through(text: str, rest: tuple[Any, ...], frame: Frame, steps: int = 0) -> Source | None:
    """Where the variable was written whose value a template gives."""
    for found in _references(text):
        name, path = found
        if frame.holder(name) is not None:
            place = origin(frame, name, (*path, *rest), steps)
            if place is not None:
                return place
    return None


def _references(text: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for inside in _INSIDE.findall(text):
        for name, path in _NAMES.findall(inside):
            steps: list[Any] = []
            for word, index, key in re.findall(r"\.(\w+)|\[(\d+)\]|\['([^']*)'\]", path):
                steps.append(int(index) if index else word or key)
            yield name, tuple(steps)


def problems_of(
    error: ValueError, kind: str, model: type[BaseModel], raw: Any, source: Source | None, frame: Frame
) -> list[Problem]:
    """The problems that a validation error stands for."""
    if isinstance(error, ConfigError):
        return list(error.problems)
    if not isinstance(error, ValidationError):
        hint = (getattr(error, "context", None) or {}).get("hint")
        return [Problem(f"{kind}: {error}", source, hint or None)]
    made = []
    for one in error.errors(include_url=False):
        made.append(_problem(dict(one), kind, model, raw, source, frame))
    return made


def _problem(
    one: dict[str, Any], kind: str, model: type[BaseModel], raw: Any, source: Source | None, frame: Frame
) -> Problem:
    loc = tuple(one["loc"])
    path, where, template, rest = _follow(raw, loc, source)
    dotted = ".".join(map(str, path))
    came = _through(template, rest, frame) if template else None
    context = one.get("ctx") or {}
    hint: str | None = context.get("hint") or None
    if one["type"] == "extra_forbidden":
        owner = _model_at(model, loc[:-1])
        where = _key_at(raw, loc) or where
        below = ".".join(map(str, path[:-1]))
        message = f"{kind}{'.' + below if below else ''} has no field '{loc[-1]}'"
        known = [info.alias or name for name, info in owner.model_fields.items()] if owner else []
        hint = did_you_mean(loc[-1], known) or (
            f"'nsprov explain {kind}' lists its fields" if kind != "expect" else None
        )
    elif one["type"] == "missing":
        below = ".".join(str(part) for part in path if part != loc[-1])
        message = f"{kind}{'.' + below if below else ''} needs the field '{loc[-1]}'"
    else:
        message = f"{kind}.{dotted}: {_words(one)}" if dotted else f"{kind}: {_words(one)}"
    if one["type"] in ("literal_error", "enum") and hint is None:
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        near = did_you_mean(one.get("input"), known)
        hint = near if near and near.startswith("did you mean") else None
    message, hint = hide(message, one.get("input")), hint and hide(hint, one.get("input"))
    if came is not None and came != where:
        message += f" (the value comes from {came})"
    return Problem(message, where, hint)


def _key_at(raw: Any, loc: Sequence[Any]) -> Source | None:
    """Where the key at an error's place was written."""
    for step in loc[:-1]:
        if (isinstance(raw, Map) and step in raw) or (
            isinstance(raw, list) and isinstance(step, int) and step < len(raw)
        ):
            raw = raw[step]
    return raw.key_at(str(loc[-1])) if isinstance(raw, Map) and str(loc[-1]) in raw else None


def _follow(
    raw: Any, loc: Sequence[Any], source: Source | None
) -> tuple[list[Any], Source | None, str | None, tuple[Any, ...]]:
    """Follow an error's place into the raw fields: the path that exists there, its position, and the template
    that gave the value, with the rest of the path within it."""
    path: list[Any] = []
    where = source
    for index, step in enumerate(loc):
        if isinstance(raw, Map) and step in raw:
            where = raw.at(str(step)) or where
            raw = raw[step]
            path.append(step)
        elif isinstance(raw, list) and isinstance(step, int) and step < len(raw):
            where = getattr(raw, "at", lambda _: None)(step) or where
            raw = raw[step]
            path.append(step)
        elif isinstance(raw, str) and has_template(raw):
            rest = tuple(loc[index:])
            return [*path, *rest], where, str(raw), rest
    return path, where, str(raw) if isinstance(raw, str) and has_template(raw) else None, ()


_EXPECTED = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    **dict.fromkeys(("string_type",), "must be a text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "must be a list"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must be a mapping of fields"
    ),
}


def _words(one: dict[str, Any]) -> str:
    """What is wrong with a value, as a person says it, with the value."""
    if one["type"] == "nsprov":
        return str(one["msg"])
    message = _EXPECTED.get(one["type"])
    if message is None and one["type"] in ("literal_error", "enum"):
        message = f"must be {one['ctx']['expected']}"
    if message is None:
        message = str(one["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1)
        message = message[:1].lower() + message[1:]
    value = one.get("input")
    if is_secret(value):
        return f"{message}, not what it is"
    if isinstance(value, (str, int, float)):
        return f"{message}, not '{value}'" if len(str(value)) <= 60 else message
    return f"{message}, not {what(value)}"


def _model_at(model: type[BaseModel], loc: Sequence[Any]) -> type[BaseModel] | None:
    """The model that an error's place lies in."""
    here: type[BaseModel] | None = model
    for step in loc:
        if here is None or isinstance(step, int):
            continue
        info = next(
            (info for name, info in here.model_fields.items() if step in (name, info.alias)),
            None,
        )
        if info is not None:
            here = _model_in(info.annotation)
    return here


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = _model_in(part)
        if found is not None:
            return found
    return None
