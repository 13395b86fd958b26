"""testinfra's connections of nsprov's own: ``--hosts=nsprov-sandbox://NAME``, and ``nsprov-relay://NAME``."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import BaseBackend, CommandResult

from provisioner.verify.relay import RELAY_FOLDER, RELAY_SCHEME, ask_relay

if TYPE_CHECKING:
    from provisioner.host.sandbox import Sandbox

__all__ = ["SCHEME", "RelayBackend", "SandboxBackend", "register"]

SCHEME = "nsprov-sandbox"
#: Seconds that one command may take: a thousand questions may be asked in it.
_LONGEST = 600


class SandboxBackend(BaseBackend):  # type: ignore[misc]  # testinfra is seen as untyped
    """Runs each command in a sandbox that is up, as its root."""

    NAME = SCHEME

    def __init__(self, hostspec: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(hostspec, **kwargs)
        # Sandboxes share this machine's files, and so its encoding; testinfra would start a Python to ask.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        line = self.get_command(command, *args)
        done = self._sandbox.run(["/bin/sh", "-c", line], check=False, timeout=_LONGEST)
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)

    @cached_property
    def _sandbox(self) -> Sandbox:
        from provisioner.host.sandbox import Sandbox

        return Sandbox.attach(self.hostname)


class RelayBackend(BaseBackend):  # type: ignore[misc]  # testinfra is seen as untyped
    """Runs each command over a connection that the process which started this one holds."""

    NAME = RELAY_SCHEME

    def __init__(self, hostspec: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(hostspec, **kwargs)
        # testinfra would start a Python there to ask.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        folder = os.environ.get(RELAY_FOLDER)
        if folder is None:
            raise RuntimeError(f"{self.get_pytest_id()} is reached by nsprov verify alone; use ssh://")
        line = self.get_command(command, *args)
        done = ask_relay(Path(folder), self.hostname, line)
        return self.result(done.status, line.encode(), done.stdout, done.stderr)


def register() -> None:
    """Makes testinfra know the schemes."""
    from testinfra.backend import BACKENDS

    for backend in (SandboxBackend, RelayBackend):
        BACKENDS[backend.NAME] = f"{backend.__module__}.{backend.__qualname__}"
