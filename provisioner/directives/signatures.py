"""Holds what is sent to systemd against the types that the running systemd says it has. Pure.

The table knows how each directive is encoded. A systemd that nobody has seen yet may have dropped a property or
widened a number: its own introspection says so, and what would be sent wrongly is converted, or refused before
anything is touched. Introspection tells what is read; a few properties are set in another form, or can only be
set: ``SET_OTHERWISE``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from provisioner import directives
from provisioner.directives.syntax import Setting, Value

__all__ = ["SET_OTHERWISE", "fitted", "mismatch"]

#: What D-Bus's whole numbers hold.
_RANGES = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}
#: What systemd means by "no limit" and "not set" in a number of its width.
_NO_LIMIT = {"u": 2**32 - 1, "t": 2**64 - 1}

#: Properties that are set in another form than they are read, or can only be set, in every version so far: with the
#: forms in which they are set. A host test holds this list against each systemd that the project is tested on.
SET_OTHERWISE: Mapping[str, frozenset[str]] = {
    **{f"{name}Scale": frozenset("u") for name in (
        "DefaultMemoryLow", "DefaultMemoryMin", "MemoryHigh", "MemoryLimit", "MemoryLow", "MemoryMax", "MemoryMin",
        "MemorySwapMax", "MemoryZSwapMax", "TasksMax",
    )},
    **{name: frozenset({"a(sasb)"}) for name in (
        "ExecCondition", "ExecReload", "ExecStart", "ExecStartPost", "ExecStartPre", "ExecStop", "ExecStopPost",
        "ExecStopPre",
    )},
    **{f"{name}Ex": frozenset({"a(sasas)"}) for name in (
        "ExecCondition", "ExecReload", "ExecStart", "ExecStartPost", "ExecStartPre", "ExecStop", "ExecStopPost",
    )},
    **{name: frozenset("s") for name in (
        "SELinuxContext", "StandardErrorFile", "StandardErrorFileToAppend", "StandardErrorFileToTruncate",
        "StandardInputFile", "StandardOutputFile", "StandardOutputFileToAppend", "StandardOutputFileToTruncate",
    )},
    "Asserts": frozenset({"a(sbbs)"}),
    "Conditions": frozenset({"a(sbbs)"}),
    "PermissionsStartOnly": frozenset("b"),
    "SELinuxContextFromNet": frozenset("b"),
    "TTYColumns": frozenset("u"),
    "TTYRows": frozenset("u"),
    "TimeoutUSec": frozenset("t"),
    "TimersCalendar": frozenset({"a(ss)"}),
    "TimersMonotonic": frozenset({"a(st)"}),
}  # fmt: skip


def mismatch(setting: Setting, has: Mapping[str, str]) -> str | None:
    """What is wrong with sending this to a systemd that has these properties, by signature; None: nothing."""
    there = has.get(setting.property)
    if setting.signature in SET_OTHERWISE.get(setting.property, ()) or there == setting.signature:
        return None
    if there is None:
        return f"this host's systemd has no property {setting.property}"
    if _converted(setting, there) is None:
        return (
            f"this host's systemd takes {setting.property} as '{there}', and nsprov knows to give it "
            f"as '{setting.signature}'"
        )
    return None


def fitted(settings: Iterable[Setting], has: Mapping[str, str]) -> list[Setting]:
    """What is sent, in the widths of numbers that this systemd has. What does not fit stays, to be refused by it."""
    made = []
    for one in settings:
        there = has.get(one.property)
        if there is None or there == one.signature or one.signature in SET_OTHERWISE.get(one.property, ()):
            made.append(one)
        else:
            made.append(_converted(one, there) or one)
    return made


def _converted(setting: Setting, there: str) -> Setting | None:
    """A number in another width, if both are numbers and it fits."""
    ours = setting.signature
    if ours not in _RANGES or there not in _RANGES:
        return None
    value = setting.value
    if ours in _NO_LIMIT and value == _NO_LIMIT[ours] and there in _NO_LIMIT:
        value = _NO_LIMIT[there]
    low, high = _RANGES[there]
    return Setting(setting.property, there, value) if low <= value <= high else None


@lru_cache(maxsize=16384)  # many units set the same
def settings_of(unit_type: str, name: str, value: Value) -> tuple[Setting, ...]:
    """What one directive is sent as."""
    return tuple(directives.encode(unit_type, {name: value}))
