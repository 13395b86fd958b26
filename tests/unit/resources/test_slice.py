"""Slices: names, directives, and what a change does to what runs in them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from provisioner.model import Address, Effect
from provisioner.resources.slice import Slice


def test_a_name_without_a_suffix_is_a_slice() -> None:
    assert Slice(name="tenants").address == Address("slice", "tenants.slice")


@pytest.mark.parametrize("name", ["-.slice", "a--b.slice", "a-.slice", "a b", "a/b.slice", ""])
def test_a_name_that_systemd_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not the name of a slice"):
        Slice(name=name)


def test_every_wrong_directive_is_reported_at_its_own_name() -> None:
    with pytest.raises(ValidationError) as error:
        Slice(name="a", MemoryMax="12 Q", ExecStart="/bin/true", CPUQuotaa="5%")
    found = {one["loc"]: one for one in error.value.errors()}
    assert set(found) == {("MemoryMax",), ("ExecStart",), ("CPUQuotaa",)}
    assert found[("CPUQuotaa",)]["ctx"]["hint"] == "did you mean 'CPUQuota'?"


def test_the_declared_values_are_systemds_own_and_make_the_same_slice_again() -> None:
    one = Slice(name="a", MemoryMax=536870912, TasksMax=5, IPAddressDeny=["10.0.0.1/8", "any"])
    assert one.declared() == {
        "name": "a.slice",
        "MemoryMax": "512M",
        "TasksMax": "5",
        "IPAddressDeny": ["10.0.0.0/8", "any"],
    }
    assert Slice(**one.declared()) == one


def test_a_limit_changes_live() -> None:
    (change,) = Slice(name="a", MemoryMax="1G").changes_from(Slice(name="a", MemoryMax="512M"), None)
    assert (change.field, change.before, change.after, change.effect) == ("MemoryMax", "512M", "1G", Effect.LIVE)


def test_what_cannot_change_live_makes_the_slice_anew_with_all_that_runs_in_it() -> None:
    (change,) = Slice(name="a", Before="x.target").changes_from(Slice(name="a"), None)
    assert change.effect is Effect.REPLACE


def test_a_limit_that_has_left_the_configuration_goes_back_to_the_default() -> None:
    (change,) = Slice(name="a").changes_from(Slice(name="a", MemoryMax="512M"), Slice(name="a", MemoryMax="512M"))
    assert (change.field, change.before, change.after) == ("MemoryMax", "512M", None)


def test_a_limit_that_is_at_its_default_already_is_not_put_back_again() -> None:
    assert Slice(name="a").changes_from(Slice(name="a", MemoryMax="infinity"), Slice(name="a", MemoryMax="1G")) == []


def test_a_limit_that_somebody_else_has_set_is_left_alone() -> None:
    assert Slice(name="a").changes_from(Slice(name="a", MemoryMax="512M"), Slice(name="a")) == []


def test_an_update_keeps_what_it_does_not_manage_and_drops_what_has_left() -> None:
    current = Slice(name="a", MemoryMax="512M", TasksMax="9", CPUQuota="5%")
    desired = Slice(name="a", MemoryMax="1G")
    changes = desired.changes_from(current, Slice(name="a", MemoryMax="512M", TasksMax="9"))
    after = desired.merged_over(current, changes)
    assert after.declared() == {"name": "a.slice", "CPUQuota": "5%", "MemoryMax": "1G"}


def test_an_older_systemd_is_an_error() -> None:
    one = Slice(name="a", MemoryZSwapWriteback="no", CPUQuota="5%")
    (issue,) = one.check_host({"systemd": 252})
    assert (issue.field, issue.severity) == ("MemoryZSwapWriteback", "error")
    assert "needs systemd 256; this host has 252" in issue.message


def test_a_host_that_can_do_all_of_it_has_no_issues() -> None:
    assert list(Slice(name="a", MemoryMax="1G").check_host({"systemd": 257, "controllers": ["memory"]})) == []


def test_the_kernels_limit_is_checked() -> None:
    (active, limit) = Slice(name="a", MemoryMax="512M").checks()
    assert active.title == "slice/a.slice is active"
    assert "MemoryMax is 512M in the kernel" in limit.title
    assert "'536870912'" in limit.code
    compile(limit.code, "check", "exec")
