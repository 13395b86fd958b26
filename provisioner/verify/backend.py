"""testinfra's connections of nsprov's own: ``--hosts=nsprov-sandbox://NAME``, and ``nsprov-ssh://NAME``."""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import BaseBackend, CommandResult

from provisioner.errors import UnreachableError
from provisioner.verify.reach import REACH_FD, SSH_SCHEME, SshReach

if TYPE_CHECKING:
    from provisioner.host.sandbox import Sandbox

__all__ = ["SCHEME", "SandboxBackend", "SshBackend", "register"]

SCHEME = "nsprov-sandbox"
#: Seconds that one command may take: a thousand questions may be asked in it.
_LONGEST = 600
#: What ssh exits with for itself, and not for the command.
_SSH_FAILED = 255


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
    """Runs each command by ssh as root, over the connection that nsprov keeps there."""

    NAME = SSH_SCHEME

    #: The way to the one host of this process.
    reach: SshReach | None = None
    #: Why the host is not there any more. Whatever is asked after that would only wait for it again.
    lost: UnreachableError | None = None

    def __init__(self, hostspec: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(hostspec, **kwargs)
        # testinfra would start a Python there to ask.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        reach = type(self).reach
        if reach is None:
            raise RuntimeError(f"{self.get_pytest_id()} is reached by nsprov verify alone; use ssh://")
        if self.lost is not None:
            raise self.lost
        line = self.get_command(command, *args)
        done = _there(reach, line)
        # A command may end with the same code; then the host still answers.
        if done.returncode == _SSH_FAILED and _there(reach, "true").returncode == _SSH_FAILED:
            said = done.stderr.decode(errors="replace").strip() or "it hung up without a word"
            type(self).lost = lost = UnreachableError(f"the connection to {reach.name} broke", detail=said)
            raise lost
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)


def _there(reach: SshReach, line: str) -> subprocess.CompletedProcess[bytes]:
    """What a line of shell does on the host."""
    password = reach.sudo_password
    try:
        return subprocess.run(
            reach.command(line),
            input=b"" if password is None else password.encode() + b"\n",
            env=os.environ | dict(reach.environment),
            capture_output=True,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        # Its own words would have the command line, which is of no use.
        raise RuntimeError(f"no answer in {_LONGEST} s") from None


def register() -> None:
    """Makes testinfra know the schemes, and reads the way to the host where there is one to read."""
    from testinfra.backend import BACKENDS

    for backend in (SandboxBackend, SshBackend):
        BACKENDS[backend.NAME] = f"{backend.__module__}.{backend.__qualname__}"
    number = os.environ.pop(REACH_FD, None)
    if number is not None:
        with os.fdopen(int(number), encoding="utf-8") as told:
            SshBackend.reach = SshReach.from_json(told.read())
