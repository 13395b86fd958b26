"""Hosts that are connected already: what the processes of pytest are lent, and who shares one."""

from __future__ import annotations

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


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(HostError, match=r"a command on localhost has not ended within 0\.1 s"):
        LocalTarget(Host()).run("exec sleep 20", 0.1)


def test_hosts_that_are_connected_are_checked_each_by_its_own_connection(tmp_path: Path, note: Note) -> None:
    ways = {f"web{number}.example.com": Here() for number in range(1, 8)}
    results = verify_hosts({name: (desired(note), way) for name, way in ways.items()})
    assert [(name, one.passed, one.total) for name, one in results.items()] == [(name, 2, 2) for name in ways]
    assert all(any(note.path in command for command in way.commands) for way in ways.values())


def test_a_host_that_is_lost_is_one_error_and_the_others_are_checked(tmp_path: Path, note: Note) -> None:
    ways = {"web1": Here(), "web2": Here(lasts=0), "web3": Here(), "web4": Here(lasts=2)}
    report = tmp_path / "junit.xml"
    results = verify_hosts({name: (desired(note), way) for name, way in ways.items()}, junitxml=report)
    assert {name: (one.passed, one.error) for name, one in results.items()} == {
        "web1": (2, None),
        "web2": (0, "the connection to it broke"),
        "web3": (2, None),
        "web4": (0, "the connection to it broke"),
    }
    suites = {one.get("name"): one for one in ElementTree.parse(report).getroot()}
    assert {name: (one.get("tests"), one.get("errors")) for name, one in suites.items()} == {
        "web1": ("2", "0"),
        "web2": ("1", "1"),
        "web3": ("2", "0"),
        "web4": ("1", "1"),
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
