"""Plans and results as JSON values, for programs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner.engine.seal import key_id, seal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.engine.apply import ApplyResult
    from provisioner.model import Change, Plan, Step

__all__ = ["PLAN_VERSION", "has_secrets", "plan_data", "plans_data", "result_data"]

#: The format of a saved plan.
PLAN_VERSION = 1


def plans_data(plans: Mapping[str, Plan], key: bytes | None = None) -> dict[str, Any]:
    """All hosts' plans: ``{"version": 1, "hosts": {name: plan}}``. With a key, steps that have secrets are sealed."""
    data: dict[str, Any] = {"version": PLAN_VERSION}
    if key is not None and has_secrets(plans):
        data["sealed_with"] = key_id(key)
    return {**data, "hosts": {name: plan_data(plan, key) for name, plan in plans.items()}}


def has_secrets(plans: Mapping[str, Plan]) -> bool:
    """Whether any step has a field that is not shown."""
    return any(step.secrets for plan in plans.values() for step in plan.steps)


def plan_data(plan: Plan, key: bytes | None = None) -> dict[str, Any]:
    return {
        "fingerprint": plan.fingerprint,
        "steps": [_step_data(step, key) for step in plan.steps],
        "warnings": list(plan.warnings),
    }


def _step_data(step: Step, key: bytes | None) -> dict[str, Any]:
    sealed = seal(step, key) if key is not None else None
    return {
        **({"sealed": sealed} if sealed else {}),
        "action": step.action.value,
        "address": str(step.address),
        "reason": step.reason,
        "restarts": step.restarts,
        "source": str(step.source) if step.source else None,
        "changes": [_change_data(change) for change in step.changes],
        "before": step.before.shown(step.secrets) if step.before else None,
        "after": step.after.shown(step.secrets) if step.after else None,
    }


def _change_data(change: Change) -> dict[str, Any]:
    before, after = change.shown()
    secret = {"secret": True} if change.secret else {}
    return {"field": change.field, "before": before, "after": after, "effect": change.effect.value, **secret}


def result_data(result: ApplyResult, seconds: float) -> dict[str, Any]:
    failure = result.failure
    return {
        "ok": result.ok,
        "seconds": round(seconds, 3),
        "done": [{"action": step.action.value, "address": str(step.address)} for step in result.done],
        "interrupted": result.interrupted,
        "error": result.error or None,
        "failed": None if failure is None else {"address": str(failure.step.address), "error": failure.error},
        "not_put_back": None
        if result.not_put_back is None
        else [{"address": str(f.step.address), "error": f.error} for f in result.not_put_back],
    }
