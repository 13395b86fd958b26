"""System calls that Python has no function for, for what runs inside a workload. Standard library alone."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

#: Those that the C library has no function for either, by their numbers on x86_64 and aarch64.
_NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clone3": (435, 435),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "keyctl": (250, 219),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "userfaultfd": (323, 282),
}

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2


def call(name: str, *args: Any) -> int:
    """A system call by its name. Raises OSError."""
    made = [ctypes.c_long(one) if isinstance(one, int) else one for one in args]
    if name in _NUMBERS:
        number = _NUMBERS[name][platform.machine() == "aarch64"]
        function, made = _libc.syscall, [ctypes.c_long(number), *made]
    else:
        function = getattr(_libc, name)
    function.restype = ctypes.c_long
    ctypes.set_errno(0)
    done = int(function(*made))
    # A function of the C library answers an int, whose upper half says nothing.
    if done == -1 or (name not in ("shmat", *_NUMBERS) and done & 0xFFFFFFFF == 0xFFFFFFFF):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return done


def mount(source: str, target: str, type: str = "", flags: int = 0, data: str = "") -> None:
    call("mount", source.encode(), target.encode(), type.encode(), flags, data.encode())


def mounts_of_its_own() -> None:
    """Leave for a mount namespace where that is possible, so that what succeeds changes nothing of the host."""
    call("unshare", CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


class Array(ctypes.Structure):
    """A piece of memory of this or another process (``struct iovec``)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
