"""testinfra's connection to a sandbox: ``--hosts=nsprov-sandbox://NAME``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import BaseBackend, CommandResult

if TYPE_CHECKING:
    from provisioner.host.sandbox import Sandbox

__all__ = ["SCHEME", "SandboxBackend", "register"]

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


def register() -> None:
    """Makes testinfra know the scheme."""
    from testinfra.backend import BACKENDS

    BACKENDS[SCHEME] = f"{SandboxBackend.__module__}.{SandboxBackend.__qualname__}"
