"""The two processes behind every sandbox, and what each does when any other of its processes ends.

The guardian builds the sandbox, is the parent of its first process, and lives in the underlay's network
namespace. Its twin does nothing but watch it. The kernel kills the sandbox with the guardian; whichever of
the two is left removes the cgroup and the state file. Both killed at once, the next start does.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from provisioner.errors import HostError, NsprovError, UsageError
from provisioner.host import kernel
from provisioner.host.sandbox import boot, enter, state, tree, underlay
from provisioner.host.sandbox.state import Record

__all__ = ["CONTROLLERS", "SHIFT", "Wish", "become_guardian"]

#: The first of the machine's user numbers that stand for a sandbox's, and how many. Above those that
#: systemd-nspawn and the usual /etc/subuid give out.
SHIFT = 0x7000_0000
_SHIFT_SIZE = 1 << 24

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_BOOT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sandbox is asked to be."""

    name: str
    root: Path
    address: str | None
    owner: int | None


def become_guardian(starter: socket.socket, owner: int, wish: Wish) -> NoReturn:
    """Build a sandbox and stand behind it until it ends. Runs in a fork of the starter; never returns.

    ``owner`` is a pidfd of the starter. Tells the starter ``{"ready": true}``, or what went wrong.
    """
    guardian = _Guardian(starter, owner, wish)
    try:
        guardian.run()
    except BaseException as error:
        guardian.report(error)
    finally:
        with contextlib.suppress(BaseException):
            guardian.tear_down()
        os._exit(0)


def _settle(name: str, keep: set[int]) -> None:
    """Let go of everything that a fork has inherited but these descriptors: terminal, signals, folder."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            if number not in (signal.SIGPIPE, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    gc.freeze()  # the collector must not close, for an object of the starter's, a descriptor of ours
    close_all_but(keep)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    kernel.set_process_name(name)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not among these."""
    for descriptor in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


