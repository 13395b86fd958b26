"""Filters and tests of templates, under Ansible's names and with its meaning.

Pure: none of them reads a file, the clock or the machine, and none is random without a seed, so that the same
configuration always gives the same plan. Those that work on addresses are in ``addresses``.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import ntpath
import posixpath
import random
import re
import shlex
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml
from jinja2 import filters as jinja_filters
from jinja2 import pass_environment
from jinja2 import tests as jinja_tests
from jinja2.runtime import Undefined

from provisioner.config.bounds import MAX_ITEMS, bounded, bounded_format
from provisioner.config.source import Map, Seq, Str, load_yaml_text
from provisioner.config.values import Failed, FilterError, Missing
from provisioner.config.values import needed as _need
from provisioner.config.versions import compare_versions

if TYPE_CHECKING:
    from jinja2.environment import Environment

__all__ = ["UNAVAILABLE", "filters", "tests"]

_NOT_REPEATABLE = "the same configuration must always give the same plan"

#: What Ansible has and a plan cannot have, and what to do instead.
UNAVAILABLE: dict[str, str] = {
    "password_hash": "a hash with a new salt each time would change in every plan: put the hash into a variable",
    "fileglob": "list the files in a variable",
    "expanduser": "write the whole path",
    "expandvars": "write the whole path, or use lookup('env', NAME)",
    "realpath": "paths of the host are not looked at while a plan is made: write the whole path",
    "json_query": "use selectattr, map and dict2items",
    "vault": "secrets are not encrypted by templates",
    "unvault": "secrets are not decrypted by templates",
    "now": f"there is no clock: {_NOT_REPEATABLE}",
    "lipsum": f"there are no random texts: {_NOT_REPEATABLE}",
    "file": "files of the host are not looked at while a plan is made",
    "exists": "files of the host are not looked at while a plan is made",
    "directory": "files of the host are not looked at while a plan is made",
    "link": "files of the host are not looked at while a plan is made",
    "is_file": "files of the host are not looked at while a plan is made",
    "is_dir": "files of the host are not looked at while a plan is made",
    "link_exists": "files of the host are not looked at while a plan is made",
    "changed": "there are no results of tasks: everything is known before anything is touched",
    "failed": "there are no results of tasks: everything is known before anything is touched",
    "succeeded": "there are no results of tasks: everything is known before anything is touched",
    "skipped": "there are no results of tasks: everything is known before anything is touched",
    "resolvable": "names are not resolved while a plan is made",
    "vars": "write the variable's name, or lookup('vars', NAME)",
    "hostvars": "hostvars needs the name of a host: hostvars['edge1'].x",
}


def _text(value: Any) -> str:
    _need(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    """A value without positions, as dumpers and encoders want it."""
    if isinstance(value, Missing):
        value.fail()
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, str) else key: _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value


def _items(value: Any, name: str) -> list[Any]:
    _need(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FilterError(f"{name} takes a list, not {_kind(value)}")
    return list(itertools.islice(value, MAX_ITEMS))


def _kind(value: Any) -> str:
    return {"str": "a text", "Str": "a text", "int": "a number", "float": "a number", "NoneType": "null"}.get(
        type(value).__name__, "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    )


# -- defined or not ---------------------------------------------------------------------------------


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
            _need(value)
        raise FilterError(str(msg))
    return value


def _is_defined(value: Any) -> bool:
    if isinstance(value, Failed):
        value.fail()
    return not isinstance(value, Undefined)


def ternary(value: Any, true_val: Any, false_val: Any, none_val: Any = None) -> Any:
    """One value where the condition holds, another where it does not, a third where it is null."""
    _need(value)
    if value is None and none_val is not None:
        return none_val
    return true_val if bool(value) else false_val


# -- types ------------------------------------------------------------------------------------------


def to_bool(value: Any) -> bool:
    """Whether the value means yes: 1, true, yes, on."""
    _need(value)
    if value is None or isinstance(value, bool):
        return bool(value)
    return str(value).lower() in ("yes", "on", "1", "true") or value == 1


def type_debug(value: Any) -> str:
    """The name of the value's type."""
    for kind, name in ((Undefined, "Undefined"), (str, "str"), (dict, "dict"), (list, "list")):
        if isinstance(value, kind):
            return name
    return type(value).__name__


