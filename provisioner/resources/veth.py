"""The kind ``veth``: pairs of virtual interfaces, host to namespace or namespace to namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from provisioner.model import Action, Address, Check, Driver, Issue, Resource, StepResult, bad, spec
from provisioner.network import (
    Port,
    any_interface,
    audit_interface,
    claimed_elsewhere,
    interface_address,
    interface_changes,
    interface_checks,
    interface_claims,
    interface_summary,
    interfaces_of,
    merged_interface,
    place_name,
    reset_fields,
)
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.messages import Link
    from provisioner.host.netlink import Network
    from provisioner.model import Change, Claim, Desired, Scope, Step

__all__ = ["Peer", "Veth"]


class Peer(Port):
    """The other end of a veth."""


class Veth(Port, Resource):
    """A pair of virtual interfaces: what goes in at one end comes out at the other."""

    kind: ClassVar[str] = "veth"

    peer: Peer = spec(
        ...,
        doc="the other end, made in its own namespace",
        examples=[{"netns": "blue", "name": "eth0", "addresses": ["10.0.0.2/24"]}],
    )

    @model_validator(mode="after")
    def _two_ends(self) -> Self:
        if (self.peer.netns, self.peer.name) == (self.netns, self.name):
            raise bad(f"both ends are called {place_name(self.netns, self.name)}", "give the peer another name")
        if self.mtu and self.peer.mtu and self.mtu != self.peer.mtu:
            raise bad(
                f"the ends have different MTUs, {self.mtu} and {self.peer.mtu}: packets between would be lost",
                "give both the same 'mtu'",
            )
        return self

    @property
    def ends(self) -> tuple[Port, Port]:
        return self, self.peer

    # -- relations --------------------------------------------------------------------------------

    def requires(self) -> Iterable[Address]:
        needed = list(self.lives_in())
        for end in self.ends:
            if end.master:
                needed.append(Address("bridge", end.master, end.netns))
        return needed

    def lives_in(self) -> Iterable[Address]:
        return [Address("netns", netns) for netns in dict.fromkeys(end.netns for end in self.ends) if netns]

    def provides(self) -> Iterable[Address]:
        for end in self.ends:
            yield interface_address(end.netns, end.name)
            yield any_interface(end.netns)

    def claims(self) -> Iterable[Claim]:
        for end, other in (self.ends, self.ends[::-1]):
            yield from interface_claims(end, *_wire(self, end, other))

    def audit(self, desired: Desired) -> Iterable[Issue]:
        yield from audit_interface(self, self.address, desired)
        yield from audit_interface(self.peer, self.address, desired, "peer.")
        yield from interfaces_of(desired).overlaps.get(self.address, ())

    # -- comparing --------------------------------------------------------------------------------

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        if not isinstance(current, Veth):
            return []
        before = last if isinstance(last, Veth) else None
        changes = interface_changes(self, current, before)
        return changes + interface_changes(self.peer, current.peer, before.peer if before else None, "peer.")

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        if not isinstance(current, Veth):
            return self
        changed = {change.field for change in changes}
        of_peer = {name.removeprefix("peer.") for name in changed if name.startswith("peer.")}
        merged = merged_interface(self, current, changed)
        merged["peer"] = Peer.model_construct(**merged_interface(self.peer, current.peer, of_peer))
        return Veth.model_construct(**merged)

    def summary(self) -> list[tuple[str, str]]:
        rows = interface_summary(self)
        peer = [place_name(self.peer.netns, self.peer.name)]
        declared = dict(interface_summary(self.peer))
        details = [declared.pop(name) for name in ("addresses", "routes") if name in declared]
        details += [f"{name} {text}" for name, text in declared.items()]
        if details:
            peer.append(", ".join(details))
        return [*rows, ("peer", "  ".join(peer))]

    def checks(self) -> Iterable[Check]:
        yield from interface_checks(self, f"{self.address}")
        title = f"veth/{place_name(self.peer.netns, self.peer.name)}"
        yield from interface_checks(self.peer, title)
        far = place_name(self.peer.netns, self.peer.name)
        yield Check(
            f"{self.address} leads to {far}",
            f"near = interface(host, {self.netns!r}, {self.name!r})\n"
            f"far = interface(host, {self.peer.netns!r}, {self.peer.name!r})\n"
            "assert near['linkinfo']['info_kind'] == 'veth'\n"
            "assert near.get('link_index', far['ifindex']) == far['ifindex']\n"
            "assert far.get('link_index', near['ifindex']) == near['ifindex']\n"
            f"assert near.get('link', {self.peer.name!r}) == {self.peer.name!r}",
        )


def _wire(veth: Veth, end: Port, other: Port) -> tuple[Any, str]:
    """The layer 2 segment that an end's addresses are on: a bridge, or the two ends alone."""
    for port in (end, other):
        if port.master:
            return ("bridge", port.netns, port.master), f"the bridge {place_name(port.netns, port.master)}"
    return ("veth", veth.netns, veth.name), f"the wire of {veth.address}"


