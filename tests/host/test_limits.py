"""Every directive of resource control on units and nested slices: set, changed live, and taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from provisioner import directives
from provisioner.directives.signatures import SET_OTHERWISE, fitted, mismatch, settings_of
from provisioner.engine.apply import apply_plan, observe_and_plan
from provisioner.fleet.connect import sandbox_target
from provisioner.fleet.target import Target
from provisioner.host.sandbox import Sandbox
from provisioner.model import Action, Address, Declared, Desired, Effect, Plan, Resource
from provisioner.resources import kind_of
from tests.host.directive_round_trip import samples
from tests.host.limit_values import AT_START, VALUES

#: Root trees of other releases of Debian, to be tried as well: folders, separated by colons.
ROOTS = [None, *(Path(one) for one in os.environ.get("NSPROV_TEST_ROOTS", "").split(":") if one)]

#: systemd 257 reads no zero of it from a file, so that a daemon-reload brings the first value back.
LOST = {"DefaultStartupMemoryLow"}


@pytest.fixture(scope="module", params=ROOTS, ids=lambda root: root.name if root else "this-machine")
def host(request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, Target]]:
    with Sandbox.start(f"test-limits-{os.getpid()}", root=request.param) as sandbox:
        target = sandbox_target(sandbox.name, sandbox)
        yield sandbox, target
        target.close()


def directives_of(unit_type: str, version: int) -> list[str]:
    """The directives of resource control that this systemd has for a type of unit."""
    known = directives.known(unit_type).values()
    return [one.name for one in known if one.group == "resource-control" and one.since <= version]


def declared(unit_type: str, values: Mapping[str, Any]) -> Desired:
    """A unit for each directive, in a slice in a slice."""
    made: list[Resource] = [
        kind_of("slice").resource(name=name, MemoryMin="16M", MemoryLow="4%")
        for name in ("limits.slice", "limits-nested.slice")
    ]
    for name, value in values.items():
        fields = {} if value is None else {name: value}
        if unit_type == "slice":
            made.append(kind_of("slice").resource(name=f"limits-nested-{name}.slice", **fields))
        else:
            made.append(
                kind_of("unit").resource(
                    name=f"{name}.service", Slice="limits-nested.slice", ExecStart="/bin/sleep infinity", **fields
                )
            )
    return Desired({one.address: Declared(one) for one in made})


def apply(target: Target, desired: Desired) -> Plan:
    """Apply, and see that a second plan is empty."""
    observed = observe_and_plan(target, desired, "limits")
    result = apply_plan(target, observed)
    assert result.failure is None, result.failure
    assert [str(step.address) for step in observe_and_plan(target, desired, "limits").plan.steps] == []
    return observed.plan


def shown(sandbox: Sandbox, unit: str, name: str) -> str:
    """What ``systemctl`` says of a directive's properties."""
    read = directives.directive(unit.rpartition(".")[2], name).syntax.properties(name)
    text = sandbox.run(["systemctl", "show", "-p", ",".join(read), unit]).stdout
    # systemd has two words for no interfaces in a list: none is denied, or none is named.
    return text.replace("RestrictNetworkInterfaces=~\n", "RestrictNetworkInterfaces=\n")


def running(sandbox: Sandbox, units: Mapping[str, str]) -> str:
    services = [unit for unit in units.values() if unit.endswith(".service")]
    return sandbox.run(["systemctl", "show", "-p", "Id,MainPID", *services]).stdout if services else ""


@pytest.mark.parametrize("unit_type", ["service", "slice"])
def test_every_limit_is_set_changed_live_and_taken_back(host: tuple[Sandbox, Target], unit_type: str) -> None:
    sandbox, target = host
    names = set(directives_of(unit_type, target.facts()["systemd"])) - AT_START.keys() - {"Slice"}
    assert names <= VALUES.keys(), f"without values to try: {names - VALUES.keys()}"
    units = {name: f"limits-nested-{name}.slice" if unit_type == "slice" else f"{name}.service" for name in names}
    try:
        apply(target, declared(unit_type, {name: VALUES[name][0] for name in names}))
        first = {name: shown(sandbox, unit, name) for name, unit in units.items()}
        pids = running(sandbox, units)

        plan = apply(target, declared(unit_type, {name: VALUES[name][1] for name in names}))
        assert {step.action for step in plan.steps} == {Action.UPDATE}
        assert {change.effect for step in plan.steps for change in step.changes} == {Effect.LIVE}
        assert len(plan.steps) == len(names)
        second = {name: shown(sandbox, unit, name) for name, unit in units.items()}
        unprintable = {name for name in names if "[unprintable]" in first[name]}
        assert [name for name in names - unprintable if first[name] == second[name]] == []

        plan = apply(target, declared(unit_type, dict.fromkeys(names)))
        assert {step.action for step in plan.steps} <= {Action.UPDATE}
        assert {change.effect for step in plan.steps for change in step.changes} == {Effect.LIVE}
        assert running(sandbox, units) == pids
        sandbox.run("systemctl daemon-reload")
        names -= LOST
        left = {name: shown(sandbox, units[name], name) for name in names}
        assert left == {name: shown(sandbox, f"never-set-up.{unit_type}", name) for name in names}
    finally:
        apply(target, Desired())
    gone = Address("slice", "limits.slice")
    assert gone not in observe_and_plan(target, Desired(), "limits").snapshot.resources


