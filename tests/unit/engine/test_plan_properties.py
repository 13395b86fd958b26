"""Whatever is desired and whatever is there: what must hold of every plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import resources
from provisioner.engine.plan import batches, make_plan
from provisioner.model import (
    Action,
    Address,
    Declared,
    Desired,
    Effect,
    Kind,
    Manifest,
    Owned,
    Plan,
    Resource,
    Snapshot,
    spec,
)


class Box(Resource):
    """A thing of the tests: it may live in another, need another, and has a live and a replacing field."""

    kind: ClassVar[str] = "box"
    workload: ClassVar[bool] = True

    size: int | None = spec(doc="changes live")
    label: int | None = spec(doc="changes by a restart", effect=Effect.RESTART)
    shape: int | None = spec(doc="changes by replacing", effect=Effect.REPLACE)
    home: str | None = spec(doc="the box it lives in", effect=Effect.REPLACE)
    friend: str | None = spec(doc="a box it needs")

    def requires(self) -> Iterable[Address]:
        return [Address("box", name) for name in (self.home, self.friend) if name]

    def lives_in(self) -> Iterable[Address]:
        return [Address("box", self.home)] if self.home else []


@pytest.fixture(scope="module", autouse=True)
def _box_is_a_kind() -> Iterator[None]:
    resources._registry["box"] = Kind("box", Box, cast("Any", None))
    resources.kinds.cache_clear()
    yield
    del resources._registry["box"]
    resources.kinds.cache_clear()


NAMES = [f"b{number}" for number in range(6)]


@st.composite
def worlds(draw: st.DrawFn) -> dict[Address, Box]:
    """Boxes without circles: each lives in and needs only such as come before it."""
    boxes: dict[Address, Box] = {}
    for name in NAMES:
        if not draw(st.booleans()):
            continue
        earlier = [None, *(address.name for address in boxes)]
        box = Box(
            name=name,
            size=draw(st.integers(0, 2)),
            label=draw(st.integers(0, 1)),
            shape=draw(st.integers(0, 1)),
            home=draw(st.sampled_from(earlier)),
            friend=draw(st.sampled_from(earlier)),
        )
        boxes[box.address] = box
    return boxes


def desired(boxes: dict[Address, Box]) -> Desired:
    return Desired({address: Declared(box) for address, box in boxes.items()})


def owning(boxes: Iterable[Address], world: dict[Address, Box]) -> Manifest:
    return Manifest("test", {address: Owned(world[address].declared()) for address in boxes})


def carried_out(plan: Plan, world: dict[Address, Box]) -> dict[Address, Box]:
    """The host after the plan, as a host behaves: nothing stands on nothing, and nothing is made twice."""
    now = dict(world)
    for group in batches(plan.steps):
        for step in group:
            if step.action is Action.DELETE:
                assert not any(step.address in box.lives_in() for box in now.values()), "lived in, and deleted"
                del now[step.address]
            else:
                assert isinstance(step.after, Box)
                assert (step.address in now) is (step.action is Action.UPDATE)
                assert all(need in now for need in step.after.requires()), "needs what is not there"
                now[step.address] = step.after
    return now


@given(worlds(), worlds())
def test_after_the_plan_the_host_is_what_was_desired_and_a_second_plan_is_empty(
    before: dict[Address, Box], after: dict[Address, Box]
) -> None:
    plan = make_plan(desired(after), Snapshot(before), owning(before, before))
    now = carried_out(plan, before)
    assert now == after
    assert not make_plan(desired(after), Snapshot(now), owning(now, now))


@given(worlds(), worlds(), st.data())
def test_what_is_not_owned_is_never_deleted(
    before: dict[Address, Box], after: dict[Address, Box], data: st.DataObject
) -> None:
    owned = [address for address in before if data.draw(st.booleans())]
    plan = make_plan(desired(after), Snapshot(before), owning(owned, before), adopt=True)
    assert all(step.address in owned for step in plan.steps if step.action is Action.DELETE)


@given(worlds(), worlds(), st.integers(0, 20))
def test_a_rollback_from_any_point_leads_back_to_the_host_before(
    before: dict[Address, Box], after: dict[Address, Box], done: int
) -> None:
    plan = make_plan(desired(after), Snapshot(before), owning(before, before))
    now = dict(before)
    for group in batches(plan.steps)[:done]:
        for step in group:
            if step.action is Action.DELETE:
                del now[step.address]
            else:
                assert isinstance(step.after, Box)
                now[step.address] = step.after
    back = make_plan(desired(before), Snapshot(now), owning({**before, **now}, {**before, **now}))
    assert carried_out(back, now) == before


@given(worlds(), worlds())
def test_a_restart_is_announced_exactly_when_a_restarting_field_or_a_home_changes(
    before: dict[Address, Box], after: dict[Address, Box]
) -> None:
    plan = make_plan(desired(after), Snapshot(before), owning(before, before))
    steps = {step.address: step for step in plan.steps}
    for address in before.keys() & after.keys():
        if before[address].label != after[address].label:
            assert steps[address].restarts
        step = steps.get(address)
        if step is not None and step.action is Action.UPDATE and before[address].label == after[address].label:
            assert not step.restarts


@given(worlds(), worlds())
def test_a_part_that_was_chosen_by_tags_prunes_nothing(before: dict[Address, Box], after: dict[Address, Box]) -> None:
    wanted = Desired(desired(after).resources, partial=True)
    plan = make_plan(wanted, Snapshot(before), owning(before, before))
    assert not [step for step in plan.steps if step.action is Action.DELETE]
