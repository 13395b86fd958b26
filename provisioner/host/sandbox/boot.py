"""The first process of a sandbox: from a fork of its guardian to ``exec`` of systemd."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import NoReturn

from provisioner.host import kernel
from provisioner.host.sandbox import tree, underlay

__all__ = ["MANAGER", "NOTIFY", "TARGET", "boot"]

#: What systemd boots into: enough for services to start, and none of the machine's own.
TARGET = "nsprov-sandbox.target"
#: Where systemd says that it has booted, in its own view.
NOTIFY = "/run/host/notify"

#: Where a container says who runs it.
MANAGER = Path("/run/host/container-manager")

_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")

_TARGET_UNIT = """\
[Unit]
Description=Sandbox of nsprov
Documentation=man:nsprov
Requires=basic.target
Wants=dbus.socket
After=basic.target
Conflicts=rescue.service rescue.target
AllowIsolate=yes
"""

#: What may start with the sandbox. Everything else that the root's boot targets want waits to be asked for.
_WANTED = frozenset(
    (
        "dbus.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald.service",
        "systemd-journald.socket",
        "systemd-tmpfiles-setup.service",
    )
)
_BOOT_TARGETS = ("sysinit", "basic", "sockets", "timers", "paths", "slices", "local-fs", "local-fs-pre", "swap")

#: What would set up the machine's hardware, disks and kernel, even if something asks for it.
_MASKED = (
    "kmod-static-nodes.service",
    "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journald-audit.socket",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
)

#: Outranks /etc, so that what the root's own administrator enabled is overruled, and not changed.
_CONTROL = Path("/run/systemd/system.control")
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
_GENERATORS = tuple(
    Path(folder, "systemd", kind)
    for folder in ("/usr/local/lib", "/usr/lib", "/lib", "/etc")
    for kind in ("system-generators", "system-environment-generators")
)


def boot(guardian: socket.socket, name: str, address: str, shifted: bool) -> NoReturn:
    """Become the first process of the sandbox. Never returns; what goes wrong is told to the guardian."""
    try:
        kernel.die_with_parent()
        _await(guardian)
        if shifted:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.setgroups([])
            kernel.die_with_parent()  # forgotten when the user changed
        # Only now is it sure that the guardian was alive after the kernel had been told to watch it.
        guardian.send(b"armed")
        _await(guardian)
        kernel.unshare(kernel.CLONE_NEWCGROUP)
        os.setsid()
        os.umask(0o022)
        socket.sethostname(name)
        underlay.ip(
            "link set lo up",
            f"addr add {address} dev {underlay.UPLINK}",
            f"link set {underlay.UPLINK} up",
        )
        tree.furnish(shifted)
        _prepare_units()
        _write_identity(name)
        _hand_over(guardian)
        kernel.drop_capabilities()
        _exec()
    except BaseException as error:
        guardian.send(f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)


def _await(guardian: socket.socket) -> None:
    if not guardian.recv(64):
        os._exit(1)  # the guardian has been killed


def _prepare_units() -> None:
    Path("/run/systemd/system").mkdir(parents=True)
    Path("/run/systemd/system", TARGET).write_text(_TARGET_UNIT)
    _CONTROL.mkdir()
    for unit in _MASKED:
        _CONTROL.joinpath(unit).symlink_to("/dev/null")
    for target in _BOOT_TARGETS:
        names = {path.name for units in _UNITS for path in units.glob(f"{target}.target.wants/*")} - _WANTED
        if names:
            # A link to /dev/null masks the wish, not the unit: who starts it by hand can.
            wants = _CONTROL / f"{target}.target.wants"
            wants.mkdir()
            for wanted in names:
                wants.joinpath(wanted).symlink_to("/dev/null")
    for folder in _GENERATORS:
        for generator in folder.glob("*"):
            mask = Path("/run/systemd", folder.name, generator.name)
            mask.parent.mkdir(exist_ok=True)
            if not mask.is_symlink():
                mask.symlink_to("/dev/null")
    journal = Path("/run/systemd/journald.conf.d/nsprov-sandbox.conf")
    journal.parent.mkdir()
    journal.write_text("[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nForwardToConsole=no\n")


def _write_identity(name: str) -> None:
    for path, text in (("/etc/machine-id", f"{uuid.uuid4().hex}\n"), ("/etc/hostname", f"{name}\n")):
        _replace(Path(path), text)
    hosts = Path("/etc/hosts")
    try:
        known = hosts.read_text()
    except OSError:
        known = "127.0.0.1 localhost\n::1 localhost\n"
    _replace(hosts, f"{known.rstrip()}\n127.0.1.1 {name}\n")


def _replace(path: Path, text: str) -> None:
    """Write a file anew: the old one may be a link, or a read-only mount of the machine's."""
    path.parent.mkdir(exist_ok=True)
    try:
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o444 if path.name == "machine-id" else 0o644)
    except OSError:
        fresh = Path("/run/host", path.name)
        fresh.parent.mkdir(exist_ok=True)
        fresh.write_text(text)
        kernel.mount(fresh, path, None, kernel.MS_BIND)


def _hand_over(guardian: socket.socket) -> None:
    """Give the guardian the socket on which systemd reports, and both ends of the console.

    The inner one keeps the console alive while nothing in the sandbox has it open.
    """
    Path(NOTIFY).parent.mkdir(exist_ok=True)
    MANAGER.write_text("nsprov\n")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(NOTIFY)
    outer = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    inner = _unlock_terminal(outer)
    Path("/dev/console").touch()
    kernel.mount(inner, "/dev/console", None, kernel.MS_BIND)
    terminal = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    socket.send_fds(guardian, [b"booting"], [notify.fileno(), outer, terminal])
    for descriptor in (0, 1, 2):
        os.dup2(terminal, descriptor)
    os.closerange(3, 1 << 16)


def _unlock_terminal(outer: int) -> str:
    import fcntl
    import struct

    fcntl.ioctl(outer, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK
    (number,) = struct.unpack("I", fcntl.ioctl(outer, 0x80045430, b"\0\0\0\0"))  # TIOCGPTN
    return f"/dev/pts/{number}"


def _exec() -> NoReturn:
    program = next(path for path in _SYSTEMD if Path(path).exists())
    environment = {
        "container": "nsprov",
        "NOTIFY_SOCKET": NOTIFY,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }
    os.execve(program, [program, "--system", f"--unit={TARGET}", "--show-status=error"], environment)
    raise AssertionError
