"""Limits in a tree of slices: what does not fit together, and what a host cannot hold, is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provisioner.engine.graph import audited, check_desired, concerns, place, told_once
from provisioner.errors import Source
from provisioner.model import Declared, Desired
from provisioner.resources import kind_of

REAL: dict[str, Any] = {
    "systemd": 257,
    "controllers": ["cpuset", "cpu", "io", "memory", "pids"],
    "lacking": {},
    "sandbox": False,
    "memory_mib": 4096,
}
#: A machine whose limits are in the hands of cgroup v1.
HYBRID = REAL | {"controllers": ["pids"], "lacking": dict.fromkeys(("cpuset", "cpu", "io", "memory"), "v1")}


def desired(*tasks: dict[str, Any]) -> Desired:
    """Resources as if each was a task on a line of its own, and each field in a column of its own."""
    made = {}
    for line, fields in enumerate(tasks, 1):
        kind = "slice" if fields["name"].endswith(".slice") else "unit"
        if kind == "unit":
            fields = {"ExecStart": "/bin/true", **fields}
        resource = kind_of(kind).resource(**fields)
        fields_at = {name: Source("main.yml", line, column) for column, name in enumerate(fields, 2)}
        made[resource.address] = Declared(resource, Source("main.yml", line), fields=fields_at)
    return Desired(made)


def errors(*tasks: dict[str, Any]) -> list[str]:
    return [str(one) for one in check_desired(desired(*tasks)).found]


def warnings(*tasks: dict[str, Any]) -> list[str]:
    assert errors(*tasks) == []
    return concerns(desired(*tasks))


def on_host(facts: dict[str, Any], *tasks: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told on a host, with its severity."""
    return [(issue.severity, str(place(issue, one))) for one, issue in audited(desired(*tasks), facts)]


# -- protection -----------------------------------------------------------------------------------


def test_children_that_promise_more_memory_than_their_slice_has_are_an_error() -> None:
    (error,) = errors(
        {"name": "t.slice", "MemoryMin": "512M"},
        {"name": "t-a.slice", "MemoryMin": "512M"},
        {"name": "b.service", "Slice": "t.slice", "MemoryMin": "256M"},
    )
    assert error == (
        "main.yml:1:3: slice/t.slice: MemoryMin is 512M, but 768M is promised to what lies in it: "
        "slice/t-a.slice 512M (main.yml:2:3), unit/b.service 256M (main.yml:3:5)\n"
        "    MemoryMin: 768M here, or less there: the kernel would cut each of them down"
    )


def test_children_that_promise_just_what_their_slice_has_are_fine() -> None:
    tasks = (
        {"name": "t.slice", "MemoryMin": "512M"},
        {"name": "t-a.slice", "MemoryMin": "256M"},
        {"name": "t-b.slice", "MemoryMin": "256M"},
    )
    assert warnings(*tasks) == []


def test_a_guarantee_in_a_slice_that_has_none_is_an_error_since_the_kernel_would_ignore_it() -> None:
    (error,) = errors({"name": "t.slice"}, {"name": "t-a.slice", "MemoryMin": "64M"})
    assert error.startswith(
        "main.yml:1:1: slice/t.slice: it has no MemoryMin, so that what lies in it is not protected"
    )
    assert "slice/t-a.slice 64M (main.yml:2:3)" in error
    assert "MemoryMin: 64M here" in error


def test_infinity_is_all_that_the_slice_has_to_give() -> None:
    tasks = (
        {"name": "t.slice", "MemoryMin": "1G"},
        {"name": "t-a.slice", "MemoryMin": "infinity"},
        {"name": "t-b.slice", "MemoryMin": "512M"},
    )
    assert warnings(*tasks) == []
    assert on_host(REAL, {"name": "t.slice", "MemoryMin": "infinity"}) == []
    (error,) = errors({"name": "t.slice"}, {"name": "t-a.slice", "MemoryMin": "infinity"})
    assert "MemoryMin: infinity here" in error


def test_memory_that_is_only_kept_as_long_as_it_can_be_is_a_warning() -> None:
    (warning,) = warnings({"name": "t.slice", "MemoryLow": "1M"}, {"name": "t-a.slice", "MemoryLow": "64M"})
    assert "MemoryLow is 1M, but 64M is promised" in warning


def test_a_guarantee_in_a_slice_that_is_not_declared_is_a_warning_as_others_may_have_set_it_up() -> None:
    (warning,) = warnings({"name": "t-a.slice", "MemoryMin": "64M"})
    assert "unless t.slice, in which it lies, has MemoryMin as well" in warning
    assert "declare t.slice with MemoryMin: 64M or more" in warning


