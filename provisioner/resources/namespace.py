"""The kind ``namespace``: persistent named namespaces beyond the network: user, uts, ipc, time, mount, pid, cgroup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, model_validator

from provisioner.directives import BadValue, values
from provisioner.errors import HostError
from provisioner.model import (
    Action,
    Address,
    Change,
    Check,
    Claim,
    Desired,
    Driver,
    Effect,
    Issue,
    Resource,
    StepResult,
    bad,
    spec,
)
from provisioner.network import NetnsName
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.pinned import Found, IdRange
    from provisioner.model import Scope, Step

__all__ = ["NAMESPACES", "ClockOffset", "HostName", "IdMap", "Namespace", "pinned_path"]

#: Where pinned namespaces are, by their types.
NAMESPACES = "/run/nsprov/ns"

NamespaceType = Literal["user", "uts", "ipc", "time", "mount", "pid", "cgroup"]
#: Those that end with their last process, and so need one that holds them.
_HELD = ("pid", "cgroup")
#: The fields that only one type has.
_FIELDS_OF = {
    "hostname": "uts",
    "domainname": "uts",
    "monotonic_offset": "time",
    "boottime_offset": "time",
    "uid_map": "user",
    "gid_map": "user",
    "nesting": "user",
}
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_NS_PER_USEC = 1000
#: What the kernel says where there is no domain name.
_NO_DOMAIN = "(none)"


def pinned_path(type: str, name: str) -> str:
    """The file that a pinned namespace is bound to."""
    return f"{NAMESPACES}/{type}/{name}"


def hostname(value: str) -> str:
    """A host's name, as sethostname(2) takes it. Raises what a validator raises."""
    if not _HOSTNAME.fullmatch(value):
        raise bad(f"'{value}' is not a host's name", "letters, digits, '-' and '.', at most 64 of them")
    return value


def offset(value: Any) -> str:
    """How far a clock is ahead (behind, with a minus), as a time span in its one form."""
    text = str(value).strip()
    negative = text.startswith("-")
    try:
        usec = values.span(text.removeprefix("-"))
    except BadValue as error:
        raise bad(error.message, "for instance 1d, 90min or -3600") from None
    if usec == values.INFINITY:
        raise bad("a clock cannot be ahead for ever", "for instance 1d")
    return ("-" if negative and usec else "") + values.span_text(usec)


def id_map(value: Any) -> tuple[str, ...]:
    """The lines of a uid_map: ``inside outside count`` each."""
    if not isinstance(value, (str, list, tuple)):
        raise bad(f"'{value}' is not a list of ranges of users", "for instance ['0 100000 65536']")
    made = []
    for line in [value] if isinstance(value, str) else value:
        words = str(line).replace(":", " ").split()
        if len(words) != 3 or not all(word.isdecimal() for word in words) or int(words[2]) < 1:
            raise bad(
                f"'{line}' is not a range of users", "inside, outside and how many, for instance '0 100000 65536'"
            )
        if int(words[0]) + int(words[2]) > 2**32 - 1 or int(words[1]) + int(words[2]) > 2**32 - 1:
            raise bad(f"'{line}' goes beyond the last user", "there are 4294967295 of them")
        made.append(" ".join(str(int(word)) for word in words))
    for side, number in (("inside", 0), ("outside", 1)):
        ranges = sorted((int(one.split()[number]), int(one.split()[2])) for one in made)
        for (start, count), (following, _) in pairwise(ranges):
            if start + count > following:
                raise bad(f"the ranges overlap {side}, at {following}", "each user stands for one other")
    # As the kernel tells a map that has many ranges.
    return tuple(sorted(made, key=lambda one: int(one.split()[0])))


HostName = Annotated[str, AfterValidator(hostname)]
ClockOffset = Annotated[str, BeforeValidator(offset)]
IdMap = Annotated[tuple[str, ...], BeforeValidator(id_map)]


