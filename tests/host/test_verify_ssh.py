"""Facts of ssh hosts: by `nsprov verify`, and by the suite that it writes, run on a controller by plain pytest."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from provisioner.host.sandbox import Sandbox
from tests.host.conftest import Box
from tests.host.sshd import add_user, authorize, start_sshd

CONTROLLER = "192.0.2.20"
HOSTS = {"web1": "192.0.2.21", "web2": "192.0.2.22"}
#: A fact of each host that holds there and nowhere else.
TASKS = '- netns: {name: "ns-{{ inventory_hostname }}"}\n'
PASSWORD = "let-me-in-4711"


@dataclass
class Fleet:
    """A controller and two hosts on a wire. Root is not let in: anna is, who becomes it."""

    controller: Box
    hosts: dict[str, Box]

    def nsprov(self, command: str, *args: str, **variables: Any) -> CompletedProcess[str]:
        self.inventory(**variables)
        yes = ["--yes"] if command in ("apply", "destroy") else []
        return self.controller.nsprov(command, "/root/site/inventory.yml", *yes, *args, check=False)

    def inventory(self, **variables: Any) -> None:
        hosts = {name: {"ansible_host": address} for name, address in HOSTS.items()}
        shared = {"nsprov_roles": ["net"], "ansible_user": "anna", "ansible_become": True, **variables}
        self.controller.write("/root/site/inventory.yml", yaml.safe_dump({"all": {"hosts": hosts, "vars": shared}}))

    def pytest(self, *args: str) -> CompletedProcess[str]:
        """Plain pytest in the folder of the written suite."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-v", *args]
        return self.controller.run(
            ["sh", "-c", 'cd /root/suite && exec "$@"', "sh", "env", f"PATH={path}", *command], check=False
        )


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:

        def start(name: str, address: str) -> Box:
            return Box(stack.enter_context(Sandbox.start(f"{name}-{uuid.uuid4().hex[:8]}", address=address)))

        controller = start("ctl", CONTROLLER)
        controller.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        controller.write("/root/site/roles/net/tasks/main.yml", TASKS)
        key = controller.run("cat /root/.ssh/id_ed25519.pub").stdout
        hosts, known = {}, ""
        for name, address in HOSTS.items():
            hosts[name] = host = start(name, address)
            known += f"{address} {start_sshd(host)}\n"
            add_user(host, "anna", sudo="NOPASSWD:ALL")
            add_user(host, "bert", sudo="ALL", password=PASSWORD)
            authorize(host, "anna", key)
            authorize(host, "bert", key)
            host.run(f"ip netns add ns-{name}")
        controller.write("/root/.ssh/known_hosts", known)
        made = Fleet(controller, hosts)
        applied = made.nsprov("apply", "--adopt")
        assert applied.returncode == 0, said(applied)
        yield made


@pytest.fixture(scope="module")
def suite(fleet: Fleet) -> Fleet:
    written = fleet.nsprov("verify", "--write", "/root/suite")
    assert written.returncode == 0, said(written)
    return fleet


def said(done: CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_verify_goes_to_each_host_as_its_user_and_becomes_root(fleet: Fleet) -> None:
    done = fleet.nsprov("verify", "--junitxml", "/root/junit.xml")
    assert done.returncode == 0, said(done)
    suites = ElementTree.fromstring(fleet.controller.run("cat /root/junit.xml").stdout)
    assert [one.get("name") for one in suites] == ["web1", "web2"]
    assert all(one.get("failures") == one.get("errors") == "0" and one.get("tests") != "0" for one in suites)


def test_verify_gives_sudo_the_password_that_it_wants(fleet: Fleet) -> None:
    done = fleet.nsprov("verify", "-v", ansible_user="bert", ansible_become_password=PASSWORD)
    assert done.returncode == 0, said(done)
    assert "✓ netns/ns-web1 exists" in done.stdout
    assert PASSWORD not in said(done)


def test_a_fact_that_fails_by_ssh_fails_for_its_host_alone(fleet: Fleet) -> None:
    fleet.hosts["web2"].run("ip netns del ns-web2")
    try:
        done = fleet.nsprov("verify", ansible_user="bert", ansible_become_password=PASSWORD)
    finally:
        fleet.hosts["web2"].run("ip netns add ns-web2 && ip -n ns-web2 link set lo up")
    assert done.returncode == 1
    assert "✗ netns/ns-web2 exists" in done.stdout
    assert "ns-web1" not in done.stdout


def test_programs_read_every_fact_and_which_hosts_refuse_or_are_not_there(fleet: Fleet) -> None:
    second = "{{ %r if inventory_hostname == 'web2' else %r }}"
    away = fleet.nsprov("verify", "--format", "json", ansible_port=second % ("1", "22"))
    data = json.loads(away.stdout)
    assert away.returncode == 1
    assert [one["title"] for one in data["hosts"]["web1"]["facts"]][:1] == ["netns/ns-web1 exists"]
    assert data["unreachable"].keys() == {"web2"}
    assert "failed" not in data

    refuses = fleet.nsprov("verify", "--format", "json", ansible_user=second % ("bert", "anna"))
    data = json.loads(refuses.stdout)
    assert data["hosts"].keys() == {"web1"}
    assert "sudo on 192.0.2.22 wants a password" in data["failed"]["web2"]
    assert "unreachable" not in data


def test_the_suite_reaches_each_host_as_it_was_written(suite: Fleet) -> None:
    done = suite.pytest()
    assert done.returncode == 0, said(done)
    assert "test_web1.py::netns/ns-web1 exists PASSED" in done.stdout
    assert "test_web2.py::netns/ns-web2 exists PASSED" in done.stdout


def test_the_suite_runs_on_the_hosts_of_an_ansible_inventory_each_file_on_its_own(suite: Fleet) -> None:
    suite.inventory()
    done = suite.pytest("--hosts=ansible://all", "--ansible-inventory=/root/site/inventory.yml")
    assert done.returncode == 0, said(done)
    assert "test_web1.py::netns/ns-web1 exists PASSED" in done.stdout
    assert "test_web2.py::netns/ns-web2 exists PASSED" in done.stdout


def test_the_suite_says_which_hosts_are_not_among_those_of_the_inventory(suite: Fleet) -> None:
    suite.inventory()
    done = suite.pytest("--hosts=ansible://web2", "--ansible-inventory=/root/site/inventory.yml")
    assert done.returncode == 0, said(done)
    assert "test_web2.py::netns/ns-web2 exists PASSED" in done.stdout
    assert "test_web1.py" not in done.stdout
    assert "NOT CHECKED, as not among --hosts: web1" in done.stdout


def test_the_suite_runs_by_ssh_with_sudo(suite: Fleet) -> None:
    hosts = ",".join(f"ssh://anna@{address}" for address in HOSTS.values())
    done = suite.pytest(f"--hosts={hosts}", "--sudo")
    assert done.returncode == 0, said(done)
    assert "test_web1.py::netns/ns-web1 exists PASSED" in done.stdout
    assert "test_web2.py::netns/ns-web2 exists PASSED" in done.stdout


def test_who_is_not_let_in_is_told_in_ssh_s_words(suite: Fleet) -> None:
    done = suite.pytest(f"--hosts=ssh://nobody@{HOSTS['web1']}", "test_web1.py")
    assert done.returncode == 1, said(done)
    assert "1 skipped, 1 error" in done.stdout
    assert f"nobody@{HOSTS['web1']}: Permission denied" in said(done)
    assert "CommandResult" not in said(done)
