"""Brings interfaces into their declared state, many at a time, and reads the state they are in.

Owns the order of the messages: what must be up before what, what is added before what it replaces is
removed, and what the kernel drops on the way and must be given back. Knows no kinds: a veth's ends and a
bridge are the same to it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, NamedTuple

from provisioner.host import messages as m
from provisioner.network import InterfaceRoute, RouteFields, place_name

if TYPE_CHECKING:
    from provisioner.host.netlink import Network, Refusal
    from provisioner.network import Interface

__all__ = ["Shaping", "State", "bare", "create_links", "delete_links", "read_state", "shape"]

#: Routes of every maker but the kernel itself.
_ANY = 0


class Failure(NamedTuple):
    """Why a step failed: in words, and by errno."""

    message: str
    code: int = 0


class State(NamedTuple):
    """What an interface is to be, or is: the fields that all kinds share, all of them known."""

    mtu: int | None
    macaddress: str | None
    master: str | None
    addresses: tuple[str, ...] | None
    routes: tuple[InterfaceRoute, ...] | None
    up: bool

    @classmethod
    def of(cls, interface: Interface) -> State:
        return cls(
            interface.mtu,
            interface.macaddress,
            getattr(interface, "master", None),
            interface.addresses,
            interface.routes,
            interface.up,
        )


def bare(interface: Interface, *, master: bool = False) -> State:
    """An interface that has just been made with its MTU and MAC address (and its master): down, and empty."""
    made_in = getattr(interface, "master", None) if master else ""
    return State(interface.mtu, interface.macaddress, made_in, (), (), False)


# -- reading --------------------------------------------------------------------------------------


def read_state(
    network: Network, netns: str | None, link: m.Link, declared: Sequence[Interface], others: Callable[[Any], bool]
) -> State:
    """The state of an interface as the fields of a spec.

    ``declared`` are the specs known of it: a link-local IPv6 address, which the kernel gives to every
    interface, and a route that some person made, are only reported where one of these names them.
    ``others`` tells of a route whether another resource declares it.
    """
    addresses = tuple(_addresses(network, netns, link.ifindex, declared))
    routes = tuple(_routes(network, netns, link.ifindex, declared, others))
    master = network.link_names(netns).get(link.master, "") if link.master else ""
    return State(link.mtu, link.mac or None, master, addresses, routes, link.up)


def _addresses(network: Network, netns: str | None, index: int, declared: Sequence[Interface]) -> Iterable[str]:
    named = {text for one in declared for text in one.addresses or () if text.startswith("fe80:")}
    for entry in network.addresses(netns, index, link_local=bool(named)):
        if entry.permanent and (not entry.cidr.startswith("fe80:") or entry.cidr in named):
            yield entry.cidr


def _routes(
    network: Network,
    netns: str | None,
    index: int,
    declared: Sequence[Interface],
    others: Callable[[RouteFields], bool],
) -> Iterable[InterfaceRoute]:
    static = [entry for entry in network.routes_through(netns).get(index, ()) if entry.kind == "unicast"]
    wanted = {_identity(route) for one in declared for route in one.routes or ()}
    if wanted - {entry.identity for entry in static}:
        # A route that a person made is as good as ours, where it is one that is declared.
        wished = network.wished_routes(netns, wanted)
        by_hand = [entry for identity in wanted for entry in wished.get(identity, ()) if entry not in static]
        static += [entry for entry in by_hand if entry.ifindex == index and entry.kind == "unicast"]
    for entry in static:
        route = interface_route(entry)
        if not others(route):
            yield route


def interface_route(entry: m.RouteEntry) -> InterfaceRoute:
    """A kernel's route as an interface declares it. Canonical by construction: not validated again."""
    return InterfaceRoute.model_construct(**entry.fields())


# -- making and removing --------------------------------------------------------------------------


def create_links(network: Network, wanted: Sequence[tuple[str | None, str, bytes]]) -> list[Failure | None]:
    """Send the messages that make interfaces: each with its namespace and what it is called in errors."""
    outcome: list[Failure | None] = [None] * len(wanted)
    by_netns: dict[str | None, list[int]] = {}
    for index, (netns, _, _) in enumerate(wanted):
        by_netns.setdefault(netns, []).append(index)
    for netns, indices in by_netns.items():
        for index, refusal in zip(indices, network.request(netns, [wanted[i][2] for i in indices]), strict=True):
            if refusal is not None:
                outcome[index] = _creation_failure(network, wanted[index][1], refusal)
    return outcome


