"""Steps that the host refuses in the middle of an apply: each kind, each action, and the host is as before.

A project with something of every kind is applied once. Every case then applies a large change (a tenant goes,
one comes, one is changed and has things replaced) in which one step is refused by the kernel or by systemd.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import provisioner
from tests.host.listing import difference, listing

PROJECT = Path(__file__).parent / "projects" / "failures"
INVENTORY = "/root/project/inventory.yml"
VICTIMS = "/root/project/roles/victims/tasks/main.yml"
MANIFEST = "/var/lib/nsprov/manifests/failures.json"
CHECKOUT = Path(provisioner.__file__).parents[1]
NSPROV = f"env PYTHONPATH={CHECKOUT} {sys.executable} -m provisioner"

Task = dict[str, Any]

CHAIN = "chain c { type filter hook input priority 0; policy accept; tcp dport 99 drop; }\n"

#: What the cases change: applied with the rest of the project, one task a line.
THERE: Mapping[str, Task] = {
    "netns": {"netns": {"name": "vict"}},
    "bridge": {"bridge": {"name": "br-vict", "addresses": ["10.81.0.1/24"]}},
    "veth": {
        "veth": {
            "name": "ve-vict",
            "addresses": ["10.82.0.1/24"],
            "routes": [{"to": "10.182.0.0/16", "via": "10.82.0.9"}],
            "peer": {"netns": "stay", "name": "vict0", "addresses": ["10.82.0.2/24"]},
        }
    },
    "route": {"route": {"name": "vroute", "to": "10.83.0.0/16", "via": "10.78.0.5", "dev": "br-firm"}},
    "rule": {"rule": {"priority": 2000, "from": "10.84.0.0/24", "table": 84}},
    "nftables": {"nftables": {"table": "inet vict", "ruleset": CHAIN}},
    "sysctl": {"sysctl": {"key": "net.ipv4.ip_default_ttl", "value": 65}},
    "slice": {"slice": {"name": "vict.slice", "MemoryMax": "64M"}},
    "unit": {
        "unit": {"name": "vict.service", "ExecStart": "/bin/sleep infinity", "Slice": "vict.slice", "MemoryMax": "32M"}
    },
    "door": {
        "unit": {
            "name": "vdoor.service",
            "ExecStart": "/bin/sleep infinity",
            "socket": {"ListenStream": "127.0.0.1:9100"},
        }
    },
    "clock": {"unit": {"name": "vclock.service", "ExecStart": "/bin/true", "timer": {"OnCalendar": "yearly"}}},
    "folder": {"directory": {"path": "/srv/vict", "mode": "0755"}},
    "directory": {"directory": {"path": "/srv/vict/dir", "mode": "0750"}},
    "file": {"file": {"path": "/srv/vict/file", "content": "first\n", "mode": "0640", "owner": "daemon"}},
    "template": {"template": {"dest": "/srv/vict/template", "src": "victim.j2"}},
}

READ_ONLY = "mount --bind {0} {0} && mount -o remount,ro,bind {0}"


def read_only(path: str) -> dict[str, str]:
    return {"arrange": READ_ONLY.format(path), "disarm": f"umount {path}"}


def with_drop_in(unit: str, text: str) -> dict[str, str]:
    """A unit for which somebody has written a drop-in."""
    folder = f"/run/systemd/system/{unit}.d"
    return {
        "arrange": f"mkdir -p {folder} && printf '{text}' > {folder}/x.conf && systemctl daemon-reload",
        "disarm": f"rm -r {folder} && systemctl daemon-reload",
    }


def no_stopping(unit: str) -> dict[str, str]:
    """systemd refuses to stop the unit."""
    return with_drop_in(unit, "[Unit]\\nRefuseManualStop=yes\\n")


#: Takes a table over, and holds it for as long as it runs.
OWNER = """
import ctypes, signal, sys
library = ctypes.CDLL("libnftables.so.1")
library.nft_ctx_new.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.nft_ctx_new(0))
text = open("/run/table.nft").read().replace("{", "{ flags owner;", 1)
orders = "delete " + text.split(" {")[0] + "\\n" + text
sys.exit(library.nft_run_cmd_from_buffer(context, orders.encode()) or signal.pause())
"""


def owned_by_another(table: str) -> dict[str, str]:
    """A table of the same content that belongs to a program that runs: the kernel lets nobody else touch it."""
    return {
        "arrange": f"""
            nft list table {table} > /run/table.nft
            {sys.executable} -c '{OWNER}' > /dev/null 2>&1 & echo $! > /run/owner
            for i in $(seq 500); do nft list table {table} | grep -q owner && exit; sleep 0.01; done; exit 1""",
        "disarm": f"""
            kill $(cat /run/owner)
            for i in $(seq 500); do nft list table {table} > /dev/null 2>&1 || break; sleep 0.01; done
            nft -f /run/table.nft; rm /run/table.nft /run/owner""",
    }


def with_(name: str, **fields: Any) -> Task:
    """A task of THERE with other fields; None takes one out."""
    ((kind, given),) = THERE[name].items()
    merged = {**given, **fields}
    return {kind: {key: value for key, value in merged.items() if value is not None}}


@dataclass(frozen=True)
class Fault:
    """A change that the host refuses: the step, how it is made to, and the host's words."""

    title: str
    #: The verb and the address of the step that is refused.
    step: str
    words: str
    #: Tasks that replace those of the same name; None leaves one out; others are added.
    tasks: Mapping[str, Task | None]
    arrange: str = "true"
    disarm: str = "true"
    #: What the command line begins with.
    under: str = ""

    def written(self, first: bool = False) -> str:
        """The role's tasks, one a line."""
        tasks = {**THERE, **self.tasks}
        return "".join(f"- {json.dumps(task)}\n" for task in tasks.values() if task is not None)

    @property
    def line(self) -> int:
        """The line of the task whose step is refused: of the last one that the case declares."""
        tasks = {**THERE, **self.tasks}
        name = next(reversed(self.tasks))
        kept = [one for one, task in tasks.items() if task is not None or one == name]
        if tasks[name] is None:  # it is in the manifest, with the line that it had
            kept = list(THERE)
        return kept.index(name) + 1


