"""A host that is reached by ssh: one process of OpenSSH's client, and over its channel the agent of nsprov.

What runs there is a bundle that needs nothing of the host but a shell, and is copied once (``fleet.bundle``). A host
that has it already costs one connection, or none where one is kept from the last command, and one exec.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import shlex
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import HostError, NotPermittedError, NsprovError, UnreachableError
from provisioner.fleet import bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.fleet.agent import AgentTarget
    from provisioner.fleet.bundle import Bundle
    from provisioner.fleet.ssh_options import SshOptions

__all__ = ["SshChannel", "ssh_target"]

#: What ssh exits with for itself, and not for the command.
_SSH_FAILED = 255
#: Seconds that a bundle may take on its way.
_COPY_SECONDS = 600
#: The longest name of a unix socket, less what ssh adds while it makes one.
_SOCKET_BYTES = 107 - 20

#: ssh asks this for what it must know: the words are in its environment alone, and it tries a wrong one once.
_ASKPASS = """\
#!/bin/sh
case $1 in
*assphrase*) [ -n "${NSPROV_SSH_PASSPHRASE+x}" ] && printf '%s\\n' "$NSPROV_SSH_PASSPHRASE" ;;
*assword*) [ -n "${NSPROV_SSH_PASSWORD+x}" ] && printf '%s\\n' "$NSPROV_SSH_PASSWORD" ;;
*) exit 1 ;;
esac
"""


def ssh_target(name: str, options: SshOptions) -> AgentTarget:
    """Connect to a host, start its agent, and say hello to it.

    Raises:
        UnreachableError: there is no way there, or ssh was not let in.
        NotPermittedError: the user there is not root, and does not become it.
        HostError: sudo refuses, or the bundle cannot be put there, or was tampered with.
        NsprovError: there is no bundle for its processor.
    """
    from provisioner.fleet.agent import AgentTarget

    here = bundle.find(os.uname().machine)
    try:
        channel = SshChannel.open(name, options, here)
    except _OtherMachineError as other:
        channel = SshChannel.open(name, options, bundle.find(other.arch, name))
    try:
        return AgentTarget(
            name,
            channel,
            options.testinfra_uri(),
            answer_seconds=options.answer_seconds,
        )
    except NsprovError:
        channel.close()
        raise


class _OtherMachineError(Exception):
    """The host's processor is another than ours, so its bundle is."""

    def __init__(self, arch: str) -> None:
        super().__init__(arch)
        self.arch = arch


