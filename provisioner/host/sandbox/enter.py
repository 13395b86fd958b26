"""Going into a sandbox: all its namespaces, a cgroup of its own, and no more rights than it has."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path
from typing import NoReturn

from provisioner.host import kernel

__all__ = ["ENVIRONMENT", "enter", "make_leaf"]

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}

_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)


def make_leaf(cgroup: Path, shift: int, number: str) -> Path:
    """A cgroup for one command that comes from outside, beside those of systemd."""
    parent = cgroup / "nsprov"
    leaf = parent / number
    for folder in (parent, leaf):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(folder / name, shift, shift)
    return leaf


def enter(init: int, leaf: Path, shifted: bool, owner: int) -> None:
    """Take this freshly forked process into a sandbox. Returns in a child of it, in which all of that holds.

    ``init`` is a pidfd of the sandbox's first process, ``owner`` one of who asks: this process waits
    outside, ends as its child ends, and takes the child along when the owner ends.
    """
    (leaf / "cgroup.procs").write_text("0")
    kernel.setns(init, _NAMESPACES | (kernel.CLONE_NEWUSER if shifted else 0))
    child = os.fork()
    if child:
        _wait(child, owner)
    kernel.die_with_parent()
    if shifted:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.setgroups([])
        kernel.die_with_parent()
    if os.getppid() != 0:
        os._exit(1)
    kernel.drop_capabilities()
    os.umask(0o022)
    os.chdir("/")


def _wait(child: int, owner: int) -> NoReturn:
    """Wait for the child outside of the sandbox, and end as it did."""
    child_fd = os.pidfd_open(child)
    # Whoever reads the child's output, or waits for its exec, must not wait for this process. (No list of the
    # open ones: the /proc in sight is the sandbox's, where this process is not.)
    first, second = sorted((child_fd, owner))
    for low, high in ((0, first), (first + 1, second), (second + 1, 1 << 20)):
        os.closerange(low, high)
    poll = select.poll()
    poll.register(child_fd, select.POLLIN)
    poll.register(owner, select.POLLIN)
    if child_fd not in dict(poll.poll()):
        os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
