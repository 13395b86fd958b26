# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes a host what its roles say, by nsprov on the controller."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml
from ansible_collections.nsprov.core.plugins.plugin_utils.task import (
    SHARED_SPEC,
    Nsprov,
    NsprovAction,
    answer_of,
    unproved_text,
)

_WORDS = {"create": "to create", "update": "to change", "replace": "to replace", "delete": "to delete"}

_SPEC = {
    **SHARED_SPEC,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "verify": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "keep_partial": {"type": "bool", "default": False},
}


class ActionModule(NsprovAction):
    """The action of ``nsprov.core.apply``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.validate_argument_spec(argument_spec=_SPEC)[1]
        absent = given["state"] == "absent"
        if absent and given["roles"] is not None:
            return result | {
                "failed": True,
                "msg": "state: absent takes away all that the project owns on the host: leave 'roles' out. "
                "To take away the resources of one role, apply without it",
            }
        host, other = (task_vars or {})["inventory_hostname"], self._task.delegate_to
        if other not in (None, host) and given["project"] is None:
            return result | {
                "failed": True,
                "msg": f"the roles are those of {host}, and the host is {other}: give the task a 'project'. "
                f"What {other} has of the same project, and these roles do not declare, is taken away",
            }
        # As they were given: with the marks of vaults on them.
        given["roles"] = [] if absent else self._task.args.get("roles")
        with self.nsprov(task_vars, given) as nsprov:
            return self._applied(nsprov, given, absent, result)

    def _applied(self, nsprov: Nsprov, given: dict[str, Any], absent: bool, result: dict[str, Any]) -> dict[str, Any]:
        words = ["--format", "json"]
        words += ["--adopt"] if given["adopt"] and not absent else []
        check = self._task.check_mode
        if check:
            done = nsprov("plan", *words)
        else:
            words += ["--yes", *(["--keep-partial"] if given["keep_partial"] else [])]
            words += [] if absent else _verifying(given)
            done = nsprov("destroy" if absent else "apply", *words)
        answer = answer_of(done)
        plan = answer.get("hosts", {}).get(nsprov.host, {"steps": [], "warnings": []})
        steps = plan["steps"]
        carried_out = answer.get("results", {}).get(nsprov.host)
        facts = answer.get("verified", {}).get(nsprov.host, {}).get("facts", [])
        result |= {
            "changed": False,
            "plan": {"steps": steps, "warnings": plan["warnings"]},
            "result": carried_out,
            "warnings": plan["warnings"],
        }
        if facts:
            result["facts"] = facts
        if self._task.diff:
            result["diff"] = [_difference(step) for step in steps]
        if done.code != 0 or not answer:
            failed = nsprov.failure(done, answer, result | {"changed": _is_partial(carried_out)})
            wrong = unproved_text(facts)
            return failed | ({"msg": f"{failed['msg']}\n{wrong}"} if wrong else {})
        return result | {"changed": bool(steps), "msg": _message(steps, check)}


def _verifying(given: dict[str, Any]) -> list[str]:
    if not given["verify"]:
        return ["--no-verify"]
    # A batch that is stopped is put back: the batch is this host.
    return ["--verify"] if given["keep_partial"] else ["--verify", "--any-errors-fatal"]


def _is_partial(carried_out: dict[str, Any] | None) -> bool:
    """Whether an apply that failed has left something of what it did."""
    # What is not put back is null where nobody tried to, and empty where nothing is left.
    return bool(carried_out and carried_out["done"] and carried_out["not_put_back"] != [])


def _message(steps: list[dict[str, Any]], check: bool) -> str:
    if not steps:
        return "no changes"
    counts = Counter(step["action"] for step in steps)
    told = ", ".join(f"{counts[action]} {words}" for action, words in _WORDS.items() if counts[action])
    restarts = [step["address"] for step in steps if step["restarts"]]
    told += f"; restarts {', '.join(restarts)}" if restarts else ""
    return (
        told
        if check
        else told.replace("to create", "created")
        .replace("to change", "changed")
        .replace("to replace", "replaced")
        .replace("to delete", "deleted")
    )


def _difference(step: dict[str, Any]) -> dict[str, str]:
    """A step in the structure that Ansible shows differences in; nsprov has masked what is secret."""
    return {
        "before_header": step["address"],
        "after_header": step["address"],
        "before": _shown(step["before"]),
        "after": _shown(step["after"]) + _changed_secrets(step),
    }


def _shown(fields: dict[str, Any] | None) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) if fields else ""


def _changed_secrets(step: dict[str, Any]) -> str:
    """A line for each secret that is another one than before: before and after, it looks the same."""
    both = [one for one in step["changes"] if one.get("secret") and one["before"] and one["after"]]
    return "".join(f"# {one['field']}: another secret\n" for one in both)
