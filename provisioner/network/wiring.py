"""What is wrong with interfaces among each other: gateways out of reach, networks that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provisioner.model import Address, Issue, Resource
from provisioner.network.interfaces import Interface, place_name
from provisioner.network.values import is_link_local, network_of

if TYPE_CHECKING:
    from provisioner.model import Desired

__all__ = [
    "Placed",
    "Wiring",
    "audit_interface",
    "interfaces_of",
]


@dataclass(frozen=True, slots=True)
class Placed:
    """An interface that some resource declares: ``field`` leads to it inside the resource (``peer.``)."""

    interface: Interface
    owner: Address
    field: str = ""

    @property
    def key(self) -> tuple[str | None, str]:
        return self.interface.netns, self.interface.name


@dataclass
class Wiring:
    """All declared interfaces of a host, by namespace and by bridge."""

    by_netns: dict[str | None, list[Placed]] = field(default_factory=dict)
    ports: dict[tuple[str | None, str], int] = field(default_factory=dict)
    overlaps: dict[Address, list[Issue]] = field(default_factory=dict)


_last_wiring: tuple[Desired, Wiring] | None = None


def interfaces_of(desired: Desired) -> Wiring:
    """The declared interfaces, indexed; made once for a desired graph, since every interface's audit asks."""
    global _last_wiring
    if _last_wiring is None or _last_wiring[0] is not desired:
        _last_wiring = (desired, _index(desired))
    return _last_wiring[1]


def _index(desired: Desired) -> Wiring:
    wiring = Wiring()
    for address, declared in desired.resources.items():
        for placed in _placed(address, declared.resource):
            wiring.by_netns.setdefault(placed.interface.netns, []).append(placed)
            master = getattr(placed.interface, "master", None)
            if master:
                key = (placed.interface.netns, master)
                wiring.ports[key] = wiring.ports.get(key, 0) + 1
    for placed_here in wiring.by_netns.values():
        _find_overlaps(placed_here, wiring.overlaps)
    return wiring


def _placed(address: Address, resource: Resource) -> Iterator[Placed]:
    if isinstance(resource, Interface):
        yield Placed(resource, address)
        peer = getattr(resource, "peer", None)
        if isinstance(peer, Interface):
            yield Placed(peer, address, "peer.")


def _find_overlaps(placed_here: Sequence[Placed], found: dict[Address, list[Issue]]) -> None:
    """Networks of different interfaces in one namespace that share addresses: the kernel would use one of them."""
    spans = []
    for placed in placed_here:
        for index, text in enumerate(placed.interface.addresses or ()):
            family, first, last = network_of(text)
            if first != last and not is_link_local(text):
                spans.append((family, first, last, text, index, placed))
    spans.sort(key=lambda span: span[:3])
    reach: tuple[str, int, str, Placed] | None = None
    for family, first, last, text, index, placed in spans:
        if reach and reach[0] == family and first <= reach[1] and placed.key != reach[3].key:
            issue = Issue(
                f"the network of {text} overlaps that of {reach[2]} on {place_name(*reach[3].key)} ({reach[3].owner})",
                f"{placed.field}addresses.{index}",
                "interfaces of one namespace need networks of their own",
            )
            found.setdefault(placed.owner, []).append(issue)
        if not reach or reach[0] != family or last > reach[1]:
            reach = (family, last, text, placed)


def audit_interface(interface: Interface, owner: Address, desired: Desired, prefix: str = "") -> Iterator[Issue]:
    """What is wrong with one interface: a gateway that it cannot reach."""
    for index, route in enumerate(interface.routes or ()):
        if route.via is None or route.onlink or interface.addresses is None or is_link_local(route.via):
            continue
        if not _reaches(route.via, interface):
            yield Issue(
                f"no address of {place_name(interface.netns, interface.name)} is in the network of the gateway"
                f" {route.via}",
                f"{prefix}routes.{index}.via",
                "give it an address in the gateway's network, or say 'onlink: true'",
            )
    for text in interface.addresses or ():
        host = text.partition("/")[0]
        for index, route in enumerate(interface.routes or ()):
            if route.via == host:
                yield Issue(
                    f"the gateway {route.via} is {place_name(interface.netns, interface.name)}'s own address",
                    f"{prefix}routes.{index}.via",
                    "the gateway is another host on the same network",
                )


def _reaches(gateway: str, interface: Interface) -> bool:
    family, number, _ = network_of(gateway)
    nets = [network_of(text) for text in interface.addresses or ()]
    nets += [network_of(route.to) for route in interface.routes or () if route.via is None and route.to != "default"]
    return any(family == kind and first <= number <= last for kind, first, last in nets)