def test_a_service_without_a_slice_lies_in_systems_which_guarantees_nothing() -> None:
    (warning,) = warnings({"name": "a.service", "MemoryMin": "64M"})
    assert "unless system.slice" in warning
    assert "put it in a slice of its own" in warning


def test_an_instance_lies_in_the_slice_that_systemd_makes_for_its_template() -> None:
    (warning,) = warnings({"name": "my-web@1.service", "MemoryMin": "64M"})
    assert "unless system-my\\x2dweb.slice" in warning


def test_a_default_of_a_slice_above_is_a_promise_too() -> None:
    (error,) = errors(
        {"name": "t.slice", "MemoryMin": "10M", "DefaultMemoryMin": "8M"},
        {"name": "a.service", "Slice": "t.slice"},
        {"name": "b.service", "Slice": "t.slice"},
    )
    assert "MemoryMin is 10M, but 16M is promised" in error


def test_a_slice_in_the_middle_has_what_the_default_above_gives_it() -> None:
    tasks = (
        {"name": "t.slice", "MemoryMin": "64M", "DefaultMemoryMin": "64M"},
        {"name": "t-a.slice"},
        {"name": "a.service", "Slice": "t-a.slice", "MemoryMin": "64M"},
    )
    assert warnings(*tasks) == []


def test_percentages_are_compared_with_each_other_and_with_sizes_where_the_memory_is_known() -> None:
    shares = ({"name": "t.slice", "MemoryMin": "10%"}, {"name": "t-a.slice", "MemoryMin": "20%"})
    (error,) = errors(*shares)
    assert "MemoryMin is 10%, but 20% is promised" in error
    mixed = ({"name": "t.slice", "MemoryMin": "1G"}, {"name": "t-a.slice", "MemoryMin": "50%"})
    assert warnings(*mixed) == []
    ((severity, text),) = on_host(REAL, *mixed)
    assert severity == "error"
    assert "MemoryMin is 1G, but 50% is promised" in text


def test_more_memory_than_the_machine_has_cannot_be_guaranteed() -> None:
    tasks = ({"name": "a.slice", "MemoryMin": "3G"}, {"name": "b.slice", "MemoryMin": "2G"})
    ((severity, text),) = on_host(REAL, *tasks)
    assert severity == "error"
    assert "slice/a.slice 3G (main.yml:1:3), slice/b.slice 2G (main.yml:2:3) is 5G together" in text
    ((severity, _),) = on_host(REAL | {"sandbox": True}, *tasks)
    assert severity == "warning"


# -- ceilings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directive", "above", "below"),
    [
        ("MemoryMax", "1G", "2G"),
        ("MemoryHigh", "1G", "2G"),
        ("MemorySwapMax", "0", "1M"),
        ("MemoryZSwapMax", "1M", "2M"),
        ("TasksMax", "10", "11"),
        ("TasksMax", "10%", "11%"),
        ("CPUQuota", "50%", "50.5%"),
        ("IOReadBandwidthMax", "/dev/vda 10M", "/dev/vda 10001K"),
        ("IOWriteIOPSMax", ["/dev/vda 100", "/dev/vdb 5"], "/dev/vdb 6"),
        ("AllowedCPUs", "0-3", "3-4"),
        ("AllowedMemoryNodes", "0", "1"),
    ],
)
def test_a_child_above_its_slices_maximum_is_a_warning_that_names_both(directive: str, above: Any, below: Any) -> None:
    (warning,) = warnings(
        {"name": "t.slice", directive: above}, {"name": "a.service", "Slice": "t.slice", directive: below}
    )
    assert warning.startswith("main.yml:2:5: unit/a.service: ")
    assert "slice/t.slice (main.yml:1:3), in which it lies" in warning
    assert (
        warnings({"name": "t.slice", directive: above}, {"name": "a.service", "Slice": "t.slice", directive: above})
        == []
    )


def test_the_nearest_slice_with_a_maximum_counts_though_others_lie_between() -> None:
    (warning,) = warnings(
        {"name": "t.slice", "MemoryMax": "1G"},
        {"name": "a.service", "Slice": "t-a-b.slice", "MemoryMax": "2G"},
    )
    assert "MemoryMax 2G is above MemoryMax 1G of slice/t.slice" in warning


