"""``nsprov inventory`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.cli import main


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inventory.yml").write_text("web: {hosts: {w1: {a: 1}, w2: }}\ndb: {hosts: d1, vars: {b: 2}}\n")
    (tmp_path / "more.ini").write_text("[web]\nw3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NSPROV_INVENTORY", raising=False)


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what was printed."""
    monkeypatch.setattr("sys.argv", ["nsprov", "inventory", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    printed = capsys.readouterr()
    return int(exited.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--graph", "@all:\n  |--@ungrouped:\n  |--@web:\n  |  |--w1\n  |  |--w2\n  |--@db:\n  |  |--d1\n"),
        ("--graph db --vars", "@db:\n  |--d1\n  |  |--{b = 2}\n  |--{b = 2}\n"),
        ("-i more.ini --graph web", "@web:\n  |--w3\n"),
        ("-i inventory.yml -i more.ini --graph web", "@web:\n  |--w1\n  |--w2\n  |--w3\n"),
        ("more.ini --graph", "@all:\n  |--@ungrouped:\n  |--@web:\n  |  |--w3\n"),
        ("--host w1", '{\n    "a": 1\n}\n'),
        ("--host d1 --yaml", "b: 2\n"),
        ("-i a,b --list --yaml", "all:\n  children:\n    ungrouped:\n      hosts:\n        a: {}\n        b: {}\n"),
        ("--list --yaml --limit w2", "all:\n  children:\n    web:\n      hosts:\n        w2: {}\n"),
    ],
)
def test_prints(
    arguments: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments.split(), monkeypatch=monkeypatch, capsys=capsys) == (0, expected)


def test_a_limit_leaves_the_other_hosts_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, printed = run("--list", "--limit", "web:!w2", monkeypatch=monkeypatch, capsys=capsys)
    listed = json.loads(printed)
    assert listed["_meta"]["hostvars"] == {"w1": {"a": 1}}
    assert listed["web"] == {"hosts": ["w1"]}
    assert "db" not in listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give one of --list, --host and --graph"),
        ("--list --graph", "give one of --list, --host and --graph"),
        ("--list web", "is for --graph"),
        ("--graph wbe", "did you mean 'web'"),
        ("--host w9", "known here: d1, w1, w2"),
        ("--list --limit nobody", "no host or group 'nobody'"),
    ],
)
def test_a_wrong_question_is_refused(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(*arguments.split(), monkeypatch=monkeypatch, capsys=capsys)
    assert code == 64
    assert message in printed
