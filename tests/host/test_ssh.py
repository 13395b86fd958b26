"""Hosts that are reached by ssh: a sandbox with nsprov is the controller, others on its wire are the hosts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from provisioner.host.sandbox import Sandbox
from tests.host.conftest import Box
from tests.host.sshd import add_user, authorize, start_sshd

TASKS = """\
- netns: {name: blue}
- veth: {name: v-blue, peer: {netns: blue, name: eth0, addresses: [10.1.0.2/24]}, addresses: [10.1.0.1/24]}
"""
CONTROLLER, HOST = "192.0.2.10", "192.0.2.11"


@dataclass
class Wire:
    """A controller and a host."""

    controller: Box
    host: Box
    #: The host's variables.
    vars: dict[str, Any] = field(default_factory=dict)

    def nsprov(self, command: str, *args: str, **more: Any) -> CompletedProcess[str]:
        hosts = {"web1": {"ansible_host": HOST, **self.vars, **more}}
        inventory = {"all": {"hosts": hosts, "vars": {"nsprov_roles": ["net"]}}}
        self.controller.write("/root/site/inventory.yml", yaml.safe_dump(inventory))
        yes = ["--yes"] if command in ("apply", "destroy") else []
        return self.controller.nsprov(command, "/root/site/inventory.yml", *yes, *args, check=False)

    def agent(self) -> str:
        """The folder of the agent's bundle on the host."""
        return f"/var/lib/nsprov/agent/{self.host.run('ls /var/lib/nsprov/agent').stdout.strip()}"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Box, Box]]:
    with (
        Sandbox.start(f"ctl-{uuid.uuid4().hex[:8]}", address=CONTROLLER) as controller,
        Sandbox.start(f"web-{uuid.uuid4().hex[:8]}", address=HOST) as host,
    ):
        here, there = Box(controller), Box(host)
        here.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        here.write("/root/site/roles/net/tasks/main.yml", TASKS)
        authorize(there, "root", here.run("cat /root/.ssh/id_ed25519.pub").stdout)
        yield here, there


@pytest.fixture
def wire(machines: tuple[Box, Box]) -> Iterator[Wire]:
    controller, host = machines
    key = start_sshd(host)
    controller.write("/root/.ssh/known_hosts", f"{HOST} {key}\n")
    made = Wire(controller, host)
    yield made
    made.nsprov("destroy")
    controller.run("rm -rf /run/user/0 /tmp/nsprov-ssh-0")


def said(done: CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_apply_plans_and_destroys_by_ssh(wire: Wire) -> None:
    done = wire.nsprov("apply")
    assert done.returncode == 0, said(done)
    assert "10.1.0.2/24" in wire.host.run("ip -n blue -br addr").stdout
    again = wire.nsprov("plan", "--detailed-exitcode")
    assert again.returncode == 0, said(again)
    gone = wire.nsprov("destroy")
    assert gone.returncode == 0, said(gone)
    assert wire.host.run("ip netns list").stdout == ""
