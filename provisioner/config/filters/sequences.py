"""Filters on mappings and lists: combining, flattening, sets, choices."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import filters as jinja_filters
from jinja2 import pass_environment
from jinja2.environment import Environment

from provisioner.config.bounds import bounded
from provisioner.config.filters.inputs import items_of, kind_of
from provisioner.config.filters.refused import NOT_REPEATABLE
from provisioner.config.values import FilterError, needed


def combine(*terms: Any, recursive: bool = False, list_merge: str = "replace") -> Any:
    """One mapping of several: later ones win, and with ``recursive`` mappings in them are combined as well."""
    ways = ("replace", "keep", "append", "prepend", "append_rp", "prepend_rp")
    if list_merge not in ways:
        raise FilterError(f"list_merge has no way '{list_merge}'", "known here: " + ", ".join(ways))
    mappings = flatten(list(terms), levels=1)
    for one in mappings:
        if not isinstance(needed(one), Mapping):
            raise FilterError(f"combine takes mappings, not {kind_of(one)}")
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
    if not isinstance(needed(value), Mapping):
        raise FilterError(f"dict2items takes a mapping, not {kind_of(value)}")
    return [{key_name: key, value_name: item} for key, item in value.items()]


def items2dict(value: Any, key_name: str = "key", value_name: str = "value") -> dict[str, Any]:
    """The mapping that a list of keys and values stands for."""
    made = {}
    for one in items_of(value, "items2dict"):
        if not isinstance(one, Mapping) or key_name not in one or value_name not in one:
            raise FilterError(f"items2dict takes mappings with the keys '{key_name}' and '{value_name}'")
        made[one[key_name]] = one[value_name]
    return made


def rekey_on_member(data: Any, key: str, duplicates: str = "error") -> dict[str, Any]:
    """A mapping of mappings (or a list of them) by the value that each has under a key."""
    if duplicates not in ("error", "overwrite"):
        raise FilterError(f"duplicates cannot be '{duplicates}'", "known here: error, overwrite")
    needed(data)
    rows = list(data.values()) if isinstance(data, Mapping) else items_of(data, "rekey_on_member")
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
    for one in items_of(value, "flatten"):
        if skip_nulls and (one is None or (isinstance(one, str) and one in ("None", "null"))):
            continue
        if isinstance(one, (list, tuple)) and (levels is None or levels >= 1):
            made.extend(flatten(one, None if levels is None else levels - 1, skip_nulls))
        else:
            made.append(one)
    return made


def subelements(value: Any, path: Any, skip_missing: bool = False) -> list[tuple[Any, Any]]:
    """Pairs of each mapping and each item of the list that it has at a dotted path."""
    needed(value)
    rows = list(value.values()) if isinstance(value, Mapping) else items_of(value, "subelements")
    steps = list(path) if isinstance(path, list) else str(path).split(".")
    made: list[tuple[Any, Any]] = []
    for row in rows:
        here = row
        for step in steps:
            if not isinstance(here, Mapping):
                raise FilterError(f"'{step}' should be a key of a mapping, not of {kind_of(here)}")
            if step not in here:
                if not skip_missing:
                    raise FilterError(f"an item has no '{step}'", "skip such items with skip_missing=true")
                here = []
                break
            here = here[step]
        if not isinstance(here, list):
            raise FilterError(f"'{path}' should be a list, not {kind_of(here)}")
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


def same(one: Any) -> Any:
    """What stands for a value in a set: values that are equal have the same, whatever they are made of."""
    if isinstance(one, Mapping):
        return ("mapping", frozenset((key, same(item)) for key, item in one.items()))
    if isinstance(one, (list, tuple)):
        return ("list", tuple(same(item) for item in one))
    return one


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({same(one): one for one in reversed(list(values))}.values())[::-1]


@pass_environment
def unique(
    environment: Environment, value: Any, case_sensitive: bool | None = None, attribute: str | int | None = None
) -> list[Any]:
    """The items of a list, each once, in their order."""
    found: dict[Any, Any] = {}
    get = jinja_filters.make_attrgetter(environment, attribute) if attribute is not None else None
    for one in items_of(value, "unique"):
        key = get(one) if get else one
        if not case_sensitive and isinstance(key, str):
            key = key.lower()
        found.setdefault(same(key), one)
    return list(found.values())


def union(one: Any, other: Any) -> list[Any]:
    """The items of both lists, each once."""
    found: dict[Any, Any] = {}
    for item in [*items_of(one, "union"), *items_of(other, "union")]:
        found.setdefault(same(item), item)
    return list(found.values())


def _chosen(one: Any, other: Any, name: str, wanted: bool) -> list[Any]:
    there = {same(item) for item in items_of(other, name)}
    found: dict[Any, Any] = {}
    for item in items_of(one, name):
        if (same(item) in there) is wanted:
            found.setdefault(same(item), item)
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
    given = [items_of(one, "product") for one in lists]
    return _many(
        itertools.product(*given, repeat=repeat), math.prod(len(one) for one in given) ** float(min(repeat, 30))
    )


def permutations(value: Any, r: int | None = None) -> list[Any]:
    """Every order of the items of a list."""
    items = items_of(value, "permutations")
    return _many(
        itertools.permutations(items, r), math.perm(min(len(items), 5000), r) if (r or len(items)) < 200 else 1e18
    )


def combinations(value: Any, r: int) -> list[Any]:
    """Every choice of r items of a list."""
    items = items_of(value, "combinations")
    return _many(itertools.combinations(items, r), math.comb(len(items), r))


def zip_lists(*lists: Any) -> list[Any]:
    """Tuples of the first items of each list, the second ones, and so on."""
    return list(zip(*(items_of(one, "zip") for one in lists), strict=False))


def zip_longest(*lists: Any, fillvalue: Any = None) -> list[Any]:
    """As zip, up to the end of the longest list."""
    return list(itertools.zip_longest(*(items_of(one, "zip_longest") for one in lists), fillvalue=fillvalue))


def choose(value: Any, start: int = 0, step: int = 1, seed: Any = None) -> Any:
    """A random item of a list, or number below another: always the same one for the same seed."""
    chance = _chance(seed, "random")
    if isinstance(value, int):
        return chance.randrange(start, value, step)
    items = items_of(value, "random")
    if not items:
        raise FilterError("random: the list is empty")
    return chance.choice(items)


def shuffle(value: Any, seed: Any = None) -> list[Any]:
    """The items of a list in a random order: always the same one for the same seed."""
    items = items_of(value, "shuffle")
    _chance(seed, "shuffle").shuffle(items)
    return items


def _chance(seed: Any, name: str) -> random.Random:
    if seed is None:
        raise FilterError(f"{name} needs a seed: {NOT_REPEATABLE}", f"write: {name}(seed=inventory_hostname)")
    return random.Random(seed)


def batch(value: Any, linecount: int, fill_with: Any = None) -> list[Any]:
    """The items of a list in rows of this length."""
    bounded(linecount, items=True)
    return list(jinja_filters.do_batch(items_of(value, "batch"), linecount, fill_with))


def slices(value: Any, slices: int, fill_with: Any = None) -> list[Any]:
    """The items of a list in this many columns."""
    bounded(slices, items=True)
    return list(jinja_filters.sync_do_slice(items_of(value, "slice"), slices, fill_with))
