"""Units: services that systemd runs, in a namespace and a slice, started by themselves, a socket or a timer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, field_validator, model_validator

from provisioner.directives import Value
from provisioner.directives.kernel import limit_checks
from provisioner.directives.spec import Part, check_directives, compared
from provisioner.errors import did_you_mean
from provisioner.isolation import credentials
from provisioner.isolation.isolated import Isolated
from provisioner.model import (
    Action,
    Address,
    Change,
    Check,
    Desired,
    Driver,
    Effect,
    Issue,
    Resource,
    Scope,
    Step,
    StepResult,
    bad,
    jsonable,
    shown_text,
    spec,
)
from provisioner.network import NetnsName
from provisioner.resources import register
from provisioner.secrets import Paths

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.units import Failed, Start, Units
    from provisioner.model import TaskContext

__all__ = ["Socket", "Timer", "Unit"]

_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+")
_NETNS = "/run/netns/"
#: The types of units that systemd makes at run time, and that stand by themselves here.
_TYPES = ("service", "socket", "timer", "path", "mount", "automount")
#: What a unit that starts another one waits for: systemd refuses one that waits for nothing.
_STARTS = {
    "socket": frozenset(
        f"Listen{kind}"
        for kind in (
            "Stream", "Datagram", "SequentialPacket", "FIFO", "Special", "Netlink", "MessageQueue", "USBFunction",
        )
    ),
    "timer": frozenset({
        "OnCalendar", "OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec",
        "OnClockChange", "OnTimezoneChange",
    }),
}  # fmt: skip
_OTHER_TYPES = {
    "slice": "declare it with a 'slice:' task",
    "target": "systemd makes no targets at run time; write a unit file with a 'file:' task",
    "swap": "systemd makes no swaps at run time; write a unit file with a 'file:' task",
    "device": "systemd makes devices from udev's",
    "scope": "a scope is made of processes that run already",
}
#: Slices that are there without being declared.
_OWN_SLICES = frozenset({"-.slice", "system.slice", "user.slice", "machine.slice"})
#: Directives that tie a unit's life to others'.
_NEEDS = ("Requires", "Requisite", "BindsTo")
#: Directives whose values ``systemctl show`` prints as they are written here.
_SHOWN = frozenset({
    "User", "Group", "DynamicUser", "NoNewPrivileges", "PrivateDevices", "PrivateIPC", "PrivateMounts",
    "PrivateNetwork", "ProtectSystem", "ProtectHome", "ProtectClock", "ProtectKernelLogs", "ProtectKernelModules",
    "ProtectKernelTunables", "ProtectProc", "ProcSubset", "LockPersonality", "MemoryDenyWriteExecute",
    "RestrictRealtime", "RestrictSUIDSGID", "RemoveIPC", "KeyringMode", "Restart", "Type", "KillMode", "DevicePolicy",
    "Description",
})  # fmt: skip


class Socket(Part):
    """The socket that starts a service when somebody connects: directives of [Socket], such as ``ListenStream``."""

    unit_type: ClassVar[str] = "socket"


class Timer(Part):
    """The timer that starts a service: directives of [Timer], such as ``OnCalendar``."""

    unit_type: ClassVar[str] = "timer"


class Unit(Isolated):
    """A transient systemd unit, most often a service, that runs in a network namespace and a slice.

    Takes every directive of the unit's type by systemd's own name and syntax: ``ExecStart``, ``User``,
    ``ProtectSystem``, ``MemoryMax``. A list is for directives that may stand several times, or that take a list.
    Values are taken as ``systemd-run -p`` takes them: specifiers (``%n``) are not expanded.

    Resource control changes live and the workload keeps its PID; any other change restarts this unit alone.
    A service without ``Type`` is given ``exec``, so that a command that cannot be executed is an error of the
    apply; one of ``Type: oneshot`` is given ``RemainAfterExit: yes``, so that it runs once and not at each
    apply. A unit that has failed or is gone is started again by the next apply.
    """

    kind: ClassVar[str] = "unit"
    workload: ClassVar[bool] = True
    may_be_secret: ClassVar[tuple[str, ...]] = ("credentials",)
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "web-blue.service",
                    "netns": "blue",
                    "Slice": "tenants-blue.slice",
                    "ExecStart": "/usr/bin/python3 -m http.server 8080",
                    "DynamicUser": "yes",
                    "MemoryMax": "256M",
                }
            ]
        }
    )

    name: str = spec(
        ...,
        doc="the unit; without a suffix it is a service",
        examples=["web.service", "web-blue.service", "backup.service"],
    )
    netns: NetnsName | None = spec(
        None, effect=Effect.RESTART, doc="the network namespace that its processes are in", examples=["blue"]
    )
    socket: Socket | None = spec(
        None,
        effect=Effect.RESTART,
        doc="a socket of the same name, which is started instead of the service and starts it when it is used",
        examples=[{"ListenStream": "0.0.0.0:80"}],
    )
    timer: Timer | None = spec(
        None,
        effect=Effect.RESTART,
        doc="a timer of the same name, which is started instead of the service and starts it in its time",
        examples=[{"OnCalendar": "daily"}],
    )
    credentials: dict[str, str] | None = spec(
        None,
        effect=Effect.RESTART,
        doc="secrets by name; the service reads each as the file $CREDENTIALS_DIRECTORY/NAME, and nobody else can",
        examples=[{"db_password": "{{ vault_db_password }}"}],
    )
    restart_on: tuple[str, ...] | None = spec(
        None,
        doc="addresses of resources whose change restarts this unit",
        examples=[["file//etc/web.conf", "template//etc/web.conf"]],
    )
    state: Literal["started", "stopped", "failed"] = spec(
        "started", effect=Effect.RESTART, doc="always `started`: a unit that shall not run is left out"
    )

    @property
    def address(self) -> Address:
        """A unit's name is the host's, whatever namespace its processes are in."""
        return Address(self.kind, self.name)

    # -- from a task ------------------------------------------------------------------------------

    @classmethod
    def unit_type_of(cls, fields: Mapping[str, Any]) -> str:
        suffix = str(fields.get("name", "")).rpartition(".")[2]
        return suffix if suffix in _TYPES else "service"

    @model_validator(mode="before")
    @classmethod
    def _namespace_by_path(cls, fields: Any) -> Any:
        """A namespace's path in ``NetworkNamespacePath`` is the namespace."""
        if not isinstance(fields, Mapping):
            return fields
        path = fields.get("NetworkNamespacePath")
        if not isinstance(path, str) or not path.startswith(_NETNS):
            return fields
        name = path.removeprefix(_NETNS)
        if fields.get("netns") not in (None, name):
            raise bad(f"netns is '{fields['netns']}', but NetworkNamespacePath is '{path}'", "write netns alone")
        return {**{key: value for key, value in fields.items() if key != "NetworkNamespacePath"}, "netns": name}

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        _, dot, suffix = name.rpartition(".")
        if dot and suffix in _OTHER_TYPES:
            raise bad(f"a unit cannot be a {suffix}", _OTHER_TYPES[suffix])
        whole = name if dot and suffix in _TYPES else f"{name}.service"
        if not _NAME.fullmatch(whole) or len(whole) > 255 or whole.startswith("."):
            raise bad(f"'{name}' is not the name of a unit", "letters, digits and : _ . \\ @ -, up to 255 of them")
        if whole.endswith("@.service"):
            raise bad(f"'{name}' is a template", f"name an instance, such as {whole.replace('@.', '@1.')}")
        return whole

    @classmethod
    def prepare(cls, fields: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        return credentials.as_secrets(fields)

    @field_validator("credentials", mode="before")
    @classmethod
    def _credentials(cls, value: Any) -> Any:
        return credentials.validated(value)

    @field_validator("restart_on", mode="before")
    @classmethod
    def _triggers(cls, value: Any) -> Any:
        if value is None:
            return None
        addresses = [value] if isinstance(value, str) else list(value)
        for one in addresses:
            try:
                Address.parse(str(one))
            except ValueError as error:
                raise bad(str(error), "for instance file//etc/web.conf") from None
        return tuple(str(one) for one in addresses)

    @model_validator(mode="after")
    def _whole(self) -> Unit:
        if self.socket is not None and self.timer is not None:
            raise bad("a unit has a socket or a timer, not both", "declare the other one as a unit of its own")
        if self.credentials and self.unit_type != "service":
            raise bad(f"a {self.unit_type} takes no credentials here", "give them to the service that it starts")
        if (self.socket or self.timer) and self.unit_type != "service":
            raise bad(f"a {self.unit_type} has no socket or timer of its own")
        return self

    def secret_fields(self, secrets: Paths) -> Paths:
        """A credential is one, however it was written."""
        return secrets | {("credentials", name) for name in self.credentials or ()}

    def secret_files(self, secrets: Paths) -> Iterable[tuple[str, str, bytes]]:
        for name, text in (self.credentials or {}).items():
            path = credentials.path_of(self.name, name)
            yield f"the credential {name} of {self.address} is the declared one", path, text.encode()

    # -- relations --------------------------------------------------------------------------------

    def requires(self) -> Iterable[Address]:
        found = [*self.lives_in(), *self.isolation_requires()]
        for name in _NEEDS:
            for other in self.directives.get(name, ()):
                if other.endswith(".service"):
                    found.append(Address("unit", other))
        return found

    def lives_in(self) -> Iterable[Address]:
        """Its namespace and its slice take a unit along when they go."""
        found = [Address("netns", self.network)] if self.network else []
        found += self.isolation_needs()
        slice_name = self.directives.get("Slice")
        if slice_name and slice_name not in _OWN_SLICES:
            found.append(Address("slice", str(slice_name)))
        return found

    def triggers(self) -> Iterable[Address]:
        return [Address.parse(one) for one in self.restart_on or ()]

    def audit(self, desired: Desired) -> Iterable[Issue]:
        if self.state != "started":
            yield Issue(
                f"a unit cannot be declared {self.state}",
                "state",
                "leave the unit out, for instance with `when:`: a transient unit that does not run does not exist",
            )
        oneshot = self.directives.get("Type") == "oneshot"
        started = self.directives.get("ExecStart") or (oneshot and self.directives.get("ExecStop"))
        if self.unit_type == "service" and not started:
            yield Issue("a service needs ExecStart", None, "for instance ExecStart: /usr/bin/sleep infinity")
        if not oneshot and len(self.directives.get("ExecStart", ())) > 1:
            yield Issue("only a service of Type: oneshot has several ExecStart", "ExecStart", "use ExecStartPre")
        for what, given, field in self._starting():
            if not given & _STARTS[what]:
                hint = "for instance ListenStream: 0.0.0.0:80" if what == "socket" else "for instance OnCalendar: daily"
                yield Issue(f"this {what} waits for nothing: systemd does not start it", field, hint)
        for trigger in self.triggers():
            if trigger not in desired.resources:
                there = [str(one) for one in desired.resources]
                whole = f"{trigger}.service"
                guess = f"did you mean '{whole}'?" if whole in there else did_you_mean(str(trigger), there)
                yield Issue(f"restart_on names {trigger}, which is not declared", "restart_on", guess)

    def _starting(self) -> Iterable[tuple[str, frozenset[str], str | None]]:
        """What starts services, in it or beside it: its type, its directives, and the field that they are in."""
        if self.unit_type in _STARTS:
            yield self.unit_type, frozenset(self.directives), None
        for field, part in self._parts().items():
            yield field, frozenset(part), field

    def check_host(self, facts: Mapping[str, Any]) -> Iterable[Issue]:
        yield from super().check_host(facts)
        for field, part in self._parts().items():
            yield from check_directives(field, part, facts, f"{field}.")

    def questions(self) -> Iterable[str]:
        yield from super().questions()
        yield from (f"signatures {part}" for part in self._parts())

    def _parts(self) -> dict[str, dict[str, Value]]:
        found: dict[str, dict[str, Value]] = {}
        if self.socket is not None:
            found["socket"] = self.socket.directives
        if self.timer is not None:
            found["timer"] = self.timer.directives
        return found

    # -- comparing --------------------------------------------------------------------------------

    def summary(self) -> list[tuple[str, str]]:
        shown = [("netns", self.netns)] if self.netns else []
        told = {"state", *self.carried_out_by_directives, *self.directives}
        own = [(name, text) for name, text in super().summary() if name not in told]
        directives = [(name, shown_text(value)) for name, value in self.directives_told()]
        return shown + self.isolation_summary() + own + directives

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        assert isinstance(current, Unit)
        before = last if isinstance(last, Unit) else None
        changes = []
        if self.state != current.state:
            changes.append(Change("state", current.state, self.state, Effect.RESTART))
        if self.netns != current.netns and (self.netns is not None or (before is not None and before.netns)):
            changes.append(Change("netns", current.netns, self.netns, Effect.RESTART))
        last_given = before.credentials if before is not None else None
        changes += credentials.changes(self.credentials, current.credentials, last_given)
        changes += self.hidden_changes(current, self.directive_changes(current, before))
        for field in ("socket", "timer"):
            changes += _part_changes(field, getattr(self, field), getattr(current, field), getattr(before, field, None))
        return changes

    # -- proof ------------------------------------------------------------------------------------

    def checks(self) -> Iterable[Check]:
        unit, parts = self.name, self._parts()
        started = next((f"{unit.rpartition('.')[0]}.{suffix}" for suffix in parts), unit)
        what = f"{self.address} is active" if started == unit else f"{self.address} waits for its {next(iter(parts))}"
        yield Check(what, f"assert unit_property(host, {started!r}, 'ActiveState') == 'active'")
        kind = self.directives.get("Type")
        running = unit.endswith(".service") and not parts and kind != "oneshot"
        if self.netns and running:
            yield Check(
                f"{self.address} runs in netns {self.netns}", f"assert unit_netns(host, {unit!r}) == {self.netns!r}"
            )
        elif self.netns:
            path = f"{_NETNS}{self.netns}"
            yield Check(
                f"{self.address} will run in netns {self.netns}",
                f"assert unit_property(host, {unit!r}, 'NetworkNamespacePath') == {path!r}",
            )
        for isolated in self.isolate or () if running else ():
            yield Check(
                f"{self.address} has its own {isolated} namespace",
                f"assert own_namespace(host, {unit!r}, {isolated!r})",
            )
        for name, value in self.directives.items():
            if name in _SHOWN or name == "Slice":
                title = f"{self.address} is in {value}" if name == "Slice" else f"{self.address} {name} is {value}"
                yield Check(title, f"assert unit_property(host, {unit!r}, {name!r}) == {value!r}")
        yield from credentials.checks(self.address, unit, self.credentials or ())
        if running:
            yield from limit_checks(self.address, unit, self.directives)


def _part_changes(field: str, wanted: Part | None, found: Part | None, last: Part | None) -> Iterable[Change]:
    if wanted is None:
        if last is not None and found is not None:
            yield Change(field, jsonable(found), None, Effect.RESTART)
        return
    if found is None:
        yield Change(field, None, jsonable(wanted), Effect.RESTART)
        return
    before = last.directives if last is not None else {}
    for name, there, value in compared(wanted.unit_type, wanted.directives, found.directives, before):
        yield Change(f"{field}.{name}", jsonable(there), jsonable(value), Effect.RESTART)


class UnitDriver(Driver[Unit]):
    """Makes transient units, changes what can change on a running one, and restarts for the rest."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Unit]:
        from provisioner.host import credentials as resting
        from provisioner.host.units import Units

        units = Units(host.systemd)
        for address, specs in scope.of("unit").items():
            if units.exists(address.name):
                yield _observed(units, address.name, [one for one in specs if isinstance(one, Unit)])
            elif address in scope.undeclared and resting.read(address.name) is not None:
                # Its start was cut off, and it was given up: what it was to be given goes with it.
                yield Unit.observed(name=address.name, state="stopped", credentials=resting.read(address.name))

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        from provisioner.host import credentials as resting
        from provisioner.host.units import Units

        units = Units(host.systemd)
        action = steps[0].action
        for step in steps:
            if isinstance(step.after, Unit):
                resting.write(step.address.name, step.after.credentials)
        if action is Action.DELETE:
            results = _stop(units, steps)
            for name, (error, _) in results.items():
                if not error:
                    resting.remove(name)
        elif action is Action.CREATE:
            results = units.start(_in_order({s.address.name: _start(s.after) for s in steps if s.after is not None}))
        else:
            results = _update(units, steps)
        for step in steps:
            error, code = results.get(step.address.name, (None, 0))
            note = "" if error else _note(units, step)
            yield StepResult(step.address, error, code, note=note)

    def status(self, host: Host, resources: Sequence[Unit]) -> Mapping[Address, str]:
        """What each unit does at this moment."""
        from provisioner.host.units import Units

        units = Units(host.systemd)
        found = {}
        for one in resources:
            state = units.state(one.name)
            starters = [(name, units.state(name)) for name in _starters(one)]
            waiting = next((name for name, known in starters if known is not None and known.active == "active"), None)
            if waiting is not None and (state is None or state.active == "inactive"):
                found[one.address] = f"waits for {waiting}"
                continue
            if state is None:
                found[one.address] = "not loaded"
                continue
            pid = int(host.systemd.properties(one.name, ["MainPID"]).get("MainPID", 0))
            found[one.address] = f"{state.active} ({state.sub})" + (f", PID {units.numbers(pid)}" if pid else "")
        return found


def _observed(units: Units, name: str, specs: Sequence[Unit]) -> Unit:
    from provisioner.host import credentials as resting

    if not specs:
        return Unit.observed(name=name)
    found = _without_defaults(units.directives(name, [_with_path(one) for one in specs]), specs)
    found = credentials.without_own(name, found)
    path = str(found.pop("NetworkNamespacePath", ""))
    fields: dict[str, Any] = dict(found)
    if path.startswith(_NETNS):
        fields["netns"] = path.removeprefix(_NETNS)
    elif path:
        fields["NetworkNamespacePath"] = path
    main, stem = name, name.rpartition(".")[0]
    for field, part in (("socket", Socket), ("timer", Timer)):
        wanted = [getattr(one, field).directives for one in specs if getattr(one, field) is not None]
        other = f"{stem}.{field}"
        if wanted and units.exists(other):
            fields[field] = part.model_validate(_part(units, other, wanted))
            main = other
    fields["credentials"] = resting.read(name) or None
    return Unit.observed(name=name, state=_state(units, main), **fields)


def _without_defaults(found: dict[str, Value], specs: Sequence[Unit]) -> dict[str, Value]:
    """What a unit sets, without what ``_start`` gives to a service that says nothing of it."""
    named = {name for one in specs for name in one.directives}
    if found.get("Type") == "oneshot" and found.get("RemainAfterExit") == "yes" and "RemainAfterExit" not in named:
        del found["RemainAfterExit"]
    if found.get("Type") == "exec" and "Type" not in named:
        del found["Type"]
    return found


def _part(units: Units, name: str, wanted: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """What a socket or timer sets; the namespace that it has from its service is left out."""
    found = units.directives(name, wanted)
    found.pop("NetworkNamespacePath", None)
    return found


def _with_path(unit: Unit) -> dict[str, Value]:
    path = {"NetworkNamespacePath": _NETNS + unit.netns} if unit.netns else {}
    return {**unit.directives, **path}


def _state(units: Units, name: str) -> Literal["started", "stopped", "failed"]:
    state = units.state(name)
    if state is None or state.active in ("inactive", "deactivating"):
        return "stopped"
    return "failed" if state.active == "failed" else "started"


def _start(unit: Resource, gone: Iterable[str] = (), *, replaces: bool = False) -> Start:
    """What a spec is started with: its directives, without those that are ``gone``, and with their defaults."""
    from provisioner.host.units import Start

    assert isinstance(unit, Unit)
    left = set(gone)
    made: dict[str, Value] = {name: value for name, value in unit.directives.items() if name not in left}
    if unit.netns and "netns" not in left:
        made["NetworkNamespacePath"] = _NETNS + unit.netns
    if unit.credentials:
        made["LoadCredential"] = (*made.get("LoadCredential", ()), *credentials.loaded(unit.name, unit.credentials))
    if unit.unit_type == "service":
        made.setdefault("Type", "exec")
        if made["Type"] == "oneshot" and unit.timer is None and unit.socket is None:
            made.setdefault("RemainAfterExit", "yes")
    parts: dict[str, dict[str, Value]] = {}
    for field, one in unit._parts().items():
        if field not in left:
            parts[field] = {name: value for name, value in one.items() if f"{field}.{name}" not in left}
    if "socket" in parts and "NetworkNamespacePath" in made:
        parts["socket"].setdefault("NetworkNamespacePath", made["NetworkNamespacePath"])
    return Start(unit.name, made, parts, replaces=replaces)


def _in_order(starts: Mapping[str, Start]) -> dict[str, Start]:
    """Units after those that they name in After= and the like, as their start would fail or run early otherwise."""
    ordered: dict[str, Start] = {}
    open_ones: set[str] = set()

    def place(name: str) -> None:
        if name in ordered or name in open_ones or name not in starts:
            return
        open_ones.add(name)
        for directive in ("After", "Wants", "JoinsNamespaceOf", *_NEEDS):
            for other in starts[name].values.get(directive, ()):
                place(other)
        ordered[name] = starts[name]

    for name in starts:
        place(name)
    return ordered


def _starters(unit: Resource | None) -> list[str]:
    """The socket or timer that starts a unit."""
    if not isinstance(unit, Unit):
        return []
    stem = unit.name.rpartition(".")[0]
    return [f"{stem}.{suffix}" for suffix in unit._parts()]


def _stop(units: Units, steps: Iterable[Step]) -> dict[str, Failed]:
    """Stop units, each after what starts it: else it would be started again. Where that one does not stop,
    the unit is not touched."""
    from provisioner.host.units import FINE

    starters = {step.address.name: _starters(step.before) for step in steps}
    stopped = units.stop([one for several in starters.values() for one in several], forget=False)
    results = {
        name: next((stopped[one] for one in several if stopped[one][0]), FINE) for name, several in starters.items()
    }
    rest = [name for name, outcome in results.items() if outcome == FINE]
    stopped = units.stop([one for name in rest for one in (*starters[name], name)])
    return {**results, **{name: stopped[name] for name in rest}}


def _update(units: Units, steps: Sequence[Step]) -> dict[str, Failed]:
    live = [step for step in steps if all(change.effect is Effect.LIVE for change in step.changes)]
    results: dict[str, Failed] = units.change_live(live)
    anew: dict[str, Step] = {}
    for step in steps:
        name = step.address.name
        if name in results:
            continue
        # One that is gone has stopped along with another one that this apply has changed.
        if units.is_transient(name) or not units.exists(name):
            anew[name] = step
        else:
            results[name] = units.restart_from_disk(step)
    if anew:
        along = units.depending(anew.keys())
        stopped = _stop(units, anew.values())
        starts = {}
        for name, step in anew.items():
            if stopped[name][0]:
                results[name] = stopped[name]
            elif step.after is not None:
                gone = [change.field for change in step.changes if change.after is None]
                starts[name] = _start(step.after, gone, replaces=True)
        results.update(units.start(_in_order(starts)))
        lost = [error for error, _ in units.start_again(along).values() if error] if along else []
        for name in starts:
            if lost and not results[name][0]:
                results[name] = ("; ".join(lost), 0)
    return results


def _note(units: Units, step: Step) -> str:
    """What a person may want to know of a unit that was started: its PID, or that it has ended already."""
    if step.action is Action.DELETE or not step.address.name.endswith(".service"):
        return ""
    if isinstance(step.after, Unit) and (step.after.timer or step.after.socket):
        return ""
    if units.state(step.address.name) is None:
        return "it has ended already (a service that shall run once is Type: oneshot)"
    return ""


register(Unit, UnitDriver())
