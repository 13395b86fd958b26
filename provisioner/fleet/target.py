"""What an apply talks to: one host, wherever it is.

``LocalTarget`` is this machine. ``provisioner.fleet.agent`` has the one that speaks to a process on the
host's side, which is a ``LocalTarget`` itself.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from provisioner.errors import HostError, LockedError, NsprovError
from provisioner.model import Snapshot, StepResult
from provisioner.resources import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from provisioner.host import Host
    from provisioner.model import Address, Resource, Scope, Step

__all__ = ["LocalTarget", "Output", "Target"]

MANIFESTS = Path("/var/lib/nsprov/manifests")
LOCK = Path("/run/nsprov/lock")


class Output(NamedTuple):
    """What a command came to: its exit status, and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


class Target(ABC):
    """One host that is observed and changed. ``name`` is the inventory's."""

    name: str
    #: How testinfra, without nsprov, reaches it at any time.
    lasting_uri: str

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What the host is, for templates (``host.*``) and for checks. Read once."""

    @abstractmethod
    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        """What a check must know of the host beyond its facts: an answer in JSON values for each question."""

    @abstractmethod
    def observe(self, scope: Scope) -> Snapshot:
        """What is there now, of what the scope asks for. Changes nothing."""

    @abstractmethod
    def carry_out(
        self, steps: Sequence[Step], seen: Callable[[StepResult], object] = lambda _: None
    ) -> list[StepResult]:
        """Carry out steps of one kind and one action. A result for each, in their order; never raises for
        what the host refuses. ``seen`` is called with each as it becomes known, in the same order, but for steps
        that are skipped."""

    @abstractmethod
    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        """A live line for those that have one (``running, PID 123``)."""

    @abstractmethod
    def read_manifests(self) -> Mapping[str, str]:
        """The text of each project's manifest on the host, by project."""

    @abstractmethod
    def write_manifest(self, project: str, text: str | None) -> None:
        """Replace a project's manifest, in one piece; None removes it."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Hold the host for one apply. Raises LockedError when another holds it."""

    @abstractmethod
    def run(self, command: str, seconds: float = 600) -> Output:
        """Run a line of shell on the host as root, with nothing to read: what verification asks with.

        Several threads may do so at once. Raises HostError when it takes longer.
        """

    @property
    def lost(self) -> NsprovError | None:
        """Why there is no connection any more; None while there is."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of every handle."""


class LocalTarget(Target):
    """The machine that this process runs on."""

    lasting_uri = "local://"

    def __init__(self, host: Host, name: str = "localhost") -> None:
        self.host = host
        self.name = name

    def facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.host.facts.as_variables()
        return facts

    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        from provisioner.host.questions import answer

        return {one: answer(self.host, one) for one in questions}

    def observe(self, scope: Scope) -> Snapshot:
        self.host.forget()
        found: dict[Address, Resource] = {}
        for name in sorted(scope.kinds()):
            for resource in kind_of(name).driver.observe(self.host, scope):
                found[resource.address] = resource
        return Snapshot(found)

    def carry_out(
        self, steps: Sequence[Step], seen: Callable[[StepResult], object] = lambda _: None
    ) -> list[StepResult]:
        if not steps:
            return []
        driver = kind_of(steps[0].address.kind).driver
        results: list[StepResult] = []
        try:
            for result in driver.carry_out(self.host, steps):
                results.append(result)
                seen(result)
        except HostError as error:
            # What a driver could not say of one step stands for the first that has no result.
            step = steps[len(results)]
            results.append(StepResult(step.address, str(error), error.code))
        except OSError as error:
            step = steps[len(results)]
            results.append(StepResult(step.address, error.strerror or str(error), error.errno or 0))
        finally:
            self.host.forget()
        results.extend(StepResult(step.address, skipped=True) for step in steps[len(results) :])
        return results

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        by_kind: dict[str, list[Resource]] = {}
        for resource in resources:
            by_kind.setdefault(resource.kind, []).append(resource)
        lines: dict[Address, str] = {}
        for name, some in by_kind.items():
            lines.update(kind_of(name).driver.status(self.host, some))
        return lines

    def read_manifests(self) -> Mapping[str, str]:
        try:
            return {path.stem: path.read_text(errors="replace") for path in sorted(MANIFESTS.glob("*.json"))}
        except OSError as error:
            raise HostError.from_os(f"cannot read {MANIFESTS}", error) from None

    def write_manifest(self, project: str, text: str | None) -> None:
        path = MANIFESTS / f"{project}.json"
        try:
            if text is None:
                path.unlink(missing_ok=True)
                self._remove_empty_folders()
                return
            MANIFESTS.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except OSError as error:
            raise HostError.from_os(f"cannot write {path}", error) from None

    def _remove_empty_folders(self) -> None:
        """Leave the host as it was before the first apply."""
        for folder in (MANIFESTS, MANIFESTS.parent):
            try:
                folder.rmdir()
            except OSError:
                return

    @contextmanager
    def lock(self) -> Iterator[None]:
        descriptor = _lock_file(self.name)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            LOCK.unlink(missing_ok=True)
            os.close(descriptor)
            try:
                LOCK.parent.rmdir()
            except OSError:
                pass  # something else of ours is in it

    def run(self, command: str, seconds: float = 600) -> Output:
        from provisioner.secrets import without_secrets

        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                cwd="/",
                capture_output=True,
                env=without_secrets(os.environ),
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"a command on {self.name} has not ended within {seconds:g} s") from None
        except OSError as error:
            raise HostError.from_os(f"cannot start a command on {self.name}", error) from None
        return Output(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        self.host.close()


def _lock_file(name: str) -> int:
    """An open descriptor of the lock's file, with the lock held."""
    try:
        while True:
            LOCK.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # its last holder has just removed the folder
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode().strip() or "unknown"
                os.close(descriptor)
                raise LockedError(
                    f"another apply holds {name} (process {holder})", hint="wait for it to end, and try again"
                ) from None
            # The holder before us removes the file: a lock on a removed file is no lock.
            try:
                if LOCK.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)
    except OSError as error:
        raise HostError.from_os(f"cannot take {LOCK}", error) from None