class _Guardian:
    def __init__(self, starter: socket.socket, owner: int, wish: Wish) -> None:
        self.starter = starter
        self.owner = owner
        self.wish = wish
        self.record: Record | None = None
        self.shift = 0
        self.init = 0
        self.init_fd = -1
        self.twin = 0
        self.twin_fd = -1
        self.reported = False
        self.console: deque[str] = deque(maxlen=60)

    # -- the stages -------------------------------------------------------------------------------

    def run(self) -> None:
        stop, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _settle("nsprov-sandbox", {self.starter.fileno(), self.owner, stop, wake})
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._start_twin()
        self._reserve()
        self._build()
        notify, console = self._start_init()
        self._watch(stop, notify, console)

    def _start_twin(self) -> None:
        number = os.getpid()
        me = os.pidfd_open(number)
        self.twin = os.fork()
        if self.twin == 0:
            _be_twin(me, number, self.wish.name)
        os.close(me)
        self.twin_fd = os.pidfd_open(self.twin)

    def _reserve(self) -> None:
        """Take the name and the address, and go to where the bridge is."""
        mount = state.cgroup_mount()
        with state.locked():
            state.sweep()
            others = state.records()
            address = self.wish.address or underlay.free_address(other.address for other in others)
            for other in others:
                if other.name == self.wish.name:
                    raise UsageError(
                        f"a sandbox named '{other.name}' is running",
                        hint=f"take another name, or: nsprov sandbox stop {other.name}",
                    )
                if other.address.partition("/")[0] == address.partition("/")[0]:
                    raise UsageError(f"the sandbox '{other.name}' has the address {other.address} already")
            guardian = os.getpid()
            record = Record(
                name=self.wish.name,
                address=address,
                root=str(self.wish.root),
                cgroup=str(mount / f"nsprov-sandbox-{self.wish.name}-{guardian}"),
                guardian=guardian,
                guardian_start=state.process_start(guardian) or 0,
                twin=self.twin,
                twin_start=state.process_start(self.twin) or 0,
                owner=self.wish.owner,
                since=time.time(),
            )
            state.reserve(record)
            self.record = record
            underlay.enter(other.guardian for other in others if other.guarded)

    def _build(self) -> None:
        """Make the cgroup and the copy-on-write root."""
        assert self.record
        layers = tree.find_layers(self.wish.root, _user_namespace())
        self.shift = SHIFT if layers[0].shifted else 0
        _make_cgroup(Path(self.record.cgroup), self.shift)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        tree.stack(layers)
        for layer in layers:
            os.close(layer.tree)

    def _start_init(self) -> tuple[int, int]:
        """Fork the sandbox's first process, and bring it as far as systemd."""
        assert self.record
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flags = (
            kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET
        )
        self.init = kernel.clone(flags | (kernel.CLONE_NEWUSER if self.shift else 0))
        if self.init == 0:
            signal.set_wakeup_fd(-1)
            close_all_but({far.fileno()})
            boot.boot(far, self.wish.name, self.record.address, bool(self.shift))
        self.init_fd = os.pidfd_open(self.init)
        far.close()
        if self.shift:
            _map_ids(self.init)
        Path(self.record.cgroup, "cgroup.procs").write_text(str(self.init))
        underlay.attach(self.init)
        near.send(b"go")
        self._hear(near, b"armed")
        near.send(b"go on")
        descriptors = self._hear(near, b"booting")
        near.close()
        return descriptors[0], descriptors[1]

    def _hear(self, near: socket.socket, wanted: bytes) -> list[int]:
        with contextlib.suppress(OSError):
            message, descriptors, _, _ = socket.recv_fds(near, 8192, 3)
            if message == wanted:
                return descriptors
            if message:
                raise HostError("the sandbox cannot be furnished", detail=message.decode(errors="replace"))
        raise HostError("the sandbox was killed while it was made")

    # -- the watch --------------------------------------------------------------------------------

    def _watch(self, stop: int, notify: int, console: int) -> None:
        """Wait for whatever ends the sandbox; on the way, tell the starter when it has booted."""
        poll = select.poll()
        for descriptor in (stop, notify, console, self.init_fd, self.twin_fd, self.owner):
            poll.register(descriptor, select.POLLIN)
        deadline: float | None = time.monotonic() + _BOOT_TIMEOUT
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = dict(poll.poll(left))
            if console in events and not self._read_console(console):
                poll.unregister(console)
            if notify in events and b"READY=1" in os.read(notify, 4096).split(b"\n") and deadline is not None:
                self._announce()
                deadline = None
                if self.wish.owner is None:
                    poll.unregister(self.owner)
            if self.init_fd in events and deadline is not None:
                raise HostError("systemd ended while the sandbox was booting", detail=self._last_words())
            if deadline is not None and time.monotonic() > deadline:
                raise HostError(
                    f"the sandbox did not boot within {_BOOT_TIMEOUT:.0f} seconds", detail=self._last_words()
                )
            if events.keys() & {stop, self.init_fd, self.twin_fd, self.owner}:
                return

    def _read_console(self, console: int) -> bool:
        try:
            text = os.read(console, 65536)
        except OSError:
            return False  # the last program that had it open is gone
        self.console.extend(line.strip() for line in text.decode(errors="replace").splitlines() if line.strip())
        return bool(text)

    def _last_words(self) -> str:
        """What systemd said last, and what it still waits for, a line each."""
        lines = list(self.console)[-8:]  # until there is a journal, it speaks on the console
        if state.process_start(self.init):
            lines += self._ask("journalctl", "-n8", "-ocat", "--no-pager")
            lines += [f"waiting: {job}" for job in self._ask("systemctl", "list-jobs", "--no-legend", "--plain")]
        return "\n    ".join(["", *(line[:200] for line in lines)]) if lines else "it said nothing"

    def _ask(self, *argv: str) -> list[str]:
        """The lines that a command prints in the sandbox; none where it cannot be run."""
        assert self.record
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            leaf = enter.make_leaf(Path(self.record.cgroup), self.shift, "guardian")
            me = os.pidfd_open(os.getpid())
            result = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=enter.ENVIRONMENT,
                timeout=5,
                check=False,
                preexec_fn=lambda: enter.enter(self.init_fd, leaf, bool(self.shift), me),
            )
            return result.stdout.splitlines()
        return []

    def _announce(self) -> None:
        assert self.record
        self.record = self.record.booted(self.init, self.shift, _lacks(Path(self.record.cgroup), bool(self.shift)))
        with state.locked():
            state.update(self.record)
        self._tell({"ready": True})

    # -- the end ----------------------------------------------------------------------------------

    def report(self, error: BaseException) -> None:
        if isinstance(error, NsprovError):
            usage = isinstance(error, UsageError)
            self._tell({"error": error.message, "hint": error.hint, "usage": usage})
        elif isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            refused = error.errno in (errno.EPERM, errno.EACCES, errno.EROFS)
            hint = (
                "this root lacks rights: where it is a container's, that must be a privileged one" if refused else None
            )
            self._tell({"error": f"the sandbox cannot be made: {error.strerror}{where}", "hint": hint})
        else:
            self._tell({"error": f"the sandbox cannot be made: {type(error).__name__}: {error}"})

    def _tell(self, message: dict[str, object]) -> None:
        if not self.reported:
            self.reported = True
            with contextlib.suppress(OSError):
                self.starter.send(json.dumps(message).encode())
        self.starter.close()

    def tear_down(self) -> None:
        """Kill the sandbox, and remove what is outside of it."""
        if self.init:
            with contextlib.suppress(OSError):
                os.kill(self.init, signal.SIGKILL)
                os.waitpid(self.init, 0)
        if self.record:
            _remove(self.record.cgroup, self.record.name, self.record.guardian)
        if self.twin:
            os.kill(self.twin, signal.SIGKILL)
            os.waitpid(self.twin, 0)