def _creation_failure(network: Network, called: str, refusal: Refusal) -> Failure:
    text = f"cannot make {called}: {refusal}"
    if refusal.code == errno.EEXIST:
        text += " (an interface of that name is there already)"
    elif refusal.code == errno.EOPNOTSUPP:
        text += " (the running kernel was built without it, or has no module of it)"
    return Failure(text, refusal.code)


def delete_links(network: Network, wanted: Sequence[tuple[str | None, str]]) -> list[Failure | None]:
    """Remove interfaces by namespace and name; what is gone already is done."""
    outcome: list[Failure | None] = [None] * len(wanted)
    by_netns: dict[str | None, list[tuple[int, m.Link]]] = {}
    network.prepare(netns for netns, _ in wanted)
    for index, (netns, name) in enumerate(wanted):
        link = network.links(netns).get(name) if network.exists(netns) else None
        if link is not None:
            by_netns.setdefault(netns, []).append((index, link))
    for netns, links in by_netns.items():
        for index, refusal in _delete_in(network, netns, links):
            if refusal is not None and refusal.code != errno.ENODEV:
                called = place_name(netns, wanted[index][1])
                outcome[index] = Failure(f"cannot remove the interface {called}: {refusal}", refusal.code)
    return outcome


#: From how many on interfaces are gathered in a group and removed in one sweep: each removal by itself
#: makes the kernel wait for all of its processors.
_SWEEP = 4


def _delete_in(
    network: Network, netns: str | None, links: Sequence[tuple[int, m.Link]]
) -> Iterable[tuple[int, Refusal | None]]:
    if len(links) >= _SWEEP:
        taken = {link.group for link in network.links(netns).values()}
        group = next(number for number in range(0x6E730000, 0x6E740000) if number not in taken)
        gathered = network.request(netns, [m.link_set(link.ifindex, group=group) for _, link in links])
        if not any(gathered) and network.request(netns, [m.link_delete(group=group)]) == [None]:
            return [(index, None) for index, _ in links]
    answers = network.request(netns, [m.link_delete(link.ifindex) for _, link in links])
    return zip((index for index, _ in links), answers, strict=True)


# -- changing -------------------------------------------------------------------------------------


@dataclass
class Shaping:
    """One interface to bring from a state to another. Fields of ``after`` that are None are left alone.

    ``options`` are the packed attributes of its kind (a bridge's) that change, in the order to set them.
    """

    netns: str | None
    name: str
    before: State
    after: State
    kind: str = ""
    options: Sequence[bytes] = ()
    failure: Failure | None = None

    @property
    def called(self) -> str:
        return place_name(self.netns, self.name)

    @property
    def loses(self) -> bool:
        """Whether the kernel will drop addresses or routes of others as a consequence."""
        removed = set(self.before.addresses or ()) - set(self.after.addresses or self.before.addresses or ())
        emptied = self.after.addresses == () and bool(self.before.addresses)
        return bool(removed) or emptied or (self.before.up and not self.after.up)


class _Message(NamedTuple):
    """A message, what it does in words, and the errnos that mean that nothing was left to do."""

    does: str
    data: bytes
    fine: tuple[int, ...] = ()


def shape(network: Network, changes: Sequence[Shaping]) -> None:
    """Bring interfaces into shape; each one's ``failure`` says what was refused, if anything was.

    Every namespace gets its messages in one go, so that a thousand tenants cost a thousand exchanges.
    """
    by_netns: dict[str | None, list[Shaping]] = {}
    for change in changes:
        by_netns.setdefault(change.netns, []).append(change)
    network.prepare(by_netns)
    for netns, some in by_netns.items():
        _shape_in(network, netns, some)