def test_a_slice_lies_in_the_one_that_its_name_begins_with_as_deep_as_it_goes() -> None:
    (warning,) = warnings({"name": "a-b.slice", "TasksMax": 5}, {"name": "a-b-c.slice", "TasksMax": 6})
    assert "slice/a-b-c.slice: TasksMax 6 is above TasksMax 5 of slice/a-b.slice" in warning


def test_no_limit_of_its_own_in_a_slice_that_has_one_is_fine() -> None:
    assert warnings({"name": "t.slice", "MemoryMax": "1G"}, {"name": "t-a.slice", "MemoryMax": "infinity"}) == []


def test_one_that_is_slowed_down_only_above_its_slices_maximum_is_a_warning() -> None:
    (warning,) = warnings({"name": "t.slice", "MemoryMax": "1G"}, {"name": "t-a.slice", "MemoryHigh": "2G"})
    assert "MemoryHigh 2G is above MemoryMax 1G" in warning


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"MemoryMin": "2G", "MemoryMax": "1G"}, "MemoryMin 2G is above its own MemoryMax 1G (main.yml:1:4)"),
        ({"MemoryHigh": "2G", "MemoryMax": "1G"}, "MemoryHigh 2G is above its own MemoryMax 1G"),
        ({"MemoryLow": "60%", "MemoryHigh": "50%"}, "MemoryLow 60% is above its own MemoryHigh 50%"),
    ],
)
def test_limits_of_one_slice_in_the_wrong_order_are_a_warning(fields: dict[str, str], told: str) -> None:
    (warning,) = warnings({"name": "t.slice", **fields})
    assert told in warning


def test_no_high_mark_is_not_above_a_maximum() -> None:
    assert warnings({"name": "t.slice", "MemoryHigh": "infinity", "MemoryMax": "1G"}) == []


def test_a_limit_whose_controller_is_taken_away_above_is_an_error() -> None:
    (error,) = errors(
        {"name": "t.slice", "DisableControllers": "memory cpu", "MemoryMax": "1G"},
        {"name": "a.service", "Slice": "t-x.slice", "MemoryMax": "1M", "TasksMax": 5},
    )
    assert "MemoryMax needs the controller 'memory', which DisableControllers of slice/t.slice (main.yml:1:3)" in error


def test_what_cgroup_v1_had_names_what_takes_its_place() -> None:
    (warning,) = warnings({"name": "t.slice", "CPUShares": 512})
    assert "write CPUWeight" in warning


def test_the_same_in_every_round_of_a_loop_is_told_once() -> None:
    tasks = [{"name": f"{name}.service", "MemoryMin": "1M"} for name in "abc"]
    (warning,) = warnings(*tasks)
    assert warning.startswith("main.yml:1:4: unit/a.service and 2 more: MemoryMin 1M")


# -- a host ---------------------------------------------------------------------------------------


def test_on_a_host_without_controllers_every_limit_that_needs_one_is_an_error_with_what_mends_it() -> None:
    found = on_host(
        HYBRID,
        {"name": "t.slice", "MemoryMax": "1G", "TasksMax": 5},
        {"name": "a.service", "Slice": "t.slice", "CPUQuota": "5%", "AllowedCPUs": "0", "IOWeight": 5},
    )
    assert [severity for severity, _ in found] == ["error"] * 4
    assert found[0][1] == (
        "main.yml:1:3: slice/t.slice: MemoryMax needs the cgroup v2 controller 'memory', which this host lacks: "
        "cgroup v1 holds it\n"
        "    add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"
    )
    assert [text.split(": ")[2].split()[0] for _, text in found[1:]] == ["CPUQuota", "AllowedCPUs", "IOWeight"]


def test_a_loop_over_one_line_is_one_error() -> None:
    tasks = desired({"name": "a.slice", "MemoryMax": "1G"}, {"name": "b.slice", "MemoryMax": "1G"})
    first, second = tasks.resources.values()
    loop = Desired(dict(zip(tasks.resources, (first, replace(second, fields=first.fields)), strict=True)))
    ((_, issue),) = audited(loop, HYBRID)
    assert issue.message.endswith("cgroup v1 holds it (so it is for 1 more from here)")


@pytest.mark.parametrize(
    "fields",
    [
        {"MemoryMax": "infinity"},
        {"MemoryMin": "0"},
        {"CPUQuota": ""},
        {"MemoryAccounting": "no"},
        {"IOReadBandwidthMax": "/dev/vda infinity"},
        {"MemoryZSwapWriteback": "yes"},
        {"IPAddressDeny": "any"},
        {"TasksMax": 5},
    ],
)
def test_a_value_that_limits_nothing_needs_no_controller(fields: dict[str, Any]) -> None:
    assert on_host(HYBRID, {"name": "t.slice", **fields}) == []


