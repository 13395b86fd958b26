"""Running a suite: counts, reasons, roles' tests, JUnit, and what must not lead it astray."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from provisioner.report.text import Style
from provisioner.verify.report import render
from provisioner.verify.runner import run_suite, verify_hosts
from provisioner.verify.suite import write_suite

from .kinds import Note, claimed, desired


@pytest.fixture
def note(tmp_path: Path) -> Note:
    path = tmp_path / "note"
    path.write_text("hello\n")
    return Note(name="greeting", path=str(path), text="hello")


@pytest.fixture
def role_tests(tmp_path: Path) -> Path:
    folder = tmp_path / "roles/tenant/tests"
    folder.mkdir(parents=True)
    return folder


def test_all_facts_hold(note: Note) -> None:
    result = verify_hosts({"edge1": (desired(note), "local://")})["edge1"]
    assert (result.passed, result.failed, result.total, result.ok) == (2, 0, 2, True)


def test_exactly_the_fact_that_does_not_hold_fails(note: Note) -> None:
    Path(note.path).write_text("good night\n")
    result = verify_hosts({"edge1": (desired(note), "local://")})["edge1"]
    assert not result.ok
    assert result.failures == (
        ("note/greeting says hello", "expected hello, found good night", "roles/tenant/tasks/main.yml:4"),
    )


#: What a check says, and how its failure reads.
REASONS = {
    "assert '256M' == '512M'": "expected 512M, found 256M",
    "assert 'a' in {'c', 'b'}": "expected a, found b, c",
    "assert 'a' in set()": "expected a, found none",
    "assert 'x' in (None, '512M')": "expected nothing or 512M, found x",
    "assert '' == 'blue'": "expected blue, found nothing",
    "assert any(n > 3 for n in [1, 2])": "not so: any(n > 3 for n in [1, 2])",
    "assert 1 == 2, 'the MTU is off'": "the MTU is off: expected 2, found 1",
    "raise AssertionError('it is inactive, dead')": "it is inactive, dead",
    "{}['mtu']": "not set: {}['mtu']",
    "assert interface(host, None, 'none0')['mtu'] == 1500": "there is no interface none0 on the host; there is: ",
    "assert link_state(host, None, 'none0') == 'up'": "there is no interface none0 on the host; there is: ",
    "assert file_type(host, '/nothing/here') == 'directory'": "expected directory, found nothing",
    "link(host, None, 'none0')['mtu']": "not there: link(host, None, 'none0')['mtu']",
    "link(host, None, 'none0').get('mtu')": "not there: link(host, None, 'none0').get('mtu')",
    "host.check_output('ls /no/such')": "ls: cannot access '/no/such': No such file or directory",
    "host.check_output('exit 3')": "exit 3 failed",
    "assert any([]), []": "not so, found: []",
    "assert (None or False) and True": "not so: (None or False) and True",
    "assert ('UP' in ['DOWN']) is True": "not so: ('UP' in ['DOWN']) is True",
    "assert 'drop' in 'table\\n}'": "expected drop, found 2 lines without it",
    "assert 1 < 0": "assert 1 < 0",
    "raise ValueError('odd')": "ValueError: odd",
    "ip_json(host, 'no-such-netns', 'link')": "ip -n no-such-netns link: ",
}


@pytest.fixture(scope="module")
def reasons() -> dict[str, str]:
    result = verify_hosts({"edge1": (desired(claimed(*((code, code) for code in REASONS))), "local://")})["edge1"]
    return {failure.title: failure.message for failure in result.failures}


@pytest.mark.parametrize("code", REASONS)
def test_a_failure_reads_in_one_line(code: str, reasons: dict[str, str]) -> None:
    assert reasons[code].startswith(REASONS[code])


def test_facts_of_many_hosts_are_told_apart(tmp_path: Path, note: Note) -> None:
    other = Note(name="greeting", path=str(tmp_path / "missing"), text="hello")
    results = verify_hosts({"edge1": (desired(note), "local://"), "edge2": (desired(other), "local://")})
    assert [(name, one.passed, one.failed) for name, one in results.items()] == [("edge1", 2, 0), ("edge2", 0, 2)]


def test_a_host_with_nothing_declared_has_nothing_to_check() -> None:
    result = verify_hosts({"edge1": (desired(), "local://")})["edge1"]
    assert (result.total, result.ok) == (0, True)


def test_a_title_with_an_ipv6_address_is_whole_in_the_report_and_in_junit(tmp_path: Path) -> None:
    titles = ["veth/blue:eth0 has fd00::2/64", "blue reaches [fd00::3]:80", "blue is dropped at 10.20.0.12:80"]
    report = tmp_path / "reports/junit.xml"
    wanted = desired(claimed(*((title, "pass") for title in titles)))
    result = verify_hosts({"edge1": (wanted, "local://")}, junitxml=report)["edge1"]
    assert [one.title for one in result.facts] == titles
    suites = ElementTree.parse(report).getroot()
    assert [suite.get("name") for suite in suites] == ["edge1"]
    assert [case.get("name") for case in suites.iter("testcase")] == titles
    assert {case.get("classname") for case in suites.iter("testcase")} == {"test_edge1"}


def test_junit_says_why_and_where(tmp_path: Path, note: Note) -> None:
    Path(note.path).unlink()
    verify_hosts({"edge1": (desired(note), "local://")}, junitxml=tmp_path / "junit.xml")
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot().findall(".//testcase")
    assert [case.find("failure") is not None for case in cases] == [True, True]
    assert {one.get("value") for case in cases for one in case.iter("property")} == {"roles/tenant/tasks/main.yml:4"}


def test_junit_has_a_suite_for_each_host_also_for_one_that_cannot_be_reached(tmp_path: Path, note: Note) -> None:
    hosts = {"edge1": (desired(note), "local://"), "edge2": (desired(note), "chroot:///no/such/root")}
    verify_hosts(hosts, junitxml=tmp_path / "junit.xml")
    suites = list(ElementTree.parse(tmp_path / "junit.xml").getroot())
    checked = {one.get("name"): (one.get("tests"), one.get("errors")) for one in suites if one.get("tests") != "0"}
    assert checked == {"edge1": ("2", "0"), "edge2": ("1", "1")}


def test_the_tests_of_a_role_run_along(note: Note, role_tests: Path) -> None:
    (role_tests / "test_note.py").write_text(
        "def test_it_greets(host, declared):\n"
        "    [note] = declared('note')\n"
        "    assert host.file(note['path']).content_string == note['text'] + '\\n'\n"
        "def test_it_is_loud(host):\n"
        "    assert 'hello' == 'HELLO'\n"
    )
    result = verify_hosts({"edge1": (desired(note, tests=[role_tests]), "local://")})["edge1"]
    assert (result.passed, result.failed) == (3, 1)
    assert result.failures == (("tenant/test_note.py::test_it_is_loud", "expected HELLO, found hello", None),)


def test_files_of_one_name_in_two_roles_do_not_clash(tmp_path: Path) -> None:
    folders = [tmp_path / "roles" / role / "tests" for role in ("tenant", "router")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "test_it.py").write_text("def test_it(host):\n    assert host.run('true').rc == 0\n")
    result = verify_hosts({"edge1": (desired(tests=folders), "local://")})["edge1"]
    assert {one.title for one in result.facts} == {"tenant/test_it.py::test_it", "router/test_it.py::test_it"}


def test_a_role_s_test_that_cannot_be_read_is_a_failure(note: Note, role_tests: Path) -> None:
    (role_tests / "test_note.py").write_text("import no_such_module\n")
    result = verify_hosts({"edge1": (desired(note, tests=[role_tests]), "local://")})["edge1"]
    assert not result.ok
    assert "no_such_module" in result.failures[0].message


def test_a_skipped_test_is_no_failure(role_tests: Path) -> None:
    (role_tests / "test_it.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no memory controller')\n")
    result = verify_hosts({"edge1": (desired(tests=[role_tests]), "local://")})["edge1"]
    assert (result.skipped, result.failed, result.ok) == (1, 0, True)


def test_a_host_that_cannot_be_reached_is_one_error_and_not_many_failures(note: Note) -> None:
    uri = "chroot:///no/such/root"
    result = verify_hosts({"edge1": (desired(note), uri)})["edge1"]
    assert not result.ok
    assert result.total == 0
    assert result.error is not None
    assert "cannot be reached" in result.error


def test_the_user_s_pytest_settings_do_not_reach_the_run(
    tmp_path: Path, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit('not ours')\n")
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    assert verify_hosts({"edge1": (desired(note), "local://")})["edge1"].ok


def test_a_written_suite_is_left_as_it_was(tmp_path: Path, note: Note) -> None:
    folder = tmp_path / "suite"
    write_suite(folder, {"edge1": desired(note)}, project="shop")
    before = sorted(path.name for path in folder.rglob("*"))
    assert run_suite(folder, "local://").ok
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_the_report_shows_counts_and_each_fact_that_does_not_hold(note: Note) -> None:
    Path(note.path).write_text("good night\n")
    results = verify_hosts({"edge1": (desired(note), "local://"), "edge22": (desired(), "local://")})
    assert render(results, paint=Style(False)).splitlines() == [
        "edge1    2 facts, 1 does not hold",
        "    ✗ note/greeting says hello   roles/tenant/tasks/main.yml:4",
        "        expected hello, found good night",
        "edge22   nothing to check",
    ]


def test_the_verbose_report_lists_every_fact(note: Note) -> None:
    results = verify_hosts({"edge1": (desired(note), "local://")})
    assert render(results, paint=Style(False), verbose=True).splitlines() == [
        "edge1   2 facts checked, all hold",
        "    ✓ note/greeting exists       roles/tenant/tasks/main.yml:4",
        "    ✓ note/greeting says hello   roles/tenant/tasks/main.yml:4",
    ]


def test_where_much_is_there_instead_a_part_of_it_is_named() -> None:
    code = "found = [f't{n}' for n in range(600)]\nassert 'blue' in found"
    few = "found = ['t1', 't2']\nassert 'blue' in found"
    result = verify_hosts({"edge1": (desired(claimed(("many", code), ("few", few))), "local://")})["edge1"]
    assert [one.message for one in result.failures] == [
        "expected blue, found 600 others (t0, t1, t10, t100, t101, …)",
        "expected blue, found t1, t2",
    ]