def _shape_in(network: Network, netns: str | None, changes: Sequence[Shaping]) -> None:
    if not network.exists(netns):
        for change in changes:
            change.failure = Failure(f"cannot change {change.called}: there is no namespace {netns}", errno.ENOENT)
        return
    losing = any(change.loses for change in changes)
    routes_before = network.routes(netns, _ANY) if losing else []
    links = network.links(netns)
    leaving = {
        _identity(route)
        for change in changes
        if change.after.routes is not None
        for route in {*(change.before.routes or ())} - {*change.after.routes}
    }
    work: list[tuple[Shaping, _Message]] = []
    for change in changes:
        link = links.get(change.name)
        if link is None:
            words = f"cannot change {change.called}: {os.strerror(errno.ENODEV)}"
            change.failure = Failure(words, errno.ENODEV)
            continue
        try:
            work += [(change, message) for message in _messages(change, link.ifindex, links, leaving)]
        except _NoMasterError as error:
            change.failure = Failure(f"cannot make {change.called} a port: {error}", errno.ENODEV)
    _send(network, netns, work)
    if losing:
        _give_back(network, netns, changes, routes_before)


class _NoMasterError(Exception):
    """The bridge that an interface should join is not there."""


def _send(network: Network, netns: str | None, work: Sequence[tuple[Shaping, _Message]]) -> None:
    answers = network.request(netns, [message.data for _, message in work])
    for (change, message), refusal in zip(work, answers, strict=True):
        if refusal is not None and refusal.code not in message.fine and change.failure is None:
            change.failure = Failure(f"cannot {message.does}: {refusal}", refusal.code)


def _messages(change: Shaping, index: int, links: dict[str, m.Link], leaving: Collection[Any]) -> list[_Message]:
    """Every message that one interface needs: what is new comes before what is old goes, unless it is in its way.

    ``leaving`` are the routes that any interface of the namespace gives up.
    """
    before, after, called = change.before, change.after, change.called
    made = _link_messages(change, index, links)
    old, new = before.addresses or (), after.addresses
    going: list[str] = []
    if new is not None:
        going = [cidr for cidr in old if cidr not in new]
        in_the_way = {*_same_host(going, new), *_gateways_to_be(going, after.routes or ())}
        made += [_remove_address(index, cidr, called) for cidr in going if cidr in in_the_way]
        going = [cidr for cidr in going if cidr not in in_the_way]
        made += [_add_address(index, cidr, called) for cidr in new if cidr not in old or _flushed(change, cidr)]
    made += _route_messages(change, index, leaving)
    made += [_remove_address(index, cidr, called) for cidr in going]
    return made


def _same_host(going: Sequence[str], new: Sequence[str]) -> list[str]:
    """Addresses of which only the prefix length changes: IPv6 will not have both at once."""
    hosts = {cidr.partition("/")[0] for cidr in new if ":" in cidr}
    return [cidr for cidr in going if cidr.partition("/")[0] in hosts]


def _gateways_to_be(going: Sequence[str], routes: Iterable[InterfaceRoute]) -> list[str]:
    """Addresses that are a new route's gateway, or whose IPv4 network has it as its first or last address: the
    kernel takes no gateway that is its own address or a broadcast address."""
    gateways = {route.via for route in routes if route.via}
    found = []
    for cidr in going:
        address = ip_interface(cidr)
        reserved = {address.ip, *((address.network[0], address.network[-1]) if address.version == 4 else ())}
        if gateways & {str(one) for one in reserved}:
            found.append(cidr)
    return found


def _flushed(change: Shaping, cidr: str) -> bool:
    """Whether going down takes this address along: IPv6 keeps none."""
    return ":" in cidr and change.before.up and not change.after.up


def _add_address(index: int, cidr: str, called: str, fine: tuple[int, ...] = ()) -> _Message:
    return _Message(f"give {called} the address {cidr}", m.address_change(index, cidr, add=True), fine)


def _remove_address(index: int, cidr: str, called: str) -> _Message:
    data = m.address_change(index, cidr, add=False)
    return _Message(f"take the address {cidr} from {called}", data, (errno.EADDRNOTAVAIL, errno.ENODEV))