def _remove(cgroup: str, name: str, guardian: int) -> None:
    state.remove_cgroup(Path(cgroup))
    state.forget(name, guardian)


def _be_twin(guardian: int, number: int, name: str) -> NoReturn:
    """Wait for the guardian's end, and remove what it may have left."""
    try:
        _settle("nsprov-twin", {guardian})
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        state.wait_for_exit(guardian)
        record = state.read(name)
        if record is not None and record.guardian == number:
            _remove(record.cgroup, name, number)
    finally:
        os._exit(0)


# -- what the kernel grants -----------------------------------------------------------------------


def _user_namespace() -> int | None:
    """A descriptor of a user namespace in which the users of a sandbox are numbered; None without any."""
    reader, writer = os.pipe()
    try:
        holder = kernel.clone(kernel.CLONE_NEWUSER)
    except OSError:
        os.close(reader)
        os.close(writer)
        return None
    if holder == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        _map_ids(holder)
    except OSError:  # these numbers are not ours to give: this is a container, or a sandbox, itself
        return None
    else:
        return os.open(f"/proc/{holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(holder, 0)


def _map_ids(pid: int) -> None:
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {SHIFT} {_SHIFT_SIZE}\n")


def _make_cgroup(path: Path, shift: int) -> None:
    """Make a cgroup that the sandbox may divide as it likes, with the controllers that can be had."""
    for controller in CONTROLLERS:
        with contextlib.suppress(OSError):  # not in this kernel, or in the hands of v1
            (path.parent / "cgroup.subtree_control").write_text(f"+{controller}")
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group", "memory.reclaim"):
        with contextlib.suppress(FileNotFoundError):
            os.chown(path / name, shift, shift)


def _lacks(cgroup: Path, shifted: bool) -> tuple[str, ...]:
    found = (cgroup / "cgroup.controllers").read_text().split()
    missing = [name for name in CONTROLLERS if name not in found]
    lacks = []
    if missing:
        several = "s" if len(missing) > 1 else ""
        lacks.append(f"the cgroup v2 controller{several} {', '.join(missing)} (limits are recorded, not enforced)")
    if not shifted:
        lacks.append("user namespaces over this root (it is kept in by fewer capabilities alone)")
    if not _has_nftables():
        lacks.append("nf_tables")
    return tuple(lacks)


def _has_nftables() -> bool:
    """Whether the kernel answers a request for its nft generation (which loads the module where there is one)."""
    import struct

    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN
        netlink.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0))
        kind = struct.unpack_from("=H", netlink.recv(4096), 4)[0]
        return bool(kind != 2)  # NLMSG_ERROR
    return False
