"""Limits on a kernel that has every cgroup v2 controller."""

from __future__ import annotations

from tests.vm.machine import Machine

INVENTORY = """\
all:
  hosts:
    here: {ansible_connection: local}
  vars:
    nsprov_roles: [limited]
    memory: 64M
    command: /bin/sleep infinity
"""
TASKS = """\
- netns: {name: blue}
- slice: {name: tenants-blue.slice, MemoryMax: "{{ memory }}", CPUQuota: 20%, TasksMax: 50}
- unit: {name: web-blue.service, netns: blue, Slice: tenants-blue.slice, ExecStart: "{{ command }}", MemoryHigh: 32M}
"""
CGROUP = "/sys/fs/cgroup/tenants.slice/tenants-blue.slice"


def kernel_value(vm: Machine, path: str) -> str:
    return vm.run(["cat", path]).stdout.strip()


def project(vm: Machine, inventory: str = INVENTORY, tasks: str = TASKS) -> str:
    vm.write("/root/project/inventory.yml", inventory)
    vm.write("/root/project/roles/limited/tasks/main.yml", tasks)
    return "/root/project/inventory.yml"


def test_a_changed_memory_limit_is_the_kernels_and_the_workload_keeps_its_pid(vm: Machine) -> None:
    path = project(vm)
    vm.nsprov("apply", path, "--yes")
    pid = vm.run("systemctl show -P MainPID web-blue").stdout
    assert kernel_value(vm, f"{CGROUP}/memory.max") == str(64 << 20)
    assert kernel_value(vm, f"{CGROUP}/cpu.max") == "20000 100000"
    assert kernel_value(vm, f"{CGROUP}/pids.max") == "50"
    assert kernel_value(vm, f"{CGROUP}/web-blue.service/memory.high") == str(32 << 20)

    vm.nsprov("apply", project(vm, INVENTORY.replace("64M", "96M")), "--yes")
    assert kernel_value(vm, f"{CGROUP}/memory.max") == str(96 << 20)
    assert vm.run("systemctl show -P MainPID web-blue").stdout == pid
    assert "no changes" in vm.nsprov("apply", path, "--yes").stdout


def test_over_its_memory_limit_a_workload_is_killed_by_the_kernel(vm: Machine) -> None:
    hungry = "/usr/bin/python3 -c 'x = bytearray(200 << 20); import time; time.sleep(60)'"
    # Above MemoryHigh it would be slowed down so much that it never came to MemoryMax.
    tasks = TASKS.replace(", MemoryHigh: 32M", "")
    path = project(vm, INVENTORY.replace("/bin/sleep infinity", hungry), tasks)
    vm.nsprov("apply", path, "--yes", "--keep-partial", check=False)
    killed = f"grep -q 'oom_kill [1-9]' {CGROUP}/memory.events"
    vm.run(f"for i in $(seq 50); do {killed} && exit 0; sleep 0.2; done; exit 1")


def test_destroy_leaves_no_cgroup(vm: Machine) -> None:
    vm.nsprov("destroy", project(vm), "--yes")
    vm.run("test ! -e /sys/fs/cgroup/tenants.slice && test ! -e /run/netns/blue")