CREATED = [
    Fault(
        "a namespace whose name is a folder",
        "creating netns/vnew",
        "Not a directory",
        {"new": {"netns": {"name": "vnew"}}},
        "mkdir -p /run/netns/vnew/x",
        "rm -r /run/netns/vnew",
    ),
    Fault(
        "a bridge whose name another interface has",
        "creating bridge/br-new",
        "File exists",
        {"new": {"bridge": {"name": "br-new"}}},
        "ip link add br-new type veth peer name br-newp",
        "ip link del br-new",
    ),
    Fault(
        "a bridge with a route that the kernel refuses",
        "creating bridge/br-new",
        "Invalid prefsrc address",
        {
            "new": {
                "bridge": {
                    "name": "br-new",
                    "addresses": ["10.85.0.1/24"],
                    "routes": [{"to": "10.185.0.0/16", "via": "10.85.0.9", "src": "10.200.0.1"}],
                }
            }
        },
    ),
    Fault(
        "a pair whose name another interface has",
        "creating veth/ve-new",
        "File exists",
        {"new": {"veth": {"name": "ve-new", "peer": {"name": "ve-newp"}}}},
        "ip link add ve-new type bridge",
        "ip link del ve-new",
    ),
    Fault(
        "a pair whose peer's name is taken",
        "creating veth/ve-new",
        "File exists",
        {"new": {"veth": {"name": "ve-new", "peer": {"name": "ve-newp"}}}},
        "ip link add ve-newp type bridge",
        "ip link del ve-newp",
    ),
    Fault(
        "a route to an unreachable gateway",
        "creating route/10.86.0.0/16",
        "Nexthop has invalid gateway",
        {"new": {"route": {"to": "10.86.0.0/16", "via": "10.200.0.1", "dev": "br-firm"}}},
    ),
    Fault(
        "a ruleset for an interface that is not there",
        "creating nftables/inet vnew",
        "Interface does not exist",
        {"new": {"nftables": {"table": "inet vnew", "ruleset": "chain c { iif nope0 drop; }\n"}}},
    ),
    Fault(
        "a setting's value that the kernel refuses",
        "creating sysctl/net.ipv4.tcp_keepalive_probes",
        "Invalid argument",
        {"new": {"sysctl": {"key": "net.ipv4.tcp_keepalive_probes", "value": 999}}},
    ),
    Fault(
        "a slice that needs a unit which is not there",
        "creating slice/vnew.slice",
        "not found",
        {"new": {"slice": {"name": "vnew.slice", "MemoryMax": "64M", "Requires": ["nope.target"]}}},
    ),
    Fault(
        "a program that is not there",
        "creating unit/vnew.service",
        "203",
        {"new": {"unit": {"name": "vnew.service", "ExecStart": "/no/such/program"}}},
    ),
    Fault(
        "a unit that needs a unit which is not there",
        "creating unit/vnew.service",
        "Unit nope.target not found",
        {"new": {"unit": {"name": "vnew.service", "ExecStart": "/bin/sleep 99", "Requires": ["nope.target"]}}},
    ),
    Fault(
        "a unit whose preparation fails",
        "creating unit/vnew.service",
        "no such luck",
        {
            "new": {
                "unit": {
                    "name": "vnew.service",
                    "ExecStartPre": "/bin/sh -c 'echo no such luck; exit 3'",
                    "ExecStart": "/bin/sleep 99",
                }
            }
        },
    ),
    Fault(
        "a unit that does not start in time",
        "creating unit/vnew.service",
        "timeout",
        {
            "new": {
                "unit": {
                    "name": "vnew.service",
                    "Type": "notify",
                    "ExecStart": "/bin/sleep 99",
                    "TimeoutStartSec": "300ms",
                }
            }
        },
    ),
    Fault(
        "a unit that dies right after its start",
        "creating unit/vnew.service",
        "last words",
        {"new": {"unit": {"name": "vnew.service", "ExecStart": "/bin/sh -c 'echo last words; exit 4'"}}},
    ),
    Fault(
        "a socket whose port is taken",
        "creating unit/vnew.service",
        "resources",
        {
            "new": {
                "unit": {
                    "name": "vnew.service",
                    "ExecStart": "/bin/sleep 99",
                    "socket": {"ListenStream": "127.0.0.1:9200"},
                }
            }
        },
        "systemd-run -q --unit=holder --socket-property=ListenStream=127.0.0.1:9200 /bin/true",
        "systemctl stop holder.socket",
    ),
    Fault(
        "a timer of a name that is taken",
        "creating unit/vnew.service",
        "vnew.timer",
        {"new": {"unit": {"name": "vnew.service", "ExecStart": "/bin/true", "timer": {"OnCalendar": "yearly"}}}},
        "printf '[Timer]\\nOnActiveSec=9h\\nUnit=basic.target\\n' > /run/systemd/system/vnew.timer"
        " && systemctl daemon-reload && systemctl start vnew.timer",
        "systemctl stop vnew.timer; rm /run/systemd/system/vnew.timer; systemctl daemon-reload",
    ),
    Fault(
        "a file on a disk that is full",
        "creating file//srv/full/new",
        "No space left on device",
        {"new": {"file": {"path": "/srv/full/new", "content": "x" * 99999}}},
        "mkdir /srv/full && mount -t tmpfs -o size=16k full /srv/full",
        "umount /srv/full && rmdir /srv/full",
    ),
    Fault(
        "a directory on a disk that takes no writes",
        "creating directory//srv/full/new",
        "Read-only file system",
        {"new": {"directory": {"path": "/srv/full/new"}}},
        "mkdir /srv/full && mount -t tmpfs -o ro full /srv/full",
        "umount /srv/full && rmdir /srv/full",
    ),
    Fault(
        "a template on a disk that takes no writes",
        "creating template//srv/full/new",
        "Read-only file system",
        {"new": {"template": {"dest": "/srv/full/new", "src": "victim.j2"}}},
        "mkdir /srv/full && mount -t tmpfs -o ro full /srv/full",
        "umount /srv/full && rmdir /srv/full",
    ),
]

