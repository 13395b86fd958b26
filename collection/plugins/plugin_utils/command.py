# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finds and runs the command nsprov on the controller.

It is run as a program, and not imported: nsprov may live in an environment of its own, with other versions of what
Ansible needs too, and what it knows of secrets ends with its process. What has secrets is handed to it in memory, by
file descriptors: nothing of it is in a command line, in the environment or on a disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible.errors import AnsibleActionFail

#: How long nsprov may take to put a host back when the task is ended from outside.
_PATIENCE = 60


@dataclass(frozen=True)
class Done:
    """How a run of nsprov ended."""

    code: int
    out: str
    err: str


def find_nsprov(given: str | None = None) -> str:
    """The command: what the task names, the variable NSPROV, the one beside Ansible's Python, or that of PATH."""
    for what, named in (("executable", given), ("the variable NSPROV", os.environ.get("NSPROV"))):
        if named:
            found = shutil.which(Path(named).expanduser())
            if found is None:
                raise AnsibleActionFail(f"{what} names {named}, which is not a program")
            return str(found)
    beside = Path(sys.executable).with_name("nsprov")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nsprov")
    if found is None:
        raise AnsibleActionFail(
            f"nsprov is not installed on this controller: install it beside Ansible ({sys.executable} -m pip install "
            "nsprov), or name it in the variable NSPROV or the option 'executable'"
        )
    return found


class Handed:
    """What a run of nsprov is given: an inventory and passwords in memory, and a folder with the project's links."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.descriptors: list[int] = []
        self._stack = stack

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def in_memory(self, data: bytes) -> str:
        """The path by which nsprov reads what is kept in memory alone."""
        descriptor = os.memfd_create("nsprov")
        self._stack.callback(os.close, descriptor)
        # Otherwise it counts as a program.
        os.fchmod(descriptor, 0o600)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        self.descriptors.append(descriptor)
        return f"/dev/fd/{descriptor}"


@contextmanager
def handing_over(inventory: str, projects: Iterable[Path]) -> Iterator[Handed]:
    """A folder of this user's alone that leads to an inventory in memory; files and templates are the projects'."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nsprov-ansible-")))
        handed = Handed(folder, stack)
        handed.inventory.symlink_to(handed.in_memory(inventory.encode("utf-8", "surrogateescape")))
        for name in ("files", "templates"):
            there = next((project / name for project in projects if (project / name).is_dir()), None)
            if there is not None:
                (folder / name).symlink_to(there)
        yield handed


def run_nsprov(words: Sequence[str], handed: Handed, environment: Mapping[str, str]) -> Done:
    """Run it to its end; where the task is ended before, nsprov is asked to put the host back first."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=handed.descriptors,
        env={**os.environ, **environment},
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate()
    except BaseException:
        process.terminate()
        try:
            # It may have more to say than a pipe holds.
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return Done(process.returncode, out, err)
