"""pytest plugin of nsprov's own runs: sandboxes as testinfra hosts, and results for a program to read.

Given by ``-p provisioner.verify.plugin``. A written suite does not need it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nsprov").addoption(
        "--nsprov-results", metavar="FILE", type=Path, help="write the outcome of each fact, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    from provisioner.verify.backend import register

    register()
    path = config.getoption("--nsprov-results")
    if path is not None:
        config.pluginmanager.register(_Results(path))


class _Results:
    """Gathers one outcome for each fact, and for each file that could not be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test is reported in three phases: it failed if any of them did, and counts when it was called.
        if report.when == "call" or report.outcome != "passed":
            known = self.found.get(report.nodeid)
            if known is None or known["outcome"] != "failed":
                self.found[report.nodeid] = self._outcome(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            text = str(report.longrepr)
            reason = next((line for line in reversed(text.splitlines()) if line.strip()), "cannot be read")
            self.found[report.nodeid] = {
                "host": _host_of(report.nodeid),
                "title": report.nodeid,
                "outcome": "failed",
                "message": reason.removeprefix("E").strip(),
                "details": text,
                "declared": None,
            }

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(list(self.found.values())))

    def _outcome(self, report: pytest.TestReport) -> dict[str, Any]:
        declared = dict(report.user_properties).get("declared")
        file, _, name = report.nodeid.partition("::")
        # A fact goes by its title, a role's test by the role, the file and its name.
        title = name if declared or "/" not in file else f"{file.partition('/')[2]}::{name}"
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash is not None else report.longreprtext
        return {
            "host": _host_of(report.nodeid),
            "title": title,
            "outcome": report.outcome,
            "message": words(message, report.longreprtext) if report.failed else "",
            "details": report.longreprtext if report.failed else "",
            "declared": declared,
        }


def _host_of(nodeid: str) -> str:
    """Which host of the suite a test is about: ``test_HOST.py::…``, or ``HOST/ROLE/…``."""
    folder, inside, _ = nodeid.partition("::")[0].partition("/")
    return folder if inside else folder.removeprefix("test_").removesuffix(".py")


def words(message: str, details: str = "") -> str:
    """The reason of a failed assertion in one line: ``expected X, found Y`` where pytest knows both.

    ``details`` are pytest's lines about it, with the code: shown where the assertion itself says too little.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "failed without a reason"
    first = lines[0].removeprefix("AssertionError: ")
    shown = [line.strip() for line in details.splitlines() if line.startswith("    ") and line.strip(" ^~")]
    code = shown[-1] if shown else ""
    said = _SAYS_LITTLE.match(first)
    if said and code:
        return f"{_CALLED[said.lastgroup or 'false']}: {code.removeprefix('assert ')}"
    command = _COMMAND.search(first)
    if command:
        return command["words"].replace("\\n", " ").strip() or f"{command['command']} failed"
    sides = dict(line.split(":", 1) for line in lines if line.startswith(("expected:", "found:")))
    if len(sides) == 2:
        told = "" if first.startswith("assert ") else f"{first}: "
        return f"{told}expected {sides['expected'].strip()}, found {sides['found'].strip()}"
    if first[0] in "[{(":  # `assert …, found`: what was found is all that is said
        first = f"not so, found: {first}"
    return first if len(first) <= 300 else f"{first[:299]}…"


#: What Python says of a check that had nothing to look at, or is only false, or has several parts.
_SAYS_LITTLE = re.compile(
    r"(?P<false>assert (\(|(not )?(False|True|None|\[\]|\{\}|'')$))"
    r"|(?P<nothing>(TypeError|AttributeError): 'NoneType' object )"
    r"|(?P<unset>KeyError: )"
)
#: testinfra's own words for a command that failed.
_COMMAND = re.compile(
    r"Unexpected exit code \d+ for CommandResult\(.*command=b['\"](?P<command>.*?)['\"], .*"
    r"_stderr=b?(?P<quote>['\"])(?P<words>.*)(?P=quote)\)"
)
_CALLED = {"false": "not so", "nothing": "not there", "unset": "not set"}
