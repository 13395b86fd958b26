"""What a host lacks for nsprov, and the command that mends it.

Looks, and changes nothing: kernel features are tried in a forked child with namespaces of its own, and a
feature whose module could be loaded is not made to load it.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import resource
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provisioner.errors import HostError
from provisioner.host import messages
from provisioner.host.facts import installed_systemd
from provisioner.limits.controllers import CONTROLLERS, UNIFY, lack_of, mend, why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from provisioner.host import Host
    from provisioner.limits.controllers import Lack

__all__ = ["Finding", "diagnose", "is_ready"]

#: NetworkNamespacePath= is what a unit in a namespace stands on.
_OLDEST_SYSTEMD, _TESTED_SYSTEMD = 242, 252
_NEWNS, _NEWNET, _NEWUSER, _NEWTIME = 0x20000, 0x40000000, 0x10000000, 0x80
_NFTABLES = "inet nsprov"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``missing``: an apply cannot work; ``warning``: a part of it cannot."""

    name: str
    status: Literal["ok", "missing", "warning"]
    detail: str
    needed_for: str = ""
    #: The command, or the step, that mends it.
    remedy: str = ""


def diagnose(host: Host) -> list[Finding]:
    """Everything that nsprov needs of this host, each thing found or missing."""
    return [
        _root(),
        *_systemd(host),
        *_cgroups(host),
        *_programs(),
        *_kernel(),
        _namespaces_folder(),
        _space(Path("/var/lib")),
        _open_files(),
        _python_modules(),
    ]


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether an apply would work on a host with these findings."""
    return all(finding.status != "missing" for finding in findings)


# -- who runs what --------------------------------------------------------------------------------


def _root() -> Finding:
    uid = os.geteuid()
    if uid == 0:
        return Finding("root", "ok", "uid 0")
    return Finding("root", "missing", f"uid {uid}", "apply, plan and rehearse", "sudo nsprov doctor")


def _systemd(host: Host) -> Iterator[Finding]:
    needed = "slices and units"
    version = host.facts.systemd
    if version is None:
        first = _first_process()
        installed = installed_systemd()
        yield Finding("systemd", "missing", f"PID 1 is {first}", needed, _without_systemd(installed))
        return
    if version < _OLDEST_SYSTEMD:
        detail = f"version {version}, older than {_OLDEST_SYSTEMD}"
        yield Finding("systemd", "missing", detail, "units in namespaces", "upgrade the distribution")
    elif version < _TESTED_SYSTEMD:
        detail = f"version {version}; nsprov is tested from {_TESTED_SYSTEMD} on"
        yield Finding("systemd", "warning", detail, needed, "upgrade the distribution")
    else:
        yield Finding("systemd", "ok", f"version {version}")
    yield _private_socket()


def _first_process() -> str:
    try:
        return Path("/proc/1/comm").read_text().strip()
    except OSError:
        return "not to be seen"


def _without_systemd(installed: int | None) -> str:
    if installed is None:
        return "apt-get install systemd dbus, then: nsprov rehearse INVENTORY (a sandbox with its own systemd)"
    return "nsprov rehearse INVENTORY (a sandbox with its own systemd)"


def _private_socket() -> Finding:
    name, path = "systemd's private socket", "/run/systemd/private"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as private:
        try:
            private.connect(path)
        except OSError as error:
            detail = f"{path}: {error.strerror}"
            remedy = "sudo nsprov doctor" if error.errno in (errno.EACCES, errno.EPERM) else "systemctl daemon-reexec"
            return Finding(name, "missing", detail, "slices and units", remedy)
    return Finding(name, "ok", path)


# -- control groups -------------------------------------------------------------------------------


def _cgroups(host: Host) -> Iterator[Finding]:
    cgroup = host.facts.cgroup
    if cgroup.version == "unified":
        yield Finding("cgroup v2", "ok", f"unified, at {cgroup.mount}")
    elif cgroup.version == "hybrid":
        detail = f"beside cgroup v1, at {cgroup.mount}: only the controllers that v1 does not hold are there"
        yield Finding("cgroup v2", "warning", detail, "limits", UNIFY)
    else:
        yield Finding("cgroup v2", "missing", "not mounted", "slices and units", UNIFY)
    facts = {"controllers": host.facts.controllers, "lacking": host.facts.lacking}
    for controller, names in CONTROLLERS.items():
        yield _controller(controller, names, lack_of(controller, facts))


def _controller(controller: str, names: Iterable[str], lack: Lack | None) -> Finding:
    title, limits = f"controller {controller}", ", ".join(name for name in names if _is_shown(name))
    if lack is None:
        return Finding(title, "ok", f"for {limits}")
    return Finding(title, "warning", f"not there: {why(controller, lack)}", limits, mend(controller, lack))


def _is_shown(name: str) -> bool:
    """Whether a directive is a limit of its own: not one for the time of the boot, a default, or of cgroup v1."""
    if name.startswith(("Startup", "Default", "BlockIO", "ManagedOOM")) or name.endswith("Accounting"):
        return False
    return name not in ("CPUShares", "MemoryLimit")


# -- programs and libraries -----------------------------------------------------------------------


def _programs() -> Iterator[Finding]:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        yield Finding("libnftables", "missing", "libnftables.so.1 is not there", "nftables", _install("nftables"))
    else:
        yield Finding("libnftables", "ok", "libnftables.so.1")
    for program, package in (
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("systemctl", "systemd"),
        ("dbus-daemon", "dbus"),
    ):
        path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
        if path:
            yield Finding(program, "ok", path)
        else:
            use = "rehearse" if program == "dbus-daemon" else "verify"
            yield Finding(program, "warning", "not installed", use, _install(package))


def _install(package: str) -> str:
    if shutil.which("apt-get") or not shutil.which("dnf"):
        return f"apt-get install {package}"
    return f"dnf install {'iproute' if package == 'iproute2' else package}"


def _python_modules() -> Finding:
    wanted = ("typer", "yaml", "jinja2", "pyroute2", "pystemd", "pydantic", "netaddr", "testinfra", "pytest")
    lacking = [name for name in wanted if importlib.util.find_spec(name) is None]
    if lacking:
        return Finding("Python modules", "missing", f"without {', '.join(lacking)}", "nsprov", "pip install nsprov")
    return Finding("Python modules", "ok", f"all {len(wanted)}")


# -- the kernel -----------------------------------------------------------------------------------


def _kernel() -> Iterator[Finding]:
    yield _feature("veth", "veth", _make_veth, _NEWNET, "wiring", essential=True)
    yield _feature("bridge", "bridge", _make_bridge, _NEWNET, "wiring", essential=True)
    yield _feature("nf_tables", "nf_tables", _load_table, _NEWNET, "nftables", essential=True)
    yield _feature("overlayfs", "overlay", _mount_overlay, _NEWNS, "sandboxes and rehearse")
    yield _feature("user namespaces", None, _nothing, _NEWUSER, "PrivateUsers")
    yield _feature("time namespaces", None, _nothing, _NEWTIME, "workloads with a clock of their own")


def _feature(
    name: str, module: str | None, attempt: Callable[[], None], flags: int, needed_for: str, *, essential: bool = False
) -> Finding:
    """Try a feature where nobody else sees it, unless trying it would load a module."""
    if module is not None and not Path("/sys/module", module).exists() and _is_loadable(module):
        return Finding(name, "ok", f"module {module}, loaded when it is needed")
    code = _in_child(attempt, flags)
    if code == 0:
        return Finding(name, "ok", "works")
    if code in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return Finding(name, "warning", "only root can try it", needed_for, "sudo nsprov doctor")
    status: Literal["missing", "warning"] = "missing" if essential else "warning"
    if code == errno.ENOSPC:
        return Finding(name, status, "the limit of namespaces is 0 or reached", needed_for, "sysctl user")
    remedy = f"modprobe {module}, or boot a kernel that has it" if module else "boot a kernel that has them"
    return Finding(name, status, os.strerror(code) if code else "unknown", needed_for, remedy)


def _is_loadable(module: str) -> bool:
    """Whether the running kernel has it as a file, and not built in."""
    try:
        listed = Path("/lib/modules", os.uname().release, "modules.dep").read_text()
    except OSError:
        return False
    return any(f"/{module}.ko" in line.split(":", 1)[0] for line in listed.splitlines())


def _in_child(attempt: Callable[[], None], flags: int) -> int:
    """The errno with which an attempt in namespaces of its own ended; 0 when it worked."""
    child = os.fork()
    if child == 0:
        code = errno.EIO
        try:
            signal.alarm(10)
            if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
                code = ctypes.get_errno()
            else:
                attempt()
                code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        except HostError as error:
            code = error.code or errno.EIO
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else errno.EIO


def _nothing() -> None:
    """The namespace itself was the attempt."""


def _make_veth() -> None:
    _request(messages.link_create("nsprov0", "veth", messages.veth_data("nsprov1", None)))


def _make_bridge() -> None:
    _request(messages.link_create("nsprov0", "bridge"))


def _request(message: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(messages.with_sequence([message], 1))
        for kind, flags, _, body in messages.split(netlink.recv(65536)):
            if kind == messages.NLMSG_ERROR:
                code, words = messages.parse_error(flags, body)
                if code:
                    raise OSError(code, words or os.strerror(code))


def _load_table() -> None:
    from provisioner.host.netlink import Network
    from provisioner.host.nft import Nft
    from provisioner.rulesets import NftTable, Ruleset, Write

    family, name = _NFTABLES.split()
    table = NftTable(None, family, name)
    ruleset = Ruleset(family, name, f"table {_NFTABLES} {{\n}}\n")
    for error in Nft(Network()).carry_out([Write(table, ruleset, fresh=True)]):
        if error is not None:
            raise error


def _mount_overlay() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    private, recursive = 1 << 18, 1 << 14
    _mount(libc, b"none", b"/", None, private | recursive, None)
    _mount(libc, b"tmpfs", b"/tmp", b"tmpfs", 0, None)
    for name in ("lower", "upper", "work", "view"):
        Path("/tmp", name).mkdir()
    _mount(libc, b"overlay", b"/tmp/view", b"overlay", 0, b"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work")


def _mount(libc: ctypes.CDLL, source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    if libc.mount(source, target, kind, flags, data) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# -- room -----------------------------------------------------------------------------------------


def _namespaces_folder() -> Finding:
    folder = Path("/run/netns")
    if folder.is_dir() or (folder.parent.is_dir() and not folder.exists()):
        return Finding("/run/netns", "ok", "is there" if folder.is_dir() else "made when it is needed")
    return Finding("/run/netns", "missing", "/run is not as Linux has it", "namespaces", "mount -t tmpfs tmpfs /run")


def _space(folder: Path, least: int = 64 << 20) -> Finding:
    needed = "the record of what nsprov owns"
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return Finding(str(folder), "missing", error.strerror or "", needed, f"mkdir -p {folder}")
    if status.f_flag & os.ST_RDONLY:
        return Finding(str(folder), "missing", "read-only", needed, f"mount -o remount,rw {_mount_point(folder)}")
    free = status.f_bavail * status.f_frsize
    if free < least:
        return Finding(str(folder), "warning", f"{free >> 20} MiB free", needed, "make room on its file system")
    return Finding(str(folder), "ok", _size(free) + " free")


def _mount_point(folder: Path) -> Path:
    while not folder.is_mount():
        folder = folder.parent
    return folder


def _size(count: int) -> str:
    return f"{count / (1 << 30):.0f} GiB" if count >= 10 << 30 else f"{count >> 20} MiB"


def _open_files(least: int = 4096) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= least:
        limit = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        return Finding("open files", "ok", limit)
    detail = f"at most {hard}, so at most about {hard // 2 - 50} namespaces are held open at once"
    return Finding("open files", "warning", detail, "many namespaces", f"ulimit -Hn {least}")
