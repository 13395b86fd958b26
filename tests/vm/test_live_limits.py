"""Fifty running workloads get new limits in one apply, and none of them notices but by its limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.machine import Machine

COUNT = 50
INVENTORY = """\
all:
  hosts:
    here: {{ansible_connection: local}}
  vars:
    nsprov_project: fifty
    nsprov_roles: [fifty]
    memory: {memory}
    weight: {weight}
    tasks: {tasks}
"""
TASKS = f"""\
- slice: {{name: fifty.slice, MemoryMax: 512M}}
- unit:
    name: "w{{{{ item }}}}.service"
    Slice: fifty.slice
    ExecStart: /usr/bin/sleep infinity
    MemoryMax: "{{{{ memory }}}}"
    CPUWeight: "{{{{ weight }}}}"
    TasksMax: "{{{{ tasks }}}}"
  loop: "{{{{ range(1, {COUNT + 1}) }}}}"
"""
PATH = "/root/fifty/inventory.yml"


def declare(vm: Machine, memory: str, weight: int, tasks: int) -> None:
    vm.write(PATH, INVENTORY.format(memory=memory, weight=weight, tasks=tasks))


def workloads(vm: Machine, *files: str) -> dict[str, list[str]]:
    """What the kernel has in these files of each workload's cgroup."""
    names = " ".join(files)
    lines = vm.run(f"cd /sys/fs/cgroup/fifty.slice && for w in w*; do (cd $w && echo $w $(cat {names})); done").stdout
    return {name: values for name, *values in (line.split() for line in lines.splitlines())}


@pytest.fixture
def fifty(vm: Machine) -> Iterator[Machine]:
    vm.write("/root/fifty/roles/fifty/tasks/main.yml", TASKS)
    declare(vm, "32M", 100, 16)
    vm.nsprov("apply", PATH, "--yes")
    yield vm
    vm.nsprov("destroy", PATH, "--yes")
    vm.run("rm -rf /root/fifty && test ! -e /sys/fs/cgroup/fifty.slice")


def test_the_limits_of_fifty_running_workloads_change_in_one_apply_and_every_pid_stays(fifty: Machine) -> None:
    before = workloads(fifty, "cgroup.procs", "memory.max", "cpu.weight", "pids.max")
    pids = {name: values[0] for name, values in before.items()}
    assert len(set(pids.values())) == COUNT
    assert {tuple(values[1:]) for values in before.values()} == {(str(32 << 20), "100", "16")}

    declare(fifty, "48M", 300, 8)
    plan = fifty.nsprov("plan", PATH).stdout
    assert f"{COUNT} to change" in plan
    assert "No workload restarts" in plan
    fifty.nsprov("apply", PATH, "--yes")

    after = workloads(fifty, "cgroup.procs", "memory.max", "cpu.weight", "pids.max")
    assert {name: values[0] for name, values in after.items()} == pids
    assert {tuple(values[1:]) for values in after.values()} == {(str(48 << 20), "300", "8")}
    assert fifty.nsprov("plan", PATH, "--detailed-exitcode", check=False).returncode == 0
