"""What nsprov knows of systemd's directives: their names, versions, value syntaxes and D-Bus encodings.

Pure: asks no host. ``directives.json`` (made by ``scripts/directives``) says which directives there are and
which version brought each, ``table`` which syntax each has; this module puts the two together.

    canonical("service", "MemoryMax", "536870912")   ->  '512M'
    encode("service", "MemoryMax", "512M")           ->  [Setting('MemoryMax', 't', 536870912)]
    check("MemoryZSwapWriteback", 252)               ->  'MemoryZSwapWriteback needs systemd 256; this host has 252'
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from provisioner.directives.syntax import Setting, Syntax, Value
from provisioner.directives.table import FOR_TYPE, LIVE, NOT_FOR, NOT_TRANSIENT, READ_BACK, SHORT_FOR, SYNTAX
from provisioner.directives.values import BadValue, quoted
from provisioner.errors import did_you_mean

__all__ = [
    "BadValue",
    "Directive",
    "Setting",
    "Syntax",
    "Value",
    "assignments",
    "canonical",
    "check",
    "directive",
    "encode",
    "from_file",
    "known",
    "same",
    "short_for",
    "unknown",
]

#: The groups of directives that each type of unit takes.
_GROUPS = {
    "service": ("unit", "service", "exec", "kill", "resource-control"),
    "socket": ("unit", "socket", "exec", "kill", "resource-control"),
    "mount": ("unit", "mount", "exec", "kill", "resource-control"),
    "slice": ("unit", "slice", "resource-control"),
    "timer": ("unit", "timer"),
    "path": ("unit", "path"),
    "automount": ("unit", "automount"),
}


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive of a type of unit."""

    name: str
    #: The group of settings that it belongs to: ``unit``, ``service``, ``exec``, ``resource-control``, …
    group: str
    #: The version of systemd that brought it; 0: older than any that is met.
    since: int
    syntax: Syntax
    #: Whether it changes on a running unit.
    live: bool
    #: Whether it is read from systemd's properties, and not from the unit's file.
    read_back: bool


@cache
def _table() -> dict[str, dict[str, int]]:
    text = files("provisioner.directives").joinpath("directives.json").read_text("utf-8")
    table: dict[str, dict[str, int]] = json.loads(text)
    return table


@cache
def known(unit_type: str) -> Mapping[str, Directive]:
    """Every directive that nsprov can give a transient unit of this type, by name."""
    found = {}
    for name, groups in _table().items():
        group = next((group for group in _GROUPS[unit_type] if group in groups), None)
        if group is None or name in NOT_TRANSIENT or name in NOT_FOR.get(unit_type, ()):
            continue
        syntax = FOR_TYPE.get((unit_type, name)) or SYNTAX[name]
        live = LIVE.get(name, group == "resource-control")
        found[name] = Directive(name, group, groups[group], syntax, live, live or name in READ_BACK)
    return found


def directive(unit_type: str, name: str) -> Directive:
    """What is known of a directive. Raises KeyError for one that this type of unit has not."""
    return known(unit_type)[name]


def short_for(unit_type: str, name: str) -> tuple[str, ...]:
    """The directives that this one is short for; itself for most."""
    return SHORT_FOR.get((unit_type, name), (name,))


def unknown(unit_type: str, name: str, more: Iterable[str] = ()) -> BadValue:
    """The error for a directive that a type of unit has not; ``more`` are other words that may stand there."""
    if name in NOT_TRANSIENT:
        return BadValue(f"systemd does not take {name} on a transient unit", NOT_TRANSIENT[name])
    groups = _table().get(name)
    if groups:
        homes = sorted(kind for kind in _GROUPS if name in known(kind))
        return BadValue(f"a {unit_type} has no directive {name}", f"it belongs to a {' or a '.join(homes)}")
    if name.startswith("X-"):
        return BadValue(f"systemd does not take {name} on a transient unit", "leave it out")
    spelled = {one.lower(): one for one in [*known(unit_type), *more]}
    same = spelled.get(name.replace("_", "").replace("-", "").lower())
    hint = f"did you mean '{same}'?" if same else did_you_mean(name, spelled.values())
    return BadValue(f"systemd has no directive {name}", hint)


def check(name: str, version: int) -> str | None:
    """What is wrong with using a directive with this version of systemd, or None."""
    groups = _table().get(name)
    since = min(groups.values()) if groups else 0
    if since > version:
        return f"{name} needs systemd {since}; this host has {version}"
    return None


def assignments(value: Any, *, many: bool) -> list[str]:
    """A configuration value as the assignments that it stands for in a unit file."""
    if isinstance(value, Mapping):
        return [quoted(f"{key}={_plain(one)}") for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in assignments(one, many=many)]
    text = _plain(value)
    if many and "\n" in text:
        return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [text.strip()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (str, int, float)):
        raise BadValue(f"{type(value).__name__} is not a value of a directive", "write a text, a number, or a list")
    if isinstance(value, str) and "\0" in value:
        raise BadValue("it has a zero byte in it", "systemd takes texts without any")
    return str(value)


def canonical(unit_type: str, name: str, value: Any) -> Value:
    """The one form of a directive's value. Raises BadValue, with what would be right."""
    syntax = directive(unit_type, name).syntax
    if isinstance(value, Mapping) and name not in ("Environment", "LogExtraFields"):
        raise BadValue("a mapping is not a value of this directive", f"it takes {syntax.expects}")
    texts = assignments(value, many=syntax.many)
    if isinstance(value, Mapping) and name == "LogExtraFields":
        texts = [f"{key}={_plain(one)}" for key, one in value.items()]
    if not (syntax.many or syntax.several) and len(texts) != 1:
        raise BadValue("it takes one value, not a list", syntax.expects)
    return syntax.canonical(texts)


def encode(unit_type: str, values: Mapping[str, Value]) -> list[Setting]:
    """The properties that give a unit of this type these canonical values."""
    made: list[Setting] = []
    for name, value in values.items():
        made += directive(unit_type, name).syntax.encode(name, value)
    return made


def same(syntax: Syntax, wanted: Value, found: Value) -> bool:
    """Whether a value that was found is the wanted one, perhaps as a daemon-reload has left it."""
    return found in (wanted, syntax.settled(wanted))


@lru_cache(maxsize=16384)  # many units set the same
def from_file(unit_type: str, name: str, texts: tuple[str, ...]) -> Value:
    """The canonical value of the assignments that systemd wrote into a transient unit's file."""
    return directive(unit_type, name).syntax.from_file(texts)
