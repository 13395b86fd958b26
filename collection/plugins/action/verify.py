# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks on a host what its roles declare, by nsprov's testinfra facts."""

from __future__ import annotations

from typing import Any

from ansible_collections.nsprov.core.plugins.plugin_utils.task import (
    SHARED_SPEC,
    NsprovAction,
    answer_of,
    unproved_text,
)


class ActionModule(NsprovAction):
    """The action of ``nsprov.core.verify``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.validate_argument_spec(argument_spec=SHARED_SPEC)[1]
        # As they were given: with the marks of vaults on them.
        given["roles"] = self._task.args.get("roles")
        with self.nsprov(task_vars, given) as nsprov:
            done = nsprov("verify", "--format", "json")
            answer = answer_of(done)
            found = answer.get("hosts", {}).get(nsprov.host, {"facts": [], "error": None})
            facts = found["facts"]
            result |= {"changed": False, "facts": facts}
            wrong = unproved_text(facts)
            if wrong and not found["error"]:
                return result | {"failed": True, "msg": wrong}
            if done.code != 0 or not answer:
                return nsprov.failure(done, answer, result)
        return result | {"msg": f"{len(facts)} facts checked, all hold" if facts else "nothing to check"}
