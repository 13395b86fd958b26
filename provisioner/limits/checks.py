"""What is wrong with limits in a tree of slices: promises that cannot be kept, limits that never bite. Pure.

Of the configuration alone it finds what contradicts itself; with a host's facts, what this host cannot do.
What would be written and not hold is an error, as nobody would see it; what holds, and only means less than
it seems to, is a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from provisioner.directives import values
from provisioner.directives.spec import Directives
from provisioner.limits.controllers import FILES, controllers_for, lack_of, listed, mend, why
from provisioner.limits.tree import ROOT, Branch, Tree, cpu_set, limits_in, rates
from provisioner.model import Issue

if TYPE_CHECKING:
    from provisioner.directives import Value
    from provisioner.model import Address, Declared, Desired

__all__ = ["DEVICE_LIMITS", "issues", "questions"]

#: Limits that nothing in a slice can exceed, and the limits of the slices above that each is held against.
_CEILINGS: Mapping[str, tuple[str, ...]] = {
    "MemoryMax": ("MemoryMax",),
    "MemoryHigh": ("MemoryMax", "MemoryHigh"),
    "MemorySwapMax": ("MemorySwapMax",),
    "MemoryZSwapMax": ("MemoryZSwapMax",),
    "TasksMax": ("TasksMax",),
    "CPUQuota": ("CPUQuota",),
}
_SETS = {"AllowedCPUs": "CPUs", "AllowedMemoryNodes": "memory nodes"}
_RATES = ("IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax")
DEVICE_LIMITS = (*_RATES, "IODeviceWeight", "IODeviceLatencyTargetSec")
_WEIGHTS = ("IOWeight", "StartupIOWeight")
_WEIGHS = "weights share out a disk whose scheduler is bfq, or whose io.cost.qos is switched on"
#: Pairs of one branch of which the first is to be at most the second, and what else it means.
_ORDER = (
    ("MemoryMin", "MemoryMax", "no more than that is there to be protected"),
    ("MemoryMin", "MemoryHigh", "above that it is slowed down, protected or not"),
    ("MemoryLow", "MemoryMax", "no more than that is there to be protected"),
    ("MemoryLow", "MemoryHigh", "above that it is slowed down, protected or not"),
    ("MemoryHigh", "MemoryMax", "it is killed before it is slowed down"),
)
#: What cgroup v1 had, and what takes its place.
_OLD = {
    "CPUShares": "CPUWeight",
    "StartupCPUShares": "StartupCPUWeight",
    "MemoryLimit": "MemoryMax",
    "BlockIOAccounting": "IOAccounting",
    "BlockIOWeight": "IOWeight",
    "StartupBlockIOWeight": "StartupIOWeight",
    "BlockIODeviceWeight": "IODeviceWeight",
    "BlockIOReadBandwidth": "IOReadBandwidthMax",
    "BlockIOWriteBandwidth": "IOWriteBandwidthMax",
}
_NUMBERED = {
    "AllowedCPUs": "cpus",
    "StartupAllowedCPUs": "cpus",
    "AllowedMemoryNodes": "memory-nodes",
    "StartupAllowedMemoryNodes": "memory-nodes",
}

_PROTECTION = frozenset({"MemoryMin", "MemoryLow", "DefaultMemoryMin", "DefaultMemoryLow"})

#: An issue, and the branch that it is about.
Found = Iterator[tuple[Branch, Issue]]


def questions(directives: Mapping[str, Value]) -> Iterator[str]:
    """What the checks of these directives must know of a host beyond its facts."""
    for name, value in directives.items():
        if name in DEVICE_LIMITS:
            yield from (f"block-device {device}" for device in _devices(value))
        if name in _WEIGHTS and value:
            yield "weighing-disks"
        if name == "IODeviceWeight":
            yield from (f"weighing-disk {device}" for device in _devices(value))
        if name in _NUMBERED and value:
            yield _NUMBERED[name]
        if name in FILES and controllers_for(name, value):
            yield f"cgroup-file {FILES[name][0]}"


def issues(desired: Desired, facts: Mapping[str, Any] | None, of: type) -> Iterator[tuple[Address, Issue]]:
    """What is wrong with the limits of the resources of one class; on a host, where its facts are given."""
    review = _Review(desired, facts)
    for branch, issue in review.found(of):
        yield review.declared[branch.name].resource.address, issue


class _Review:
    """The limits of one host, looked at together."""

    def __init__(self, desired: Desired, facts: Mapping[str, Any] | None) -> None:
        self.facts = facts
        self.declared: dict[str, Declared] = {}
        found: dict[str, Mapping[str, Value]] = {}
        for declared in desired.resources.values():
            if isinstance(declared.resource, Directives):
                self.declared[declared.resource.name] = declared
                found[declared.resource.name] = declared.resource.directives
        self.tree = Tree(found)
        memory = (facts or {}).get("memory_mib")
        self.memory = int(memory) << 20 if memory else None

    def found(self, of: type) -> Found:
        mine = [self.tree.branches[name] for name, one in self.declared.items() if type(one.resource) is of]
        used = {name for branch in self.tree.branches.values() for name in branch.values or ()}
        checks: list[tuple[Iterable[str], Callable[[Branch], Found]]] = [
            (_PROTECTION, self._promises),
            (_PROTECTION, self._undeclared_parent),
            (_PROTECTION | {"MemoryHigh"}, self._order),
            (_CEILINGS, self._ceilings),
            (_SETS, self._sets),
            (_RATES, self._rates),
            (("DisableControllers",), self._disabled),
            (_OLD, self._old_names),
        ]
        if self.facts is not None:
            yield from self._machine(mine)
            yield from self._controllers(mine)
            checks += [
                (FILES, self._files),
                (DEVICE_LIMITS, self._devices),
                ((*_WEIGHTS, "IODeviceWeight"), self._weights),
                (_NUMBERED, self._numbered),
            ]
        for names, check in checks:
            if not used.isdisjoint(names):
                for branch in mine:
                    yield from check(branch)

    # -- words ------------------------------------------------------------------------------------

    def _title(self, branch: Branch) -> str:
        one = self.declared.get(branch.name)
        return str(one.resource.address) if one else branch.name

    def _at(self, branch: Branch, directive: str) -> str:
        """Where a directive of another resource was written, in brackets."""
        one = self.declared.get(branch.name)
        source = one and (one.fields.get(directive) or one.source)
        return f" ({source})" if source else ""

    def _warn(self, directive: str, message: str, hint: str, *others: Branch) -> Issue:
        about = tuple(self.declared[one.name].resource.address for one in others if one.name in self.declared)
        return Issue(message, directive, hint, severity="warning", about=about)

    def _host_issue(self, directive: str | None, message: str, hint: str) -> Issue:
        """What this host cannot do: an error, but in a sandbox, where no limit is relied upon."""
        severity: Any = "warning" if self._in_sandbox else "error"
        return Issue(message, directive, hint, severity=severity)

    @cached_property
    def _in_sandbox(self) -> bool:
        return bool((self.facts or {}).get("sandbox"))

    # -- one by itself ----------------------------------------------------------------------------

    def _order(self, branch: Branch) -> Found:
        for lower, upper, meaning in _ORDER:
            low, high = branch.get(lower), branch.get(upper)
            numbers = limits_in([str(low), str(high)], self.memory) if low and high else None
            if numbers and math.inf > numbers[0] > numbers[1]:
                yield (
                    branch,
                    self._warn(
                        lower,
                        f"{lower} {low} is above its own {upper} {high}{self._at(branch, upper)}: {meaning}",
                        f"at most {lower}: {high}",
                    ),
                )

    def _old_names(self, branch: Branch) -> Found:
        for name in (one for one in branch.values or () if one in _OLD):
            yield branch, self._warn(name, f"{name} is cgroup v1's", f"write {_OLD[name]}")

    # -- against the slices above -----------------------------------------------------------------

    def _ceilings(self, branch: Branch) -> Found:
        for name, held_against in _CEILINGS.items():
            value = branch.get(name)
            for limit in held_against if value not in (None, "", "infinity") else ():
                above = next(
                    (one for one in self.tree.above(branch) if one.get(limit) not in (None, "", "infinity")), None
                )
                if above is None:
                    continue
                total = self.memory if name.startswith("Memory") else None
                numbers = limits_in([str(value), str(above.get(limit))], total)
                if numbers and numbers[0] > numbers[1]:
                    yield branch, self._above(branch, name, above, limit)

    def _above(self, branch: Branch, name: str, above: Branch, limit: str) -> Issue:
        most = f"{limit} {above.get(limit)}"
        return self._too_much(name, f"{name} {branch.get(name)}", above, limit, most, f"{name}: {above.get(limit)}")

    def _too_much(self, name: str, own: str, above: Branch, limit: str, most: str, right: str) -> Issue:
        return self._warn(
            name,
            f"{own} is above {most} of {self._title(above)}{self._at(above, limit)}, in which it lies: "
            "it never has that much",
            f"at most {right} here, or a higher {limit} of {above.name}",
            above,
        )

    def _sets(self, branch: Branch) -> Found:
        for name, what in _SETS.items():
            value = branch.get(name)
            above = next((one for one in self.tree.above(branch) if one.get(name)), None)
            if not value or above is None:
                continue
            within = cpu_set(str(above.get(name)))
            left = cpu_set(str(value)) & within
            if cpu_set(str(value)) > left:
                yield (
                    branch,
                    self._warn(
                        name,
                        f"{name} {value} is not within {name} {above.get(name)} of "
                        f"{self._title(above)}{self._at(above, name)}, in which it lies: it has no other {what}",
                        f"{name}: {_numbers_text(left or within)}, or more {what} for {above.name}",
                        above,
                    ),
                )

    def _rates(self, branch: Branch) -> Found:
        for name in _RATES:
            for device, rate in rates(branch.get(name) or ()).items():
                limits = ((above, rates(above.get(name) or ()).get(device)) for above in self.tree.above(branch))
                above, most = next(((one, most) for one, most in limits if most is not None), (None, None))
                if above is not None and most is not None and rate > most:
                    own = f"{name} {device} {values.bytes_text(rate, 1000)}"
                    right = f"{device} {values.bytes_text(most, 1000)}"
                    yield branch, self._too_much(name, own, above, name, f"{name} {right}", f"{name}: {right}")

    def _disabled(self, branch: Branch) -> Found:
        for name, value in (branch.values or {}).items():
            for controller in sorted(controllers_for(name, value)):
                above = next(
                    (one for one in self.tree.above(branch) if controller in _words(one, "DisableControllers")), None
                )
                if above is not None:
                    message = (
                        f"{name} needs the controller '{controller}', which DisableControllers of "
                        f"{self._title(above)}{self._at(above, 'DisableControllers')} takes from all that lies in it"
                    )
                    yield branch, Issue(message, name, f"leave {controller} out there, or {name} here")

    # -- protection -------------------------------------------------------------------------------

    def _undeclared_parent(self, branch: Branch) -> Found:
        """What the slice above guarantees is not to be seen from here."""
        above = self.tree.branches[branch.parent] if branch.parent not in (None, ROOT) else None
        for name in ("MemoryMin", "MemoryLow"):
            value = branch.get(name)
            if above is None or above.declared or value in (None, "0", "0%"):
                continue
            hint = f"declare {above.name} with {name}: {value} or more"
            if above.name == "system.slice":
                hint = f"put it in a slice of its own, which has {name}: {value} or more"
            message = (
                f"{name} {value} has no effect unless {above.name}, in which it lies, has {name} as well, and that "
                "slice is not declared here"
            )
            yield branch, self._warn(name, message, hint)

    def _promises(self, branch: Branch) -> Found:
        """What lies in a slice is protected by no more than the slice guarantees, all together."""
        for name in ("MemoryMin", "MemoryLow"):
            promised = self._promised(branch.name, name)
            if not promised:
                continue
            guaranteed = self.tree.protection(branch, name)
            if guaranteed != "0":  # then all that there is may be shared by them
                promised = [(one, text) for one, text in promised if text != "infinity"]
            numbers = limits_in([guaranteed, *(text for _, text in promised)], self.memory)
            if numbers is None or sum(numbers[1:]) <= numbers[0]:
                continue
            severity: Any = "error" if name == "MemoryMin" else "warning"
            total = _sum_text(numbers[1:], promised, self.memory)
            parts = self._listing(promised, name)
            if numbers[0] == 0:
                message = f"it has no {name}, so that what lies in it is not protected: {parts}"
                hint = f"{name}: {total} here: nothing is protected by more than the slices above it guarantee"
            else:
                message = f"{name} is {guaranteed}, but {total} is promised to what lies in it: {parts}"
                hint = f"{name}: {total} here, or less there: the kernel would cut each of them down"
            about = tuple(self.declared[one.name].resource.address for one, _ in promised)
            yield branch, Issue(message, name, hint, severity=severity, about=about)

    def _promised(self, slice_name: str, name: str) -> list[tuple[Branch, str]]:
        """What lies directly in a slice and is to be protected, each with how much of its memory."""
        below = [one for one in self.tree.below.get(slice_name, ()) if one.declared]
        found = [(one, self.tree.protection(one, name)) for one in below]
        return [(one, text) for one, text in found if limits_in([text], 10000) != [0]]

    def _listing(self, promised: Sequence[tuple[Branch, str]], name: str) -> str:
        parts = [f"{self._title(one)} {text}{self._at(one, name)}" for one, text in promised[:4]]
        if len(promised) > 4:
            parts.append(f"and {len(promised) - 4} more")
        return ", ".join(parts)

    def _machine(self, mine: Iterable[Branch]) -> Found:
        """The root guarantees the memory that the machine has."""
        promised = [(one, text) for one, text in self._promised(ROOT, "MemoryMin") if text != "infinity"]
        numbers = limits_in([text for _, text in promised], self.memory)
        if not numbers or self.memory is None or sum(numbers) <= self.memory:
            return
        first = promised[0][0]
        if first in mine:
            total, there = values.bytes_text(int(sum(numbers))), f"{self.memory >> 20}M"
            message = f"MemoryMin of {self._listing(promised, 'MemoryMin')} is {total} together; this host has {there}"
            yield first, self._host_issue("MemoryMin", message, f"at most {there} of MemoryMin in all")

    # -- what the host lacks ----------------------------------------------------------------------

    def _controllers(self, mine: Sequence[Branch]) -> Found:
        """Directives whose controllers this host lacks; the same line of a loop is told once."""
        if self._in_sandbox:
            yield from self._recorded_only(mine)
            return
        alike: dict[tuple[str, object], list[tuple[Branch, str]]] = {}
        for branch in mine:
            for name, controller in self._lacking(branch):
                declared = self.declared[branch.name]
                place = declared.fields.get(name) or (declared.source, branch.name)
                alike.setdefault((controller, place), []).append((branch, name))
        for (controller, _), several in alike.items():
            branch, name = several[0]
            lack = lack_of(controller, self.facts or {}) or "absent"
            names = list(dict.fromkeys(each for _, each in several))
            others = len({one.name for one, _ in several}) - 1
            also = f" (so it is for {others} more from here)" if others else ""
            message = (
                f"{listed(names)} need{'s' if len(names) == 1 else ''} the cgroup v2 controller '{controller}', which "
                f"this host lacks: {why(controller, lack)}{also}"
            )
            yield branch, Issue(message, name, mend(controller, lack))

    def _lacking(self, branch: Branch) -> Iterator[tuple[str, str]]:
        for name, value in (branch.values or {}).items():
            for controller in sorted(controllers_for(name, value)):
                if lack_of(controller, self.facts or {}) is not None:
                    yield name, controller

    def _recorded_only(self, mine: Sequence[Branch]) -> Found:
        """One line for all of a sandbox: what it is for can be tried without."""
        lacking = {one.name: list(self._lacking(one)) for one in self.tree.branches.values()}
        pairs = [pair for several in lacking.values() for pair in several]
        if not pairs:
            return
        controllers = sorted({controller for _, controller in pairs})
        message = (
            f"limits are recorded, not enforced: the kernel lends this sandbox no {listed(controllers)} controller "
            f"(for {listed(sorted({name for name, _ in pairs}))})"
        )
        for branch in mine:
            if lacking[branch.name]:
                yield branch, Issue(message, severity="warning")

    def _files(self, branch: Branch) -> Found:
        """A kernel may have a controller, and not all of its files."""
        for name, value in (branch.values or {}).items():
            if name not in FILES or not controllers_for(name, value):
                continue
            file, needed = FILES[name]
            has_controller = lack_of(file.partition(".")[0], self.facts or {}) is None
            if has_controller and self._answer(f"cgroup-file {file}") is False:
                message = f"{name} needs {file}, which this host's kernel has not"
                yield branch, self._host_issue(name, message, f"it takes {needed}")

    def _devices(self, branch: Branch) -> Found:
        if self._in_sandbox:  # which has no disks, whatever the host has
            return
        for name in DEVICE_LIMITS:
            for device in _devices(branch.get(name) or ()):
                wrong = self._answer(f"block-device {device}")
                if wrong:
                    hint = "lsblk -p lists the devices that there are; a path on one of them does as well"
                    yield branch, self._host_issue(name, f"{name}: {device} {wrong}", hint)

    def _weights(self, branch: Branch) -> Found:
        """The kernel keeps a weight, and shares out nothing by it where no disk's scheduler weighs."""
        if lack_of("io", self.facts or {}) is not None:
            return
        for name in _WEIGHTS:
            if branch.get(name) and self._answer("weighing-disks") is False:
                message = f"{name} shares out no disk of this host: none has a scheduler that weighs"
                yield branch, self._warn(name, message, f"{_WEIGHS}; limits by rate need neither")
        for device in _devices(branch.get("IODeviceWeight") or ()):
            if self._answer(f"weighing-disk {device}") is False:
                message = f"IODeviceWeight: {device} takes no weight, as its scheduler weighs nothing"
                hint = f"{_WEIGHS}: echo bfq > /sys/block/{device.rpartition('/')[2]}/queue/scheduler"
                yield branch, self._host_issue("IODeviceWeight", message, hint)

    def _numbered(self, branch: Branch) -> Found:
        for name, question in _NUMBERED.items():
            there = self._answer(question)
            value = branch.get(name)
            if not value or not there or lack_of("cpuset", self.facts or {}) is not None:
                continue
            more = cpu_set(str(value)) - cpu_set(there)
            if more:
                what = question.replace("-", " ").replace("cpus", "CPUs")
                message = f"{name} {value} names {what} that this host has not: its {what} are {there}"
                left = _numbers_text(cpu_set(str(value)) - more) or there
                yield branch, self._host_issue(name, message, f"{name}: {left}")

    def _answer(self, question: str) -> Any:
        return ((self.facts or {}).get("answers") or {}).get(question)


def _devices(value: Value) -> list[str]:
    return [item.partition(" ")[0] for item in ([value] if isinstance(value, str) else value)]


def _words(branch: Branch, directive: str) -> Sequence[str]:
    value = branch.get(directive) or ()
    return value.split() if isinstance(value, str) else [word for item in value for word in item.split()]


def _numbers_text(numbers: Iterable[int]) -> str:
    from provisioner.directives.control import ranges

    return ranges(set(numbers))


def _sum_text(numbers: Sequence[float], promised: Sequence[tuple[Branch, str]], memory: int | None) -> str:
    total = sum(numbers)
    if total == math.inf:
        return "infinity"
    if all(values.percent(text) is not None for _, text in promised):
        shares = (values.percent(text) or 0 for _, text in promised)
        return values.percent_text(sum(shares))
    return values.bytes_text(int(total))
