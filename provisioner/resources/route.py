"""The kind ``route``: static routes, of any table, on the host or in a namespace."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, model_validator

from provisioner.errors import did_you_mean
from provisioner.model import (
    Action,
    Address,
    Change,
    Check,
    Driver,
    Effect,
    Issue,
    Resource,
    StepResult,
    bad,
    jsonable,
    spec,
)
from provisioner.network import (
    InterfaceName,
    NetnsName,
    RouteFields,
    any_interface,
    canonical_destination,
    family_of,
    interface_address,
    interfaces_of,
    network_of,
    place_name,
    route_check,
    route_claim,
)
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.messages import RouteEntry
    from provisioner.host.netlink import Network
    from provisioner.model import Claim, Desired, Scope, Step

__all__ = ["Route"]

#: What tells one route of a namespace from another.
_IDENTITY = ("netns", "to", "family", "table", "metric")


class Route(RouteFields, Resource):
    """A static route, apart from the interface that it leads through, or through none at all."""

    kind: ClassVar[str] = "route"
    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "10.21.0.0/24", "via": "192.0.2.11"}]})

    name: str = spec("", doc="told by where it leads; give one to call it otherwise", effect=Effect.REPLACE)
    netns: NetnsName | None = spec(doc="the namespace; the host's own where left out", effect=Effect.REPLACE)
    dev: InterfaceName | None = spec(doc="the interface that it leads through; told by the gateway where left out")
    type: Literal["unicast", "blackhole", "unreachable", "prohibit", "throw"] = spec(
        "unicast", doc="unicast forwards; the others drop, or answer that there is no way"
    )

    @model_validator(mode="before")
    @classmethod
    def _named_by_where_it_leads(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and not data.get("name") and isinstance(data.get("to"), str):
            return {**data, "name": _derived_name(data)}
        return data

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.type == "unicast" and self.via is None and self.dev is None:
            raise bad(f"the route to {self.to} leads nowhere", "give 'via' (a gateway) or 'dev' (an interface)")
        if self.type != "unicast" and (self.via or self.dev):
            raise bad(f"a route of the type {self.type} leads nowhere, and so has no 'via' and no 'dev'")
        return self

    def _on_a_link(self) -> bool:
        return self.type == "unicast"

    # -- relations --------------------------------------------------------------------------------

    def follows(self) -> Iterable[Address]:
        return [self._interface()] if self.type == "unicast" else []

    def lives_in(self) -> Iterable[Address]:
        """Its interface takes it along; where that is not named, it may be any of the namespace."""
        return [*super().lives_in(), *self.follows()]

    def _interface(self) -> Address:
        return interface_address(self.netns, self.dev) if self.dev else any_interface(self.netns)

    def claims(self) -> Iterable[Claim]:
        yield route_claim(self.netns, self)

    def audit(self, desired: Desired) -> Iterable[Issue]:
        """In a namespace that is declared, all interfaces are known: then the way out can be checked."""
        if self.type != "unicast" or Address("netns", self.netns or "") not in desired.resources:
            return
        here = [placed.interface for placed in interfaces_of(desired).by_netns.get(self.netns, ())]
        names = [interface.name for interface in here]
        if self.dev and self.dev != "lo" and self.dev not in names:
            hint = did_you_mean(self.dev, names) or "declare it with a 'veth:' or 'bridge:' task"
            yield Issue(f"{self.netns} has no interface '{self.dev}'", "dev", hint)
        elif self.via and not self.onlink and not self._reachable(desired):
            yield Issue(
                f"no interface of {self.netns} has an address in the network of the gateway {self.via}",
                "via",
                "give one an address in the gateway's network, or say 'onlink: true'",
            )

    def _reachable(self, desired: Desired) -> bool:
        here = [placed.interface for placed in interfaces_of(desired).by_netns.get(self.netns, ())]
        assert self.via is not None
        if self.via.startswith("fe80:") or any(interface.addresses is None for interface in here):
            return True
        networks = [text for interface in here for text in interface.addresses or ()]
        networks += [r.to for interface in here for r in interface.routes or () if r.via is None]
        for declared in desired.of(self.kind):
            other = declared.resource
            if isinstance(other, Route) and other.netns == self.netns and other.via is None and other is not self:
                networks.append(other.to)
        return any(covers(text, self.via) for text in networks if text != "default")

    # -- comparing --------------------------------------------------------------------------------

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        """A route is compared whole: what is left out is not there. Only its interface may be the kernel's choice."""
        changes = []
        for name in type(self).model_fields:
            wanted, found = getattr(self, name), getattr(current, name)
            if wanted == found or name == "name" or (name == "dev" and wanted is None):
                continue
            effect = Effect.REPLACE if name in _IDENTITY else Effect.LIVE
            changes.append(Change(name, jsonable(found), jsonable(wanted), effect))
        return changes

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        return self

    def summary(self) -> list[tuple[str, str]]:
        words = self.text() if self.type == "unicast" else f"{self.type} {self.text()}"
        return [("route", f"{words} dev {self.dev}" if self.dev else words)]

    def checks(self) -> Iterable[Check]:
        yield Check(f"{self.address} is there", route_check(self.netns, self, self.dev, self.type))


