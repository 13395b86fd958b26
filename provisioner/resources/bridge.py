"""The kind ``bridge``: Linux bridges, on the host or in a namespace."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, ValidationInfo, field_validator

from provisioner.model import Action, Change, Check, Driver, Effect, Issue, Resource, StepResult, bad, jsonable, spec
from provisioner.network import (
    MAX_BRIDGE_PORTS,
    Interface,
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
    from provisioner.model import Address, Claim, Desired, Scope, Step

__all__ = ["Bridge"]


def _seconds(value: Any) -> Any:
    """Hundredths are what the kernel keeps of a time; whole seconds are whole numbers."""
    if isinstance(value, str):
        try:
            value = float(value.removesuffix("s"))
        except ValueError:
            raise bad(f"'{value}' is no time in seconds", "a number, as in 15 or 0.5") from None
    if isinstance(value, float):
        value = round(value, 2)
        return int(value) if value == int(value) else value
    return value


Seconds = Annotated[int | float, BeforeValidator(_seconds)]


class Option(NamedTuple):
    """A bridge's own setting: its attribute in the kernel, its size, what it counts in, and its default."""

    attribute: int
    size: int
    unit: int
    default: Any


#: From the kernel's if_link.h (IFLA_BR_*). Times are in hundredths of a second.
OPTIONS = {
    "forward_delay": Option(1, 4, 100, 15),
    "hello_time": Option(2, 4, 100, 2),
    "max_age": Option(3, 4, 100, 20),
    "ageing_time": Option(4, 4, 100, 300),
    "stp": Option(5, 4, 0, False),
    "priority": Option(6, 2, 1, 32768),
    "vlan_filtering": Option(7, 1, 0, False),
    "group_fwd_mask": Option(9, 2, 1, 0),
    "mcast_snooping": Option(23, 1, 0, True),
    "mcast_querier": Option(25, 1, 0, False),
}
#: What the protocol takes; without it only the kernel's own bounds hold.
_STP_RANGES = {"forward_delay": (2, 30), "hello_time": (1, 10), "max_age": (6, 40)}


