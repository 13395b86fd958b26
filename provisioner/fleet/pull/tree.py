"""A commit's files as a folder: written by us from git's objects, so that no filter or attribute is obeyed.

What leads out of the tree, is no plain file, or is larger than a configuration can be is refused before anything
is written. A folder appears whole, or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from provisioner.errors import HostError, NsprovError
from provisioner.fleet.pull.repository import ENVIRONMENT

if TYPE_CHECKING:
    from provisioner.fleet.pull.repository import Repository

__all__ = ["Entry", "TreeError", "check_out", "refuse", "remove_others"]

_LINE = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]+) +(-|\d+)\t(.+)", re.DOTALL)
_MOST_FILES = 50_000
_MOST_BYTES = 512 * 1024 * 1024
_LONGEST_TARGET = 4096


class TreeError(NsprovError):
    """A commit whose files are not taken."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit: its mode in git, its object, its size and where it lies."""

    mode: str
    object: str
    size: int
    path: str

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"


def parsed(listing: bytes) -> list[Entry]:
    """What ``git ls-tree -r -l -z`` says."""
    made = []
    for line in listing.split(b"\0"):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise TreeError("git lists a file in a way that nsprov does not know")
        mode, _, name, size, path = found.groups()
        made.append(Entry(mode.decode(), name.decode(), 0 if size == b"-" else int(size), os.fsdecode(path)))
    return made


def refuse(entries: Sequence[Entry]) -> None:
    """Raise TreeError for what a repository of configurations has no need of."""
    size = sum(entry.size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise TreeError(
            f"the commit has {len(entries)} files of {size >> 20} MiB, and at most {_MOST_FILES} files of "
            f"{_MOST_BYTES >> 20} MiB are taken",
            hint="keep images and archives elsewhere",
        )
    wrong = [f"{entry.path!r}: {reason}" for entry in entries if (reason := _reason(entry)) is not None]
    if wrong:
        more = f"\n    and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise TreeError("the commit has what is not taken: " + "; ".join(wrong[:5]) + more)


def _reason(entry: Entry) -> str | None:
    parts = entry.path.split("/")
    if entry.path.startswith("/") or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        return "this name leads elsewhere"
    if entry.mode == "160000":
        return "a submodule; put its files into the repository itself"
    if entry.mode not in ("100644", "100664", "100755", "120000"):
        return f"neither a file nor a link (mode {entry.mode})"
    if entry.is_link and entry.size > _LONGEST_TARGET:
        return "a link to a name that is too long"
    return None


def check_out(repository: Repository, commit: str, folder: Path) -> Path:
    """The folder with a commit's files below ``folder``, made where it is missing."""
    made = folder / f"tree-{commit}"
    if made.is_dir():
        return made
    entries = parsed(repository.git("ls-tree", "-r", "-l", "-z", "--full-tree", commit))
    refuse(entries)
    fresh = folder / f"tree-{commit}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        _write_all(repository, entries, fresh)
        _refuse_leaving_links(entries, fresh)
        fresh.rename(made)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(error, OSError):
            raise HostError.from_os(f"cannot write the files of {commit[:12]} into {folder}", error) from None
        raise
    return made


def _write_all(repository: Repository, entries: Sequence[Entry], root: Path) -> None:
    """Files first and links last, so that no file is written through a link."""
    ordered = sorted(entries, key=lambda entry: entry.is_link)
    process = subprocess.Popen(
        repository.command(["cat-file", "--batch"]),
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("git was started without pipes")
        for entry in ordered:
            process.stdin.write(f"{entry.object}\n".encode())
            process.stdin.flush()
            _write(root / entry.path, entry, _content(process.stdout, entry))


def _content(answers: IO[bytes], entry: Entry) -> bytes:
    words = answers.readline().split()
    if words[1:] != [b"blob", str(entry.size).encode()]:
        raise TreeError(f"git has no content of {entry.path!r}", hint="is the host's copy of the repository damaged?")
    content = answers.read(entry.size)
    answers.read(1)
    return content


def _write(path: Path, entry: Entry, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if entry.is_link:
        if b"\0" in content:
            raise TreeError(f"the commit has what is not taken: {entry.path!r}: a link to no name")
        path.symlink_to(os.fsdecode(content))
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o700 if entry.mode == "100755" else 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _refuse_leaving_links(entries: Iterable[Entry], root: Path) -> None:
    inside = os.path.realpath(root)
    for entry in entries:
        if entry.is_link:
            target = os.path.realpath(root / entry.path)
            absolute = (root / entry.path).readlink().is_absolute()
            if absolute or os.path.commonpath([inside, target]) != inside:
                raise TreeError(f"the commit has what is not taken: {entry.path!r}: a link that leads out of the tree")


def remove_others(folder: Path, keep: Iterable[str]) -> None:
    """Take away the folders of commits that are no longer needed."""
    kept = {f"tree-{commit}" for commit in keep}
    for one in folder.glob("tree-*"):
        if one.name not in kept:
            shutil.rmtree(one, ignore_errors=True)
