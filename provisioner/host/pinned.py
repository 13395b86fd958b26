"""Namespaces beyond the network that last without a process: files under /run/nsprov/ns, bound to them.

Owns the making, reading and removing of them. Each is made by a forked child that enters or leaves what it
has to, and that is bound to its file while it waits; nothing of this process moves. See namespaces(7),
user_namespaces(7), time_namespaces(7) and uts_namespaces(7).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from provisioner.errors import HostError
from provisioner.host import kernel
from provisioner.host.forked import Forked

__all__ = ["FOLDER", "Found", "IdRange", "Pinned", "held_for_netns", "path_of"]

FOLDER = Path("/run/nsprov/ns")

_FLAGS = {
    "user": kernel.CLONE_NEWUSER,
    "uts": kernel.CLONE_NEWUTS,
    "ipc": kernel.CLONE_NEWIPC,
    "time": kernel.CLONE_NEWTIME,
    "net": kernel.CLONE_NEWNET,
    "mount": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "cgroup": kernel.CLONE_NEWCGROUP,
}
#: The file in a process's ``ns`` folder that is bound for a namespace that a process holds.
_HELD = {"pid": "pid_for_children", "cgroup": "cgroup"}
_MOUNT_TRIES = 100
#: What ``/proc/sys/user`` calls the limit on the namespaces of each kind that may be made.
_LIMITS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703

#: The numbers of users that systemd keeps for containers (UIDS-GIDS.md), a range of 65536 for each.
_FIRST_RANGE, _END_OF_RANGES, _RANGE = 0x00080000, 0x6FFF0000, 0x10000


class IdRange(NamedTuple):
    """One line of a uid_map: ``length`` numbers from ``inside`` on are those from ``outside`` on."""

    inside: int
    outside: int
    length: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.length}"


@dataclass(frozen=True, slots=True)
class Found:
    """A pinned namespace as it is. What its kind has not is None."""

    type: str
    name: str
    inode: int
    #: The pinned user namespace that owns it, by name; None where that one is the host's, or has no name.
    owner: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    monotonic: int | None = None
    boottime: int | None = None
    uids: tuple[IdRange, ...] | None = None
    gids: tuple[IdRange, ...] | None = None
    nesting: bool | None = None


def path_of(type: str, name: str) -> Path:
    """The file that a namespace is bound to."""
    return FOLDER / type / name


class Pinned:
    """The pinned namespaces of this machine."""

    def exists(self, type: str, name: str) -> bool:
        """Whether there is such a namespace. A file that a crash left empty is none."""
        return _inode(type, name) is not None

    def find(self, type: str, name: str) -> Found | None:
        """What a namespace is; None where there is none."""
        inode = _inode(type, name)
        if inode is None:
            return None
        found: Mapping[str, Any] = {}
        if type in _READERS:
            answers, how = Forked(lambda answer: answer(_READERS[type](path_of(type, name)))).collect()
            if not answers:
                raise HostError(f"cannot read the {type} namespace {name}", detail=how)
            found = answers[0]
            for key in ("uids", "gids"):
                if key in found:
                    found = {**found, key: tuple(IdRange(*one) for one in found[key])}
        return Found(type, name, inode, None if type == "user" else self.owner(path_of(type, name)), **found)

    def owner(self, path: Path) -> str | None:
        """The name of the pinned user namespace that owns the namespace of a file."""
        owners = {inode: name for name in _names("user") if (inode := _inode("user", name)) is not None}
        if not owners:
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            of = fcntl.ioctl(descriptor, _NS_GET_USERNS)
        except OSError as error:
            if error.errno == errno.EPERM:  # above what this process may see
                return None
            raise HostError.from_os(f"cannot tell who owns {path}", error) from None
        finally:
            os.close(descriptor)
        try:
            return owners.get(os.fstat(of).st_ino)
        finally:
            os.close(of)

    # -- making -----------------------------------------------------------------------------------

    def create_user(
        self, name: str, uids: tuple[IdRange, ...] | None, gids: tuple[IdRange, ...] | None, *, nesting: bool
    ) -> None:
        """Make a user namespace. Without maps it is given a range of 65536 that no other has.

        Unless ``nesting``, no namespace of any kind can be made by what runs in it.
        """
        if uids is None or gids is None:
            own = (IdRange(0, self._free_range(name), _RANGE),)
            uids, gids = uids or own, gids or own

        def prepare() -> None:
            _see_all_of_proc()
            kernel.unshare(kernel.CLONE_NEWUSER)

        def limit() -> None:
            if not nesting:
                for one in _LIMITS:
                    _set_limit(one, 0)

        with self._making("user", name), _child(prepare, limit) as (pid, go_on):
            for file, ranges in (("uid_map", uids), ("gid_map", gids)):
                Path(f"/proc/{pid}/{file}").write_text("".join(f"{one}\n" for one in ranges))
            go_on()
            _bind(pid, "user", path_of("user", name))

    def create_uts(self, name: str, owner: str | None, hostname: str | None, domainname: str | None) -> None:
        """Make a namespace with a host's name of its own."""

        def prepare() -> None:
            _unshare_in(owner, "uts")
            if hostname is not None:
                socket.sethostname(hostname)
            if domainname is not None:
                kernel.set_domain_name(domainname)

        with self._making("uts", name), _child(prepare) as (pid, _):
            _bind(pid, "uts", path_of("uts", name))

    def create_ipc(self, name: str, owner: str | None) -> None:
        """Make a namespace with shared memory and message queues of its own."""
        with self._making("ipc", name), _child(lambda: _unshare_in(owner, "ipc")) as (pid, _):
            _bind(pid, "ipc", path_of("ipc", name))

    def create_time(self, name: str, owner: str | None, monotonic: int, boottime: int) -> None:
        """Make a namespace whose clocks are ahead by these nanoseconds (behind, where negative)."""
        with self._making("time", name), _child(lambda: _unshare_in(owner, "time")) as (pid, _):
            lines = [f"{clock} {ns // 10**9} {ns % 10**9}\n" for clock, ns in _clocks(monotonic, boottime)]
            if lines:
                Path(f"/proc/{pid}/timens_offsets").write_text("".join(lines))
            _bind(pid, "time_for_children", path_of("time", name))

    def create_mount(self, name: str) -> None:
        """Make a mount namespace: a copy of this one, whose changes stay in it."""

        def prepare() -> None:
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount(None, "/", flags=kernel.MS_PRIVATE | kernel.MS_REC)

        path = path_of("mount", name)
        with self._making("mount", name):
            # The kernel binds a mount namespace only where the bind is copied into no other mount namespace,
            kernel.mount(path, path, flags=kernel.MS_BIND)
            kernel.mount(None, path, flags=kernel.MS_PRIVATE)
            # and only into an older one: by numbers that each processor of a newer kernel gives out of its own.
            for tries_left in reversed(range(_MOUNT_TRIES)):
                with _child(prepare) as (pid, _):
                    try:
                        _bind(pid, "mnt", path)
                    except OSError as error:
                        if error.errno != errno.EINVAL or not tries_left:
                            raise
                        continue
                break

    def create_held(self, type: str, name: str, holder: int) -> None:
        """Name the pid or cgroup namespace that a process holds; it lasts no longer than the process."""
        with self._making(type, name):
            _bind(holder, _HELD[type], path_of(type, name))

    def is_held_by(self, type: str, name: str, holder: int) -> bool:
        """Whether a pid or cgroup namespace is the one that this process holds now."""
        try:
            inode = Path(f"/proc/{holder}/ns/{_HELD[type]}").stat().st_ino
        except OSError:
            return False
        return inode == _inode(type, name)

    def set_names(self, name: str, hostname: str | None, domainname: str | None) -> None:
        """Change the names of a uts namespace; what runs in it sees the new ones at once."""

        def work(answer: Callable[[Any], None]) -> None:
            try:
                _enter(path_of("uts", name), "uts")
                if hostname is not None:
                    socket.sethostname(hostname)
                if domainname is not None:
                    kernel.set_domain_name(domainname)
                answer(None)
            except OSError as error:
                answer([error.errno, error.strerror])

        answers, how = Forked(work).collect()
        if answers != [None]:
            code, words = answers[0] if answers else (0, how)
            raise HostError(f"cannot name the uts namespace {name}", detail=words, code=code)

    def delete(self, type: str, name: str) -> None:
        """Take the file off a namespace; the kernel ends it once nothing runs in it. Done if it is gone."""
        path = path_of(type, name)
        try:
            while True:
                try:
                    kernel.umount(path, kernel.MNT_DETACH)
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOENT):
                        raise
                    break
            path.unlink(missing_ok=True)
        except OSError as error:
            raise HostError.from_os(f"cannot remove the {type} namespace {name}", error) from None
        for folder in (path.parent, FOLDER, FOLDER.parent):
            try:
                folder.rmdir()
            except OSError:
                return  # others are in it

    @contextmanager
    def _making(self, type: str, name: str) -> Iterator[None]:
        """The file that is about to be bound; it goes again where that fails."""
        path = path_of(type, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            if self.exists(type, name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            path.touch(mode=0o444)
            yield
        except OSError as error:
            if error.errno != errno.EEXIST:
                self.delete(type, name)
            raise HostError.from_os(f"cannot make the {type} namespace {name}", error) from None

    def _free_range(self, name: str) -> int:
        """A range of users that no pinned namespace has; where it may, the same for the same name."""
        taken: set[int] = set()
        for other in _names("user"):
            found = self.find("user", other)
            for one in (*(found.uids or ()), *(found.gids or ())) if found else ():
                taken.update(range(one.outside // _RANGE, (one.outside + one.length - 1) // _RANGE + 1))
        first, end = _FIRST_RANGE // _RANGE, min(_END_OF_RANGES, _mapped()) // _RANGE
        count = end - first
        start = zlib.crc32(name.encode()) % count if count > 0 else 0
        for step in range(count):
            slot = first + (start + step) % count
            if slot not in taken:
                return slot * _RANGE
        raise OSError(errno.ENOSPC, "no range of 65536 users is free")


@contextmanager
def held_for_netns(owner: str) -> Iterator[int]:
    """A process in a new network namespace that a pinned user namespace owns, for as long as this lasts.

    Raises OSError.
    """
    with _child(lambda: _unshare_in(owner, "net")) as (pid, _):
        yield pid


# -- in and around the child ----------------------------------------------------------------------


@contextmanager
def _child(prepare: Callable[[], None], afterwards: Callable[[], None] | None = None) -> Iterator[Any]:
    """A child that has done ``prepare`` and waits: its PID, and what lets it do ``afterwards`` and wait again.

    What it fails with is raised here.
    """
    asking, answering = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            asking.close()
            kernel.die_with_parent()
            for work in (prepare, afterwards):
                if work is not None and answering.recv(1):
                    answering.sendall(_outcome(work))
            answering.recv(1)
        finally:
            os._exit(0)
    answering.close()

    def go_on() -> None:
        asking.sendall(b".")
        code, words, path = json.loads(asking.recv(4096) or b'[5, "it ended early", null]')
        if code:
            raise OSError(code, words, path)

    try:
        go_on()
        yield pid, go_on
    finally:
        asking.close()
        os.waitpid(pid, 0)


def _outcome(work: Callable[[], None]) -> bytes:
    try:
        work()
        kernel.let_be_seen()
    except OSError as error:
        return json.dumps([error.errno, error.strerror, error.filename]).encode()
    return b'[0, "", null]'


def _enter(path: Path, type: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.setns(descriptor, _FLAGS[type])
    finally:
        os.close(descriptor)


def _unshare_in(owner: str | None, type: str) -> None:
    """Leave for a new namespace, which a pinned user namespace owns."""
    if owner is None:
        kernel.unshare(_FLAGS[type])
        return
    _see_all_of_proc()
    _enter(path_of("user", owner), "user")
    limit = _limit_path(type)
    before = limit.read_text()
    limit.write_text("2147483647")  # it may forbid what runs in it to make any
    try:
        kernel.unshare(_FLAGS[type])
    finally:
        limit.write_text(before)


def _see_all_of_proc() -> None:
    """A /proc whose settings can be written: a container's is read-only for the most part."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", flags=kernel.MS_PRIVATE | kernel.MS_REC)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _limit_path(type: str) -> Path:
    return Path(f"/proc/sys/user/max_{type}_namespaces")


def _set_limit(type: str, most: int) -> None:
    path = _limit_path(type)
    if path.exists():  # a kernel without this kind of namespace
        path.write_text(str(most))


def _bind(pid: int, file: str, path: Path) -> None:
    kernel.mount(f"/proc/{pid}/ns/{file}", path, flags=kernel.MS_BIND)


# -- reading --------------------------------------------------------------------------------------


def _names(type: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(FOLDER / type))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _inode(type: str, name: str) -> int | None:
    """The number of a pinned namespace; None where its file is missing, or bound to none of this kind."""
    try:
        descriptor = os.open(path_of(type, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) != _FLAGS[type]:
            return None
        return os.fstat(descriptor).st_ino
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_user(path: Path) -> dict[str, Any]:
    _enter(path, "user")
    found: dict[str, Any] = {
        key: [[int(number) for number in line.split()] for line in Path(f"/proc/self/{file}").read_text().splitlines()]
        for key, file in (("uids", "uid_map"), ("gids", "gid_map"))
    }
    found["nesting"] = _limit_path("user").read_text().strip() != "0"
    return found


def _read_uts(path: Path) -> dict[str, Any]:
    _enter(path, "uts")
    return {
        "hostname": Path("/proc/sys/kernel/hostname").read_text().strip(),
        "domainname": Path("/proc/sys/kernel/domainname").read_text().strip(),
    }


def _read_time(path: Path) -> dict[str, Any]:
    _enter(path, "time")
    offsets = {}
    for line in Path("/proc/self/timens_offsets").read_text().splitlines():
        clock, seconds, nanoseconds = line.split()
        offsets[clock] = int(seconds) * 10**9 + int(nanoseconds)
    return {"monotonic": offsets.get("monotonic", 0), "boottime": offsets.get("boottime", 0)}


#: How what is in a namespace is read from inside it.
_READERS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "user": _read_user,
    "uts": _read_uts,
    "time": _read_time,
}


def _clocks(monotonic: int, boottime: int) -> list[tuple[str, int]]:
    return [(clock, ns) for clock, ns in (("monotonic", monotonic), ("boottime", boottime)) if ns]


def _mapped() -> int:
    """The first number of a user that cannot be given away: all there are, but in a container."""
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return max(inside + count for inside, _, count in ranges)