CHANGED = [
    Fault(
        "a namespace's name that cannot be removed",
        "deleting netns/",
        "Read-only file system",
        {"netns": None},
        "mount -o remount,ro,bind /run/netns",
        "mount -o remount,rw,bind /run/netns",
    ),
    Fault(
        "an address that the kernel refuses to a bridge",
        "changing bridge/br-vict",
        "denied",
        {"bridge": with_("bridge", addresses=["10.81.0.2/24", "fd81::1/64"])},
        "sysctl -q -w net.ipv6.conf.br-vict.disable_ipv6=1",
        "sysctl -q -w net.ipv6.conf.br-vict.disable_ipv6=0",
    ),
    Fault(
        "a route that the kernel refuses to a pair",
        "changing veth/ve-vict",
        "Invalid prefsrc address",
        {
            "veth": with_(
                "veth",
                addresses=["10.82.1.1/24"],
                mtu=1300,
                routes=[{"to": "10.182.0.0/16", "via": "10.82.1.9", "src": "10.200.0.1"}],
            )
        },
    ),
    Fault(
        "a pair that is replaced by one whose peer's name is taken",
        "creating veth/ve-vict",
        "File exists",
        {"veth": with_("veth", peer={"netns": "stay", "name": "taken0", "addresses": ["10.82.0.2/24"]})},
        "ip -n stay link add taken0 type bridge",
        "ip -n stay link del taken0",
    ),
    Fault(
        "another gateway that is unreachable",
        "changing route/vroute",
        "Nexthop has invalid gateway",
        {"route": with_("route", via="10.200.0.1")},
    ),
    Fault(
        "a route that is replaced by an impossible one",
        "creating route/vroute",
        "Nexthop has invalid gateway",
        {"route": with_("route", to="10.183.0.0/16", via="10.200.0.1")},
    ),
    Fault(
        "another ruleset for an interface that is not there",
        "changing nftables/inet vict",
        "Interface does not exist",
        {"nftables": with_("nftables", ruleset=CHAIN + "chain n { iif nope0 drop; }\n")},
    ),
    Fault(
        "a table that another program owns",
        "changing nftables/inet vict",
        "Operation not permitted",
        {"nftables": with_("nftables", ruleset=CHAIN.replace("99", "98"))},
        **owned_by_another("inet vict"),
    ),
    Fault(
        "a table that another program owns and that shall go",
        "deleting nftables/inet vict",
        "Operation not permitted",
        {"nftables": None},
        **owned_by_another("inet vict"),
    ),
    Fault(
        "another value that the kernel refuses",
        "changing sysctl/net.ipv4.ip_default_ttl",
        "Invalid argument",
        {"sysctl": with_("sysctl", value=999)},
    ),
    Fault(
        "a setting that cannot be put back",
        "deleting sysctl/net.ipv4.ip_default_ttl",
        "Read-only file system",
        {"sysctl": None},
        **read_only("/proc/sys/net/ipv4/ip_default_ttl"),
    ),
    Fault(
        "a limit of a slice that systemd does not take",
        "changing slice/vict.slice",
        "is masked",
        {"slice": with_("slice", MemoryMax="65M")},
        "ln -s /dev/null /run/systemd/system.control/vict.slice && systemctl daemon-reload",
        "rm /run/systemd/system.control/vict.slice && systemctl daemon-reload",
    ),
    Fault(
        "a slice that systemd does not stop",
        "deleting slice/vict.slice",
        "Operation refused",
        {"unit": None, "slice": None},
        **no_stopping("vict.slice"),
    ),
    Fault(
        "a limit of a unit that systemd does not take",
        "changing unit/vict.service",
        "bad unit file setting",
        {"unit": with_("unit", MemoryMax="33M")},
        **with_drop_in("vict.service", "[Service]\\nType=oneshot\\nRestart=always\\n"),
    ),
    Fault(
        "a changed unit whose program is not there",
        "changing unit/vict.service",
        "203",
        {"unit": with_("unit", ExecStart="/no/such/program")},
    ),
    Fault(
        "a changed unit that dies right after its start",
        "changing unit/vict.service",
        "last words",
        {"unit": with_("unit", ExecStart="/bin/sh -c 'echo last words; exit 4'")},
    ),
    Fault(
        "a unit that systemd does not stop",
        "deleting unit/vict.service",
        "Operation refused",
        {"unit": None},
        **no_stopping("vict.service"),
    ),
    Fault(
        "a changed unit that systemd does not stop",
        "changing unit/vict.service",
        "Operation refused",
        {"unit": with_("unit", ExecStart="/bin/sleep 99999")},
        **no_stopping("vict.service"),
    ),
    Fault(
        "a changed socket whose port is taken",
        "changing unit/vdoor.service",
        "resources",
        {"door": with_("door", socket={"ListenStream": "127.0.0.1:9200"})},
        "systemd-run -q --unit=holder --socket-property=ListenStream=127.0.0.1:9200 /bin/true",
        "systemctl stop holder.socket",
    ),
    Fault(
        "a socket that systemd does not stop",
        "deleting unit/vdoor.service",
        "Operation refused",
        {"door": None},
        **no_stopping("vdoor.socket"),
    ),
    Fault(
        "a timer that systemd does not stop",
        "deleting unit/vclock.service",
        "Operation refused",
        {"clock": None},
        **no_stopping("vclock.timer"),
    ),
    Fault(
        "a timer that needs a unit which is not there",
        "changing unit/vclock.service",
        "Unit nope.target not found",
        {"clock": with_("clock", timer={"OnCalendar": "monthly", "Requires": ["nope.target"]})},
    ),
    Fault(
        "a file that cannot be written",
        "changing file//srv/vict/file",
        "Read-only file system",
        {"file": with_("file", content="second\n")},
        **read_only("/srv/vict"),
    ),
    Fault(
        "a file that cannot be removed",
        "deleting file//srv/vict/file",
        "Read-only file system",
        {"file": None},
        **read_only("/srv/vict"),
    ),
    Fault(
        "a mode that cannot be set",
        "changing directory//srv/vict/dir",
        "Read-only file system",
        {"directory": with_("directory", mode="0700")},
        **read_only("/srv/vict"),
    ),
    Fault(
        "a directory that is not empty",
        "deleting directory//srv/vict/dir",
        "it has theirs",
        {"directory": None},
        "touch /srv/vict/dir/theirs",
        "rm /srv/vict/dir/theirs",
    ),
    Fault(
        "a template that cannot be written",
        "changing template//srv/vict/template",
        "Read-only file system",
        {"template": {"template": {**THERE["template"]["template"], "vars": {"word": "other"}}}},
        **read_only("/srv/vict"),
    ),
    Fault(
        "a template that cannot be removed",
        "deleting template//srv/vict/template",
        "Read-only file system",
        {"template": None},
        **read_only("/srv/vict"),
    ),
]


