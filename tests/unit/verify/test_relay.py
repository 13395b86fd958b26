"""Hosts that are connected already: what the processes of pytest are lent, and who shares one."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from provisioner.errors import HostError, NsprovError, UnreachableError
from provisioner.fleet.target import LocalTarget, Output
from provisioner.host import Host
from provisioner.verify.relay import ask_relay, relay
from provisioner.verify.runner import verify_hosts

from .kinds import Note, claimed, desired


class Here:
    """A connection to this machine, which breaks after some commands."""

    def __init__(self, lasts: int = 1000) -> None:
        self.commands: list[str] = []
        self.lost: NsprovError | None = None
        self._lasts = lasts
        self._target = LocalTarget(Host())

    def run(self, command: str, seconds: float = 600) -> Output:
        self.commands.append(command)
        if len(self.commands) > self._lasts:
            self.lost = UnreachableError("the connection to it broke")
            raise self.lost
        return self._target.run(command, seconds)


@pytest.fixture
def note(tmp_path: Path) -> Note:
    path = tmp_path / "note"
    path.write_text("hello\n")
    return Note(name="greeting", path=str(path), text="hello")


def test_what_a_command_writes_comes_back_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / ("a-name-that-no-socket-could-have" * 4)
    folder.mkdir()
    with relay(folder, {"web1": Here()}):
        done = ask_relay(folder, "web1", r"printf '\377\0é'; echo no >&2; cat; exit 3")
    assert done == Output(3, b"\xff\0" + "é".encode(), b"no\n")


def test_why_a_command_cannot_run_is_said(tmp_path: Path) -> None:
    with relay(tmp_path, {"web1": Here(lasts=0)}), pytest.raises(RuntimeError, match="the connection to it broke"):
        ask_relay(tmp_path, "web1", "true")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"a command on localhost has not ended within 0\.5 s"):
        LocalTarget(Host()).run(f"sh -c 'echo $$ >{tmp_path}/pid; sleep 20; true'; true", 0.5)
    running = Path("/proc", (tmp_path / "pid").read_text().strip())
    for _ in range(100):
        if not running.exists() or "State:\tZ" in (running / "status").read_text():
            return
        time.sleep(0.05)
    raise AssertionError("what it started runs on")


def test_a_command_that_cannot_be_one_is_told_and_is_no_defect(tmp_path: Path) -> None:
    with relay(tmp_path, {"web1": Here()}), pytest.raises(RuntimeError, match="embedded null byte"):
        ask_relay(tmp_path, "web1", "a\0b")


def test_hosts_that_are_connected_are_checked_each_by_its_own_connection(tmp_path: Path, note: Note) -> None:
    ways = {f"web{number}.example.com": Here() for number in range(1, 8)}
    results = verify_hosts({name: (desired(note), way) for name, way in ways.items()})
    assert [(name, one.passed, one.total) for name, one in results.items()] == [(name, 2, 2) for name in ways]
    assert all(any(note.path in command for command in way.commands) for way in ways.values())


def test_a_host_that_is_lost_is_one_error_and_the_others_are_checked(tmp_path: Path, note: Note) -> None:
    ways = {"web1": Here(), "web2": Here(lasts=0), "web3": Here(), "web4": Here(lasts=5)}
    report = tmp_path / "junit.xml"
    results = verify_hosts({name: (desired(note), way) for name, way in ways.items()}, junitxml=report)
    assert {name: (one.passed, one.failed, one.error, one.lost) for name, one in results.items()} == {
        "web1": (2, 0, None, False),
        "web2": (0, 0, "the connection to it broke", True),
        "web3": (2, 0, None, False),
        "web4": (1, 0, "the connection to it broke", True),
    }
    suites = {one.get("name"): one for one in ElementTree.parse(report).getroot()}
    assert {name: (one.get("tests"), one.get("errors")) for name, one in suites.items()} == {
        "web1": ("2", "0"),
        "web2": ("1", "1"),
        "web3": ("2", "0"),
        "web4": ("2", "1"),
    }


def test_a_role_s_test_that_cannot_be_read_is_its_host_s_failure_alone(tmp_path: Path, note: Note) -> None:
    tests = tmp_path / "roles/tenant/tests"
    tests.mkdir(parents=True)
    (tests / "test_broken.py").write_text("import no_such_module\n")
    hosts = {name: (desired(note, tests=[tests] if name == "web2" else []), Here()) for name in ("web1", "web2")}
    results = verify_hosts(hosts, junitxml=tmp_path / "junit.xml")
    assert [(one.passed, one.failed, one.error) for one in results.values()] == [(2, 0, None), (2, 1, None)]
    assert "no_such_module" in results["web2"].failures[0].message
    suites = {one.get("name"): one for one in ElementTree.parse(tmp_path / "junit.xml").getroot()}
    assert {name: (one.get("tests"), one.get("errors")) for name, one in suites.items()} == {
        "web1": ("2", "0"),
        "web2": ("3", "1"),
    }


def test_a_host_where_nothing_holds_leaves_the_others_alone(note: Note) -> None:
    wrong = claimed(("this is so", "assert run(host, None, 'exit 1').rc == 0"))
    results = verify_hosts({"web1": (desired(wrong), Here()), "web2": (desired(note), Here())})
    assert [(one.passed, one.failed) for one in results.values()] == [(0, 1), (2, 0)]


#: Each ends pytest in the middle of a role's test.
ENDS = {
    "pytest.exit": ("import pytest\n\ndef test_it(host):\n    pytest.exit('enough')\n", "was ended before"),
    "os._exit": ("import os\n\ndef test_it(host):\n    os._exit(0)\n", "pytest ended with 0"),
}


@pytest.mark.parametrize("way", ENDS)
def test_facts_that_were_not_come_to_do_not_hold(
    tmp_path: Path, note: Note, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.verify.runner._PROCESSORS", 1)
    code, words = ENDS[way]
    tests = tmp_path / "roles/tenant/tests"
    tests.mkdir(parents=True)
    (tests / "test_end.py").write_text(code)
    hosts = {"web1": (desired(note, tests=[tests]), Here()), "web2": (desired(note), Here())}
    results = verify_hosts(hosts)
    for one in results.values():
        assert not one.ok
        assert words in str(one.error)


def test_a_role_s_test_that_ends_python_when_it_is_read_is_its_host_s_failure_alone(
    tmp_path: Path, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.verify.runner._PROCESSORS", 1)
    tests = tmp_path / "roles/tenant/tests"
    tests.mkdir(parents=True)
    (tests / "test_end.py").write_text("import sys\n\nsys.exit(0)\n")
    hosts = {"web1": (desired(note, tests=[tests]), Here()), "web2": (desired(note), Here())}
    results = verify_hosts(hosts)
    assert [(one.passed, one.failed, one.error) for one in results.values()] == [(2, 1, None), (2, 0, None)]
    assert "ends Python" in results["web1"].failures[0].message


def test_hosts_whose_names_are_alike_are_told_apart(
    tmp_path: Path, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has modules by dots, files cannot have colons: neither makes one host of two."""
    monkeypatch.setattr("provisioner.verify.runner._PROCESSORS", 1)
    wrong = claimed(("this is so", "assert run(host, None, 'exit 1').rc == 0"))
    hosts = {
        "a.b": (desired(note), Here()),
        "a_b": (desired(wrong), Here()),
        "a:b": (desired(note), Here()),
        "a/b": (desired(wrong), Here()),
    }
    results = verify_hosts(hosts)
    assert [(name, one.passed, one.failed) for name, one in results.items()] == [
        ("a.b", 2, 0),
        ("a_b", 0, 1),
        ("a:b", 2, 0),
        ("a/b", 0, 1),
    ]


