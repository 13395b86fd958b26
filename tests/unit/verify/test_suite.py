"""The suite that `verify --write` makes: readable, complete, and free of nsprov."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.verify.suite import write_suite

from .kinds import Note, claimed, desired, expect


def plain_pytest(*args: str, cwd: Path, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """pytest as somebody starts it who has testinfra and not nsprov."""
    command = [sys.executable, "-P", "-m", "pytest", "-p", "testinfra.plugin", "-p", "no:cacheprovider", *args]
    # With what stands beside this Python: ansible-inventory.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": path} | (more or {})
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def note(tmp_path: Path) -> Note:
    path = tmp_path / "note"
    path.write_text("hello\n")
    return Note(name="greeting", path=str(path), text="hello")


def test_each_fact_is_a_function_named_and_located(tmp_path: Path, note: Note) -> None:
    [path] = write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    assert path.name == "test_edge1.py"
    assert (
        '@fact("note/greeting exists", declared="roles/tenant/tasks/main.yml:4")\n'
        "def test_note_greeting_exists(host):\n"
        f"    assert host.file('{note.path}').exists\n"
    ) in path.read_text()


def test_it_runs_with_plain_pytest_and_shows_the_titles(tmp_path: Path, note: Note) -> None:
    folder = tmp_path / "suite"
    write_suite(folder, {"edge1": desired(note)}, project="shop")
    done = plain_pytest("--hosts=local://", "-v", "suite", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "test_edge1.py::note/greeting exists PASSED" in done.stdout
    assert "test_edge1.py::note/greeting says hello PASSED" in done.stdout


def test_it_imports_nothing_of_nsprov(tmp_path: Path, note: Note) -> None:
    folder = tmp_path / "suite"
    write_suite(folder, {"edge1": desired(note)}, project="shop")
    imported = {
        name.split(".")[0]
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {
        *("fixtures", "packets", "probes", "views"),
        *("_pytest", "pytest", "testinfra"),
    }


def test_a_failure_says_what_was_expected_what_is_there_and_who_declared_it(tmp_path: Path, note: Note) -> None:
    Path(note.path).write_text("good night\n")
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    done = plain_pytest("--hosts=local://", "suite", cwd=tmp_path)
    assert done.returncode == 1
    assert "edge1: note/greeting says hello" in done.stdout
    assert "expected: hello" in done.stdout
    assert "found:    good night" in done.stdout
    assert "roles/tenant/tasks/main.yml:4" in done.stdout
    assert "conftest.py" not in done.stdout.split("FAILURES")[1]
    assert "1 failed, 1 passed" in done.stdout


def test_one_fact_can_be_chosen_by_words_of_its_title(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    done = plain_pytest("--hosts=local://", "-k", "says and hello", "suite", cwd=tmp_path)
    assert "1 passed, 1 deselected" in done.stdout


def test_without_a_host_it_says_how_to_name_one(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    done = plain_pytest("suite", cwd=tmp_path)
    assert done.returncode == 4
    assert "say how to reach edge1: --hosts=local://, or --hosts=ssh://edge1" in done.stderr + done.stdout


def test_a_host_that_was_known_when_it_was_written_needs_no_option(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop", targets={"edge1": "local://"})
    assert "2 passed" in plain_pytest("suite", cwd=tmp_path).stdout


def test_of_several_hosts_each_is_found_by_its_name(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note), "edge2": desired(note)}, project="shop")
    hosts = "--hosts=chroot://edge1,chroot://root@edge2:22"
    for name, uri in (("edge1", "chroot://edge1"), ("edge2", "chroot://root@edge2:22")):
        done = plain_pytest(hosts, f"suite/test_{name}.py", cwd=tmp_path)
        assert f"{uri} cannot be reached" in done.stderr + done.stdout


def test_other_tests_run_along_and_find_their_hosts_themselves(tmp_path: Path, note: Note) -> None:
    (tmp_path / "test_mine.py").write_text("def test_my_own(host):\n    assert host.run('true').rc == 0\n")
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    done = plain_pytest("--hosts=local://", "--rootdir=.", "-c", "suite/pytest.ini", ".", cwd=tmp_path)
    assert "3 passed" in done.stdout, done.stdout


def suite_of_two(tmp_path: Path, note: Note, **targets: str) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note), "edge2": desired(note)}, project="shop", targets=targets)


def test_a_host_that_is_not_among_those_given_is_left_out_and_named(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note, edge1="local://", edge2="ssh://192.0.2.12:22?sudo=true")
    done = plain_pytest("--hosts=chroot://edge1", "suite", cwd=tmp_path)
    assert "chroot://edge1 cannot be reached" in done.stderr + done.stdout
    done = plain_pytest("--hosts=chroot://root@192.0.2.12", "suite", cwd=tmp_path)
    assert "chroot://root@192.0.2.12 cannot be reached" in done.stderr + done.stdout, "known by its address"


def test_one_host_alone_is_whatever_the_uri_says(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note)
    assert "2 passed" in plain_pytest("--hosts=local://", "suite/test_edge1.py", cwd=tmp_path).stdout


def test_one_machine_is_never_taken_for_two_hosts(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note)
    done = plain_pytest("--hosts=local://", "suite", cwd=tmp_path)
    assert done.returncode == 4
    assert "not among --hosts=local://: edge1, edge2; local:// can be only one of them" in done.stderr
    done = plain_pytest("--hosts=chroot://nowhere", "suite", cwd=tmp_path)
    assert "not among --hosts=chroot://nowhere: edge1, edge2" in done.stderr
    assert "cannot be reached" not in done.stderr + done.stdout, "nothing is connected"
    done = plain_pytest("--hosts=chroot://edge2", "suite/test_edge1.py", cwd=tmp_path)
    assert "not among --hosts=chroot://edge2: edge1" in done.stderr


INVENTORY = """\
all:
  vars: {ansible_connection: local}
  children:
    edge: {hosts: {edge1: {}, edge2: {}}}
    other: {hosts: {db1: {}}}
