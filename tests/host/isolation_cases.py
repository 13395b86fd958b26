"""What isolation is on a real host: each kind of namespace from outside and from inside, and how it comes and goes.

Written for any host that a ``Lab`` stands on: ``test_isolation`` runs them in a sandbox. What is seen is seen by
lsns, nsenter, ip, ipcs and /proc, which are not nsprov's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.host.lab import Lab, listing
from tests.host.listing import difference
from tests.host.waiting import wait_for

KINDS = ("mount", "pid", "net", "ipc", "uts", "user", "cgroup", "time")
_FILES: Mapping[str, str] = {"mount": "mnt"}

#: Ends at once, whatever it is: what is PID 1 of a namespace does not hear SIGTERM unless it asks.
QUICK = "KillSignal: SIGKILL"
SLEEP = f"ExecStart: /bin/sleep 1000, {QUICK}"


def processes(lab: Lab, unit: str) -> dict[int, str]:
    """The processes of a unit by their numbers on the host, each with its name."""
    group = lab.box.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
    mounted = "for d in /sys/fs/cgroup /sys/fs/cgroup/unified; do test ! -e $d/cgroup.procs || "
    found = lab.box.run(f"{mounted} cat $d{group}/cgroup.procs; done").stdout.split()
    names = {}
    for number in found:
        name = lab.box.run(f"cat /proc/{number}/comm", check=False).stdout.strip()
        if name:
            names[int(number)] = name
    return names


def workload(lab: Lab, unit: str, name: str = "sleep") -> int:
    """The number that the workload's own process has on the host."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [number for number, called in processes(lab, unit).items() if called == name]
        return bool(found)

    wait_for(there)
    return found[0]


def namespaces(lab: Lab, pid: int | str) -> dict[str, str]:
    """The namespaces of a process, by kind."""
    files = " ".join(f"/proc/{pid}/ns/{_FILES.get(kind, kind)}" for kind in KINDS)
    return dict(zip(KINDS, lab.box.run(f"readlink {files}").stdout.split(), strict=True))


def own(lab: Lab, pid: int) -> set[str]:
    """The kinds of namespaces in which a process is apart from the host's first one."""
    host, here = namespaces(lab, 1), namespaces(lab, pid)
    return {kind for kind in KINDS if host[kind] != here[kind]}


def entering(lab: Lab, pid: int) -> list[str]:
    """What enters the namespaces of a process: those that are its own, as a container may not enter all of its."""
    kinds = sorted(own(lab, pid))
    users = ["--setuid=0", "--setgid=0"] if "user" in kinds else []
    return ["nsenter", f"--target={pid}", *(f"--{kind}" for kind in kinds), *users, "--"]


def inside(lab: Lab, pid: int, command: str) -> str:
    """What a shell command prints in all the namespaces of a process."""
    return str(lab.box.run([*entering(lab, pid), "sh", "-c", command]).stdout).strip()


def said(lab: Lab, unit: str) -> str:
    return str(lab.box.run(["journalctl", "-q", "-o", "cat", "-u", unit, "--no-pager"]).stdout)


def hears(lab: Lab, unit: str, words: str) -> None:
    wait_for(lambda: words in said(lab, unit))


# -- each of the eight, from outside and from inside ----------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_is_apart_and_no_other(lab: Lab, kind: str) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [{kind}], {SLEEP}}}")
    pid = workload(lab, "web.service")
    assert own(lab, pid) - {"mount"} == {kind} - {"mount"}  # a mount namespace is what several need to be seen
    assert kind in own(lab, pid)
    shown = lab.box.run(["lsns", "-n", "-t", _FILES.get(kind, kind), "-o", "NS", "-p", str(pid)]).stdout
    number = namespaces(lab, pid)[kind]
    assert shown.strip() == re.sub(r"\D", "", number)
    lab.verify()


def test_mounts_made_inside_are_not_outside(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [mount], {SLEEP}}}")
    pid = workload(lab, "web.service")
    inside(lab, pid, "mount -t tmpfs within /mnt")
    assert "within" in inside(lab, pid, "findmnt -n -o SOURCE /mnt")
    assert "within" not in lab.box.run("cat /proc/mounts").stdout


