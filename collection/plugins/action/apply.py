# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes a host what its roles say, by nsprov on the controller."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import yaml
from ansible_collections.nsprov.core.plugins.plugin_utils.task import NsprovAction, _Nsprov

_WORDS = {"create": "to create", "update": "to change", "replace": "to replace", "delete": "to delete"}

_SPEC = {
    "roles": {"type": "list", "elements": "raw"},
    "project": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "verify": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "keep_partial": {"type": "bool", "default": False},
    "roles_path": {"type": "list", "elements": "path"},
    "executable": {"type": "path"},
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
        # As they were given: with the marks of vaults on them.
        given["roles"] = [] if absent else self._task.args.get("roles")
        with self.nsprov(task_vars, given) as nsprov:
            return result | self._applied(nsprov, given, absent)

    def _applied(self, nsprov: _Nsprov, given: dict[str, Any], absent: bool) -> dict[str, Any]:
        words = ["--format", "json"]
        words += ["--adopt"] if given["adopt"] and not absent else []
        check = self._task.check_mode
        if check:
            done = nsprov("plan", *words)
        else:
            words += ["--yes", *(["--keep-partial"] if given["keep_partial"] else [])]
            words += [] if absent else ["--verify" if given["verify"] else "--no-verify"]
            done = nsprov("destroy" if absent else "apply", *words)
        data = json.loads(done.out) if done.out.lstrip().startswith("{") else None
        plan = (data or {}).get("hosts", {}).get(nsprov.host, {"steps": [], "warnings": []})
        steps = plan["steps"]
        result: dict[str, Any] = {
            "changed": False,
            "plan": {"steps": steps, "warnings": plan["warnings"]},
            "result": (data or {}).get("results", {}).get(nsprov.host),
            "warnings": plan["warnings"],
        }
        if self._task.diff:
            result["diff"] = [_difference(step) for step in steps]
        if done.code != 0 or data is None:
            left = result["result"] or {}
            partial = bool(left.get("done")) and (given["keep_partial"] or bool(left.get("not_put_back")))
            return result | nsprov.failure(done, data) | {"changed": partial}
        return result | {"changed": bool(steps), "msg": _message(steps, check)}


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
        "after": _shown(step["after"]),
    }


def _shown(fields: dict[str, Any] | None) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) if fields else ""
