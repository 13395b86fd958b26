"""Every limit that the kernel has a file for: in it after an apply, changed there with the PID kept, and gone again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner import directives
from tests.host.limit_values import VALUES
from tests.vm.machine import Machine

# What the kernel has of limits is the same on both; what systemd sets is held against the table in a sandbox of each.
pytestmark = pytest.mark.parametrize("vm", ["bookworm"], indirect=True)

INVENTORY = """\
all:
  hosts:
    here: {ansible_connection: local}
  vars:
    nsprov_project: every-limit
    nsprov_roles: [limits]
"""
#: Debian's kernel for clouds is built without the one, and its disks weigh nothing without a scheduler that does.
NOT_HERE = {"IODeviceLatencyTargetSec", "IODeviceWeight"}
PATH = "/root/every-limit/inventory.yml"


def tasks(unit_type: str, version: int, choice: int | None) -> list[dict[str, Any]]:
    """A unit in a nested slice for each limit: with the first or the second value, or without."""
    protected = {"MemoryMin": "16M", "MemoryLow": "4%"}
    made: list[dict[str, Any]] = [{"slice": {"name": f"{name}.slice", **protected}} for name in ("limits", "limits-in")]
    known = directives.known(unit_type)
    for name, values in VALUES.items():
        if name in NOT_HERE or name not in known or known[name].since > version:
            continue
        fields = {} if choice is None else {name: values[choice]}
        if unit_type == "slice":
            made.append({"slice": {"name": f"limits-in-{name}.slice", **fields}})
        else:
            command = {"ExecStart": "/bin/sleep infinity", "Slice": "limits-in.slice"}
            made.append({"unit": {"name": f"{name}.service", **command, **fields}})
    return made


def apply(vm: Machine, unit_type: str, version: int, choice: int | None) -> list[str]:
    """Apply; a second plan is empty, and every fact holds, by the kernel's own files. The PIDs of the units."""
    declared = tasks(unit_type, version, choice)
    vm.write("/root/every-limit/roles/limits/tasks/main.yml", json.dumps(declared))
    vm.nsprov("apply", PATH, "--yes")
    assert "no changes" in vm.nsprov("plan", PATH).stdout
    verified = vm.nsprov("verify", PATH, check=False)
    assert verified.returncode == 0, verified.stdout
    units = [task["unit"]["name"] for task in declared if "unit" in task]
    return vm.run(["systemctl", "show", "--value", "-p", "MainPID", *units]).stdout.split() if units else []


@pytest.mark.parametrize("unit_type", ["slice", "service"])
def test_every_limit_is_in_the_kernel_changes_there_and_goes(vm: Machine, unit_type: str) -> None:
    vm.write(PATH, INVENTORY)
    version = int(vm.run("systemctl --version | awk 'NR==1 {print $2}'").stdout)
    try:
        pids = apply(vm, unit_type, version, 0)
        assert apply(vm, unit_type, version, 1) == pids
        assert apply(vm, unit_type, version, None) == pids
        group = "/sys/fs/cgroup/limits.slice/limits-in.slice"
        unit = "limits-in-{}.slice" if unit_type == "slice" else "{}.service"
        for name, file, text in (
            ("MemoryMax", "memory.max", "max"),
            ("MemoryHigh", "memory.high", "max"),
            ("MemoryMin", "memory.min", "0"),
            ("MemorySwapMax", "memory.swap.max", "max"),
        ):
            assert vm.run(["cat", f"{group}/{unit.format(name)}/{file}"]).stdout.strip() == text
        left = f"cat {group}/{unit.format('IOReadBandwidthMax')}/io.max 2>/dev/null; true"
        assert vm.run(left).stdout.strip() == ""
    finally:
        vm.nsprov("destroy", PATH, "--yes")


def test_what_this_machine_or_its_kernel_has_not_is_refused_before_anything_is_touched(vm: Machine) -> None:
    vm.write(PATH, INVENTORY)
    limits = {"IOReadBandwidthMax": "/dev/vdz 1M", "AllowedCPUs": "0-63", "IODeviceLatencyTargetSec": "/dev/vda 5ms"}
    limits["IODeviceWeight"] = "/dev/vda 50"
    task = {"slice": {"name": "limits.slice", **limits}}
    vm.write("/root/every-limit/roles/limits/tasks/main.yml", json.dumps([task]))
    refused = vm.nsprov("apply", PATH, "--yes", check=False)
    assert refused.returncode == 65
    assert "IOReadBandwidthMax: /dev/vdz is not on this host" in refused.stderr
    assert "AllowedCPUs 0-63 names CPUs that this host has not" in refused.stderr
    assert "IODeviceWeight: /dev/vda takes no weight, as its scheduler weighs nothing" in refused.stderr
    assert "IODeviceLatencyTargetSec needs io.latency, which this host's kernel has not" in refused.stderr
    vm.run("test ! -e /sys/fs/cgroup/limits.slice && test ! -e /var/lib/nsprov/manifests")


def test_a_disk_whose_scheduler_weighs_takes_a_weight_of_its_own(vm: Machine) -> None:
    vm.write(PATH, INVENTORY)
    task = {"slice": {"name": "limits.slice", "IOWeight": 200, "IODeviceWeight": "/dev/vda 50"}}
    vm.write("/root/every-limit/roles/limits/tasks/main.yml", json.dumps([task]))
    scheduler = "/sys/block/vda/queue/scheduler"
    vm.run(f"modprobe bfq && echo bfq > {scheduler}")
    try:
        assert " ! " not in vm.nsprov("apply", PATH, "--yes").stdout
        verified = vm.nsprov("verify", PATH, check=False)
        assert verified.returncode == 0, verified.stdout
        assert " 50" in vm.run("grep ^254: /sys/fs/cgroup/limits.slice/io.bfq.weight").stdout
    finally:
        vm.nsprov("destroy", PATH, "--yes")
        vm.run(f"echo none > {scheduler}")