class Bridge(Interface, Resource):
    """A switch in the kernel, which interfaces become ports of by their ``master``."""

    kind: ClassVar[str] = "bridge"

    stp: bool | None = spec(doc="whether it speaks the spanning tree protocol")
    priority: int | None = spec(doc="its bridge priority, lower wins the election of the root", ge=0, le=65535)
    forward_delay: Seconds | None = spec(doc="seconds from a port's coming up until it forwards", examples=[15])
    hello_time: Seconds | None = spec(doc="seconds between the root's hello messages")
    max_age: Seconds | None = spec(doc="seconds until a silent root is given up")
    ageing_time: Seconds | None = spec(doc="seconds that a learned address is kept; 0 makes a hub", ge=0)
    vlan_filtering: bool | None = spec(doc="whether it looks at VLAN tags")
    group_fwd_mask: int | None = spec(
        doc="which link-local groups it forwards: bit n is 01:80:c2:00:00:0n", ge=0, le=0xFFFF
    )
    mcast_snooping: bool | None = spec(doc="whether it learns which ports want which multicast groups")
    mcast_querier: bool | None = spec(doc="whether it asks for multicast group members itself")

    @field_validator(*_STP_RANGES)
    @classmethod
    def _in_range(cls, value: float | None, info: ValidationInfo) -> float | None:
        low, high = _STP_RANGES[str(info.field_name)]
        if info.field_name == "forward_delay" and not info.data.get("stp"):
            low = 0  # without the protocol there is nothing to wait for
        if value is not None and not low <= value <= high:
            raise bad(f"{info.field_name} is {value} seconds, and the kernel takes {low} to {high}")
        return value

    @field_validator("group_fwd_mask")
    @classmethod
    def _not_the_reserved(cls, value: int | None) -> int | None:
        if value is not None and value & 0x7:
            raise bad(
                f"group_fwd_mask {value:#x} forwards STP, pause or LACP frames, which the kernel never does",
                "leave out the three lowest bits",
            )
        return value

    # -- relations --------------------------------------------------------------------------------

    def provides(self) -> Iterable[Address]:
        yield interface_address(self.netns, self.name)
        yield any_interface(self.netns)

    def claims(self) -> Iterable[Claim]:
        segment = ("bridge", self.netns, self.name)
        return interface_claims(self, segment, f"the bridge {place_name(self.netns, self.name)}")

    def audit(self, desired: Desired) -> Iterable[Issue]:
        wiring = interfaces_of(desired)
        ports = wiring.ports.get((self.netns, self.name), 0)
        if ports > MAX_BRIDGE_PORTS:
            yield Issue(
                f"a bridge takes at most {MAX_BRIDGE_PORTS} ports, and {self.name} would have {ports}",
                "name",
                "use a second bridge",
            )
        yield from audit_interface(self, self.address, desired)
        yield from wiring.overlaps.get(self.address, ())

    # -- comparing --------------------------------------------------------------------------------

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        if not isinstance(current, Bridge):
            return []
        before = last if isinstance(last, Bridge) else None
        changes = [c for c in interface_changes(self, current, before) if c.field not in OPTIONS]
        for name, option in OPTIONS.items():
            found, wanted = getattr(current, name), getattr(self, name)
            if wanted is None and before is not None and getattr(before, name) is not None:
                wanted = option.default
            if wanted is not None and wanted != found:
                changes.append(Change(name, jsonable(found), jsonable(wanted), Effect.LIVE))
        return changes

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        if not isinstance(current, Bridge):
            return self
        return Bridge.model_construct(**merged_interface(self, current, {change.field for change in changes}))

    def summary(self) -> list[tuple[str, str]]:
        rows = interface_summary(self)
        for name in OPTIONS:
            value = getattr(self, name)
            if value is not None:
                rows.append((name, ("yes" if value else "no") if isinstance(value, bool) else str(value)))
        return rows

    def checks(self) -> Iterable[Check]:
        title = str(self.address)
        yield from interface_checks(self, title)
        data = f"link(host, {self.netns!r}, {self.name!r})['linkinfo']['info_data']"
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None:
                shown = "stp_state" if name == "stp" else name
                kernel = round(value * (option.unit or 1))
                text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
                # `ip` prints the mask as a number or in hexadecimal, as its version will have it.
                yield Check(f"{title} has {name} {text}", f"assert int(str({data}[{shown!r}]), 0) == {kernel}")