def test_a_role_and_a_host_of_the_same_name_are_told_apart_in_junit(tmp_path: Path, note: Note) -> None:
    tests = tmp_path / "roles/db/tests"
    tests.mkdir(parents=True)
    (tests / "test_it.py").write_text("def test_it(host):\n    assert False\n")
    hosts = {"web": (desired(note, tests=[tests]), Here()), "web.db": (desired(note), Here())}
    verify_hosts(hosts, junitxml=tmp_path / "junit.xml")
    suites = {one.get("name"): one for one in ElementTree.parse(tmp_path / "junit.xml").getroot()}
    assert {name: (one.get("tests"), one.get("failures")) for name, one in suites.items()} == {
        "web": ("3", "1"),
        "web.db": ("2", "0"),
    }


def test_a_host_that_does_not_run_commands_is_called_by_its_name(tmp_path: Path, note: Note) -> None:
    class Odd(Here):
        def run(self, command: str, seconds: float = 600) -> Output:
            return Output(1, b"", b"no shell here\n")

    results = verify_hosts({name: (desired(note), Odd()) for name in ("web1.example.com", "web2.example.com")})
    assert [one.error for one in results.values()] == [
        "web1.example.com cannot be reached: no shell here",
        "web2.example.com cannot be reached: no shell here",
    ]