@dataclass
class Settled:
    """A host on which the project was applied, and what was there then."""

    before: dict[str, list[str]]
    pids: dict[str, str]
    manifest: str
    #: Set by a test that could not leave the host as it was.
    spoilt: bool = False


WORKLOADS = ("app-stay", "limited-stay", "app-gone", "app-moved", "vict")


def nsprov(box: Any, command: str, *options: str, under: str = "", check: bool = True) -> Any:
    words = ["cd /root/project &&", under, NSPROV, command, "inventory.yml", *options]
    return box.run(" ".join(words), check=check, timeout=120)


def pids(box: Any) -> dict[str, str]:
    """The main process of every workload that no case touches."""
    shown = box.run(["systemctl", "show", "-P", "MainPID", "app-stay", "limited-stay"], check=False).stdout
    return dict(zip(("app-stay", "limited-stay"), shown.split(), strict=False))


def fresh_project(box: Any, victims: str) -> None:
    box.run(f"rm -rf /root/project && cp -r {PROJECT} /root/project")
    box.write(VICTIMS, victims)


UNTOUCHED = Fault("", "", "", {})


@pytest.fixture(scope="module")
def prepared(box: Any) -> Any:
    """The box, with what systemd makes by itself once it is used made already."""
    box.run("touch /run/started; mkdir -p /run/systemd/transient /run/systemd/system /run/netns")
    box.run("mount --bind /run/netns /run/netns; mount --make-shared /run/netns")
    fresh_project(box, UNTOUCHED.written())
    return box


@pytest.fixture(scope="module")
def empty(prepared: Any) -> dict[str, list[str]]:
    """The listing of the host without the project."""
    return listing(prepared)


@pytest.fixture(scope="module")
def _kept() -> dict[str, Settled]:
    return {}


@pytest.fixture
def settled(prepared: Any, empty: dict[str, list[str]], _kept: dict[str, Settled]) -> Iterator[Settled]:
    """The project as it is applied. Applied once for all tests that leave the host as it was."""
    box = prepared
    fresh_project(box, UNTOUCHED.written())
    if "settled" not in _kept:
        if nsprov(box, "apply", "--yes", check=False).returncode != 0:
            nsprov(box, "destroy", "--yes")
            nsprov(box, "apply", "--yes")
        _kept["settled"] = Settled(listing(box), pids(box), box.run(["cat", MANIFEST]).stdout)
    state = _kept["settled"]
    state.spoilt = True
    yield state
    if state.spoilt:
        del _kept["settled"]


def refused(box: Any, fault: Fault, *options: str) -> Any:
    """Apply the case's change, and let go of what makes the host refuse it."""
    box.write(VICTIMS, fault.written())
    box.run(fault.arrange)
    try:
        return nsprov(box, "apply", "--yes", *options, under=fault.under, check=False)
    finally:
        box.run(fault.disarm)


def assert_told(done: Any, fault: Fault) -> None:
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    summary = done.stdout[done.stdout.index("not applied") :]
    assert f"failed {fault.step}" in summary, summary
    assert fault.words in summary, summary
    assert f"victims/tasks/main.yml:{fault.line}" in summary or fault.step.endswith("/"), summary
    assert "the host was put back" in summary, summary


def listing_and_plan(box: Any) -> tuple[dict[str, list[str]], str]:
    """What is there, and what nsprov would do about it: both only read, so they go side by side."""
    with ThreadPoolExecutor() as pool:
        plan = pool.submit(nsprov, box, "plan")
        return listing(box), plan.result().stdout.strip()


