"""testinfra's connections that are nsprov's: ``nsprov-sandbox://NAME``, and ``nsprov-ssh://NAME`` of its own runs."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import BaseBackend, CommandResult

from provisioner.fleet.ssh_options import WITNESS_SCHEME, WITNESS_VARIABLE, SshOptions

if TYPE_CHECKING:
    from provisioner.host.sandbox import Sandbox

__all__ = ["SCHEME", "SandboxBackend", "SshBackend", "register"]

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


class SshBackend(BaseBackend):  # type: ignore[misc]  # testinfra is seen as untyped
    """Runs each command by ssh as root, with all that nsprov knows of the way: passwords as well, also that of sudo.

    testinfra's own connection by ssh can give sudo none, and would have ssh's in a command line.
    """

    NAME = WITNESS_SCHEME

    def __init__(self, hostspec: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(hostspec, **kwargs)
        # testinfra would start a Python to ask, and there need be none.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        from provisioner.fleet.ssh import run_by_ssh

        line = self.get_command(command, *args)
        done = run_by_ssh(self._options, line)
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)

    @cached_property
    def _options(self) -> SshOptions:
        # Taken out of the environment, which what the tests start would inherit.
        options = SshOptions.from_json(os.environ.pop(WITNESS_VARIABLE))
        options.learn_secrets()
        return options


def register() -> None:
    """Makes testinfra know the schemes."""
    from testinfra.backend import BACKENDS

    for backend in (SandboxBackend, SshBackend):
        BACKENDS[backend.NAME] = f"{backend.__module__}.{backend.__qualname__}"
