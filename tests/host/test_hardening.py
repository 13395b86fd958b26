"""Hardening profiles on a real systemd: the score of a strict workload, and launchers under what they are left."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.host.conftest import Box
from tests.host.driving import driven

#: A server that answers each request with what it is and may do itself.
_WEB = "/usr/bin/python3 -m http.server 8080 --directory /etc"


def started(box: Box, name: str, profile: str, rights: list[str], command: str, **own: str) -> Any:
    """Start a unit as a profile has it, with these rights for its launcher; what systemd says of it."""
    return driven(
        box,
        f"""
from provisioner.isolation.hardening import Right, hardened
own = {own!r}
made_of = hardened({profile!r}, own, int(host.systemd.version), [Right[one] for one in {rights!r}])
spec = made("unit", name={name!r}, ExecStart={command!r}, **own, **made_of.directives)
errors = [error for _, error in settle(spec)]
answer = {{"errors": [one for one in errors if one], "left": made_of.left, "again": settle(spec)}}
""",
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(box: Box) -> Any:
    yield
    box.run("systemctl stop 'hard*'; systemctl reset-failed; true", check=False)


def exposure(box: Box, unit: str) -> float:
    found = re.search(
        r"exposure level for \S+: ([\d.]+)", box.run(f"systemd-analyze security --no-pager {unit}").stdout
    )
    assert found
    return float(found[1])


def fetched(box: Box, port: int = 8080) -> str:
    return box.python(
        f"""
import time, urllib.request
for _ in range(50):
    try:
        print(urllib.request.urlopen("http://127.0.0.1:{port}/hostname").status)
        break
    except OSError:
        time.sleep(0.1)
"""
    ).strip()


@pytest.mark.parametrize(("profile", "most"), [("strict", 1.5), ("standard", 7.0)])
def test_a_hardened_web_server_serves_and_exposes_little(box: Box, profile: str, most: float) -> None:
    done = started(box, f"hard-{profile}.service", profile, [], _WEB)
    assert done == {"errors": [], "left": [], "again": []}
    assert fetched(box) == "200"
    assert exposure(box, f"hard-{profile}.service") < most


def test_a_strict_server_has_a_low_port_by_the_capability_that_it_declares(box: Box) -> None:
    own = {"AmbientCapabilities": "CAP_NET_BIND_SERVICE"}
    done = started(box, "hard-low.service", "strict", [], _WEB.replace("8080", "80"), **own)
    assert done["errors"] == []
    assert done["again"] == []
    assert fetched(box, 80) == "200"
    assert exposure(box, "hard-low.service") < 1.5


def test_a_strict_server_has_a_low_port_where_its_namespace_lets_everybody_have_it(box: Box) -> None:
    box.run("ip netns add low && ip -n low link set lo up")
    box.run("ip netns exec low sysctl -qw net.ipv4.ip_unprivileged_port_start=80")
    own = {"netns": "low"}
    done = started(box, "hard-free.service", "strict", [], _WEB.replace("8080", "80"), **own)
    assert done["errors"] == []
    assert done["left"] == []
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1/hostname').status)"
    code = f'for i in $(seq 50); do ip netns exec low /usr/bin/python3 -c "{fetch}" && break; sleep 0.1; done'
    assert box.run(code).stdout.strip() == "200"
    box.run("systemctl stop hard-free; ip netns del low")


#: Launchers by the rights that they need; each ends well when it has them.
_PIN = "/run/pinned"
#: (Clocks that start elsewhere take CAP_SYS_TIME, which no sandbox has.)
_LAUNCHERS = {
    "a process tree of its own": (
        ["MOUNT_NAMESPACE", "PID_NAMESPACE", "MOUNT"],
        "/usr/bin/unshare --pid --fork --mount-proc --kill-child /bin/sh -c 'test $$ = 1 && test -d /proc/1'",
    ),
    "another's hostname": (["UTS_NAMESPACE"], f"/usr/bin/nsenter --uts={_PIN}/uts /bin/sh -c 'test $(hostname) = box'"),
    "another's shared memory": (["IPC_NAMESPACE"], f"/usr/bin/nsenter --ipc={_PIN}/ipc /bin/true"),
    "another's network": (["NET_NAMESPACE"], f"/usr/bin/nsenter --net={_PIN}/net /bin/true"),
    "another's processes": (["PID_NAMESPACE"], f"/usr/bin/nsenter --pid={_PIN}/pid /bin/true"),
    "another's clocks": (["TIME_NAMESPACE"], f"/usr/bin/nsenter --time={_PIN}/time /bin/true"),
    "a hostname of its own": (
        ["UTS_NAMESPACE", "HOSTNAME"],
        "/usr/bin/unshare --uts /bin/sh -c 'hostname mine && test $(hostname) = mine'",
    ),
    "control groups of its own": (
        ["CGROUP_NAMESPACE"],
        "/usr/bin/unshare --cgroup /bin/sh -c 'grep -q :/$ /proc/self/cgroup'",
    ),
    "users of its own": (
        ["USER_NAMESPACE", "MAP_USERS"],
        "/usr/bin/python3 /run/maps.py",
    ),
    "clocks of its own": (
        ["TIME_NAMESPACE"],
        "/usr/bin/unshare --time --fork /bin/true",
    ),
    "a mount of its own": (
        ["MOUNT_NAMESPACE", "MOUNT"],
        "/usr/bin/unshare --mount /bin/sh -c 'mount -t tmpfs none /mnt && umount /mnt'",
    ),
    "a file for somebody else": (["CHOWN"], "/bin/chown 1234 /var/tmp/given"),
    "another user": (
        ["SETUID", "DROP"],
        (
            "/usr/bin/setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all --inh-caps=-all "
            "/bin/sh -c 'test $(id -u) = 1234 && grep -q ^CapBnd:.0000000000000000 /proc/self/status'"
        ),
    ),
}

_MAPS = """
import os
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    import ctypes
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        os._exit(ctypes.get_errno())
    os.write(ready[1], b".")
    os.read(go[0], 1)
    os._exit(0 if open("/proc/self/uid_map").read().split() == ["0", "100000", "65536"] else 1)
