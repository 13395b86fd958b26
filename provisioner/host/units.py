"""Units as resources see them: which exist, what their directives are, and how they start, change and go.

Owns the way between directives and what systemd has: unit files and properties on the way in, transient
units and property changes on the way out. Calls are sent for a whole batch before their jobs are awaited.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner import directives
from provisioner.directives import Setting, Value
from provisioner.directives.control import Limit, Tasks
from provisioner.directives.exits import exit_text
from provisioner.directives.fragment import as_read, settings
from provisioner.directives.signatures import fitted
from provisioner.directives.syntax import Syntax
from provisioner.errors import HostError
from provisioner.host.systemd import JOB_TIMEOUT, Job, Systemd, SystemdError, UnitState

if TYPE_CHECKING:
    from provisioner.model import Step

__all__ = ["FINE", "Failed", "Units"]

_TRANSIENT = Path("/run/systemd/transient")
_CONTROL = Path("/run/systemd/system.control")
_LASTING_CONTROL = Path("/etc/systemd/system.control")
#: Slices that systemd has of its own.
OWN_SLICES = frozenset({"-.slice", "system.slice", "user.slice", "machine.slice", "init.slice", "capsule.slice"})
_ALIVE = frozenset({"active", "activating", "reloading", "refreshing", "maintenance"})
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: What a unit that fails at once needs to show it: an interpreter's start.
SETTLE = 0.15

#: What became of a unit: the error, or None, and its code.
Failed = tuple[str | None, int]
FINE: Failed = (None, 0)


class Units:
    """The units of one host, during one observation or one batch of steps."""

    def __init__(self, systemd: Systemd) -> None:
        self.systemd = systemd

    # -- reading ----------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether there is such a unit: on disk, as a transient one, or a slice that somebody has set up.

        A slice that systemd made only since something runs in it, and a name that other units mention,
        are not.
        """
        files = self.systemd.unit_files()
        if name in files:
            return True
        if self.state(name) is None:
            return False
        if not name.endswith(".slice") or name in OWN_SLICES:
            return True
        return Path(files.get(f"{name}.d", "/")).parent in (_TRANSIENT, _CONTROL, _LASTING_CONTROL)

    def state(self, name: str) -> UnitState | None:
        """The unit's line in systemd's list; None where it is not loaded."""
        found = self.systemd.units().get(name)
        return None if found is None or found.load == "not-found" else found

    @staticmethod
    def numbers(main: int) -> str:
        """A workload's PID; where it has a pid namespace of its own, with the one that it has inside.

        A launcher that had to fork is the main process, and the workload its first child.
        """
        try:
            children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
            own, inner = (Path(f"/proc/{main}/ns/{file}").readlink() for file in ("pid", "pid_for_children"))
            pid = int(children[0]) if own != inner and children else main
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has just ended
            return str(main)
        seen = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        return f"{pid}, {seen[-1]} inside" if len(seen) > 1 else str(pid)

    def is_transient(self, name: str) -> bool:
        """Whether the unit was made at run time, and so can be made anew."""
        return self.systemd.unit_files().get(name, "").startswith(f"{_TRANSIENT}/")

    def directives(self, name: str, wanted: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
        """The directives of a unit: those that its files set, and those that are wanted of it.

        What can change on a running unit is read from its properties, the rest from its files. Where a
        value is equal to a wanted one that systemd holds in another form (a percentage, a value cut by a
        daemon-reload), the wanted one is given.
        """
        asked = list(wanted)
        unit_type = name.rpartition(".")[2]
        found = settings(unit_type, self._texts(name), transient=self.is_transient(name))
        known = directives.known(unit_type)
        names = [one for one in {**found, **{one: None for each in asked for one in each}} if known[one].read_back]
        if names and self.state(name) is not None:
            found.update(self._live(name, names))
        for each in asked:
            for one, value in each.items():
                if one in found and self._equal(known[one].syntax, value, found[one]):
                    found[one] = value
        return found

    def _texts(self, name: str) -> list[str]:
        """The unit's file and its drop-ins."""
        path = self.systemd.unit_files().get(name)
        paths = [path] if path else []
        on_disk = f"{name}.d" in self.systemd.unit_files() and not (path or "").startswith(f"{_TRANSIENT}/")
        if on_disk and self.state(name) is not None:
            paths += self.systemd.properties(name, ["DropInPaths"]).get("DropInPaths", [])
        texts = []
        for one in paths:
            try:
                texts.append(Path(one).read_text("utf-8", "replace"))
            except OSError:
                continue
        return texts

    def _live(self, name: str, names: Sequence[str]) -> dict[str, Value]:
        known = directives.known(name.rpartition(".")[2])
        needed = {one: known[one].syntax.properties(one) for one in names}
        read = self.systemd.properties(name, {one for several in needed.values() for one in several})
        return {
            one: known[one].syntax.decode(one, read)
            for one, several in needed.items()
            if all(each in read for each in several)
        }

    def _equal(self, syntax: Syntax, wanted: Value, found: Value) -> bool:
        if directives.same(syntax, wanted, found):
            return True
        if not isinstance(syntax, Limit) or not str(wanted).endswith("%"):
            return False
        if isinstance(syntax, Tasks):
            return found == syntax.resolved(wanted, self._tasks)
        total = syntax.resolved(wanted, self._memory)
        return found == total or _near(str(found), str(total))

    @cached_property
    def _memory(self) -> int:
        """All memory that systemd counts percentages of."""
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = _number("/sys/fs/cgroup/memory.max")
        return min(total, limit) if limit else total

    @cached_property
    def _tasks(self) -> int:
        """All tasks that systemd counts percentages of."""
        limits = [_number(f"/proc/sys/kernel/{name}") for name in ("pid_max", "threads-max")]
        limits[0] = limits[0] - 1 if limits[0] else None
        limits.append(_number("/sys/fs/cgroup/pids.max"))
        return min(limit for limit in limits if limit)

    # -- units ------------------------------------------------------------------------------------

    def start(self, units: Mapping[str, Start]) -> dict[str, Failed]:
        """Make transient units and start them; when this returns, they run, or have failed and say why."""
        results: dict[str, Failed] = {}
        jobs: dict[str, Job] = {}
        for name, unit in units.items():
            try:
                jobs[name] = self._start_one(unit)
            except HostError as error:
                results[name] = (f"{name}: {error.detail}", error.code)
        done = self.systemd.wait(jobs.values(), self._patience(units.values()))
        if any(unit.lasting for name, unit in units.items() if name in jobs):
            self.systemd.settle(SETTLE)
        self.systemd.forget()
        for name, job in jobs.items():
            results[name] = self._outcome(units[name], done.get(job.unit, "waiting"))
        return results

    def _patience(self, units: Iterable[Start]) -> float:
        from provisioner.directives.values import INFINITY, span

        longest = JOB_TIMEOUT
        for unit in units:
            text = str(unit.values.get("TimeoutStartSec", ""))
            if not text and unit.values.get("Type") == "oneshot":  # systemd lets it take as long as it wants
                text = "1h"
            usec = span(text) if text else 0
            longest = max(longest, 86400.0 if usec == INFINITY else usec / 1e6 + 30)
        return longest

    def _start_one(self, unit: Start) -> Job:
        for attempt in range(40):
            try:
                job = self.systemd.start_transient(*unit.arguments(self.encoded))
            except SystemdError as error:
                if not error.exists or not unit.replaces:
                    raise
            else:
                for name in (unit.name, unit.main):
                    _write_as_read(_TRANSIENT / name)
                return job
            if attempt == 20:  # something refers to the stopped unit, so that systemd keeps it loaded
                self._remove_files(unit.name)
                self.systemd.reload()
            time.sleep(0.005)
        raise SystemdError(f"cannot start {unit.name}", detail="systemd does not let go of the unit it replaces")

    def encoded(self, unit_type: str, values: Mapping[str, Value]) -> list[Setting]:
        """The properties that give a unit of this type these canonical values, on this host."""
        return self._sent(unit_type, directives.encode(unit_type, values))

    def _sent(self, unit_type: str, settings: Iterable[Setting]) -> list[Setting]:
        """Properties as this host's systemd takes them."""
        return fitted(self._absolute(settings), self.systemd.signatures(unit_type))

    def _absolute(self, settings: Iterable[Setting]) -> list[Setting]:
        """Shares of the memory and of the tasks as numbers.

        systemd 252 writes a share of the tasks ten times too small into its files. And it keeps a share that is
        set on a running unit in a drop-in of its own, which wins over a later number at the next daemon-reload.
        """
        made = []
        for one in settings:
            name = one.property.removesuffix("Scale")
            if name == one.property or one.signature != "u":
                made.append(one)
            elif name == "TasksMax":
                made.append(Setting(name, "t", max(1, self._tasks * one.value // (2**32 - 1))))
            else:
                made.append(Setting(name, "t", self._memory // _PAGE * one.value // (2**32 - 1) * _PAGE))
        return made

    def _outcome(self, unit: Start, result: str) -> Failed:
        name = unit.main
        state = self.state(name)
        if result in ("done", "skipped") and state is not None and state.active in _ALIVE:
            return (self._failure(name, "it keeps failing"), 0) if state.sub == "auto-restart" else FINE
        if result in ("done", "skipped") and (state is None or state.active in ("inactive", "deactivating")):
            return FINE  # it has finished, and systemd has let go of it
        words = {
            "timeout": "it did not start in time",
            "dependency": "something that it needs did not start",
            "waiting": "its start is still waiting in systemd's queue",
            "canceled": "its start was canceled",
            "assert": "an Assert… directive is not met",
            "unsupported": "this system cannot start such units",
        }
        return self._failure(name, words.get(result, "it failed")), 0

    def _failure(self, name: str, what: str) -> str:
        """What is known of a unit that failed: systemd's result, the exit status, its last words."""
        parts = [f"{name}: {what}"]
        if self.state(name) is not None:
            wanted = ("Result", "ExecMainCode", "ExecMainStatus", "ControlPID")
            found = self.systemd.properties(name, wanted)
            result = found.get("Result", "success")
            if result != "success":
                parts.append(f"systemd says '{result}'")
            status, code = int(found.get("ExecMainStatus", 0)), int(found.get("ExecMainCode", 0))
            if code == 1:
                parts.append(f"exit status {exit_text(status)}")
            elif code in (2, 3):
                parts.append(f"killed by signal {status}")
        said = self.systemd.last_words(name)
        return "; ".join(parts) + "".join(f"\n    {line}" for line in said)

    def stop(self, names: Iterable[str], *, forget: bool = True) -> dict[str, Failed]:
        """Stop units, wait until they are, and have systemd let go of them."""
        results: dict[str, Failed] = {}
        jobs: list[Job] = []
        asked = list(names)
        for name in asked:
            try:
                job = self.systemd.stop(name)
            except HostError as error:
                results[name] = (f"{name}: {error.detail}", error.code)
                continue
            results[name] = FINE
            if job is not None:
                jobs.append(job)
        for name, result in self.systemd.wait(jobs).items():
            if result == "waiting":
                results[name] = (f"{name}: its stop is still waiting in systemd's queue", 0)
        if forget:
            self._let_go([name for name in asked if results[name] == FINE])
        return results

    def _let_go(self, names: Collection[str]) -> None:
        """Leave nothing of stopped units: no failed state, no transient file, no drop-in."""
        self.systemd.forget()
        loaded = self.systemd.units()
        for name in names:
            if name in loaded and loaded[name].active == "failed":
                self.systemd.reset_failed(name)
        self.systemd.forget()
        left = [name for name in names if self._remove_files(name)]
        if left and any(name in self.systemd.units() for name in left):
            self.systemd.reload()
        self.systemd.forget()

    def _remove_files(self, name: str) -> bool:
        """Remove what is left of a unit among the transient files; whether there was anything."""
        found = False
        for folder in (_TRANSIENT / f"{name}.d", _CONTROL / f"{name}.d"):
            if folder.is_dir():
                found = True
                for entry in folder.glob("50-*.conf"):
                    entry.unlink(missing_ok=True)
                try:
                    folder.rmdir()
                except OSError:
                    continue
        if (_TRANSIENT / name).exists():
            found = True
            (_TRANSIENT / name).unlink(missing_ok=True)
        return found

    def depending(self, names: Collection[str]) -> dict[str, Start]:
        """What runs and stops along with these units (Requires=, BindsTo=, PartOf=), ready to be started again."""
        found: dict[str, Start] = {}
        open_ones = list(names)
        while open_ones:
            read = self.systemd.properties(open_ones.pop(), ("RequiredBy", "BoundBy", "ConsistsOf"))
            for name in {one for several in read.values() for one in several} - set(names) - found.keys():
                state = self.state(name)
                if name.endswith(".service") and state is not None and state.active in _ALIVE:
                    values = self.directives(name, ()) if self.is_transient(name) else {}
                    found[name] = Start(name, values, replaces=True)
                    open_ones.append(name)
        return found

    def start_again(self, units: Mapping[str, Start]) -> dict[str, Failed]:
        """Start those of these units that have stopped."""
        self.systemd.forget()
        stopped = {
            name: unit
            for name, unit in units.items()
            if (state := self.state(name)) is None or state.active not in _ALIVE
        }
        results = self.start({name: unit for name, unit in stopped.items() if unit.values})
        jobs = []
        for name in stopped.keys() - results.keys():  # of a file on disk
            try:
                jobs.append(self.systemd.start(name))
            except HostError as error:
                results[name] = (f"{name}: {error.detail}", error.code)
        for name, result in self.systemd.wait(jobs).items():
            results[name] = FINE if result == "done" else (self._failure(name, "it failed"), 0)
        return results

    # -- live changes -----------------------------------------------------------------------------

    def change_live(self, steps: Iterable[Step]) -> dict[str, Failed]:
        """Carry out the changes of steps that need no restart; what runs does not notice."""
        results = {step.address.name: self._change_live(step) for step in steps}
        repeating = [name for name, outcome in results.items() if outcome == FINE and self._remove_repeating(name)]
        if repeating:
            self.systemd.reload()
        return results

    def _remove_repeating(self, name: str) -> bool:
        """Remove the drop-ins of a transient unit that say what it says itself: a change was taken back."""
        unit_type = name.rpartition(".")[2]
        try:
            own = settings(unit_type, [(_TRANSIENT / name).read_text()], transient=True)
        except OSError:
            return False
        found = False
        for drop_in in sorted((_TRANSIENT / f"{name}.d").glob("50-*.conf")):
            if not drop_in.is_file():
                continue
            said = settings(unit_type, [drop_in.read_text()], transient=True)
            values = {one: own[one] if one in own else self._default(name, one) for one in said}
            known = directives.known(unit_type)
            if said and all(directives.same(known[one].syntax, value, values[one]) for one, value in said.items()):
                drop_in.unlink()
                found = True
        if found:
            try:
                (_TRANSIENT / f"{name}.d").rmdir()
            except OSError:
                pass  # others are in it
        return found

    def _change_live(self, step: Step) -> Failed:
        name = step.address.name
        after = getattr(step.after, "directives", {})
        wanted = {change.field: after[change.field] for change in step.changes if change.after is not None}
        gone = [change.field for change in step.changes if change.after is None]
        try:
            self.systemd.set_properties(name, self._live_settings(name, wanted, gone))
        except HostError as error:
            return f"{name}: {error.detail}", error.code
        return FINE

    def _live_settings(self, name: str, wanted: Mapping[str, Value], gone: Iterable[str]) -> list[Setting]:
        unit_type = name.rpartition(".")[2]
        values = {**wanted, **{one: self._default(name, one) for one in gone}}
        made: list[Setting] = []
        for one, value in values.items():
            syntax = directives.directive(unit_type, one).syntax
            settings = syntax.encode(one, value)
            if syntax.many and value:  # these add to what is there: empty it first
                made += syntax.encode(one, ())
            made += settings
        return self._sent(unit_type, made)

    def _default(self, name: str, directive: str) -> Value:
        """What a unit has that does not set the directive."""
        unit_type = name.rpartition(".")[2]
        if directive == "Description":
            return name
        syntax = directives.directive(unit_type, directive).syntax
        return syntax.decode(directive, self.systemd.pristine(unit_type))

    def restart_from_disk(self, step: Step) -> Failed:
        """Restart a unit that a file on disk defines. What such a file says cannot be changed here."""
        name = step.address.name
        defined = [change.field for change in step.changes if change.field not in ("state", "restart_on")]
        if defined:
            where = self.systemd.unit_files().get(name, "a file on disk")
            return f"{name} is defined by {where}: {', '.join(defined)} can only be changed there", 0
        try:
            job = self.systemd.restart(name)
        except HostError as error:
            return f"{name}: {error.detail}", error.code
        result = self.systemd.wait([job]).get(name, "waiting")
        self.systemd.forget()
        return FINE if result == "done" else (self._failure(name, "it failed"), 0)

    # -- slices -----------------------------------------------------------------------------------

    def create_slices(self, slices: Mapping[str, Mapping[str, Value]]) -> dict[str, Failed]:
        """Make slices, parents first. One that systemd made by itself is given its limits as it stands."""
        results: dict[str, Failed] = {}
        jobs: dict[str, Job] = {}
        implied = {name for name, state in self.systemd.units().items() if state.load != "not-found"}
        for name in sorted(slices, key=_depth):
            made = self.encoded("slice", slices[name])
            try:
                if name in implied:
                    self.systemd.set_properties(name, made or [Setting("Description", "s", name)])
                    state = self.state(name)
                    if state is not None and state.active not in _ALIVE:
                        jobs[name] = self.systemd.start(name)
                    results[name] = FINE
                else:
                    jobs[name] = self.systemd.start_transient(name, made)
            except HostError as error:
                results[name] = (f"{name}: {error.detail}", error.code)
            implied.update(ancestors(name))
        for name, result in self.systemd.wait(jobs.values()).items():
            results[name] = FINE if result == "done" else (f"{name}: {result}", 0)
        self.systemd.forget()
        return results

    def delete_slices(self, names: Sequence[str]) -> dict[str, Failed]:
        """Stop slices, children first, and the parents that were only there for them.

        One in which something goes on running loses its limits, and becomes one of systemd's own making.
        """
        results: dict[str, Failed] = dict.fromkeys(names, FINE)
        kept: list[str] = []
        for layer in _layers(names):
            self.systemd.forget()
            loaded = [name for name in layer if self.state(name) is not None]
            idle = [name for name in loaded if name not in OWN_SLICES and not self._running_in(name)]
            kept += [name for name in loaded if name not in idle]
            results.update(self.stop(idle))
        for name in kept:
            results[name] = self._unset(name)
        left = [name for name in names if results[name] == FINE and self._remove_files(name)]
        if left:
            self.systemd.reload()
        self._stop_implied({parent for name in names for parent in ancestors(name)} - set(kept))
        return results

    def _stop_implied(self, parents: Iterable[str]) -> None:
        """Stop slices that nobody set up and in which nothing runs any more."""
        for layer in _layers(parents):
            self.systemd.forget()
            idle = [
                name
                for name in layer
                if name not in OWN_SLICES
                and self.state(name) is not None
                and not self.exists(name)
                and not self._running_in(name)
            ]
            if idle:
                self.stop(idle)

    def _running_in(self, name: str) -> list[str]:
        """What runs in a slice: units that would be stopped with it."""
        found = self.systemd.properties(name, ["RequiredBy"]).get("RequiredBy", [])
        units = self.systemd.units()
        return [one for one in found if one in units and units[one].active in _ALIVE]

    def _unset(self, name: str) -> Failed:
        """Take back from a slice what was set on it at run time, and leave what runs in it alone."""
        known = directives.known("slice")
        folders = (_TRANSIENT / f"{name}.d", _CONTROL / f"{name}.d")
        files = [_TRANSIENT / name, *(one for folder in folders for one in sorted(folder.glob("50-*.conf")))]
        found = settings("slice", [file.read_text() for file in files if file.is_file()], transient=True)
        live = [one for one in found if known[one].live and one != "Description"]
        try:
            if live:
                self.systemd.set_properties(name, self._live_settings(name, {}, live))
        except HostError as error:
            return f"{name}: {error.detail}", error.code
        return FINE


def _write_as_read(file: Path) -> None:
    """Have systemd start a transient unit's commands as it does now, after a daemon-reload as well."""
    try:
        text = file.read_text()
        made = as_read(text)
        if made == text:
            return
        there = file.stat()
        other = file.with_name(f".{file.name}.nsprov")
        other.write_text(made)
        other.chmod(there.st_mode)
        os.utime(other, ns=(there.st_atime_ns, there.st_mtime_ns))  # else systemd asks for a daemon-reload
        other.replace(file)
    except OSError:
        return  # it has ended already, and its file with it


class Start:
    """A service with what starts it: the properties of a transient unit, and of its socket or timer."""

    def __init__(
        self,
        name: str,
        values: Mapping[str, Value],
        parts: Mapping[str, Mapping[str, Value]] | None = None,
        *,
        replaces: bool = False,
    ) -> None:
        self.name = name
        self.values = values
        self.parts = parts or {}
        #: Whether a unit of this name was just stopped, which systemd may take a moment to let go of.
        self.replaces = replaces

    @property
    def main(self) -> str:
        """The unit that is started: the timer or socket, where there is one."""
        for suffix in self.parts:
            return f"{self.name.rpartition('.')[0]}.{suffix}"
        return self.name

    @property
    def lasting(self) -> bool:
        """Whether it shall go on running, so that its ending at once is a failure."""
        return self.name.endswith(".service") and not self.parts and self.values.get("Type") != "oneshot"

    def arguments(
        self, encoded: Callable[[str, Mapping[str, Value]], list[Setting]]
    ) -> tuple[str, list[Setting], list[tuple[str, list[Setting]]]]:
        """What StartTransientUnit takes."""
        own = encoded(self.name.rpartition(".")[2], self.values)
        if not self.parts:
            return self.name, own, []
        stem = self.name.rpartition(".")[0]
        made = [(f"{stem}.{suffix}", encoded(suffix, more)) for suffix, more in self.parts.items()]
        (main, settings), *rest = made
        return main, settings, [(self.name, own), *rest]


def ancestors(name: str) -> list[str]:
    """The slices that a slice lies in, the nearest first, without the root."""
    parts = name.removesuffix(".slice").split("-")
    return ["-".join(parts[:count]) + ".slice" for count in range(len(parts) - 1, 0, -1)]


def _depth(name: str) -> int:
    return name.count("-")


def _layers(names: Iterable[str]) -> list[list[str]]:
    """Slices by how deep they lie, the deepest first."""
    layers: dict[int, list[str]] = {}
    for name in names:
        layers.setdefault(_depth(name), []).append(name)
    return [layers[depth] for depth in sorted(layers, reverse=True)]


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _near(one: str, other: str) -> bool:
    """Whether two sizes are within a page of each other for each percent: systemd counts in pages."""
    from provisioner.directives.values import BadValue, size

    try:
        return abs(size(one) - size(other)) <= 2 * 4096
    except BadValue:
        return False
