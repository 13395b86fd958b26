"""The values that network kinds are written in: names, addresses, routes, and interfaces. Pure.

Owns their canonical forms, so that what is declared and what the kernel reports compare with ``==``, and
the claims and audits that all kinds of interfaces share. Imports nothing of ``host``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator, model_validator

from provisioner.errors import did_you_mean
from provisioner.model import Address, Change, Check, Claim, Effect, Issue, Resource, bad, jsonable, spec

if TYPE_CHECKING:
    from provisioner.model import Desired, Scope

__all__ = [
    "CidrAddress",
    "Destination",
    "Family",
    "Interface",
    "InterfaceName",
    "InterfaceRoute",
    "IpAddress",
    "MacAddress",
    "Mtu",
    "NetnsName",
    "Placed",
    "Port",
    "RouteFields",
    "Table",
    "any_interface",
    "audit_interface",
    "canonical_destination",
    "claimed_elsewhere",
    "family_of",
    "interface_address",
    "interface_changes",
    "interface_checks",
    "interface_claims",
    "interface_summary",
    "interfaces_of",
    "merged_interface",
    "network_of",
    "pack_ip",
    "place_name",
    "reset_fields",
    "route_check",
    "route_claim",
    "table_number",
]

#: The most bytes that Linux takes for an interface's name (IFNAMSIZ without its final zero).
MAX_INTERFACE_NAME = 15
#: The most ports that Linux takes for one bridge.
MAX_BRIDGE_PORTS = 1024

Family = Literal["ipv4", "ipv6"]

# -- names ----------------------------------------------------------------------------------------


def _netns_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        raise bad("a namespace needs a name", "leave 'netns' out to mean the host itself")
    if len(value.encode()) > 255:
        raise bad(f"the namespace name '{value[:20]}…' has {len(value.encode())} bytes; a file name takes at most 255")
    if value in (".", "..") or value.startswith("-") or re.search(r"[/:\s\x00-\x1f]", value):
        raise bad(
            f"'{value}' cannot name a namespace",
            "it becomes a file in /run/netns: no '/', ':', spaces, nor a leading '-'",
        )
    if value == "host":
        raise bad("a namespace cannot be called 'host'", "'host' stands for the host itself in 'expect'")
    return str(value)


def _interface_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    size = len(value.encode())
    if not value:
        raise bad("an interface needs a name")
    if size > MAX_INTERFACE_NAME:
        raise bad(
            f"the interface name '{value}' has {size} bytes; Linux takes at most {MAX_INTERFACE_NAME}",
            f"shorten it, for example to '{value.encode()[:MAX_INTERFACE_NAME].decode(errors='ignore')}'",
        )
    if value in (".", "..") or re.search(r"[/:%\s\x00-\x1f]", value):
        raise bad(f"'{value}' cannot name an interface", "no '/', ':', '%' nor spaces")
    if value in ("all", "default"):
        raise bad(f"an interface cannot be called '{value}'", "the kernel keeps this name for net.ipv4.conf")
    return str(value)


def _own_interface_name(value: Any) -> Any:
    if value == "lo":
        raise bad("every namespace has its interface 'lo' already", "choose another name")
    return value


def _no_master(value: Any) -> Any:
    return value if value == "" else _interface_name(value)


NetnsName = Annotated[str, BeforeValidator(_netns_name)]
InterfaceName = Annotated[str, BeforeValidator(_interface_name)]
#: The bridge that an interface is a port of; an empty text is none.
MasterName = Annotated[str, BeforeValidator(_no_master)]

# -- addresses ------------------------------------------------------------------------------------


def family_of(text: str) -> Family:
    """The family of an address or network that is canonical already."""
    return "ipv6" if ":" in text else "ipv4"


def pack_ip(text: str) -> bytes:
    """An address as the bytes that the kernel takes. Raises OSError for what is none."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _canonical_ip(text: str) -> str:
    try:
        packed = pack_ip(text)
    except (OSError, ValueError):
        raise bad(f"'{text}' is not an IP address", _address_hint(text)) from None
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)


def _address_hint(text: str) -> str | None:
    if re.fullmatch(r"[0-9.]+", text):
        parts = text.split(".")
        if any(len(part) > 1 and part.startswith("0") for part in parts):
            return "write the numbers without leading zeros"
        if len(parts) != 4 or "" in parts:
            return "an IPv4 address has four numbers, as in 10.0.0.1"
        return "each number of an IPv4 address is at most 255"
    if "/" in text:
        return "an address without a prefix length is wanted here"
    return None


