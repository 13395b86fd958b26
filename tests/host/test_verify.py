"""Facts of a real host: each holds, and when somebody breaks one by hand, exactly that one fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from provisioner.errors import Source
from provisioner.model import Check, Declared, Desired, Expect, Resource
from provisioner.verify.runner import VerifyResult, verify_hosts

if TYPE_CHECKING:
    from .conftest import Box

#: Two tenants on a bridge. Green serves port 80 to all, drops 82, and refuses 85 with an ICMP error.
WIRING = """
ip link add br0 type bridge && ip addr add 10.20.0.1/24 dev br0 && ip link set br0 up
for n in blue:11 green:12; do
  name=${n%:*}; last=${n#*:}
  ip netns add $name
  ip link add v-$name master br0 type veth peer eth0 netns $name && ip link set v-$name up
  ip -n $name link set lo up
  ip -n $name addr add 10.20.0.$last/24 dev eth0
  ip -n $name addr add fd00:20::$last/64 dev eth0 nodad
  ip -n $name link set eth0 up
  ip -n $name route add default via 10.20.0.1
done
ip -n blue route add prohibit 10.88.0.0/16
ip -n blue rule add from 10.20.0.11 table 100 priority 1000
ip -n blue route add 10.30.0.0/16 via 10.20.0.12 table 100
ip netns exec blue sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip netns exec green nft -f - <<X
table inet filter {
  chain input {
    type filter hook input priority 0;
    tcp dport 82 drop
    udp dport 84 drop
    tcp dport 85 reject with icmp type admin-prohibited
  }
}
X
systemd-run -q --unit=web.service --slice=tenants-green.slice -p NetworkNamespacePath=/run/netns/green \\
  python3 -m http.server 80 --bind ::
systemd-run -q --unit=echo.service -p NetworkNamespacePath=/run/netns/green python3 -c '
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 54))
while True:
    data, sender = server.recvfrom(2048)
    server.sendto(data, sender)'
