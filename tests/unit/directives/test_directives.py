"""The table of directives: names, versions, canonical values, and what goes over D-Bus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner import directives
from provisioner.directives import BadValue, Setting
from provisioner.directives.table import NOT_TRANSIENT, SYNTAX

_VALUES: dict[str, list[Any]] = json.loads(
    (Path(__file__).parents[2] / "host" / "directive_values.json").read_text("utf-8")
)


def test_every_directive_of_the_manual_has_a_syntax_or_a_reason_why_not() -> None:
    table = directives._table()
    assert set(table) - set(SYNTAX) - set(NOT_TRANSIENT) == set()


def test_every_syntax_belongs_to_a_directive_of_the_manual() -> None:
    assert set(SYNTAX) - set(directives._table()) <= {"AssertFirmware"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, found in _VALUES.items() for value in found])
def test_a_canonical_value_is_its_own_canonical_form(name: str, value: Any) -> None:
    for unit_type in ("service", "socket", "timer", "path", "mount"):
        if name in directives.known(unit_type):
            made = directives.canonical(unit_type, name, value)
            again = json.loads(json.dumps(made))
            assert directives.canonical(unit_type, name, again) == made
            assert directives.encode(unit_type, {name: made})


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("MemoryMax", "512M", 536870912),
        ("MemoryMax", "", "infinity"),
        ("MemoryLow", "", "0"),
        ("ProtectSystem", True, "yes"),
        ("CPUQuota", "20%", "20.00%"),
        ("TimeoutStopSec", 90, "1min 30s"),
        ("AllowedCPUs", "0,1,2,5", "0-2 5"),
        ("After", ["b.service", "a.service"], "a.service b.service"),
        ("IPAddressAllow", "127.0.0.0/8 ::1/128", "localhost"),
        ("IPAddressAllow", "10.1.2.3/8", ["10.0.0.0/8"]),
        ("Environment", {"A": 1, "B": "x y"}, ["A=1", '"B=x y"']),
        ("Environment", ["A=1 B=2", "A=3"], "B=2 A=3"),
        ("CapabilityBoundingSet", "cap_net_admin CAP_CHOWN", "CAP_CHOWN CAP_NET_ADMIN"),
        ("CapabilityBoundingSet", ["~CAP_SYS_ADMIN", "~CAP_CHOWN"], "~CAP_CHOWN CAP_SYS_ADMIN"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET", "AF_INET AF_UNIX"),
        ("RestrictNamespaces", "cgroup ipc net mnt pid user uts", "no"),
        ("KillSignal", "INT", "SIGINT"),
        ("UMask", "27", "0027"),
        ("LimitNOFILE", "1024:1024", "1024"),
        ("LimitNICE", "+5", "15"),
        ("SuccessExitStatus", "TEMPFAIL 1 KILL", "1 75 SIGKILL"),
        ("ExecStart", "/bin/sh   -c 'echo  hi'", '/bin/sh -c "echo  hi"'),
        ("ExecStartPre", "+-/bin/true", "-+/bin/true"),
        ("ExecStartPre", "/bin/true ; /bin/false", ["/bin/true", "/bin/false"]),
        ("ExecStartPre", "/bin/a\n/bin/b\n", ["/bin/a", "/bin/b"]),
        ("BindPaths", "/tmp:/tmp:rbind", "/tmp"),
        ("DeviceAllow", "/dev/null", "/dev/null rwm"),
        ("WorkingDirectory", "/var//lib/", "/var/lib"),
        ("SyslogFacility", "3", "daemon"),
        ("IOReadBandwidthMax", "/dev/vda 10000K", "/dev/vda 10M"),
    ],
)
def test_two_spellings_of_a_value_are_one(name: str, one: Any, other: Any) -> None:
    assert directives.canonical("service", name, one) == directives.canonical("service", name, other)


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        ("MemoryMax", "512M", [Setting("MemoryMax", "t", 2**29)]),
        ("MemoryMax", "50%", [Setting("MemoryMaxScale", "u", 2147483648)]),
        ("MemoryMax", "infinity", [Setting("MemoryMax", "t", 2**64 - 1)]),
        ("CPUQuota", "20%", [Setting("CPUQuotaPerSecUSec", "t", 200000)]),
        ("CPUWeight", "idle", [Setting("CPUWeight", "t", 0)]),
        ("TimeoutStopSec", "1.5s", [Setting("TimeoutStopUSec", "t", 1500000)]),
        ("AllowedCPUs", "0-1 8", [Setting("AllowedCPUs", "ay", [3, 1])]),
        ("IPAddressAllow", "10.0.0.0/8", [Setting("IPAddressAllow", "a(iayu)", [(2, [10, 0, 0, 0], 8)])]),
        ("RestrictNamespaces", "yes", [Setting("RestrictNamespaces", "t", 0)]),
        ("LimitNOFILE", "5:10", [Setting("LimitNOFILE", "t", 10), Setting("LimitNOFILESoft", "t", 5)]),
        ("ExecStart", "-/bin/a b", [Setting("ExecStart", "a(sasb)", [("/bin/a", ["/bin/a", "b"], True)])]),
        ("ExecStart", "+/bin/a", [Setting("ExecStartEx", "a(sasas)", [("/bin/a", ["/bin/a"], ["privileged"])])]),
        ("EnvironmentFile", "-/etc/a", [Setting("EnvironmentFiles", "a(sb)", [("/etc/a", True)])]),
        ("StandardOutput", "append:/x", [Setting("StandardOutputFileToAppend", "s", "/x")]),
        ("SystemCallFilter", "~reboot", [Setting("SystemCallFilter", "(bas)", (False, ["reboot"]))]),
        ("Delegate", "cpu memory", [Setting("DelegateControllers", "as", ["cpu", "memory"])]),
        (
            "ConditionPathExists",
            "|!/x",
            [Setting("Conditions", "a(sbbs)", [("ConditionPathExists", True, True, "/x")])],
        ),
        ("SuccessExitStatus", "1 SIGKILL", [Setting("SuccessExitStatus", "(aiai)", ([1], [9]))]),
    ],
)
def test_a_value_goes_over_d_bus_as_systemd_run_sends_it(name: str, value: Any, settings: list[Setting]) -> None:
    made = directives.canonical("service", name, value)
    assert directives.encode("service", {name: made}) == settings


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("MemoryMax", "12 Q", "a size such as 512M"),
        ("MemoryMax", "512MB", "did you mean '512M'?"),
        ("MemoryMax", "120%", "a size such as"),
        ("CPUQuota", "fifty", "for instance 50%"),
        ("CPUQuota", 50, "for instance 50%"),
        ("Restart", "alway", "did you mean 'always'?"),
        ("ProtectSystem", "strickt", "did you mean 'strict'?"),
        ("ExecStart", "bin/web", "write it from /"),
        ("Environment", "A=1 oops", "quote what has blanks"),
        ("KillSignal", "SIGTREM", "did you mean 'SIGTERM'?"),
        ("CapabilityBoundingSet", "CAP_NET_ADMINN", "did you mean 'CAP_NET_ADMIN'?"),
        ("IPAddressAllow", "10.0.0.300", "an IP network"),
        ("UMask", "0999", "octal"),
        ("Nice", "30", "-20 to 19"),
        ("TimeoutStopSec", "5 moons", "did you mean 'months'?"),
        ("IOReadBandwidthMax", "10M", "a device and a rate"),
        ("SystemCallFilter", "@system-service ~@privileged", "write a list"),
        ("User", ["a", "b"], "a text"),
        ("MemoryMax", {"a": 1}, "a size"),
        ("WorkingDirectory", "var/lib", "from /"),
        ("LimitNOFILE", "10:5", "soft:hard"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(name: str, value: Any, hint: str) -> None:
    with pytest.raises(BadValue) as error:
        directives.canonical("service", name, value)
    assert hint in (error.value.hint or "")


@pytest.mark.parametrize(
    ("unit_type", "name", "hint"),
    [
        ("service", "MemoryMaxx", "did you mean 'MemoryMax'?"),
        ("service", "memory_max", "did you mean 'MemoryMax'?"),
        ("slice", "ExecStart", "it belongs to a service"),
        ("service", "OnCalendar", "it belongs to a timer"),
        ("service", "WantedBy", "an apply starts the unit"),
        ("service", "X-Owner", "leave it out"),
    ],
)
def test_an_unknown_directive_is_refused_with_the_one_that_was_meant(unit_type: str, name: str, hint: str) -> None:
    assert hint in (directives.unknown(unit_type, name).hint or "")


@pytest.mark.parametrize(
    ("name", "version"),
    [("OpenFile", 253), ("RestartSteps", 254), ("MemoryZSwapWriteback", 256), ("PrivatePIDs", 257), ("MemoryKSM", 254)],
)
def test_a_directive_is_refused_by_a_systemd_older_than_it(name: str, version: int) -> None:
    assert directives.check(name, version) is None
    assert directives.check(name, 252) == f"{name} needs systemd {version}; this host has 252"


@pytest.mark.parametrize(
    "name", ["MemoryMax", "NetworkNamespacePath", "ProtectProc", "StartupAllowedCPUs", "ExecPaths"]
)
def test_debian_12_has_the_directives_of_252(name: str) -> None:
    assert directives.check(name, 252) is None


@pytest.mark.parametrize(
    ("name", "live"),
    [("MemoryMax", True), ("Description", True), ("IPAddressDeny", True), ("Slice", False), ("ExecStart", False)],
)
def test_resource_control_changes_on_a_running_unit_and_the_rest_does_not(name: str, live: bool) -> None:
    assert directives.directive("service", name).live is live


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [("CPUQuota", "12.5%", "12%"), ("TimeoutStopSec", "1s 500us", "1s")],
)
def test_a_value_that_a_reload_has_cut_is_still_the_same(name: str, wanted: str, found: str) -> None:
    syntax = directives.directive("service", name).syntax
    value = directives.canonical("service", name, wanted)
    assert directives.same(syntax, value, found)
    assert not directives.same(syntax, value, "13%" if name == "CPUQuota" else "2s")
