"""The kind ``bridge``: Linux bridges, on the host or in a namespace."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, ValidationInfo, field_validator

from provisioner.links import LinkDriver, LinkResource
from provisioner.model import Check, Issue, Number, WholeNumber, bad, spec
from provisioner.network import MAX_BRIDGE_PORTS, interface_checks, interfaces_of
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host.messages import Link
    from provisioner.host.netlink import Network
    from provisioner.model import Desired

__all__ = ["Bridge"]


def _seconds(value: Any) -> Any:
    """Hundredths are what the kernel keeps of a time; whole seconds are whole numbers."""
    if isinstance(value, str):
        try:
            value = float(value.removesuffix("s"))
        except ValueError:
            raise bad(f"'{value}' is no time in seconds", "a number, as in 15 or 0.5") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise bad(f"'{value}' is no time in seconds", "a number, as in 15 or 0.5")
        value = round(value, 2)
        return int(value) if value == int(value) else value
    return value


Seconds = Annotated[Number, BeforeValidator(_seconds)]


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
#: What 32 bits hold of hundredths of a second.
_MAX_SECONDS = 0xFFFFFFFF // 100
#: What the protocol takes; without it only the kernel's own bounds hold.
_STP_RANGES = {"forward_delay": (2, 30), "hello_time": (1, 10), "max_age": (6, 40)}


class Bridge(LinkResource):
    """A switch in the kernel, which interfaces become ports of by their ``master``."""

    kind: ClassVar[str] = "bridge"
    own_fields: ClassVar[Mapping[str, Any]] = {name: option.default for name, option in OPTIONS.items()}

    stp: bool | None = spec(doc="whether it speaks the spanning tree protocol")
    priority: WholeNumber | None = spec(doc="its bridge priority, lower wins the election of the root", ge=0, le=65535)
    forward_delay: Seconds | None = spec(doc="seconds from a port's coming up until it forwards", examples=[15])
    hello_time: Seconds | None = spec(doc="seconds between the root's hello messages")
    max_age: Seconds | None = spec(doc="seconds until a silent root is given up")
    ageing_time: Seconds | None = spec(
        doc="seconds that a learned address is kept; 0 makes a hub", ge=0, le=_MAX_SECONDS
    )
    vlan_filtering: bool | None = spec(doc="whether it looks at VLAN tags")
    group_fwd_mask: WholeNumber | None = spec(
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

    def audit(self, desired: Desired) -> Iterable[Issue]:
        ports = interfaces_of(desired).ports.get((self.netns, self.name), 0)
        if ports > MAX_BRIDGE_PORTS:
            yield Issue(
                f"a bridge takes at most {MAX_BRIDGE_PORTS} ports, and {self.name} would have {ports}",
                "name",
                "use a second bridge",
            )
        yield from super().audit(desired)

    def checks(self) -> Iterable[Check]:
        title = str(self.address)
        yield from interface_checks(self, title)
        data = f"interface(host, {self.netns!r}, {self.name!r})['linkinfo']['info_data']"
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None:
                shown = "stp_state" if name == "stp" else name
                kernel = round(value * (option.unit or 1))
                text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
                # `ip` prints the mask as a number or in hexadecimal, as its version will have it.
                yield Check(f"{title} has {name} {text}", f"assert int(str({data}[{shown!r}]), 0) == {kernel}")


class BridgeDriver(LinkDriver[Bridge]):
    """Reads and writes a bridge's own settings."""

    def read_own(self, network: Network, netns: str | None, link: Link, specs: Sequence[Bridge]) -> Mapping[str, Any]:
        return {**_own_link_fields(network, netns, link, specs), **_options(link)}

    def pack_own(self, values: Mapping[str, Any]) -> Sequence[bytes]:
        """Each setting by itself: the protocol first, whose state bounds the others."""
        from provisioner.host.messages import attribute

        packed = {
            name: attribute(
                OPTIONS[name].attribute,
                round(value * (OPTIONS[name].unit or 1)).to_bytes(OPTIONS[name].size, sys.byteorder),
            )
            for name, value in values.items()
        }
        return [packed[name] for name in sorted(packed, key=lambda name: name != "stp")]


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


register(Bridge, BridgeDriver(Bridge))