os.close(ready[1])
assert os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write("0 100000 65536")
os.write(go[1], b".")
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def pinned(box: Box) -> None:
    """Namespaces that launchers can join."""
    box.write("/run/maps.py", _MAPS)
    box.run(
        f"""
        set -e
        mkdir -p {_PIN} && mount -t tmpfs none {_PIN} && mount --make-private {_PIN}
        touch {_PIN}/uts {_PIN}/ipc {_PIN}/net {_PIN}/time {_PIN}/pid
        unshare --uts={_PIN}/uts hostname box
        unshare --ipc={_PIN}/ipc true
        unshare --net={_PIN}/net true
        setsid unshare --pid --time --fork --kill-child sleep 3600 > /dev/null 2>&1 &
        sleep 0.5
        parent=$!
        pid=$(cat /proc/$parent/task/$parent/children | tr -d ' ')
        mount --bind /proc/$pid/ns/pid {_PIN}/pid
        mount --bind /proc/$pid/ns/time {_PIN}/time
        """
    )


def ends_well(box: Box, command: str, made: dict[str, Any]) -> bool:
    """Whether a command does under these directives; they are as ``systemd-run`` takes them."""
    box.run("touch /var/tmp/given && chown root /var/tmp/given")
    words = []
    for name, value in made.items():
        for one in value if isinstance(value, list) else [value]:
            words += ["-p", f"{name}={one}"]
    if "/var/tmp" in command:
        words += ["-p", "BindPaths=/var/tmp"]
    done = box.run(
        [
            "systemd-run",
            "--quiet",
            "--wait",
            "--pipe",
            "--collect",
            *words,
            "/bin/sh",
            "-c",
            command.replace("$", "$$"),
        ],
        check=False,
    )
    return done.returncode == 0


def left(box: Box, rights: list[str]) -> dict[str, Any]:
    """What strict comes to with these rights, and what of it is another than without them, by name."""
    code = f"""
import json
from provisioner.isolation.hardening import Right, hardened, profile
made = hardened("strict", {{}}, 252, [Right[one] for one in {rights!r}])
print(json.dumps({{"whole": dict(profile("strict", 252)), "made": dict(made.directives), "left": made.left}}))
"""
    return dict(json.loads(box.python(code)))


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("what", list(_LAUNCHERS))
def test_a_launcher_does_with_what_it_is_left_and_with_nothing_less(box: Box, what: str) -> None:
    """Each directive that is loosened for it must be: as the profile has it, the launcher fails."""
    rights, command = _LAUNCHERS[what]
    found = left(box, rights)
    assert ends_well(box, command, found["made"]), found["left"]
    needless = [
        name
        for name, value in found["whole"].items()
        if found["made"].get(name) != value
        and name not in ("DynamicUser", "PrivateUsers")
        and ends_well(box, command, {**found["made"], name: value})
    ]
    assert needless == []
    assert not ends_well(box, command, {**found["made"], "DynamicUser": "yes", "PrivateUsers": "yes"})