def test_the_host_sees_the_process_and_the_process_not_the_host(lab: Lab) -> None:
    lab.apply(f"""
        - unit: {{name: web, isolate: [pid], {SLEEP}}}
        - unit: {{name: other, ExecStart: /bin/sleep 1001, {QUICK}}}
    """)
    pid, other = workload(lab, "web.service"), workload(lab, "other.service")
    numbers = lab.box.run(f"grep NSpid /proc/{pid}/status").stdout.split()
    assert (numbers[-2], numbers[-1]) == (str(pid), "1")  # seen from here, and seen from there
    seen = set(inside(lab, pid, "cd /proc && ls -d [0-9]*").split())
    assert "1" in seen
    assert inside(lab, pid, "tr '\\0' ' ' </proc/1/cmdline") == "/bin/sleep 1000"
    assert len(seen) <= 4  # and the shell that looked
    assert inside(lab, pid, f"kill -0 {other} 2>/dev/null && echo there || echo none") == "none"
    assert lab.box.run(f"kill -0 {pid} && echo there").stdout.strip() == "there"


def test_a_network_of_its_own_has_its_loopback_alone(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [net], {SLEEP}}}")
    assert inside(lab, workload(lab, "web.service"), "ip -o link | wc -l") == "1"


def test_shared_memory_of_the_host_is_not_inside(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [ipc], {SLEEP}}}")
    pid = workload(lab, "web.service")
    number = lab.box.run("ipcmk -M 64").stdout.split()[-1]
    try:
        assert number in lab.box.run("ipcs -m").stdout.replace("\n", " ").split()
        assert inside(lab, pid, "ipcs -m | grep -c 0x || true") == "0"
    finally:
        lab.box.run(["ipcrm", "-m", number])


def test_a_hostname_of_its_own_changes_and_the_process_stays(lab: Lab) -> None:
    task = "- unit: {{name: web, isolate: [uts], hostname: {}, {}}}"
    host = lab.box.run("uname -n").stdout
    lab.apply(task.format("box, domainname: lab", SLEEP))
    pid = workload(lab, "web.service")
    assert inside(lab, pid, "uname -n; cat /proc/sys/kernel/domainname").split() == ["box", "lab"]
    steps = lab.steps(task.format("crate, domainname: lab", SLEEP))
    assert [one["action"] for one in steps.values()] == ["update"] * len(steps)
    assert not any(one["restarts"] for one in steps.values())
    lab.apply(task.format("crate, domainname: lab", SLEEP))
    assert workload(lab, "web.service") == pid
    assert inside(lab, pid, "uname -n; cat /proc/sys/kernel/domainname").split() == ["crate", "lab"]
    assert lab.box.run("uname -n").stdout == host


def test_a_hostname_that_is_not_said_is_the_units(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web@1.service, isolate: [uts], {SLEEP}}}")
    assert inside(lab, workload(lab, "web@1.service"), "uname -n") == "web-1"


def test_root_inside_is_nobody_outside(lab: Lab) -> None:
    lab.apply(f"""
        - unit: {{name: web, isolate: [user], {SLEEP}}}
        - unit: {{name: peer, isolate: [user], {SLEEP}}}
    """)
    users = []
    for unit in ("web.service", "peer.service"):
        pid = workload(lab, unit)
        uid = int(lab.box.run(f"stat -c %u /proc/{pid}").stdout)
        assert lab.box.run(f"getent passwd {uid}", check=False).returncode == 2  # nobody has this number
        assert inside(lab, pid, "id -u") == "0"
        assert lab.box.run(f"cat /proc/{pid}/uid_map").stdout.split()[0::2] == ["0", "65536"]
        users.append(uid)
    assert abs(users[0] - users[1]) >= 65536


def test_its_control_group_is_the_top_inside(lab: Lab) -> None:
    lab.apply(f"""
        - unit:
            name: web
            isolate: [cgroup]
            ExecStart: "/bin/sh -c 'cat /proc/self/cgroup; ls /sys/fs/cgroup/system.slice; exec sleep 1000'"
            {QUICK}
    """)
    hears(lab, "web.service", "No such file")
    assert "0::/\n" in said(lab, "web.service")
    pid = workload(lab, "web.service")
    assert "web.service" in lab.box.run(f"cat /proc/{pid}/cgroup").stdout
    tried = "echo $$ > /sys/fs/cgroup/cgroup.procs"
    assert "ead-only" in lab.box.run([*entering(lab, pid), "sh", "-c", tried], check=False).stderr


