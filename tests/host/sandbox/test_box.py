"""What a sandbox is good for: everything that a provisioned host must do."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.errors import HostError, UsageError
from provisioner.host.sandbox import Sandbox, guardian, list_sandboxes
from tests.host.conftest import Box
from tests.host.waiting import wait_for


def test_a_sandbox_is_a_whole_machine_with_a_running_systemd(box: Box) -> None:
    assert box.run("systemctl is-system-running").stdout.strip() == "running"
    assert box.run("hostname").stdout.strip() == box.sandbox.name
    assert box.run("cat /proc/1/comm").stdout.strip() == "systemd"
    assert box.run("systemctl list-units --failed --no-legend").stdout == ""


def test_it_is_up_quickly(sandboxes: Callable[..., Box], capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    sandboxes()
    with capsys.disabled():
        print(f"\n    a sandbox is up after {time.monotonic() - began:.2f} s", end=" ")


def test_it_has_a_machine_id_of_its_own(box: Box, sandboxes: Callable[..., Box]) -> None:
    ids = {box.run("cat /etc/machine-id").stdout, sandboxes().run("cat /etc/machine-id").stdout}
    ids.add(Path("/etc/machine-id").read_text())
    assert len(ids) == 3


def test_it_starts_none_of_the_services_of_the_machine(box: Box) -> None:
    running = box.run("systemctl list-units --state=running --type=service,timer --plain --no-legend").stdout
    names = {line.split()[0] for line in running.splitlines()}
    assert names <= {"systemd-journald.service", "dbus.service"}
    assert box.run("systemctl list-timers --all --no-legend").stdout == ""


def test_nsprov_itself_runs_in_a_sandbox(box: Box) -> None:
    assert box.nsprov("--version").stdout.startswith("nsprov ")
    assert box.python("import provisioner; print(provisioner.__file__)").strip().endswith("provisioner/__init__.py")


def test_files_written_in_a_sandbox_are_there_and_only_there(box: Box) -> None:
    box.write("/srv/deep/er/note", "hello\n")
    assert box.run(["cat", "/srv/deep/er/note"]).stdout == "hello\n"
    assert not Path("/srv/deep").exists()
    box.run("chown 33:33 /srv/deep/er/note && rm -r /etc/apt && mkdir /etc/apt")
    assert box.run("stat -c %u:%g /srv/deep/er/note && ls /etc/apt").stdout == "33:33\n"
    assert list(Path("/etc/apt").iterdir())


def test_services_run_and_their_output_is_in_the_journal(box: Box) -> None:
    box.run("systemd-run --wait --unit=greeter sh -c 'echo hello from a service'")
    # The journal hears of a line a moment after the service has ended.
    wait_for(lambda: "hello from a service" in box.run("journalctl -u greeter -o cat").stdout)


def test_a_hardened_service_of_a_dynamic_user_runs(box: Box) -> None:
    properties = [
        "DynamicUser=yes", "NoNewPrivileges=yes", "PrivateDevices=yes", "PrivateTmp=yes", "PrivateUsers=yes",
        "PrivateIPC=yes", "PrivateMounts=yes", "ProtectHome=yes", "ProtectClock=yes", "ProtectHostname=yes",
        "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectControlGroups=yes",
        "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes", "CapabilityBoundingSet=", "DevicePolicy=closed", "ProtectSystem=strict",
        "ProtectProc=invisible", "ProcSubset=pid", "UMask=0077", "SystemCallFilter=@system-service",
    ]  # fmt: skip
    options = [f"--property={item}" for item in properties]
    done = box.run(["systemd-run", "--wait", "--pipe", "--quiet", *options, "sh", "-c", "id -u; echo a >/tmp/a"])
    assert int(done.stdout) > 60000


def test_a_unit_runs_in_a_namespace_that_was_pinned_before(box: Box) -> None:
    box.run("ip netns add blue && ip link add v-blue type veth peer name eth0 netns blue")
    inside = box.run(
        "systemd-run --wait --pipe --quiet -p NetworkNamespacePath=/run/netns/blue ip -o link"
    ).stdout  # fmt: skip
    assert " eth0@" in inside
    assert "uplink0" not in inside
    assert "eth0" in box.run("ip netns exec blue ls /sys/class/net").stdout
    box.run("ip netns exec blue sysctl -qw net.ipv4.ip_forward=1")
    assert box.run("cat /proc/sys/net/ipv4/ip_forward").stdout == "0\n"
    box.run(
        "ip netns exec blue nft -f -",
        input="table inet t { chain c { type filter hook input priority 0; policy accept; }; }",
    )
    assert "chain c" in box.run("ip netns exec blue nft list ruleset").stdout
    assert box.run("nft list ruleset").stdout == ""
    box.run("ip netns delete blue")
    assert box.run("ls /run/netns").stdout == ""


def test_slices_and_transient_units_are_cgroups_of_the_sandbox_alone(box: Box) -> None:
    box.run("systemd-run --unit=napper --slice=t-nap.slice -p MemoryMax=64M sleep 1000")
    assert box.run("cat /sys/fs/cgroup/t.slice/t-nap.slice/napper.service/cgroup.procs").stdout.strip()
    assert (box.sandbox.cgroup / "t.slice/t-nap.slice/napper.service").is_dir()
    assert box.run("systemctl show -P MemoryMax napper").stdout == "67108864\n"
    box.run("systemctl stop napper")


def test_units_may_be_launched_into_namespaces_of_every_kind(box: Box) -> None:
    line = "unshare -fmp --kill-child --mount-proc -i -u -C -T -n sh -c 'hostname inner; hostname; cat /proc/1/comm'"
    done = box.run(f"systemd-run --wait --pipe --quiet {line}")
    assert done.stdout == "inner\nsh\n"
    assert box.run("unshare -U -r id -u").stdout == "0\n"


def test_reload_and_reexec_leave_what_runs_alone(box: Box) -> None:
    box.run("systemd-run --unit=lasting sleep 1000")
    before = box.run("systemctl show -P MainPID lasting").stdout
    box.run("systemctl daemon-reload && systemctl daemon-reexec")
    wait_for(lambda: box.run("systemctl show -P MainPID lasting", check=False).stdout == before)
    assert box.sandbox.alive
    box.run("systemctl stop lasting")


def test_a_command_has_a_clean_environment_and_is_in_a_cgroup_of_the_sandbox(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "shibboleth")
    assert "shibboleth" not in box.run("env").stdout
    assert box.run("echo $HOME $LANG").stdout == "/root C.UTF-8\n"
    assert box.run("sed -n s/^0:://p /proc/self/cgroup").stdout.startswith("/nsprov/")
    assert box.run("cat", input="through\n").stdout == "through\n"


def test_a_failed_command_says_what_it_said(box: Box) -> None:
    with pytest.raises(HostError, match=r"ended with 3: alas") as raised:
        box.run("echo alas >&2; exit 3")
    assert raised.value.code == 3
    assert box.run("exit 4", check=False).returncode == 4
    with pytest.raises(HostError, match="has no command 'no-such-program'"):
        box.run(["no-such-program"])


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(box: Box) -> None:
    with pytest.raises(HostError, match=r"took more than 0\.5 s"):
        box.run("sleep 4321 & sleep 4321", timeout=0.5)
    wait_for(lambda: "4321" not in box.run("ps -eo args | grep '[s]leep' || true").stdout)


def test_what_the_kernel_lacks_is_known(box: Box) -> None:
    controllers = box.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
    said = " ".join(box.sandbox.lacks)
    for name in ("cpu", "io", "memory", "pids"):
        assert (name in controllers) != bool(re.search(rf"\b{name}\b", said.replace("cpuset", "")))


# -- forks ----------------------------------------------------------------------------------------


def test_a_function_runs_inside_without_any_program_being_started(box: Box) -> None:
    def serve(far: socket.socket) -> None:
        with far.makefile("rw") as stream:
            for line in stream:
                print(socket.gethostname(), os.getpid() > 1, os.getuid(), line.strip(), file=stream, flush=True)

    with box.sandbox.fork(serve, preload=["json"]) as connection:
        stream = connection.socket.makefile("rw")
        print("one", file=stream, flush=True)
        assert stream.readline() == f"{box.sandbox.name} True 0 one\n"
        stream.close()
        connection.socket.close()
        assert connection.wait() == 0
        assert connection.errors == ""


def test_an_exception_in_a_fork_is_told(box: Box) -> None:
    def fail(far: socket.socket) -> None:
        raise RuntimeError("it broke in there")

    with box.sandbox.fork(fail) as connection:
        assert connection.socket.recv(1) == b""
        assert connection.wait() == 70
        assert "RuntimeError: it broke in there" in connection.errors


def test_a_fork_that_will_not_end_is_ended_when_the_connection_is_closed(box: Box) -> None:
    def hang(far: socket.socket) -> None:
        far.send(str(os.getpid()).encode())
        time.sleep(1000)

    with box.sandbox.fork(hang) as connection:
        inner = connection.socket.recv(64).decode()
    wait_for(lambda: box.run(f"test -d /proc/{inner}", check=False).returncode == 1)


# -- several --------------------------------------------------------------------------------------


def test_sandboxes_meet_on_a_wire_that_the_machine_does_not_have(sandboxes: Callable[..., Box]) -> None:
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    one, two = sandboxes(), sandboxes(address="192.0.2.222/24")
    assert two.sandbox.address == "192.0.2.222/24"
    host = one.sandbox.address.partition("/")[0]
    assert "1 received" in two.run(f"ping -c1 -W2 {host}").stdout
    assert "1 received" in one.run("ping -c1 -W2 192.0.2.222").stdout
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == before
    assert subprocess.run(["ip", "route", "get", host], capture_output=True, text=True).stdout.find("uplink0") < 0


def test_the_wire_outlasts_the_sandbox_that_laid_it(sandboxes: Callable[..., Box]) -> None:
    first, second = sandboxes(), sandboxes()
    first.sandbox.stop()
    third = sandboxes()
    host = third.sandbox.address.partition("/")[0]
    assert "1 received" in second.run(f"ping -c1 -W2 {host}").stdout


def test_many_start_at_once(sandboxes: Callable[..., Box]) -> None:
    starter = (
        "import sys; from provisioner.host.sandbox import Sandbox; s = Sandbox.start(sys.argv[1]); print(s.address)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{starter}; s.stop()", f"crowd-{n}-{os.getpid()}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert all(said)


def test_a_name_or_address_in_use_is_refused(box: Box, sandboxes: Callable[..., Box]) -> None:
    with pytest.raises(UsageError, match="is running"):
        sandboxes(box.sandbox.name)
    with pytest.raises(UsageError, match="has the address"):
        sandboxes(address=box.sandbox.address)
    assert box.run("true").returncode == 0


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a/b", "../a", "a b", "ä", "x" * 64])
def test_a_name_that_no_host_could_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        Sandbox.start(name)


@pytest.mark.parametrize("address", ["x", "300.1.1.1", "10.0.0.1/33"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        Sandbox.start("fine", address=address)


def test_a_running_sandbox_is_listed_and_can_be_attached_to(box: Box) -> None:
    assert box.sandbox.name in [sandbox.name for sandbox in list_sandboxes()]
    assert Sandbox.attach(box.sandbox.name).run("hostname").stdout.strip() == box.sandbox.name
    with pytest.raises(UsageError, match="no sandbox named 'nobody' is running"):
        Sandbox.attach("nobody")


def test_without_user_namespaces_it_is_kept_in_by_its_capabilities_and_says_so(
    sandboxes: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardian, "_user_namespace", lambda: None)
    plain = sandboxes()
    assert any("user namespaces" in lack for lack in plain.sandbox.lacks)
    assert plain.run("cat /proc/self/uid_map").stdout.split()[:2] == ["0", "0"]
    assert plain.run("systemctl is-system-running").stdout.strip() == "running"
    for attempt in ("echo 7 >/proc/sys/kernel/panic", "mknod /root/mem c 1 1", "date -s 2001-01-01", "ls /tmp/lower"):
        assert plain.run(attempt, check=False).returncode != 0
    plain.run("ip netns add blue && systemd-run --wait -p NetworkNamespacePath=/run/netns/blue true")


# -- other roots ----------------------------------------------------------------------------------


def _plant(tree: Path) -> None:
    """Copy as much of the machine as a systemd needs to boot."""
    for folder in (
        "usr/lib",
        "usr/lib64",
        "usr/bin",
        "usr/sbin",
        "etc",
        "var/tmp",
        "root",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
    ):
        (tree / folder).mkdir(parents=True)
    for link in ("lib", "bin", "sbin", "lib64"):
        if Path("/", link).is_symlink():
            (tree / link).symlink_to(f"usr/{link}")
    names = ("sh", "cat", "systemctl", "journalctl", "dbus-daemon", "systemd-tmpfiles", "touch", "test")
    programs = [Path(str(shutil.which(name))) for name in names]
    services = [path for path in Path("/usr/lib/systemd").iterdir() if path.is_file()]
    linked = subprocess.run(["ldd", *programs, *services], capture_output=True, text=True, check=False).stdout
    libraries = set(re.findall(r"(/lib\S+) \(0x", linked))
    for source in [*programs, *libraries]:
        target = tree / str(source).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for folder in ("systemd", "tmpfiles.d"):
        shutil.copytree(f"/usr/lib/{folder}", tree / "usr/lib" / folder, symlinks=True)
    for file in ("passwd", "group", "nsswitch.conf", "os-release"):
        shutil.copy2(f"/etc/{file}", tree / "etc")


def test_a_root_tree_that_is_given_is_booted_and_left_as_it_was(
    sandboxes: Callable[..., Box], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = tmp_path_factory.mktemp("root")
    _plant(tree)
    (tree / "etc/marker").write_text("this tree\n")
    other = sandboxes(root=tree)
    assert other.run("cat /etc/marker").stdout == "this tree\n"
    assert other.run("systemctl is-system-running").stdout.strip() == "running"
    assert other.run("test -e /work", check=False).returncode == 1
    other.run("touch /etc/new")
    assert not (tree / "etc/new").exists()
    assert not (tree / "etc/machine-id").exists()

    # A function that is forked in needs no Python there.
    with other.sandbox.fork(lambda far: far.sendall(Path("/etc/marker").read_bytes())) as connection:
        assert connection.socket.recv(64) == b"this tree\n"


def test_an_apply_to_another_root_needs_neither_python_nor_libraries_there(
    sandboxes: Callable[..., Box], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree, project = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("project")
    _plant(tree)
    other = sandboxes(root=tree)
    tenant = {"role": "tenant", "vars": {"tenant_name": "blue", "tenant_address": "10.20.0.2/24"}}
    variables = {"ansible_connection": "sandbox", "nsprov_roles": ["bridge_network", tenant]}
    inventory = project / "inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {other.sandbox.name: variables}}}))
    for expected in ("applied: 7 created", "no changes"):
        command = [sys.executable, "-m", "provisioner", "apply", str(inventory), "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert expected in done.stdout, done.stderr


def test_a_root_tree_without_systemd_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no systemd in") as raised:
        Sandbox.start("bare", root=tmp_path)
    assert "apt-get install systemd" in str(raised.value)
