"""Reads unit files: those that systemd itself writes for transient units, and those that people write. Pure.

systemd keeps every setting of a transient unit in a file, in the same syntax that people write, and more
exactly than its properties tell (a log file's path, a group of system calls).
"""

from __future__ import annotations

from collections.abc import Iterable

from provisioner import directives
from provisioner.directives import BadValue, Value

__all__ = ["read_assignments", "settings"]


def read_assignments(text: str) -> dict[str, list[str]]:
    """The assignments of a unit file by name, in their order; sections do not matter, as no two share a name."""
    found: dict[str, list[str]] = {}
    for line in _logical_lines(text):
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def _logical_lines(text: str) -> Iterable[str]:
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        whole, pending = pending + line, ""
        if whole.strip() and not whole.startswith("["):
            yield whole


def settings(unit_type: str, texts: Iterable[str], *, transient: bool) -> dict[str, Value]:
    """The directives of a unit and its drop-ins, in canonical values.

    Those that nsprov does not know, and values that only systemd can tell (specifiers), are left out.
    """
    assigned: dict[str, list[str]] = {}
    known = directives.known(unit_type)
    for text in texts:
        for name, found in read_assignments(text).items():
            # 252 writes some under the name of the D-Bus property
            plain = name if name in known else name.removesuffix("Ex")
            if plain in known:
                assigned.setdefault(plain, []).extend(found)
    made: dict[str, Value] = {}
    for name, found in assigned.items():
        if not transient and any("%" in text for text in found):
            continue
        try:
            made[name] = directives.from_file(unit_type, name, tuple(text.replace("%%", "%") for text in found))
        except BadValue:
            continue
    return made