def assert_as_before(box: Any, settled: Settled) -> None:
    """The host is what it was, in every respect, and nsprov thinks so too."""
    fresh_project(box, UNTOUCHED.written())
    assert pids(box) == settled.pids
    assert box.run(["cat", MANIFEST]).stdout == settled.manifest
    found, planned = listing_and_plan(box)
    assert difference(settled.before, found) == []
    assert planned == "here   no changes"
    settled.spoilt = False


#: A case for each kind, and each way in which a unit starts.
FIRST = [
    fault
    for fault in CREATED
    if fault.title
    in (
        "a namespace whose name is a folder",
        "a bridge with a route that the kernel refuses",
        "a pair whose peer's name is taken",
        "a route to an unreachable gateway",
        "a ruleset for an interface that is not there",
        "a setting's value that the kernel refuses",
        "a slice that needs a unit which is not there",
        "a unit that does not start in time",
        "a socket whose port is taken",
        "a timer of a name that is taken",
        "a file on a disk that is full",
        "a directory on a disk that takes no writes",
        "a template on a disk that takes no writes",
    )
]


@pytest.mark.parametrize("fault", FIRST, ids=lambda fault: fault.title.replace(" ", "-"))
def test_a_refused_step_in_a_first_apply_leaves_nothing(
    prepared: Any, empty: dict[str, list[str]], fault: Fault
) -> None:
    done = refused(prepared, fault)
    try:
        assert_told(done, fault)
        assert difference(empty, listing(prepared)) == []
    finally:
        if done.returncode == 0:
            nsprov(prepared, "destroy", "--yes")


@pytest.mark.parametrize("fault", [*CREATED, *CHANGED], ids=lambda fault: fault.title.replace(" ", "-"))
def test_a_refused_step_in_a_large_change_leaves_the_host_as_it_was(box: Any, settled: Settled, fault: Fault) -> None:
    done = refused(box, fault, "-e", "changes=true")
    assert_told(done, fault)
    assert_as_before(box, settled)


# -- interrupted, killed, out of room -----------------------------------------------------------------

#: A unit whose start takes until it is let go on.
SLOW_START = "/bin/sh -c 'until rm /run/go 2>/dev/null; do sleep 0.05; done'"
SLOW = Fault("", "", "", {"slow": {"unit": {"name": "slow.service", "Type": "oneshot", "ExecStart": SLOW_START}}})
WHILE_IT_STARTS = f"""
    cd /root/project
    {NSPROV} apply inventory.yml --yes -e changes=true > /tmp/first.log 2>&1 & first=$!
    until [ "$(systemctl show -P ActiveState slow.service)" = activating ]; do sleep 0.05; done
"""


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_an_interrupted_apply_puts_the_host_back(box: Any, settled: Settled, signal: str) -> None:
    box.write(VICTIMS, SLOW.written())
    done = box.run(
        f"{WHILE_IT_STARTS} kill -{signal} $first; sleep 0.3; touch /run/go; wait $first; echo $?; cat /tmp/first.log"
    ).stdout
    assert done.startswith("1\n"), done
    assert "stopping after the step in hand, then putting the host back" in done
    assert "interrupted" in done
    assert "the host was put back" in done
    assert_as_before(box, settled)


def test_of_two_applies_at_once_the_second_is_told_so_and_touches_nothing(box: Any, settled: Settled) -> None:
    box.write(VICTIMS, SLOW.written())
    done = box.run(
        f"{WHILE_IT_STARTS} {NSPROV} apply inventory.yml --yes; echo $?\n"
        "kill -INT $first; sleep 0.3; touch /run/go; wait $first || true"
    )
    assert done.stdout == "75\n"
    assert "another apply holds here" in done.stderr
    assert_as_before(box, settled)


def test_no_room_for_the_manifest_and_nothing_is_touched(box: Any, settled: Settled) -> None:
    box.run(
        "cp -r /var/lib/nsprov /tmp/kept && mount -t tmpfs -o size=128k full /var/lib/nsprov"
        " && cp -a /tmp/kept/. /var/lib/nsprov && rm -r /tmp/kept && cat /dev/zero > /var/lib/nsprov/filler",
        check=False,
    )
    done = nsprov(box, "apply", "--yes", "-e", "changes=true", check=False)
    box.run("umount /var/lib/nsprov")
    assert done.returncode == 1
    assert "cannot write /var/lib/nsprov/manifests/failures.json: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert_as_before(box, settled)


def test_what_cannot_be_put_back_is_said_exactly_and_mended_by_the_next_apply(box: Any, settled: Settled) -> None:
    # The new unit takes the name of the interface that has just been deleted, and dies.
    thief = {"unit": {"name": "thief.service", "ExecStart": "/bin/sh -c 'ip link add v-gone type bridge; exit 9'"}}
    fault = Fault("", "creating unit/thief.service", "exit status 9", {"thief": thief})
    done = refused(box, fault, "-e", "changes=true")
    assert done.returncode == 1
    summary = done.stdout[done.stdout.index("not applied") :]
    assert "failed creating unit/thief.service" in summary
    assert "could not be put back" in summary
    assert "veth/v-gone: cannot make the veth v-gone to gone:eth0: File exists" in summary
    assert "app-gone" not in summary  # the rest of the tenant is there again
    assert pids(box) == settled.pids
    box.run("ip link del v-gone")
    fresh_project(box, UNTOUCHED.written())
    steps = json.loads(nsprov(box, "plan", "--format", "json").stdout)["hosts"]["here"]["steps"]
    assert {step["address"] for step in steps} == {"veth/v-gone", "route/gone:10.98.0.0/16 metric 50"}
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert pids(box) == settled.pids


