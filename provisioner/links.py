"""What kinds share of which each resource is one interface: a bridge, a dummy link. Spec and driver.

Owns their relations, their differences, and the way from steps to the kernel and back. A kind adds its own
settings: their fields and defaults in the spec, their attributes in the driver. A veth, which is two
interfaces, is none of these.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from provisioner.model import Action, Change, Driver, Effect, Resource, StepResult, jsonable
from provisioner.network import (
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

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.interfaces import Failure
    from provisioner.host.messages import Link
    from provisioner.host.netlink import Network
    from provisioner.model import Address, Check, Claim, Desired, Issue, Scope, Step

__all__ = ["LinkDriver", "LinkResource"]


class LinkResource(Interface, Resource):
    """The spec of a kind whose word is also the kernel's for that type of link."""

    #: The fields that only this type of link has, with what each goes back to once it is not managed any more.
    own_fields: ClassVar[Mapping[str, Any]] = {}

    # -- relations --------------------------------------------------------------------------------

    def provides(self) -> Iterable[Address]:
        yield interface_address(self.netns, self.name)
        yield any_interface(self.netns)

    def claims(self) -> Iterable[Claim]:
        segment = (self.kind, self.netns, self.name)
        return interface_claims(self, segment, f"the {self.kind} {place_name(self.netns, self.name)}")

    def audit(self, desired: Desired) -> Iterable[Issue]:
        yield from audit_interface(self, self.address, desired)
        yield from interfaces_of(desired).overlaps.get(self.address, ())

    # -- comparing --------------------------------------------------------------------------------

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        if not isinstance(current, type(self)):
            return []
        before = last if isinstance(last, type(self)) else None
        changes = [c for c in interface_changes(self, current, before) if c.field not in self.own_fields]
        for name, default in self.own_fields.items():
            found, wanted = getattr(current, name), getattr(self, name)
            if wanted is None and before is not None and getattr(before, name) is not None:
                wanted = default
            if wanted is not None and wanted != found:
                changes.append(Change(name, jsonable(found), jsonable(wanted), Effect.LIVE))
        return changes

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        if not isinstance(current, type(self)):
            return self
        return type(self).model_construct(**merged_interface(self, current, {change.field for change in changes}))

    def summary(self) -> list[tuple[str, str]]:
        rows = interface_summary(self)
        for name in self.own_fields:
            value = getattr(self, name)
            if value is not None:
                rows.append((name, ("yes" if value else "no") if isinstance(value, bool) else str(value)))
        return rows

    def checks(self) -> Iterable[Check]:
        return interface_checks(self, str(self.address))


L = TypeVar("L", bound=LinkResource)


class LinkDriver(Driver[L], Generic[L]):
    """Makes, reads, changes and removes the links of one kind."""

    def __init__(self, resource: type[L]) -> None:
        self.resource = resource

    def read_own(self, network: Network, netns: str | None, link: Link, specs: Sequence[L]) -> Mapping[str, Any]:
        """The fields of a link that are read otherwise than those of any interface: at least its ``own_fields``."""
        return {}

    def pack_own(self, values: Mapping[str, Any]) -> Sequence[bytes]:
        """The kernel's attributes for these of the ``own_fields``, in the order to set them."""
        return ()

    def observe(self, host: Host, scope: Scope) -> Iterable[L]:
        from provisioner.host.interfaces import read_state

        network, kind = host.network, self.resource.kind
        wanted = scope.of(kind)
        network.prepare(address.netns for address in wanted)
        for address, specs in wanted.items():
            netns = address.netns
            link = network.links(netns).get(address.name) if network.exists(netns) else None
            if link is None or link.kind != kind:
                continue
            mine = [one for one in specs if isinstance(one, self.resource)]
            state = read_state(network, netns, link, mine, claimed_elsewhere(scope, address, netns))._asdict()
            fields = {name: value for name, value in state.items() if name in self.resource.model_fields}
            fields.update(self.read_own(network, netns, link, mine))
            yield self.resource.model_construct(name=address.name, netns=netns, **fields)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        from provisioner.host.interfaces import delete_links

        if not steps:
            return
        if steps[0].action is Action.DELETE:
            failures = delete_links(host.network, [(step.address.netns, step.address.name) for step in steps])
        elif steps[0].action is Action.CREATE:
            failures = self._create(
                host.network, [step.after for step in steps if isinstance(step.after, LinkResource)]
            )
        else:
            failures = self._update(host.network, steps)
        for step, failure in zip(steps, failures, strict=True):
            yield StepResult(step.address, failure.message if failure else None, failure.code if failure else 0)

    def _create(self, network: Network, wanted: Sequence[LinkResource]) -> list[Failure | None]:
        """Make all links bare, then give those that could be made what else they have."""
        from provisioner.host import messages as m
        from provisioner.host.interfaces import Failure, Shaping, State, bare, create_links, shape

        network.prepare(one.netns for one in wanted)
        failures: list[Failure | None] = []
        requests, requested = [], []
        for index, one in enumerate(wanted):
            missing = f"cannot make {one.address}: there is no namespace {one.netns}"
            failures.append(None if network.exists(one.netns) else Failure(missing, errno.ENOENT))
            if failures[index] is None:
                # A kernel that lacks a setting refuses even what it would be without it.
                own = {
                    name: value
                    for name, default in one.own_fields.items()
                    if (value := getattr(one, name)) is not None and value != default
                }
                data = b"".join(self.pack_own(own))
                request = m.link_create(one.name, one.kind, data, mtu=one.mtu, mac=one.macaddress)
                requests.append((one.netns, f"the {one.kind} {place_name(one.netns, one.name)}", request))
                requested.append(index)
        for index, failure in zip(requested, create_links(network, requests), strict=True):
            failures[index] = failure
        shapings = {
            index: Shaping(one.netns, one.name, bare(one), State.of(one))
            for index, one in enumerate(wanted)
            if failures[index] is None
        }
        shape(network, list(shapings.values()))
        for index, shaping in shapings.items():
            failures[index] = shaping.failure
        return failures

    def _update(self, network: Network, steps: Sequence[Step]) -> list[Failure | None]:
        from provisioner.host.interfaces import Shaping, State, shape

        shapings = []
        for step in steps:
            before, after = step.before, step.after
            if not isinstance(before, LinkResource) or not isinstance(after, LinkResource):
                raise TypeError(f"the step for {step.address} is no update of a {self.resource.kind}")
            changed = {change.field for change in step.changes}
            own = {
                name: default if (value := getattr(after, name)) is None else value
                for name, default in after.own_fields.items()
                if name in changed
            }
            state = State.of(after)._replace(**reset_fields(after, changed))
            options = self.pack_own(own)
            shapings.append(Shaping(after.netns, after.name, State.of(before), state, after.kind, options))
        shape(network, shapings)
        return [shaping.failure for shaping in shapings]
