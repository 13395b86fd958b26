"""What is checked of a limit after an apply: the kernel's file, or without its controller systemd's record."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.model import Check
from provisioner.resources.slice import Slice


def checks(**fields: Any) -> list[Check]:
    return list(Slice(name="a", **fields).checks())[1:]


def holds(check: Check, *, kernel: str | None, shown: str = "", controller: bool = True) -> bool:
    """Whether a check holds where this stands in the file, and ``systemctl`` shows that."""

    def device(host: Any, unit: str, file: str, device: str, key: str) -> str | None:
        return kernel

    names = {
        "host": None,
        "cgroup_file": lambda host, unit, file: kernel,
        "cgroup_device": device,
        "unit_property": lambda host, unit, name: shown,
        "has_controller": lambda host, name: controller,
    }
    try:
        exec(compile(check.code, check.title, "exec"), names)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("fields", "kernel", "shown"),
    [
        ({"MemoryMax": "512M"}, "536870912", "536870912"),
        ({"MemoryMax": "5000"}, "4096", "5000"),  # the kernel counts in pages
        ({"MemoryMin": "0"}, "0", "0"),
        ({"MemorySwapMax": "infinity"}, "max", "infinity"),
        ({"MemoryZSwapWriteback": "no"}, "0", "no"),
        ({"TasksMax": "50"}, "50", "50"),
        ({"CPUWeight": "200"}, "200", "200"),
        ({"CPUWeight": "idle"}, "1", "idle"),
        ({"CPUQuota": "150%"}, "150000 100000", "1.500000s"),
        ({"CPUQuota": "0.5%"}, "1000 200000", "5ms"),  # at least a millisecond of each period
        ({"CPUQuota": "0.01%"}, "1000 1000000", "100us"),  # and a period of no more than a second
        ({"AllowedCPUs": "0-3 5"}, "0-3,5", "0-3 5"),
        ({"IOWeight": "200"}, "default 200\n8:0 50", "200"),
        ({"IOReadBandwidthMax": "/dev/vda 10M"}, "10000000", "/dev/vda 10000000"),
        ({"IODeviceWeight": "/dev/vda 50"}, "50", "/dev/vda 50"),
        ({"IODeviceLatencyTargetSec": "/dev/vda 25ms"}, "25000", "/dev/vda 25ms"),
    ],
)
def test_a_limit_is_read_from_the_kernel_and_without_its_controller_from_systemd(
    fields: dict[str, Any], kernel: str, shown: str
) -> None:
    (check,) = checks(**fields)
    assert holds(check, kernel=kernel)
    assert not holds(check, kernel="17")
    assert holds(check, kernel=None, shown=shown, controller=False)
    assert not holds(check, kernel=None, shown="something else", controller=False)


def test_systemds_record_is_not_enough_where_the_kernel_has_the_controller() -> None:
    (check,) = checks(MemoryMax="512M")
    assert not holds(check, kernel=None, shown="536870912")


def test_a_share_of_the_memory_is_what_systemd_has_worked_out_in_pages() -> None:
    (check,) = checks(MemoryMax="50%")
    assert holds(check, kernel="8192", shown="9000")
    assert not holds(check, kernel="4096", shown="9000")
    assert holds(check, kernel=None, shown="9000", controller=False)
    assert not holds(check, kernel=None, shown="infinity", controller=False)


def test_a_quota_has_the_period_that_was_declared() -> None:
    (check, *_) = checks(CPUQuota="50%", CPUQuotaPeriodSec="20ms")
    assert holds(check, kernel="10000 20000")


def test_each_device_has_a_check_of_its_own() -> None:
    one, other = checks(IOWriteIOPSMax=["/dev/vda 5", "/dev/vdb 7"])
    assert "'/dev/vda'" in one.code
    assert "'/dev/vdb'" in other.code
    assert holds(other, kernel="7")


def test_a_controller_that_is_not_handed_down_is_looked_for_where_it_would_be() -> None:
    (check,) = checks(DisableControllers="memory")
    assert holds(check, kernel="cpu io")
    assert not holds(check, kernel="cpu memory")


def test_what_counts_only_while_the_machine_boots_is_checked_in_systemd() -> None:
    (check,) = checks(StartupMemoryMax="1M")
    assert holds(check, kernel=None, shown="1048576")
    assert not holds(check, kernel=None, shown="infinity")
