"""The machines themselves: what they are, what they reach, and that nothing is left of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.vm.command import main
from tests.vm.fleet import Fleet
from tests.vm.images import RELEASES, locked
from tests.vm.machine import Machine

SYSTEMD = {"bookworm": "systemd 252", "trixie": "systemd 257"}


def test_a_machine_is_its_release_with_every_controller(vm: Machine) -> None:
    assert f"VERSION_CODENAME={vm.release}" in vm.run("cat /etc/os-release").stdout
    assert vm.run("systemctl --version").stdout.startswith(SYSTEMD[vm.release])
    assert vm.run("python3 --version").stdout.startswith(f"Python {RELEASES[vm.release]}.")
    assert vm.run("hostname").stdout.strip() == vm.name
    controllers = vm.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set(controllers)
    assert "An apply would work here" in vm.nsprov("doctor").stdout


def test_a_machine_reaches_neither_the_network_nor_us(vm: Machine) -> None:
    reached = vm.run("ip route add default via 10.0.2.2; timeout 5 bash -c 'echo >/dev/tcp/10.0.2.2/22'", check=False)
    vm.run("ip route del default", check=False)
    assert reached.returncode != 0


def test_nothing_is_left_of_a_fleet_that_is_stopped(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet")
    machines = fleet.start(["trixie"], outlives_us=True)
    pids = [int((machine.folder / "pid").read_text()) for machine in machines]
    assert all(machine.running for machine in machines)

    # As a later command does, which has not started them itself.
    Fleet(fleet.folder).stop()
    assert not fleet.folder.exists()
    for pid in pids:
        # Ended, though not yet reaped by us, who started it.
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None


def test_every_release_gets_what_nsprov_needs_and_no_tool_of_the_developers() -> None:
    for release in RELEASES:
        names = {line.split("==")[0] for line in locked(release)}
        assert {"pydantic", "pydantic-core", "pystemd", "jinja2", "pytest-testinfra"} <= names
        assert not {"ruff", "mypy", "ansible-core"} & names


def test_a_command_that_is_mistyped_is_answered_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["begin"]) == 64
    assert "scripts/vm start" in capsys.readouterr().err
    assert main(["start", "sid"]) == 1
    assert "the releases are bookworm and trixie" in capsys.readouterr().err


def test_a_fleet_may_be_kept_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = tmp_path / "mine" / "trixie"
    ended.mkdir(parents=True)
    (ended / "release").write_text("trixie")
    (ended / "port").write_text("2222")
    monkeypatch.setenv("NSPROV_FLEET", str(tmp_path / "mine"))
    assert main(["list"]) == 0
    assert re.match(r"trixie +ended +127\.0\.0\.1:2222", capsys.readouterr().out)
    assert main(["stop"]) == 0
    assert not (tmp_path / "mine").exists()
