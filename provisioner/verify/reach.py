"""How a host is reached whose facts are checked: by a URI of testinfra, or by a connection that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from provisioner.errors import NsprovError
    from provisioner.fleet.target import Output

__all__ = ["Connection", "Reach"]


class Connection(Protocol):
    """An open connection to a host, on which commands run as root; every ``Target`` is one."""

    @property
    def lost(self) -> NsprovError | None:
        """Why there is no connection any more; None while there is."""
        ...

    def run(self, command: str, seconds: float = 600) -> Output:
        """Run a line of shell. Raises HostError, of which an UnreachableError means that the connection is lost."""
        ...


#: A URI of testinfra, or a connection that is open.
Reach = str | Connection
