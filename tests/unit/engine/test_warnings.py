"""What is doubtful, or cannot be on a host, is told by a plan: before anything is looked at, let alone touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from provisioner.engine.apply import observe_and_plan
from provisioner.engine.manifest import dump
from provisioner.errors import ConfigError, Source
from provisioner.fleet.target import Output, Target
from provisioner.model import Address, Declared, Desired, Manifest, Owned, Resource, Scope, Snapshot, Step, StepResult
from provisioner.resources.slice import Slice

FACTS = {"systemd": 257, "controllers": ["cpuset", "cpu", "io", "memory", "pids"], "memory_mib": 4096}


class Imagined(Target):
    """A host that has what a test says, and takes no steps."""

    name = "imagined"

    def __init__(self, *there: Resource, facts: Mapping[str, Any] = FACTS) -> None:
        self._facts = facts
        self.there = {one.address: one for one in there}
        self.asked: list[str] = []
        self.observed = False

    def facts(self) -> Mapping[str, Any]:
        return self._facts

    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        self.asked += questions
        return {one: "is not on this host" if one == "block-device /dev/vdz" else None for one in questions}

    def observe(self, scope: Scope) -> Snapshot:
        self.observed = True
        return Snapshot(self.there)

    def read_manifests(self) -> Mapping[str, str]:
        owned = {address: Owned(one.declared()) for address, one in self.there.items()}
        return {"shop": dump(Manifest("shop", owned))} if owned else {}

    def carry_out(self, steps: Sequence[Step], seen: object = None) -> list[StepResult]:
        raise AssertionError("a plan carries nothing out")

    def write_manifest(self, project: str, text: str | None) -> None:
        raise AssertionError("a plan writes nothing")

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        return {}

    def run(self, command: str, seconds: float = 600) -> Output:
        raise AssertionError("a plan runs nothing")

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        pass


def desired(*resources: Resource) -> Desired:
    return Desired({one.address: Declared(one, Source("main.yml", line)) for line, one in enumerate(resources, 1)})


OUTER, INNER = Slice(name="a", MemoryMax="1G"), Slice(name="a-b", MemoryMax="2G")


def test_a_plan_tells_what_is_doubtful_and_where_it_was_written() -> None:
    plan = observe_and_plan(Imagined(), desired(OUTER, INNER), "shop").plan
    (warning,) = plan.warnings
    assert warning.startswith(
        "main.yml:2:1: slice/a-b.slice: MemoryMax 2G is above MemoryMax 1G of slice/a.slice (main.yml:1:1)"
    )


def test_a_doubt_about_two_is_told_when_either_of_them_changes() -> None:
    there = Imagined(Slice(name="a", MemoryMax="4G"), INNER)
    plan = observe_and_plan(there, desired(OUTER, INNER), "shop").plan
    assert [str(step.address) for step in plan.steps] == ["slice/a.slice"]
    assert len(plan.warnings) == 1


def test_a_plan_that_does_nothing_repeats_no_doubts() -> None:
    plan = observe_and_plan(Imagined(OUTER, INNER), desired(OUTER, INNER), "shop").plan
    assert (plan.steps, plan.warnings) == ((), ())


def test_what_a_host_cannot_hold_is_refused_all_at_once_before_it_is_looked_at() -> None:
    host = Imagined(
        facts=FACTS | {"controllers": ["pids"], "lacking": {"memory": "v1", "io": "absent", "cpu": "withheld"}}
    )
    limits = Slice(name="a", MemoryMax="1G", CPUWeight=5, IOReadIOPSMax="/dev/vdz 5", TasksMax=5, MemoryHigh="1%")
    with pytest.raises(ConfigError) as refused:
        observe_and_plan(host, desired(limits), "shop")
    told = [problem.message.partition(": ")[2] for problem in refused.value.problems]
    assert [message.partition(",")[0] for message in told] == [
        "MemoryMax and MemoryHigh need the cgroup v2 controller 'memory'",
        "CPUWeight needs the cgroup v2 controller 'cpu'",
        "IOReadIOPSMax needs the cgroup v2 controller 'io'",
        "IOReadIOPSMax: /dev/vdz is not on this host",
    ]
    assert all(problem.hint for problem in refused.value.problems)
    assert not host.observed


def test_a_host_is_asked_each_thing_once_and_only_what_the_configuration_is_about() -> None:
    host = Imagined()
    slices = [Slice(name=f"s{number}", MemoryMax="1G", IOReadIOPSMax="/dev/vda 5") for number in range(5)]
    observe_and_plan(host, desired(*slices), "shop")
    assert host.asked == ["block-device /dev/vda", "signatures slice"]
    host = Imagined()
    observe_and_plan(host, desired(), "shop")
    assert host.asked == []