"""


def test_ansible_s_inventory_says_which_host_is_which(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note)
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    inventory = "--ansible-inventory=inventory.yml"
    done = plain_pytest("--hosts=ansible://all", inventory, "suite", cwd=tmp_path)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert "NOT CHECKED" not in done.stdout
    done = plain_pytest("--hosts=ansible://edge2", inventory, "suite", cwd=tmp_path)
    assert "2 passed, 2 deselected" in done.stdout
    assert "NOT CHECKED, as not among --hosts: edge1" in done.stdout
    done = plain_pytest("--hosts=ansible://other", inventory, "suite/test_edge1.py", cwd=tmp_path)
    assert "not among --hosts=ansible://other: edge1" in done.stderr


def test_hosts_behind_one_address_are_told_apart_by_their_ports(tmp_path: Path, note: Note) -> None:
    targets = {"edge1": "ssh://anna@127.0.0.1:2201", "edge2": "ssh://anna@127.0.0.1:2202"}
    write_suite(tmp_path / "suite", dict.fromkeys(targets, desired(note)), project="shop", targets=targets)
    hosts = "--hosts=chroot://127.0.0.1:2202,chroot://127.0.0.1:2201"
    for name, uri in (("edge1", "chroot://127.0.0.1:2201"), ("edge2", "chroot://127.0.0.1:2202")):
        done = plain_pytest(hosts, f"suite/test_{name}.py", cwd=tmp_path)
        assert f"{uri} cannot be reached" in done.stderr + done.stdout
    done = plain_pytest("--hosts=chroot://127.0.0.1", "suite", cwd=tmp_path)
    assert done.returncode == 4
    assert "can be only one of them" in done.stderr


def test_a_host_whose_name_is_an_ipv6_address_is_found_by_it(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"fd00::1": desired(note), "fd00::2": desired(note)}, project="shop")
    done = plain_pytest("--hosts=chroot://[fd00::2]:22,chroot://[fd00::1]", "suite/test_fd00__2.py", cwd=tmp_path)
    assert "chroot://[fd00::2]:22 cannot be reached" in done.stderr + done.stdout


def test_one_uri_is_for_the_one_host_whose_facts_are_chosen_by_their_words(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note)
    done = plain_pytest("--hosts=local://", "-k", "test_edge1", "suite", cwd=tmp_path)
    assert "2 passed, 2 deselected" in done.stdout, done.stdout + done.stderr


def test_an_inventory_that_is_not_there_is_named(tmp_path: Path, note: Note) -> None:
    suite_of_two(tmp_path, note)
    done = plain_pytest("--hosts=ansible://all", "--ansible-inventory=nowhere.yml", "suite", cwd=tmp_path)
    assert done.returncode == 4
    assert "ERROR: ansible://all: No inventory was parsed" in done.stderr
    done = plain_pytest("--hosts=ansible://all", "suite", cwd=tmp_path, more={"PATH": "/nowhere"})
    assert "ERROR: ansible://all needs ansible-inventory, which is not there: pip install ansible-core" in done.stderr


def test_the_user_s_own_pytest_settings_do_not_reach_it(tmp_path: Path, note: Note) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    assert "2 passed" in plain_pytest("--hosts=local://", "suite", cwd=tmp_path).stdout


def test_a_fact_that_two_resources_state_stands_once(tmp_path: Path) -> None:
    same = ("netns/blue exists", "assert True")
    [path] = write_suite(tmp_path / "suite", {"edge1": desired(claimed(same, same))}, project="shop")
    assert path.read_text().count("@fact") == 1


def test_two_facts_of_one_title_are_told_apart(tmp_path: Path) -> None:
    facts = [("it is up", "assert 1"), ("it is up", "assert 2"), ("it is up", "assert 3")]
    [path] = write_suite(tmp_path / "suite", {"edge1": desired(claimed(*facts))}, project="shop")
    text = path.read_text()
    assert '@fact("it is up"' in text
    assert '@fact("it is up (claimed/this)"' in text
    assert '@fact("it is up (claimed/this), 2"' in text
    assert "3 passed" in plain_pytest("--hosts=local://", "suite", cwd=tmp_path).stdout


def test_reachability_stands_last_so_that_its_packets_travel_meanwhile(tmp_path: Path, note: Note) -> None:
    wanted = desired(note, expects=[expect("blue", "10.20.0.12:80", "dropped")])
    [path] = write_suite(tmp_path / "suite", {"edge1": wanted}, project="shop")
    last = path.read_text().split("@fact(")[-1]
    assert last.startswith('"blue is dropped at 10.20.0.12:80", declared="roles/tenant/tasks/main.yml:31")')
    assert "expect_packet(host, 'blue', '10.20.0.12:80', 'tcp', 'dropped')" in last


def test_a_kind_whose_check_is_not_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the check 'x exists' is not valid Python"):
        write_suite(tmp_path / "suite", {"edge1": desired(claimed(("x exists", "assert (")))}, project="shop")


def test_an_earlier_suite_is_written_over_and_its_hosts_are_gone(tmp_path: Path, note: Note) -> None:
    folder = tmp_path / "suite"
    write_suite(folder, {"edge1": desired(note), "edge2": desired(note)}, project="shop")
    write_suite(folder, {"edge1": desired(note)}, project="shop")
    assert [path.name for path in folder.glob("test_*.py")] == ["test_edge1.py"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, note: Note) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="holds other files"):
        write_suite(tmp_path, {"edge1": desired(note)}, project="shop")
    assert not (tmp_path / "probes.py").exists()


def test_what_is_declared_is_for_its_owner_s_eyes(tmp_path: Path, note: Note) -> None:
    write_suite(tmp_path / "suite", {"edge1": desired(note)}, project="shop")
    assert stat.S_IMODE((tmp_path / "suite/declared.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["edge-1.example.com", "fd00::1", "web01"])
def test_any_host_name_makes_a_file(tmp_path: Path, note: Note, name: str) -> None:
    [path] = write_suite(tmp_path / "suite", {name: desired(note)}, project="shop", targets={name: "local://"})
    assert path.exists()
    assert "2 passed" in plain_pytest("suite", cwd=tmp_path).stdout
