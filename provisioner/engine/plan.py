"""Compares what is desired with what is there, and says every step that makes them equal. Pure.

``make_plan`` is the only maker of steps: an apply, a destroy and a rollback differ in what they call
desired and what they call owned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from provisioner.engine.graph import dependents, levels
from provisioner.engine.manifest import last_applied
from provisioner.errors import NsprovError, Source
from provisioner.model import Action, Change, Effect, Plan, Scope, Step, digest
from provisioner.secrets import NO_SECRETS, is_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from provisioner.model import Address, Declared, Desired, Manifest, Resource, Snapshot
    from provisioner.secrets import Paths

__all__ = ["NotOwnedError", "batches", "make_plan", "scope_of", "short"]


class NotOwnedError(NsprovError):
    """The configuration declares what is on the host already, and this project does not own."""


def scope_of(desired: Desired, manifest: Manifest) -> Scope:
    """What an observation must look at: all that is desired, owned, or referred to."""
    specs: dict[Address, tuple[Resource, ...]] = {}
    for address, declared in desired.resources.items():
        last = last_applied(address, manifest.owned.get(address), declared.resource)
        both = last is not None and last is not declared.resource
        specs[address] = (declared.resource, last) if both and last else (declared.resource,)
        for wanted in declared.resource.requires():
            specs.setdefault(wanted, ())
    for address, owned in manifest.owned.items():
        if address not in desired.resources:
            last = last_applied(address, owned, None)
            specs[address] = (last,) if last is not None else ()
    return Scope(specs, undeclared=manifest.owned.keys() - desired.resources.keys())


def make_plan(
    desired: Desired,
    snapshot: Snapshot,
    manifest: Manifest,
    *,
    adopt: bool = False,
    reason_for_delete: str = "it has left the configuration",
) -> Plan:
    """Every step from the snapshot to the desired graph, in an order in which they can be carried out.

    What is owned and no longer desired is deleted, unless ``desired.partial``. What is desired and on the
    host without being owned is taken over when ``adopt``.

    Raises:
        NotOwnedError: something desired is there already and is not this project's. Names all of them.
    """
    _refuse_foreign(desired, snapshot, manifest, adopt)
    work = _Planning(desired, snapshot, manifest)
    for declared in desired.resources.values():
        work.compare(declared)
    if not desired.partial:
        work.delete_what_left(reason_for_delete)
    work.replace_what_goes_with_its_home()
    work.restart_what_is_triggered()
    return Plan(
        steps=work.in_order(),
        fingerprint=_fingerprint(snapshot, manifest, work),
        forgets=tuple(work.forgets),
        warnings=(),
    )


def batches(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps in groups that are carried out together: one kind, one action, one level each.

    What changes comes before what is made: it may let go of what the new one takes (a port, a route).
    A replace is a delete, in its turn among the deletes, and a create, in its turn among the creates.
    """
    gone = [step for step in steps if step.action in (Action.DELETE, Action.REPLACE)]
    made = [step for step in steps if step.action in (Action.CREATE, Action.UPDATE, Action.REPLACE)]
    leave = levels({step.address: step.before for step in gone if step.before is not None})
    enter = levels({step.address: step.after for step in made if step.after is not None})
    groups: dict[tuple[int, int, str, bool], list[Step]] = {}
    for step in gone:
        one = replace(step, action=Action.DELETE, after=None)
        groups.setdefault((0, -leave.get(step.address, 0), step.address.kind, False), []).append(one)
    for step in made:
        one = step if step.action is Action.UPDATE else replace(step, action=Action.CREATE, before=None)
        fresh = one.action is Action.CREATE
        groups.setdefault((1, enter.get(step.address, 0), step.address.kind, fresh), []).append(one)
    return [groups[key] for key in sorted(groups)]


