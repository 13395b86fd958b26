"""Named network namespaces in /run/netns, made and removed as ``ip netns`` does.

Owns the file system's side of a namespace, and the entering of it. A thread that enters a namespace never
comes back out: it ends with its work, and the rest of the process stays where it was.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

__all__ = [
    "FOLDER",
    "enter",
    "holds_namespace",
    "in_thread",
    "is_namespace",
    "lock_folder",
    "make",
    "names",
    "remove",
    "tidy_folder",
]

FOLDER = Path("/run/netns")
#: Says that nsprov made the folder, which then goes with the last namespace in it.
_MADE_HERE = Path("/run/nsprov/netns-folder")

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, path: str | Path = "") -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))


def enter(descriptor: int) -> None:
    """Move the calling thread into an open namespace."""
    _checked(_libc.setns(descriptor, _CLONE_NEWNET))


def _mount(source: str, target: str, flags: int) -> None:
    _checked(_libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None), target)


class _Job(threading.Thread, Generic[T]):
    """One piece of work on a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.answer: T
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.answer = self.work()
        except BaseException as error:  # handed to the thread that waits
            self.failure = error


def in_thread(work: Callable[[], T]) -> T:
    """Do the work on a fresh thread, which may enter namespaces as it likes, and wait for it."""
    job = _Job(work)
    job.start()
    job.join()
    if job.failure is not None:
        raise job.failure
    return job.answer


def is_namespace(descriptor: int) -> bool:
    """Whether an open file is a network namespace, and not one that a crash left empty."""
    try:
        return int(fcntl.ioctl(descriptor, _NS_GET_NSTYPE)) == _CLONE_NEWNET
    except OSError:
        return False


def names() -> set[str]:
    """The files in /run/netns; not each of them need be a namespace."""
    try:
        return {entry.name for entry in os.scandir(FOLDER)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


@contextmanager
def lock_folder() -> Iterator[None]:
    """Hold /run/netns, made if it is missing, against ``ip netns add`` and others."""
    _ready_folder()
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _share_folder()
        yield
    finally:
        os.close(descriptor)


def _ready_folder() -> None:
    if FOLDER.is_dir():
        return
    _MADE_HERE.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _MADE_HERE.touch()
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)


def _share_folder() -> None:
    """Make the folder a shared mount, so that namespaces come and go in every mount namespace alike."""
    try:
        _mount("", str(FOLDER), _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(str(FOLDER), str(FOLDER), _MS_BIND | _MS_REC)
        _mount("", str(FOLDER), _MS_SHARED | _MS_REC)


def make(name: str, owner: str | None = None) -> None:
    """Move the calling thread into a new namespace, and give it a name.

    ``owner`` is the pinned user namespace that it shall belong to; without, it is the thread's own.

    Raises OSError: EEXIST where there is a namespace of that name. A file that is none is taken: it is what
    is left of one that was not removed to the end.
    """
    path = str(FOLDER / name)
    fresh = True
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        if holds_namespace(name):
            raise
        fresh = False
    try:
        if owner is None:
            _checked(_libc.unshare(_CLONE_NEWNET))
            _mount("/proc/thread-self/ns/net", path, _MS_BIND)
        else:
            _make_owned(owner, path)
    except OSError:
        if fresh:
            os.unlink(path)  # noqa: PTH108 - as hot as the rest
        raise


def _make_owned(owner: str, path: str) -> None:
    """Bind a new namespace that a user namespace owns to a file, and move the calling thread into it."""
    from provisioner.host import pinned

    with pinned.held_for_netns(owner) as pid:
        _mount(f"/proc/{pid}/ns/net", path, _MS_BIND)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(descriptor)
    finally:
        os.close(descriptor)


def holds_namespace(name: str) -> bool:
    """Whether the file of this name in /run/netns is a network namespace."""
    try:
        descriptor = os.open(f"{FOLDER}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_namespace(descriptor)
    finally:
        os.close(descriptor)


def remove(name: str) -> None:
    """Take the name off a namespace; the kernel ends it once nothing runs in it. Done if it is gone."""
    path = str(FOLDER / name)
    while _libc.umount2(path.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        pass  # it may have been mounted more than once
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT):
        raise OSError(code, os.strerror(code), path)
    try:
        os.unlink(path)  # noqa: PTH108 - as hot as the rest
    except FileNotFoundError:
        pass


def tidy_folder() -> None:
    """Remove /run/netns when it is empty and nsprov made it."""
    if not _MADE_HERE.exists() or names():
        return
    _libc.umount2(str(FOLDER).encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    try:
        FOLDER.rmdir()
        _MADE_HERE.unlink()
        _MADE_HERE.parent.rmdir()
    except OSError:
        pass  # somebody has put something in; it stays