systemctl set-property --runtime tenants-green.slice MemoryMax=512M TasksMax=100
"""

FACTS = {
    "netns/blue exists": "assert 'blue' in netns_list(host)",
    "veth/blue:eth0 has 10.20.0.11/24": "assert '10.20.0.11/24' in addresses(host, 'blue', 'eth0')",
    "veth/blue:eth0 has fd00:20::11/64": "assert 'fd00:20::11/64' in addresses(host, 'blue', 'eth0')",
    "veth/v-blue is on the bridge br0": "assert link(host, None, 'v-blue')['master'] == 'br0'",
    "veth/blue:eth0 is a veth": "assert link(host, 'blue', 'eth0')['linkinfo']['info_kind'] == 'veth'",
    "route/blue:default goes via 10.20.0.1": (
        "found = [one.get('gateway') for one in routes(host, 'blue') if one['dst'] == 'default']\n"
        "assert '10.20.0.1' in found"
    ),
    "route/blue:10.30.0.0/16 is in table 100": (
        "assert '10.30.0.0/16' in [one['dst'] for one in routes(host, 'blue', 100)]"
    ),
    "rule/blue:1000 looks up table 100": (
        "assert ('10.20.0.11', '100') in [(one['src'], one['table']) for one in rules(host, 'blue')]"
    ),
    "sysctl/blue:net.ipv4.ip_forward is 1": "assert sysctl(host, 'blue', 'net.ipv4.ip_forward') == '1'",
    "sysctl/green:net.ipv4.ip_forward is 0": "assert sysctl(host, 'green', 'net.ipv4.ip_forward') == '0'",
    "nftables/green:inet filter drops port 82": (
        "assert 'tcp dport 82 drop' in nft_list(host, 'green', 'inet', 'filter')"
    ),
    "unit/web.service is active": "assert unit_property(host, 'web.service', 'ActiveState') == 'active'",
    "unit/web.service runs in netns green": "assert unit_netns(host, 'web.service') == 'green'",
    "slice/tenants-green.slice MemoryMax is 512M": (
        "assert unit_property(host, 'tenants-green.slice', 'MemoryMax') == str(512 * 2**20)"
    ),
    "slice/tenants-green.slice has the kernel's limits": (
        "assert cgroup_file(host, 'tenants-green.slice', 'memory.max') in (None, str(512 * 2**20))"
    ),
    "unit/web.service has processes in the kernel": (
        "found = unit_property(host, 'web.service', 'MainPID')\n"
        "assert found in cgroup_file(host, 'web.service', 'cgroup.procs').split()"
    ),
}

PACKETS = [
    ("blue", "10.20.0.12:80", "reached", None),
    ("blue", "[fd00:20::12]:80", "reached", None),
    ("blue", "10.20.0.12:54", "reached", "udp"),
    ("blue", "10.20.0.12", "reached", None),
    ("host", "10.20.0.12:80", "reached", None),
    ("blue", "10.20.0.12:81", "refused", None),
    ("blue", "10.20.0.12:85", "refused", None),
    ("blue", "10.20.0.12:53", "refused", "udp"),
    ("blue", "10.88.0.1", "refused", None),
    ("blue", "10.88.0.1:80", "refused", None),
    ("blue", "10.88.0.1:80", "refused", "udp"),
    ("host", "10.20.0.11:80", "refused", None),
    ("blue", "10.20.0.12:82", "dropped", None),
    ("blue", "10.20.0.12:84", "dropped", "udp"),
    ("blue", "10.20.0.77:80", "dropped", None),
    ("blue", "10.20.0.77", "dropped", None),
    ("green", "10.20.0.77:53", "dropped", "udp"),
]


class Host(Resource):
    """Everything that this host shall have."""

    kind = "host"

    def checks(self) -> Iterable[Check]:
        return [Check(title, code) for title, code in FACTS.items()]


def expects(attempts: Iterable[tuple[str, str, str, str | None]]) -> list[tuple[Expect, Source]]:
    at = Source("roles/tenant/tasks/main.yml", 31)
    return [
        (Expect.model_validate({"from": from_, "to": to, "result": result, "proto": proto}), at)
        for from_, to, result, proto in attempts
    ]


def verify(box: Box, desired: Desired) -> VerifyResult:
    return verify_hosts({"edge1": (desired, f"nsprov-sandbox://{box.sandbox.name}")})["edge1"]


@pytest.fixture(scope="module")
def wired(box: Box) -> Box:
    box.run(f"set -e\n{WIRING}")
    return box


@pytest.fixture
def facts() -> Desired:
    resource = Host(name="edge1")
    return Desired({resource.address: Declared(resource, Source("roles/tenant/tasks/main.yml", 4))})


def test_every_fact_holds_on_a_host_as_it_shall_be(wired: Box, facts: Desired) -> None:
    result = verify(wired, facts)
    assert result.failures == ()
    assert [one.title for one in result.facts] == list(FACTS)


def test_packets_end_as_expected_in_every_way_they_can(wired: Box) -> None:
    result = verify(wired, Desired(expects=expects(PACKETS)))
    assert result.failures == ()
    assert result.passed == len(PACKETS)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (("blue", "10.20.0.12:80", "dropped", None), "expected 10.20.0.12:80 to be dropped from blue, it was reached"),
        (("blue", "10.20.0.12:80", "refused", None), "expected 10.20.0.12:80 to be refused from blue, it was reached"),
        (
            ("host", "10.20.0.12:81", "reached", None),
            "expected 10.20.0.12:81 to be reached from the host, it was refused (Connection refused)",
        ),
        (("blue", "10.20.0.12:82", "reached", None), "expected 10.20.0.12:82 to be reached from blue, it was dropped"),
        (
            ("blue", "10.20.0.12:53", "dropped", "udp"),
            "expected 10.20.0.12:53 to be dropped from blue, it was refused (Connection refused)",
        ),
        (
            ("red", "10.20.0.12:80", "dropped", None),
            "expected 10.20.0.12:80 to be dropped from red, it could not be tried (",
        ),
    ],
)
def test_a_packet_that_ends_otherwise_says_how(
    wired: Box, attempt: tuple[str, str, str, str | None], reason: str
) -> None:
    [failure] = verify(wired, Desired(expects=expects([attempt]))).failures
    assert failure.message.startswith(reason)
    assert failure.declared == "roles/tenant/tasks/main.yml:31"


def test_a_service_that_is_only_starting_is_reached(wired: Box) -> None:
    wired.run(
        "systemd-run -q --unit=late.service -p NetworkNamespacePath=/run/netns/green "
        "sh -c 'sleep 1.5; exec python3 -m http.server 8000'"
    )
    try:
        assert verify(wired, Desired(expects=expects([("blue", "10.20.0.12:8000", "reached", None)]))).ok
    finally:
        wired.run("systemctl stop late.service")


#: What somebody does to the host, which facts that breaks and how they read, and what mends it.
BREAKAGES = {
    "an address is deleted": (
        "ip -n blue addr del fd00:20::11/64 dev eth0",
        {"veth/blue:eth0 has fd00:20::11/64": "expected fd00:20::11/64, found 10.20.0.11/24, fe80::"},
        "ip -n blue addr add fd00:20::11/64 dev eth0 nodad",
    ),
    "a port leaves its bridge": (
        "ip link set v-blue nomaster",
        {"veth/v-blue is on the bridge br0": "not set: link(host, None, 'v-blue')['master'] == 'br0'"},
        "ip link set v-blue master br0",
    ),
    "a route is deleted": (
        "ip -n blue route del default",
        {"route/blue:default goes via 10.20.0.1": "expected 10.20.0.1, found none"},
        "ip -n blue route add default via 10.20.0.1",
    ),
    "a kernel parameter is changed": (
        "ip netns exec blue sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'",
        {"sysctl/blue:net.ipv4.ip_forward is 1": "expected 1, found 0"},
        "ip netns exec blue sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'",
    ),
    "a limit is changed": (
        "systemctl set-property --runtime tenants-green.slice MemoryMax=256M",
        {"slice/tenants-green.slice MemoryMax is 512M": "expected 536870912, found 268435456"},
        "systemctl set-property --runtime tenants-green.slice MemoryMax=512M",
    ),
    "the firewall is deleted": (
        "ip netns exec green nft -s list ruleset >/tmp/nft && ip netns exec green nft flush ruleset",
        {
            "nftables/green:inet filter drops port 82": (
                "nft list table inet filter in the namespace green: Error: No such file or directory"
            )
        },
        "ip netns exec green nft -f /tmp/nft",
    ),
    "a unit is stopped": (
        "systemctl stop web.service",
        {
            "unit/web.service is active": "expected active, found inactive",
            "unit/web.service runs in netns green": "web.service has no main process: it is inactive, dead",
            "unit/web.service has processes in the kernel": "web.service has no cgroup: it is inactive",
        },
        (
            "systemd-run -q --unit=web.service --slice=tenants-green.slice -p NetworkNamespacePath=/run/netns/green "
            "python3 -m http.server 80 --bind ::"
        ),
    ),
    "a unit runs outside of its namespace": (
        "systemctl stop web.service && systemd-run -q --unit=web.service --slice=tenants-green.slice sleep 1000",
        {"unit/web.service runs in netns green": "expected green, found nothing"},
        (
            "systemctl stop web.service && systemd-run -q --unit=web.service --slice=tenants-green.slice "
            "-p NetworkNamespacePath=/run/netns/green python3 -m http.server 80 --bind ::"
        ),
    ),
}


@pytest.fixture(params=BREAKAGES)
def broken(request: pytest.FixtureRequest, wired: Box) -> Iterator[tuple[Box, dict[str, str]]]:
    breaks, failing, mends = BREAKAGES[request.param]
    wired.run(breaks)
    yield wired, failing
    wired.run(mends)


def test_exactly_the_fact_that_somebody_broke_fails(broken: tuple[Box, dict[str, str]], facts: Desired) -> None:
    box, failing = broken
    found = {failure.title: failure.message for failure in verify(box, facts).failures}
    assert found.keys() == failing.keys()
    for title, message in failing.items():
        assert found[title].startswith(message)


def test_a_cgroup_file_whose_controller_is_missing_is_none(wired: Box) -> None:
    resource = Host(name="edge1")

    class Missing(Host):
        """A slice whose controller no kernel has."""

        def checks(self) -> Iterable[Check]:
            yield Check("none", "assert cgroup_file(host, 'tenants-green.slice', 'nothing.max') == None")

    desired = Desired({resource.address: Declared(Missing(name="edge1"))})
    assert verify(wired, desired).ok


def test_a_sandbox_that_has_ended_is_one_error(facts: Desired) -> None:
    result = verify_hosts({"edge1": (facts, "nsprov-sandbox://no-such-sandbox")})["edge1"]
    assert result.total == 0
    assert result.error is not None
    assert "no-such-sandbox" in result.error


def test_a_written_suite_runs_on_the_host_itself_without_nsprov(wired: Box, facts: Desired) -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from provisioner.verify.suite import write_suite

    with TemporaryDirectory(prefix="nsprov-test-") as folder:
        suite = Path(folder, "suite")
        write_suite(suite, {"edge1": facts}, project="shop")
        for path in suite.iterdir():
            wired.write(f"/root/suite/{path.name}", path.read_text())
    import sys

    done = wired.run([sys.executable, "-P", "-m", "pytest", "--hosts=local://", "-v", "/root/suite"], check=False)
    assert done.returncode == 0, done.stdout
    assert "test_edge1.py::unit/web.service runs in netns green PASSED" in done.stdout
