"""Units: what they refer to, what a change does to the workload, and what is refused before an apply."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Address, Declared, Desired, Effect
from provisioner.resources.unit import Unit


def _web(**fields: Any) -> Unit:
    return Unit(**{"name": "web", "ExecStart": "/bin/web", **fields})


def test_a_name_without_a_suffix_is_a_service_and_belongs_to_the_host_whatever_its_namespace() -> None:
    assert _web(netns="blue").address == Address("unit", "web.service")
    assert str(_web(netns="blue").address) == "unit/web.service"


@pytest.mark.parametrize(
    ("name", "words"),
    [("web.target", "target"), ("a.slice", "'slice:' task"), ("web@.service", "instance"), ("a b", "letters")],
)
def test_a_name_that_cannot_be_is_refused_with_what_would_be_right(name: str, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        _web(name=name)
    assert words in str(error.value.errors()[0]["ctx"])


def test_a_unit_lives_in_its_namespace_and_its_slice() -> None:
    unit = _web(netns="blue", Slice="tenants-blue.slice")
    homes = [Address("netns", "blue"), Address("slice", "tenants-blue.slice")]
    assert list(unit.lives_in()) == homes
    assert list(unit.requires()) == homes


def test_a_slice_of_systemds_own_need_not_be_declared() -> None:
    assert list(_web(Slice="system.slice").requires()) == []


def test_a_service_that_it_requires_comes_first() -> None:
    assert list(_web(Requires="db.service network.target").requires()) == [Address("unit", "db.service")]


def test_a_namespaces_path_is_the_namespace() -> None:
    assert _web(NetworkNamespacePath="/run/netns/blue") == _web(netns="blue")


def test_two_different_namespaces_are_refused() -> None:
    with pytest.raises(ValidationError, match="but NetworkNamespacePath is"):
        _web(netns="blue", NetworkNamespacePath="/run/netns/green")


def test_what_it_declares_makes_the_same_unit_again() -> None:
    unit = _web(netns="blue", timer={"OnCalendar": "daily"}, Environment={"A": "x y"}, restart_on="file//etc/web.conf")
    assert Unit(**unit.declared()) == unit


def test_a_wrong_directive_of_a_timer_is_reported_at_its_own_place() -> None:
    with pytest.raises(ValidationError) as error:
        _web(timer={"OnCalender": "daily", "AccuracySec": "5 moons"})
    assert {one["loc"] for one in error.value.errors()} == {("timer", "OnCalender"), ("timer", "AccuracySec")}


def test_a_unit_has_a_socket_or_a_timer() -> None:
    with pytest.raises(ValidationError, match="not both"):
        _web(timer={"OnCalendar": "daily"}, socket={"ListenStream": "80"})


def test_a_limit_changes_live_and_a_command_restarts() -> None:
    changes = _web(MemoryMax="1G", ExecStart="/bin/web --new").changes_from(_web(MemoryMax="512M"), None)
    assert {change.field: change.effect for change in changes} == {
        "ExecStart": Effect.RESTART,
        "MemoryMax": Effect.LIVE,
    }


def test_another_namespace_restarts() -> None:
    (change,) = _web(netns="green").changes_from(_web(netns="blue"), None)
    assert (change.field, change.before, change.after, change.effect) == ("netns", "blue", "green", Effect.RESTART)


def test_a_unit_that_has_failed_is_started_again() -> None:
    failed = Unit.observed(name="web.service", state="failed", ExecStart=("/bin/web",))
    (change,) = _web().changes_from(failed, None)
    assert (change.field, change.before, change.after) == ("state", "failed", "started")


def test_a_time_of_its_timer_that_changes_restarts_the_timer() -> None:
    before = _web(timer={"OnCalendar": "daily"})
    (change,) = _web(timer={"OnCalendar": "weekly"}).changes_from(before, before)
    assert (change.field, change.after, change.effect) == ("timer.OnCalendar", ["weekly"], Effect.RESTART)


def test_a_timer_that_has_left_the_configuration_goes() -> None:
    before = _web(timer={"OnCalendar": "daily"})
    (change,) = _web().changes_from(before, before)
    assert (change.field, change.after) == ("timer", None)


def test_nothing_changes_when_nothing_is_different() -> None:
    unit = _web(netns="blue", MemoryMax="512M", After="b.service a.service")
    assert unit.changes_from(_web(netns="blue", MemoryMax=536870912, After=["a.service", "b.service"]), unit) == []


def test_restart_on_names_what_restarts_it() -> None:
    assert list(_web(restart_on=["file//etc/web.conf"]).triggers()) == [Address("file", "/etc/web.conf")]


def _issues(unit: Unit) -> list[str]:
    return [issue.message for issue in unit.audit(Desired({unit.address: Declared(unit)}))]


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (Unit(name="web"), "needs ExecStart"),
        (_web(state="stopped"), "cannot be declared stopped"),
        (_web(ExecStart=["/bin/a", "/bin/b"]), "several ExecStart"),
        (_web(restart_on="file//nope"), "which is not declared"),
    ],
)
def test_what_systemd_would_refuse_is_found_before_an_apply(unit: Unit, words: str) -> None:
    assert words in _issues(unit)[0]


def test_a_sound_unit_has_no_issues() -> None:
    assert _issues(_web()) == []
    assert _issues(_web(Type="oneshot", ExecStart=["/bin/a", "/bin/b"])) == []


def test_what_a_person_reads_of_it() -> None:
    assert _web(netns="blue", Slice="a.slice").summary() == [
        ("netns", "blue"),
        ("ExecStart", "/bin/web"),
        ("Slice", "a.slice"),
    ]


def test_its_checks_say_where_it_runs_and_what_limits_it() -> None:
    checks = list(_web(netns="blue", Slice="a.slice", MemoryMax="64M", User="nobody").checks())
    assert {check.title for check in checks} == {
        "unit/web.service is active",
        "unit/web.service runs in netns blue",
        "unit/web.service is in a.slice",
        "unit/web.service User is nobody",
        "unit/web.service MemoryMax is 64M in the kernel (without its memory controller: in systemd)",
    }
    for check in checks:
        compile(check.code, check.title, "exec")


def test_a_service_with_a_timer_waits_for_it() -> None:
    titles = [check.title for check in _web(timer={"OnCalendar": "daily"}).checks()]
    assert titles == ["unit/web.service waits for its timer"]


def test_no_capability_at_all_is_another_thing_than_none_said() -> None:
    """A unit that says nothing of its bounding set has all of them."""
    bare, plain = _web(CapabilityBoundingSet=""), _web()
    assert [(one.field, one.after) for one in bare.changes_from(plain, plain)] == [("CapabilityBoundingSet", "")]
    assert [(one.field, one.after) for one in plain.changes_from(bare, bare)] == [("CapabilityBoundingSet", None)]
    assert not list(_web(CapabilityBoundingSet="~").changes_from(plain, plain))
