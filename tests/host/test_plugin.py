"""The pytest plugin, as somebody uses it who has testinfra's `--hosts=` and nothing else of nsprov."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.host.conftest import Box

NETWORK = """\
set -e
ip netns add blue
ip netns add green
ip link add eth0 netns blue mtu 1400 type veth peer name eth0 netns green
ip -n blue link set lo up
ip -n blue link set eth0 up
ip -n blue addr add 10.1.0.2/24 dev eth0
ip -n blue route add default via 10.1.0.1
ip -n green link set eth0 up
ip -n green addr add 10.1.0.1/24 dev eth0
ip netns exec green nft 'add table ip guard; add chain ip guard in { type filter hook input priority 0; };
    add rule ip guard in tcp dport 81 drop'
systemd-run --quiet --unit=web --slice=tenants -p NetworkNamespacePath=/run/netns/green -p PrivateTmp=yes \\
    python3 -m http.server --bind 0.0.0.0 80
for i in $(seq 100); do ip netns exec green ss -Hltn | grep -q :80 && exit 0; sleep 0.05; done; exit 1
"""


@pytest.fixture(scope="module")
def machine(box: Box) -> Box:
    box.run(NETWORK)
    return box


def run_pytest(box: Box, body: str, *options: str) -> CompletedProcess[str]:
    """Run these tests with plain pytest in the sandbox, on the sandbox."""
    box.write("/root/mine/test_mine.py", textwrap.dedent(body))
    box.write("/root/mine/pytest.ini", "[pytest]\n")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--hosts=local://",
        *options,
        "/root/mine",
    ]
    return box.run(command, check=False)


def assert_passes(box: Box, body: str) -> None:
    done = run_pytest(box, body)
    assert done.returncode == 0, done.stdout + done.stderr


def reason(box: Box, body: str) -> str:
    """Why pytest says that the one test fails."""
    done = run_pytest(box, body)
    assert done.returncode == 1, done.stdout + done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("E "))


def test_a_namespace_is_there_or_not(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            assert netns("blue").exists
            assert not netns("red").exists
        """,
    )
    assert "<netns red: there is blue, green>" in reason(machine, "def test_it(netns): assert netns('red').exists")


def test_sockets_are_those_of_the_namespace(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            green = netns("green")
            assert green.socket("tcp://:80").is_listening
            assert green.socket("tcp://80").is_listening
            assert green.socket("tcp://10.1.0.1:80").is_listening  # at all addresses, so at this one
            assert not green.socket("tcp://[fd00::1]:80").is_listening
            assert not green.socket("udp://:80").is_listening
            assert not netns("blue").socket("tcp://:80").is_listening
        """,
    )
    told = reason(machine, "def test_it(netns): assert netns('green').socket('tcp://:443').is_listening")
    assert "<socket tcp://:443 of netns green: tcp listens at 0.0.0.0:80>" in told


def test_interfaces_addresses_and_routes_read_as_with_ip(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            blue = netns("blue")
            assert blue.addr == {"10.1.0.2/24"}
            assert blue.interface("eth0").exists
            assert not blue.interface("eth1").exists
            assert "10.1.0.2/24" in blue.interface("eth0").addresses
            assert blue.interface("eth0").is_up
            assert blue.interface("eth0").state == "UP"
            assert blue.interface("eth0").mtu == 1400
            assert not netns("green").interface("lo").is_up
            assert "default via 10.1.0.1 dev eth0" in blue.routes
        """,
    )
    told = reason(machine, "def test_it(netns): assert 'default via 10.1.0.9 dev eth0' in netns('blue').routes")
    assert "default via 10.1.0.1 dev eth0" in told
    told = reason(machine, "def test_it(netns): assert netns('blue').interface('eth1').is_up")
    assert "there is no interface eth1 in the namespace blue; there is: eth0, lo" in told


def test_connections_are_tried_from_inside(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            blue, green = netns("blue"), netns("green")
            assert blue.can_reach(green, 80)
            assert blue.can_reach("10.1.0.1", 80)
            assert blue.can_reach("10.1.0.1")
            assert not blue.can_reach(green, 22)
            assert not blue.can_reach(green, 81, timeout=0.5)
        """,
    )


def test_who_is_not_reached_says_what_became_of_it(machine: Box) -> None:
    told = reason(machine, "def test_it(netns): assert netns('blue').can_reach(netns('green'), 22)")
    assert "<from netns blue: 10.1.0.1:22 refused (Connection refused)>" in told
    told = reason(machine, "def test_it(netns): assert netns('blue').can_reach('10.1.0.1', 81, timeout=0.5)")
    assert "10.1.0.1:81 dropped" in told
    told = reason(machine, "def test_it(netns): assert not netns('blue').can_reach('10.1.0.1', 80)")
    assert "10.1.0.1:80 reached" in told


def test_what_cannot_be_tried_is_never_a_no(machine: Box) -> None:
    told = reason(machine, "def test_it(netns): assert not netns('red').can_reach('10.1.0.1', 80)")
    assert "netns red could not try to reach 10.1.0.1:80: " in told
    told = reason(machine, "def test_it(netns): assert not netns('blue').can_reach(netns('red'), 80)")
    assert 'Cannot open network namespace "red"' in told
    told = reason(machine, "def test_it(netns): assert not netns('red').socket('tcp://:80').is_listening")
    assert 'Cannot open network namespace "red"' in told


def test_commands_run_inside_with_their_arguments_quoted(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            assert netns("blue").run("ping -c 1 -W 1 %s", "10.1.0.1").rc == 0
            assert netns("blue").run("printf %%s %s", "a b; echo c").stdout == "a b; echo c"
            assert "10.1.0.2" in netns("blue").run("ip -br addr").stdout
        """,
    )


