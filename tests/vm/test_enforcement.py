"""What is declared is what the kernel does: each kind of limit, measured from outside, and missing where none is set.

All workloads are declared and applied once. Each waits at a pipe until its test lets it go, and is stopped after it,
so that none disturbs the measurement of another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.vm.machine import Machine

INVENTORY = """\
all:
  hosts:
    here: {ansible_connection: local}
  vars:
    nsprov_project: enforced
    nsprov_roles: [enforced]
    workload: /usr/bin/python3 /root/enforced/workload.py
    disk: /dev/disk/by-id/virtio-scratch
"""
TASKS = """\
- slice: {name: enforced.slice}
- slice: {name: enforced-memory.slice, MemoryMax: 400M}
- unit: {name: greedy, Slice: enforced-memory.slice, MemoryMax: 64M, ExecStart: "{{ workload }} greedy take 96"}
- unit: {name: neighbour, Slice: enforced-memory.slice, MemoryMax: 64M, ExecStart: "{{ workload }} neighbour take 32"}
- unit: {name: unlimited, Slice: enforced-memory.slice, ExecStart: "{{ workload }} unlimited take 96"}

- slice: {name: enforced-sum.slice, MemoryMax: 96M}
- unit: {name: first, Slice: enforced-sum.slice, MemoryMax: 80M, ExecStart: "{{ workload }} first take 56"}
- unit: {name: second, Slice: enforced-sum.slice, MemoryMax: 80M, ExecStart: "{{ workload }} second take 56"}

- unit: {name: quarter, Slice: enforced.slice, CPUQuota: 25%, ExecStart: "{{ workload }} quarter spin"}
- unit: {name: whole, Slice: enforced.slice, ExecStart: "{{ workload }} whole spin"}

- slice: {name: enforced-shared.slice, CPUQuota: 40%}
- unit: {name: one, Slice: enforced-shared.slice, CPUQuota: 35%, ExecStart: "{{ workload }} one spin"}
- unit: {name: other, Slice: enforced-shared.slice, CPUQuota: 35%, ExecStart: "{{ workload }} other spin"}

- slice: {name: enforced-weights.slice, AllowedCPUs: "1"}
- unit: {name: light, Slice: enforced-weights.slice, CPUWeight: 100, ExecStart: "{{ workload }} light spin"}
- unit: {name: heavy, Slice: enforced-weights.slice, CPUWeight: 300, ExecStart: "{{ workload }} heavy spin"}
- unit: {name: plain, Slice: enforced-weights.slice, ExecStart: "{{ workload }} plain spin"}

- unit: {name: few, Slice: enforced.slice, TasksMax: 10, ExecStart: "{{ workload }} few fork 20"}
- unit: {name: many, Slice: enforced.slice, ExecStart: "{{ workload }} many fork 20"}

- unit:
    name: slow-writer
    Slice: enforced.slice
    IOWriteBandwidthMax: "{{ disk }} 4M"
    ExecStart: "{{ workload }} slow-writer write"
- unit:
    name: slow-reader
    Slice: enforced.slice
    IOReadBandwidthMax: "{{ disk }} 2M"
    ExecStart: "{{ workload }} slow-reader read"
- unit: {name: free-writer, Slice: enforced.slice, IOAccounting: "yes", ExecStart: "{{ workload }} free-writer write"}
"""
WORKLOAD = """\
import mmap, os, signal, sys

name, what, *count = sys.argv[1:]
open(f"/run/go/{name}").read()


def tell(text):
    with open(f"/run/go/{name}.said", "w") as said:
        said.write(text)


if what == "spin":
    while True:
        pass
elif what == "take":
    held = b"x" * (int(count[0]) << 20)
    tell("taken")
elif what == "fork":
    try:
        for _ in range(int(count[0])):
            if os.fork() == 0:
                signal.pause()
        tell("forked")
    except OSError as error:
        tell(error.strerror)
else:
    disk = os.open("/dev/disk/by-id/virtio-scratch", os.O_RDWR | os.O_DIRECT)
    block = mmap.mmap(-1, 128 << 10)
    move = os.pwritev if what == "write" else os.preadv
    while True:
        for start in range(0, 512 << 20, len(block)):
            move(disk, [block], start)
