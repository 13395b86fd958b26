"""What a host is asked beyond its facts, one by one, since few configurations need it. Changes nothing.

answer(host, "block-device /dev/vda")   ->  '' or what is wrong with it
answer(host, "cpus")                    ->  '0-3'
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import cache
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


def _weighing_disk(host: Host, path: str) -> bool | None:
    """Whether a block device, or the disk that it is a part of, is shared out by weights."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    if not stat.S_ISBLK(found.st_mode):
        return None
    folder = Path(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}").resolve()
    return _weighs(host, folder.parent if (folder / "partition").exists() else folder)


def _weighing_disks(host: Host, about: str) -> bool | None:
    """Whether any disk is shared out by weights; None where none is to be seen."""
    disks = [one for one in Path("/sys/block").glob("*") if (one / "device").exists()]
    return any(_weighs(host, one) for one in disks) if disks else None


def _weighs(host: Host, disk: Path) -> bool:
    try:
        if "[bfq]" in (disk / "queue/scheduler").read_text():
            return True
        number = (disk / "dev").read_text().strip()
        lines = Path(f"{host.facts.cgroup.mount}/io.cost.qos").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[:2] == [number, "enable=1"] for line in lines)


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


#: The kernel's function behind a file of a control group: it is there in the kernels that have the file.
_WRITERS = {
    "cpu.max": "cpu_max_write",
    "io.latency": "iolatency_set_limit",
    "io.weight": "ioc_weight_write",
    "memory.swap.max": "swap_max_write",
    "memory.zswap.max": "zswap_max_write",
    "memory.zswap.writeback": "zswap_writeback_write",
}


def _cgroup_file(host: Host, file: str) -> bool | None:
    """Whether this kernel's control groups have a file, where its controller is switched on."""
    mount = host.facts.cgroup.mount
    for group in sorted(Path(mount).glob("*/")) if mount else ():
        try:
            if file.partition(".")[0] in (group / "cgroup.controllers").read_text().split():
                return (group / file).exists()
        except OSError:
            continue  # it has just gone
    symbols = _symbols()  # nothing uses the controller yet
    return f" {_WRITERS[file]}\n".encode() in symbols if symbols else None


@cache
def _symbols() -> bytes:
    """The names of the running kernel's functions; empty where they are not to be seen."""
    try:
        return Path("/proc/kallsyms").read_bytes()
    except OSError:
        return b""


_ANSWERS: dict[str, Callable[[Host, str], Any]] = {
    "block-device": _block_device,
    "cgroup-file": _cgroup_file,
    "cpus": _possible("cpu"),
    "memory-nodes": _possible("node"),
    "signatures": _signatures,
    "weighing-disk": _weighing_disk,
    "weighing-disks": _weighing_disks,
}
