"""Reads unit files: those that systemd itself writes for transient units, and those that people write. Pure.

systemd keeps every setting of a transient unit in a file, in the same syntax that people write, and more
exactly than its properties tell (a log file's path, a group of system calls).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from provisioner import directives
from provisioner.directives import BadValue, Value

__all__ = ["as_read", "read_assignments", "settings"]

_COMMAND = re.compile(r"^(Exec(?:Condition|Start|StartPre|StartPost|Reload|Stop|StopPre|StopPost))(?:Ex)?=(.*)$", re.M)
#: Escapes that systemd writes into a command line, and does not read as it wrote them.
_MISREAD = re.compile(r"\\([\s\S])|\$\$?")


def as_read(text: str) -> str:
    """The file of a transient unit with its command lines as systemd has to read them to have the same again.

    After a daemon-reload, 252 takes its own ``\\$`` and ``\\;`` for two characters each, and does not know the
    names that it gives to commands with prefixes (ExecStartEx); 257 takes its own ``$$`` for two. Both read ``\\x24``.
    """

    def command(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        expands = ":" not in value[: len(value) - len(value.lstrip("-@:+!"))]

        def one(found: re.Match[str]) -> str:
            if found[0].startswith("$"):  # as many as there are, where the dollar was not doubled
                return "\\x24" if expands else "\\x24" * len(found[0])
            return f"\\x{ord(found[1]):02x}" if found[1] in "$;`" else found[0]

        return f"{name}={_MISREAD.sub(one, value)}"

    return _COMMAND.sub(command, text)


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
