"""How a host is reached whose facts are checked: by a URI of testinfra, or by ssh as nsprov itself goes there.

Pure: it opens nothing. A URI cannot say all that ssh and sudo need, and must not say a password.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

__all__ = ["REACH_FD", "SSH_SCHEME", "Reach", "SshReach", "uri_of"]

SSH_SCHEME = "nsprov-ssh"
#: The variable that names the open file from which pytest reads an SshReach, once.
REACH_FD = "NSPROV_VERIFY_REACH_FD"


@dataclass(frozen=True, slots=True)
class SshReach:
    """A host that is reached by OpenSSH, and where commands are root's."""

    name: str
    #: ssh's command line, up to and with the host.
    argv: tuple[str, ...]
    #: What ssh needs in its environment beyond this process's: by it, ssh is told the secrets that it asks for.
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The program that makes the user root; None where the user is root.
    sudo: str | None = None
    sudo_password: str | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        return f"{SSH_SCHEME}://{quote(self.name, safe='')}"

    def command(self, line: str) -> list[str]:
        """The command line that runs a line of shell there, as root."""
        # What the command reads is never what sudo was sent.
        words = ["/bin/sh", "-c", f"exec </dev/null; {line}"]
        if self.sudo is not None:
            asking = ["-n"] if self.sudo_password is None else ["-k", "-S", "-p", ""]
            words = [self.sudo, *asking, "-H", "-u", "root", "--", *words]
        return [*self.argv, shlex.join(words)]

    def to_json(self) -> str:
        """All of it, secrets too: for a pipe between two processes, and for nothing that lasts."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SshReach:
        given = json.loads(text)
        return cls(**given | {"argv": tuple(given["argv"])})


#: A URI of testinfra, or what no URI can say.
Reach = str | SshReach


def uri_of(reach: Reach) -> str:
    """What ``--hosts`` is given."""
    return reach.uri if isinstance(reach, SshReach) else reach