def _refuse_foreign(desired: Desired, snapshot: Snapshot, manifest: Manifest, adopt: bool) -> None:
    others, foreign = [], []
    for address, declared in desired.resources.items():
        if address in manifest.owned:
            continue
        at = f"   ({declared.source})" if declared.source else ""
        if address in manifest.others:
            others.append(f"{address} belongs to the project '{manifest.others[address]}'{at}")
        elif address in snapshot.resources and not adopt:
            foreign.append(f"{address} is on the host already, and was not made by this project{at}")
    if others or foreign:
        hints = []
        if foreign:
            hints.append("rename it, or take it over with --adopt")
        if others:
            hints.append("two projects cannot own one thing: remove it from one of them")
        raise NotOwnedError("\n".join([*others, *foreign]), hint="; ".join(hints))


def _fingerprint(snapshot: Snapshot, manifest: Manifest, work: _Planning) -> str:
    """What tells that the host has changed. It is printed, and so it is of what may be shown alone: a digest of a
    short secret would give that away."""
    found = {
        str(address): one.shown(one.secret_fields(work.secrets_of(address)))
        for address, one in snapshot.resources.items()
    }
    return digest([found, sorted(str(address) for address in manifest.owned)])


#: What becomes of a home that takes its inhabitants along.
_GOING = {Action.CREATE: "made anew", Action.REPLACE: "replaced", Action.DELETE: "deleted"}


@dataclass
class _Planning:
    """The steps found so far, by address."""

    desired: Desired
    snapshot: Snapshot
    manifest: Manifest
    steps: dict[Address, Step] = field(default_factory=dict)
    forgets: list[Address] = field(default_factory=list)

    def secrets_of(self, address: Address) -> Paths:
        """The fields that are secret, or were: yesterday's password is one too."""
        declared, owned = self.desired.resources.get(address), self.manifest.owned.get(address)
        return (declared.secrets if declared else NO_SECRETS) | (owned.secrets if owned else NO_SECRETS)

    def compare(self, declared: Declared) -> None:
        resource, address = declared.resource, declared.resource.address
        current = self.snapshot.resources.get(address)
        if current is None:
            gone = address in self.manifest.owned
            reason = "it is gone from the host" if gone else "it is not on the host"
            self.steps[address] = Step(Action.CREATE, address, None, resource, reason, source=declared.source)
            return
        last = last_applied(address, self.manifest.owned.get(address), resource)
        secrets = self.secrets_of(address)
        changes = tuple(
            replace(_located(change, declared), secret=change.secret or is_hidden(change.field, secrets))
            for change in resource.changes_from(current, last)
        )
        if changes:
            self.steps[address] = _change(declared, current, changes)
        elif address not in self.manifest.owned:
            self.steps[address] = Step(
                Action.ADOPT, address, current, resource, "it is taken over as it is", source=declared.source
            )

    def replace_what_goes_with_its_home(self) -> None:
        """A namespace takes its interfaces along, an interface its routes; so does all that others live in."""
        wanted = dependents({a: d.resource for a, d in self.desired.resources.items() if a in self.snapshot.resources})
        found = dependents({a: one for a, one in self.snapshot.resources.items() if self._is_ours(a)})
        homes = [a for a, step in self.steps.items() if step.action not in (Action.UPDATE, Action.ADOPT)]
        while homes:
            home = homes.pop()
            action = self.steps[home].action
            living = found.get(home, []) if action is not Action.CREATE else []
            living = living + wanted.get(home, []) if action is not Action.DELETE else living
            for address in living:
                step = self.steps.get(address)
                if step is not None and step.action not in (Action.UPDATE, Action.ADOPT):
                    continue
                declared = self.desired.resources[address]
                self.steps[address] = Step(
                    Action.REPLACE,
                    address,
                    self.snapshot.resources[address],
                    declared.resource,
                    f"it lives in {home}, which is {_GOING[action]}",
                    step.changes if step else (),
                    declared.source,
                    restarts=declared.resource.workload,
                )
                homes.append(address)

    def _is_ours(self, address: Address) -> bool:
        return address in self.desired.resources or address in self.steps

    def restart_what_is_triggered(self) -> None:
        for address, declared in self.desired.resources.items():
            current = self.snapshot.resources.get(address)
            step = self.steps.get(address)
            if current is None or (step is not None and (step.restarts or step.action is Action.REPLACE)):
                continue
            changed = [t for t in declared.resource.triggers() if self._acts_on(t)]
            if changed:
                cause = ", ".join(str(trigger) for trigger in changed)
                change = Change("restart_on", None, f"{cause} changes", Effect.RESTART, declared.source)
                self.steps[address] = _change(declared, current, (*(step.changes if step else ()), change))

    def _acts_on(self, address: Address) -> bool:
        step = self.steps.get(address)
        return step is not None and step.action is not Action.ADOPT

    def delete_what_left(self, reason: str) -> None:
        for address, owned in self.manifest.owned.items():
            if address in self.desired.resources:
                continue
            current = self.snapshot.resources.get(address)
            if current is None:
                self.forgets.append(address)
                continue
            was = _place(owned.source)
            said = f"{reason}; it was at {was.file}:{was.line}" if was else reason
            self.steps[address] = Step(
                Action.DELETE, address, current, None, said, source=was, restarts=current.workload
            )

    def in_order(self) -> tuple[Step, ...]:
        """Deletes first, from the leaves of the observed graph; then the rest, from the roots of the desired."""
        leave = levels({a: s.before for a, s in self.steps.items() if s.action is Action.DELETE and s.before})
        enter = levels({a: d.resource for a, d in self.desired.resources.items()})
        deletes = sorted(
            (s for s in self.steps.values() if s.action is Action.DELETE),
            key=lambda step: -leave.get(step.address, 0),
        )
        others = sorted(
            (s for s in self.steps.values() if s.action is not Action.DELETE),
            key=lambda step: enter.get(step.address, 0),
        )
        return tuple(self._guarded(step) for step in (*deletes, *others))

    def _guarded(self, step: Step) -> Step:
        secrets = self.secrets_of(step.address)
        for one in (step.before, step.after):
            secrets = one.secret_fields(secrets) if one is not None else secrets
        return replace(step, secrets=secrets)


