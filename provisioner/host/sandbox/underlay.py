"""The wire between sandboxes: a bridge in a network namespace of its own, never in the machine's.

The guardians of the sandboxes live in that namespace and nothing else holds it, so it goes when the last
of them goes.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from typing import TYPE_CHECKING

from provisioner.errors import HostError, UsageError
from provisioner.host import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NETWORK", "UPLINK", "attach", "check_address", "enter", "free_address"]

NETWORK = ipaddress.IPv4Network("192.0.2.0/24")
#: The interface by which a sandbox is on the wire, seen from inside.
UPLINK = "uplink0"
_BRIDGE = "underlay"


def check_address(text: str) -> str:
    """The address with its prefix length, as ``ip`` writes it. Raises UsageError for what is none."""
    try:
        made = ipaddress.ip_interface(text if "/" in text else f"{text}/24")
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not an address for a sandbox: {error}", hint="for example 192.0.2.11/24"
        ) from None
    return str(made)


def free_address(taken: Iterable[str]) -> str:
    """The next address of the underlay that no sandbox has.

    Starts at .101: what people write by hand starts at the lower end.
    """
    used = {address.partition("/")[0] for address in taken}
    hosts = [str(host) for host in NETWORK.hosts()]
    for host in hosts[100:] + hosts[:100]:
        if host not in used:
            return f"{host}/{NETWORK.prefixlen}"
    raise HostError(f"no address is free in {NETWORK}", hint="stop sandboxes: nsprov sandbox stop --all")


def enter(neighbours: Iterable[int]) -> None:
    """Move this process into the namespace of the bridge: the one of these guardians, or a new one.

    Call it with the folder of state files locked.
    """
    for guardian in neighbours:
        try:
            descriptor = os.open(f"/proc/{guardian}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has ended in between
        try:
            kernel.setns(descriptor, kernel.CLONE_NEWNET)
        finally:
            os.close(descriptor)
        return
    kernel.unshare(kernel.CLONE_NEWNET)
    ip(
        f"link add {_BRIDGE} type bridge mcast_snooping 0",
        f"link set {_BRIDGE} up",
        "link set lo up",
    )


def attach(pid: int) -> None:
    """Put one end of a new cable on the bridge, and the other into the network namespace of a process."""
    port = f"sb{pid}"
    ip(
        f"link add {port} mtu 1500 master {_BRIDGE} type veth peer name {UPLINK} mtu 1500 netns {pid}",
        f"link set {port} up",
    )


def ip(*commands: str) -> None:
    """Run commands of iproute2 in the network namespace of this process."""
    result = subprocess.run(
        ["ip", "-batch", "-"],
        input="\n".join(commands) + "\n",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise HostError("the sandbox cannot be put on its wire", detail=result.stderr.strip())
