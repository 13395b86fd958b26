"""What is known of sandboxes from outside: a file each, and the cgroup each runs in.

A file is reserved before anything else of a sandbox exists, and removed after all of it is gone, so what
no living guardian stands behind can be found, and swept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FOLDER",
    "Record",
    "cgroup_mount",
    "forget",
    "locked",
    "process_start",
    "read",
    "records",
    "remove_cgroup",
    "reserve",
    "sweep",
    "unescape",
    "update",
    "wait_for_exit",
]

FOLDER = Path("/run/nsprov/sandboxes")
#: Files keep one size, so that an update is a single write, which a kill cannot cut in two.
_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """One sandbox, as its state file has it. A start time tells a process from a later one of the same number."""

    name: str
    address: str
    root: str
    cgroup: str
    guardian: int
    guardian_start: int
    twin: int
    twin_start: int
    owner: int | None
    since: float
    pid: int = 0
    pid_start: int = 0
    shift: int = 0
    lacks: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether its systemd has finished booting."""
        return self.pid != 0

    @property
    def guarded(self) -> bool:
        """Whether a process that will clean up after it is alive."""
        return is_running(self.guardian, self.guardian_start) or is_running(self.twin, self.twin_start)

    def booted(self, pid: int, shift: int, lacks: tuple[str, ...]) -> Record:
        return replace(self, pid=pid, pid_start=process_start(pid) or 0, shift=shift, lacks=lacks)


def process_start(pid: int) -> int | None:
    """When a process started, in ticks since boot; None when there is none, or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(pid: int, start: int) -> bool:
    return pid > 0 and process_start(pid) == start


def wait_for_exit(descriptor: int, timeout: float | None = None) -> bool:
    """Wait until the process of a pidfd has ended; whether it has."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


# -- the files ------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(*, shared: bool = False) -> Iterator[None]:
    """Hold the folder of state files, against every other command that starts or ends a sandbox."""
    if not FOLDER.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        FOLDER.chmod(0o700)
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _encode(record: Record) -> bytes:
    return (json.dumps(asdict(record)).encode()).ljust(_SIZE - 1) + b"\n"


def reserve(record: Record) -> None:
    """Write the file of a new sandbox, whole or not at all. Raises FileExistsError when the name is in use."""
    descriptor = os.open(FOLDER, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, _encode(record))
        # Given a folder's descriptor, Python asks linkat to follow; a plain link would be to the link itself.
        here = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(str(descriptor), _path(record.name), src_dir_fd=here, follow_symlinks=True)
        finally:
            os.close(here)
    finally:
        os.close(descriptor)


def update(record: Record) -> None:
    """Write what has become known of a sandbox over what its file has."""
    descriptor = os.open(_path(record.name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, _encode(record), 0)
    finally:
        os.close(descriptor)


def read(name: str) -> Record | None:
    """What is known of the sandbox of this name; None when there is none."""
    try:
        fields = json.loads(_path(name).read_bytes())
        fields["lacks"] = tuple(fields["lacks"])
        return Record(**fields)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise HostError(
            f"the state file {_path(name)} cannot be read", hint="another version of nsprov may have written it"
        ) from None


def records() -> list[Record]:
    """Every sandbox that has a state file, by name."""
    if not FOLDER.is_dir():
        return []
    found = (read(path.stem) for path in sorted(FOLDER.glob("*.json")))
    return [record for record in found if record is not None]


def forget(name: str, guardian: int) -> None:
    """Remove the state file of a sandbox, unless another of the same name has come since."""
    with locked():
        record = read(name)
        if record is not None and record.guardian == guardian:
            _path(name).unlink(missing_ok=True)


def sweep() -> None:
    """Remove what is left of sandboxes whose guardians were both killed. Call it with the folder locked."""
    for record in records():
        if not record.guarded:
            remove_cgroup(Path(record.cgroup))
            _path(record.name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"


# -- the cgroups ----------------------------------------------------------------------------------


@cache
def cgroup_mount() -> Path:
    """Where the cgroup v2 hierarchy is mounted: /sys/fs/cgroup, or beside v1 on a hybrid host."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if right.startswith("cgroup2 "):
            return Path(unescape(left.split()[4]))
    raise HostError(
        "no cgroup v2 hierarchy is mounted, and systemd needs one",
        hint="mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
    )


def unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def remove_cgroup(path: Path, *, timeout: float = 10) -> None:
    """Kill what runs in a cgroup, and remove it with all that it contains."""
    deadline = time.monotonic() + timeout
    while path.is_dir():
        _kill_all(path)
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                _remove_folder(folder)
        except OSError as error:
            # A killed process holds its cgroup until the kernel is done with it.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise HostError.from_os(f"the cgroup {path} cannot be removed", error) from None
            time.sleep(0.002)


def _remove_folder(folder: str) -> None:
    try:
        Path(folder).rmdir()
    except FileNotFoundError:  # the twin was quicker
        pass


def _kill_all(path: Path) -> None:
    try:
        (path / "cgroup.kill").write_text("1")
    except FileNotFoundError:  # before Linux 5.14, or gone already
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                for pid in Path(folder, "cgroup.procs").read_text().split():
                    if int(pid) > 0:
                        os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
