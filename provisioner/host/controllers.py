"""Which controllers of cgroup v2 this host has, and why it lacks the others. Reads, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from provisioner.limits.controllers import CONTROLLERS

if TYPE_CHECKING:
    from provisioner.limits.controllers import Lack

__all__ = ["lacking"]

#: What ``/proc/cgroups`` calls a controller.
_OLD_NAMES = {"io": "blkio"}


def lacking(there: tuple[str, ...], cgroups: str, command_line: str, *, nested: bool) -> Mapping[str, Lack]:
    """Why each controller that limits need is not among those that are ``there``.

    ``cgroups`` is the text of ``/proc/cgroups``. ``nested``: the root of the control groups that is seen here
    is a branch of the machine's.
    """
    rows = {fields[0]: fields for line in cgroups.splitlines() if len(fields := line.split()) == 4}
    found: dict[str, Lack] = {}
    for controller in CONTROLLERS:
        if controller not in there:
            old = _OLD_NAMES.get(controller, controller)
            found[controller] = _lack(rows.get(old), _switched_off(old, controller, command_line), nested)
    return found


def _lack(row: list[str] | None, switched_off: bool, nested: bool) -> Lack:
    if row is not None and row[1] != "0":
        return "v1"
    if switched_off or (row is not None and row[3] == "0"):
        return "disabled"
    if nested:
        return "withheld"
    return "absent" if row is None else "withheld"


def _switched_off(old: str, controller: str, command_line: str) -> bool:
    words = re.findall(r"\bcgroup_disable=(\S+)", command_line)
    return bool({old, controller} & {name for word in words for name in word.split(",")})
