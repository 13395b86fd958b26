"""What is sent is held against the types that the running systemd says it has."""

from __future__ import annotations

import pytest

from provisioner.directives.signatures import fitted, mismatch
from provisioner.directives.syntax import Setting
from provisioner.resources.slice import Slice
from provisioner.resources.unit import Unit

UNLIMITED = 2**64 - 1


def test_a_property_of_the_same_type_is_sent_as_it_is() -> None:
    one = Setting("MemoryMax", "t", 5)
    assert mismatch(one, {"MemoryMax": "t"}) is None
    assert fitted([one], {"MemoryMax": "t"}) == [one]


@pytest.mark.parametrize(
    ("setting", "there", "sent"),
    [
        (Setting("CPUWeight", "t", 100), "u", Setting("CPUWeight", "u", 100)),
        (Setting("CPUWeight", "t", UNLIMITED), "u", Setting("CPUWeight", "u", 2**32 - 1)),
        (Setting("TasksMax", "u", 2**32 - 1), "t", Setting("TasksMax", "t", UNLIMITED)),
        (Setting("Nice", "i", -5), "x", Setting("Nice", "x", -5)),
    ],
)
def test_a_number_is_given_in_the_width_that_this_systemd_has(setting: Setting, there: str, sent: Setting) -> None:
    assert mismatch(setting, {setting.property: there}) is None
    assert fitted([setting], {setting.property: there}) == [sent]


@pytest.mark.parametrize(
    ("setting", "there"),
    [
        (Setting("MemoryMax", "t", 2**40), "u"),
        (Setting("Nice", "i", -5), "u"),
        (Setting("Delegate", "b", True), "s"),
        (Setting("AllowedCPUs", "ay", [1]), "s"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_sent_in_another_form(setting: Setting, there: str) -> None:
    assert f"takes {setting.property} as '{there}'" in str(mismatch(setting, {setting.property: there}))
    assert fitted([setting], {setting.property: there}) == [setting]


def test_a_property_that_is_set_otherwise_than_it_is_read_is_known() -> None:
    has = {"ExecStart": "a(sasbttttuii)", "TTYRows": "q"}
    assert mismatch(Setting("ExecStart", "a(sasb)", []), has) is None
    assert mismatch(Setting("TTYRows", "u", 5), has) is None
    assert fitted([Setting("TTYRows", "u", 5)], has) == [Setting("TTYRows", "u", 5)]
    assert mismatch(Setting("MemoryMaxScale", "u", 5), {}) is None


def test_a_directive_that_this_systemd_has_no_more_is_an_error_at_its_field() -> None:
    facts = {"systemd": 260, "answers": {"signatures slice": {"MemoryMax": "t"}}}
    (issue,) = Slice(name="a", MemoryMax="1G", CPUShares=5).check_host(facts)
    assert (issue.field, issue.severity) == ("CPUShares", "error")
    assert issue.message == "CPUShares cannot be set: this host's systemd has no property CPUShares"


def test_a_value_that_came_with_a_later_systemd_is_an_error_where_the_directive_itself_is_older() -> None:
    one = Unit(name="a", ExecStart="/bin/true", PrivateUsers="full")
    there = {"ExecStart": "a(sasbttttuii)", "PrivateUsers": "b"}
    (issue,) = one.check_host({"systemd": 252, "answers": {"signatures service": there}})
    assert issue.message == "PrivateUsers cannot be full: this host's systemd has no property PrivateUsersEx"
    assert issue.field == "PrivateUsers"


def test_a_units_socket_is_held_against_the_types_of_sockets() -> None:
    one = Unit(name="a", ExecStart="/bin/true", socket={"ListenStream": "80", "Backlog": 5})
    assert set(one.questions()) == {"signatures service", "signatures socket"}
    answers = {"signatures service": {}, "signatures socket": {"Listen": "a(ss)", "Backlog": "s"}}
    (issue,) = one.check_host({"systemd": 257, "answers": answers})
    assert issue.field == "socket.Backlog"


def test_where_nothing_is_known_of_a_systemd_nothing_is_held_against_it() -> None:
    assert list(Slice(name="a", CPUShares=5).check_host({"systemd": 257, "answers": {"signatures slice": None}})) == []