def test_its_clocks_are_ahead(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [user, time], boottime_offset: 1000d, monotonic_offset: 2d, {SLEEP}}}")
    pid = workload(lab, "web.service")
    up = float(lab.box.run("cat /proc/uptime").stdout.split()[0])
    assert float(inside(lab, pid, "cat /proc/uptime").split()[0]) > up + 999 * 86400
    offsets = lab.box.run(f"cat /proc/{pid}/timens_offsets").stdout.split()
    assert offsets == ["monotonic", str(2 * 86400), "0", "boottime", str(1000 * 86400), "0"]


# -- together -------------------------------------------------------------------------------------


def test_all_eight_and_the_strict_profile(lab: Lab) -> None:
    lab.apply(f"""
        - unit:
            name: web
            isolate: all
            harden: strict
            hostname: box
            boottime_offset: 1000d
            ExecStart: /bin/sleep 1000
            {QUICK}
    """)
    pid = workload(lab, "web.service")
    assert own(lab, pid) == set(KINDS)
    status = lab.box.run(f"cat /proc/{pid}/status").stdout
    assert re.search(r"CapBnd:\s+0+\n", status)
    assert re.search(r"CapEff:\s+0+\n", status)
    assert "NoNewPrivs:\t1" in status
    assert int(re.findall(r"Uid:\s+(\d+)", status)[0]) >= 65536
    lab.verify()


def test_root_inside_rules_its_own_network(lab: Lab) -> None:
    """A plain PrivateUsers has no rights over a network namespace that the host made."""
    code = 'import socket, time; it = socket.create_server(("127.0.0.1", 80)); time.sleep(1000)'
    lab.apply(f"""
        - unit:
            name: web
            isolate: [net, user]
            ExecStartPre: ip link set lo mtu 1400
            ExecStart: /usr/bin/python3 -c '{code}'
            {QUICK}
    """)
    pid = workload(lab, "web.service", "python3")
    wait_for(lambda: ":80 " in inside(lab, pid, "ss -ltnH"))
    assert "mtu 1400" in inside(lab, pid, "ip link show lo")
    assert "mtu 1400" not in lab.box.run("ip link show lo").stdout
    lab.verify()