class VethDriver(Driver[Veth]):
    """Makes, reads and removes pairs."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Veth]:
        from provisioner.host.interfaces import read_state

        network = host.network
        wanted = {address: [s for s in specs if isinstance(s, Veth)] for address, specs in scope.of("veth").items()}
        network.prepare(
            netns for address, specs in wanted.items() for netns in (address.netns, *(s.peer.netns for s in specs))
        )
        near = {
            address: link
            for address in wanted
            if network.exists(address.netns)
            and (link := network.links(address.netns).get(address.name)) is not None
            and link.kind == "veth"
        }
        _learn_neighbours(network, [(a.netns, [s.peer.netns for s in wanted[a]]) for a in near])
        for address, link in near.items():
            specs = wanted[address]
            far_netns, far = _other_end(network, address.netns, link, [(s.peer.netns, s.peer.name) for s in specs])

            if far is None:
                peer = Peer.model_construct(name="?", netns=far_netns, **_UNKNOWN)
            else:
                at = far_netns
                state = read_state(network, at, far, [s.peer for s in specs], claimed_elsewhere(scope, address, at))
                peer = Peer.model_construct(name=far.name, netns=at, **state._asdict())
            own = read_state(network, address.netns, link, specs, claimed_elsewhere(scope, address, address.netns))
            yield Veth.model_construct(name=address.name, netns=address.netns, peer=peer, **own._asdict())

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        if not steps:
            return
        if steps[0].action is Action.DELETE:
            yield from _delete(host.network, steps)
        elif steps[0].action is Action.CREATE:
            size = max(host.network.room // 2, 1)  # a pair's message names a namespace that must stay open
            for start in range(0, len(steps), size):
                yield from _create(host.network, steps[start : start + size])
        else:
            yield from _update(host.network, steps)


#: An end that is out of sight, in a namespace without a name: it exists, and no more is known of it.
_UNKNOWN: dict[str, Any] = {
    "mtu": None,
    "macaddress": None,
    "addresses": None,
    "routes": None,
    "up": True,
    "master": None,
}


def _learn_neighbours(network: Network, pairs: Iterable[tuple[str | None, Sequence[str | None]]]) -> None:
    """Ask once for each namespace by what numbers it knows the others that its veths should lead to."""
    by_netns: dict[str | None, dict[str | None, None]] = {}
    for netns, others in pairs:
        by_netns.setdefault(netns, {}).update(dict.fromkeys(other for other in others if other != netns))
    for netns, others_of in by_netns.items():
        network.nsids(netns, others_of)


def _other_end(
    network: Network, netns: str | None, link: Link, expected: Sequence[tuple[str | None, str]]
) -> tuple[str | None, Link | None]:
    """The namespace and the link that a veth leads to: first where it should, then anywhere."""
    for other, name in dict.fromkeys(expected):
        if _leads_to(network, netns, link, other):
            found = network.links(other).get(name)
            if found is not None and found.ifindex == link.link:
                return other, found
    for other in _homes(network, netns, link):
        for candidate in network.links(other).values():
            if candidate.ifindex == link.link:
                return other, candidate
    return None, None


def _homes(network: Network, netns: str | None, link: Link) -> Iterator[str | None]:
    """The namespace that a veth's other end is in, if it has a name."""
    if link.link_nsid is None:
        yield netns
        return
    names: list[str | None] = [None, *sorted(network.names())]
    for other, number in network.nsids(netns, names).items():
        if number == link.link_nsid and network.exists(other):
            yield other


