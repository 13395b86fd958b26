"""What a host remembers of its pulls: the commit it applied last, whose it was, and what failed since.

One small file that only root reads and writes, replaced in one piece: what stands in it is what keeps an old
commit from coming back.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from provisioner.errors import HostError, LockedError, NsprovError, UsageError

__all__ = ["FOLDER", "State", "all_states", "held", "read_state", "refuse_going_back", "status_line", "write_state"]

#: Where the pulls of a host live, each in a folder of its name.
FOLDER = Path("/var/lib/nsprov/pull")
_VERSION = 1


class RewindError(NsprovError):
    """A commit that is older than the one applied last, or of another history."""


@dataclass(frozen=True, slots=True)
class State:
    """One pull: where it comes from, which commit the host has, and what became of the last attempt."""

    repo: str = ""
    ref: str = ""
    host: str = ""
    applied: str | None = None
    applied_at: str = ""
    signer: str | None = None
    proved: bool | None = None
    tried: str | None = None
    tried_at: str = ""
    error: str | None = None

    def done(self, commit: str, at: str, signer: str | None) -> State:
        """After a commit was applied. When it came does not change where it was applied before."""
        first = self.applied_at if commit == self.applied and self.applied_at else at
        return replace(
            self, applied=commit, applied_at=first, signer=signer, proved=None, tried=commit, tried_at=at, error=None
        )

    def failed(self, commit: str | None, at: str, error: str) -> State:
        """After an attempt that left the host with what it had."""
        return replace(self, tried=commit, tried_at=at, error=error.splitlines()[0][:300] if error else "it failed")


def refuse_going_back(last: str | None, commit: str, *, descends: bool, allowed: bool) -> None:
    """Raise RewindError where a commit does not build upon the one applied last, unless that is wished for."""
    if last is None or commit == last or descends or allowed:
        return
    raise RewindError(
        f"the commit {commit[:12]} does not build upon {last[:12]}, which was applied last: the branch was moved back, "
        "or another history is served",
        hint="nothing was touched; if that is meant, run once with --allow-rewind, or revert in a new commit",
    )


def status_line(name: str, state: State) -> str:
    """One line on a pull: which commit the host has, and what failed since."""
    label = f"{name}   {state.host or '?'}: "
    if state.applied is None:
        text = "no commit was applied yet"
    else:
        by = f", signed by {state.signer}" if state.signer else ", not verified"
        text = f"commit {state.applied[:12]} applied {state.applied_at}{by}"
        if state.proved is not None:
            text += f", {'proved' if state.proved else 'NOT proved'} by its checks"
    if state.error is not None:
        tried = f" of {state.tried[:12]}" if state.tried else ""
        text += f"\n    the last pull{tried} failed at {state.tried_at}: {state.error}"
    elif state.tried_at and state.tried_at != state.applied_at:
        text += f", last pull {state.tried_at}"
    return label + text


def read_state(folder: Path) -> State:
    """What is remembered in a pull's folder. Raises HostError where it cannot be read: forgetting is no way out."""
    path = folder / "state.json"
    try:
        data = json.loads(path.read_text())
        if data.pop("version") != _VERSION:
            raise ValueError
        return State(**data)
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise HostError.from_os(f"cannot read {path}", error) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError(
            f"{path} is damaged, and with it what was applied last",
            hint=f"look at what this host has, then remove {path} to begin anew",
        ) from None


def write_state(folder: Path, state: State) -> None:
    """Remember, in one piece and on the disk."""
    path = folder / "state.json"
    fresh = folder / "state.json.new"
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"version": _VERSION, **asdict(state)}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise HostError.from_os(f"cannot write {path}", error) from None


def all_states(folder: Path = FOLDER) -> dict[str, State]:
    """What is remembered of every pull below a folder."""
    return {path.parent.name: read_state(path.parent) for path in sorted(folder.glob("*/state.json"))}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a pull's folder, made where it is missing, for one pull. Raises LockedError when another holds it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise UsageError(
                f"{folder} can be changed by others than root", hint=f"chown root {folder} && chmod 700 {folder}"
            )
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError.from_os(f"cannot use {folder}", error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"another pull holds {folder}", hint="wait for it to end, and try again") from None
        yield
    finally:
        os.close(descriptor)
