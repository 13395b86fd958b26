"""What Ansible's variables say of the way to a host by ssh, and the command line that it comes to.

Pure: it opens nothing. OpenSSH's own client is used, so that ``~/.ssh/config``, agents, certificates, ``known_hosts``
and jump hosts mean what they mean everywhere else.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from provisioner.errors import Problems
from provisioner.secrets import learn

if TYPE_CHECKING:
    from provisioner.config.source import Map

__all__ = ["CONNECTION_VARIABLES", "Become", "SshOptions", "ssh_options"]

#: Seconds for a connection to be made, as in Ansible.
CONNECT_SECONDS = 10
#: Seconds that one answer of a host may take: a step may start a unit that takes its time.
ANSWER_SECONDS = 600
#: A host that says nothing for this long, four times, has gone.
ALIVE_SECONDS = 10
ALIVE_COUNT = 3
#: How long a connection is kept for the next command, as in Ansible.
PERSIST_SECONDS = 60

_HOST = ("ansible_ssh_host", "ansible_host")
_PORT = ("ansible_ssh_port", "ansible_port")
_USER = ("ansible_ssh_user", "ansible_user")
_PASSWORD = ("ansible_ssh_password", "ansible_ssh_pass", "ansible_password")
_KEY = ("ansible_ssh_private_key_file", "ansible_private_key_file")
_PASSPHRASE = ("ansible_ssh_private_key_passphrase", "ansible_private_key_passphrase")
_TIMEOUT = ("ansible_ssh_timeout", "ansible_timeout")
_CHECKING = ("ansible_ssh_host_key_checking", "ansible_host_key_checking")
_ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_EXECUTABLE = ("ansible_ssh_executable",)
_ANSWER = ("nsprov_timeout",)
_BECOME = ("ansible_become",)
_METHOD = ("ansible_become_method",)
_BECOME_USER = ("ansible_become_user",)
_BECOME_EXE = ("ansible_become_exe", "ansible_sudo_exe")
_BECOME_PASSWORD = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass", "ansible_sudo_password")

#: All variables that say how a host is reached. Of two names of one thing, the first that is given wins.
CONNECTION_VARIABLES = frozenset(
    [
        "ansible_connection",
        *(*_HOST, *_PORT, *_USER, *_PASSWORD, *_KEY, *_PASSPHRASE, *_TIMEOUT, *_CHECKING, *_ARGS, *_EXECUTABLE),
        *(*_ANSWER, *_BECOME, *_METHOD, *_BECOME_USER, *_BECOME_EXE, *_BECOME_PASSWORD),
    ]
)

_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Become:
    """How the user of a connection becomes root: by sudo, with or without a password."""

    executable: str = "sudo"
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SshOptions:
    """The way to a host by ssh. What is None is ssh's own to decide, by its configuration."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    #: Secrets go to ssh by the program it asks for them, and never in a command line or a file.
    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    host_key_checking: bool = True
    #: Words for ssh's command line, those of the inventory's author.
    arguments: tuple[str, ...] = ()
    executable: str = "ssh"
    connect_seconds: int = CONNECT_SECONDS
    answer_seconds: int = ANSWER_SECONDS
    become: Become | None = None

    def argv(self, control_path: str | None) -> list[str]:
        """The command line of ssh, up to and with the host; the command that is run there follows.

        What is given first wins in ssh: the inventory's words come before ours.
        """
        options = [
            *self.arguments,
            *(["-p", str(self.port)] if self.port is not None else []),
            *(["-l", self.user] if self.user is not None else []),
            *(["-i", self.key] if self.key is not None else []),
            *_option("ConnectTimeout", self.connect_seconds),
            *_option("ServerAliveInterval", ALIVE_SECONDS),
            *_option("ServerAliveCountMax", ALIVE_COUNT),
            *_option("LogLevel", "ERROR"),
            # Nobody sits there to be asked; with a password, what ssh asks goes to a program that knows it.
            *(_option("BatchMode", "yes") if not self.asks else _option("NumberOfPasswordPrompts", 1)),
            *(_option("StrictHostKeyChecking", "no") if not self.host_key_checking else []),
            *(_option("UserKnownHostsFile", "/dev/null") if not self.host_key_checking else []),
        ]
        if control_path is not None:
            options += [
                *_option("ControlMaster", "auto"),
                *_option("ControlPath", control_path),
                *_option("ControlPersist", PERSIST_SECONDS),
            ]
        return [self.executable, "-T", *options, "--", self.host]

    def testinfra_uri(self) -> str:
        """How testinfra reaches the same host from a written suite, which reads ``ssh_extra_args`` of a URI."""
        words = self.argv(None)[2:-2]
        query = {"ssh_extra_args": shlex.join(words), **({"sudo": "true"} if self.become else {})}
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{host}?{urlencode(query)}"

    @property
    def asks(self) -> bool:
        """Whether ssh has to ask for a secret."""
        return self.password is not None or self.passphrase is not None

    @property
    def label(self) -> str:
        """The host as a person would give it to ssh."""
        return f"{self.user}@{self.host}" if self.user else self.host


