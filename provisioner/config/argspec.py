"""A role's ``meta/argument_specs.yml``: which variables the role takes, of what type, and the check of these.

The meaning is Ansible's: texts that read as the type are taken for it, and a default says what the role does,
it does not set the variable (that is what ``defaults/`` is for).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from provisioner.config.source import Map, source_of
from provisioner.errors import Problems, Source, did_you_mean
from provisioner.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["EntryPoint", "Option", "check", "check_value", "read_argument_specs"]

_ENTRY_KEYS = frozenset(
    [
        "short_description",
        "description",
        "author",
        "options",
        "version_added",
        "version_added_collection",
        "seealso",
        "attributes",
        "notes",
        "todo",
        "requirements",
        "deprecated",
        "mutually_exclusive",
        "required_together",
        "required_one_of",
        "required_if",
        "required_by",
        "examples",
    ]
)
_OPTION_KEYS = frozenset(
    [
        "type",
        "required",
        "default",
        "choices",
        "elements",
        "options",
        "description",
        "aliases",
        "no_log",
        "version_added",
        "version_added_collection",
        "mutually_exclusive",
        "required_together",
        "required_one_of",
        "required_if",
        "required_by",
        "apply_defaults",
        "removed_in_version",
        "removed_at_date",
        "removed_from_collection",
        "fallback",
        "deprecated_aliases",
        "context",
    ]
)
_RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


class _WrongTypeError(Exception):
    """The value is not of the type, and cannot be read as it."""


@dataclass(frozen=True, slots=True)
class Option:
    """One variable that a role takes, or one key of a mapping in it."""

    name: str
    type: str = "str"
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    elements: str | None = None
    options: Mapping[str, Option] | None = None
    aliases: tuple[str, ...] = ()
    secret: bool = False
    rules: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What one task file of a role takes."""

    name: str
    options: Mapping[str, Option]
    rules: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    def names(self) -> set[str]:
        """Every name and alias that an option has."""
        return {name for option in self.options.values() for name in (option.name, *option.aliases)}


# -- reading --------------------------------------------------------------------------------------


def read_argument_specs(raw: Any, problems: Problems) -> dict[str, EntryPoint]:
    """The entry points of a role's specification; what is wrong with it is added to the problems."""
    if raw is None:
        return {}
    if not isinstance(raw, Map):
        problems.add("argument_specs must be a mapping of entry points", source_of(raw), hint="start with: main:")
        return {}
    made = {}
    for name, entry in raw.items():
        if not isinstance(entry, Map):
            problems.add(f"the entry point '{name}' must be a mapping", raw.at(name))
            continue
        _unknown_keys(entry, _ENTRY_KEYS, f"the entry point '{name}'", problems)
        made[name] = EntryPoint(
            name,
            _options(entry.get("options"), entry.at("options"), problems),
            _rules(entry, problems),
            raw.key_at(name),
        )
    return made


def _rules(raw: Map, problems: Problems) -> dict[str, Any]:
    """The rules that bind several options together, in one shape."""
    made: dict[str, Any] = {}
    for key in _RULES:
        given = raw.get(key)
        if given is None or given == []:
            continue
        shaped = _required_by(given) if key == "required_by" else _groups(key, given)
        if shaped is None:
            problems.add(f"{key} has another shape", raw.at(key), hint=f"for example: {key}: {_SHAPES[key]}")
        else:
            made[key] = shaped
    return made


_SHAPES = {
    "mutually_exclusive": "[[name, other]]",
    "required_together": "[[name, other]]",
    "required_one_of": "[[name, other]]",
    "required_if": "[[name, value, [other]]]",
    "required_by": "{name: [other]}",
}


def _words_of(given: Any) -> list[str] | None:
    return list(given) if isinstance(given, list) and all(isinstance(one, str) for one in given) else None


def _groups(key: str, given: Any) -> list[Any] | None:
    if not isinstance(given, list):
        return None
    rows = given if all(isinstance(row, list) for row in given) else [given]
    if key != "required_if":
        return rows if all(_words_of(row) for row in rows) else None
    for row in rows:
        if len(row) not in (3, 4) or not isinstance(row[0], str) or not _words_of(row[2]):
            return None
    return rows


def _required_by(given: Any) -> dict[str, list[str]] | None:
    if not isinstance(given, dict):
        return None
    made = {name: [needed] if isinstance(needed, str) else _words_of(needed) for name, needed in given.items()}
    return {name: needed for name, needed in made.items() if needed} if all(made.values()) else None


def _unknown_keys(raw: Map, known: frozenset[str], what: str, problems: Problems) -> None:
    for key in raw:
        if key not in known:
            near = did_you_mean(key, known)
            problems.add(f"{what} has no key '{key}'", raw.key_at(key), hint=near)


