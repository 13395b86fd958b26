"""What of the host's file systems an isolated unit must not see: shared memory by name, and interfaces in /sys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from provisioner.directives import Value
from provisioner.isolation.ways import KINDS, SHARED_MEMORY, Wish, carried_out


def mounted(kinds: set[str], profile: str | None = None, **own: Value) -> Value:
    """The empty file systems that the unit is given."""
    wish = Wish("web.service", frozenset(kinds), {"ExecStart": ("/usr/bin/web",), **own}, profile)  # type: ignore[arg-type]
    return carried_out(wish, 252).directives.get("TemporaryFileSystem", ())


def test_what_has_an_ipc_namespace_has_shared_memory_of_its_own() -> None:
    assert mounted({"ipc"}) == (SHARED_MEMORY,)
    assert mounted(set(), "strict") == (SHARED_MEMORY,)


def test_what_has_none_shares_the_hosts() -> None:
    assert mounted({"mount"}) == ()
    assert mounted(set(), "standard") == ()


def test_it_is_beside_the_file_systems_that_the_unit_names() -> None:
    assert mounted({"ipc"}, TemporaryFileSystem=("/var/cache",)) == ("/var/cache", SHARED_MEMORY)


@pytest.mark.parametrize(
    "own",
    [{"TemporaryFileSystem": ("/dev/shm:size=1G",)}, {"BindPaths": ("/srv/shared:/dev/shm",)}],
    ids=["of another size", "a folder"],
)
def test_a_unit_that_says_what_it_is_keeps_that(own: dict[str, Value]) -> None:
    assert SHARED_MEMORY not in mounted({"ipc"}, **own)


def launched(kinds: set[str], systemd: int = 252, **wished: Any) -> Mapping[str, Value]:
    pins = {kind: f"/run/nsprov/ns/{kind}/web.service" for kind in ("user", "uts", "time") if kind in kinds}
    own = {"ExecStart": ("/usr/bin/web",)}
    wish = Wish("web.service", frozenset(kinds), own, pins=pins, **wished)  # type: ignore[arg-type]
    return carried_out(wish, systemd).directives


def test_a_unit_in_a_network_of_its_own_has_the_sys_of_that_network_by_its_launcher() -> None:
    (command,) = launched({"pid", "net", "cgroup"}, netns="blue")["ExecStart"]
    sysfs, cgroups = "mount -t sysfs -o nosuid,nodev,noexec sysfs /sys", "mount -t cgroup2"
    assert command.index(sysfs) < command.index(cgroups)


def test_where_the_control_groups_stay_as_they_are_they_are_put_into_the_fresh_sys() -> None:
    (command,) = launched({"pid", "net"}, netns="blue")["ExecStart"]
    assert "sysfs /sys && mount -c --rbind . /sys/fs/cgroup" in command


def test_a_hardened_units_fresh_sys_is_read_only() -> None:
    (command,) = launched(set(KINDS), netns="blue", profile="strict")["ExecStart"]
    assert "mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys" in command


def test_without_a_launcher_the_hosts_interfaces_are_hidden() -> None:
    hidden = {"-/sys/class/net", "-/sys/devices/virtual/net"}
    assert hidden <= set(launched(set(), netns="blue", profile="strict")["InaccessiblePaths"])
    assert hidden <= set(launched({"net"}, netns="blue")["InaccessiblePaths"])


def test_the_host_network_and_a_newer_systemd_need_none_of_it() -> None:
    assert "sysfs" not in str(launched({"pid"}))
    assert "sysfs" not in str(launched(set(KINDS), 257, netns="blue"))
    assert "/sys" not in str(launched(set(), profile="strict").get("InaccessiblePaths"))
    assert "/sys" not in str(launched(set(), 257, netns="blue", profile="strict").get("InaccessiblePaths"))
