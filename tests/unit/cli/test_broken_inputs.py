"""Every broken input, given to the command as a user gives it: exit 65, located, and no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from provisioner.cli import main
from provisioner.cli.session import open_session
from provisioner.errors import ConfigError
from tests.broken.cases import cases, check, sources_of

HERE = {"name": "here", "kernel": "6.1", "systemd": 252, "controllers": []}


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nsprov", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("case", cases("graph"), ids=lambda path: path.name.replace("_", " "))
def test_what_is_wrong_among_resources_is_located(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    session = open_session(sources_of(case))
    with pytest.raises(ConfigError) as caught:
        session.build(lambda _: HERE)
    check(case, caught.value.problems)


@pytest.mark.parametrize("case", [*cases("graph"), *cases("roles"), *cases("inventory")], ids=lambda path: path.name)
def test_the_command_ends_with_65_and_says_where(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(case)
    sources = [word for source in sources_of(case) for word in ("-i", source)]
    assert run(monkeypatch, "validate", *sources) == 65
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "nothing was touched" in printed.err
    assert printed.out == ""


def test_an_option_that_does_not_exist_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "plan", "--no-such-option") == 64
    assert "--no-such-option" in capsys.readouterr().err


def test_without_an_inventory_the_command_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NSPROV_INVENTORY", raising=False)
    assert run(monkeypatch, "plan") == 64
    assert "no inventory is given" in capsys.readouterr().err


def test_a_defect_prints_one_line_and_where_the_report_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("provisioner.cli.app", lambda **_: 1 / 0)
    assert run(monkeypatch, "plan") == 70
    printed = capsys.readouterr().err
    assert "a defect in nsprov itself: ZeroDivisionError" in printed
    report = next(tmp_path.glob("nsprov-crash-*.txt"))
    assert str(report) in printed
    assert "Traceback" in report.read_text()