def _option(name: str, value: object) -> list[str]:
    return ["-o", f"{name}={value}"]


def ssh_options(name: str, variables: Map) -> SshOptions:
    """What the variables of a host say, their templates evaluated.

    Raises ConfigError with all that is wrong in them.
    """
    given = _Given(variables)
    password = given.text(_PASSWORD)
    passphrase = given.text(_PASSPHRASE)
    options = SshOptions(
        host=given.text(_HOST) or name,
        port=given.number(_PORT, 1, 65535),
        user=given.text(_USER),
        key=given.text(_KEY),
        password=password,
        passphrase=passphrase,
        host_key_checking=given.truth(_CHECKING, True),
        arguments=tuple(word for one in _ARGS for word in given.words(one)),
        executable=given.text(_EXECUTABLE) or "ssh",
        connect_seconds=given.number(_TIMEOUT, 1, 3600) or CONNECT_SECONDS,
        answer_seconds=given.number(_ANSWER, 1, 86400) or ANSWER_SECONDS,
        become=given.become(),
    )
    if options.host.startswith("-"):
        given.problem(_HOST, f"'{options.host}' is not a host's name", "a name does not begin with '-'")
    given.problems.raise_if_any()
    for secret in (password, passphrase, options.become.password if options.become else None):
        if secret:
            learn(secret)
    return options


class _Given:
    """Reads variables by any of their names, and gathers what is wrong with them."""

    def __init__(self, variables: Map) -> None:
        self.variables = variables
        self.problems = Problems()

    def value(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if self.variables.get(name) is not None:
                return name, self.variables[name]
        return names[0], None

    def problem(self, names: tuple[str, ...], message: str, hint: str | None = None) -> None:
        self.problems.add(message, self.variables.at(self.value(names)[0]), hint=hint)

    def text(self, names: tuple[str, ...]) -> str | None:
        name, value = self.value(names)
        if value is None or value == "":
            return None
        if isinstance(value, (Mapping, list, bool)):
            self.problem(names, f"{name} must be text")
            return None
        text = str(value)
        if any(ord(char) < 32 for char in text):
            self.problem(names, f"{name} cannot have control characters")
            return None
        return text

    def number(self, names: tuple[str, ...], least: int, most: int) -> int | None:
        name, value = self.value(names)
        if value is None or value == "":
            return None
        try:
            number = int(value) if not isinstance(value, (bool, float)) else None
        except (TypeError, ValueError):
            number = None
        if number is None or not least <= number <= most:
            self.problem(names, f"{name} must be a number from {least} to {most}, not '{value}'")
            return None
        return number

    def truth(self, names: tuple[str, ...], default: bool) -> bool:
        name, value = self.value(names)
        if value is None or value == "":
            return default
        found = _WORDS.get(str(value).lower())
        if found is None:
            self.problem(names, f"{name} must be true or false, not '{value}'")
            return default
        return found

    def words(self, name: str) -> list[str]:
        text = self.text((name,))
        try:
            return shlex.split(text or "")
        except ValueError as error:
            self.problem((name,), f"{name}: {str(error).lower()}")
            return []

    def become(self) -> Become | None:
        password = self.text(_BECOME_PASSWORD)
        if not self.truth(_BECOME, False):
            return None
        method = self.text(_METHOD) or "sudo"
        if method not in ("sudo", "ansible.builtin.sudo"):
            self.problem(_METHOD, f"root cannot be had by '{method}' here", "use sudo, or connect as root")
        user = self.text(_BECOME_USER) or "root"
        if user not in ("root", "0"):
            self.problem(_BECOME_USER, f"nsprov works as root, and not as '{user}'", "leave ansible_become_user out")
        return Become(self.text(_BECOME_EXE) or "sudo", password)
