"""Plans and results as JSON values, for programs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.engine.apply import ApplyResult
    from provisioner.model import Change, Plan, Step

__all__ = ["PLAN_VERSION", "plan_data", "plans_data", "result_data"]

#: The format of a saved plan.
PLAN_VERSION = 1


def plans_data(plans: Mapping[str, Plan]) -> dict[str, Any]:
    """All hosts' plans: ``{"version": 1, "hosts": {name: plan}}``."""
    return {"version": PLAN_VERSION, "hosts": {name: plan_data(plan) for name, plan in plans.items()}}


def plan_data(plan: Plan) -> dict[str, Any]:
    return {
        "fingerprint": plan.fingerprint,
        "steps": [_step_data(step) for step in plan.steps],
        "warnings": list(plan.warnings),
    }


def _step_data(step: Step) -> dict[str, Any]:
    return {
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
