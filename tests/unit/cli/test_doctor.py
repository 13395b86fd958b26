"""``nsprov doctor`` says what is missing and what mends it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from provisioner.cli import app
from provisioner.host import doctor
from provisioner.host.doctor import Finding, is_ready


def test_an_apply_works_with_warnings_but_not_without_a_thing_that_is_missing() -> None:
    fine, warned, lost = Finding("a", "ok", ""), Finding("b", "warning", ""), Finding("c", "missing", "")
    assert is_ready([fine, warned])
    assert not is_ready([fine, lost])


def test_every_row_that_is_not_ok_says_what_for_and_how_it_is_mended() -> None:
    answer = CliRunner().invoke(app, ["doctor", "--format", "json"])
    data = json.loads(answer.stdout)
    assert answer.exit_code == (0 if data["ready"] else 1)
    for finding in data["findings"]:
        assert finding["status"] == "ok" or (finding["needed_for"] and finding["remedy"]), finding


def test_the_last_line_says_whether_an_apply_would_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("nft", "warning", "not installed", "verify", "apt-get install nftables")]
    monkeypatch.setattr(doctor, "diagnose", lambda host: found)
    answer = CliRunner().invoke(app, ["doctor"])
    assert answer.exit_code == 0
    assert answer.stdout.endswith("An apply would work here, with 1 warning.\n")
    assert "apt-get install nftables" in answer.stdout