def test_units_share_what_they_join(lab: Lab) -> None:
    lab.apply(f"""
        - unit: {{name: web, isolate: [net, ipc, pid], {SLEEP}}}
        - unit: {{name: pod, join: web, ExecStart: /bin/sleep 1001, {QUICK}}}
        - unit: {{name: other, isolate: [ipc], ExecStart: /bin/sleep 1001, {QUICK}}}
        - unit: {{name: two, join: {{ipc: other.service}}, ExecStart: /bin/sleep 1001, {QUICK}}}
    """)
    web, pod, other, two = (
        namespaces(lab, workload(lab, f"{name}.service")) for name in ("web", "pod", "other", "two")
    )
    host = namespaces(lab, 1)
    for kind in ("net", "ipc", "pid"):
        assert web[kind] == pod[kind] != host[kind]
    assert other["ipc"] == two["ipc"] not in (web["ipc"], host["ipc"])
    assert two["pid"] == host["pid"]
    # What one leaves in memory the other finds, and each can signal the other.
    pid, pods = workload(lab, "web.service"), workload(lab, "pod.service")
    inside(lab, pid, "ipcmk -M 64")
    assert inside(lab, pods, "ipcs -m | grep -c 0x") == "1"
    seen = inside(lab, pid, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "/bin/sleep 1000" in seen
    assert "/bin/sleep 1001" in seen
    lab.verify()


def test_a_unit_joins_a_namespace_that_is_declared_by_name(lab: Lab) -> None:
    lab.apply(f"""
        - namespace: {{type: uts, name: box, hostname: crate}}
        - namespace: {{type: ipc, name: box}}
        - unit: {{name: web, join: {{uts: box, ipc: box}}, {SLEEP}}}
    """)
    pid = workload(lab, "web.service")
    assert own(lab, pid) - {"mount"} == {"uts", "ipc"}
    assert inside(lab, pid, "uname -n") == "crate"
    assert lab.box.run("nsenter --uts=/run/nsprov/ns/uts/box uname -n").stdout == "crate\n"


# -- its life -------------------------------------------------------------------------------------

_REAPED = """
        - unit:
            name: web
            isolate: [pid]
            init: {}
            ExecStart: /bin/sh -c 'trap "echo heard; exit 0" TERM; (sleep 0.1 &); echo up; while :; do sleep 0.1; done'
            TimeoutStopSec: 60s
"""


def test_an_init_is_first_reaps_and_passes_a_stop_on(lab: Lab) -> None:
    lab.apply(_REAPED.format("true"))
    hears(lab, "web.service", "up")
    found = processes(lab, "web.service")
    inner = {lab.box.run(f"grep NSpid /proc/{pid}/status", check=False).stdout.split()[-1:] == ["1"] for pid in found}
    assert True in inner
    states = lab.box.run(f"cat {' '.join(f'/proc/{pid}/stat' for pid in found)} 2>/dev/null || true").stdout
    assert ") Z " not in states
    lab.box.run("systemctl stop web")
    assert "heard" in said(lab, "web.service")
    assert "timed out" not in said(lab, "web.service")
    assert "web.service" not in lab.box.run("systemctl --failed --plain --no-legend").stdout


def test_a_workload_that_is_first_and_listens_hears_a_stop(lab: Lab) -> None:
    lab.apply(_REAPED.format("false"))
    hears(lab, "web.service", "up")
    lab.box.run("systemctl stop web")
    assert "heard" in said(lab, "web.service")
    assert "web.service" not in lab.box.run("systemctl --failed --plain --no-legend").stdout


def test_an_init_ends_as_its_workload_ends(lab: Lab) -> None:
    lab.apply("""
        - unit: {name: web, isolate: [pid], init: true, SuccessExitStatus: 3, RemainAfterExit: yes,
                 ExecStart: "/bin/sh -c 'sleep 0.5; exit 3'"}
    """)
    wait_for(lambda: "exited" in lab.box.run("systemctl show -P SubState web").stdout)
    assert lab.box.run("systemctl show -P ExecMainStatus web").stdout.strip() == "3"


def test_what_is_killed_comes_up_isolated_again_also_after_a_reload(lab: Lab) -> None:
    task = f"""
        - unit:
            name: web
            isolate: all
            Restart: on-failure
            RestartSec: 0
            StartLimitIntervalSec: 0
            ExecStartPre: /bin/true
            ExecStart: /bin/sleep 1000
            {QUICK}
    """
    lab.apply(task)
    for before in ("true", "systemctl daemon-reload", "systemctl daemon-reexec"):
        lab.box.run(before)
        pid = workload(lab, "web.service")
        assert lab.box.nsprov("plan", "/root/net/inventory.yml", "--detailed-exitcode", check=False).returncode == 0
        lab.box.run(f"kill -9 {pid}")
        wait_for(lambda gone=pid: gone not in processes(lab, "web.service"))
        assert own(lab, workload(lab, "web.service")) == set(KINDS)


def test_limits_change_live_and_what_is_isolated_keeps_its_number(lab: Lab) -> None:
    task = f"- unit: {{{{name: web, isolate: all, MemoryMax: {{}}, {SLEEP}}}}}"
    lab.apply(task.format("64M"))
    pid = workload(lab, "web.service")
    (step,) = lab.steps(task.format("96M")).values()
    assert not step["restarts"]
    lab.apply(task.format("96M"))
    assert workload(lab, "web.service") == pid
    assert lab.box.run("systemctl show -P MemoryMax web").stdout.strip() == str(96 * 2**20)


def test_more_isolation_restarts_that_workload_alone_and_none_takes_what_it_brought_away(lab: Lab) -> None:
    task = f"""
        - unit: {{{{name: web, {{}} {SLEEP}}}}}
        - unit: {{{{name: peer, isolate: all, {SLEEP}}}}}
    """
    lab.apply(task.format("isolate: [pid],"))
    pid, peer = workload(lab, "web.service"), workload(lab, "peer.service")
    assert own(lab, pid) - {"mount"} == {"pid"}
    steps = lab.steps(task.format("isolate: all,"))
    assert [address for address, one in steps.items() if one["restarts"]] == ["unit/web.service"]
    lab.apply(task.format("isolate: all,"))
    assert own(lab, workload(lab, "web.service")) == set(KINDS)
    assert workload(lab, "peer.service") == peer
    lab.apply(task.format(""))
    assert own(lab, workload(lab, "web.service")) == set()
    assert workload(lab, "peer.service") == peer
    left = lab.box.run("find /run/nsprov/ns -type f; ls /run/netns").stdout
    assert "peer.service" in left
    assert "web.service" not in left


def test_a_second_apply_does_nothing_and_destroy_leaves_nothing(lab: Lab) -> None:
    before = listing(lab.box)
    lab.apply(f"- unit: {{name: web, isolate: all, harden: strict, init: true, {SLEEP}}}")
    pid = workload(lab, "web.service")
    assert "no changes" in lab.box.nsprov("apply", "/root/net/inventory.yml", "--yes").stdout
    assert workload(lab, "web.service") == pid
    lab.box.nsprov("destroy", "/root/net/inventory.yml", "--yes")
    assert [line for line in difference(before, listing(lab.box)) if "/var/lib/nsprov" not in line] == []


def test_an_apply_that_fails_leaves_what_was_and_no_namespace_more(lab: Lab) -> None:
    good = f"- unit: {{name: web, isolate: [uts, pid], hostname: box, {SLEEP}}}\n"
    lab.apply(good)
    pid, before = workload(lab, "web.service"), listing(lab.box)
    text = lab.fails(
        good.replace("hostname: box", "hostname: crate")
        + f"- unit: {{name: more, isolate: all, {SLEEP}}}\n"
        + "- unit: {name: zfails, isolate: all, After: [web.service, more.service], ExecStart: /bin/false}\n"
    )
    assert "zfails.service" in text
    assert difference(before, listing(lab.box)) == []
    assert workload(lab, "web.service") == pid
    assert inside(lab, pid, "uname -n") == "box"
    lab.declare(good)


# -- what it is given, and who it is --------------------------------------------------------------


def test_state_and_credentials_are_for_the_user_inside_alone(lab: Lab) -> None:
    lab.box.write("/root/token", "from a file")
    look = "stat -c %%u:%%a $$STATE_DIRECTORY $$CREDENTIALS_DIRECTORY/*; cat $$CREDENTIALS_DIRECTORY/*; echo; id -u"
    look = look.replace("%%", "%")
    lab.apply(f"""
        - unit:
            name: web
            isolate: [user]
            User: daemon
            StateDirectory: web-state
            SetCredential: word:given
            LoadCredential: token:/root/token
            ExecStart: /bin/sh -c '{look}; touch $$STATE_DIRECTORY/made && echo done; exec sleep 1000'
            {QUICK}
        - unit:
            name: peer
            isolate: [user]
            User: daemon
            ExecStart: /bin/sh -c 'cat /run/credentials/web.service/*; echo tried; exec sleep 1000'
            {QUICK}
    """)
    hears(lab, "web.service", "done")
    words = said(lab, "web.service").split()
    uid = lab.box.run("id -u daemon").stdout.strip()
    assert f"{uid}:755" in words
    assert words.count(f"{uid}:400") == 2
    assert "given" in said(lab, "web.service")
    assert "from a file" in said(lab, "web.service")
    outside = int(lab.box.run("stat -c %u /var/lib/web-state/made").stdout)
    assert outside == int(lab.box.run(f"stat -c %u /proc/{workload(lab, 'web.service')}").stdout)
    assert outside >= 65536
    hears(lab, "peer.service", "tried")
    assert "given" not in said(lab, "peer.service")
    assert "from a file" not in said(lab, "peer.service")


def test_a_user_of_the_host_stays_who_it_is(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: [pid, cgroup], User: daemon, {SLEEP}}}")
    pid = workload(lab, "web.service")
    assert lab.box.run(f"stat -c %U /proc/{pid}").stdout.strip() == "daemon"
    assert re.search(r"CapEff:\s+0+\n", lab.box.run(f"cat /proc/{pid}/status").stdout)


