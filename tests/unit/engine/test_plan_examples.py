"""Given this configuration and this host, the plan is this: one example a file, in ``plans/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.engine.plan import make_plan
from provisioner.errors import NsprovError, Source
from provisioner.model import Address, Declared, Desired, Manifest, Owned, Plan, Resource, Snapshot
from provisioner.resources import kind_of

EXAMPLES = sorted((Path(__file__).parent / "plans").glob("*.yml"))


def resources(tasks: list[dict[str, Any]] | None) -> dict[Address, Resource]:
    made: dict[Address, Resource] = {}
    for task in tasks or []:
        ((kind, fields),) = task.items()
        resource = kind_of(kind).resource.model_validate(fields)
        made[resource.address] = resource
    return made


def words(plan: Plan) -> list[str]:
    lines = []
    for step in plan.steps:
        lines.append(f"{step.action} {step.address}" + (", restarts" if step.restarts else ""))
        lines += [
            f"  {change.field}: {change.before!r} -> {change.after!r}, {change.effect}" for change in step.changes
        ]
        if not step.changes and step.action in ("replace", "delete"):
            lines.append(f"  {step.reason}")
    return lines + [f"forget {address}" for address in plan.forgets]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem.replace("-", " "))
def test_the_plan_is(path: Path) -> None:
    example = yaml.safe_load(path.read_text())
    host = resources(example.get("host"))
    last = {**host, **resources(example.get("last"))}
    foreign = {Address.parse(text) for text in example.get("not_ours", ())}
    manifest = Manifest(
        "shop",
        {address: Owned(one.declared()) for address, one in last.items() if address not in foreign},
        {Address.parse(text): name for text, name in example.get("others", {}).items()},
    )
    desired = Desired(
        {
            address: Declared(one, Source("tasks/main.yml", number))
            for number, (address, one) in enumerate(resources(example.get("desired")).items(), 1)
        },
        partial=example.get("partial", False),
    )
    if "error" in example:
        with pytest.raises(NsprovError) as caught:
            make_plan(desired, Snapshot(host), manifest, adopt=example.get("adopt", False))
        assert str(caught.value).splitlines() == example["error"].splitlines()
    else:
        plan = make_plan(desired, Snapshot(host), manifest, adopt=example.get("adopt", False))
        assert words(plan) == example["plan"].splitlines()
