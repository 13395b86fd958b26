"""A sandbox ends without a trace, however it ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from provisioner.errors import HostError
from provisioner.host.sandbox import Sandbox, boot, guardian, state
from tests.host.conftest import Box
from tests.host.waiting import wait_for

OWNER = """
import sys, time
from provisioner.host.sandbox import Sandbox
with Sandbox.start(sys.argv[1]) as sandbox:
    print("up", flush=True)
    time.sleep(600)
"""


def processes(name: str) -> list[int]:
    """What runs of a sandbox: in its cgroup, or with its mark in the environment that forks inherit."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"NSPROV_TEST_MARK={name}".encode() in (folder / "environ").read_bytes()
            if ours or f"nsprov-sandbox-{name}-" in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    return found


def traces(name: str) -> list[str]:
    """What there is on the machine of a sandbox."""
    left = [str(path) for path in state.FOLDER.glob(f"{name}*")]
    left += [str(path) for path in state.cgroup_mount().glob(f"nsprov-sandbox-{name}-*")]
    return left + [f"process {pid}" for pid in processes(name)]


@pytest.fixture
def name() -> str:
    return f"life-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _mounts_are_unchanged() -> Iterator[None]:
    before = Path("/proc/self/mountinfo").read_text()
    yield
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.fixture
def owner(name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that starts a sandbox of this name, and would keep it for long."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, name],
        env={**os.environ, "NSPROV_TEST_MARK": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def find(victim: str, owner: int) -> int | None:
    """The process of a part, as soon as there is one."""
    if victim == "owner":
        return owner
    for parent in children(owner):
        if victim == "guardian":
            return parent
        for child in children(parent):
            if victim == ("init" if in_namespace(child) else command(child).removeprefix("nsprov-")):
                return child
    return None


def in_namespace(pid: int) -> bool:
    """Whether a process is in a pid namespace of its own."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return len(status.partition("NSpid:")[2].partition("\n")[0].split()) > 1
    return False


def test_stopping_it_leaves_nothing(name: str) -> None:
    sandbox = Sandbox.start(name)
    assert traces(name)
    sandbox.run("systemd-run sleep 1000 && ip netns add blue && (setsid sleep 1000 >/dev/null 2>&1 &)")
    sandbox.stop()
    assert traces(name) == []
    assert not sandbox.alive
    sandbox.stop()


def test_an_exception_in_its_block_ends_it(name: str) -> None:
    with pytest.raises(ZeroDivisionError), Sandbox.start(name):
        1 / 0  # noqa: B018
    assert traces(name) == []


def test_a_start_that_fails_leaves_nothing(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd"
    folder.mkdir(parents=True)
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/dbus-daemon").touch()
    (folder / "systemd").write_text("not a program")
    (folder / "systemd").chmod(0o755)
    with pytest.raises(HostError):
        Sandbox.start(name, root=tmp_path)
    assert traces(name) == []


def test_a_systemd_that_ends_while_it_boots_is_reported_with_its_last_words(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd"
    folder.mkdir(parents=True)
    for path in ("usr/bin", "bin", "lib", "lib64"):
        (tmp_path / path).mkdir(exist_ok=True)
    (tmp_path / "usr/bin/dbus-daemon").touch()
    shell = Path("/bin/sh").resolve()
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    for word in [str(shell), *(word for word in linked.split() if word.startswith("/"))]:
        target = tmp_path / word.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(word).read_bytes())
        target.chmod(0o755)
    (folder / "systemd").write_text(f"#!{shell}\necho the disk is on fire\nexit 1\n")
    (folder / "systemd").chmod(0o755)
    with pytest.raises(HostError, match="the disk is on fire"):
        Sandbox.start(name, root=tmp_path)
    assert traces(name) == []


@pytest.mark.parametrize("victim", ["owner", "guardian", "twin", "init"])
def test_killing_one_of_its_processes_while_it_runs_leaves_nothing(
    name: str, owner: subprocess.Popen[str], victim: str
) -> None:
    assert owner.stdout
    assert owner.stdout.readline() == "up\n"
    pid = find(victim, owner.pid)
    assert pid
    os.kill(pid, signal.SIGKILL)
    if victim != "owner":
        wait_for(lambda: not [trace for trace in traces(name) if trace != f"process {owner.pid}"])
        owner.kill()
    owner.wait()
    wait_for(lambda: traces(name) == [])


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("victim", ["owner", "guardian", "init"])
def test_killing_one_of_its_processes_while_it_starts_leaves_nothing(
    name: str, owner: subprocess.Popen[str], victim: str, moment: int
) -> None:
    pid = None
    while pid is None:
        assert owner.poll() is None
        pid = find(victim, owner.pid)
    if victim == "owner":
        wait_for(lambda: bool(children(owner.pid)), pause=0.0005)
    time.sleep(random.uniform(0, 0.03 * 2**moment) if moment else 0)
    os.kill(pid, signal.SIGKILL)
    if victim == "owner":
        owner.wait()
    wait_for(lambda: not [trace for trace in traces(name) if trace != f"process {owner.pid}"])
    owner.kill()
    owner.wait()
    wait_for(lambda: traces(name) == [])


def test_what_two_kills_at_once_have_left_is_swept_by_the_next_start(
    name: str, owner: subprocess.Popen[str], sandboxes: Callable[..., Box]
) -> None:
    assert owner.stdout
    assert owner.stdout.readline() == "up\n"
    record = state.read(name)
    assert record
    os.kill(record.twin, signal.SIGSTOP)  # so that it cannot be quicker
    os.kill(record.guardian, signal.SIGKILL)
    os.kill(record.twin, signal.SIGKILL)
    owner.kill()
    owner.wait()
    # The sandbox itself goes with its guardian in any case.
    wait_for(lambda: not processes(name))
    sandboxes()
    assert traces(name) == []


def test_the_fork_of_a_killed_process_ends(name: str, box: Box) -> None:
    code = f"""
import time
from provisioner.host.sandbox import Sandbox
connection = Sandbox.attach({box.sandbox.name!r}).fork(lambda far: (far.send(b"x"), time.sleep(1000)))
connection.socket.recv(1)
print(connection.pid, flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    middle = int(process.stdout.readline())
    inner = children(middle)
    assert len(inner) == 1
    process.kill()
    process.communicate()
    wait_for(lambda: not any(state.process_start(pid) for pid in (middle, *inner)))
    assert box.sandbox.alive


def test_a_boot_that_hangs_is_given_up_with_the_journal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "_BOOT_TIMEOUT", 2.0)
    prepare = boot._prepare_units

    def prepare_one_that_hangs() -> None:
        prepare()
        unit = "[Unit]\nDefaultDependencies=no\nBefore=basic.target\n[Service]\nType=oneshot\nExecStart=sleep 1000\n"
        Path("/run/systemd/system/stuck.service").write_text(unit)
        Path("/run/systemd/system/basic.target.requires").mkdir()
        Path("/run/systemd/system/basic.target.requires/stuck.service").symlink_to("../stuck.service")

    monkeypatch.setattr(boot, "_prepare_units", prepare_one_that_hangs)
    with pytest.raises(
        HostError, match=r"did not boot within 2 seconds(.|\n)*Journal started(.|\n)*waiting: .* stuck.service"
    ):
        Sandbox.start(name)
    assert traces(name) == []


def test_poweroff_inside_ends_it(name: str) -> None:
    sandbox = Sandbox.start(name)
    sandbox.run("systemctl poweroff", check=False)
    wait_for(lambda: not sandbox.alive)
    with pytest.raises(HostError, match="has ended"):
        sandbox.run("true")
    sandbox.stop()
    assert traces(name) == []


def test_a_sandbox_in_a_sandbox_is_refused(box: Box) -> None:
    refused = box.nsprov("sandbox", "start", "inner", check=False)
    assert refused.returncode == 1
    assert "sandboxes do not nest" in refused.stderr


# -- the commands ---------------------------------------------------------------------------------


def nsprov(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "provisioner", "sandbox", *args], capture_output=True, text=True, check=False
    )


def test_a_sandbox_started_by_command_outlives_the_command_until_it_is_stopped(name: str) -> None:
    started = nsprov("start", name, "--address", "192.0.2.77")
    try:
        assert started.returncode == 0, started.stderr
        assert f"{name} is up at 192.0.2.77/24" in started.stdout
        assert name in nsprov("list").stdout
        [listed] = [one for one in json.loads(nsprov("list", "--format", "json").stdout) if one["name"] == name]
        assert listed["address"] == "192.0.2.77/24"
        assert nsprov("exec", name, "--", "hostname").stdout == f"{name}\n"
        assert nsprov("exec", name, "--", "sh", "-c", "exit 42").returncode == 42
        assert nsprov("exec", name, "no-such-program").returncode == 127
        assert nsprov("start", name).returncode == 64
    finally:
        stopped = nsprov("stop", name)
    assert stopped.stdout == f"{name} is gone\n"
    assert traces(name) == []
    assert nsprov("stop", name).returncode == 64


def test_without_root_a_sandbox_is_refused_with_what_to_do(name: str) -> None:
    code = f"""
import os
from provisioner.errors import NotPermittedError
from provisioner.host.sandbox import Sandbox
os.setuid(65534)
try:
    Sandbox.start({name!r})
except NotPermittedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs root" in done.stdout
    assert "sudo" in done.stdout
