"""A host that is held in memory: what it has is what its steps made of it. It can refuse, hang, and be gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from provisioner.errors import LockedError, UnreachableError
from provisioner.fleet.target import Output, Target
from provisioner.model import Action, Address, Declared, Desired, Resource, Scope, Snapshot, Step, StepResult
from provisioner.resources.netns import Netns

DIES = "dies"


class MemoryHost(Target):
    """``refuses`` are names that it will not make; ``when`` is called before steps are carried out."""

    def __init__(
        self,
        name: str,
        *has: str,
        refuses: Sequence[str] = (),
        locked: bool = False,
        gone: bool = False,
        when: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.has: dict[Address, Resource] = {one.address: one for one in map(_netns, has)}
        self.refuses, self.locked, self.gone, self.when = refuses, locked, gone, when
        self.manifests: dict[str, str] = {}
        self.held = False
        self.threads: set[int] = set()

    @property
    def names(self) -> set[str]:
        return {address.name for address in self.has}

    def facts(self) -> Mapping[str, Any]:
        return {}

    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        return {}

    def observe(self, scope: Scope) -> Snapshot:
        self._answer()
        return Snapshot({address: self.has[address] for address in scope.resources if address in self.has})

    def carry_out(
        self, steps: Sequence[Step], seen: Callable[[StepResult], object] = lambda _: None
    ) -> list[StepResult]:
        results = []
        for step in steps:
            self.when(step.address.name)
            self._answer()
            if step.address.name in self.refuses and step.action is not Action.DELETE:
                results.append(StepResult(step.address, "No space left on device", 28))
                seen(results[-1])
                continue
            if step.after is None:
                self.has.pop(step.address, None)
            else:
                self.has[step.address] = step.after
            results.append(StepResult(step.address))
            seen(results[-1])
        return results

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        return {}

    def read_manifests(self) -> Mapping[str, str]:
        self._answer()
        return dict(self.manifests)

    def write_manifest(self, project: str, text: str | None) -> None:
        self._answer()
        if text is None:
            self.manifests.pop(project, None)
        else:
            self.manifests[project] = text

    def run(self, command: str, seconds: float = 600) -> Output:
        self._answer()
        return Output(0, command.encode(), b"")

    @contextmanager
    def lock(self) -> Iterator[None]:
        self._answer()
        if self.locked:
            raise LockedError(f"another apply holds {self.name}")
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def close(self) -> None:
        pass

    def _answer(self) -> None:
        self.threads.add(threading.get_ident())
        if self.gone:
            raise UnreachableError(f"the connection to {self.name} broke", detail="No route to host")


def _netns(name: str) -> Netns:
    return Netns(name=name)


def shall_have(*names: str) -> Desired:
    """Namespaces of these names."""
    return Desired({one.address: Declared(one) for one in map(_netns, names)})
