"""The fields that isolate a unit: what they take, what they bring, whom they refer to, and how plans tell them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.engine.fit import fit
from provisioner.engine.graph import missing_references
from provisioner.model import Address, Declared, Desired, Effect, Issue
from provisioner.resources.unit import Unit

FACTS = {"systemd": 252}
BOTH = pytest.mark.parametrize("systemd", [252, 257])


def web(**fields: Any) -> Unit:
    return Unit(**{"name": "web", "ExecStart": "/bin/web", **fields})


def fitted(*units: Unit, systemd: int = 252) -> tuple[Unit, list[Issue]]:
    """The first of these units as a host has it among the others, and what is wrong with it there."""
    desired = fit(Desired({one.address: Declared(one) for one in units}), {"systemd": systemd})
    made = desired.resources[units[0].address].resource
    assert isinstance(made, Unit)
    return made, [issue for address, issue in desired.concerns if address == units[0].address]


def refused(**fields: Any) -> tuple[str, str]:
    """Why a unit with these fields is none, and what would be right."""
    with pytest.raises(ValidationError) as error:
        web(**fields)
    (one,) = error.value.errors()
    return one["msg"], one["ctx"]["hint"]


def brought(unit: Unit) -> dict[str, dict[str, Any]]:
    return {str(one.address): one.declared() for one in unit.brings()}


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["net pid", "pid, net", ["net", "pid"], ("pid", "net", "pid")])
def test_kinds_are_taken_in_any_order(given: Any) -> None:
    assert web(isolate=given).isolate == ("pid", "net")


def test_all_is_all_eight() -> None:
    assert len(web(isolate="all").kinds) == 8
    assert web(isolate=["all", "pid"]) == web(isolate="all")
    assert web(isolate=[]).kinds == web().kinds == ()


@pytest.mark.parametrize(
    ("fields", "words", "hint"),
    [
        ({"isolate": ["pdi"]}, "no namespaces of kind 'pdi'", "did you mean 'pid'?"),
        ({"isolate": "nothing-like-it"}, "no namespaces", "mount, net, pid"),
        ({"isolate": 5}, "takes kinds", "all"),
        ({"isolate": True}, "takes kinds", "all"),
        ({"isolate": {"pid": True}}, "takes kinds", "all"),
        ({"hostname": "box"}, "hostname needs a uts namespace", "isolate: [uts]"),
        ({"isolate": "pid", "domainname": "lab"}, "domainname needs a uts", "isolate: [pid, uts]"),
        ({"isolate": "pid", "boottime_offset": "1d"}, "needs a time namespace", "isolate: [pid, time]"),
        ({"init": True}, "init needs a pid namespace", "isolate: [pid]"),
        ({"isolate": "uts", "hostname": "a_b"}, "not a host's name", "letters"),
        ({"isolate": "uts", "hostname": "a" * 65}, "not a host's name", "at most 64"),
        ({"isolate": "time", "boottime_offset": "1 moon"}, "", "1d"),
        ({"isolate": "time", "boottime_offset": "infinity"}, "for ever", "1d"),
        ({"isolate": "user", "uid_map": 5}, "not a list of ranges", "0 100000 65536"),
        ({"isolate": "user", "uid_map": ["0 100000"]}, "not a range", "how many"),
        ({"isolate": "user", "uid_map": ["0 100000 0"]}, "not a range", "how many"),
        ({"isolate": "user", "uid_map": ["0 100000 10", "5 200000 10"]}, "overlap inside, at 5", "each user"),
        ({"isolate": "user", "uid_map": ["0 100000 10", "20 100005 10"]}, "overlap outside, at 100005", "each user"),
        ({"isolate": "user", "uid_map": ["0 4294967295 10"]}, "beyond the last", "4294967295"),
        ({"isolate": "user", "uid_map": ["1 100000 10"]}, "no root inside", "0 100000 65536"),
        ({"join": 5}, "join takes a unit", "join: web.service"),
        ({"join": {"pid": 5}}, "join.pid takes a name", "web.service"),
        ({"join": {"pdi": "db"}}, "cannot be joined", "did you mean 'pid'?"),
        ({"join": {"mount": "db"}}, "'mount' cannot be joined", ""),
        ({"join": {"net": "db.socket"}}, "db.socket is no service", "web.service"),
        ({"join": "web"}, "cannot join the net namespace of itself", "isolate: [net]"),
        ({"join": {"uts": "box"}, "isolate": "uts", "hostname": "b"}, "hostname is for its own", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_what_could(fields: dict[str, Any], words: str, hint: str) -> None:
    message, could = refused(**fields)
    assert words in message
    assert hint in could


def test_only_a_service_is_isolated() -> None:
    with pytest.raises(ValidationError, match="a socket cannot be isolated"):
        Unit(name="web.socket", ListenStream="80", isolate="pid")


def test_a_name_that_cannot_name_what_it_brings_is_told() -> None:
    with pytest.raises(ValidationError, match=r"'a:b\.service' cannot name a namespace"):
        Unit(name="a:b", ExecStart="/bin/web", isolate="uts")
    assert Unit(name="a:b", ExecStart="/bin/web", isolate="pid").brings


@pytest.mark.parametrize(
    ("given", "offset"), [("1d", "1d"), (90, "1min 30s"), ("-3600", "-1h"), ("-0", "0"), ("24h", "1d")]
)
def test_an_offset_is_a_time_span_that_may_be_negative(given: Any, offset: str) -> None:
    assert web(isolate="time", boottime_offset=given).boottime_offset == offset


def test_a_map_is_in_the_order_that_the_kernel_tells_it_in() -> None:
    unit = web(isolate="user", uid_map=["1000:200000:10", "0 100000 0010"])
    assert unit.uid_map == ("0 100000 10", "1000 200000 10")


def test_what_it_declares_makes_the_same_unit_again() -> None:
    unit = web(isolate="all", harden="strict", init=True, hostname="box", boottime_offset="1d", uid_map="0 100000 9")
    assert Unit(**unit.declared()) == unit
    made, _ = fitted(unit)
    assert Unit(**made.declared()) == made


# -- what it brings, and what it needs ------------------------------------------------------------


def test_all_brings_what_lasts_without_a_process() -> None:
    kinds = {"namespace/user/web.service", "namespace/uts/web.service", "namespace/time/web.service"}
    found = brought(web(isolate="all"))
    assert kinds | {"netns/web.service"} <= found.keys()
    assert found["namespace/uts/web.service"]["owner"] == "web.service"
    assert found["netns/web.service"]["owner"] == "web.service"


@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({"isolate": ["pid", "mount", "cgroup", "net"]}, set()),
        ({"isolate": ["user"]}, {"namespace/user/web.service"}),
        ({"isolate": ["user", "net"]}, {"namespace/user/web.service", "netns/web.service"}),
        ({"isolate": ["user", "net"], "netns": "blue"}, {"namespace/user/web.service"}),
        ({"isolate": ["user", "net"], "join": {"net": "db"}}, {"namespace/user/web.service"}),
        ({"isolate": ["time"], "join": {"time": "box"}}, set()),
        ({"join": "db"}, set()),
    ],
)
def test_it_brings_no_more_than_it_needs(fields: dict[str, Any], addresses: set[str]) -> None:
    assert {one for one in brought(web(**fields)) if not one.startswith("file/")} == addresses


@pytest.mark.parametrize(
    ("name", "hostname"),
    [("web", "web"), ("web.v2", "web-v2"), ("web@1", "web-1"), ("_", "workload"), ("a" * 62 + "-b", "a" * 62)],
)
def test_without_a_hostname_it_is_the_units_own(name: str, hostname: str) -> None:
    found = brought(Unit(name=name, ExecStart="/bin/web", isolate="uts"))
    assert found[f"namespace/uts/{name}.service"]["hostname"] == hostname


def test_it_goes_with_what_it_is_in() -> None:
    assert Address("namespace", "uts/web.service") in web(isolate="uts").lives_in()
    joined = list(web(join={"uts": "box", "ipc": "mem", "time": "db.service"}).lives_in())
    for one in ("uts/box", "ipc/mem", "time/db.service"):
        assert Address("namespace", one) in joined


def test_a_unit_that_is_joined_comes_first() -> None:
    assert Address("unit", "db.service") in web(join={"pid": "db.service"}).requires()


# -- whose it shares ------------------------------------------------------------------------------


def test_a_unit_is_joined_in_what_it_has_of_its_own() -> None:
    db = web(name="db", isolate=["ipc", "pid"])
    made, issues = fitted(web(join="db"), db)
    assert issues == []
    assert made.directives["JoinsNamespaceOf"] == ("db.service",)
    assert "PrivateNetwork" not in made.directives


def test_the_named_network_of_a_unit_is_joined_by_its_name() -> None:
    made, issues = fitted(web(join="db"), web(name="db", netns="blue"))
    assert (made.netns, issues) == ("blue", [])
    made, issues = fitted(web(join="db", netns="green"), web(name="db", netns="blue"))
    assert [one.field for one in issues] == ["netns"]


@pytest.mark.parametrize(
    ("join", "other", "words"),
    [
        ({"pid": "db.service"}, {"isolate": "ipc"}, "db.service has no pid namespace of its own"),
        ({"net": "db", "ipc": "db.service", "pid": "other.service"}, {"isolate": "ipc"}, "db.service has no net"),
        ("db", {}, "db.service has no network, ipc or pid namespace to share"),
    ],
)  # fmt: skip
@BOTH
def test_what_is_not_there_is_not_joined_in_silence(systemd: int, join: Any, other: dict[str, Any], words: str) -> None:
    units = [web(join=join), web(name="db", **other), web(name="other", isolate="pid")]
    _, issues = fitted(*units, systemd=systemd)
    assert any(words in one.message and one.severity == "error" for one in issues)


# -- on a host, and in plans ----------------------------------------------------------------------


@pytest.mark.parametrize("kinds", ["all", "pid", "uts", "net ipc mount", "user cgroup"])
@pytest.mark.parametrize("harden", [None, "standard"])
@BOTH
def test_what_a_host_has_of_it_is_what_is_wished(systemd: int, kinds: str, harden: Any) -> None:
    made, issues = fitted(web(isolate=kinds, harden=harden), systemd=systemd)
    assert [one for one in issues if one.severity == "error"] == []
    assert made.changes_from(made, made) == []
    assert made.address == web().address
    assert {"namespace/" in str(one) for one in made.lives_in()} <= {True, False}


def test_a_unit_that_says_nothing_of_it_is_left_as_it_is() -> None:
    desired = Desired({web().address: Declared(web())})
    assert fit(desired, FACTS) == desired
    assert fit(Desired({web().address: Declared(web(isolate="all"))}), {}).resources[web().address].resource == web(
        isolate="all"
    )


def told(unit: Unit) -> str:
    return "\n".join(f"{name}: {text}" for name, text in unit.summary())


@BOTH
@pytest.mark.parametrize(
    "fields", [{"isolate": "all", "harden": "strict", "init": True}, {"isolate": "pid", "User": "www-data"}]
)
def test_a_plan_shows_the_way_and_no_launcher(systemd: int, fields: dict[str, Any]) -> None:
    made, _ = fitted(web(**fields, ExecStartPre="/bin/pre"), systemd=systemd)
    text = told(made)
    assert "ExecStart: /bin/web\n" in text + "\n"
    assert "ExecStartPre: /bin/pre\n" in text + "\n"
    for word in ("nsprov-launch", "/bin/sh", "setpriv", "/usr/bin/", "$"):
        assert word not in text
    assert ("unshare (pid" in text) == (systemd == 252)
    assert ("PrivatePIDs" in text) == (systemd == 257)
    assert text.count("User: ") == ("User" in fields)


def changed(before: Unit, after: Unit, systemd: int = 252) -> dict[str, tuple[Any, Any, Effect]]:
    old, new = (fitted(one, web(name="db", isolate="pid"), systemd=systemd)[0] for one in (before, after))
    return {one.field: (one.before, one.after, one.effect) for one in new.changes_from(old, old)}


@BOTH
def test_more_isolation_reads_as_that(systemd: int) -> None:
    found = changed(web(isolate="pid"), web(isolate="all"), systemd)
    assert all(effect is Effect.RESTART for _, _, effect in found.values())
    before, after, _ = found["isolate"]
    assert before == "pid"
    assert "uts (nsenter --uts)" in after
    assert "ExecStart" not in found
    assert "nsprov-launch" not in str(found)


@BOTH
def test_a_new_command_alone_reads_as_a_new_command(systemd: int) -> None:
    found = changed(web(isolate="all"), web(isolate="all", ExecStart="/bin/new"), systemd)
    assert found == {"ExecStart": (["/bin/web"], ["/bin/new"], Effect.RESTART)}


@BOTH
def test_a_hostname_alone_is_no_change_of_the_unit(systemd: int) -> None:
    assert changed(web(isolate="uts", hostname="a"), web(isolate="uts", hostname="b"), systemd) == {}
    (before,), (after,) = (web(isolate="uts", hostname=name).brings() for name in ("a", "b"))
    found = after.changes_from(before, before)
    assert [(one.field, one.effect) for one in found if one.field != "content"] == [("hostname", Effect.LIVE)]


def test_a_limit_of_an_isolated_unit_changes_live() -> None:
    found = changed(web(isolate="all", MemoryMax="1G"), web(isolate="all", MemoryMax="2G"))
    assert {name: effect for name, (_, _, effect) in found.items()} == {"MemoryMax": Effect.LIVE}


def test_no_isolation_any_more_reads_as_nothing() -> None:
    found = changed(web(isolate="uts"), web())
    assert found["isolate"] == ("uts (nsenter --uts)", "nothing", Effect.RESTART)


def test_what_a_launcher_does_otherwise_is_told_as_that() -> None:
    found = changed(web(isolate="pid"), web(isolate="pid", init=True))
    assert found["isolate"][:2] == ("pid", "pid, by another launcher")


@BOTH
def test_what_the_namespaces_are_made_of_is_told_once(systemd: int) -> None:
    found = changed(web(), web(isolate="mount ipc"), systemd)
    after = "mount (PrivateMounts), ipc (PrivateIPC)"
    assert found == {"isolate": ("nothing", after, Effect.RESTART)}


def test_a_profile_is_told_by_its_name_and_what_a_launcher_is_left_beside_it() -> None:
    found = changed(web(isolate="pid user"), web(isolate="pid user", harden="strict"))
    assert found["harden"] == (None, "strict", Effect.RESTART)
    assert found.keys() == {"isolate", "harden", "CapabilityBoundingSet", "SystemCallFilter", "RestrictNamespaces"}
    found = changed(web(harden="standard"), web(harden="strict"))
    assert found["harden"] == ("standard", "strict", Effect.RESTART)


def test_a_unit_to_join_that_is_not_there_is_told_as_that_alone() -> None:
    desired = Desired({web().address: Declared(web(join="nothere"))})
    assert fit(desired, FACTS).concerns == ()
    told = [str(one) for one in missing_references(desired, ()).found]
    assert len(told) == 1
    assert "unit/nothere.service" in told[0]


def test_a_unit_that_is_joined_by_half_its_name_is_told_by_the_whole() -> None:
    _, issues = fitted(web(join={"pid": "db"}), web(name="db", isolate="pid"))
    assert [(one.message, one.hint) for one in issues] == [
        ("join.pid names the namespace pid/db, which is not declared", "if you mean the unit: join: {pid: db.service}")
    ]


def test_a_search_path_is_no_command() -> None:
    found = changed(web(isolate="pid", ExecSearchPath="/a"), web(isolate="pid", ExecSearchPath="/b"))
    assert found == {"ExecSearchPath": (["/a"], ["/b"], Effect.RESTART)}
