"""Host tests run in sandboxes: throwaway hosts with a real systemd. They need root, and leave nothing."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from provisioner.host.sandbox import Sandbox
from tests.host.lab import Lab, lab_on

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.host)


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("tests/host boots sandboxes and needs root: run it with sudo, or leave it out with -m 'not host'")


class Box:
    """A sandbox, with the shortcuts that tests use."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @property
    def pid(self) -> int:
        """Its PID 1, seen from outside."""
        return self.sandbox.pid

    def run(
        self, command: str | list[str], input: str | None = None, check: bool = True, timeout: float = 120
    ) -> CompletedProcess[str]:
        """A command inside the sandbox; a string is run by sh."""
        return self.sandbox.run(command, input=input, check=check, timeout=timeout)

    def python(self, code: str) -> str:
        """What this code prints, run inside by the Python that runs the tests."""
        return self.run([sys.executable, "-c", code]).stdout

    def nsprov(self, *args: str, check: bool = True) -> CompletedProcess[str]:
        """The nsprov command inside the sandbox."""
        return self.run([sys.executable, "-m", "provisioner", *args], check=check, timeout=300)

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """A file inside the sandbox."""
        self.sandbox.write(path, text, mode)


def _name() -> str:
    return f"test-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A sandbox over the machine's own root, for all the tests of a module."""
    with Sandbox.start(_name()) as sandbox:
        yield Box(sandbox)


@pytest.fixture
def lab(box: Box) -> Iterator[Lab]:
    """A project in the sandbox whose tasks are the test's."""
    with lab_on(box) as lab:
        yield lab


@pytest.fixture
def sandboxes() -> Iterator[Callable[..., Box]]:
    """Starts sandboxes for one test: ``sandboxes()``, or ``sandboxes("name", root=..., address=...)``."""
    started: list[Sandbox] = []

    def start(name: str | None = None, **kw: Any) -> Box:
        started.append(Sandbox.start(name or _name(), **kw))
        return Box(started[-1])

    yield start
    for sandbox in started:
        sandbox.stop()
