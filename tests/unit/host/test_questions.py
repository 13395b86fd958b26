"""What a host answers beyond its facts, without root."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.host import Host
from provisioner.host.facts import Cgroup
from provisioner.host.questions import answer


def test_what_is_no_block_device_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    host = Host()
    assert answer(host, f"block-device {tmp_path / 'nothing'}") == "is not on this host"
    assert answer(host, "block-device /dev/null") == "is no block device, nor a file on one"
    assert answer(host, "block-device /proc/version") == "is no block device, nor a file on one"


def test_cpus_are_those_that_the_kernel_can_have() -> None:
    there = Path("/sys/devices/system/cpu/possible").read_text().strip().replace(",", " ")
    assert answer(Host(), "cpus") == there


@pytest.mark.parametrize(
    ("controllers", "files", "there"), [("cpu", ["cpu.max"], True), ("cpu io", ["cpu.weight"], False)]
)
def test_a_file_is_looked_for_where_its_controller_is_switched_on(
    tmp_path: Path, controllers: str, files: list[str], there: bool
) -> None:
    for name, enabled in (("init.scope", "pids"), ("web.slice", controllers)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.controllers").write_text(f"{enabled}\n")
    for file in files:
        (tmp_path / "web.slice" / file).touch()
    host = Host()
    host.__dict__["facts"] = type("Facts", (), {"cgroup": Cgroup("unified", str(tmp_path))})()
    assert answer(host, "cgroup-file cpu.max") is there


def test_where_there_is_no_systemd_the_types_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner.errors import HostError
    from provisioner.host.systemd import Systemd

    def fails(self: Systemd, suffix: str) -> None:
        raise HostError("systemd is not running here")

    monkeypatch.setattr(Systemd, "signatures", fails)
    assert answer(Host(), "signatures slice") is None