def _place(text: str) -> Source | None:
    """The place that the manifest remembers: ``file:line:column``."""
    file, _, position = text.rpartition(":")
    file, _, line = file.rpartition(":")
    return Source(file, int(line), int(position)) if file and line.isdigit() and position.isdigit() else None


def _change(declared: Declared, current: Resource, changes: tuple[Change, ...]) -> Step:
    effects = {change.effect for change in changes}
    resource = declared.resource
    replaces = Effect.REPLACE in effects
    restarts = resource.workload and bool(effects & {Effect.REPLACE, Effect.RESTART})
    named = ", ".join(_reason(change) for change in changes)
    return Step(
        Action.REPLACE if replaces else Action.UPDATE,
        resource.address,
        current,
        resource if replaces else resource.merged_over(current, changes),
        named,
        changes,
        declared.source,
        restarts,
    )


def _reason(change: Change) -> str:
    at = f", from {change.source.file}:{change.source.line}" if change.source else ""
    before, after = map(short, change.shown())
    return f"{change.field}: {before} -> {after}{at}"


def short(value: object, width: int = 60) -> str:
    """A JSON value on one line, cut to a width."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        text = ", ".join(short(item) for item in value) or "(none)"
    elif isinstance(value, dict):
        text = " ".join(f"{key}={short(item)}" for key, item in value.items())
    else:
        text = str(value)
    lines = text.splitlines()
    if len(lines) > 1:
        return f"({len(lines)} lines)"
    return text if len(text) <= width else text[: width - 1] + "…"


def _located(change: Change, declared: Declared) -> Change:
    if change.source is not None:
        return change
    path: str = change.field
    while path:
        if path in declared.fields:
            return replace(change, source=declared.fields[path])
        path = path.rpartition(".")[0]
    return replace(change, source=declared.source)
