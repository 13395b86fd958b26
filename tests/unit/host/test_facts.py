"""What a host is, read without root."""

from __future__ import annotations

import json
import os

import pytest

from provisioner.host import Host
from provisioner.host.facts import Cgroup, _cgroup, _numbers

V1 = "30 24 0:26 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu\n"


def v2(path: str) -> str:
    return f"29 24 0:25 / {path} rw,nosuid shared:8 - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        (v2("/sys/fs/cgroup"), Cgroup("unified", "/sys/fs/cgroup")),
        (V1 + v2("/sys/fs/cgroup/unified"), Cgroup("hybrid", "/sys/fs/cgroup/unified")),
        (V1, Cgroup("legacy", None)),
        ("", Cgroup(None, None)),
        (v2("/var/lib/box/sys") + v2("/sys/fs/cgroup"), Cgroup("unified", "/sys/fs/cgroup")),
    ],
)
def test_the_control_groups_are_told_by_what_is_mounted(mountinfo: str, expected: Cgroup) -> None:
    assert _cgroup(mountinfo) == expected


def test_kernel_versions_compare_as_numbers() -> None:
    assert _numbers("6.10.2-13-amd64") > _numbers("6.9")


def test_facts_are_json_and_have_the_loopback() -> None:
    with Host() as host:
        facts = json.loads(json.dumps(host.facts.as_variables()))
    assert facts["kernel"] == os.uname().release
    assert facts["interfaces"]["lo"]["mtu"] > 0
    assert set(facts) == {
        "name", "kernel", "kernel_version", "arch", "distribution", "systemd", "cgroup", "controllers",
        "namespaces", "lacking", "sandbox", "interfaces", "cpus", "memory_mib", "python",
    }  # fmt: skip