class Namespace(Resource):
    """A namespace of users, names, clocks, mounts or processes with a name, which lasts until it is deleted.

    It is a file under /run/nsprov/ns, which units join (`join: {uts: NAME}`), which `nsprov exec` enters, and
    which `nsenter --uts=FILE` takes. A unit with `isolate` brings those that it needs by itself. A pid or cgroup
    namespace is held by a unit that it brings, as the kernel ends one with its last process.
    """

    kind: ClassVar[str] = "namespace"
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "uts", "name": "box", "hostname": "box", "domainname": "lab"}]}
    )

    name: NetnsName = spec(..., doc="its name, a file in /run/nsprov/ns/TYPE", examples=["box"])
    type: NamespaceType = spec(..., doc="what it isolates", effect=Effect.REPLACE)
    owner: NetnsName | None = spec(
        None,
        effect=Effect.REPLACE,
        doc="the pinned user namespace that owns it: its root has the rights over this one",
        examples=["box"],
    )
    hostname: HostName | None = spec(None, doc="uts: the host's name in it", examples=["box"])
    domainname: HostName | None = spec(None, doc="uts: the NIS domain name in it", examples=["lab"])
    monotonic_offset: ClockOffset | None = spec(
        None, effect=Effect.REPLACE, doc="time: how far CLOCK_MONOTONIC is ahead in it", examples=["1h", "-30s"]
    )
    boottime_offset: ClockOffset | None = spec(
        None, effect=Effect.REPLACE, doc="time: how far CLOCK_BOOTTIME, the uptime, is ahead in it", examples=["1d"]
    )
    uid_map: IdMap | None = spec(
        None,
        effect=Effect.REPLACE,
        doc="user: ranges `inside outside count`; without, 65536 users that no other namespace has",
        examples=[["0 100000 65536"]],
    )
    gid_map: IdMap | None = spec(
        None, effect=Effect.REPLACE, doc="user: the same for groups; without, as uid_map", examples=[["0 100000 65536"]]
    )
    nesting: bool | None = spec(
        None, effect=Effect.REPLACE, doc="user: whether namespaces of any kind can be made by what runs in it (no)"
    )

    @property
    def address(self) -> Address:
        return Address(self.kind, f"{self.type}/{self.name}")

    @classmethod
    def is_named_in_namespace(cls) -> bool:
        return False

    @model_validator(mode="before")
    @classmethod
    def _fits_type(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        given = fields.get("type")
        if given in ("net", "network"):
            raise bad("a network namespace is a kind of its own", "declare it with a 'netns:' task")
        for name, of in _FIELDS_OF.items():
            if fields.get(name) is not None and given in get_args(NamespaceType) and given != of:
                raise bad(f"{name} is for namespaces of type {of}, and this one is of type {given}")
        if given in ("user", "mount", *_HELD) and fields.get("owner") is not None:
            raise bad(f"a {given} namespace has no owner here", "all of them are made by the host")
        return fields

    # -- relations --------------------------------------------------------------------------------

    @property
    def holder(self) -> str | None:
        """The unit that holds it, where it ends with its last process."""
        return f"nsprov-{self.type}-{self.name}.service" if self.type in _HELD else None

    def brings(self) -> Iterable[Resource]:
        """What holds it: a unit that does nothing but be in it."""
        if self.holder is not None:
            from provisioner.resources import kind_of

            yield kind_of("unit").resource(
                name=self.holder,
                Description=f"Holds the {self.type} namespace {self.name}",
                isolate=(self.type,),
                init=True if self.type == "pid" else None,
                harden="standard",
                ExecStart="/bin/sleep infinity",
                Restart="always",
            )

    def requires(self) -> Iterable[Address]:
        return self.lives_in()

    def lives_in(self) -> Iterable[Address]:
        found = [Address(self.kind, f"user/{self.owner}")] if self.owner else []
        return [*found, Address("unit", self.holder)] if self.holder else found

    def claims(self) -> Iterable[Claim]:
        """Users outside: who shares one with another namespace can signal what runs there."""
        for line in self.uid_map or ():
            _, outside, count = map(int, line.split())
            yield Claim(f"the range of users from {outside}, {count} of them,", ("users", outside, count))

    def audit(self, desired: Desired) -> Iterable[Issue]:
        mine = [_outside(line) for line in self.uid_map or ()]
        for other in desired.of(self.kind):
            one = other.resource
            if not isinstance(one, Namespace) or one.address <= self.address:
                continue
            for start, end in (_outside(line) for line in one.uid_map or ()):
                if any(start < last and first < end for first, last in mine):
                    yield Issue(
                        f"its users {start} to {end - 1} overlap those of {one.address}", "uid_map",
                        "give each its own range, or leave uid_map out",
                    )  # fmt: skip

    # -- showing and proving ----------------------------------------------------------------------

    def summary(self) -> list[tuple[str, str]]:
        shown = [(name, text) for name, text in super().summary() if name != "type"]
        if self.type == "user" and self.uid_map is None:
            shown.append(("uid_map", "65536 users of its own"))
        return shown

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        found = [change for change in super().changes_from(current, last) if change.field != "nesting" or self.nesting]
        if self.type == "user" and self.nesting is None and getattr(current, "nesting", False):
            found.append(Change("nesting", True, False, Effect.REPLACE))
        # Without a map any range will do: the one that it has.
        return [change for change in found if not (change.field in ("uid_map", "gid_map") and change.after is None)]

    def checks(self) -> Iterable[Check]:
        path = pinned_path(self.type, self.name)
        yield Check(f"{self.address} exists", f"assert pinned(host, {self.type!r}, {self.name!r}), {path!r}")
        if self.hostname is not None:
            yield Check(
                f"{self.address} calls the host {self.hostname}",
                f"assert inside(host, {self.type!r}, {self.name!r}, 'uname -n') == {self.hostname!r}",
            )
        if self.domainname is not None:
            yield Check(
                f"{self.address} is in the domain {self.domainname}",
                f"assert inside(host, {self.type!r}, {self.name!r}, 'cat /proc/sys/kernel/domainname')"
                f" == {self.domainname!r}",
            )
        for clock, ahead in (("monotonic", self.monotonic_offset), ("boottime", self.boottime_offset)):
            if ahead is not None:
                yield Check(
                    f"{self.address} has its {clock} clock {ahead} ahead",
                    f"assert clock_offset(host, {self.name!r}, {clock!r}) == {_nanoseconds(ahead) // 10**9}",
                )
        for line in self.uid_map or ():
            yield Check(
                f"{self.address} maps users {line}",
                f"assert {line!r} in inside(host, 'user', {self.name!r}, 'cat /proc/self/uid_map')",
            )


class NamespaceDriver(Driver[Namespace]):
    """Makes, reads and removes pinned namespaces."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Namespace]:
        for address in scope.of("namespace"):
            type_, _, name = address.name.partition("/")
            found = host.pinned.find(type_, name)
            stale = type_ in _HELD and not host.pinned.is_held_by(type_, name, _holder_of(host, type_, name))
            if found is not None and not stale:
                yield _observed(found)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        for step in steps:
            try:
                self._carry_out(host, step)
            except HostError as error:
                yield StepResult(step.address, str(error), error.code)
            else:
                yield StepResult(step.address)

    def _carry_out(self, host: Host, step: Step) -> None:
        type_, _, name = step.address.name.partition("/")
        if step.action is Action.DELETE:
            host.pinned.delete(type_, name)
            return
        after = step.after
        assert isinstance(after, Namespace)
        if step.action is Action.CREATE:
            _create(host, after)
            return
        gone = {change.field for change in step.changes if change.after is None}
        names = [
            default if field in gone else getattr(after, field)
            for field, default in (("hostname", host.facts.name), ("domainname", _NO_DOMAIN))
        ]
        host.pinned.set_names(name, *names)


def _create(host: Host, wanted: Namespace) -> None:
    name, owner = wanted.name, wanted.owner
    if wanted.type == "user":
        uids, gids = (_ranges(one) for one in (wanted.uid_map, wanted.gid_map or wanted.uid_map))
        host.pinned.create_user(name, uids, gids, nesting=bool(wanted.nesting))
    elif wanted.type == "uts":
        host.pinned.create_uts(name, owner, wanted.hostname, wanted.domainname)
    elif wanted.type == "ipc":
        host.pinned.create_ipc(name, owner)
    elif wanted.type == "mount":
        host.pinned.create_mount(name)
    elif wanted.type in _HELD:
        host.pinned.delete(wanted.type, name)  # one that outlived its holder's last start
        host.pinned.create_held(wanted.type, name, _holder_of(host, wanted.type, name))
    else:
        offsets = [_nanoseconds(one or "0") for one in (wanted.monotonic_offset, wanted.boottime_offset)]
        host.pinned.create_time(name, owner, *offsets)


def _holder_of(host: Host, type_: str, name: str) -> int:
    """The main process of the unit that holds a namespace; 0 where it does not run."""
    return int(host.systemd.properties(f"nsprov-{type_}-{name}.service", ["MainPID"]).get("MainPID", 0))


def _observed(found: Found) -> Namespace:
    fields: dict[str, Any] = {"type": found.type, "name": found.name, "owner": found.owner}
    fields |= {"hostname": found.hostname, "domainname": found.domainname, "nesting": found.nesting}
    if found.domainname == _NO_DOMAIN:
        fields["domainname"] = None
    for field, ahead in (("monotonic_offset", found.monotonic), ("boottime_offset", found.boottime)):
        if ahead is not None:
            text = values.span_text(abs(ahead) // _NS_PER_USEC)
            fields[field] = f"-{text}" if ahead < 0 else text
    for field, ranges in (("uid_map", found.uids), ("gid_map", found.gids)):
        if ranges is not None:
            fields[field] = tuple(str(one) for one in ranges)
    return Namespace.model_construct(**fields)


def _ranges(lines: Sequence[str] | None) -> tuple[IdRange, ...] | None:
    from provisioner.host.pinned import IdRange

    return None if lines is None else tuple(IdRange(*map(int, line.split())) for line in lines)


def _outside(line: str) -> tuple[int, int]:
    """The users outside that a line of a map stands for: the first, and the one after the last."""
    _, start, count = map(int, line.split())
    return start, start + count


def _nanoseconds(text: str) -> int:
    """What an offset in its one form comes to."""
    usec = values.span(text.removeprefix("-"))
    return (-usec if text.startswith("-") else usec) * _NS_PER_USEC


register(Namespace, NamespaceDriver())
