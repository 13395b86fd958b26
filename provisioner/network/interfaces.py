"""What every interface has, whatever kind makes it: its fields, claims, differences and facts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from provisioner.model import Address, Change, Check, Claim, Effect, bad, jsonable, spec
from provisioner.network.routes import InterfaceRoute, RouteFields, route_check, route_claim
from provisioner.network.values import (
    CidrAddress,
    MacAddress,
    MasterName,
    Mtu,
    NetnsName,
    OwnInterfaceName,
    is_link_local,
)

__all__ = [
    "Interface",
    "Port",
    "any_interface",
    "interface_address",
    "interface_changes",
    "interface_checks",
    "interface_claims",
    "interface_summary",
    "merged_interface",
    "place_name",
    "reset_fields",
]


class Interface(BaseModel):
    """What every interface has, whatever kind it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: OwnInterfaceName = spec(..., doc="the interface's name, at most 15 bytes", effect=Effect.REPLACE)
    netns: NetnsName | None = spec(
        doc="the namespace that it is in; the host's own where left out", effect=Effect.REPLACE
    )
    mtu: Mtu | None = spec(doc="the largest packet that it takes, in bytes", examples=[1500, 9000])
    macaddress: MacAddress | None = spec(doc="its link-layer address", examples=["02:00:00:00:00:01"])
    addresses: tuple[CidrAddress, ...] | None = spec(
        doc="its IP addresses, each with its prefix length; all of them, once this is given",
        examples=[["10.0.0.2/24", "fd00::2/64"]],
    )
    routes: tuple[InterfaceRoute, ...] | None = spec(
        doc="the static routes through it; all of them, once this is given",
        examples=[[{"to": "default", "via": "10.0.0.1"}]],
    )
    up: bool = spec(True, doc="whether it is administratively up")

    @model_validator(mode="before")
    @classmethod
    def _routes_through_itself(cls, data: Any) -> Any:
        """A route of an interface may name its device, if that is the interface."""
        if not isinstance(data, Mapping) or not isinstance(data.get("routes"), (list, tuple)):
            return data
        routes = data["routes"]
        if not any(isinstance(route, Mapping) and "dev" in route for route in routes):
            return data
        for route in routes:
            if isinstance(route, Mapping) and route.get("dev", data.get("name")) != data.get("name"):
                raise bad(
                    f"a route of {data.get('name')} cannot lead through {route['dev']}",
                    "leave 'dev' out, or declare a 'route:' of its own",
                )
        stripped = [
            {key: value for key, value in route.items() if key != "dev"} if isinstance(route, Mapping) else route
            for route in routes
        ]
        return {**data, "routes": stripped}

    @field_validator("addresses")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: dict[str, str] = {}
        for text in value or ():
            host = text.partition("/")[0]
            if host in seen:
                raise bad(f"the address {host} stands twice here, as {seen[host]} and {text}", "remove one of them")
            seen[host] = text
        return value

    @field_validator("routes")
    @classmethod
    def _one_route_to_each(cls, value: tuple[InterfaceRoute, ...] | None) -> tuple[InterfaceRoute, ...] | None:
        seen: set[Any] = set()
        for route in value or ():
            key = (route.family, route.to, route.table, route.metric)
            if key in seen:
                raise bad(f"two routes to {route.to} here have the same metric", "give one of them another 'metric'")
            seen.add(key)
        return value

    @field_validator("up")
    @classmethod
    def _routes_need_it_up(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and info.data.get("routes"):
            raise bad("an interface that is down has no routes", "leave 'up' out, or 'routes'")
        return value

    @model_validator(mode="after")
    def _ipv6_fits(self) -> Self:
        if self.mtu is not None and self.mtu < 1280 and any(":" in a for a in self.addresses or ()):
            raise bad(f"IPv6 needs an MTU of at least 1280, and {self.name} has {self.mtu}", "raise 'mtu'")
        return self


class Port(Interface):
    """An interface that can be a port of a bridge."""

    master: MasterName | None = spec(doc="the bridge, in the same namespace, that it is a port of")

    @field_validator("master")
    @classmethod
    def _not_itself(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and value == info.data.get("name"):
            raise bad(f"{value} cannot be a port of itself", "name the bridge")
        return value


def place_name(netns: str | None, name: str) -> str:
    """An interface as a person writes it: ``blue:eth0``, or ``br0`` on the host."""
    return f"{netns}:{name}" if netns else name


def interface_address(netns: str | None, name: str) -> Address:
    """What other resources call an interface by, whatever kind makes it."""
    return Address("interface", name, netns)


def any_interface(netns: str | None) -> Address:
    """All interfaces of a namespace together."""
    return Address("interface", "*", netns)


def interface_claims(interface: Interface, segment: Any, segment_name: str) -> Iterator[Claim]:
    """The interface's name, its addresses (in its namespace, and on its wire), and its routes."""
    netns = interface.netns
    yield Claim(f"the interface {place_name(netns, interface.name)}", ("interface", netns, interface.name))
    for text in interface.addresses or ():
        host = text.partition("/")[0]
        if not is_link_local(host):
            yield Claim(f"the address {host} of {netns or 'the host'}", ("address", netns, host))
        yield Claim(f"the address {host} on {segment_name}", ("segment", segment, host))
    for route in interface.routes or ():
        yield route_claim(netns, route)


# -- differences ----------------------------------------------------------------------------------

#: What fields that have left the configuration go back to.
_RESET: Mapping[str, Any] = {"addresses": (), "routes": (), "master": "", "mtu": 1500}


def interface_changes(wanted: Interface, found: Interface, last: Interface | None, prefix: str = "") -> list[Change]:
    """What differs between two states of one interface, field by field; addresses and routes as sets.

    A field that was applied and has left the configuration goes back to what an interface has by itself.
    """
    changes: list[Change] = []
    for name, info in type(wanted).model_fields.items():
        if not isinstance(info.json_schema_extra, Mapping) or name == "peer":
            continue
        extra = info.json_schema_extra
        after, before = getattr(wanted, name), getattr(found, name, None)
        if after is None and name != "netns":
            if name not in _RESET or last is None or getattr(last, name, None) is None:
                continue
            after = _RESET[name]
        if not _same(name, after, before):
            effect = Effect(str(extra["effect"]))
            changes.append(Change(prefix + name, _shown(before), _shown(after), effect))
    return changes


def _same(name: str, after: Any, before: Any) -> bool:
    if after == before:
        return True
    if name in ("addresses", "routes"):
        return before is not None and set(after) == set(before)
    return False


def _shown(value: Any) -> Any:
    """A field as a plan's diff shows it: routes in words, nothing as nothing."""
    if isinstance(value, tuple):
        return [one.text() if isinstance(one, RouteFields) else one for one in value]
    return None if value == "" else jsonable(value)


def reset_fields(after: Interface, changed: Iterable[str]) -> dict[str, Any]:
    """What changed fields go back to which are not managed any more: those that ``after`` has as None."""
    return {name: _RESET[name] for name in changed if name in _RESET and getattr(after, name) is None}


def interface_summary(interface: Interface) -> list[tuple[str, str]]:
    """An interface's declared fields, as a plan shows them when it is created."""
    rows: list[tuple[str, str]] = []
    for name in ("master", "mtu", "macaddress"):
        value = getattr(interface, name, None)
        if value:
            rows.append((name, str(value)))
    if interface.addresses:
        rows.append(("addresses", ", ".join(interface.addresses)))
    if interface.routes:
        rows.append(("routes", ", ".join(route.text() for route in interface.routes)))
    if not interface.up:
        rows.append(("up", "no"))
    return rows


def interface_checks(interface: Interface, title: str) -> Iterator[Check]:
    """The facts of one interface, as ``ip`` must report them."""
    netns, name = interface.netns, interface.name
    found = f"interface(host, {netns!r}, {name!r})"
    state = "up" if interface.up else "down"
    yield Check(f"{title} exists and is {state}", f"assert link_state(host, {netns!r}, {name!r}) == {state!r}")
    if interface.mtu is not None:
        yield Check(f"{title} has the MTU {interface.mtu}", f"assert {found}['mtu'] == {interface.mtu}")
    if interface.macaddress is not None:
        wanted = interface.macaddress
        yield Check(f"{title} has the MAC address {wanted}", f"assert {found}['address'] == {wanted!r}")
    master = getattr(interface, "master", None)
    if master:
        yield Check(f"{title} is a port of {place_name(netns, master)}", f"assert {found}.get('master') == {master!r}")
    for text in interface.addresses or ():
        yield Check(f"{title} has {text}", f"assert {text!r} in addresses(host, {netns!r}, {name!r})")
    for route in interface.routes or ():
        yield Check(f"{title} has the route {route.text()}", route_check(netns, route, name))


def merged_interface(wanted: Interface, found: Interface, changed: Collection[str]) -> dict[str, Any]:
    """The fields of ``wanted``; those that neither it manages nor a change names are taken from ``found``."""
    merged = {}
    for name in type(wanted).model_fields:
        own = getattr(wanted, name)
        keep = own is None and name != "netns" and name not in changed
        merged[name] = getattr(found, name, None) if keep else own
    return merged