def _split_prefix(text: str) -> tuple[str, int, int]:
    """The address, the prefix length, and the family's greatest; a bare address gets the greatest."""
    address, slash, length = text.partition("/")
    address = _canonical_ip(address.strip())
    width = 128 if ":" in address else 32
    if not slash:
        return address, width, width
    if not length.isdigit() or int(length) > width:
        raise bad(
            f"'/{length}' is not a prefix length of an {'IPv6' if width == 128 else 'IPv4'} address",
            f"a number from 0 to {width}" if "." not in length else f"write /{_mask_length(length)} for the netmask",
        )
    return address, int(length), width


def _mask_length(mask: str) -> int:
    try:
        return bin(int.from_bytes(pack_ip(mask))).count("1")
    except OSError:
        return 24


def _ip_address(value: Any) -> Any:
    return _canonical_ip(value.strip()) if isinstance(value, str) else value


def _cidr_address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "/" not in value:
        address = _canonical_ip(value.strip())
        raise bad(
            f"the address '{value}' has no prefix length",
            f"write {address}/{64 if ':' in address else 24}, or whatever the network's length is",
        )
    address, length, width = _split_prefix(value)
    number = int.from_bytes(pack_ip(address))
    if number == 0:
        raise bad(f"'{value}' is the unspecified address", "an interface needs an address of its own")
    if width == 32 and length < 31 and number & ~_mask(length, 32) == 0:
        raise bad(
            f"'{value}' is the address of the network itself", "give the interface one of the network's addresses"
        )
    if width == 32 and length < 31 and number | _mask(length, 32) == 0xFFFFFFFF:
        raise bad(f"'{value}' is the network's broadcast address", "give the interface one of the network's addresses")
    if address.startswith("ff") if width == 128 else number >> 28 == 0xE:
        raise bad(f"'{value}' is a multicast address", "an interface needs an address of its own")
    return f"{address}/{length}"


def _mask(length: int, width: int) -> int:
    return ((1 << width) - 1) ^ ((1 << (width - length)) - 1)


def network_of(text: str) -> tuple[Family, int, int]:
    """The family, the first and the last address (as numbers) of a network or of an address' network."""
    address, slash, length = text.partition("/")
    width = 128 if ":" in address else 32
    mask = _mask(int(length) if slash else width, width)
    first = int.from_bytes(pack_ip(address)) & mask
    return ("ipv6" if width == 128 else "ipv4"), first, first | (mask ^ ((1 << width) - 1))


