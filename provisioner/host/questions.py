"""What a host is asked beyond its facts, one by one, since few configurations need it. Changes nothing.

answer(host, "block-device /dev/vda")   ->  '' or what is wrong with it
answer(host, "cpus")                    ->  '0-3'
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.errors import HostError

if TYPE_CHECKING:
    from provisioner.host import Host

__all__ = ["answer"]


def answer(host: Host, question: str) -> Any:
    """The answer to a question of a resource, in JSON values; None where this host cannot tell."""
    what, _, about = question.partition(" ")
    return _ANSWERS[what](host, about)


def _signatures(host: Host, unit_type: str) -> dict[str, str] | None:
    """The D-Bus signature of each property of a type of unit."""
    try:
        return dict(host.systemd.signatures(unit_type))
    except HostError:
        return None  # no systemd, or none that answers: an apply says so itself


def _block_device(host: Host, path: str) -> str:
    """What is wrong with a path as the name of a block device, or of a file on one; nothing: an empty text."""
    try:
        found = Path(path).stat()
    except OSError as error:
        return "is not on this host" if isinstance(error, FileNotFoundError) else f"cannot be seen: {error.strerror}"
    if stat.S_ISBLK(found.st_mode) or (not stat.S_ISCHR(found.st_mode) and os.major(found.st_dev)):
        return ""
    if not stat.S_ISCHR(found.st_mode) and _is_on_btrfs(path):
        return ""  # systemd finds the device by itself
    return "is no block device, nor a file on one"


def _is_on_btrfs(path: str) -> bool:
    device = Path(path).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        if line.split()[2] == number:
            return line.partition(" - ")[2].startswith("btrfs ")
    return False


def _possible(kind: str) -> Callable[[Host, str], str | None]:
    """The numbers of CPUs or memory nodes that this host can have, as ``0-3``."""

    def numbers(host: Host, about: str) -> str | None:
        try:
            return Path(f"/sys/devices/system/{kind}/possible").read_text().strip().replace(",", " ") or None
        except OSError:
            return None

    return numbers


def _cgroup_files(host: Host, about: str) -> dict[str, list[str]]:
    """The files that each controller has in the control groups where it is switched on."""
    mount = host.facts.cgroup.mount
    found: dict[str, set[str]] = {}
    for group in sorted(Path(mount).glob("*/")) if mount else ():
        try:
            controllers = (group / "cgroup.controllers").read_text().split()
            files = [file.name for file in group.iterdir()]
        except OSError:
            continue
        for controller in controllers:
            found.setdefault(controller, set()).update(name for name in files if name.startswith(f"{controller}."))
    return {controller: sorted(files) for controller, files in found.items()}


_ANSWERS: dict[str, Callable[[Host, str], Any]] = {
    "block-device": _block_device,
    "cgroup-files": _cgroup_files,
    "cpus": _possible("cpu"),
    "memory-nodes": _possible("node"),
    "signatures": _signatures,
}
