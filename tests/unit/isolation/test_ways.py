"""Which way each kind is carried out on each systemd, what goes together, and what is refused with what could be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from provisioner import directives
from provisioner.directives import Value
from provisioner.isolation.launch import workload_of
from provisioner.isolation.ways import KINDS, CarriedOut, Wish, carried_out, ways

BOTH = pytest.mark.parametrize("systemd", [252, 257])


def own(**given: Any) -> Mapping[str, Value]:
    return {
        name: directives.canonical("service", name, value)
        for name, value in {"ExecStart": "/usr/bin/web", **given}.items()
    }


def made(*kinds: Any, systemd: int = 252, given: Mapping[str, Any] | None = None, **fields: Any) -> CarriedOut:
    pins = {kind: f"/run/nsprov/ns/{kind}/web.service" for kind in ("user", "uts", "time") if kind in kinds}
    fields = {"pins": pins, **fields}
    return carried_out(Wish("web.service", frozenset(kinds), own(**(given or {})), **fields), systemd)


def troubles(found: CarriedOut) -> list[tuple[str | None, str]]:
    return [(one.field, one.message) for one in found.troubles]


def launcher(found: CarriedOut, name: str = "ExecStart") -> str:
    (command,) = found.directives[name]
    return workload_of(str(command))[0]


# -- each kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "on_252", "on_257"),
    [
        ("mount", "PrivateMounts", "PrivateMounts"),
        ("pid", "unshare --pid", "PrivatePIDs"),
        ("net", "PrivateNetwork", "PrivateNetwork"),
        ("ipc", "PrivateIPC", "PrivateIPC"),
        ("uts", "nsenter --uts", "nsenter --uts"),
        ("user", "nsenter --user", "nsenter --user"),
        ("cgroup", "unshare --cgroup", "ProtectControlGroups=strict"),
        ("time", "nsenter --time", "nsenter --time"),
    ],
)
def test_each_kind_alone_is_carried_out_by(kind: Any, on_252: str, on_257: str) -> None:
    for systemd, way in ((252, on_252), (257, on_257)):
        found = made(kind, systemd=systemd)
        assert found.troubles == ()
        assert ways(found.directives) == {kind: way}


@BOTH
def test_all_eight_go_together(systemd: int) -> None:
    found = made(*KINDS, systemd=systemd, netns="web.service")
    assert found.troubles == ()
    assert list(ways(found.directives, "web.service")) == list(KINDS)
    assert ways(found.directives, "web.service")["net"] == "NetworkNamespacePath"


@BOTH
def test_nothing_wished_is_what_the_unit_says(systemd: int) -> None:
    assert made(systemd=systemd).directives == own()
    assert ways(own()) == {}


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_what_carries_a_kind_out_goes_over_dbus(systemd: int, kind: Any) -> None:
    found = made(kind, systemd=systemd, profile="strict", given={"User": "www-data"})
    for name, value in found.directives.items():
        assert directives.canonical("service", name, value) == value
        assert directives.check(name, systemd) is None
    assert directives.encode("service", found.directives)


def test_a_path_of_an_ipc_namespace_has_private_ipc_with_it() -> None:
    """systemd 252 looks at the path only where there is a namespace of its own to be made."""
    found = made(ipc_path="/run/nsprov/ns/ipc/box")
    assert found.directives["PrivateIPC"] == "yes"
    assert ways(found.directives) == {"ipc": "IPCNamespacePath"}


# -- the commands ---------------------------------------------------------------------------------


def test_every_command_that_is_started_is_isolated() -> None:
    commands = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecStopPost")
    found = made("pid", "uts", given=dict.fromkeys(commands, "/bin/it"))
    for name in commands:
        assert "unshare" in launcher(found, name)
        assert workload_of(found.directives[name][0])[1] == "/bin/it"


def test_an_init_is_the_workloads_alone() -> None:
    found = made("pid", init=True, given={"ExecStartPre": "/bin/it"})
    assert "init=" in launcher(found)
    assert "init=" not in launcher(found, "ExecStartPre")


@BOTH
@pytest.mark.parametrize(("prefix", "said"), [("+", "past the isolation"), ("!", "past"), ("@", "another name")])
def test_a_prefix_that_goes_past_is_refused_where_it_stands(systemd: int, prefix: str, said: str) -> None:
    found = made("uts", systemd=systemd, given={"ExecStartPre": f"{prefix}/bin/it it"})
    ((field, message),) = troubles(found)
    assert field == "ExecStartPre"
    assert said in message
    assert found.troubles[0].hint


def test_a_directive_of_systemds_own_takes_any_prefix() -> None:
    assert made("pid", systemd=257, given={"ExecStartPre": "+/bin/it"}).troubles == ()


# -- how it ends ----------------------------------------------------------------------------------


@BOTH
def test_what_is_first_and_deaf_does_not_take_ninety_seconds_to_stop(systemd: int) -> None:
    assert made("pid", systemd=systemd).directives["TimeoutStopSec"] == "10s"
    assert "TimeoutStopSec" not in made("pid", systemd=systemd, init=True).directives
    assert "TimeoutStopSec" not in made("ipc", systemd=systemd).directives
    assert "TimeoutStopSec" not in made("pid", systemd=systemd, given={"KillSignal": "SIGINT"}).directives
    assert made("pid", systemd=systemd, given={"TimeoutStopSec": "1h"}).directives["TimeoutStopSec"] == "1h"


@BOTH
def test_an_init_that_ends_by_the_stop_has_not_failed(systemd: int) -> None:
    assert made("pid", systemd=systemd, init=True).directives["SuccessExitStatus"] == ("143",)
    given = {"SuccessExitStatus": "3"}
    assert set(made("pid", systemd=systemd, init=True, given=given).directives["SuccessExitStatus"]) == {"3", "143"}
    assert "SuccessExitStatus" not in made("pid", systemd=systemd).directives


def test_a_signal_to_the_launcher_alone_is_refused() -> None:
    ((field, message),) = troubles(made("pid", given={"KillMode": "mixed"}))
    assert field == "KillMode"
    assert "launcher alone" in message
    assert made("pid", systemd=257, given={"KillMode": "mixed"}).troubles == ()


@BOTH
def test_who_notifies_is_not_who_systemd_started(systemd: int) -> None:
    assert made("uts", systemd=systemd, given={"Type": "notify"}).directives["NotifyAccess"] == "all"
    assert made("uts", given={"Type": "notify", "NotifyAccess": "main"}).directives["NotifyAccess"] == "main"
    assert "NotifyAccess" not in made("uts", systemd=systemd).directives


@BOTH
def test_what_is_told_its_number_is_told_the_one_inside(systemd: int) -> None:
    assert "LISTEN_PID" in launcher(made("pid", systemd=systemd, by_socket=True))
    assert "WATCHDOG_PID" in launcher(made("pid", systemd=systemd, given={"WatchdogSec": "5s"}))
    assert "LISTEN_PID" not in launcher(made("pid", systemd=systemd))
    assert launcher(made("ipc", systemd=systemd, by_socket=True)) == ""


# -- who it is, and what it may -------------------------------------------------------------------


def test_a_user_is_what_the_launcher_becomes_in_the_end() -> None:
    found = made("pid", given={"User": "www-data", "Group": "adm", "SupplementaryGroups": "a b"})
    assert found.directives["User"] == "www-data"  # folders and credentials are made for it
    assert found.directives["ExecStart"][0].startswith("!")  # but the launcher starts as root
    assert "--reuid=www-data --regid=adm --groups=a,b" in launcher(found)


@BOTH
def test_with_users_of_its_own_systemd_knows_no_user(systemd: int) -> None:
    found = made("user", systemd=systemd, given={"User": "www-data", "Group": "adm"})
    assert not {"User", "Group"} & found.directives.keys()
    assert "--reuid=www-data --regid=adm" in launcher(found)
    alone = made("user", systemd=systemd, given={"Group": "adm"})
    assert "Group" not in alone.directives
    assert "--regid=adm" in launcher(alone)


def test_a_group_alone_stays_systemds() -> None:
    found = made("pid", given={"Group": "adm"})
    assert found.directives["Group"] == "adm"
    assert "setpriv" not in launcher(found)


def test_the_units_own_bounding_set_is_the_workloads_and_the_launcher_has_what_it_needs() -> None:
    found = made("pid", given={"CapabilityBoundingSet": "CAP_KILL"})
    kept = str(found.directives["CapabilityBoundingSet"]).split()
    assert kept == ["CAP_KILL", "CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]
    assert "--bounding-set=-all,+kill" in launcher(found)
    without = made("pid", given={"CapabilityBoundingSet": "~CAP_KILL CAP_SYS_ADMIN"})
    assert without.directives["CapabilityBoundingSet"] == "~CAP_KILL"
    assert "--bounding-set=-kill,-sys_admin" in launcher(without)
    assert "setpriv" not in launcher(made("pid", given={"CapabilityBoundingSet": "~"}))


def test_folders_and_credentials_are_handed_to_the_users_inside() -> None:
    handed = launcher(made("user", given={"StateDirectory": "web", "SetCredential": "a:b"}))
    assert "chown -R $$own:$$own $$d" in handed
    assert "CREDENTIALS_DIRECTORY" in handed
    assert "chown" not in launcher(made("pid", given={"StateDirectory": "web"}))


# -- hardening ------------------------------------------------------------------------------------


def test_what_a_profile_leaves_to_a_launcher_is_told() -> None:
    found = made("pid", profile="strict", given={"User": "www-data"})
    assert found.troubles == ()
    assert found.left[-1] == "the workload itself is left no capability in the end"
    assert any(one.startswith("RestrictNamespaces allows mnt pid") for one in found.left)
    assert "--bounding-set=-all " in launcher(found)
    assert made("mount", "net", profile="strict").left == ()


def test_strict_needs_users_or_a_user_beside_a_launcher() -> None:
    ((field, message),) = troubles(made("pid", profile="strict"))
    assert field == "isolate"
    assert "DynamicUser, which goes with no launcher" in message
    assert made("pid", "user", profile="strict").troubles == ()
    assert made("pid", profile="strict", given={"User": "www-data"}).troubles == ()
    assert made("pid", profile="standard").troubles == ()
    assert made("pid", profile="strict", systemd=257).troubles == ()  # no launcher there


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"RestrictNamespaces": "yes"}, "RestrictNamespaces"),
        ({"RestrictNamespaces": "net"}, "RestrictNamespaces"),
    ],
)
def test_a_directive_of_its_own_that_forbids_the_launcher_is_refused(given: dict[str, str], field: str) -> None:
    found = made("pid", profile="standard", given=given)
    assert [one.field for one in found.troubles] == [field]
    assert made("pid", systemd=257, profile="standard", given=given).troubles == ()


def test_a_directive_that_forbids_the_launcher_is_refused_without_a_profile_too() -> None:
    assert [one.field for one in made("pid", given={"RestrictNamespaces": "yes"}).troubles] == ["RestrictNamespaces"]


# -- what cannot be -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("kinds", "given", "field", "words"),
    [
        (("pid",), {"Type": "forking"}, "Type", "forking"),
        (("user",), {"DynamicUser": "yes"}, "DynamicUser", "asks for others"),
        (("user",), {"PrivateUsers": "yes"}, "PrivateUsers", "asks for others"),
        (("uts",), {"DynamicUser": "yes"}, "DynamicUser", "goes with no launcher"),
        (("mount",), {"PrivateMounts": "no"}, "PrivateMounts", "the unit says PrivateMounts=no"),
        (("ipc",), {"PrivateIPC": "no"}, "PrivateIPC", "the unit says PrivateIPC=no"),
    ],
)
def test_what_contradicts_is_refused_on_each_systemd(
    systemd: int, kinds: tuple[Any, ...], given: dict[str, str], field: str, words: str
) -> None:
    ((where, message),) = troubles(made(*kinds, systemd=systemd, given=given))
    assert where == field
    assert words in message


@pytest.mark.parametrize("name", ["ExecReload", "ExecStop"])
def test_a_command_about_the_main_process_has_another_number_for_it(name: str) -> None:
    ((field, _),) = troubles(made("pid", given={name: "/bin/kill -HUP $MAINPID"}))
    assert field == name
    assert made("uts", given={name: "/bin/kill -HUP $MAINPID"}).troubles == ()
    assert made("pid", systemd=257, given={name: "/bin/kill -HUP $MAINPID"}).troubles == ()


def test_a_network_that_is_named_is_no_private_one() -> None:
    ((_, message),) = troubles(made("net", netns="blue", given={"PrivateNetwork": "yes"}))
    assert "PrivateNetwork asks for another" in message


@BOTH
def test_control_groups_that_are_read_only_are_less_than_a_namespace(systemd: int) -> None:
    assert made("cgroup", systemd=systemd, given={"ProtectControlGroups": "yes"}).troubles == ()
    strict = made("cgroup", systemd=257, given={"ProtectControlGroups": "yes"}).directives["ProtectControlGroups"]
    assert strict == "strict"


# -- sharing --------------------------------------------------------------------------------------


@BOTH
def test_what_is_shared_is_bound_to_the_other_unit(systemd: int) -> None:
    found = made(
        systemd=systemd, net_of="db.service", ipc_of="db.service", pid_of="db.service",
        given={"After": "a.service", "JoinsNamespaceOf": "c.service"},
    )  # fmt: skip
    assert set(found.directives["JoinsNamespaceOf"]) == {"c.service", "db.service"}
    assert found.directives["BindsTo"] == ("db.service",)
    assert set(found.directives["After"]) == {"a.service", "db.service"}
    assert found.directives["PrivateNetwork"] == found.directives["PrivateIPC"] == "yes"
    assert "--pid=/proc/" in launcher(found)
    assert "PrivatePIDs" not in found.directives


@BOTH
def test_a_pid_namespace_that_is_joined_is_told_as_entered(systemd: int) -> None:
    assert ways(made(systemd=systemd, pid_of="db.service").directives) == {"pid": "nsenter --pid"}


@BOTH
def test_all_of_its_own_but_what_it_joins(systemd: int) -> None:
    found = made(*KINDS, systemd=systemd, netns="db.service", pid_of="db.service", ipc_of="db.service")
    assert found.troubles == ()
    assert ways(found.directives, "db.service")["pid"] == "nsenter --pid"
    assert "PrivatePIDs" not in found.directives
