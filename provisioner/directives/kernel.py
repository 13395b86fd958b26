"""Where the kernel keeps the limits that directives set, and how it writes them: for checks after an apply. Pure.

A check reads the file in the unit's control group. Where the kernel lacks the controller, as in a sandbox over a
machine of cgroup v1, there is no file, and the check is that systemd has recorded the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from provisioner.directives import Value, values
from provisioner.model import Check

if TYPE_CHECKING:
    from provisioner.model import Address

__all__ = ["FILE_OF", "limit_checks"]

_BYTES = {
    "MemoryMax": "memory.max",
    "MemoryHigh": "memory.high",
    "MemoryLow": "memory.low",
    "MemoryMin": "memory.min",
    "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}
_CPUS = {"AllowedCPUs": "cpuset.cpus", "AllowedMemoryNodes": "cpuset.mems"}
#: The word before the number in a device's line of ``io.max``.
_RATES = {
    "IOReadBandwidthMax": "rbps",
    "IOWriteBandwidthMax": "wbps",
    "IOReadIOPSMax": "riops",
    "IOWriteIOPSMax": "wiops",
}
#: The file of the control group that each limit is in.
FILE_OF: Mapping[str, str] = {
    **_BYTES,
    **_CPUS,
    **dict.fromkeys(_RATES, "io.max"),
    "CPUWeight": "cpu.weight",
    "CPUQuota": "cpu.max",
    "CPUQuotaPeriodSec": "cpu.max",
    "IOWeight": "io.weight",
    "IODeviceWeight": "io.weight",
    "IODeviceLatencyTargetSec": "io.latency",
    "MemoryZSwapWriteback": "memory.zswap.writeback",
    "TasksMax": "pids.max",
}
#: Files that not every kernel has that has the controller.
_OPTIONAL = frozenset({"memory.swap.max", "memory.zswap.max", "memory.zswap.writeback", "io.weight", "io.latency"})
#: What is in force only while the machine boots, or is systemd's own affair: there is no file to be read later.
_RECORDED = frozenset({
    "StartupCPUWeight", "StartupIOWeight", "StartupMemoryLow", "StartupMemoryHigh", "StartupMemoryMax",
    "StartupMemorySwapMax", "StartupMemoryZSwapMax", "DefaultMemoryMin", "DefaultMemoryLow", "DefaultStartupMemoryLow",
    "CPUAccounting", "MemoryAccounting", "IOAccounting",
    "TasksAccounting", "IPAccounting", "ManagedOOMSwap", "ManagedOOMMemoryPressure", "ManagedOOMPreference",
    "DevicePolicy",
})  # fmt: skip
_PAGE = 4096
_MSEC, _SEC = 1_000, 1_000_000


class _Kept(NamedTuple):
    """Where a limit is: the kernel's file and what stands in it; systemd's property and what it shows."""

    file: str
    #: What the file's text must be, as Python: ``value`` is the text.
    holds: str
    property: str
    #: None: a number that only the host knows.
    shown: str | None


def limit_checks(address: Address, unit: str, wanted: Mapping[str, Value]) -> Iterable[Check]:
    """A check for each limit of a unit that can be read back."""
    for name, value in wanted.items():
        told = ", ".join(value) if isinstance(value, tuple) else value
        title = f"{address} {name} is {told}"
        if name in _RECORDED:
            yield Check(f"{title} in systemd", f"assert unit_property(host, {unit!r}, {name!r}) == {_text(value)!r}")
        elif name in _RATES or name in ("IODeviceWeight", "IODeviceLatencyTargetSec"):
            yield from (_device_check(address, unit, name, item) for item in value)
        elif name == "DisableControllers":
            yield from _disabled(address, unit, value)
        else:
            yield from (_check(title, unit, kept) for kept in _in_kernel(unit, name, value, wanted))


def _check(title: str, unit: str, kept: _Kept) -> Check:
    controller = kept.file.partition(".")[0]
    surely = "" if kept.file in _OPTIONAL else f"    assert not has_controller(host, {controller!r})\n"
    recorded = f"== {kept.shown!r}" if kept.shown is not None else "!= 'infinity'"
    code = (
        f"value = cgroup_file(host, {unit!r}, {kept.file!r})\n"
        f"if value is None:  # no controller: systemd's own record\n"
        f"{surely}"
        f"    assert unit_property(host, {unit!r}, {kept.property!r}) {recorded}\n"
        f"else:\n"
        f"    assert {kept.holds}"
    )
    return Check(f"{title} in the kernel (without its {controller} controller: in systemd)", code)


def _in_kernel(unit: str, name: str, value: Value, wanted: Mapping[str, Value]) -> Iterator[_Kept]:
    text = str(value)
    if name in _BYTES or name == "TasksMax":
        yield _amount(unit, name, text)
    elif name == "MemoryZSwapWriteback":
        yield _Kept("memory.zswap.writeback", f"value == {'1' if text == 'yes' else '0'!r}", name, text)
    elif name == "CPUWeight" and text:
        if text == "idle":
            yield _Kept("cpu.idle", "value == '1'", name, text)
        else:
            yield _Kept("cpu.weight", f"value == {text!r}", name, text)
    elif name == "IOWeight" and text:
        yield _Kept("io.weight", f"value.splitlines()[0] == {f'default {text}'!r}", name, text)
    elif name == "CPUQuota" and text:
        usec = (values.percent(text) or 0) * 100
        holds = f"value == {_cpu_max(usec, wanted.get('CPUQuotaPeriodSec'))!r}"
        yield _Kept("cpu.max", holds, "CPUQuotaPerSecUSec", _shown(usec))
    elif name in _CPUS and text:
        yield _Kept(_CPUS[name], f"value == {text.replace(' ', ',')!r}", name, text)


def _amount(unit: str, name: str, text: str) -> _Kept:
    file = _BYTES.get(name, "pids.max")
    if values.percent(text) is not None:
        record = f"unit_property(host, {unit!r}, {name!r})"  # of how much, systemd has worked out
        in_pages = f"str(int({record}) // {_PAGE} * {_PAGE})"
        return _Kept(file, f"value == {record if name == 'TasksMax' else in_pages}", name, None)
    if text == "infinity":
        return _Kept(file, "value == 'max'", name, text)
    number = int(text) if name == "TasksMax" else values.size(text)
    kept = number - number % _PAGE if name in _BYTES else number
    return _Kept(file, f"value == {str(kept)!r}", name, str(number))


def _cpu_max(usec_per_sec: int, period_text: Value | None) -> str:
    """The quota and its period, both at least a millisecond, as systemd works them out."""
    period = values.span(str(period_text)) if period_text else 100 * _MSEC
    period = min(max(period, _MSEC, _MSEC * _SEC // usec_per_sec), _SEC)
    return f"{max(usec_per_sec * period // _SEC, _MSEC)} {period}"


def _device_check(address: Address, unit: str, name: str, item: str) -> Check:
    """A limit of one block device, in its line of the file."""
    device, _, text = item.partition(" ")
    if name in _RATES:
        file, key, number, property_name = "io.max", _RATES[name], str(values.size(text, 1000)), name
        shown = number
    elif name == "IODeviceWeight":
        file, key, number, property_name, shown = "io.weight", "", text, name, text
    else:
        file, key, number = "io.latency", "target", str(values.span(text))
        property_name, shown = "IODeviceLatencyTargetUSec", text
    by_scheduler = ""
    if name == "IODeviceWeight":  # the scheduler bfq has weights of its own, on another scale
        told = f"cgroup_device(host, {unit!r}, 'io.bfq.weight', {device!r}, '')"
        by_scheduler = f"elif value == '':\n    assert {told}\n"
    code = (
        f"value = cgroup_device(host, {unit!r}, {file!r}, {device!r}, {key!r})\n"
        f"if value is None:  # no controller, or no such device: systemd's own record\n"
        f"    assert {f'{device} {shown}'!r} in unit_property(host, {unit!r}, {property_name!r})\n"
        f"{by_scheduler}"
        f"else:\n"
        f"    assert value == {number!r}"
    )
    return Check(f"{address} {name} is {item} in the kernel (without its io controller: in systemd)", code)


def _disabled(address: Address, unit: str, value: Value) -> Iterable[Check]:
    names = value.split() if isinstance(value, str) else [word for item in value for word in item.split()]
    for controller in names:
        yield Check(
            f"{address} hands no {controller} controller down",
            f"assert {controller!r} not in (cgroup_file(host, {unit!r}, 'cgroup.subtree_control') or '').split()",
        )


def _text(value: Value) -> str:
    """A record as ``systemctl show`` has it: sizes in bytes."""
    text = str(value)
    if text.isdigit() or not text[:1].isdigit() or values.percent(text) is not None:
        return text
    try:
        return str(values.size(text))
    except values.BadValue:
        return text


def _shown(usec: int) -> str:
    """A time span as ``systemctl show`` writes it: with decimals above a second."""
    whole, rest = divmod(usec, _SEC)
    return f"{whole}.{rest:06}s" if whole and rest else values.span_text(usec)
