"""Facts of hosts by ssh: `nsprov verify` with all that an inventory says of the way, and a written suite without it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from provisioner.host.sandbox import Sandbox
from tests.host.conftest import Box
from tests.host.sshd import add_user, authorize, start_sshd
from tests.host.test_ssh import TASKS, Wire, said

CONTROLLER, HOST = "192.0.2.60", "192.0.2.61"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Box, Box]]:
    with (
        Sandbox.start(f"ctl-{uuid.uuid4().hex[:8]}", address=CONTROLLER) as controller,
        Sandbox.start(f"web-{uuid.uuid4().hex[:8]}", address=HOST) as host,
    ):
        here, there = Box(controller), Box(host)
        here.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        here.write("/root/site/roles/net/tasks/main.yml", TASKS)
        yield here, there


@pytest.fixture
def wire(machines: tuple[Box, Box]) -> Iterator[Wire]:
    controller, host = machines
    key = start_sshd(host)
    controller.write("/root/.ssh/known_hosts", f"{HOST} {key}\n")
    yield Wire(controller, host, {"ansible_host": HOST})
    authorize(host, "root", controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    made = Wire(controller, host, {"ansible_host": HOST, "ansible_host_key_checking": False})
    made.forget_connections()
    made.nsprov("destroy")
    made.forget_connections()
    host.run("rm /root/.ssh/authorized_keys")  # root has no way in: who verifies must be who the inventory says


def test_verify_gives_sudo_its_password_and_nobody_sees_it(wire: Wire) -> None:
    add_user(wire.host, "gina", password="gina-of-sudo-1", sudo="ALL")
    authorize(wire.host, "gina", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    gina = {"ansible_user": "gina", "ansible_become": True, "ansible_become_password": "gina-of-sudo-1"}
    wire.nsprov("apply", **gina)
    for box in (wire.controller, wire.host):
        watch = "while [ ! -e /root/enough ]; do cat /proc/[0-9]*/cmdline 2>/dev/null; sleep 0.01; done"
        box.write("/root/watch", f"#!/bin/sh\n{watch} | tr '\\0' '\\n' >/root/seen\n", 0o755)
        box.run("rm -f /root/enough; systemd-run --quiet --unit=watch-verify /root/watch")
    done = wire.nsprov("verify", "-v", **gina)
    wire.controller.write("/root/site/inventory.yml", "")
    for box in (wire.controller, wire.host):
        box.run("touch /root/enough; while systemctl -q is-active watch-verify; do sleep 0.1; done")
    assert done.returncode == 0, said(done)
    assert "✓ netns/blue exists" in done.stdout
    assert "pytest" in wire.controller.run("cat /root/seen").stdout, "the watch has seen the run"
    for box in (wire.controller, wire.host):
        found = box.run("grep -rlsaF gina-of-sudo-1 /root /tmp /run /var/lib/nsprov /var/log", check=False)
        assert found.stdout == ""


def test_verify_finds_what_is_wrong_by_a_sudo_that_wants_a_password(wire: Wire) -> None:
    add_user(wire.host, "hans", password="hans-of-sudo-1", sudo="ALL")
    authorize(wire.host, "hans", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    hans = {"ansible_user": "hans", "ansible_become": True, "ansible_become_password": "hans-of-sudo-1"}
    wire.nsprov("apply", **hans)
    wire.host.run("ip -n blue addr del 10.1.0.2/24 dev eth0")
    done = wire.nsprov("verify", **hans)
    assert done.returncode == 1
    assert "10.1.0.2/24" in said(done)
    assert "hans-of-sudo-1" not in said(done)


def test_verify_takes_the_port_the_user_and_the_password_of_the_inventory(wire: Wire) -> None:
    key = start_sshd(wire.host, port=2222)
    wire.controller.write("/root/.ssh/known_hosts", f"[{HOST}]:2222 {key}\n")
    add_user(wire.host, "ina", password="ina-of-ssh-1", sudo="NOPASSWD:ALL")
    ina: dict[str, Any] = {"ansible_port": 2222, "ansible_user": "ina", "ansible_become": True}
    ina |= {"ansible_password": "ina-of-ssh-1", "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}
    done = wire.nsprov("apply", **ina)
    assert done.returncode == 0, said(done)
    wire.forget_connections()
    done = wire.nsprov("verify", **ina)
    assert done.returncode == 0, said(done)


@dataclass
class Suite:
    """A written suite of two hosts, the controller itself and the one by ssh; each has a file that names it."""

    controller: Box

    def pytest(self, *args: str) -> CompletedProcess[str]:
        path = f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.controller.run(
            ["env", "-C", "/root/suite", path, sys.executable, "-P", "-m", "pytest", "-p", "no:nsprov", "-v", *args],
            check=False,
        )


@pytest.fixture
def suite(wire: Wire) -> Iterator[Suite]:
    add_user(wire.host, "kim", sudo="NOPASSWD:ALL")
    authorize(wire.host, "kim", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    hosts = {
        "web1": {"ansible_host": HOST, "ansible_user": "kim", "ansible_become": True},
        "here": {"ansible_connection": "local"},
    }
    inventory = {"all": {"hosts": hosts, "vars": {"nsprov_project": "named", "nsprov_roles": ["named"]}}}
    task = {"file": {"path": "/etc/whoami", "content": "{{ inventory_hostname }}\n", "mode": "0600"}}
    wire.controller.write("/root/site/roles/named/tasks/main.yml", yaml.safe_dump([task]))
    role_test = (
        "def test_its_journal_runs(unit):\n"
        "    assert unit('systemd-journald').is_active\n"
        "    assert unit('systemd-journald').namespaces['net'].is_host\n"
    )
    wire.controller.write("/root/site/roles/named/tests/test_journal.py", role_test)
    wire.controller.write("/root/site/two.yml", yaml.safe_dump(inventory))
    wire.controller.nsprov("apply", "--yes", "/root/site/two.yml")
    wire.controller.nsprov("verify", "--write", "/root/suite", "/root/site/two.yml")
    yield Suite(wire.controller)
    wire.controller.nsprov("destroy", "--yes", "/root/site/two.yml")
    wire.controller.run("rm -r /root/suite")


def test_the_written_suite_takes_each_host_s_facts_to_that_host_alone_by_ansible(suite: Suite) -> None:
    done = suite.pytest("--hosts=ansible://all", "--ansible-inventory=/root/site/two.yml", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_web1.py::" in done.stdout
    assert "test_here.py::" in done.stdout
    assert "here/named/test_journal.py::test_its_journal_runs PASSED" in done.stdout
    done = suite.pytest("--hosts=ansible://web1", "--ansible-inventory=/root/site/two.yml", ".")
    assert "NOT CHECKED, as not among --hosts: here" in done.stdout
    assert "test_here.py::" not in done.stdout


def test_the_written_suite_takes_a_host_by_ssh_by_its_address(suite: Suite) -> None:
    done = suite.pytest(f"--hosts=ssh://kim@{HOST}", "--sudo", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_web1.py::" in done.stdout
    assert "NOT CHECKED, as not among --hosts: here" in done.stdout


def test_the_written_suite_knows_the_way_itself(suite: Suite) -> None:
    done = suite.pytest(".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_here.py::" in done.stdout
    assert "test_web1.py::" in done.stdout
    suite.controller.write("/etc/whoami", "somebody else\n")
    done = suite.pytest(".")
    assert done.returncode == 1
    assert "FAILED test_here.py::" in done.stdout
    assert "FAILED test_web1.py::" not in done.stdout
