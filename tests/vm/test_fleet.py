"""One inventory with two virtual machines by ssh and two sandboxes, applied from here. One machine has no Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.host.sandbox import Sandbox
from tests.vm.images import CHECKOUT
from tests.vm.machine import Machine

WIRED = """\
- netns: {name: blue}
- veth: {name: v-blue, peer: {netns: blue, name: eth0, addresses: [10.1.0.2/24]}, addresses: [10.1.0.1/24]}
- slice: {name: shop.slice, TasksMax: 100}
"""
SLOW = """\
- unit: {name: slow, netns: blue, Slice: shop.slice, ExecStartPre: /bin/sleep 15, ExecStart: /bin/sleep infinity}
"""


@dataclass
class Site:
    """The project here, and its four hosts."""

    folder: Path
    machines: dict[str, Machine]
    sandboxes: dict[str, Sandbox]

    def write(self, tasks: str) -> None:
        config = self.machines["trixie"].ssh[2]
        hosts: dict[str, Any] = {name: {"ansible_ssh_common_args": f"-F {config}"} for name in self.machines}
        hosts |= {name: {"ansible_connection": "sandbox"} for name in self.sandboxes}
        inventory = {"all": {"hosts": hosts, "vars": {"nsprov_roles": ["net"], "ansible_timeout": 60}}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
        role = self.folder / "roles/net/tasks"
        role.mkdir(parents=True, exist_ok=True)
        (role / "main.yml").write_text(tasks)

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "provisioner", *args, "-i", str(self.folder / "inventory.yml")],
            cwd=CHECKOUT,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "XDG_RUNTIME_DIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def nsprov(self, *args: str, code: int = 0) -> str:
        running = self.start(*args)
        said = running.communicate(timeout=600)[0]
        assert running.returncode == code, said
        return said

    def all(self, command: str) -> dict[str, str]:
        """What a command says on each host."""
        there = {name: machine.run(command, check=False).stdout for name, machine in self.machines.items()}
        return there | {name: box.run(command, check=False).stdout for name, box in self.sandboxes.items()}


@pytest.fixture(scope="module")
def site(fleet: dict[str, Machine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    names = [f"box-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for machine in fleet.values():
        machine.wait_until_ready()
    without_python = fleet["bookworm"]
    without_python.run("mkdir -p /root/away && mv /usr/bin/python3* /root/away")
    with ExitStack() as stack:
        made = Site(
            tmp_path_factory.mktemp("site"),
            fleet,
            {name: stack.enter_context(Sandbox.start(name)) for name in names},
        )
        made.write(WIRED)
        yield made
        made.nsprov("destroy", "--yes")
        without_python.run("mv /root/away/* /usr/bin")


def test_all_four_are_applied_unchanged_the_second_time_and_verified(site: Site) -> None:
    assert "not found" in site.machines["bookworm"].run("python3 2>&1", check=False).stdout
    site.nsprov("apply", "--yes")
    assert all("10.1.0.2/24" in said for said in site.all("ip -n blue -br addr").values())
    site.nsprov("plan", "--detailed-exitcode")
    site.nsprov("verify")


def test_one_that_loses_its_power_leaves_the_others_alone_and_is_converged_by_the_retry(site: Site) -> None:
    lost = site.machines["bookworm"]
    site.write(WIRED + SLOW)
    applying = site.start("apply", "--yes")
    deadline = time.monotonic() + 120
    while lost.run("systemctl is-active slow", check=False).stdout.strip() != "activating":
        assert time.monotonic() < deadline, "the unit is being started"
    lost.cut_power()
    said = applying.communicate(timeout=300)[0]
    assert applying.returncode == 1, said
    assert "applied 3, unreachable 1" in said
    assert "bookworm   unreachable: the agent on bookworm has ended" in said
    lost.wait_until_ready()
    # Every other host got all of it; what the lost one had is gone with its power.
    states = site.all("systemctl is-active slow")
    assert states.pop(lost.name) != "active\n"
    assert set(states.values()) == {"active\n"}, said
    site.nsprov("apply", "--yes", "--limit", "@retry")
    assert set(site.all("systemctl is-active slow").values()) == {"active\n"}
    site.nsprov("plan", "--detailed-exitcode")
    site.nsprov("verify")


def test_a_clock_that_is_years_off_does_not_matter(site: Site) -> None:
    machine = site.machines["trixie"]
    site.write(WIRED)
    machine.run("date -s '2035-05-05 05:05:05'")
    try:
        site.nsprov("apply", "--yes")
        site.nsprov("plan", "--detailed-exitcode")
    finally:
        machine.run(f"date -s @{time.time():.0f}")
