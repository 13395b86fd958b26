"""Filters and tests of templates, under Ansible's names and with its meaning.

Pure: none of them reads a file, the clock or the machine, and none is random without a seed, so that the same
configuration always gives the same plan.
"""

from __future__ import annotations

import ntpath
import posixpath
from typing import Any
from urllib.parse import urlsplit

from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests

from provisioner.config.filters import addresses
from provisioner.config.filters.conditions import (
    default,
    is_defined,
    is_match,
    is_nan,
    is_regex,
    is_search,
    is_subset,
    is_truthy,
    is_version,
    mandatory,
    ternary,
    to_bool,
    type_debug,
)
from provisioner.config.filters.encodings import (
    b64decode,
    b64encode,
    from_json,
    from_yaml,
    from_yaml_all,
    get_hash,
    to_json,
    to_nice_json,
    to_nice_yaml,
    to_uuid,
    to_yaml,
)
from provisioner.config.filters.inputs import items_of, text_of
from provisioner.config.filters.numbers import human_readable, human_to_bytes, logarithm, power, root
from provisioner.config.filters.paths import on_path, path_join, relpath, split_url, strftime, to_datetime
from provisioner.config.filters.refused import UNAVAILABLE
from provisioner.config.filters.sequences import (
    batch,
    choose,
    combinations,
    combine,
    dict2items,
    difference,
    extract,
    flatten,
    intersect,
    items2dict,
    permutations,
    product,
    rekey_on_member,
    shuffle,
    slices,
    subelements,
    symmetric_difference,
    union,
    unique,
    zip_lists,
    zip_longest,
)
from provisioner.config.filters.text import (
    center,
    comment,
    format_text,
    indent,
    join,
    quote,
    regex_escape,
    regex_findall,
    regex_replace,
    regex_search,
    replace,
    split,
)
from provisioner.config.taint import secret
from provisioner.config.values import needed

__all__ = ["UNAVAILABLE", "filters", "tests"]


def filters() -> dict[str, Any]:
    """Every filter by its names: ``combine`` is ``ansible.builtin.combine`` as well."""
    own: dict[str, Any] = {
        "b64decode": b64decode,
        "b64encode": b64encode,
        "basename": on_path(posixpath.basename),
        "batch": batch,
        "bool": to_bool,
        "center": center,
        "checksum": get_hash,
        "combinations": combinations,
        "combine": combine,
        "comment": comment,
        "commonpath": lambda value: posixpath.commonpath(items_of(value, "commonpath")),
        "d": default,
        "default": default,
        "dict2items": dict2items,
        "difference": difference,
        "dirname": on_path(posixpath.dirname),
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
        "normpath": on_path(posixpath.normpath),
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
        "secret": secret,
        "sha1": get_hash,
        "shuffle": shuffle,
        "slice": slices,
        "split": split,
        "splitext": on_path(posixpath.splitext),
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
        "win_basename": on_path(ntpath.basename),
        "win_dirname": on_path(ntpath.dirname),
        "win_splitdrive": on_path(ntpath.splitdrive),
        "zip": zip_lists,
        "zip_longest": zip_longest,
    }
    made = dict(own)
    made.update({f"ansible.builtin.{name}": one for name, one in {**jinja_filters.FILTERS, **own}.items()})
    for prefix in ("", "ansible.utils.", "ansible.netcommon."):
        made.update({prefix + name: one for name, one in addresses.FILTERS.items()})
    return made


def tests() -> dict[str, Any]:
    """Every test by its names."""
    own: dict[str, Any] = {
        "all": lambda value: all(items_of(value, "all")),
        "any": lambda value: any(items_of(value, "any")),
        "contains": lambda value, item: item in needed(value),
        "defined": is_defined,
        "falsy": lambda value, convert_bool=False: not is_truthy(value, convert_bool),
        "issubset": is_subset,
        "issuperset": lambda one, other: is_subset(other, one),
        "match": is_match,
        "nan": is_nan,
        "regex": is_regex,
        "search": is_search,
        "subset": is_subset,
        "superset": lambda one, other: is_subset(other, one),
        "truthy": is_truthy,
        "undefined": lambda value: not is_defined(value),
        "uri": lambda value: bool(urlsplit(text_of(value)).scheme),
        "url": lambda value: bool(urlsplit(text_of(value)).scheme and urlsplit(text_of(value)).netloc),
        "version": is_version,
        "version_compare": is_version,
        "abs": lambda value: posixpath.isabs(text_of(value)),
        "is_abs": lambda value: posixpath.isabs(text_of(value)),
    }
    made = dict(own)
    made.update({f"ansible.builtin.{name}": one for name, one in {**jinja_tests.TESTS, **own}.items()})
    made.update({f"ansible.utils.{name}": one for name, one in addresses.TESTS.items()})
    return made