def test_the_packet_filter_is_that_of_the_namespace(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns):
            assert "tcp dport 81 drop" in netns("green").ruleset
            assert netns("blue").ruleset == ""
        """,
    )


def test_nothing_is_remembered_so_a_test_can_change_something_and_look_again(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(netns, unit):
            blue = netns("blue")
            blue.run("ip addr add 10.9.9.9/32 dev eth0")
            assert "10.9.9.9/32" in blue.addr
            blue.run("ip addr del 10.9.9.9/32 dev eth0")
            assert "10.9.9.9/32" not in blue.addr
        """,
    )


def test_units_tell_their_process_and_their_namespaces(machine: Box) -> None:
    assert_passes(
        machine,
        """
        def test_it(host, unit):
            web = unit("web")
            assert web.is_active
            assert host.process.get(pid=web.pid).comm == "python3"
            assert web.cgroup == "/tenants.slice/web.service"
            assert web.netns == "green"
            assert not web.namespaces["net"].is_host
            assert not web.namespaces["mnt"].is_host
            assert web.namespaces["uts"].is_host
            assert web.namespaces["net"].inode == int(host.check_output("stat -c %i /run/netns/green"))
            assert unit("nothing.service").pid is None
        """,
    )
    told = reason(machine, "def test_it(unit): assert unit('web').namespaces['uts'] is None")
    assert ", the host has the same>" in told
    machine.run("systemd-run --quiet --unit=broken false; while systemctl -q is-active broken; do sleep 0.05; done")
    told = reason(machine, "def test_it(unit): assert unit('broken').is_active")
    assert "<unit broken.service: failed (failed, exit-code)>" in told
    told = reason(machine, "def test_it(unit): assert unit('nothing').is_active")
    assert "<unit nothing.service: systemd knows no such unit>" in told


@pytest.fixture
def limited(machine: Box) -> Iterator[Box]:
    """A control group as it is on a kernel with all controllers: the files are given, what reads them is real."""
    tree = machine.run("test -e /sys/fs/cgroup/cgroup.procs || echo /unified").stdout.strip()
    group = f"/sys/fs/cgroup{tree}/tenants.slice"
    machine.run(f"mount -t tmpfs none {group}")
    for file, text in {
        "memory.max": "536870912",
        "memory.high": "max",
        "cpu.max": "50000 100000",
        "cpu.weight": "250",
        "pids.max": "100",
        "io.weight": "default 50\n8:0 75",
        "cpuset.cpus": "0-1",
    }.items():
        machine.write(f"{group}/{file}", text + "\n")
    yield machine
    machine.run(f"umount {group}")


def test_limits_are_what_the_kernel_has_and_read_as_systemd_writes_them(limited: Box) -> None:
    assert_passes(
        limited,
        """
        def test_it(slice):
            tenants = slice("tenants")
            assert tenants.limit("MemoryMax") == 512 * 2**20
            assert tenants.limit("MemoryMax") == "512M"
            assert tenants.limit("MemoryMax") <= "1G"
            assert tenants.limit("MemoryHigh") == "infinity"
            assert tenants.limit("CPUQuota") == "50%"
            assert tenants.limit("CPUWeight") == 250
            assert tenants.limit("TasksMax") < 1000
            assert tenants.limit("IOWeight") == 50
            assert tenants.limit("AllowedCPUs") == "0-1"
        """,
    )
    told = reason(limited, "def test_it(slice): assert slice('tenants').limit('MemoryMax') == '1G'")
    assert "assert 512M == '1G'" in told
    told = reason(limited, "def test_it(slice): slice('tenants').limit('MemoryMaximum')")
    assert "did you mean MemoryMax?" in told
    told = reason(limited, "def test_it(slice): assert slice('tenants').limit('CPUQuota') == '512M'")
    assert "expected one like 50%, or infinity" in told


def test_the_examples_of_the_page_hold(limited: Box) -> None:
    page = (Path(__file__).parents[2] / "docs" / "verify.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert_passes(limited, example)
    [failure] = re.findall(r"^    E   (assert .*)$", page, re.MULTILINE)
    assert failure in reason(limited, "def test_it(netns): assert netns('blue').can_reach(netns('green'), 22)")


def test_a_limit_whose_controller_is_missing_is_no_limit_and_says_why(machine: Box) -> None:
    told = reason(machine, "def test_it(slice): assert slice('tenants').limit('IOWeight') == 'infinity'")
    assert "tenants.slice has no io.weight, so IOWeight is not in force: " in told
    told = reason(machine, "def test_it(slice): slice('nobody').limit('MemoryMax')")
    assert "nobody.slice has no cgroup: it is inactive" in told


def test_it_stands_beside_the_fixtures_of_testinfra(machine: Box) -> None:
    done = run_pytest(
        machine,
        """
        def test_both(host, netns):
            assert host.interface("lo").exists
            assert netns("blue").exists
        """,
        "-v",
    )
    assert "test_mine.py::test_both[local] PASSED" in done.stdout


def test_a_fixture_of_the_same_name_in_somebody_s_tests_wins(machine: Box) -> None:
    assert_passes(
        machine,
        """
        import pytest

        @pytest.fixture
        def unit():
            return "metres"

        def test_it(unit):
            assert unit == "metres"
        """,
    )


def test_a_run_without_its_fixtures_loads_nothing_of_it(machine: Box) -> None:
    assert_passes(
        machine,
        """
        import sys

        def test_it():
            assert {one for one in sys.modules if one.startswith("provisioner")} == {
                "provisioner", "provisioner.verify", "provisioner.verify.fixtures",
            }
        """,
    )
