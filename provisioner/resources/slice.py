"""Slices: the branches of the control group tree, and what all that runs in one may use together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, field_validator

from provisioner.directives.kernel import limit_checks
from provisioner.directives.spec import Directives
from provisioner.model import Action, Change, Check, Driver, Effect, Resource, Scope, Step, StepResult, bad, spec
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host

__all__ = ["Slice"]

_NAME = re.compile(r"[A-Za-z0-9:_.\\]+(-[A-Za-z0-9:_.\\]+)*\.slice")

_OTHER_TYPES = ("service", "socket", "timer", "path", "mount", "automount", "swap", "target", "device", "scope")


class Slice(Directives):
    """A systemd slice: a branch of the control group tree, with limits for all that runs in it.

    Takes every directive of resource control by systemd's own name and syntax. Limits change live: what runs
    in the slice goes on. A directive that leaves the configuration goes back to systemd's default.
    """

    kind: ClassVar[str] = "slice"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "tenants-blue.slice", "MemoryMax": "512M", "CPUQuota": "50%"}]}
    )

    name: str = spec(
        ...,
        doc="the slice; `a-b.slice` lies in `a.slice`, which systemd makes by itself where it is not declared",
        examples=["tenants.slice", "tenants-blue.slice"],
    )

    @classmethod
    def unit_type_of(cls, fields: Mapping[str, Any]) -> str:
        return "slice"

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        suffix = name.rpartition(".")[2]
        if suffix in _OTHER_TYPES:
            raise bad(f"'{name}' is the name of a {suffix}, not of a slice", "such as tenants-blue.slice")
        whole = name if name.endswith(".slice") else f"{name}.slice"
        if not _NAME.fullmatch(whole) or len(whole) > 255:
            hint = "words of letters, digits, _ : . joined by single dashes, such as tenants-blue.slice"
            raise bad(f"'{name}' is not the name of a slice", hint)
        return whole

    def effect_of_directive(self, name: str) -> Effect:
        effect = super().effect_of_directive(name)
        return effect if effect is Effect.LIVE else Effect.REPLACE

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        assert isinstance(current, Slice)
        return self.directive_changes(current, last if isinstance(last, Slice) else None)

    def checks(self) -> Iterable[Check]:
        active = f"assert unit_property(host, {self.name!r}, 'ActiveState') == 'active'"
        yield Check(f"{self.address} is active", active)
        yield from limit_checks(self.address, self.name, self.directives)


class SliceDriver(Driver[Slice]):
    """Makes slices as transient units, and changes their limits live."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Slice]:
        from provisioner.host.units import Units

        asked = scope.of("slice")
        units = Units(host.systemd)
        for address, specs in asked.items():
            wanted = [one for one in specs if isinstance(one, Slice)]
            if units.exists(address.name):
                found = units.directives(address.name, [one.directives for one in wanted]) if wanted else {}
                yield Slice.observed(name=address.name, **found)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        from provisioner.host.units import Units

        units = Units(host.systemd)
        action = steps[0].action
        if action is Action.DELETE:
            results = units.delete_slices([step.address.name for step in steps])
        elif action is Action.CREATE:
            made = {step.address.name: step.after.directives for step in steps if isinstance(step.after, Slice)}
            results = units.create_slices(made)
        else:
            results = units.change_live(steps)
        for step in steps:
            yield StepResult(step.address, *results.get(step.address.name, (None, 0)))


register(Slice, SliceDriver())
