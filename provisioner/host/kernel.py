"""The system calls that Python 3.11 does not wrap: namespaces, mounts, clone, capabilities.

Owns nothing but the calls; each raises ``OSError`` with the kernel's errno and the path it was about.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

__all__ = [
    "AT_EMPTY_PATH",
    "AT_RECURSIVE",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWTIME",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "MS_SHARED",
    "MS_SLAVE",
    "clone",
    "clone_tree",
    "die_with_parent",
    "drop_capabilities",
    "let_be_seen",
    "mount",
    "move_mount",
    "pivot_root",
    "set_domain_name",
    "set_process_name",
    "setns",
    "shift_ids",
    "umount",
    "unshare",
]

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24

# The generic numbers, which every 64-bit architecture uses for the calls that are newer than 2019.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)
_SYS_CLONE = {"x86_64": 56}.get(os.uname().machine, 220)

_libc = ctypes.CDLL(None, use_errno=True)
# Holds the interpreter's lock across the call: the child of a raw clone must come back holding it.
_locked = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, path: object = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _bytes(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _check(_libc.unshare(flags))


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespace of a descriptor, or those of these kinds that the process of a pidfd is in."""
    _check(_libc.setns(descriptor, flags))


def clone(flags: int) -> int:
    """Fork into new namespaces. Returns 0 in the child, which must end in ``exec`` or ``os._exit``."""
    import signal

    return _check(_locked.syscall(ctypes.c_long(_SYS_CLONE), ctypes.c_ulong(flags | signal.SIGCHLD), 0, 0, 0, 0))


def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    kind: str | None = None,
    flags: int = 0,
    options: str | None = None,
) -> None:
    """Mount a file system, bind a path, or change the flags of a mount."""
    _check(
        _libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(options)),
        os.fspath(target),
    )


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """Unmount what is on this path."""
    _check(_libc.umount2(_bytes(target), flags), os.fspath(target))


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of this mount namespace, and put the old root on ``old``."""
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), _bytes(new), _bytes(old)), new)


def clone_tree(path: str | os.PathLike[str]) -> int:
    """A descriptor of a detached copy of the mount that this path is in, with the path as its root."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _check(_libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), AT_FDCWD, _bytes(path), flags), os.fspath(path))


def shift_ids(tree: int, user_namespace: int) -> None:
    """Show the files of a detached mount with their owners mapped as in a user namespace."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR), tree, b"", AT_EMPTY_PATH, buffer, ctypes.c_size_t(len(attributes))
        )
    )


def move_mount(tree: int, target: str | os.PathLike[str]) -> None:
    """Attach a detached mount at a path."""
    _check(
        _libc.syscall(ctypes.c_long(_SYS_MOVE_MOUNT), tree, b"", AT_FDCWD, _bytes(target), _MOVE_MOUNT_F_EMPTY_PATH),
        os.fspath(target),
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that made it ends. Lost when the user changes."""
    import signal

    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def let_be_seen() -> None:
    """Give this process's files in /proc to its own user again, after it has changed its user or its rights."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))


def set_domain_name(name: str) -> None:
    """The NIS domain name of the calling thread's uts namespace."""
    encoded = name.encode()
    _check(_libc.setdomainname(encoded, ctypes.c_size_t(len(encoded))), name)


def set_process_name(name: str) -> None:
    """The name that ``ps`` and ``top`` show, at most 15 bytes of it."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


#: What ``systemd-nspawn`` leaves out of a container, and what would reach the clock, the disks, or a reboot.
_DROPPED = {
    "mknod": 27,
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_pacct": 20,
    "sys_boot": 22,
    "sys_time": 25,
    "audit_control": 30,
    "mac_override": 32,
    "mac_admin": 33,
    "syslog": 34,
    "wake_alarm": 35,
    "block_suspend": 36,
    "audit_read": 37,
    "perfmon": 38,
    "bpf": 39,
    "checkpoint_restore": 40,
}


def drop_capabilities() -> None:
    """Take out of the bounding set what could reach the machine, for this process and all that it starts."""
    for number in _DROPPED.values():
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0 and ctypes.get_errno() != 22:  # EINVAL: not known here
            _check(-1)
    _limit_to_bounding_set()


def _limit_to_bounding_set() -> None:
    """Take the dropped ones from the sets in force too: they count until the next ``exec``."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    head = ctypes.create_string_buffer(header, len(header))
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(head, data))
    words: list[Any] = list(struct.unpack("=6I", data.raw[:24]))
    for number in _DROPPED.values():
        base, bit = (0, number) if number < 32 else (3, number - 32)
        for offset in range(3):
            words[base + offset] &= ~(1 << bit)
    packed = struct.pack("=6I", *words)
    _check(_libc.capset(head, ctypes.create_string_buffer(packed, 24)))