def _leads_to(network: Network, netns: str | None, link: Link, other: str | None) -> bool:
    if link.link_nsid is None:
        return other == netns
    return other != netns and network.exists(other) and network.nsids(netns, [other])[other] == link.link_nsid


def _delete(network: Network, steps: Sequence[Step]) -> Iterator[StepResult]:
    from provisioner.host.interfaces import delete_links

    outcome = delete_links(network, [(step.address.netns, step.address.name) for step in steps])
    for step, failure in zip(steps, outcome, strict=True):
        yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)


def _create(network: Network, steps: Sequence[Step]) -> Iterator[StepResult]:
    """Make all pairs, each with its peer in the peer's namespace, then give all ends what else they have."""
    from provisioner.host.interfaces import Failure, Shaping, State, bare, create_links, shape

    pairs = [step.after for step in steps if isinstance(step.after, Veth)]
    network.prepare(end.netns for pair in pairs for end in pair.ends)
    failures: list[Failure | None] = []
    wanted, made = [], []
    for pair in pairs:
        packed = _pack(network, pair)
        failures.append(packed if isinstance(packed, Failure) else None)
        if not isinstance(packed, Failure):
            called = f"the veth {place_name(pair.netns, pair.name)} to {place_name(pair.peer.netns, pair.peer.name)}"
            wanted.append((pair.netns, called, packed))
            made.append(len(failures) - 1)
    for index, failure in zip(made, create_links(network, wanted), strict=True):
        failures[index] = failure
    network.forget()  # the far ends came into namespaces to which nothing was sent
    shapings: dict[int, tuple[Shaping, Shaping]] = {}
    for index, pair in enumerate(pairs):
        if failures[index] is None:
            near = Shaping(pair.netns, pair.name, bare(pair, master=True), State.of(pair))
            far = Shaping(pair.peer.netns, pair.peer.name, bare(pair.peer), State.of(pair.peer))
            shapings[index] = near, far
    shape(network, [near for near, _ in shapings.values()] + [far for _, far in shapings.values()])
    for index, (near, far) in shapings.items():
        failures[index] = near.failure or far.failure
    for step, failure in zip(steps, failures, strict=True):
        yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)


def _pack(network: Network, pair: Veth) -> Any:
    """The message that makes a pair, or why it cannot be sent."""
    from provisioner.host import messages as m
    from provisioner.host.interfaces import Failure

    for end in pair.ends:
        called = place_name(end.netns, end.name)
        if not network.exists(end.netns):
            return Failure(f"cannot make the veth end {called}: there is no namespace {end.netns}", 2)
        if end.master and end.master not in network.links(end.netns):
            return Failure(f"cannot make {called} a port: there is no bridge {place_name(end.netns, end.master)}", 19)
    peer = pair.peer
    descriptor = network.descriptor(peer.netns) if peer.netns != pair.netns else None
    data = m.veth_data(peer.name, descriptor, mtu=peer.mtu, mac=peer.macaddress)
    master = network.links(pair.netns)[pair.master].ifindex if pair.master else None
    return m.link_create(pair.name, "veth", data, mtu=pair.mtu, mac=pair.macaddress, master=master)


def _update(network: Network, steps: Sequence[Step]) -> Iterator[StepResult]:
    from provisioner.host.interfaces import Shaping, State, shape

    shapings = []
    for step in steps:
        before, after = step.before, step.after
        if not isinstance(before, Veth) or not isinstance(after, Veth):
            raise TypeError(f"the step for {step.address} is no update of a veth")
        changed = [change.field for change in step.changes]
        for prefix, old, new in (("", before, after), ("peer.", before.peer, after.peer)):
            fields = [name.removeprefix(prefix) for name in changed if name.startswith("peer.") is bool(prefix)]
            state = State.of(new)._replace(**reset_fields(new, fields))
            shapings.append(Shaping(new.netns, new.name, State.of(old), state))
    shape(network, shapings)
    for index, step in enumerate(steps):
        failure = shapings[2 * index].failure or shapings[2 * index + 1].failure
        yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)


register(Veth, VethDriver())
