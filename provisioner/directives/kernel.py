"""Where the kernel keeps the limits that directives set, and how it writes them: for checks after an apply. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from provisioner.directives import Value, values
from provisioner.model import Check

if TYPE_CHECKING:
    from provisioner.model import Address

__all__ = ["limit_checks"]

_BYTES = {
    "MemoryMax": "memory.max",
    "MemoryHigh": "memory.high",
    "MemoryLow": "memory.low",
    "MemoryMin": "memory.min",
    "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}
_CPUS = {"AllowedCPUs": "cpuset.cpus", "AllowedMemoryNodes": "cpuset.mems"}
_PAGE = 4096


def limit_checks(address: Address, unit: str, wanted: Mapping[str, Value]) -> Iterable[Check]:
    """A check for each limit that the kernel has in a file of the unit's control group."""
    for name, value in wanted.items():
        place = _in_kernel(name, value, wanted)
        if place is None:
            continue
        file, text, shown, property_name = place
        controller = file.partition(".")[0]
        code = (
            f"value = cgroup_file(host, {unit!r}, {file!r})\n"
            f"if value is None:  # no controller: systemd's own record\n"
            f"    assert unit_property(host, {unit!r}, {property_name!r}) == {shown!r}\n"
            f"else:\n"
            f"    assert value.strip() == {text!r}"
        )
        yield Check(
            f"{address} {name} is {value} in the kernel (without its {controller} controller: in systemd)", code
        )


def _in_kernel(name: str, value: Value, wanted: Mapping[str, Value]) -> tuple[str, str, str, str] | None:
    """The file, what stands in it, what ``systemctl show`` says, and of which property."""
    text = str(value)
    if name in _BYTES:
        if values.percent(text) is not None:
            return None  # of how much memory, only the host knows
        number = values.INFINITY if text == "infinity" else values.size(text)
        kept = "max" if number == values.INFINITY else str(number - number % _PAGE)
        return _BYTES[name], kept, "infinity" if kept == "max" else str(number), name
    if name == "TasksMax" and values.percent(text) is None:
        return "pids.max", "max" if text == "infinity" else text, text, name
    if name == "CPUWeight" and text.isdigit():
        return "cpu.weight", text, text, name
    if name == "IOWeight" and text:
        return "io.weight", f"default {text}", text, name
    if name == "CPUQuota" and text and "CPUQuotaPeriodSec" not in wanted:
        usec = (values.percent(text) or 0) * 100
        return "cpu.max", f"{usec // 10} 100000", _shown(usec), "CPUQuotaPerSecUSec"
    if name in _CPUS and text:
        return _CPUS[name], text.replace(" ", ","), text, name
    return None


def _shown(usec: int) -> str:
    """A time span as ``systemctl show`` writes it: with decimals above a second."""
    whole, rest = divmod(usec, 1_000_000)
    return f"{whole}.{rest:06}s" if whole and rest else values.span_text(usec)