def test_the_limits_of_fifty_running_workloads_change_in_one_apply_and_every_process_stays(
    host: tuple[Sandbox, Target],
) -> None:
    sandbox, target = host
    unit = kind_of("unit").resource

    def workloads(memory: str, tasks: int, quota: str) -> Desired:
        limits = {"MemoryMax": memory, "TasksMax": tasks, "CPUQuota": quota}
        made = [unit(name=f"many-{number}", ExecStart="/bin/sleep infinity", **limits) for number in range(50)]
        return Desired({one.address: Declared(one) for one in made})

    names = {str(number): f"many-{number}.service" for number in range(50)}
    try:
        apply(target, workloads("64M", 20, "20%"))
        pids = running(sandbox, names)
        plan = apply(target, workloads("96M", 30, "30%"))
        assert len(plan.steps) == 50
        assert not any(step.restarts for step in plan.steps)
        assert running(sandbox, names) == pids
        assert {shown(sandbox, name, "MemoryMax") for name in names.values()} == {f"MemoryMax={96 << 20}\n"}
    finally:
        apply(target, Desired())


@pytest.mark.parametrize("unit_type", ["service", "slice"])
def test_what_systemd_takes_only_at_the_start_is_there_and_a_change_of_it_says_what_it_takes(
    host: tuple[Sandbox, Target], unit_type: str
) -> None:
    _, target = host
    names = AT_START.keys() & set(directives_of(unit_type, target.facts()["systemd"]))
    if unit_type == "service":  # one whose program is not there does not start
        names -= {"BPFProgram", "IPEgressFilterPath", "IPIngressFilterPath"}
    try:
        apply(target, declared(unit_type, {name: AT_START[name] for name in names}))
        plan = observe_and_plan(target, declared(unit_type, dict.fromkeys(names)), "limits").plan
        expected = Effect.RESTART if unit_type == "service" else Effect.REPLACE
        assert {change.field: change.effect for step in plan.steps for change in step.changes} == dict.fromkeys(
            names, expected
        )
    finally:
        apply(target, Desired())


@pytest.mark.parametrize("unit_type", ["service", "slice", "socket", "timer", "path", "mount", "automount"])
def test_this_systemd_takes_every_directive_in_the_form_in_which_it_is_sent(
    host: tuple[Sandbox, Target], unit_type: str
) -> None:
    """By its own introspection: so that no directive of a systemd that is tested here is refused by mistake."""
    _, target = host
    version = target.facts()["systemd"]
    there = target.ask([f"signatures {unit_type}"])[f"signatures {unit_type}"]
    assert len(there) > 50
    wrong = []
    for name, known in directives.known(unit_type).items():
        if known.since > version:
            continue
        for value in samples(name, known):
            try:
                settings = settings_of(unit_type, name, directives.canonical(unit_type, name, value))
            except directives.BadValue as error:
                assert error.message.startswith("the prefix")  # noqa: PT017 - a socket's commands have fewer
                continue
            wrong += [text for one in settings if (text := mismatch(one, there))]
            assert fitted(settings, there) == list(settings)
    assert wrong == []


def test_what_is_said_to_be_set_otherwise_than_read_is(host: tuple[Sandbox, Target]) -> None:
    """A property in that list is sent without being held against this systemd: so nothing else may be in it."""
    _, target = host
    answers = target.ask([f"signatures {one}" for one in ("service", "socket", "timer")])
    same = [
        name for name, forms in SET_OTHERWISE.items() if all(forms == {there.get(name)} for there in answers.values())
    ]
    assert same == []