class BridgeDriver(Driver[Bridge]):
    """Makes, reads and removes bridges."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Bridge]:
        from provisioner.host.interfaces import read_state

        network = host.network
        wanted = scope.of("bridge")
        network.prepare(address.netns for address in wanted)
        for address, specs in wanted.items():
            link = network.links(address.netns).get(address.name) if network.exists(address.netns) else None
            if link is None or link.kind != "bridge":
                continue
            mine = [one for one in specs if isinstance(one, Bridge)]

            state = read_state(
                network, address.netns, link, mine, claimed_elsewhere(scope, address, address.netns)
            )._asdict()
            del state["master"]
            state.update(_own_link_fields(network, address.netns, link, mine))
            yield Bridge.model_construct(name=address.name, netns=address.netns, **state, **_options(link))

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        from provisioner.host.interfaces import delete_links

        if not steps:
            return
        if steps[0].action is Action.DELETE:
            outcome = delete_links(host.network, [(step.address.netns, step.address.name) for step in steps])
            for step, failure in zip(steps, outcome, strict=True):
                yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)
        elif steps[0].action is Action.CREATE:
            yield from _create(host.network, steps)
        else:
            yield from _update(host.network, steps)


def _own_link_fields(network: Network, netns: str | None, link: Link, specs: Sequence[Bridge]) -> dict[str, Any]:
    """The MTU and the MAC address, where they are the bridge's own.

    A bridge that was not given any takes both from its ports, and they change as ports come and go: that is
    the kernel's doing, and nothing to put back. So what equals the ports' is reported only where it is managed.
    """
    ports = [one for one in network.links(netns).values() if one.master == link.ifindex]
    mtu: int | None = link.mtu
    mac: str | None = link.mac
    if not any(one.mtu is not None for one in specs) and link.mtu == min((p.mtu for p in ports), default=1500):
        mtu = None
    taken = min((port.mac for port in ports), default="00:00:00:00:00:00")
    if not any(one.macaddress is not None for one in specs) and link.mac in (taken, "00:00:00:00:00:00"):
        mac = None
    return {"mtu": mtu, "macaddress": mac}


def _options(link: Link) -> dict[str, Any]:
    """A bridge's settings from its link's data."""
    from provisioner.host.messages import attributes

    found = attributes(link.data, 0)
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        raw = found.get(option.attribute)
        if raw is None:
            values[name] = None  # a kernel without it
            continue
        number = int.from_bytes(raw[: option.size], sys.byteorder)
        values[name] = bool(number) if option.unit == 0 else _seconds(number / 100) if option.unit == 100 else number
    return values


def _pack(values: dict[str, Any]) -> list[bytes]:
    """The attributes of settings, each message's worth: the protocol first, whose state bounds the others."""
    from provisioner.host.messages import attribute

    packed = {
        name: attribute(
            OPTIONS[name].attribute,
            round(value * (OPTIONS[name].unit or 1)).to_bytes(OPTIONS[name].size, sys.byteorder),
        )
        for name, value in values.items()
    }
    return [packed[name] for name in sorted(packed, key=lambda name: name != "stp")]


def _create(network: Network, steps: Sequence[Step]) -> Iterator[StepResult]:
    from provisioner.host import messages as m
    from provisioner.host.interfaces import Failure, Shaping, State, bare, create_links, shape

    bridges = [step.after for step in steps if isinstance(step.after, Bridge)]
    network.prepare(bridge.netns for bridge in bridges)
    failures: list[Failure | None] = [
        None if network.exists(b.netns) else Failure(f"cannot make {b.address}: there is no namespace {b.netns}", 2)
        for b in bridges
    ]
    wanted, made = [], []
    for index, bridge in enumerate(bridges):
        if failures[index] is None:
            options = {name: value for name in OPTIONS if (value := getattr(bridge, name)) is not None}
            data = b"".join(_pack(options))
            request = m.link_create(bridge.name, "bridge", data, mtu=bridge.mtu, mac=bridge.macaddress)
            wanted.append((bridge.netns, f"the bridge {place_name(bridge.netns, bridge.name)}", request))
            made.append(index)
    for index, failure in zip(made, create_links(network, wanted), strict=True):
        failures[index] = failure
    shapings = {
        index: Shaping(bridge.netns, bridge.name, bare(bridge), State.of(bridge))
        for index, bridge in enumerate(bridges)
        if failures[index] is None
    }
    shape(network, list(shapings.values()))
    for index, shaping in shapings.items():
        failures[index] = shaping.failure
    for step, failure in zip(steps, failures, strict=True):
        yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)


def _update(network: Network, steps: Sequence[Step]) -> Iterator[StepResult]:
    from provisioner.host.interfaces import Shaping, State, shape

    shapings = []
    for step in steps:
        before, after = step.before, step.after
        if not isinstance(before, Bridge) or not isinstance(after, Bridge):
            raise TypeError(f"the step for {step.address} is no update of a bridge")
        changed = {change.field for change in step.changes}
        values = {
            name: option.default if (value := getattr(after, name)) is None else value
            for name, option in OPTIONS.items()
            if name in changed
        }
        state = State.of(after)._replace(**reset_fields(after, changed))
        shaping = Shaping(after.netns, after.name, State.of(before), state, "bridge", _pack(values))
        shapings.append(shaping)
    shape(network, shapings)
    for step, shaping in zip(steps, shapings, strict=True):
        failure = shaping.failure
        yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)


register(Bridge, BridgeDriver())