def test_no_swap_at_all_is_a_limit() -> None:
    ((_, text),) = on_host(HYBRID, {"name": "t.slice", "MemorySwapMax": 0})
    assert "MemorySwapMax needs the cgroup v2 controller 'memory'" in text


def test_a_sandbox_says_in_one_line_that_limits_are_recorded_only() -> None:
    tasks = desired(
        {"name": "t.slice", "MemoryMax": "1G", "TasksMax": 5},
        {"name": "a.service", "Slice": "t.slice", "CPUQuota": "5%"},
    )
    found = list(audited(tasks, HYBRID | {"sandbox": True}))
    assert {issue.severity for _, issue in found} == {"warning"}
    (told,) = told_once(found)
    assert told == (
        "main.yml:1:1: slice/t.slice and 1 more: limits are recorded, not enforced: the kernel lends this sandbox no "
        "cpu and memory controller (for CPUQuota and MemoryMax)"
    )


def test_a_device_that_is_not_there_is_an_error_but_in_a_sandbox_which_has_none() -> None:
    task = {"name": "t.slice", "IOReadBandwidthMax": ["/dev/vda 1M", "/dev/vdz 1M"]}
    answers = {"block-device /dev/vda": "", "block-device /dev/vdz": "is not on this host"}
    ((severity, text),) = on_host(REAL | {"answers": answers}, task)
    assert severity == "error"
    assert text.startswith("main.yml:1:3: slice/t.slice: IOReadBandwidthMax: /dev/vdz is not on this host\n")
    assert on_host(REAL | {"answers": answers, "sandbox": True}, task) == []


def test_cpus_that_a_host_has_not_are_an_error() -> None:
    ((severity, text),) = on_host(REAL | {"answers": {"cpus": "0-3"}}, {"name": "t.slice", "AllowedCPUs": "2-5"})
    assert severity == "error"
    assert "AllowedCPUs 2-5 names CPUs that this host has not: its CPUs are 0-3\n    AllowedCPUs: 2-3" in text
    there = REAL | {"answers": {"cpus": "0-3"}, "sandbox": True}
    ((severity, _),) = on_host(there, {"name": "t.slice", "AllowedCPUs": "2-5"})
    assert severity == "warning"


def test_a_kernel_that_has_the_controller_without_the_file_is_an_error() -> None:
    answers = {"cgroup-file memory.zswap.max": True, "cgroup-file memory.zswap.writeback": False}
    task = {"name": "t.slice", "MemoryZSwapWriteback": "no", "MemoryZSwapMax": "1M"}
    ((severity, text),) = on_host(REAL | {"answers": answers}, task)
    assert severity == "error"
    assert "MemoryZSwapWriteback needs memory.zswap.writeback, which this host's kernel has not" in text
    assert "Linux 6.8" in text
    answers = dict.fromkeys(answers, None)  # this host has nothing to tell it by
    assert on_host(REAL | {"answers": answers}, task) == []


def test_a_weight_that_no_disk_goes_by_is_a_warning_and_one_that_the_kernel_refuses_an_error() -> None:
    answers = {"weighing-disks": False, "weighing-disk /dev/vda": False, "weighing-disk /dev/vdb": True}
    task = {"name": "t.slice", "IOWeight": 50, "IODeviceWeight": ["/dev/vda 50", "/dev/vdb 50"]}
    (weak, refused) = on_host(REAL | {"answers": answers}, task)
    assert weak[0] == "warning"
    assert "IOWeight shares out no disk of this host" in weak[1]
    assert refused[0] == "error"
    assert "IODeviceWeight: /dev/vda takes no weight" in refused[1]
    assert "echo bfq > /sys/block/vda/queue/scheduler" in refused[1]


def test_only_what_a_configuration_has_is_asked_of_a_host() -> None:
    slice_kind = kind_of("slice").resource
    assert list(slice_kind(name="t").questions()) == []
    assert list(slice_kind(name="t", MemoryMax="1G").questions()) == ["signatures slice"]
    asked = slice_kind(name="t", IOWriteIOPSMax="/dev/vda 5", AllowedCPUs="0", MemoryZSwapMax="1M").questions()
    assert set(asked) == {"signatures slice", "block-device /dev/vda", "cpus", "cgroup-file memory.zswap.max"}