def test_what_was_kept_of_a_failed_apply_is_completed_by_the_next(box: Any, settled: Settled) -> None:
    fault = next(one for one in CREATED if one.title == "a pair whose peer's name is taken")
    done = refused(box, fault, "-e", "changes=true", "--keep-partial")
    assert done.returncode == 1
    assert "gone" not in box.run("ls /run/netns").stdout.split()
    box.write(VICTIMS, fault.written())
    nsprov(box, "apply", "--yes", "-e", "changes=true")
    assert nsprov(box, "plan", "-e", "changes=true").stdout.strip() == "here   no changes"
    assert pids(box) == settled.pids


def test_killed_at_any_moment_the_next_apply_converges_and_nothing_leaks(
    box: Any, settled: Settled, empty: dict[str, list[str]]
) -> None:
    change = True
    for delay in (0.5, 0.65, 0.75, 0.85, 0.95, 1.1):
        options = ["-e", f"changes={str(change).lower()}"]
        box.run(
            f"cd /root/project; {NSPROV} apply inventory.yml --yes {' '.join(options)} > /dev/null 2>&1 & p=$!;"
            f" sleep {delay}; kill -9 $p; wait $p",
            check=False,
        )
        # Sometimes on to what was begun, sometimes back.
        change = change if delay in (0.65, 0.95) else not change
        nsprov(box, "apply", "--yes", "-e", f"changes={str(change).lower()}")
        assert nsprov(box, "plan", "-e", f"changes={str(change).lower()}").stdout.strip() == "here   no changes"
        assert pids(box) == settled.pids
    nsprov(box, "destroy", "--yes")
    assert difference(empty, listing(box)) == []


def test_few_open_files_are_enough_for_many_namespaces(box: Any, settled: Settled) -> None:
    many: dict[str, Task | None] = {}
    for number in range(40):
        many[f"n{number}"] = {"netns": {"name": f"many{number}"}}
        peer = {"netns": f"many{number}", "name": "eth0", "addresses": [f"10.78.0.{number + 30}/24"]}
        many[f"v{number}"] = {"veth": {"name": f"many{number}", "master": "br-firm", "peer": peer}}
    box.write(VICTIMS, Fault("", "", "", many).written())
    few = "prlimit --nofile=24:24"
    nsprov(box, "apply", "--yes", under=few)
    assert nsprov(box, "plan", under=few).stdout.strip() == "here   no changes"
    for number in range(40):
        assert f"10.78.0.{number + 30}/24" in box.run(f"ip -n many{number} addr show eth0").stdout
    fresh_project(box, UNTOUCHED.written())
    nsprov(box, "apply", "--yes", under=few)
    assert_as_before(box, settled)


# -- fields that leave, things that are taken over, hosts that were changed by hand ------------------------


def test_a_field_that_leaves_the_configuration_goes_back_to_its_default(box: Any, settled: Settled) -> None:
    unit = {"name": "vict.service", "ExecStart": "/bin/sleep infinity"}
    fields = {"Slice": "vict.slice", "Environment": {"A": "1"}, "MemoryMax": "32M", "Nice": 5, "TasksMax": 9}
    full = {
        "bridge": with_("bridge", mtu=1300, stp=True, ageing_time=10),
        "veth": with_("veth", master="br-vict", mtu=1300, addresses=[], routes=[]),
        "slice": with_("slice", CPUWeight=40, TasksMax=50),
        "unit": {"unit": {**unit, **fields}},
        "door": with_("door", socket={"ListenStream": "127.0.0.1:9100", "Backlog": 5}),
        "clock": with_("clock", timer={"OnCalendar": "yearly", "RandomizedDelaySec": "5min"}),
        "route": with_("route", src="10.78.0.1", mtu=1200),
    }
    bare = {
        "bridge": with_("bridge", addresses=None),
        "veth": with_("veth", addresses=None, routes=None),
        "slice": {"slice": {"name": "vict.slice"}},
        "unit": {"unit": unit},
    }
    box.write(VICTIMS, Fault("", "", "", full).written())
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert "master br-vict" in box.run("ip link show ve-vict").stdout
    box.write(VICTIMS, Fault("", "", "", bare).written())
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    link = json.loads(box.run("ip -j -d link show ve-vict").stdout)[0]
    assert ("master" in link, link["mtu"]) == (False, 1500)
    bridge = json.loads(box.run("ip -j -d link show br-vict").stdout)[0]
    data = bridge["linkinfo"]["info_data"]
    assert (bridge["mtu"], data["stp_state"], data["ageing_time"]) == (1500, 0, 30000)
    assert "inet " not in box.run("ip addr show br-vict").stdout
    shown = box.run("systemctl show -p Slice,Environment,MemoryMax,Nice vict.service").stdout.splitlines()
    assert sorted(shown) == ["Environment=", "MemoryMax=infinity", "Nice=0", "Slice=system.slice"]
    shown = box.run("systemctl show -p MemoryMax,CPUWeight vict.slice").stdout.splitlines()
    assert sorted(shown) == ["CPUWeight=[not set]", "MemoryMax=infinity"]
    assert box.run("systemctl show -P Backlog vdoor.socket").stdout.strip() != "5"
    assert box.run("systemctl show -P RandomizedDelayUSec vclock.timer").stdout.strip() == "0"
    assert "src" not in box.run("ip route show 10.83.0.0/16").stdout
    assert pids(box) == settled.pids