def _options(raw: Any, where: Source | None, problems: Problems) -> dict[str, Option]:
    if raw is None:
        return {}
    if not isinstance(raw, Map):
        problems.add("options must be a mapping of names", where)
        return {}
    made: dict[str, Option] = {}
    for name, given in raw.items():
        option = Map((), raw.at(name)) if given is None else given
        if not isinstance(option, Map):
            problems.add(f"the option '{name}' must be a mapping", raw.at(name), hint="for example: {type: str}")
            continue
        made[name] = _option(name, option, raw.key_at(name), problems)
    return made


def _option(name: str, raw: Map, where: Source | None, problems: Problems) -> Option:
    _unknown_keys(raw, _OPTION_KEYS, f"the option '{name}'", problems)
    for key in ("type", "elements"):
        if key in raw and not (isinstance(raw[key], str) and raw[key] in _TYPES):
            problems.add(f"'{raw[key]}' is not a type of an option", raw.at(key), hint=did_you_mean(raw[key], _TYPES))
    required = raw.get("required", False)
    if not isinstance(required, bool):
        problems.add("required must be true or false", raw.at("required"))
    choices = raw.get("choices") or []
    if isinstance(choices, Map):
        choices = list(choices)
    if not isinstance(choices, list):
        problems.add("choices must be a list", raw.at("choices"))
        choices = []
    aliases = raw.get("aliases") or []
    if not isinstance(aliases, list):
        problems.add("aliases must be a list", raw.at("aliases"))
        aliases = []
    elements = str(raw.get("elements"))
    kind = str(raw.get("type", "str"))
    return Option(
        name=name,
        type=kind if kind in _TYPES else "raw",
        required=required is True,
        default=raw.get("default"),
        choices=tuple(choices),
        elements=elements if elements in _TYPES else None,
        options=_options(raw["options"], raw.at("options"), problems) if raw.get("options") is not None else None,
        aliases=tuple(map(str, aliases)),
        secret=raw.get("no_log") is True,
        rules=_rules(raw, problems),
        source=where,
    )


# -- types ----------------------------------------------------------------------------------------


def _str(value: Any) -> Any:
    if isinstance(value, (dict, list)) or value is None:
        raise _WrongTypeError
    return value if isinstance(value, str) else str(value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, (str, int, float)) else ""
    if text in ("yes", "on", "1", "true", "y", "t", "1.0"):
        return True
    if text in ("no", "off", "0", "false", "n", "f", "0.0"):
        return False
    raise _WrongTypeError


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+(?:\.0*)?\s*", value):
        return int(float(value))
    raise _WrongTypeError


def _float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _WrongTypeError from None
    raise _WrongTypeError


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [str(value)]
    raise _WrongTypeError


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        if value.strip().startswith("{"):
            try:
                made = json.loads(value)
            except ValueError:
                raise _WrongTypeError from None
            if isinstance(made, dict):
                return made
        pairs = re.findall(r"(\w+)\s*=\s*([^,\s]*)", value)
        if pairs:
            return dict(pairs)
    raise _WrongTypeError


_SIZE = re.compile(r"\s*\d*\.?\d+\s*([BKMGTPEZY](?:[bB]|bits?|bytes?)?)?\s*", re.IGNORECASE)


