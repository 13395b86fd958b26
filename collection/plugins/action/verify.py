# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks on a host what its roles declare, by nsprov's testinfra facts."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from ansible_collections.nsprov.core.plugins.plugin_utils.task import NsprovAction

_SPEC = {
    "roles": {"type": "list", "elements": "raw"},
    "project": {"type": "str"},
    "roles_path": {"type": "list", "elements": "path"},
    "executable": {"type": "path"},
}


class ActionModule(NsprovAction):
    """The action of ``nsprov.core.verify``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.validate_argument_spec(argument_spec=_SPEC)[1]
        given["roles"] = self._task.args.get("roles")
        with self.nsprov(task_vars, given) as nsprov:
            report = nsprov.handed.in_memory()
            done = nsprov("verify", "--junitxml", report)
            text = nsprov.handed.read_back(report)
            facts = _facts(text) if text else []
            result |= {"changed": False, "facts": facts}
            wrong = [one for one in facts if one["outcome"] == "failed"]
            if wrong:
                told = "\n".join(f"{one['title']}: {one['message']}" for one in wrong)
                return result | {"failed": True, "msg": f"{len(wrong)} of {len(facts)} facts do not hold\n{told}"}
            if done.code != 0:
                # Of a host that was reached there is a report.
                lost = {"unreachable": {nsprov.host: _told(done.err)}} if done.code == 1 and not text else None
                return result | nsprov.failure(done, lost)
        return result | {"msg": f"{len(facts)} facts checked, all hold" if facts else "nothing to check"}


def _facts(report: bytes) -> list[dict[str, str]]:
    """What became of each fact, of a JUnit report."""
    made = []
    for case in ElementTree.fromstring(report).iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        outcome = "failed" if bad is not None else "skipped" if skipped is not None else "passed"
        said = bad if bad is not None else skipped
        message = (said.get("message") or "").strip() if said is not None else ""
        made.append({"title": case.get("name", ""), "outcome": outcome, "message": message})
    return made


def _told(text: str) -> str:
    return text.strip().removeprefix("nsprov: ")
