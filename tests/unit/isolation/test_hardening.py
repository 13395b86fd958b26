"""Hardening profiles: what each gives a unit, what a unit's own words do to it, and what launchers are left."""

from __future__ import annotations

import pytest

from provisioner import directives
from provisioner.isolation.hardening import Profile, Right, hardened, profile


@pytest.mark.parametrize("systemd", [252, 257])
@pytest.mark.parametrize("name", ["strict", "standard"])
def test_a_profile_is_in_canonical_values_that_go_over_dbus(name: Profile, systemd: int) -> None:
    for directive, value in profile(name, systemd).items():
        assert directives.canonical("service", directive, value) == value
        assert directives.encode("service", {directive: value})
        assert directives.check(directive, systemd) is None


def test_strict_has_all_that_standard_has_or_more_of_it() -> None:
    standard, strict = profile("standard", 252), profile("strict", 252)
    assert standard.keys() < strict.keys()
    differing = {name for name in standard if standard[name] != strict[name]}
    assert differing == {"ProtectSystem", "RestrictAddressFamilies"}


def test_off_is_nothing() -> None:
    assert hardened("off", {}, 252).directives == {}


def test_an_old_systemd_is_given_what_it_knows() -> None:
    assert "ProcSubset" in profile("strict", 247)
    assert "ProcSubset" not in profile("strict", 246)
    assert "PrivateIPC" not in profile("strict", 247)


def test_a_directive_of_the_units_own_wins() -> None:
    made = hardened("strict", {"ProtectSystem": "full", "SystemCallFilter": ("@basic-io",)}, 252)
    assert not {"ProtectSystem", "SystemCallFilter"} & made.directives.keys()
    assert made.directives["ProtectHome"] == "yes"
    assert made.left == ()


def test_a_unit_with_a_user_of_its_own_is_not_given_another() -> None:
    made = hardened("strict", {"User": "www-data"}, 252)
    assert "DynamicUser" not in made.directives
    assert made.directives["PrivateUsers"] == "yes"


def test_what_a_unit_has_in_its_ambient_capabilities_it_keeps() -> None:
    made = hardened("strict", {"AmbientCapabilities": "CAP_NET_BIND_SERVICE"}, 252)
    assert made.directives["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert "PrivateUsers" not in made.directives
    assert [sentence.split()[0] for sentence in made.left] == ["CapabilityBoundingSet", "PrivateUsers"]


def test_a_strict_unit_has_neither_keys_nor_a_ring_past_the_filter() -> None:
    _, refused = profile("strict", 252)["SystemCallFilter"]
    assert refused.startswith("~")
    assert {"@keyring", "io_uring_setup", "io_uring_enter"} <= set(refused[1:].split())


def test_a_launcher_is_left_what_it_needs_and_no_more() -> None:
    made = hardened("strict", {}, 252, {Right.PID_NAMESPACE, Right.MOUNT_NAMESPACE, Right.MOUNT})
    whole = profile("strict", 252)
    assert made.directives["RestrictNamespaces"] == "mnt pid"
    assert made.directives["CapabilityBoundingSet"] == "CAP_SYS_ADMIN CAP_SYS_CHROOT"
    assert made.directives["SystemCallFilter"] == (*whole["SystemCallFilter"], "@mount")
    assert whole.keys() - made.directives.keys() == {"DynamicUser", "PrivateUsers"}
    same = made.directives.keys() - {"RestrictNamespaces", "CapabilityBoundingSet", "SystemCallFilter"}
    assert {name: made.directives[name] for name in same} == {name: whole[name] for name in same}


def test_the_plan_is_told_what_was_left_and_why() -> None:
    made = hardened("strict", {}, 252, {Right.UTS_NAMESPACE, Right.HOSTNAME})
    assert made.left == (
        "ProtectHostname is left out: the launcher sets a hostname",
        "DynamicUser is left out: the launcher starts as root",
        "PrivateUsers is left out: the launcher starts as root",
        "CapabilityBoundingSet keeps CAP_SYS_ADMIN: the launcher enters a uts namespace and sets a hostname",
        "SystemCallFilter allows setdomainname sethostname: the launcher sets a hostname",
        "RestrictNamespaces allows uts: the launcher enters a uts namespace",
    )


@pytest.mark.parametrize("right", list(Right))
def test_each_right_is_told(right: Right) -> None:
    assert any(right.value.does in sentence for sentence in hardened("strict", {}, 252, {right}).left)


def test_a_profile_that_forbids_nothing_of_it_says_nothing() -> None:
    made = hardened("standard", {}, 252, {Right.PID_NAMESPACE, Right.MOUNT})
    assert made.directives == profile("standard", 252)
    assert made.left == ()


def test_a_time_namespace_takes_restrict_namespaces_away_as_it_has_no_word_for_it() -> None:
    made = hardened("strict", {}, 252, {Right.TIME_NAMESPACE, Right.PID_NAMESPACE})
    assert "RestrictNamespaces" not in made.directives
    assert "RestrictNamespaces is left out: the launcher enters a time namespace" in made.left
    own = {"RestrictNamespaces": "pid"}
    assert list(hardened("strict", own, 252, {Right.TIME_NAMESPACE}).refused) == ["RestrictNamespaces"]


def test_ambient_capabilities_and_a_launchers_are_both_kept() -> None:
    made = hardened("strict", {"AmbientCapabilities": "CAP_NET_BIND_SERVICE"}, 252, {Right.PID_NAMESPACE})
    assert made.directives["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE CAP_SYS_ADMIN"
    most = hardened("strict", {"AmbientCapabilities": "~CAP_CHOWN"}, 252, {Right.CHOWN})
    assert most.directives["CapabilityBoundingSet"] == "~"


@pytest.mark.parametrize(
    ("own", "rights", "directive"),
    [
        ({"RestrictNamespaces": "yes"}, {Right.PID_NAMESPACE}, "RestrictNamespaces"),
        ({"RestrictNamespaces": "ipc uts"}, {Right.PID_NAMESPACE}, "RestrictNamespaces"),
        ({"CapabilityBoundingSet": ""}, {Right.MOUNT}, "CapabilityBoundingSet"),
        ({"CapabilityBoundingSet": "~CAP_SYS_ADMIN"}, {Right.MOUNT}, "CapabilityBoundingSet"),
        ({"ProtectHostname": "yes"}, {Right.HOSTNAME}, "ProtectHostname"),
        ({"PrivateUsers": "yes"}, {Right.UTS_NAMESPACE}, "PrivateUsers"),
    ],
)
@pytest.mark.parametrize("name", ["strict", "off"])
def test_what_a_unit_says_itself_holds_and_is_refused_where_its_launcher_cannot_do_with_it(
    own: dict[str, str], rights: set[Right], directive: str, name: Profile
) -> None:
    made = hardened(name, own, 252, rights)
    assert list(made.refused) == [directive]
    assert made.refused[directive].startswith(f"{directive}={own[directive]} forbids what the launcher does: it ")
    assert directive not in made.directives


@pytest.mark.parametrize(
    "own",
    [
        {"RestrictNamespaces": "no"},
        {"RestrictNamespaces": "pid uts"},
        {"CapabilityBoundingSet": "~CAP_CHOWN"},
        {"CapabilityBoundingSet": "CAP_SYS_ADMIN"},
        {"PrivateUsers": "no"},
    ],
)
def test_what_a_unit_says_itself_stands_where_its_launcher_can_do_with_it(own: dict[str, str]) -> None:
    assert hardened("strict", own, 252, {Right.PID_NAMESPACE}).refused == {}
