"""A fleet of three sandboxes in one inventory: one is lost, refuses or is held; what becomes of the others is told."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from tests.host.conftest import Box

TASKS = """\
- netns: {name: blue}
- file: {path: /etc/fleet, content: "{{ groups['web'] | join(' ') }} {{ hostvars[groups['web'][2]].number }}\\n"}
"""

#: A workload that starts when /run/go is there, so that an apply can be seen in its middle.
GATE = """\
- unit:
    name: gate.service
    Type: oneshot
    RemainAfterExit: true
    ExecStart: "/bin/sh -c 'until [ -e /run/go ]; do sleep 0.05; done'"
"""

#: What is made after it, for it needs what is made beside it.
AFTERWARDS = "- veth: {name: v-blue, peer: {netns: blue, name: eth0}}\n"

COMMAND = [sys.executable, "-m", "provisioner"]
CHECKOUT = str(Path(__file__).parents[2])


class Fleet:
    """Three hosts, and the project that is applied to them."""

    def __init__(self, folder: Path, start: Callable[[str], Box]) -> None:
        self.folder = folder
        unique = uuid.uuid4().hex[:6]
        self.names = [f"fleet-{unique}-{letter}" for letter in "abc"]
        self.start = start
        self.boxes = {name: start(name) for name in self.names}
        self.declare(TASKS)

    def declare(self, tasks: str, rollout: str = "{}") -> None:
        hosts = "".join(f"        {name}: {{number: {n}}}\n" for n, name in enumerate(self.names, 1))
        (self.folder / "inventory.yml").write_text(
            "all:\n  vars:\n    ansible_connection: sandbox\n    nsprov_roles: [fleet]\n"
            f"    nsprov_rollout: {rollout}\n  children:\n    web:\n      hosts:\n{hosts}"
        )
        path = self.folder / "roles/fleet/tasks/main.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tasks)

    def nsprov(self, *words: str, code: int | None = 0) -> CompletedProcess[str]:
        done = subprocess.run([*COMMAND, *words], cwd=self.folder, env=_environment(), capture_output=True, text=True)
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def begin(self, *words: str) -> Popen[str]:
        return Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def has(self, name: str, path: str = "/run/netns/blue") -> bool:
        return self.boxes[name].run(["test", "-e", path], check=False).returncode == 0

    def wait_for_gate(self, *names: str) -> None:
        """Until the workload is being started on these hosts."""
        for name in names:
            self.boxes[name].run(
                "for i in $(seq 400); do systemctl show -p ActiveState gate.service | grep -q activating && exit 0;"
                " sleep 0.05; done; exit 1"
            )

    def open_gate(self, *names: str) -> None:
        for name in names:
            self.boxes[name].run("touch /run/go")

    @property
    def retry(self) -> list[str]:
        path = self.folder / "inventory.retry"
        return path.read_text().split() if path.exists() else []


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": CHECKOUT, "COLUMNS": "100"}


@pytest.fixture
def fleet(tmp_path: Path, sandboxes: Callable[..., Box]) -> Fleet:
    return Fleet(tmp_path, sandboxes)


def test_hosts_are_applied_side_by_side_each_plan_shown_once_and_templates_know_the_others(fleet: Fleet) -> None:
    a, b, c = fleet.names
    done = fleet.nsprov("apply", "--yes")
    assert f"{b}   the same as {a}" in done.stdout
    assert done.stdout.count("+ netns/blue") == 1
    assert done.stdout.splitlines()[-1] == "applied 3"
    assert fleet.boxes[b].run("cat /etc/fleet").stdout == f"{a} {b} {c} 3\n"
    assert fleet.nsprov("apply", "--yes").stdout.splitlines() == [f"{name}   no changes" for name in fleet.names]
    assert fleet.retry == []


def test_a_host_that_dies_in_the_middle_leaves_the_others_alone_and_a_retry_converges(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.declare(TASKS + GATE)
    running = fleet.begin("apply", "--yes")
    fleet.wait_for_gate(a, b, c)
    (fleet.boxes[b].sandbox.cgroup / "cgroup.kill").write_text("1")  # as the power goes
    fleet.open_gate(a, c)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, out + err
    assert "applied 2, unreachable 1" in out
    (line,) = [line for line in out.splitlines() if line.startswith(f"  {b}   unreachable: ")]
    assert "the connection" in line
    assert "known to be done" in line
    assert "nsprov apply inventory.yml --limit @retry" in err
    assert "Traceback" not in out + err
    assert fleet.retry == [b]
    assert fleet.has(a)
    assert fleet.has(c)

    fleet.boxes[b].sandbox.stop()
    fleet.boxes[b] = fleet.start(b)
    fleet.open_gate(b)
    fleet.nsprov("apply", "--yes", "--limit", "@retry")
    assert fleet.retry == []
    assert not (fleet.folder / "inventory.retry").exists()
    assert fleet.has(b)
    fleet.nsprov("plan", "--detailed-exitcode")


def test_the_agent_of_a_host_that_is_killed_is_told_and_the_next_apply_goes_on_from_there(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.declare(TASKS + GATE)
    running = fleet.begin("apply", "--yes", "--format", "json")
    fleet.wait_for_gate(a, b, c)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    inside = Path(f"/proc/{fleet.boxes[b].pid}/ns/mnt").readlink()
    agents = [int(child) for child in _descendants(children) if Path(f"/proc/{child}/ns/mnt").readlink() == inside]
    assert agents
    for agent in agents:
        os.kill(agent, signal.SIGKILL)
    fleet.open_gate(a, b, c)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, out + err
    data = json.loads(out)
    assert data["applied"] == [a, c]
    assert list(data["unreachable"]) == [b]
    assert data["batches"] == [{"hosts": [a, b, c], "canary": False, "stopped": None}]
    fleet.nsprov("apply", "--yes", "--limit", "@retry")
    fleet.nsprov("plan", "--detailed-exitcode")


def _descendants(pids: list[str]) -> list[str]:
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += task.read_text().split()
    return found


def test_a_host_that_is_not_there_is_unreachable_for_every_command_and_the_others_are_done(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.boxes[b].sandbox.stop()
    told = f"{b}   unreachable: no sandbox named '{b}' is running"
    planned = fleet.nsprov("plan", "--format", "json", code=1)
    data = json.loads(planned.stdout)
    assert list(data["hosts"]) == [a, c]
    assert list(data["unreachable"]) == [b]
    assert told in planned.stderr
    assert "applied 2, unreachable 1" in fleet.nsprov("apply", "--yes", code=1).stdout
    shown = fleet.nsprov("show", code=1)
    assert shown.stdout.count("● netns/blue") == 2
    assert told in shown.stderr
    verified = fleet.nsprov("verify", code=1)
    assert verified.stdout.count("all hold") == 2
    assert told in verified.stderr
    gone = fleet.nsprov("destroy", "--yes", code=1)
    assert "applied 2, unreachable 1" in gone.stdout
    assert not fleet.has(a)
    assert fleet.retry == [b]  # of the apply: what is destroyed is not to be applied again


def test_any_errors_fatal_and_nothing_is_touched_when_a_host_is_not_there(fleet: Fleet) -> None:
    a, b, _ = fleet.names
    fleet.boxes[b].sandbox.stop()
    done = fleet.nsprov("apply", "--yes", "--any-errors-fatal", code=1)
    assert "unreachable 1, not touched 2" in done.stdout
    assert not fleet.has(a)


def test_a_host_that_is_alone_and_not_there_is_told_in_one_message(fleet: Fleet) -> None:
    b = fleet.names[1]
    fleet.boxes[b].sandbox.stop()
    done = fleet.nsprov("apply", "--yes", "--limit", b, code=1)
    assert done.stdout == ""
    assert done.stderr.startswith(f"nsprov: no sandbox named '{b}' is running")
    for command in ("plan", "show", "verify"):
        done = fleet.nsprov(command, "--limit", b, code=1)
        assert done.stdout.strip() == ""
        assert done.stderr.startswith(f"nsprov: no sandbox named '{b}' is running")


def refuse(box: Box) -> None:
    """No file can be made in /srv/fleet."""
    box.run("mkdir -p /srv/fleet && mount -t tmpfs -o ro none /srv/fleet")


def test_a_host_that_refuses_is_put_back_and_the_others_are_applied(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.declare("- netns: {name: blue}\n- file: {path: /srv/fleet/data, content: x}\n")
    for name in fleet.names:
        fleet.boxes[name].run("mkdir -p /srv/fleet")
    refuse(fleet.boxes[b])
    done = fleet.nsprov("apply", "--yes", code=1)
    assert "applied 2, failed 1" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {b}   failed: ")]
    assert "creating file//srv/fleet/data" in line
    assert line.endswith("Read-only file system; it was put back")
    assert [fleet.has(name) for name in (a, b, c)] == [True, False, True]


def test_a_batch_that_fails_is_put_back_and_those_after_it_are_not_touched(fleet: Fleet) -> None:
    a, b, c = fleet.names
    tasks = "- netns: {name: blue}\n- file: {path: /srv/fleet/data, content: x}\n"
    fleet.declare(tasks, '{serial: [2, "100%"], max_fail_percentage: 40}')
    for name in fleet.names:
        fleet.boxes[name].run("mkdir -p /srv/fleet")
    refuse(fleet.boxes[b])
    done = fleet.nsprov("apply", "--yes", code=1)
    assert f"batch 1/2: 2 hosts: {a}, {b}" in done.stdout
    assert "stopped: 50 % of the batch failed, and max_fail_percentage is 40" in done.stdout
    assert "failed 1, put back 1, not touched 1" in done.stdout
    assert not any(fleet.has(name) for name in fleet.names)
    assert fleet.retry == [a, b, c]

    fleet.boxes[b].run("umount /srv/fleet")
    done = fleet.nsprov("apply", "--yes", "--limit", "@retry", "--canary", c)
    assert f"canary: 1 host: {c}" in done.stdout
    assert done.stdout.splitlines()[-1] == "applied 3"
    assert fleet.retry == []


def test_a_batch_that_does_not_verify_is_put_back(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.declare("- netns: {name: blue}\n- unit: {name: brief.service, ExecStart: '/bin/sleep {{ stays }}'}\n")
    inventory = fleet.folder / "inventory.yml"
    stays = {a: "1000", b: "0.3", c: "1000"}
    for name, seconds in stays.items():
        inventory.write_text(inventory.read_text().replace(f"{name}: {{", f'{name}: {{stays: "{seconds}", '))
    done = fleet.nsprov("apply", "--yes", "--serial", "1", "--verify", code=1)
    assert "stopped: the batch does not verify" in done.stdout
    assert "applied 1, failed 1, not touched 1" in done.stdout
    assert [fleet.has(name) for name in (a, b, c)] == [True, False, False]


def test_a_host_that_another_apply_holds_is_one_failed_host(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.boxes[b].run("mkdir -p /run/nsprov; (flock -n 9 && sleep 30) 9>/run/nsprov/lock >/dev/null 2>&1 & sleep 0.3")
    done = fleet.nsprov("apply", "--yes", code=75)
    assert "applied 2, failed 1" in done.stdout
    assert "another apply holds" in done.stdout
    alone = fleet.nsprov("apply", "--yes", "--limit", b, code=75)
    assert alone.stdout == ""
    assert "another apply holds" in alone.stderr
    assert [fleet.has(name) for name in (a, b, c)] == [True, False, True]


def test_ctrl_c_finishes_the_step_in_hand_and_whoever_asks_again_is_told_what_is_waited_for(fleet: Fleet) -> None:
    a, b, c = fleet.names
    fleet.declare(TASKS + GATE + AFTERWARDS)
    fleet.open_gate(a)
    running = fleet.begin("apply", "--yes", "--serial", "1")
    fleet.wait_for_gate(b)
    for _ in range(2):
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)
    fleet.open_gate(b)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, out + err
    assert "stopping after the step in hand" in err
    assert f"still waiting for the step in hand, and for it to be put back: {b}" in err
    assert "applied 1, failed 1, not touched 1" in out
    assert f"{b}   failed: interrupted; it was put back" in out
    assert [fleet.has(name) for name in (a, b, c)] == [True, False, False]


def test_a_configuration_that_is_wrong_for_one_host_stops_all_before_one_is_touched(fleet: Fleet) -> None:
    a = fleet.names[0]
    fleet.declare(TASKS + "- netns: {name: 'x y'}\n  when: number == 2\n")
    done = fleet.nsprov("apply", "--yes", code=65)
    assert "roles/fleet/tasks/main.yml:3" in done.stderr
    assert not fleet.has(a)
    fleet.declare(TASKS, "{serail: 1}")
    done = fleet.nsprov("validate", code=65)
    assert "inventory.yml:5:22: nsprov_rollout has no field 'serail'" in done.stderr
    assert "did you mean 'serial'?" in done.stderr


@pytest.mark.parametrize("off", [True, False])
def test_a_retry_file_that_is_not_wanted_or_cannot_be_written_is_no_error(fleet: Fleet, off: bool) -> None:
    fleet.boxes[fleet.names[1]].sandbox.stop()
    path = fleet.folder / "inventory.retry"
    environment = _environment()
    if off:
        environment["NSPROV_RETRY_FILES"] = "0"
    else:
        path.mkdir()  # root may write into any folder, but not into this
    done = subprocess.run(
        [*COMMAND, "apply", "--yes"], cwd=fleet.folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "applied 2, unreachable 1" in done.stdout
    assert "@retry" not in done.stderr
    assert not path.is_file()


@pytest.mark.parametrize("answer", ["n\n", "\x03"], ids=["no", "ctrl-c"])
def test_on_a_terminal_the_canary_is_asked_about_and_the_status_is_one_line(fleet: Fleet, answer: str) -> None:
    a, b, c = fleet.names
    shown = _on_a_terminal(fleet, ["apply", "--canary", "1"], {"Carry out": "y\n", "Go on with 2 hosts?": answer})
    assert "applied 1, not touched 2" in re.sub(r"\x1b\[\d*m", "", shown)
    assert "nothing was touched" not in shown
    assert re.search(rf"\r\x1b\[K(batch 1/2   )?0/3 done, 1 running: {a}", shown)
    assert [fleet.has(name) for name in (a, b, c)] == [True, False, False]


def _on_a_terminal(fleet: Fleet, words: list[str], answers: dict[str, str]) -> str:
    """What a person sees, who answers these questions."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(fleet.folder)
        os.execve(sys.executable, [*COMMAND, *words], _environment())
    shown = b""
    waiting = dict(answers)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        for question in [one for one in waiting if one.encode() in shown]:
            os.write(terminal, waiting.pop(question).encode())
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode()