def test_what_others_made_is_taken_over_with_the_fields_that_are_declared(box: Any, settled: Settled) -> None:
    box.run(
        """
        set -e
        ip netns add theirs
        ip link add br-theirs mtu 1400 type bridge ageing_time 1000
        ip addr add 10.87.0.9/24 dev br-theirs
        ip link add ve-theirs type veth peer name ve-theirsp netns theirs
        ip link set br-firm up
        ip route add 10.187.0.0/16 via 10.78.0.7 dev br-firm
        ip rule add prio 2087 from 10.87.0.0/24 table 12
        nft 'table inet theirs { chain c { tcp dport 1 drop; }; }'
        systemd-run -q --unit=theirs.service -p Nice=3 /bin/sleep 77777
        mkdir -m 0700 /srv/theirs; echo theirs > /srv/theirs/file; echo theirs > /srv/theirs/template
        """
    )
    declared: dict[str, Task | None] = {
        "1": {"netns": {"name": "theirs"}},
        "2": {"bridge": {"name": "br-theirs", "addresses": ["10.87.0.1/24"], "ageing_time": 20, "mtu": 1350}},
        "3": {"veth": {"name": "ve-theirs", "peer": {"netns": "theirs", "name": "eth0"}, "master": "br-theirs"}},
        "4": {"route": {"to": "10.187.0.0/16", "via": "10.78.0.8", "dev": "br-firm"}},
        "5": {"rule": {"priority": 2087, "from": "10.87.0.0/24", "table": 13}},
        "6": {"nftables": {"table": "inet theirs", "ruleset": CHAIN}},
        "7": {"unit": {"name": "theirs.service", "ExecStart": "/bin/sleep 88888"}},
        "8": {"directory": {"path": "/srv/theirs", "mode": "0755"}},
        "9": {"file": {"path": "/srv/theirs/file", "content": "ours\n"}},
        "10": {"template": {"dest": "/srv/theirs/template", "src": "victim.j2"}},
    }
    box.write(VICTIMS, Fault("", "", "", declared).written())
    before = listing(box)
    done = nsprov(box, "apply", "--yes", check=False)
    assert done.returncode == 1
    assert done.stderr.count("is on the host already") == len(declared)
    assert difference(before, listing(box)) == []
    nsprov(box, "apply", "--yes", "--adopt")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert "10.87.0.1/24" in box.run("ip addr show br-theirs").stdout
    assert "10.87.0.9/24" not in box.run("ip addr show br-theirs").stdout
    assert "via 10.78.0.8" in box.run("ip route show 10.187.0.0/16").stdout
    assert "lookup 13" in box.run("ip rule show prio 2087").stdout
    assert box.run("cat /srv/theirs/file /srv/theirs/template").stdout == "ours\nword = first\n"
    assert "88888" in box.run("systemctl show -P ExecStart theirs.service").stdout
    fresh_project(box, UNTOUCHED.written())
    nsprov(box, "apply", "--yes")
    assert_as_before(box, settled)


def test_what_was_changed_by_hand_is_mended_with_the_fewest_steps(box: Any, settled: Settled) -> None:
    box.run(
        """
        set -e
        ip -n moved addr del 10.79.13.2/24 dev eth1
        ip link set x-moved mtu 1450
        ip -n moved link set eth1 mtu 1450
        ip route del 10.83.0.0/16
        ip rule del prio 2000
        sysctl -q -w net.ipv4.ip_default_ttl=66
        nft flush table inet vict
        systemctl stop limited-moved.service vclock.timer
        systemctl set-property --runtime vict.slice MemoryMax=70M
        systemctl set-property --runtime app-moved.service TasksMax=30
        chmod 600 /srv/vict/file; echo changed >> /srv/vict/template; rm /srv/firm/moved/link
        rmdir /srv/vict/dir
        ip netns del gone
        """
    )
    steps = json.loads(nsprov(box, "plan", "--format", "json").stdout)["hosts"]["here"]["steps"]
    planned = {(step["action"], step["address"]) for step in steps if "gone" not in step["address"]}
    assert planned == {
        ("update", "veth/x-moved"),
        ("create", "route/vroute"),
        ("create", "rule/2000"),
        ("update", "sysctl/net.ipv4.ip_default_ttl"),
        ("update", "nftables/inet vict"),
        ("create", "unit/limited-moved.service"),
        ("create", "unit/vclock.service"),
        ("update", "slice/vict.slice"),
        ("update", "unit/app-moved.service"),
        ("update", "file//srv/vict/file"),
        ("update", "template//srv/vict/template"),
        ("create", "file//srv/firm/moved/link"),
        ("create", "directory//srv/vict/dir"),
    }
    restarts = {step["address"] for step in steps if step["restarts"]}
    assert restarts == {"unit/app-gone.service", "unit/door-gone.service"}
    moved = box.run("systemctl show -P MainPID app-moved.service vict.service").stdout
    nsprov(box, "apply", "--yes")
    assert box.run("systemctl show -P MainPID app-moved.service vict.service").stdout == moved
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert pids(box) == settled.pids