@pytest.mark.parametrize("init", ["true", "false"])
def test_a_socket_is_handed_to_a_workload_that_has_another_number_inside(lab: Lab, init: str) -> None:
    code = (
        "import os, socket; mine = os.environ['LISTEN_PID'] == str(os.getpid()); "
        "there, _ = socket.socket(fileno=3).accept(); there.sendall(b'mine' if mine else b'not mine')"
    )
    lab.apply(f"""
        - unit:
            name: web
            isolate: [pid]
            init: {init}
            socket: {{ListenStream: "127.0.0.1:8080"}}
            ExecStart: /usr/bin/python3 -c "{code}"
            {QUICK}
    """)
    read = "import socket; print(socket.create_connection(('127.0.0.1', 8080)).makefile().read())"
    assert lab.box.run(["python3", "-c", read]).stdout == "mine\n"


# -- namespaces with names ------------------------------------------------------------------------

PINNED = """
    - namespace: {type: user, name: box, uid_map: ["0 600000 1000", "1000 700000 1"]}
    - namespace: {type: uts, name: box, owner: box, hostname: crate, domainname: lab}
    - namespace: {type: time, name: box, owner: box, boottime_offset: 100d, monotonic_offset: -1s}
    - namespace: {type: ipc, name: box, owner: box}
    - netns: {name: box, owner: box}
"""