signal.pause()
"""
# Reads files twice, so many seconds apart, by the guest's own clock.
SAMPLE = """
import json, sys, time
def sample():
    return time.monotonic(), {path: open(path).read() for path in sys.argv[2:]}
before = sample()
time.sleep(float(sys.argv[1]))
print(json.dumps([before, sample()]))
"""
SECONDS = 5


class Enforced:
    """The applied project in a machine."""

    def __init__(self, vm: Machine) -> None:
        self.vm = vm

    @contextmanager
    def going(self, *names: str) -> Iterator[None]:
        """Let these workloads go, and stop them in the end."""
        self.vm.run(["sh", "-c", 'for name; do echo go > "/run/go/$name"; done', "sh", *names])
        try:
            yield
        finally:
            self.vm.run(["systemctl", "stop", *names], check=False)

    def cgroup(self, name: str) -> str:
        found = self.vm.run(["systemctl", "show", "-P", "ControlGroup", name]).stdout.strip()
        assert found, f"{name} has no cgroup"
        return f"/sys/fs/cgroup{found}"

    def property(self, name: str, wanted: str) -> str:
        return self.vm.run(["systemctl", "show", "-P", wanted, name]).stdout.strip()

    def rates(self, file: str, number: Callable[[str], int], *names: str) -> list[float]:
        """How much the number that is found in this file of their cgroups grows in a second."""
        paths = [f"{self.cgroup(name)}/{file}" for name in names]
        text = self.vm.run(["python3", "-c", SAMPLE, str(SECONDS), *paths]).stdout
        (began, before), (ended, after) = json.loads(text)
        return [(number(after[path]) - number(before[path])) / (ended - began) for path in paths]

    def processors(self, *names: str) -> list[float]:
        """How many processors' time each of them takes."""
        return [rate / 1e6 for rate in self.rates("cpu.stat", _cpu_microseconds, *names)]

    def holds(self, limit: float, measure: Callable[[], float]) -> None:
        """Whether a rate is held at this limit within a tenth.

        Where this machine is busy, an emulated processor is given no time in some of the periods in which a limit
        gives its share, and that share is lost. So no measurement may be above, and one of three must be as high.
        """
        rates = []
        for _ in range(3):
            rates.append(measure())
            assert rates[-1] <= limit * 1.1
            if rates[-1] >= limit * 0.9:
                return
        raise AssertionError(f"held below {limit}: {rates}")

    def waits_for(self, condition: str) -> None:
        done = self.vm.run(f"for i in $(seq 150); do {condition} && exit; sleep 0.2; done; exit 1", check=False)
        assert done.returncode == 0, f"did not come true: {condition}"

    def killed_by(self, name: str) -> str:
        """The cgroup over whose limit the kernel killed this workload, by the kernel's own words."""
        self.waits_for(f"test $(systemctl show -P Result {name}) = oom-kill")
        lines = self.vm.run(f"dmesg | grep 'oom-kill:.*task_memcg=[^,]*/{name}.service'").stdout
        return lines.split("oom_memcg=")[1].split(",")[0]


def _cpu_microseconds(text: str) -> int:
    return int(dict(line.split() for line in text.splitlines())["usage_usec"])


def _disk_bytes(kind: str) -> Callable[[str], int]:
    def number(text: str) -> int:
        return sum(int(word.split("=")[1]) for word in text.split() if word.startswith(f"{kind}bytes="))

    return number


@pytest.fixture(scope="module")
def enforced(vm: Machine) -> Iterator[Enforced]:
    vm.write("/root/enforced/inventory.yml", INVENTORY)
    vm.write("/root/enforced/roles/enforced/tasks/main.yml", TASKS)
    vm.write("/root/enforced/workload.py", WORKLOAD)
    names = [line.split("workload }} ")[1].split()[0] for line in TASKS.splitlines() if "workload }} " in line]
    vm.run(f"mkdir -p /run/go && cd /run/go && mkfifo {' '.join(names)}")
    vm.nsprov("apply", "/root/enforced/inventory.yml", "--yes")
    yield Enforced(vm)
    vm.nsprov("destroy", "/root/enforced/inventory.yml", "--yes")
    vm.run("rm -rf /run/go /root/enforced && test ! -e /sys/fs/cgroup/enforced.slice")