def _destination(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.strip() == "default":
        return "default"
    address, length, width = _split_prefix(value)
    number = int.from_bytes(pack_ip(address))
    masked = number & _mask(length, width)
    if masked != number:
        right = socket.inet_ntop(socket.AF_INET6 if width == 128 else socket.AF_INET, masked.to_bytes(width // 8))
        raise bad(f"'{value}' has bits set beyond its prefix length", f"did you mean {right}/{length}?")
    return address if length == width else f"{address}/{length}"


def canonical_destination(text: str) -> str:
    """A route's destination in its canonical form; the defaults of both families are ``default``."""
    try:
        found = str(_destination(text))
    except ValueError:
        return text  # the field's own validation says what is wrong with it
    return "default" if found in ("0.0.0.0/0", "::/0") else found


def _mac_address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().lower().replace("-", ":")
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise bad(f"'{value}' is not a MAC address", "six pairs of hexadecimal digits, as in 02:00:00:00:00:01")
    if int(text[:2], 16) & 1:
        raise bad(f"the MAC address '{value}' is a multicast address", "the first pair of digits must be even")
    if text == "00:00:00:00:00:00":
        raise bad("the MAC address of all zeros cannot be set", "for example 02:00:00:00:00:01")
    return text


def _mtu(value: Any) -> Any:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and not 68 <= value <= 65535:
        raise bad(f"the MTU {value} is out of range", "from 68 (1280 where IPv6 is used) to 65535")
    return value


IpAddress = Annotated[str, BeforeValidator(_ip_address)]
CidrAddress = Annotated[str, BeforeValidator(_cidr_address)]
Destination = Annotated[str, BeforeValidator(_destination)]
MacAddress = Annotated[str, BeforeValidator(_mac_address)]
Mtu = Annotated[int, BeforeValidator(_mtu)]

# -- routes ---------------------------------------------------------------------------------------

_TABLES = {"local": 255, "main": 254, "default": 253}


def _table(value: Any) -> Any:
    """A routing table's canonical form: None is main, the kernel's other names stay names, the rest are numbers."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if value in ("main", 254):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 0xFFFFFFFF:
            raise bad(f"the routing table {value} is out of range", "from 1 to 4294967295")
        return {255: "local", 253: "default"}.get(value, value)
    if isinstance(value, str) and value not in _TABLES:
        hint = did_you_mean(value, _TABLES)
        raise bad(f"'{value}' is not a routing table", f"a number, or main, local or default; {hint}" if hint else None)
    return value


#: None is the main table.
Table = Annotated[int | Literal["local", "default"] | None, BeforeValidator(_table)]


def table_number(table: int | str | None) -> int:
    """The kernel's number of a canonical table."""
    if table is None:
        return 254
    return table if isinstance(table, int) else _TABLES[table]


class RouteFields(BaseModel):
    """What every route has: where it leads, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    to: Destination = spec(
        ..., doc="the network that it leads to; `default` is every address", examples=["default", "10.1.0.0/16"]
    )
    via: IpAddress | None = spec(doc="the gateway; left out where the network is on the link itself")
    metric: int | None = spec(doc="the lower it is, the more it is preferred", ge=0, le=0xFFFFFFFF)
    table: Table = spec(doc="the routing table: a number, or main, local, default", examples=[100])
    src: IpAddress | None = spec(doc="the source address that packets get which have none yet")
    scope: Literal["global", "link", "host"] | None = spec(
        doc="how far the destination is; global with a gateway, link without"
    )
    onlink: bool = spec(False, doc="take the gateway to be on the link, whatever the interface's addresses say")
    mtu: Mtu | None = spec(doc="the largest packet that this route takes")
    family: Family | None = spec(
        doc="ipv4 or ipv6; told by the addresses, and needed for a `default` without any", validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _default_of_a_family(cls, data: Any) -> Any:
        """0.0.0.0/0 and ::/0 are the default of their family."""
        if isinstance(data, Mapping) and data.get("to") in ("0.0.0.0/0", "::/0"):
            family = family_of(data["to"])
            if data.get("family", family) != family:
                raise bad(f"{data['to']} is not of the family {data['family']}")
            return {**data, "to": "default", "family": family}
        return data

    @field_validator("via", "src")
    @classmethod
    def _one_family(cls, value: str | None, info: ValidationInfo) -> str | None:
        to = info.data.get("to")
        if value is None or to is None:
            return value
        family = family_of(value)
        if to != "default" and family_of(to) != family:
            raise bad(
                f"{value} is {_FAMILY_NAMES[family]}, but {to} is {_FAMILY_NAMES[family_of(to)]}",
                "a route is of one family",
            )
        via = info.data.get("via")
        if info.field_name == "src" and via and family_of(via) != family:
            raise bad(f"the source {value} and the gateway {via} are not of one family", "a route is of one family")
        if int.from_bytes(pack_ip(value)) == 0:
            raise bad(f"{value} is no host's address", "leave it out where there is none")
        return value

    @field_validator("family")
    @classmethod
    def _family_told(cls, value: Family | None, info: ValidationInfo) -> Family | None:
        to = info.data.get("to")
        known = next(
            (t for t in (to if to != "default" else None, info.data.get("via"), info.data.get("src")) if t), None
        )
        if known is None:
            if value is None and to == "default":
                raise bad("whose default route, IPv4's or IPv6's?", "give 'via', or 'family: ipv4' or 'family: ipv6'")
            return value
        if value is not None and value != family_of(known):
            raise bad(f"{known} is not of the family {value}", "leave 'family' out: the addresses tell it")
        return family_of(known)

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        """Say the kernel's defaults by leaving them out."""
        if self.family == "ipv6" and self.scope not in (None, "global"):
            raise bad(f"an IPv6 route has no scope '{self.scope}'", "leave 'scope' out")
        if self.metric == (1024 if self.family == "ipv6" else 0) or (self.family == "ipv6" and self.metric == 0):
            self.__dict__["metric"] = None
        if self.scope == ("global" if self.via or self.family == "ipv6" or not self._on_a_link() else "link"):
            self.__dict__["scope"] = None
        if self.onlink and self.via is None:
            raise bad("'onlink' speaks of the gateway, and there is no 'via'", "give 'via', or leave 'onlink' out")
        return self

    def _on_a_link(self) -> bool:
        """Whether it leads through an interface, as all do but those that throw packets away."""
        return True

    def text(self) -> str:
        """The route as ``ip route`` words it."""
        words = [self.to]
        if self.via:
            words += ["via", self.via]
        elif self.to == "default" and self.family == "ipv6":
            words += ["family", "ipv6"]
        for name in ("src", "table", "metric", "scope", "mtu"):
            value = getattr(self, name)
            if value is not None:
                words += [name, str(value)]
        if self.onlink:
            words.append("onlink")
        return " ".join(words)


_FAMILY_NAMES = {"ipv4": "IPv4", "ipv6": "IPv6"}


class InterfaceRoute(RouteFields):
    """A route through the interface that declares it."""


def route_claim(netns: str | None, route: RouteFields) -> Claim:
    """A table has one route to a network at one metric."""
    where = f" of {netns}" if netns else ""
    table = f" in table {route.table}" if route.table else ""
    metric = f" at metric {route.metric}" if route.metric else ""
    key = ("route", netns, table_number(route.table), route.family, route.to, route.metric)
    return Claim(f"the route to {route.to}{table}{metric}{where}", key)


def claimed_elsewhere(scope: Scope, mine: Address, netns: str | None) -> Callable[[RouteFields], bool]:
    """Tells of a route in a namespace whether a resource other than ``mine`` declares it."""
    return lambda route: scope.claimed_by_other(route_claim(netns, route), mine)


# -- interfaces -----------------------------------------------------------------------------------


class Interface(BaseModel):
    """What every interface has, whatever kind it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: Annotated[InterfaceName, BeforeValidator(_own_interface_name)] = spec(
        ..., doc="the interface's name, at most 15 bytes", effect=Effect.REPLACE
    )
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
        if not _is_link_local(host):
            yield Claim(f"the address {host} of {netns or 'the host'}", ("address", netns, host))
        yield Claim(f"the address {host} on {segment_name}", ("segment", segment, host))
    for route in interface.routes or ():
        yield route_claim(netns, route)


def _is_link_local(host: str) -> bool:
    return host.startswith(("fe8", "fe9", "fea", "feb")) and ":" in host


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
    found = f"link(host, {netns!r}, {name!r})"
    state = "up" if interface.up else "down"
    yield Check(
        f"{title} exists and is {state}",
        f"found = {found}\nassert found and ('UP' in found['flags']) is {interface.up}",
    )
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


def route_check(netns: str | None, route: RouteFields, dev: str | None, kind: str = "unicast") -> str:
    """Code that finds a route in what ``ip route`` prints."""
    wanted = {"gateway": route.via, "dev": dev, "prefsrc": route.src}
    table = str(route.table or "main")
    tests = [f"one.get({key!r}) == {value!r}" for key, value in wanted.items() if value is not None]
    metric = route.metric if route.metric is not None else 1024 if route.family == "ipv6" else 0
    # `ip` leaves a metric of 0 out, and shows the type of a route only where it is none of the usual.
    tests.append(f"one.get('metric', 0) == {metric}")
    tests.append(f"one.get('type', 'unicast') == {kind!r}")
    return (
        f"found = [one for one in routes(host, {netns!r}, {table!r}) if one['dst'] == {route.to!r}]\n"
        f"assert any({' and '.join(tests)} for one in found), found"
    )


# -- audits: what is wrong with an interface among the others -------------------------------------


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
            if first != last and not _is_link_local(text):
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
        if route.via is None or route.onlink or interface.addresses is None or _is_link_local(route.via):
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


def merged_interface(wanted: Interface, found: Interface, changed: Collection[str]) -> dict[str, Any]:
    """The fields of ``wanted``; those that neither it manages nor a change names are taken from ``found``."""
    merged = {}
    for name in type(wanted).model_fields:
        own = getattr(wanted, name)
        keep = own is None and name != "netns" and name not in changed
        merged[name] = getattr(found, name, None) if keep else own
    return merged
