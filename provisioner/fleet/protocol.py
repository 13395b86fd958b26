"""Resources, scopes, steps and results as JSON values, for the channel between controller and agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner.model import Action, Address, Change, Effect, Scope, Snapshot, Step, StepResult
from provisioner.resources import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from provisioner.fleet.target import Output
    from provisioner.model import Resource

__all__ = [
    "decode_output",
    "decode_resource",
    "decode_results",
    "decode_scope",
    "decode_snapshot",
    "decode_status",
    "decode_steps",
    "encode_output",
    "encode_resource",
    "encode_results",
    "encode_scope",
    "encode_snapshot",
    "encode_status",
    "encode_steps",
]


def encode_resource(resource: Resource | None) -> Any:
    return None if resource is None else [resource.kind, resource.declared()]


def decode_resource(value: Any) -> Any:
    if value is None:
        return None
    kind, fields = value
    return kind_of(kind).resource.model_validate(fields)


def encode_scope(scope: Scope) -> Any:
    resources = [[list(a), [encode_resource(one) for one in specs]] for a, specs in scope.resources.items()]
    return {"resources": resources, "undeclared": [list(address) for address in scope.undeclared]}


def decode_scope(value: Any) -> Scope:
    resources = {Address(*a): tuple(decode_resource(one) for one in specs) for a, specs in value["resources"]}
    return Scope(resources, undeclared=[Address(*a) for a in value["undeclared"]])


def encode_snapshot(snapshot: Snapshot) -> Any:
    return [encode_resource(resource) for resource in snapshot.resources.values()]


def decode_snapshot(value: Any) -> Snapshot:
    resources = [decode_resource(one) for one in value]
    return Snapshot({resource.address: resource for resource in resources})


def encode_steps(steps: Sequence[Step]) -> Any:
    return [
        {
            "action": step.action.value,
            "address": list(step.address),
            "before": encode_resource(step.before),
            "after": encode_resource(step.after),
            "changes": [[c.field, c.before, c.after, c.effect.value] for c in step.changes],
        }
        for step in steps
    ]


def decode_steps(value: Any) -> list[Step]:
    return [
        Step(
            Action(one["action"]),
            Address(*one["address"]),
            decode_resource(one["before"]),
            decode_resource(one["after"]),
            changes=tuple(Change(f, before, after, Effect(effect)) for f, before, after, effect in one["changes"]),
        )
        for one in value
    ]


def encode_results(results: Sequence[StepResult]) -> Any:
    return [[list(r.address), r.error, r.code, r.skipped, r.note] for r in results]


def decode_results(value: Any) -> list[StepResult]:
    return [StepResult(Address(*a), error, code, skipped, note) for a, error, code, skipped, note in value]


def encode_output(output: Output) -> Any:
    """What is not UTF-8 stays what it is: a byte alone has a character of its own."""
    return [output.status, *(text.decode(errors="surrogateescape") for text in (output.stdout, output.stderr))]


def decode_output(value: Any) -> Output:
    from provisioner.fleet.target import Output

    status, *texts = value
    stdout, stderr = (text.encode(errors="surrogateescape") for text in texts)
    return Output(status, stdout, stderr)


def encode_status(lines: Mapping[Address, str]) -> Any:
    return [[list(address), line] for address, line in lines.items()]


def decode_status(value: Any) -> dict[Address, str]:
    return {Address(*address): line for address, line in value}