def test_over_its_memory_limit_a_workload_is_killed_and_its_neighbours_are_not(enforced: Enforced) -> None:
    pid = enforced.property("neighbour", "MainPID")
    with enforced.going("neighbour", "unlimited", "greedy"):
        assert enforced.killed_by("greedy") == "/enforced.slice/enforced-memory.slice/greedy.service"
        enforced.waits_for("test -e /run/go/neighbour.said && test -e /run/go/unlimited.said")
        assert enforced.property("neighbour", "ActiveState") == "active"
        assert enforced.property("neighbour", "MainPID") == pid
        # The same appetite without a limit of its own.
        assert enforced.property("unlimited", "ActiveState") == "active"


def test_the_memory_limit_of_a_slice_holds_over_the_sum_of_its_workloads(enforced: Enforced) -> None:
    pair = ("first", "second")
    with enforced.going(*pair):
        for name in pair:
            enforced.waits_for(f"test -e /run/go/{name}.said || systemctl show -P Result {name} | grep -q oom-kill")
        # Each alone is below its own limit: whichever is killed, it is for the limit of the slice. That may be both,
        # where one asks for more before the other's is free again.
        killed = [name for name in pair if enforced.property(name, "Result") == "oom-kill"]
        assert killed
        for name in pair:
            if name in killed:
                assert enforced.killed_by(name) == "/enforced.slice/enforced-sum.slice"
            else:
                assert enforced.property(name, "ActiveState") == "active"


def test_a_processor_quota_holds_within_a_tenth(enforced: Enforced) -> None:
    with enforced.going("quarter"):
        enforced.holds(0.25, lambda: sum(enforced.processors("quarter")))
    with enforced.going("whole"):
        assert sum(enforced.processors("whole")) > 0.5


def test_the_processor_quota_of_a_slice_holds_over_the_sum_of_its_workloads(enforced: Enforced) -> None:
    # Each has a quota of its own, and the slice has less than the two of them together.
    with enforced.going("one", "other"):
        enforced.holds(0.4, lambda: sum(enforced.processors("one", "other")))


def test_weights_of_1_to_3_share_a_processor_1_to_3(enforced: Enforced) -> None:
    with enforced.going("light", "heavy", "plain"):
        light, heavy, plain = enforced.processors("light", "heavy", "plain")
    assert heavy / light == pytest.approx(3, rel=0.15)
    # The kernel's weight where none is declared is 100.
    assert plain / light == pytest.approx(1, rel=0.15)


def test_more_tasks_than_it_may_have_are_refused_with_eagain(enforced: Enforced) -> None:
    with enforced.going("few", "many"):
        enforced.waits_for("test -e /run/go/few.said && test -e /run/go/many.said")
        assert enforced.vm.run("cat /run/go/few.said").stdout == "Resource temporarily unavailable"
        assert enforced.vm.run(["cat", f"{enforced.cgroup('few')}/pids.current"]).stdout.strip() == "10"
        assert enforced.vm.run("cat /run/go/many.said").stdout == "forked"
        assert enforced.vm.run(["cat", f"{enforced.cgroup('many')}/pids.current"]).stdout.strip() == "21"


@pytest.mark.parametrize(("name", "kind", "limit"), [("slow-writer", "w", 4_000_000), ("slow-reader", "r", 2_000_000)])
def test_a_bandwidth_limit_of_a_disk_holds_within_a_tenth(enforced: Enforced, name: str, kind: str, limit: int) -> None:
    with enforced.going(name):
        enforced.holds(limit, lambda: sum(enforced.rates("io.stat", _disk_bytes(kind), name)))


def test_without_a_bandwidth_limit_the_same_disk_is_faster(enforced: Enforced) -> None:
    with enforced.going("free-writer"):
        assert sum(enforced.rates("io.stat", _disk_bytes("w"), "free-writer")) > 3 * 4_000_000
