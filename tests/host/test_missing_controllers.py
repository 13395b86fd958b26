"""On a host without some controller, everything that needs it says so before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.lab import INVENTORY, Lab
from tests.host.listing import difference, listing

TASKS = """
- slice: {name: tenants.slice, MemoryMax: 1G, CPUQuota: 50%, TasksMax: 100}
- unit:
    name: "{{ item }}.service"
    Slice: tenants.slice
    ExecStart: /bin/sleep infinity
    MemoryHigh: 100M
    IOWeight: 50
  loop: [a, b]
"""
UNIFY = "add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"


def _lends(box: Any, controllers: str, cgroups: str) -> None:
    box.write("/root/controllers", controllers)
    box.write("/root/cgroups", "#subsys_name hierarchy num_cgroups enabled\n" + cgroups)
    box.run("mount --bind /root/controllers /sys/fs/cgroup/cgroup.controllers")
    box.run("mount --bind /root/cgroups /proc/cgroups")


@pytest.fixture
def hybrid(box: Any) -> Iterator[Any]:
    """A sandbox whose cgroup v1 holds the memory, and whose kernel has no IO controller."""
    _lends(box, "cpuset cpu pids\n", "memory 4 38 1\n")
    yield box
    box.run("umount /sys/fs/cgroup/cgroup.controllers /proc/cgroups")


@pytest.fixture
def real(hybrid: Any) -> Iterator[Any]:
    """The same, as a host that is no sandbox."""
    hybrid.run("mv /run/host/container-manager /run/host/was")
    yield hybrid
    hybrid.run("mv /run/host/was /run/host/container-manager")


def test_a_host_refuses_all_of_them_at_once_with_what_mends_each(real: Any) -> None:
    lab = Lab(real)
    lab.declare(TASKS)
    before = listing(real)
    for command in (["plan"], ["apply", "--yes"]):
        refused = real.nsprov(command[0], INVENTORY, *command[1:], check=False)
        assert refused.returncode == 65
        told = refused.stderr
        assert (
            "main.yml:2:43: slice/tenants.slice: MemoryMax needs the cgroup v2 controller 'memory', which this host "
            f"lacks: cgroup v1 holds it\n    {UNIFY}\n" in told
        )
        assert "unit/a.service: MemoryHigh needs the cgroup v2 controller 'memory'" in told
        assert "unit/a.service: IOWeight needs the cgroup v2 controller 'io'" in told
        assert told.count("(so it is for 1 more from here)") == 2
        assert "CPUQuota needs" not in told
        assert "TasksMax needs" not in told
    assert difference(before, listing(real)) == []


def test_doctor_says_the_same_of_each_controller(real: Any) -> None:
    found = {one["name"]: one for one in json.loads(real.nsprov("doctor", "--format", "json").stdout)["findings"]}
    memory, pids = found["controller memory"], found["controller pids"]
    assert (memory["status"], memory["detail"]) == ("warning", "not there: cgroup v1 holds it")
    assert "MemoryMax" in memory["needed_for"]
    assert memory["remedy"] == UNIFY
    assert (pids["status"], pids["detail"]) == ("ok", "for TasksMax")


def test_a_sandbox_applies_it_and_says_in_one_line_that_limits_are_recorded_only(hybrid: Any) -> None:
    lab = Lab(hybrid)
    told = [line for line in lab.apply(TASKS).splitlines() if "recorded" in line]
    (line,) = told
    assert line.endswith(
        "limits are recorded, not enforced: the kernel lends this sandbox no io and memory controller "
        "(for IOWeight, MemoryHigh and MemoryMax)"
    )
    data = json.loads(hybrid.nsprov("plan", INVENTORY, "--format", "json").stdout)
    assert data["hosts"]["here"]["warnings"] == []  # there is nothing that this plan would do
    hybrid.nsprov("destroy", INVENTORY, "--yes")


def test_what_asks_for_nothing_of_it_is_applied(real: Any) -> None:
    lab = Lab(real)
    lab.apply("- slice: {name: tenants.slice, MemoryMax: infinity, CPUWeight: 50}\n")
    real.nsprov("destroy", INVENTORY, "--yes")
