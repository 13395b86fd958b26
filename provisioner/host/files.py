"""The file system: reads, and replaces in one piece, files, links and directories.

Nothing is written through a link in place of the file, nor through a folder that another user could have
put a link into: root would write where that user wants. A file appears whole, with its owner and mode,
or not at all.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from provisioner.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_CONTENT", "Attributes", "Entry", "Files"]

T = TypeVar("T")

#: A larger file is not configuration; its content is neither read nor kept.
MAX_CONTENT = 8 * 1024 * 1024
_MAX_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path: its type, owner and mode; where a link leads; a file's content unless it is too large."""

    type: Literal["file", "directory", "link", "other"]
    mode: int
    uid: int
    gid: int
    size: int
    target: str | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Attributes:
    """Permission bits and owners to set; None leaves what the kernel gives."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class Files:
    """The file system of the host."""

    def __init__(self) -> None:
        self._users: dict[str, int | None] = {}
        self._groups: dict[str, int | None] = {}
        self._user_names: dict[int, str] = {}
        self._group_names: dict[int, str] = {}

    def forget(self) -> None:
        for known in (self._users, self._groups, self._user_names, self._group_names):
            known.clear()

    def close(self) -> None:
        self.forget()

    # -- owners -----------------------------------------------------------------------------------

    def user_id(self, name: str) -> int | None:
        """The number of a user, by name or number; None where this host has no such user."""
        if name not in self._users:
            self._users[name] = _number(name) if name.isdigit() else _looked_up(lambda: pwd.getpwnam(name).pw_uid)
        return self._users[name]

    def group_id(self, name: str) -> int | None:
        """The number of a group, by name or number; None where this host has no such group."""
        if name not in self._groups:
            self._groups[name] = _number(name) if name.isdigit() else _looked_up(lambda: grp.getgrnam(name).gr_gid)
        return self._groups[name]

    def user_name(self, uid: int) -> str:
        """A user's name, or the number where it has none."""
        if uid not in self._user_names:
            self._user_names[uid] = _looked_up(lambda: pwd.getpwuid(uid).pw_name) or str(uid)
        return self._user_names[uid]

    def group_name(self, gid: int) -> str:
        """A group's name, or the number where it has none."""
        if gid not in self._group_names:
            self._group_names[gid] = _looked_up(lambda: grp.getgrgid(gid).gr_name) or str(gid)
        return self._group_names[gid]

    def attributes(self, mode: int | None, owner: str | None, group: str | None) -> Attributes:
        """Permission bits and owners in numbers.

        Raises:
            HostError: this host has no such user or group.
        """
        uid = None if owner is None else self.user_id(owner)
        gid = None if group is None else self.group_id(group)
        if owner is not None and uid is None:
            raise HostError(f"this host has no user '{owner}'")
        if group is not None and gid is None:
            raise HostError(f"this host has no group '{group}'")
        return Attributes(mode, uid, gid)

    # -- reading ----------------------------------------------------------------------------------

    def is_directory(self, path: str) -> bool:
        """Whether a directory, or a link to one, is at the path."""
        return Path(path).is_dir()

    def look(self, path: str) -> Entry | None:
        """What is at the path itself, without following it; None where nothing is.

        Raises:
            HostError: it cannot be read, or another user could redirect it.
        """
        with _said(path):
            try:
                with _folder_of(path) as (folder, name):
                    return _entry(folder, name)
            except (FileNotFoundError, NotADirectoryError):
                return None

    # -- writing ----------------------------------------------------------------------------------

    def create(self, path: str, content: bytes, attributes: Attributes) -> None:
        """Make a file that must not exist yet."""
        with _said(path), _folder_of(path) as (folder, name), _complete(folder, name, content, attributes) as fresh:
            os.link(fresh, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def replace(self, path: str, content: bytes, attributes: Attributes) -> None:
        """Put a file in place of the file or link that is there, in one piece."""
        with _said(path), _folder_of(path) as (folder, name), _complete(folder, name, content, attributes) as fresh:
            os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)

    def change(self, path: str, attributes: Attributes) -> None:
        """Set the owner and mode of the file or directory that is there; its content stays.

        Raises:
            HostError: also for a file of several names, since the others would change too.
        """
        with _said(path), _folder_of(path) as (folder, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    raise HostError(f"{path} has {status.st_nlink} names (hard links)", code=errno.EMLINK)
                _set(descriptor, attributes)
            finally:
                os.close(descriptor)

    def link(self, path: str, target: str, attributes: Attributes, *, replace: bool = False) -> None:
        """Make a symbolic link, in place of what is there when ``replace``."""
        with _said(path), _folder_of(path) as (folder, name):
            fresh = _temporary(name)
            _discard(folder, fresh)
            os.symlink(target, fresh, dir_fd=folder)
            try:
                os.chown(
                    fresh,
                    -1 if attributes.uid is None else attributes.uid,
                    -1 if attributes.gid is None else attributes.gid,
                    dir_fd=folder,
                    follow_symlinks=False,
                )
                if replace:
                    os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    os.link(fresh, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                _settle(folder)
            finally:
                _discard(folder, fresh)

    def make_directory(self, path: str, attributes: Attributes) -> None:
        """Make a directory that must not exist yet; its parent must."""
        with _said(path), _folder_of(path) as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                try:
                    _set(descriptor, attributes)
                finally:
                    os.close(descriptor)
                _settle(folder)
            except OSError:
                os.rmdir(name, dir_fd=folder)
                raise

    def remove(self, path: str) -> None:
        """Remove a file or a link; it is no error that it is gone already."""
        with _said(path):
            try:
                with _folder_of(path) as (folder, name):
                    os.unlink(name, dir_fd=folder)
                    _settle(folder)
            except FileNotFoundError:
                pass

    def remove_directory(self, path: str) -> None:
        """Remove a directory that is empty; it is no error that it is gone already.

        Raises:
            HostError: something is in it, and is named.
        """
        with _said(path):
            try:
                with _folder_of(path) as (folder, name):
                    try:
                        os.rmdir(name, dir_fd=folder)
                    except OSError as error:
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                            raise
                        raise HostError(
                            f"{path} is not empty",
                            detail=f"it has {_named([entry.name for entry in os.scandir(path)])}",
                            code=errno.ENOTEMPTY,
                        ) from None
                    _settle(folder)
            except FileNotFoundError:
                pass


# -- the way to a file ----------------------------------------------------------------------------


@contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """The folder that holds a path, open, and the last name in it.

    Walks from the root, and refuses to step from what another user owns to what yet another owns: that
    user could have put a link, or a folder of root's, there.
    """
    trusted = (0, os.geteuid())
    *parents, name = path.strip("/").split("/")
    ahead = parents[::-1]
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    links = 0
    try:
        owner = os.fstat(here).st_uid
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            there = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            status = os.fstat(there)
            if owner not in trusted and status.st_uid != owner:
                os.close(there)
                raise _unsafe(path, part, owner)
            owner = status.st_uid
            if not stat.S_ISLNK(status.st_mode):
                os.close(here)
                here = there
                continue
            target = os.readlink("", dir_fd=there)
            os.close(there)
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            ahead.extend(reversed(target.split("/")))
            if target.startswith("/"):
                os.close(here)
                here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        yield here, name
    finally:
        os.close(here)


def _unsafe(path: str, part: str, owner: int) -> HostError:
    return HostError(
        f"{path} is not safe to use",
        detail=f"the user {owner} owns a folder or link on the way, and decides what '{part}' in it is",
        code=errno.EXDEV,
        hint="use a path whose folders belong to root",
    )


def _entry(folder: int, name: str) -> Entry:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    owners = (mode, status.st_uid, status.st_gid, status.st_size)
    if stat.S_ISLNK(status.st_mode):
        return Entry("link", *owners, target=os.readlink(name, dir_fd=folder))
    if stat.S_ISDIR(status.st_mode):
        return Entry("directory", *owners)
    if not stat.S_ISREG(status.st_mode):
        return Entry("other", *owners)
    if status.st_size > MAX_CONTENT:
        return Entry("file", *owners)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return Entry("file", *owners, content=file.read(MAX_CONTENT))


# -- writing in one piece -------------------------------------------------------------------------


@contextmanager
def _complete(folder: int, name: str, content: bytes, attributes: Attributes) -> Iterator[str]:
    """A finished file under a temporary name in the folder; what the body makes of it is on the disk after."""
    fresh = _temporary(name)
    _discard(folder, fresh)  # of an apply that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _set(descriptor, attributes)
            os.fsync(descriptor)
        yield fresh
        _settle(folder)
    finally:
        _discard(folder, fresh)


def _temporary(name: str) -> str:
    """A name of its own for each file, the same each time: a leftover is found again by the next apply."""
    return f".nsprov-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _discard(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _set(descriptor: int, attributes: Attributes) -> None:
    """Owner first: changing it clears the setuid bit. In between, nobody may do what only one mode allows."""
    if attributes.uid is not None or attributes.gid is not None:
        if attributes.mode is not None:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & attributes.mode & 0o777)
        uid = -1 if attributes.uid is None else attributes.uid
        gid = -1 if attributes.gid is None else attributes.gid
        os.fchown(descriptor, uid, gid)
    if attributes.mode is not None:
        os.fchmod(descriptor, attributes.mode)


def _settle(folder: int) -> None:
    """Have the folder's change on the disk: the descriptor of the walk cannot be synced itself."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- words ----------------------------------------------------------------------------------------


@contextmanager
def _said(path: str) -> Iterator[None]:
    """The kernel's refusals as errors that name the path."""
    try:
        yield
    except OSError as error:
        raise HostError.from_os(path, error) from None


def _looked_up(function: Callable[[], T]) -> T | None:
    try:
        return function()
    except KeyError:
        return None


def _number(text: str) -> int | None:
    number = int(text)
    return number if number < 2**32 - 1 else None


def _named(names: list[str], most: int = 5) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
