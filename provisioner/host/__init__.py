"""The adapters: the only code that touches the kernel, D-Bus and the file system of a host.

``Host`` owns every handle. Each adapter opens lazily, reads in bulk, and raises ``HostError`` with the
kernel's or systemd's own words. Nothing here imports ``config``, ``engine`` or ``cli``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.host.facts import Facts
    from provisioner.host.files import Files
    from provisioner.host.netlink import Network
    from provisioner.host.nft import Nft
    from provisioner.host.pinned import Pinned
    from provisioner.host.systemd import Systemd

__all__ = ["Host"]


class Host:
    """One machine, seen from inside it. Handles open when first used; ``close`` closes all of them."""

    @cached_property
    def network(self) -> Network:
        """Network namespaces, and a netlink socket in each of them."""
        from provisioner.host.netlink import Network

        return Network()

    @cached_property
    def systemd(self) -> Systemd:
        """PID 1, over its private D-Bus socket."""
        from provisioner.host.systemd import Systemd

        return Systemd()

    @cached_property
    def nft(self) -> Nft:
        """The packet filter, in the host's and in named namespaces."""
        from provisioner.host.nft import Nft

        return Nft(self.network)

    @cached_property
    def pinned(self) -> Pinned:
        """Namespaces beyond the network that last without a process."""
        from provisioner.host.pinned import Pinned

        return Pinned()

    @cached_property
    def files(self) -> Files:
        from provisioner.host.files import Files

        return Files()

    @cached_property
    def facts(self) -> Facts:
        """What this host is: kernel, systemd, controllers, interfaces. Read once."""
        from provisioner.host.facts import read_facts

        return read_facts(self)

    def forget(self) -> None:
        """Drop what was read and cached, after the host has been changed. Handles stay open."""
        for adapter in self._open():
            forget = getattr(adapter, "forget", None)
            if forget is not None:
                forget()

    def close(self) -> None:
        for adapter in self._open():
            adapter.close()
        for name in ("network", "systemd", "nft", "files"):
            self.__dict__.pop(name, None)

    def _open(self) -> list[Any]:
        return [self.__dict__[name] for name in ("nft", "network", "systemd", "files") if name in self.__dict__]

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