# -- text -------------------------------------------------------------------------------------------


def _flags(ignorecase: bool, multiline: bool, dotall: bool = False) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0) | (re.DOTALL if dotall else 0)


def _pattern(pattern: Any, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(_text(pattern), flags)
    except re.error as error:
        raise FilterError(f"'{pattern}' is not a regular expression: {error}") from None


def regex_replace(
    value: Any = "",
    pattern: Any = "",
    replacement: Any = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    """The text with what matches a regular expression replaced; ``\\1`` is its first group."""
    try:
        made, times = _pattern(pattern, _flags(ignorecase, multiline)).subn(
            _text(replacement), _text(value), count=count
        )
    except (re.error, IndexError) as error:
        raise FilterError(f"'{replacement}' cannot replace '{pattern}': {error}") from None
    if mandatory_count and times != mandatory_count:
        raise FilterError(f"'{pattern}' should match {mandatory_count} times, but matches {times}")
    return made


def regex_findall(value: Any, regex: Any, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    """All that matches a regular expression."""
    return _pattern(regex, _flags(ignorecase, multiline)).findall(_text(value))


def regex_search(
    value: Any, regex: Any, *groups: Any, ignorecase: bool = False, multiline: bool = False
) -> str | list[str] | None:
    """What first matches a regular expression, or the groups asked for (``'\\\\1'``, ``'\\\\g<name>'``)."""
    wanted: list[str | int] = []
    for group in groups:
        named = re.fullmatch(r"\\g<(\S+)>", str(group))
        numbered = re.fullmatch(r"\\(\d+)", str(group))
        if named:
            wanted.append(int(named[1]) if named[1].isdigit() else named[1])
        elif numbered:
            wanted.append(int(numbered[1]))
        else:
            raise FilterError(f"'{group}' is not a group", r"write '\\1' or '\\g<name>'")
    found = _pattern(regex, _flags(ignorecase, multiline)).search(_text(value))
    if found is None:
        return None
    if not wanted:
        return found.group()
    try:
        return [found.group(one) for one in wanted]
    except IndexError:
        raise FilterError(f"'{regex}' has no such group: {', '.join(map(str, groups))}") from None


def regex_escape(value: Any, re_type: str = "python") -> str:
    """The text with the characters escaped that mean something in a regular expression."""
    if re_type == "python":
        return re.escape(_text(value))
    if re_type == "posix_basic":
        return re.sub(r"([].[^$*\\])", r"\\\1", _text(value))
    raise FilterError(f"the type of regular expression '{re_type}' is not known", "known here: python, posix_basic")


def split(value: Any, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    """The parts of a text between separators (white space by default)."""
    return _text(value).split(sep, maxsplit)


def quote(value: Any) -> str:
    """The text as one word of a shell."""
    return shlex.quote("" if value is None else _text(value))


_COMMENTS = {
    "plain": {"decoration": "# "},
    "erlang": {"decoration": "% "},
    "c": {"decoration": "// "},
    "cblock": {"beginning": "/*", "decoration": " * ", "end": " */"},
    "xml": {"beginning": "<!--", "decoration": " - ", "end": "-->"},
}


def comment(text: Any, style: str = "plain", **options: Any) -> str:
    """The text as a comment of a language: plain, c, cblock, erlang or xml."""
    if style not in _COMMENTS:
        raise FilterError(f"the style of comment '{style}' is not known", "known here: " + ", ".join(_COMMENTS))
    edge = str(options.get("decoration", _COMMENTS[style]["decoration"])).rstrip()
    made: dict[str, Any] = {
        "newline": "\n",
        "beginning": "",
        "prefix": edge,
        "prefix_count": 1,
        "decoration": "",
        "postfix": edge,
        "postfix_count": 1,
        "end": "",
        **_COMMENTS[style],
        **options,
    }
    newline, decoration = str(made["newline"]), str(made["decoration"])
    bounded(max(int(made["prefix_count"]), int(made["postfix_count"])) * 80)
    prefix = str(made["prefix"])
    head = f"{made['beginning']}{newline}" if made["beginning"] else ""
    if prefix:
        head += (prefix + newline if prefix != newline else newline) * int(made["prefix_count"])
    body = (decoration + _text(text).replace(newline, newline + decoration)).replace(
        decoration + newline, decoration.rstrip() + newline
    )
    tail = newline.join(["", *[str(made["postfix"])] * int(made["postfix_count"])])
    end = f"{newline}{made['end']}" if made["end"] else ""
    return head + body + tail + end


def format_text(value: Any, *args: Any, **kwargs: Any) -> str:
    """A printf pattern with its values filled in."""
    if args and kwargs:
        raise FilterError("format takes values by position or by name, not both")
    bounded_format(_text(value))
    given = kwargs or tuple(_need(one) for one in args)
    return _text(value) % given


# -- encodings --------------------------------------------------------------------------------------


def b64encode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text in Base64."""
    data = value if isinstance(value, bytes) else _text(value).encode(encoding)
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode("ascii")


def b64decode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text that Base64 stands for."""
    try:
        return (base64.urlsafe_b64decode if urlsafe else base64.b64decode)(_text(value)).decode(encoding)
    except ValueError as error:
        raise FilterError(f"this is not Base64 of a text: {error}") from None


class _Dumper(yaml.SafeDumper):
    """Writes located values as the plain ones that they are."""


_Dumper.add_representer(Str, lambda dumper, value: dumper.represent_str(str(value)))
_Dumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str(value)))
_Dumper.add_representer(Map, lambda dumper, value: dumper.represent_dict(value.items()))
_Dumper.add_representer(Seq, lambda dumper, value: dumper.represent_list(value))


def to_yaml(value: Any, default_flow_style: bool | None = None, **options: Any) -> str:
    """The value in YAML."""
    return _dump(value, {"allow_unicode": True, "default_flow_style": default_flow_style, **options})


def to_nice_yaml(value: Any, indent: int = 4, default_flow_style: bool = False, **options: Any) -> str:
    """The value in YAML, in blocks, indented."""
    style = {"allow_unicode": True, "indent": indent, "default_flow_style": default_flow_style}
    return _dump(value, {**style, **options})


def _dump(value: Any, options: dict[str, Any]) -> str:
    try:
        # A single value needs no mark of the document's end after it.
        return str(yaml.dump(_plain(value), Dumper=_Dumper, **options)).removesuffix("...\n")
    except (yaml.YAMLError, TypeError) as error:
        raise FilterError(f"this cannot be written as YAML: {error}") from None


def from_yaml(value: Any) -> Any:
    """The value that a text in YAML stands for."""
    if not isinstance(value, str):
        return _need(value)
    return load_yaml_text(value, "the text given to from_yaml")


def from_yaml_all(value: Any) -> list[Any]:
    """The values of all the documents of a text in YAML."""
    try:
        return list(yaml.safe_load_all(_text(value)))
    except yaml.YAMLError as error:
        raise FilterError(f"this is not YAML: {error}") from None


def to_json(value: Any, indent: int | None = None, sort_keys: bool = False, **options: Any) -> str:
    """The value in JSON."""
    known = {
        "ensure_ascii",
        "separators",
        "skipkeys",
        "allow_nan",
        "check_circular",
        "vault_to_text",
        "preprocess_unsafe",
    }
    unknown = set(options) - known
    if unknown:
        raise FilterError(f"to_json has no option '{min(unknown)}'")
    given = {key: item for key, item in options.items() if key not in ("vault_to_text", "preprocess_unsafe")}
    bounded((indent or 0) * 1_000_000)
    try:
        return json.dumps(_plain(value), indent=indent, sort_keys=sort_keys, **given)
    except (TypeError, ValueError) as error:
        raise FilterError(f"this cannot be written as JSON: {error}") from None


def to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, **options: Any) -> str:
    """The value in JSON, indented, with sorted keys."""
    return to_json(value, indent=indent, sort_keys=sort_keys, **{"separators": (",", ": "), **options})


def from_json(value: Any) -> Any:
    """The value that a text in JSON stands for."""
    try:
        return json.loads(_text(value))
    except ValueError as error:
        raise FilterError(f"this is not JSON: {error}") from None


def get_hash(value: Any, hashtype: str = "sha1") -> str:
    """The digest of a text, in hexadecimal."""
    try:
        made = hashlib.new(hashtype)
    except ValueError:
        raise FilterError(f"the hash '{hashtype}' is not known", "known here: md5, sha1, sha256, sha512") from None
    made.update(_text(value).encode())
    return made.hexdigest()


_NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")


def to_uuid(value: Any, namespace: Any = _NAMESPACE) -> str:
    """The UUID that belongs to a text: always the same one (version 5)."""
    try:
        within = namespace if isinstance(namespace, uuid.UUID) else uuid.UUID(str(namespace))
    except ValueError:
        raise FilterError(f"'{namespace}' is not a UUID") from None
    return str(uuid.uuid5(within, _text(value)))


# -- mappings and lists -----------------------------------------------------------------------------


def combine(*terms: Any, recursive: bool = False, list_merge: str = "replace") -> Any:
    """One mapping of several: later ones win, and with ``recursive`` mappings in them are combined as well."""
    ways = ("replace", "keep", "append", "prepend", "append_rp", "prepend_rp")
    if list_merge not in ways:
        raise FilterError(f"list_merge has no way '{list_merge}'", "known here: " + ", ".join(ways))
    mappings = flatten(list(terms), levels=1)
    for one in mappings:
        if not isinstance(_need(one), Mapping):
            raise FilterError(f"combine takes mappings, not {_kind(one)}")
    made: Any = {}
    for index, one in enumerate(mappings):
        made = one if index == 0 else _merged(made, one, recursive, list_merge)
    return made


def _merged(low: Mapping[str, Any], high: Mapping[str, Any], recursive: bool, list_merge: str) -> dict[str, Any]:
    if not recursive and list_merge == "replace":
        return {**low, **high}
    made = dict(low)
    for key, item in high.items():
        before = made.get(key)
        if key not in made:
            made[key] = item
        elif recursive and isinstance(before, Mapping) and isinstance(item, Mapping):
            made[key] = _merged(before, item, recursive, list_merge)
        elif isinstance(before, list) and isinstance(item, list):
            made[key] = _merged_lists(before, item, list_merge)
        else:
            made[key] = item
    return made


def _merged_lists(low: list[Any], high: list[Any], way: str) -> list[Any]:
    if way == "keep":
        return low
    if way == "append":
        return low + high
    if way == "prepend":
        return high + low
    if way == "append_rp":
        return [one for one in low if one not in high] + high
    if way == "prepend_rp":
        return high + [one for one in low if one not in high]
    return high


def dict2items(value: Any, key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    """A list with one mapping of key and value for each item of a mapping."""
    if not isinstance(_need(value), Mapping):
        raise FilterError(f"dict2items takes a mapping, not {_kind(value)}")
    return [{key_name: key, value_name: item} for key, item in value.items()]


def items2dict(value: Any, key_name: str = "key", value_name: str = "value") -> dict[str, Any]:
    """The mapping that a list of keys and values stands for."""
    made = {}
    for one in _items(value, "items2dict"):
        if not isinstance(one, Mapping) or key_name not in one or value_name not in one:
            raise FilterError(f"items2dict takes mappings with the keys '{key_name}' and '{value_name}'")
        made[one[key_name]] = one[value_name]
    return made


def rekey_on_member(data: Any, key: str, duplicates: str = "error") -> dict[str, Any]:
    """A mapping of mappings (or a list of them) by the value that each has under a key."""
    if duplicates not in ("error", "overwrite"):
        raise FilterError(f"duplicates cannot be '{duplicates}'", "known here: error, overwrite")
    _need(data)
    rows = list(data.values()) if isinstance(data, Mapping) else _items(data, "rekey_on_member")
    made: dict[str, Any] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise FilterError("rekey_on_member takes mappings of mappings, or a list of mappings")
        if key not in row:
            raise FilterError(f"the key '{key}' is not in every mapping")
        if row[key] in made and duplicates == "error":
            raise FilterError(f"the value '{row[key]}' of '{key}' stands twice")
        made[row[key]] = row
    return made


def flatten(value: Any, levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    """The items of a list, and those of the lists in it."""
    made: list[Any] = []
    for one in _items(value, "flatten"):
        if skip_nulls and (one is None or (isinstance(one, str) and one in ("None", "null"))):
            continue
        if isinstance(one, (list, tuple)) and (levels is None or levels >= 1):
            made.extend(flatten(one, None if levels is None else levels - 1, skip_nulls))
        else:
            made.append(one)
    return made


def subelements(value: Any, path: Any, skip_missing: bool = False) -> list[tuple[Any, Any]]:
    """Pairs of each mapping and each item of the list that it has at a dotted path."""
    _need(value)
    rows = list(value.values()) if isinstance(value, Mapping) else _items(value, "subelements")
    steps = list(path) if isinstance(path, list) else str(path).split(".")
    made: list[tuple[Any, Any]] = []
    for row in rows:
        here = row
        for step in steps:
            if not isinstance(here, Mapping):
                raise FilterError(f"'{step}' should be a key of a mapping, not of {_kind(here)}")
            if step not in here:
                if not skip_missing:
                    raise FilterError(f"an item has no '{step}'", "skip such items with skip_missing=true")
                here = []
                break
            here = here[step]
        if not isinstance(here, list):
            raise FilterError(f"'{path}' should be a list, not {_kind(here)}")
        made.extend((row, one) for one in here)
    return made


@pass_environment
def extract(environment: Environment, item: Any, container: Any, morekeys: Any = None) -> Any:
    """The value that a container has under a key (and the keys below it)."""
    keys = [item, *(morekeys if isinstance(morekeys, list) else [] if morekeys is None else [morekeys])]
    value = container
    for key in keys:
        value = environment.getitem(value, key)
    return value


def _same(one: Any) -> Any:
    """What stands for a value in a set: values that are equal have the same, whatever they are made of."""
    if isinstance(one, Mapping):
        return ("mapping", frozenset((key, _same(item)) for key, item in one.items()))
    if isinstance(one, (list, tuple)):
        return ("list", tuple(_same(item) for item in one))
    return one


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({_same(one): one for one in reversed(list(values))}.values())[::-1]


@pass_environment
def unique(
    environment: Environment, value: Any, case_sensitive: bool | None = None, attribute: str | int | None = None
) -> list[Any]:
    """The items of a list, each once, in their order."""
    found: dict[Any, Any] = {}
    get = jinja_filters.make_attrgetter(environment, attribute) if attribute is not None else None
    for one in _items(value, "unique"):
        key = get(one) if get else one
        if not case_sensitive and isinstance(key, str):
            key = key.lower()
        found.setdefault(_same(key), one)
    return list(found.values())


def union(one: Any, other: Any) -> list[Any]:
    """The items of both lists, each once."""
    found: dict[Any, Any] = {}
    for item in [*_items(one, "union"), *_items(other, "union")]:
        found.setdefault(_same(item), item)
    return list(found.values())


def _chosen(one: Any, other: Any, name: str, wanted: bool) -> list[Any]:
    there = {_same(item) for item in _items(other, name)}
    found: dict[Any, Any] = {}
    for item in _items(one, name):
        if (_same(item) in there) is wanted:
            found.setdefault(_same(item), item)
    return list(found.values())


def intersect(one: Any, other: Any) -> list[Any]:
    """The items that both lists have."""
    return _chosen(one, other, "intersect", True)


def difference(one: Any, other: Any) -> list[Any]:
    """The items that only the first list has."""
    return _chosen(one, other, "difference", False)


def symmetric_difference(one: Any, other: Any) -> list[Any]:
    """The items that only one of the two lists has."""
    return _chosen(one, other, "symmetric_difference", False) + _chosen(other, one, "symmetric_difference", False)


def _many(made: Iterable[Any], size: float) -> list[Any]:
    bounded(int(min(size, 1e18)), items=True)
    return list(made)


def product(*lists: Any, repeat: int = 1) -> list[Any]:
    """Every combination of one item of each list."""
    given = [_items(one, "product") for one in lists]
    return _many(
        itertools.product(*given, repeat=repeat), math.prod(len(one) for one in given) ** float(min(repeat, 30))
    )


def permutations(value: Any, r: int | None = None) -> list[Any]:
    """Every order of the items of a list."""
    items = _items(value, "permutations")
    return _many(
        itertools.permutations(items, r), math.perm(min(len(items), 5000), r) if (r or len(items)) < 200 else 1e18
    )


def combinations(value: Any, r: int) -> list[Any]:
    """Every choice of r items of a list."""
    items = _items(value, "combinations")
    return _many(itertools.combinations(items, r), math.comb(len(items), r))


def zip_lists(*lists: Any) -> list[Any]:
    """Tuples of the first items of each list, the second ones, and so on."""
    return list(zip(*(_items(one, "zip") for one in lists), strict=False))


def zip_longest(*lists: Any, fillvalue: Any = None) -> list[Any]:
    """As zip, up to the end of the longest list."""
    return list(itertools.zip_longest(*(_items(one, "zip_longest") for one in lists), fillvalue=fillvalue))


def choose(value: Any, start: int = 0, step: int = 1, seed: Any = None) -> Any:
    """A random item of a list, or number below another: always the same one for the same seed."""
    chance = _chance(seed, "random")
    if isinstance(value, int):
        return chance.randrange(start, value, step)
    items = _items(value, "random")
    if not items:
        raise FilterError("random: the list is empty")
    return chance.choice(items)


def shuffle(value: Any, seed: Any = None) -> list[Any]:
    """The items of a list in a random order: always the same one for the same seed."""
    items = _items(value, "shuffle")
    _chance(seed, "shuffle").shuffle(items)
    return items


def _chance(seed: Any, name: str) -> random.Random:
    if seed is None:
        raise FilterError(f"{name} needs a seed: {_NOT_REPEATABLE}", f"write: {name}(seed=inventory_hostname)")
    return random.Random(seed)


# -- numbers ----------------------------------------------------------------------------------------


def _number(value: Any, name: str) -> Any:
    _need(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FilterError(f"{name} takes a number, not {_kind(value)}")
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
    _need(value)
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
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)?\s*", _text(value))
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


# -- paths, addresses of the web, dates --------------------------------------------------------------


def path_join(value: Any) -> str:
    """One path of its parts."""
    return posixpath.join(*([value] if isinstance(value, str) else map(_text, _items(value, "path_join"))))


def _path(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(value: Any, *args: Any, **kwargs: Any) -> Any:
        made = function(_text(value), *args, **kwargs)
        return list(made) if isinstance(made, tuple) else made

    apply.__doc__ = function.__doc__
    return apply


def relpath(value: Any, start: str) -> str:
    """The path as seen from another."""
    if not (posixpath.isabs(_text(value)) and posixpath.isabs(start)):
        raise FilterError("relpath takes two absolute paths")
    return posixpath.relpath(_text(value), start)


def split_url(value: Any, query: str = "") -> Any:
    """The parts of a web address, or one of them."""
    found = urlsplit(_text(value))
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
        return datetime.strptime(_text(value), format)
    except ValueError as error:
        raise FilterError(str(error)) from None


def strftime(pattern: Any, second: Any = None, utc: bool = True) -> str:
    """A moment (seconds since 1970, in UTC) as a text."""
    if second is None:
        raise FilterError(f"strftime needs the second: {UNAVAILABLE['now']}")
    from datetime import UTC

    return datetime.fromtimestamp(float(second), UTC).strftime(_text(pattern))


# -- Jinja's own, bounded ---------------------------------------------------------------------------


def center(value: Any, width: int = 80) -> str:
    """The text in the middle of a line of this width."""
    bounded(width)
    return _text(value).center(width)


def indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """The text with every line (but the first) indented."""
    text = _text(value)
    bounded(len(text) + (text.count("\n") + 1) * (width if isinstance(width, int) else len(width)))
    return str(jinja_filters.do_indent(text, width, first, blank))


def replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    """The text with one part replaced by another."""
    text, old, new = _text(value), _text(old), _text(new)
    bounded(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_environment
def join(environment: Environment, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    """The items of a list as one text."""
    items: list[Any] = [_need(one) for one in ([*_need(value)] if isinstance(value, str) else value)]
    if attribute is not None:
        items = [_need(one) for one in map(jinja_filters.make_attrgetter(environment, attribute), items)]
    texts = [str(one) for one in items]
    bounded(sum(map(len, texts)) + len(texts) * len(d))
    return str(d).join(texts)


def batch(value: Any, linecount: int, fill_with: Any = None) -> list[Any]:
    """The items of a list in rows of this length."""
    bounded(linecount, items=True)
    return list(jinja_filters.do_batch(_items(value, "batch"), linecount, fill_with))


def slices(value: Any, slices: int, fill_with: Any = None) -> list[Any]:
    """The items of a list in this many columns."""
    bounded(slices, items=True)
    return list(jinja_filters.sync_do_slice(_items(value, "slice"), slices, fill_with))


def filters() -> dict[str, Any]:
    """Every filter by its names: ``combine`` is ``ansible.builtin.combine`` as well."""
    from provisioner.config import addresses

    own: dict[str, Any] = {
        "b64decode": b64decode,
        "b64encode": b64encode,
        "basename": _path(posixpath.basename),
        "batch": batch,
        "bool": to_bool,
        "center": center,
        "checksum": get_hash,
        "combinations": combinations,
        "combine": combine,
        "comment": comment,
        "commonpath": lambda value: posixpath.commonpath(_items(value, "commonpath")),
        "d": default,
        "default": default,
        "dict2items": dict2items,
        "difference": difference,
        "dirname": _path(posixpath.dirname),
        "extract": extract,
        "flatten": flatten,
        "format": format_text,
        "from_json": from_json,
        "from_yaml": from_yaml,
        "from_yaml_all": from_yaml_all,
        "hash": get_hash,
        "human_readable": human_readable,
        "human_to_bytes": human_to_bytes,
        "indent": indent,
        "intersect": intersect,
        "items2dict": items2dict,
        "join": join,
        "log": logarithm,
        "mandatory": mandatory,
        "md5": lambda value: get_hash(value, "md5"),
        "normpath": _path(posixpath.normpath),
        "path_join": path_join,
        "permutations": permutations,
        "pow": power,
        "product": product,
        "quote": quote,
        "random": choose,
        "regex_escape": regex_escape,
        "regex_findall": regex_findall,
        "regex_replace": regex_replace,
        "regex_search": regex_search,
        "rekey_on_member": rekey_on_member,
        "relpath": relpath,
        "replace": replace,
        "root": root,
        "sha1": get_hash,
        "shuffle": shuffle,
        "slice": slices,
        "split": split,
        "splitext": _path(posixpath.splitext),
        "strftime": strftime,
        "subelements": subelements,
        "symmetric_difference": symmetric_difference,
        "ternary": ternary,
        "to_datetime": to_datetime,
        "to_json": to_json,
        "to_nice_json": to_nice_json,
        "to_nice_yaml": to_nice_yaml,
        "to_uuid": to_uuid,
        "to_yaml": to_yaml,
        "type_debug": type_debug,
        "union": union,
        "unique": unique,
        "urlsplit": split_url,
        "win_basename": _path(ntpath.basename),
        "win_dirname": _path(ntpath.dirname),
        "win_splitdrive": _path(ntpath.splitdrive),
        "zip": zip_lists,
        "zip_longest": zip_longest,
    }
    made = dict(own)
    made.update({f"ansible.builtin.{name}": one for name, one in {**jinja_filters.FILTERS, **own}.items()})
    for prefix in ("", "ansible.utils.", "ansible.netcommon."):
        made.update({prefix + name: one for name, one in addresses.FILTERS.items()})
    return made


# -- tests ------------------------------------------------------------------------------------------


def _matches(value: Any, pattern: Any, flags: int, how: str) -> bool:
    compiled = _pattern(pattern, flags)
    if how not in ("match", "search", "fullmatch"):
        raise FilterError(f"regex has no match_type '{how}'", "known here: match, search, fullmatch")
    return getattr(compiled, how)(_text(value)) is not None


def _is_match(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    return _matches(value, pattern, _flags(ignorecase, multiline), "match")


def _is_search(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    return _matches(value, pattern, _flags(ignorecase, multiline), "search")


def _is_regex(
    value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    return _matches(value, pattern, _flags(ignorecase, multiline), match_type)


def _is_version(
    value: Any, version: Any, operator: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    return compare_versions(_text(value), _text(version), operator, strict, version_type)


def _is_subset(one: Any, other: Any) -> bool:
    there = {_same(item) for item in _items(other, "subset")}
    return all(_same(item) in there for item in _items(one, "subset"))


def _is_truthy(value: Any, convert_bool: bool = False) -> bool:
    if convert_bool and isinstance(_need(value), (str, int)):
        lower = str(value).lower()
        if lower in ("yes", "on", "1", "true", "y", "t"):
            return True
        if lower in ("no", "off", "0", "false", "n", "f", ""):
            return False
    return bool(_need(value))


def _is_nan(value: Any) -> bool:
    return isinstance(_need(value), float) and math.isnan(value)


def tests() -> dict[str, Any]:
    """Every test by its names."""
    from provisioner.config import addresses

    own: dict[str, Any] = {
        "all": lambda value: all(_items(value, "all")),
        "any": lambda value: any(_items(value, "any")),
        "contains": lambda value, item: item in _need(value),
        "defined": _is_defined,
        "falsy": lambda value, convert_bool=False: not _is_truthy(value, convert_bool),
        "issubset": _is_subset,
        "issuperset": lambda one, other: _is_subset(other, one),
        "match": _is_match,
        "nan": _is_nan,
        "regex": _is_regex,
        "search": _is_search,
        "subset": _is_subset,
        "superset": lambda one, other: _is_subset(other, one),
        "truthy": _is_truthy,
        "undefined": lambda value: not _is_defined(value),
        "uri": lambda value: bool(urlsplit(_text(value)).scheme),
        "url": lambda value: bool(urlsplit(_text(value)).scheme and urlsplit(_text(value)).netloc),
        "version": _is_version,
        "version_compare": _is_version,
        "abs": lambda value: posixpath.isabs(_text(value)),
        "is_abs": lambda value: posixpath.isabs(_text(value)),
    }
    made = dict(own)
    made.update({f"ansible.builtin.{name}": one for name, one in {**jinja_tests.TESTS, **own}.items()})
    made.update({f"ansible.utils.{name}": one for name, one in addresses.TESTS.items()})
    return made