def _link_messages(change: Shaping, index: int, links: dict[str, m.Link]) -> list[_Message]:
    before, after, called = change.before, change.after, change.called
    made = []
    for option in change.options:
        made.append(_Message(f"set an option of {called}", m.link_set(index, kind=change.kind, data=option)))
    if after.macaddress is not None and after.macaddress != before.macaddress:
        words = f"set the MAC address of {called} to {after.macaddress}"
        made.append(_Message(words, m.link_set(index, mac=after.macaddress)))
    if after.mtu is not None and after.mtu != before.mtu:
        made.append(_Message(f"set the MTU of {called} to {after.mtu}", m.link_set(index, mtu=after.mtu)))
    if after.master is not None and after.master != before.master:
        words = f"make {called} a port of {after.master}" if after.master else f"take {called} out of {before.master}"
        made.append(_Message(words, m.link_set(index, master=_master_index(after.master, change, links))))
    if after.up != before.up:
        made.append(_Message(f"bring {'up' if after.up else 'down'} {called}", m.link_set(index, up=after.up)))
    return made


def _master_index(master: str, change: Shaping, links: dict[str, m.Link]) -> int:
    if not master:
        return 0
    if master not in links:
        raise _NoMasterError(f"there is no interface {place_name(change.netns, master)}")
    return links[master].ifindex


def _identity(route: Any) -> tuple[Any, ...]:
    return route.table, route.family, route.to, route.metric


def _route_messages(change: Shaping, index: int, leaving: Collection[Any]) -> list[_Message]:
    before, after, called = change.before, change.after, change.called
    if after.routes is None:
        return []
    old = {_identity(route): route for route in before.routes or ()}
    new = {_identity(route): route for route in after.routes}
    came_up = after.up and not before.up
    made = []
    # A route on the link comes before the ones whose gateway it leads to.
    for key, route in sorted(new.items(), key=lambda item: item[1].via is not None):
        found = old.get(key)
        if found == route and not came_up:
            continue
        command = "replace" if found is not None or key in leaving else "add"
        words = f"add the route {route.text()} to {called}"
        made.append(_Message(words, m.route_change(command, route, index)))
    for key, route in old.items():
        if key not in new:
            words = f"remove the route {route.text()} from {called}"
            made.append(_Message(words, m.route_change("delete", route, index), (errno.ESRCH, errno.ENODEV)))
    return made


# -- what the kernel drops as a consequence -------------------------------------------------------


def _give_back(
    network: Network, netns: str | None, changes: Sequence[Shaping], routes_before: Sequence[m.RouteEntry]
) -> None:
    """Restore what went along with a removed address: its secondaries, and the routes that led through it."""
    links = network.links(netns)
    work: list[tuple[Shaping, _Message]] = []
    for change in changes:
        link = links.get(change.name)
        if link is not None and change.failure is None:
            work += [(change, message) for message in _missing_addresses(network, change, link.ifindex)]
    _send(network, netns, work)
    _give_back_routes(network, netns, changes, routes_before)


def _missing_addresses(network: Network, change: Shaping, index: int) -> list[_Message]:
    wanted = change.after.addresses if change.after.addresses is not None else change.before.addresses or ()
    present = {entry.cidr for entry in network.addresses(change.netns, index)}
    return [_add_address(index, cidr, change.called, (errno.EEXIST,)) for cidr in wanted if cidr not in present]


def _give_back_routes(
    network: Network, netns: str | None, changes: Sequence[Shaping], routes_before: Sequence[m.RouteEntry]
) -> None:
    present = {entry.identity for entry in network.routes(netns, _ANY)}
    links = network.links(netns)
    declared: set[Any] = set()
    dropped: set[Any] = set()
    work: list[tuple[Shaping, _Message]] = []
    for change in changes:
        link = links.get(change.name)
        if link is None or change.failure is not None or change.after.routes is None:
            continue
        wanted = {_identity(route): route for route in change.after.routes}
        declared |= wanted.keys()
        dropped |= {_identity(route) for route in change.before.routes or ()} - wanted.keys()
        for key, route in wanted.items():
            if key not in present:
                words = f"add the route {route.text()} to {change.called}"
                data = m.route_change("add", route, link.ifindex)
                work.append((change, _Message(words, data, (errno.EEXIST,))))
    _send(network, netns, work)
    # Routes of other resources: those that still can be are put back, the rest had lost their meaning.
    others = [
        m.route_replay(entry.data)
        for entry in routes_before
        if entry.identity not in present and entry.identity not in declared | dropped
    ]
    network.request(netns, others)
