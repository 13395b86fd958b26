"""The same wiring in two languages: tenants on bridges, as an inventory for nsprov and as batches for ``ip``.

A tenant has a namespace with its loopback up, a veth to one of several bridges, an IPv4 and an IPv6
address, and a default route.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tenant", "inventory", "ip_batches", "ip_removal", "tenants"]

#: A bridge takes at most 1024 ports; several share the work as they would on a real host.
TENANTS_OF_A_BRIDGE = 250


@dataclass(frozen=True)
class Tenant:
    name: str
    bridge: str
    addresses: tuple[str, ...]
    gateway: str


def tenants(count: int) -> list[Tenant]:
    """This many tenants."""
    made = []
    for number in range(count):
        net, host = divmod(number, TENANTS_OF_A_BRIDGE)
        addresses = (f"10.{net}.1.{host + 1}/16", f"fd00:{net}::{host + 2:x}/64")
        made.append(Tenant(f"t{number}", f"br{net}", addresses, f"10.{net}.0.1"))
    return made


def bridges(wired: list[Tenant]) -> list[str]:
    return sorted({tenant.bridge for tenant in wired})


def inventory(folder: Path, wired: list[Tenant]) -> Path:
    """Write an inventory of one host that has these tenants. Returns its path."""
    variables = {
        "nsprov_project": "benchmark",
        "nsprov_roles": ["wired"],
        "bridges": len(bridges(wired)),
        "tenants": [
            {
                "name": tenant.name,
                "bridge": tenant.bridge,
                "addresses": list(tenant.addresses),
                "gateway": tenant.gateway,
            }
            for tenant in wired
        ],
    }
    path = folder / "inventory.yml"
    host = {"ansible_connection": "local"}
    path.write_text(json.dumps({"all": {"hosts": {"here": host}, "vars": variables}}, indent=1))
    return path


def ip_batches(wired: list[Tenant]) -> list[tuple[list[str], str]]:
    """The ``ip`` commands that build it, each with the batch that it reads."""
    host = []
    for bridge in bridges(wired):
        gateway = next(tenant.gateway for tenant in wired if tenant.bridge == bridge)
        host += [f"link add {bridge} type bridge", f"addr add {gateway}/16 dev {bridge}", f"link set {bridge} up"]
    for tenant in wired:
        host += [
            f"netns add {tenant.name}",
            f"link add v-{tenant.name} master {tenant.bridge} type veth peer name eth0 netns {tenant.name}",
            f"link set v-{tenant.name} up",
        ]
    commands = [(["ip", "-batch", "-"], "\n".join(host) + "\n")]
    for tenant in wired:
        inside = ["link set lo up"]
        inside += [f"addr add {address} dev eth0{' nodad' * (':' in address)}" for address in tenant.addresses]
        inside += ["link set eth0 up", f"route add default via {tenant.gateway}"]
        commands.append((["ip", "-n", tenant.name, "-batch", "-"], "\n".join(inside) + "\n"))
    return commands


def ip_removal(wired: list[Tenant]) -> list[tuple[list[str], str]]:
    """The one command that removes it all."""
    lines = [f"link del v-{tenant.name}" for tenant in wired]
    lines += [f"netns del {tenant.name}" for tenant in wired]
    lines += [f"link del {bridge}" for bridge in bridges(wired)]
    return [(["ip", "-batch", "-"], "\n".join(lines) + "\n")]
