"""The kind ``netns``: persistent named network namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from provisioner.model import Action, Address, Check, Driver, Effect, Resource, StepResult, spec
from provisioner.network import NetnsName
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.model import Scope, Step

__all__ = ["Netns"]


class Netns(Resource):
    """A network namespace with a name, which lasts until it is deleted, as ``ip netns add`` makes it."""

    kind: ClassVar[str] = "netns"

    name: NetnsName = spec(..., doc="the name, a file in /run/netns", examples=["blue"])
    loopback: bool = spec(True, doc="whether its own interface `lo` is up")

    owner: NetnsName | None = spec(
        None,
        effect=Effect.REPLACE,
        doc="the pinned user namespace (`namespace` of type user) that owns it: its root configures it, and may listen "
        "on ports below 1024 in it",
        examples=["web"],
    )

    def requires(self) -> Iterable[Address]:
        return self.lives_in()

    def lives_in(self) -> Iterable[Address]:
        return [Address("namespace", f"user/{self.owner}")] if self.owner else []

    def summary(self) -> list[tuple[str, str]]:
        shown = [("owner", self.owner)] if self.owner else []
        return shown if self.loopback else [*shown, ("loopback", "no")]

    def checks(self) -> Iterable[Check]:
        yield Check(f"{self.address} exists", f"assert {self.name!r} in netns_list(host)")
        state = "up" if self.loopback else "down"
        yield Check(
            f"{self.address} has its loopback {state}", f"assert link_state(host, {self.name!r}, 'lo') == {state!r}"
        )
        if self.owner:
            yield Check(
                f"{self.address} is owned by the user namespace {self.owner}",
                f"assert owned_by(host, {self.name!r}, {self.owner!r})",
            )


class NetnsDriver(Driver[Netns]):
    """Makes, reads and removes named namespaces."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Netns]:
        wanted = scope.of("netns")
        host.network.prepare(address.name for address in wanted)
        for address in wanted:
            if host.network.exists(address.name):
                loopback = host.network.links(address.name)["lo"].up
                owned = any(isinstance(one, Netns) and one.owner for one in wanted[address])
                owner = host.network.owner(address.name) if owned else None
                yield Netns.model_construct(name=address.name, loopback=loopback, owner=owner)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        if not steps:
            return
        names = [step.address.name for step in steps]
        if steps[0].action is Action.DELETE:
            outcome = host.network.delete_namespaces(names)
        elif steps[0].action is Action.CREATE:
            outcome = host.network.create_namespaces(
                names, [_loopback(step) for step in steps], [getattr(step.after, "owner", None) for step in steps]
            )
        else:
            outcome = [host.network.set_loopback(step.address.name, _loopback(step)) for step in steps]
        for step, error in zip(steps, outcome, strict=True):
            yield StepResult(step.address, str(error) if error else None, error.code if error else 0)


def _loopback(step: Step) -> bool:
    return not isinstance(step.after, Netns) or step.after.loopback


register(Netns, NetnsDriver())