class SshChannel:
    """The line to an agent through ssh: a socket that is ssh's standard input and output."""

    def __init__(self, name: str, options: SshOptions, command: str) -> None:
        self.name = name
        self.options = options
        self._said = b""
        self._asked_by_sudo = 0
        self.socket, far = socket.socketpair()
        errors, far_errors = os.pipe()
        argv = [*options.argv(_control_path()), command]
        try:
            with far:
                self._ssh = subprocess.Popen(
                    argv,
                    stdin=far.fileno(),
                    stdout=far.fileno(),
                    stderr=far_errors,
                    env=_environment(options),
                    start_new_session=True,
                )
        except OSError as error:
            self.socket.close()
            os.close(errors)
            raise HostError.from_os(f"cannot run {options.executable}", error) from None
        finally:
            os.close(far_errors)
        os.set_blocking(errors, False)
        self._errors = errors

    @classmethod
    def open(cls, name: str, options: SshOptions, wanted: Bundle) -> SshChannel:
        """Connect, become root, and start the agent, which is copied there where it is not.

        Raises _OtherMachineError when the host needs another bundle than this.
        """
        prompt = f"[nsprov-{secrets.token_hex(8)}]"
        channel = cls(name, options, _command(options, prompt, bundle.bootstrap(wanted.id, wanted.files)))
        try:
            channel._start(wanted, prompt)
        except BaseException:
            channel.close()
            raise
        return channel

    @property
    def errors(self) -> str:
        """What ssh, sudo and the agent said on standard error so far."""
        with contextlib.suppress(BlockingIOError, ValueError, OSError):
            while self._errors >= 0 and (piece := os.read(self._errors, 1 << 16)):
                self._said = (self._said + piece)[-(1 << 20) :]
        return self._said.decode(errors="replace")

    def broken(self, name: str) -> NsprovError:
        """Why the line is at its end, in one line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._ssh.wait(2)
        return _why(name, self.options, self.errors, self._ssh.returncode)

    def close(self) -> None:
        """Hang up: the agent ends when its input does."""
        self.socket.close()
        try:
            self._ssh.wait(1)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        if self._errors >= 0:
            _ = self.errors
            os.close(self._errors)
            self._errors = -1

    # -- how --------------------------------------------------------------------------------------

    def _start(self, wanted: Bundle, prompt: str) -> None:
        # Its own time-out ends ssh's connecting; ours is for a host that lets us in, and then hangs.
        line = self._read_line(prompt, self.options.connect_seconds * 3)
        word, _, rest = line.removeprefix("nsprov-agent ").partition(" ")
        if word == "missing":
            if rest != wanted.arch:
                raise _OtherMachineError(rest)
            self._send(wanted.archive)
            word, _, rest = self._read_line(prompt, _COPY_SECONDS).removeprefix("nsprov-agent ").partition(" ")
        if word == "tampered":
            raise HostError(
                f"the agent on {self.name} was tampered with, and was not started",
                detail=rest,
                hint=f"look who did it; then remove {bundle.FOLDER}/{wanted.id} there, and it is copied anew",
            )
        if word == "full":
            raise HostError(f"the agent cannot be put on {self.name}", detail=rest, hint="make room there")
        if word != "ready":
            raise HostError(f"{self.name} answers with something else than an agent", detail=f"{line[:200]!r}")

    def _send(self, archive: Path) -> None:
        data = archive.read_bytes()
        self.socket.settimeout(_COPY_SECONDS)
        try:
            self.socket.sendall(f"{len(data)}\n".encode() + data)
        except TimeoutError:
            raise self._silent(_COPY_SECONDS) from None
        except OSError:
            pass  # why it hung up is read next
        finally:
            self.socket.settimeout(None)

    def _silent(self, seconds: float) -> UnreachableError:
        return UnreachableError(f"{self.name} lets us in, but has not answered for {seconds:.0f} s", hint="it hangs")

    def _read_line(self, prompt: str, seconds: float) -> str:
        """The next line of the host; sudo is given its password where it asks for it meanwhile."""
        deadline = time.monotonic() + seconds
        line = b""
        with selectors.DefaultSelector() as ready:
            ready.register(self.socket, selectors.EVENT_READ)
            ready.register(self._errors, selectors.EVENT_READ)
            while True:
                left = deadline - time.monotonic()
                keys = {key.fileobj for key, _ in ready.select(left)} if left > 0 else set()
                if not keys:
                    raise self._silent(seconds)
                if self._errors in keys:
                    before = len(self._said)
                    asks = self.errors.count(prompt)
                    if len(self._said) == before:
                        ready.unregister(self._errors)
                    if asks > self._asked_by_sudo:
                        self._asked_by_sudo = asks
                        self._answer_sudo()
                if self.socket in keys:
                    # A byte at a time: what follows the line is the agent's.
                    piece = self.socket.recv(1)
                    if not piece:
                        raise self.broken(self.name)
                    if piece == b"\n":
                        text = line.decode(errors="replace").strip()
                        line = b""
                        if text.startswith("nsprov-agent "):
                            return text
                    elif len(line) < 4096:
                        # What a login script prints comes before it.
                        line += piece

    def _answer_sudo(self) -> None:
        become = self.options.become
        if self._asked_by_sudo > 1 or become is None or become.password is None:
            raise HostError(
                f"sudo on {self.name} does not take the password", hint="ansible_become_password is wrong for this user"
            )
        self.socket.sendall(become.password.encode() + b"\n")


def _command(options: SshOptions, prompt: str, script: str) -> str:
    """What the login shell there is given."""
    words = ["sh", "-c", script]
    become = options.become
    if become is not None:
        # -k: a password is asked for each time or never, so that what is sent is always what is read.
        asking = ["-n"] if become.password is None else ["-k", "-S", "-p", prompt]
        words = [become.executable, *asking, "-H", "-u", "root", "--", *words]
    return shlex.join(words)


def _environment(options: SshOptions) -> dict[str, str]:
    from provisioner.secrets import without_secrets

    return without_secrets(os.environ) | {"LC_ALL": "C"} | _secrets_of(options)


def _secrets_of(options: SshOptions) -> dict[str, str]:
    """By what ssh is told the secrets that it asks for."""
    if not options.asks:
        return {}
    environment = {"SSH_ASKPASS": str(_askpass()), "SSH_ASKPASS_REQUIRE": "force"}
    if options.password is not None:
        environment["NSPROV_SSH_PASSWORD"] = str(options.password)
    if options.passphrase is not None:
        environment["NSPROV_SSH_PASSPHRASE"] = str(options.passphrase)
    return environment


def _own_folder() -> Path:
    """A folder that only this user can write, short enough for sockets in it.

    Raises HostError where another user was there first.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "nsprov-ssh") if base else Path(tempfile.gettempdir(), f"nsprov-ssh-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise HostError.from_os(f"cannot make {folder}", error) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise HostError(f"{folder} is not a folder of this user's alone", hint="remove it")
    return folder


def _control_path() -> str | None:
    """Where ssh keeps the connections that outlive a command; None where their names would be too long."""
    path = f"{_own_folder()}/%C"
    return path if len(path) + 40 < _SOCKET_BYTES else None


def _askpass() -> Path:
    path = _own_folder() / "askpass"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(_ASKPASS)
        Path(file.name).chmod(0o700)
        Path(file.name).rename(path)
    return path


#: What OpenSSH and sudo say, what that means, and what helps. The first that fits.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} is not the one that is known",
        "if the host was made anew: ssh-keygen -R {known}; if not, somebody else answers there",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "the host key of {host} is not known",
        "compare it once with the host's own and accept it: ssh {label}",
    ),
    (
        r"Permission denied|Too many authentication failures|no mutual signature",
        "{label} is not let in: {said}",
        "the user or its key is wrong; see what is tried: ssh -v {label}",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "there is no host of the name {host}",
        "give it an ansible_host, or an entry in ~/.ssh/config",
    ),
    (r"No route to host|Network is unreachable", "there is no route to {host}", ""),
    (r"Connection refused", "{host} refuses connections to its ssh port", "does sshd run there, at this port?"),
    (r"timed out|Timeout, server", "{host} does not answer: {said}", ""),
)
_SUDO: tuple[tuple[str, str, str], ...] = (
    (
        r"a password is required|a terminal is required",
        "sudo on {host} wants a password",
        "give ansible_become_password, best from a vault",
    ),
    (r"not in the sudoers|not allowed to", "the user may not become root on {host}: {said}", "see sudoers there"),
    (r"sudo: (command )?not found|sudo: No such file", "there is no sudo on {host}", "connect as root"),
)


def _why(name: str, options: SshOptions, errors: str, code: int | None) -> NsprovError:
    """The error that what ssh or sudo said comes to."""
    last = [line.strip() for line in errors.splitlines() if line.strip()]
    said = last[-1] if last else "it hung up without a word"
    known = f"[{options.host}]:{options.port}" if options.port not in (None, 22) else options.host
    words: Mapping[str, str] = {"host": options.host, "label": options.label, "said": said, "known": shlex.quote(known)}
    for kind, reasons in ((UnreachableError, _REASONS if code == _SSH_FAILED else ()), (HostError, _SUDO)):
        for pattern, message, hint in reasons:
            if re.search(pattern, errors, re.IGNORECASE):
                return kind(message.format(**words), hint=hint.format(**words) or None)
    if re.search(r"nsprov-agent needs root", errors):
        return NotPermittedError(
            f"{options.label} is not root on {name}", hint="set ansible_become: true, or ansible_user: root"
        )
    if code == _SSH_FAILED and last:
        return UnreachableError(f"the connection to {options.host} broke", detail=said)
    return UnreachableError(f"the agent on {name} has ended", detail=said)
