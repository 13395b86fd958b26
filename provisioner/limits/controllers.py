"""The controllers of cgroup v2: which directives need each one, why a host lacks it, and what mends that. Pure.

A host's facts say which controllers there are, and for the others a word for why (``Lack``). The words that
a person reads are made here, for ``doctor`` and for what is refused at plan time alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from provisioner.directives.values import percent

if TYPE_CHECKING:
    from provisioner.directives import Value

__all__ = ["CONTROLLERS", "FILES", "UNIFY", "Lack", "controllers_for", "lack_of", "listed", "mend", "why"]

#: Why a host lacks a controller. ``v1``: a hierarchy of cgroup v1 holds it. ``disabled``: the kernel's command
#: line, or a default of the kernel, switches it off. ``absent``: the kernel is built without it. ``withheld``: the
#: host is a container that was not given it.
Lack = Literal["v1", "disabled", "absent", "withheld"]

#: Each controller, and the directives that are nothing without it.
CONTROLLERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("CPUWeight", "StartupCPUWeight", "CPUQuota", "CPUQuotaPeriodSec", "CPUShares", "StartupCPUShares"),
    "cpuset": ("AllowedCPUs", "StartupAllowedCPUs", "AllowedMemoryNodes", "StartupAllowedMemoryNodes"),
    "io": (
        "IOWeight", "StartupIOWeight", "IODeviceWeight", "IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax",
        "IOWriteIOPSMax", "IODeviceLatencyTargetSec", "IOAccounting", "BlockIOWeight", "StartupBlockIOWeight",
        "BlockIODeviceWeight", "BlockIOReadBandwidth", "BlockIOWriteBandwidth", "BlockIOAccounting",
    ),
    "memory": (
        "MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax", "MemoryZSwapWriteback",
        "DefaultMemoryMin", "DefaultMemoryLow", "StartupMemoryLow", "DefaultStartupMemoryLow", "StartupMemoryHigh",
        "StartupMemoryMax", "StartupMemorySwapMax", "StartupMemoryZSwapMax", "MemoryLimit", "MemoryAccounting",
        "ManagedOOMSwap", "ManagedOOMMemoryPressure",
    ),
    "pids": ("TasksMax", "TasksAccounting"),
}  # fmt: skip
_CONTROLLER_OF = {name: controller for controller, names in CONTROLLERS.items() for name in names}

_SWAP = "a kernel built with CONFIG_SWAP, without swapaccount=0 on its command line"
#: Directives whose file not every kernel has that has the controller: the file, and what has it.
FILES: Mapping[str, tuple[str, str]] = {
    "MemoryZSwapMax": ("memory.zswap.max", "a kernel built with CONFIG_ZSWAP"),
    "StartupMemoryZSwapMax": ("memory.zswap.max", "a kernel built with CONFIG_ZSWAP"),
    "MemoryZSwapWriteback": ("memory.zswap.writeback", "Linux 6.8, built with CONFIG_ZSWAP"),
    "MemorySwapMax": ("memory.swap.max", _SWAP),
    "StartupMemorySwapMax": ("memory.swap.max", _SWAP),
    "IODeviceLatencyTargetSec": ("io.latency", "a kernel built with CONFIG_BLK_CGROUP_IOLATENCY"),
    "IODeviceWeight": ("io.weight", "a kernel built with CONFIG_BLK_CGROUP_IOCOST"),
    "CPUQuota": ("cpu.max", "a kernel built with CONFIG_CFS_BANDWIDTH"),
}

_BUILD = {
    "cpu": "CONFIG_CGROUP_SCHED",
    "cpuset": "CONFIG_CPUSETS",
    "io": "CONFIG_BLK_CGROUP",
    "memory": "CONFIG_MEMCG",
    "pids": "CONFIG_CGROUP_PIDS",
}
#: What a controller was called in cgroup v1, and is still called on the kernel's command line.
_OLD_NAMES = {"io": "blkio"}

UNIFY = "add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"


@lru_cache(maxsize=16384)  # many units set the same
def controllers_for(name: str, value: Value) -> frozenset[str]:
    """The controllers that a directive needs with this value; none where the value limits and promises nothing."""
    if name == "Delegate":
        return frozenset(str(value).split()) & CONTROLLERS.keys()
    controller = _CONTROLLER_OF.get(name)
    return frozenset() if controller is None or _is_nothing(name, value) else frozenset({controller})


def _is_nothing(name: str, value: Value) -> bool:
    """Whether a value is what every control group has by itself."""
    if not value or not isinstance(value, str):
        return not value
    if name == "MemoryZSwapWriteback":
        return value == "yes"
    if name.endswith(("Min", "Low")):
        return value == "0" or percent(value) == 0
    return value in ("infinity", "no", "auto")


def lack_of(controller: str, facts: Mapping[str, Any]) -> Lack | None:
    """Why a host of these facts lacks a controller; None where it has it, or nothing is known of it."""
    there = facts.get("controllers")
    if there is None or controller in there:
        return None
    found: Lack = (facts.get("lacking") or {}).get(controller, "absent")
    return found


def why(controller: str, lack: Lack) -> str:
    """What is the matter, after "this host lacks it:"."""
    return {
        "v1": "cgroup v1 holds it",
        "disabled": "the kernel was started without it",
        "absent": "the kernel is built without it",
        "withheld": "this host is a container that was not given it",
    }[lack]


def mend(controller: str, lack: Lack) -> str:
    """The command, or the step, that gives a host the controller."""
    old = _OLD_NAMES.get(controller, controller)
    return {
        "v1": UNIFY,
        "disabled": f"take cgroup_disable={old} out of GRUB_CMDLINE_LINUX in /etc/default/grub, or add "
        f"cgroup_enable={old} to it; update-grub; reboot",
        "absent": f"boot a kernel built with {_BUILD.get(controller, 'it')}=y, such as the distribution's own",
        "withheld": "have the container's manager hand it down: Delegate=yes on the container's unit, on the machine",
    }[lack]


def listed(names: Iterable[str]) -> str:
    """``cpu``, ``cpu and memory``, ``cpu, io and memory``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
