"""What a host is: kernel, distribution, systemd, control groups, interfaces. Read once, without root.

Templates have it as ``host.*``; kinds check against it what this host cannot do.
"""

from __future__ import annotations

import os
import platform
import re
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from provisioner.errors import HostError
from provisioner.host.controllers import lacking

if TYPE_CHECKING:
    from provisioner.host import Host

__all__ = ["Cgroup", "Distribution", "Facts", "installed_systemd", "read_facts"]

_BOOTED = Path("/run/systemd/system")  # what sd_booted() looks at
_MANAGER = Path("/run/host/container-manager")  # where a container says who runs it
_LIBRARY = re.compile(r"libsystemd-shared-(\d+)")


@dataclass(frozen=True, slots=True)
class Distribution:
    """The operating system, by os-release: ``debian``, ``12``."""

    id: str
    version: str


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The control groups: which versions are mounted, and where version 2 is."""

    version: Literal["unified", "hybrid", "legacy"] | None
    mount: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What this host is. ``systemd`` is None where PID 1 is something else."""

    name: str
    kernel: str
    kernel_version: tuple[int, ...]
    arch: str
    distribution: Distribution
    systemd: int | None
    cgroup: Cgroup
    #: The controllers of cgroup v2, which alone limit slices and units here.
    controllers: tuple[str, ...]
    #: The kinds of namespaces that can be made here (namespaces(7)): mount, pid, net, ipc, uts, user, cgroup, time.
    namespaces: tuple[str, ...]
    #: Why it has not the others: ``v1``, ``disabled``, ``absent`` or ``withheld``.
    lacking: dict[str, str]
    #: Whether it is a sandbox of nsprov's: what is tried out there need not hold.
    sandbox: bool
    interfaces: dict[str, dict[str, Any]]
    cpus: int
    memory_mib: int
    python: str

    def as_variables(self) -> dict[str, Any]:
        """The facts as templates have them, in JSON values."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        # Not asdict of the whole: it would copy every interface, of which there may be thousands.
        found |= {"distribution": asdict(self.distribution), "cgroup": asdict(self.cgroup)}
        return {
            **found,
            "kernel_version": list(self.kernel_version),
            "controllers": list(self.controllers),
            "namespaces": list(self.namespaces),
        }


def read_facts(host: Host) -> Facts:
    """Read the facts of the machine that this process runs on. Starts no program."""
    release = os.uname().release
    cgroup = _cgroup(_text("/proc/self/mountinfo"))
    controllers = _controllers(cgroup)
    return Facts(
        name=socket.gethostname(),
        kernel=release,
        kernel_version=_numbers(release),
        arch=os.uname().machine,
        distribution=_distribution(),
        systemd=_systemd_version(host),
        cgroup=cgroup,
        controllers=controllers,
        namespaces=_namespaces(),
        lacking=_lacking(cgroup, controllers),
        sandbox=_text(_MANAGER).strip() == "nsprov",
        interfaces=host.network.interfaces(None),
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20),
        python=platform.python_version(),
    )


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _numbers(release: str) -> tuple[int, ...]:
    """``6.1.0-13-amd64`` as (6, 1, 0), to be compared."""
    found = re.match(r"\d+(?:\.\d+)*", release)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _distribution() -> Distribution:
    text = _text("/etc/os-release") or _text("/usr/lib/os-release")
    found = dict(re.findall(r"^(ID|VERSION_ID)=[\"']?([^\"'\n]*)", text, re.MULTILINE))
    return Distribution(found.get("ID", "linux"), found.get("VERSION_ID", ""))


def _systemd_version(host: Host) -> int | None:
    if not _BOOTED.is_dir():
        return None
    try:
        return int(host.systemd.version)
    except HostError:  # only root may ask PID 1 itself
        return installed_systemd()


def installed_systemd() -> int | None:
    """The version of the systemd that is installed, from its library's name; None where there is none."""
    for folder in ("/usr/lib/systemd", *map(str, Path("/usr/lib").glob("*/systemd")), "/usr/lib64/systemd"):
        for library in Path(folder).glob("libsystemd-shared-*.so"):
            found = _LIBRARY.match(library.name)
            if found:
                return int(found[1])
    return None


def _cgroup(mountinfo: str) -> Cgroup:
    """Which control groups are mounted, by a mountinfo text."""
    mounts: dict[str, list[str]] = {"cgroup": [], "cgroup2": []}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind = right.split(" ", 1)[0]
        if kind in mounts:
            mounts[kind].append(left.split()[4])
    if not mounts["cgroup2"]:
        return Cgroup("legacy" if mounts["cgroup"] else None, None)
    # The same tree may be mounted in other places too (by container managers): the shortest path is the host's.
    mount = min(mounts["cgroup2"], key=lambda path: (not path.startswith("/sys/fs/cgroup"), len(path), path))
    return Cgroup("hybrid" if mounts["cgroup"] else "unified", mount)


def _controllers(cgroup: Cgroup) -> tuple[str, ...]:
    return tuple(_text(f"{cgroup.mount}/cgroup.controllers").split()) if cgroup.mount else ()


def _namespaces() -> tuple[str, ...]:
    """The kinds that this kernel has, and of which its limits let some be made (user_namespaces(7))."""
    files = {"mount": "mnt"}
    found = []
    for kind in ("mount", "pid", "net", "ipc", "uts", "user", "cgroup", "time"):
        file = files.get(kind, kind)
        limit = _text(f"/proc/sys/user/max_{file}_namespaces").strip()
        if Path(f"/proc/self/ns/{file}").exists() and limit != "0":
            found.append(kind)
    return tuple(found)


def _lacking(cgroup: Cgroup, controllers: tuple[str, ...]) -> dict[str, str]:
    nested = cgroup.mount is not None and Path(cgroup.mount, "cgroup.events").exists()  # a machine's own root has none
    return {**lacking(controllers, _text("/proc/cgroups"), _text("/proc/cmdline"), nested=nested)}