def test_what_moves_from_one_interface_to_another_moves_in_one_apply(box: Any, settled: Settled) -> None:
    """A route, an address, and a rule that is turned round: the kernel takes the old and the new for one."""
    road = {"to": "10.182.0.0/16", "via": "10.82.0.9"}
    other = {"name": "ve-other", "peer": {"netns": "stay", "name": "other0"}, "addresses": ["10.84.0.1/24"]}
    there: dict[str, Task | None] = {"other": {"veth": other}}
    box.write(VICTIMS, Fault("", "", "", there).written())
    nsprov(box, "apply", "--yes")
    moved: dict[str, Task | None] = {
        "veth": with_("veth", addresses=["10.84.0.1/24"], routes=[]),
        "other": {"veth": {**other, "addresses": ["10.82.0.1/24"], "routes": [road]}},
        "rule": {"rule": {**THERE["rule"]["rule"], "not": True}},
    }
    box.write(VICTIMS, Fault("", "", "", moved).written())
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert "dev ve-other" in box.run("ip route show 10.182.0.0/16").stdout
    assert "10.82.0.1/24" in box.run("ip addr show ve-other").stdout
    assert "not from 10.84.0.0/24" in box.run("ip rule show prio 2000").stdout
    created: dict[str, Task | None] = {  # now to one that is not there yet
        **there,
        "veth": with_("veth", addresses=["10.84.0.1/24"], routes=[]),
        "other": {"veth": {**other, "addresses": []}},
        "third": {"veth": {"name": "ve-3", "addresses": ["10.82.0.1/24"], "routes": [road], "peer": {"name": "ve-3p"}}},
    }
    box.write(VICTIMS, Fault("", "", "", created).written())
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"
    assert "dev ve-3" in box.run("ip route show 10.182.0.0/16").stdout
    assert "not" not in box.run("ip rule show prio 2000").stdout
    fresh_project(box, UNTOUCHED.written())
    nsprov(box, "apply", "--yes")
    assert nsprov(box, "plan").stdout.strip() == "here   no changes"


def test_what_others_need_does_not_go_without_them(box: Any, settled: Settled) -> None:
    in_it = with_("veth", peer={"netns": "vict", "name": "eth0", "addresses": ["10.82.0.2/24"]})
    box.write(VICTIMS, Fault("", "", "", {"veth": in_it}).written())
    nsprov(box, "apply", "--yes")
    before = listing(box)
    box.write(VICTIMS, Fault("", "", "", {"veth": in_it, "netns": None}).written())
    done = nsprov(box, "apply", "--yes", check=False)
    assert done.returncode == 65
    assert "veth/ve-vict needs netns/vict, which has left the configuration and would be deleted" in done.stderr
    assert difference(before, listing(box)) == []


# -- without the rights -------------------------------------------------------------------------------


#: With others that are changed before, and would be after.
POWERLESS: Mapping[str, Task] = {
    "netns": {"netns": {"name": "weak"}},
    "bridge": {"bridge": {"name": "br-weak", "macaddress": "02:00:00:89:00:01", "addresses": ["10.89.0.1/24"]}},
    "veth": {"veth": {"name": "ve-weak", "mtu": 1400, "peer": {"netns": "weak", "name": "eth0", "mtu": 1400}}},
    "route": {"route": {"to": "10.189.0.0/16", "via": "10.89.0.2", "dev": "br-weak"}},
    "rule": {"rule": {"priority": 2089, "from": "10.89.0.0/24", "table": 89}},
    "slice": {"slice": {"name": "weak.slice", "TasksMax": 50}},
    "unit": {"unit": {"name": "weak.service", "Slice": "weak.slice", "ExecStart": "/bin/sleep infinity"}},
    "directory": {"directory": {"path": "/srv/weak"}},
    "file": {"file": {"path": "/srv/weak/file", "content": "weak\n"}},
}
AROUND: Mapping[str, Task | None] = {
    "unit": None,
    "file": {"file": {"path": "/srv/weak/file", "content": "strong\n", "mode": "0600"}},
    "more": {"unit": {"name": "more.service", "Slice": "weak.slice", "ExecStart": "/bin/sleep infinity"}},
}


@pytest.mark.parametrize(
    ("step", "tasks"),
    [
        ("deleting veth/ve-weak", {"veth": None}),
        ("deleting route/10.189.0.0/16", {"route": None}),
        ("deleting rule/2089", {"rule": None}),
        ("deleting bridge/br-weak", {"route": None, "bridge": None}),
        ("changing netns/weak", {"netns": {"netns": {"name": "weak", "loopback": False}}}),
        ("changing rule/2089", {"rule": {"rule": {"priority": 2089, "from": "10.89.0.0/24", "table": 90}}}),
        ("creating rule/2090", {"new": {"rule": {"priority": 2090, "from": "10.89.0.0/24", "table": 90}}}),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_the_kernel_does_not_permit_is_put_back(
    box: Any, powerless: Mapping[str, list[str]], step: str, tasks: Mapping[str, Task | None]
) -> None:
    changed = {**POWERLESS, **AROUND, **tasks}
    if step == "deleting bridge/br-weak":  # else the route is refused before it
        box.run("ip route del 10.189.0.0/16 dev br-weak")
    box.write(VICTIMS, "".join(f"- {json.dumps(task)}\n" for task in changed.values() if task is not None))
    without = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin"
    done = box.run(f"cd /root/project && {without} {NSPROV} apply powerless.yml --yes", check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert f"failed {step}" in told, told
    assert "Operation not permitted" in told, told
    assert "the host was put back" in told, told
    if step == "deleting bridge/br-weak":
        box.run("ip route add 10.189.0.0/16 via 10.89.0.2 dev br-weak proto static")
    assert difference(dict(powerless), listing(box)) == []


@pytest.fixture(scope="module")
def powerless(prepared: Any) -> Iterator[dict[str, list[str]]]:
    """The listing of a host with that project."""
    text = "".join(f"- {json.dumps(task)}\n" for task in POWERLESS.values())
    prepared.write(VICTIMS, text)
    prepared.run(f"cd /root/project && {NSPROV} apply powerless.yml --yes")
    yield listing(prepared)
    prepared.run(f"cd /root/project && {NSPROV} destroy powerless.yml --yes", check=False)
