"""What every route has, whether an interface declares it or it is a resource of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from provisioner.model import Claim, WholeNumber, bad, spec
from provisioner.network.values import Destination, Family, IpAddress, Mtu, Table, family_of, pack_ip, table_number

if TYPE_CHECKING:
    from provisioner.model import Address, Scope

__all__ = [
    "InterfaceRoute",
    "RouteFields",
    "claimed_elsewhere",
    "route_check",
    "route_claim",
]


class RouteFields(BaseModel):
    """What every route has: where it leads, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    to: Destination = spec(
        ..., doc="the network that it leads to; `default` is every address", examples=["default", "10.1.0.0/16"]
    )
    via: IpAddress | None = spec(doc="the gateway; left out where the network is on the link itself")
    metric: WholeNumber | None = spec(doc="the lower it is, the more it is preferred", ge=0, le=0xFFFFFFFF)
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
                f"{value} is {FAMILY_NAMES[family]}, but {to} is {FAMILY_NAMES[family_of(to)]}",
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


FAMILY_NAMES = {"ipv4": "IPv4", "ipv6": "IPv6"}


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
        f"assert any({' and '.join(tests)} for one in found), route_words(found)"
    )