def covers(network: str, address: str) -> bool:
    """Whether an address is in a network."""
    family, first, last = network_of(network)
    other, number, _ = network_of(address)
    return family == other and first <= number <= last


def _derived_name(data: Mapping[str, Any]) -> str:
    """Where a route leads, and what else tells it from others: ``10.1.0.0/16``, ``default table 100``."""
    to = canonical_destination(data["to"])
    if to == "default":
        told = data.get("family") or next((family_of(str(data[key])) for key in ("via", "src") if data.get(key)), "")
        if told == "ipv6" or data["to"] == "::/0":
            to = "::/0"
    for key in ("table", "metric"):
        value = data.get(key)
        if value is not None and str(value) not in ("main", "254"):
            to += f" {key} {value}"
    return to


class RouteDriver(Driver[Route]):
    """Makes, reads and removes routes."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Route]:
        wanted = scope.of("route")
        host.network.prepare(address.netns for address in wanted)
        for address, specs in wanted.items():
            found = _find(host.network, address.netns, [one for one in specs if isinstance(one, Route)])
            if found is not None:
                yield _observed(host.network, address, found)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        results: dict[Address, StepResult] = {}
        by_netns: dict[str | None, list[Step]] = {}
        for step in steps:
            by_netns.setdefault(step.address.netns, []).append(step)
        host.network.prepare(by_netns)
        for netns, some in by_netns.items():
            for result in _carry_out_in(host.network, netns, some):
                results[result.address] = result
        for step in steps:
            yield results[step.address]


def _find(network: Network, netns: str | None, specs: Sequence[Route]) -> RouteEntry | None:
    """The route of a namespace that specs speak of: the nearest, where there are several."""
    if not specs or not network.exists(netns):
        return None
    identities = [(one.table, str(one.family), one.to, one.metric) for one in specs]
    routes = network.wished_routes(netns, identities)
    names = network.link_names(netns)
    for one, identity in zip(specs, identities, strict=True):
        same = routes.get(identity)
        if same:
            return max(same, key=lambda e: (e.via == one.via) + (one.dev in (None, names.get(e.ifindex or 0))))
    return None


def _observed(network: Network, address: Address, entry: RouteEntry) -> Route:
    dev = network.link_names(address.netns).get(entry.ifindex) if entry.ifindex else None
    return Route.model_construct(name=address.name, netns=address.netns, dev=dev, type=entry.kind, **entry.fields())


def _carry_out_in(network: Network, netns: str | None, steps: Sequence[Step]) -> Iterator[StepResult]:
    from provisioner.host import messages as m

    delete = steps[0].action is Action.DELETE
    command = "delete" if delete else "add" if steps[0].action is Action.CREATE else "replace"
    if not network.exists(netns):
        for step in steps:
            words = None if delete else f"cannot {command} the route: there is no namespace {netns}"
            yield StepResult(step.address, words, 0 if delete else errno.ENOENT)
        return
    links = network.links(netns)
    tried, requests = [], []
    # A route on the link comes before those whose gateway it leads to, and goes after them.
    for step in sorted(steps, key=lambda step: (_route_of(step).via is not None) is not delete):
        route = _route_of(step)
        if route.dev is not None and route.dev not in links:
            words = None if delete else f"{_does(command, step)}: no interface {place_name(netns, route.dev)}"
            yield StepResult(step.address, words, 0 if delete else errno.ENODEV)
            continue
        index = links[route.dev].ifindex if route.dev is not None else None
        tried.append(step)
        requests.append(m.route_change(command, route, index, route.type))
    for step, refusal in zip(tried, network.request(netns, requests), strict=True):
        if refusal is None or (delete and refusal.code in (errno.ESRCH, errno.ENODEV)):
            yield StepResult(step.address)
        else:
            yield StepResult(step.address, f"{_does(command, step)}: {refusal}", refusal.code)


def _route_of(step: Step) -> Route:
    route = step.before if step.action is Action.DELETE else step.after
    if not isinstance(route, Route):
        raise TypeError(f"the step for {step.address} has no route")
    return route


def _does(command: str, step: Step) -> str:
    words = {"add": "add", "replace": "change", "delete": "remove"}[command]
    where = f" in {step.address.netns}" if step.address.netns else ""
    return f"cannot {words} the route {_route_of(step).text()}{where}"


register(Route, RouteDriver())