def _size(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not _SIZE.fullmatch(str(value)):
        raise _WrongTypeError
    return value


def _json(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return value
    return _str(value)


_TYPES: dict[str, Callable[[Any], Any]] = {
    "str": _str,
    "list": _list,
    "dict": _dict,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "path": _str,
    "raw": lambda value: value,
    "jsonarg": _json,
    "json": _json,
    "bytes": _size,
    "bits": _size,
}
_WORDS = {
    "str": "a text",
    "list": "a list",
    "dict": "a mapping",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "path": "a path",
    "bytes": "a size, such as 512M",
    "bits": "a size, such as 512Mb",
}


# -- checking -------------------------------------------------------------------------------------


def check(
    given: Mapping[str, Any],
    options: Mapping[str, Option],
    rules: Mapping[str, Any],
    problems: Problems,
    *,
    owner: str,
    where: Source | None,
    locate: Callable[[Sequence[Any]], Source | None],
    path: tuple[Any, ...] = (),
) -> None:
    """Check values against their options. ``locate`` says where the value at a path was written."""
    for option in options.values():
        name: str | None = option.name
        if name not in given:
            name = next((one for one in option.aliases if one in given), None)
        if name is not None and given[name] is UNKNOWN:
            continue
        if name is None:
            if option.required and option.default is None:
                hint = f"{_WORDS.get(option.type, 'a value')} is expected"
                problems.add(f"{owner} needs '{_dotted((*path, option.name))}'", where, hint=hint)
            continue
        check_value(given[name], option, problems, locate=locate, path=(*path, name))
    if rules:
        _check_rules(given, options, rules, problems, owner, where, path)


def check_value(
    value: Any,
    option: Option,
    problems: Problems,
    *,
    locate: Callable[[Sequence[Any]], Source | None],
    path: tuple[Any, ...],
) -> None:
    """Check one value against its option, and what is in it against the option's own options."""
    if value is None and not option.required and option.default is None:
        return
    made = _typed(value, option.type, option, problems, locate, path)
    if made is _FAILED:
        return
    items = made if option.type == "list" else [made]
    paths = [(*path, index) for index in range(len(items))] if option.type == "list" else [path]
    if option.type == "list" and option.elements:
        items = [
            _typed(item, option.elements, option, problems, locate, at) for item, at in zip(items, paths, strict=True)
        ]
    for item, at in zip(items, paths, strict=True):
        if item is _FAILED:
            continue
        if option.choices and item not in option.choices:
            known = ", ".join(map(str, option.choices))
            near = did_you_mean(item, map(str, option.choices))
            hint = near if near and near.startswith("did you mean") else f"known here: {known}"
            problems.add(f"'{_dotted(at)}' cannot be {_shown(item, option)}", locate(at), hint=hint)
        if option.options is not None and isinstance(item, dict):
            _check_nested(item, option, problems, locate, at)


def _check_nested(
    item: dict[str, Any],
    option: Option,
    problems: Problems,
    locate: Callable[[Sequence[Any]], Source | None],
    at: tuple[Any, ...],
) -> None:
    options = option.options or {}
    known = {name for one in options.values() for name in (one.name, *one.aliases)}
    for key in item:
        if key not in known:
            where = item.key_at(key) if isinstance(item, Map) else locate((*at, key))
            problems.add(f"'{_dotted(at)}' has no key '{key}'", where or locate(at), hint=did_you_mean(key, known))
    check(item, options, option.rules, problems, owner=f"'{_dotted(at)}'", where=locate(at), locate=locate, path=at)


_FAILED: Any = object()
#: Stands for a value that is given, but could not be worked out: that is told elsewhere.
UNKNOWN: Any = object()


def _typed(
    value: Any,
    kind: str,
    option: Option,
    problems: Problems,
    locate: Callable[[Sequence[Any]], Source | None],
    path: tuple[Any, ...],
) -> Any:
    try:
        return _TYPES[kind](value)
    except _WrongTypeError:
        expected = _WORDS.get(kind, f"of the type {kind}")
        problems.add(f"'{_dotted(path)}' must be {expected}, not {_shown(value, option)}", locate(path))
        return _FAILED


def _shown(value: Any, option: Option) -> str:
    if option.secret or is_secret(value):
        return "what it is"
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return f"'{text[:57]}…'" if len(text) > 60 else f"'{text}'"


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(map(str, path))


def _check_rules(
    given: Mapping[str, Any],
    options: Mapping[str, Option],
    rules: Mapping[str, Any],
    problems: Problems,
    owner: str,
    where: Source | None,
    path: tuple[Any, ...],
) -> None:
    """The rules that bind several options together."""

    def there(name: Any) -> bool:
        option = options.get(str(name))
        names = (option.name, *option.aliases) if option else (str(name),)
        return any(given.get(one) is not None for one in names)

    def groups(key: str) -> list[list[Any]]:
        return list(rules.get(key, ()))

    for names in groups("mutually_exclusive"):
        found = [str(name) for name in names if there(name)]
        if len(found) > 1:
            problems.add(f"{owner} takes only one of {', '.join(found)}", where)
    for names in groups("required_together"):
        found = [str(name) for name in names if there(name)]
        if found and len(found) < len(names):
            rest = ", ".join(str(name) for name in names if str(name) not in found)
            problems.add(f"{owner} needs {rest} together with {', '.join(found)}", where)
    for names in groups("required_one_of"):
        if not any(map(there, names)):
            problems.add(f"{owner} needs one of {', '.join(map(str, names))}", where)
    for rule in groups("required_if"):
        name, wanted, needed = rule[0], rule[1], list(rule[2])
        any_of = len(rule) > 3 and bool(rule[3])
        if str(name) in given and given[str(name)] == wanted:
            absent = [str(one) for one in needed if not there(one)]
            if absent and (not any_of or len(absent) == len(needed)):
                what = "one of " + ", ".join(absent) if any_of else ", ".join(absent)
                problems.add(f"{owner} needs {what}, as '{_dotted((*path, name))}' is {wanted}", where)
    for name, wanted in rules.get("required_by", {}).items():
        absent = [str(one) for one in wanted if not there(one)]
        if there(name) and absent:
            problems.add(f"{owner} needs {', '.join(absent)}, as '{name}' is given", where)