def named(lab: Lab, kind: str, name: str, command: str) -> str:
    """What a shell command prints in a namespace with a name."""
    root = ["-S", "0", "-G", "0"] if kind == "user" else []
    return str(lab.box.run(["nsenter", f"--{kind}=/run/nsprov/ns/{kind}/{name}", *root, "sh", "-c", command]).stdout)


def test_namespaces_last_without_a_process_as_they_are_declared(lab: Lab) -> None:
    lab.apply(PINNED)
    assert named(lab, "user", "box", "cat /proc/self/uid_map").split() == ["0", "600000", "1000", "1000", "700000", "1"]
    assert named(lab, "user", "box", "id -u").strip() == "0"
    assert named(lab, "uts", "box", "uname -n").strip() == "crate"
    assert named(lab, "time", "box", "cat /proc/self/timens_offsets").split()[1::3] == ["-1", str(100 * 86400)]
    files = {kind: lab.box.run(f"stat -L -c %i /run/nsprov/ns/{kind}/box").stdout for kind in ("uts", "time", "ipc")}
    for kind, number in files.items():
        assert number.strip() not in namespaces(lab, 1)[kind]
    lab.verify()


def test_the_root_of_the_owner_rules_what_it_owns_and_nothing_else(lab: Lab) -> None:
    lab.apply(PINNED)
    enter = "nsenter --net=/run/netns/box ip link set lo mtu 1300 && echo ruled"
    assert named(lab, "user", "box", enter).strip() == "ruled"
    assert "mtu 1300" in lab.box.run("ip -n box link show lo").stdout
    tried = named(lab, "user", "box", "hostname stolen 2>&1; ip link set lo mtu 1300 2>&1; true")
    assert tried.count("not permitted") + tried.count("must be root") == 2
    more = named(lab, "user", "box", "unshare --net true 2>&1; true")
    assert more.strip()  # what runs in it makes no namespaces: that is for who says nesting
    lab.apply(PINNED.replace('["0 600000 1000", "1000 700000 1"]', '["0 600000 1000"], nesting: true'))
    assert named(lab, "user", "box", "unshare --net true && echo made").strip() == "made"


def test_a_namespace_takes_what_lives_in_it_along(lab: Lab) -> None:
    task = PINNED + f"    - unit: {{name: web, netns: box, join: {{uts: box, user: box}}, {SLEEP}}}\n"
    lab.apply(task)
    first = workload(lab, "web.service")
    steps = lab.steps(task.replace("600000", "650000"))
    assert {one["action"] for address, one in steps.items() if address.startswith("namespace/")} == {"replace"}
    assert steps["unit/web.service"]["restarts"]
    lab.apply(task.replace("600000", "650000"))
    pid = workload(lab, "web.service")
    assert pid != first
    assert lab.box.run(f"stat -c %u /proc/{pid}").stdout.strip() == "650000"


def test_named_namespaces_come_back_when_an_apply_fails_and_leave_nothing_in_the_end(lab: Lab) -> None:
    before = listing(lab.box)
    lab.apply(PINNED)
    there = listing(lab.box)
    lab.fails(
        PINNED.replace("crate", "other").replace("100d", "200d") + "    - unit: {name: z, ExecStart: /bin/false}\n"
    )
    assert difference(there, listing(lab.box)) == []
    assert named(lab, "uts", "box", "uname -n").strip() == "crate"
    assert named(lab, "time", "box", "cat /proc/self/timens_offsets").split()[-2] == str(100 * 86400)
    lab.declare(PINNED)
    lab.box.nsprov("destroy", "/root/net/inventory.yml", "--yes")
    assert [line for line in difference(before, listing(lab.box)) if "/var/lib/nsprov" not in line] == []
