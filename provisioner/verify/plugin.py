"""pytest plugin of nsprov's own runs: sandboxes as testinfra hosts, and results for a program to read.

Given by ``-p provisioner.verify.plugin``. A written suite does not need it.
"""

from __future__ import annotations

import json
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
            "title": title,
            "outcome": report.outcome,
            "message": words(message, report.longreprtext) if report.failed else "",
            "details": report.longreprtext if report.failed else "",
            "declared": declared,
        }


def words(message: str, details: str = "") -> str:
    """The reason of a failed assertion in one line: ``expected X, found Y`` where pytest knows both.

    ``details`` are pytest's lines about it, with the code: shown where the assertion says no more than False.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "failed without a reason"
    expected = next((line.partition(":")[2].strip() for line in lines if line.startswith("expected:")), None)
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("found:")), None)
    first = lines[0].removeprefix("AssertionError: ")
    if expected is not None and found is not None:
        told = first if not first.startswith("assert ") else ""
        return f"{told}: expected {expected}, found {found}" if told else f"expected {expected}, found {found}"
    if first in ("assert False", "assert None", "assert []", "assert {}"):
        code = [line.strip() for line in details.splitlines() if line.startswith("    ")]
        return f"not so: {code[-1].removeprefix('assert ')}" if code else first
    return first
