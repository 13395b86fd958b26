"""Units that are isolated: the fields that say how, whatever the host, and what they come to on one.

Owns the fields ``isolate``, ``harden``, ``join`` and those that belong to them; what carries them out is
``ways``' to say. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from provisioner.directives import Value
from provisioner.directives.spec import Directives
from provisioner.errors import did_you_mean
from provisioner.isolation.hardening import Profile, profile
from provisioner.isolation.launch import workload_of
from provisioner.isolation.rooted import Rooted
from provisioner.isolation.ways import KINDS, PINNED, SHARED_MEMORY, KindName, Trouble, Wish, carried_out, ways
from provisioner.model import Address, Change, Desired, Effect, Issue, Resource, bad, jsonable, spec
from provisioner.network.values import netns_name
from provisioner.resources.file import File
from provisioner.resources.namespace import ClockOffset, HostName, IdMap, Namespace, pinned_path
from provisioner.resources.netns import Netns

__all__ = ["Isolated"]

#: The kinds that a unit may share with another one, and those that it may enter by name.
_SHARED = ("net", "ipc", "pid")
_JOINED = ("ipc", *PINNED)
#: The directives that say what a unit sees.
_OF_VIEW = ("RootImage", "RootDirectory", "MountAPIVFS", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem")
#: A version of systemd that has every directive.
_ANY_VERSION = 10**6
#: The directives that tell which profile a unit has: no launcher is in need of less of them.
_TOLD_BY = ("ProtectSystem", "ProtectHome", "RestrictAddressFamilies", "LockPersonality", "SystemCallArchitectures")
#: Who a launcher makes of the workload.
_REUID = re.compile(r"--reuid=(\S+)")
#: What a workload with a hostname of its own has in /etc/hosts.
_HOSTS = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
127.0.1.1 {name}
"""
#: The fields that only count with a kind.
_FIELDS_OF: Mapping[str, KindName] = {
    "hostname": "uts",
    "domainname": "uts",
    "monotonic_offset": "time",
    "boottime_offset": "time",
    "uid_map": "user",
    "gid_map": "user",
    "init": "pid",
    "root": "mount",
    "binds": "mount",
    "tmpfs": "mount",
    "strict": "mount",
}


class Isolated(Rooted):
    """A unit with what isolates it."""

    #: Fields that are carried out by directives, and compared by those.
    carried_out_by_directives: ClassVar[tuple[str, ...]] = ("isolate", "harden", "join", *_FIELDS_OF)

    isolate: tuple[KindName, ...] | None = spec(
        None,
        effect=Effect.RESTART,
        doc="the kinds of namespaces that are its own: mount, pid, net, ipc, uts, user, cgroup, time; or `all`",
        examples=["all", ["pid", "ipc", "mount"]],
    )
    harden: Profile | None = spec(
        None,
        effect=Effect.RESTART,
        doc="the directives that take from it what services do not need; each one that the unit names itself wins",
        examples=["strict"],
    )
    init: bool | None = spec(
        None,
        effect=Effect.RESTART,
        doc="whether a small init is its PID 1, which passes signals on and reaps; else the workload itself is",
    )
    hostname: HostName | None = spec(None, doc="its host's name; without, the unit's", examples=["box"])
    domainname: HostName | None = spec(None, doc="its NIS domain name", examples=["lab"])
    monotonic_offset: ClockOffset | None = spec(
        None, effect=Effect.RESTART, doc="how far its CLOCK_MONOTONIC is ahead", examples=["1h"]
    )
    boottime_offset: ClockOffset | None = spec(
        None, effect=Effect.RESTART, doc="how far its CLOCK_BOOTTIME, its uptime, is ahead", examples=["1d", "-30s"]
    )
    uid_map: IdMap | None = spec(
        None,
        effect=Effect.RESTART,
        doc="its users, ranges `inside outside count`; without, 65536 users that no other namespace has",
        examples=[["0 100000 65536"]],
    )
    gid_map: IdMap | None = spec(
        None, effect=Effect.RESTART, doc="its groups; without, as its users", examples=[["0 100000 65536"]]
    )
    join: dict[str, str] | None = spec(
        None,
        effect=Effect.RESTART,
        doc="a unit whose network, ipc and pid namespaces it shares; or by kind: a unit (`web.service`) for net, ipc "
        "and pid, and a `namespace` by its name for ipc, pid, user, uts and time",
        examples=["web", {"pid": "web.service", "uts": "box"}],
    )

    # -- from a task ------------------------------------------------------------------------------

    @field_validator("isolate", mode="before")
    @classmethod
    def _kinds(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, (str, list, tuple)):
            raise bad("isolate takes kinds of namespaces", f"a list of {', '.join(KINDS)}, or all of them: all")
        words = value.replace(",", " ").split() if isinstance(value, str) else [str(one) for one in value]
        if "all" in words:
            return KINDS
        for word in words:
            if word not in KINDS:
                hint = did_you_mean(word, (*KINDS, "all")) or f"the kinds are {', '.join(KINDS)}, or all of them: all"
                raise bad(f"Linux has no namespaces of kind '{word}'", hint)
        return tuple(kind for kind in KINDS if kind in words)

    @field_validator("join", mode="before")
    @classmethod
    def _joins(cls, value: Any) -> Any:
        if value is None:
            return None
        given = dict.fromkeys(_SHARED, value) if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise bad(
                "join takes a unit, or names by kind", "for instance join: web.service, or join: {pid: web.service}"
            )
        made = {}
        for kind, name in given.items():
            if kind not in (*_SHARED, *_JOINED):
                hint = did_you_mean(str(kind), (*_SHARED, *PINNED)) or f"what can be: {', '.join((*_SHARED, *PINNED))}"
                raise bad(f"a namespace of kind '{kind}' cannot be joined", hint)
            if not isinstance(name, str):
                raise bad(f"join.{kind} takes a name", "for instance join: {pid: web.service}")
            unit = kind == "net" or isinstance(value, str)
            text = netns_name(f"{name}.service" if unit and "." not in name else name)
            if unit and not text.endswith(".service"):
                raise bad(f"{text} is no service, and has no namespaces", "for instance join: web.service")
            made[str(kind)] = text
        return made

    @model_validator(mode="after")
    def _has_the_kinds_of_its_fields(self) -> Isolated:
        kinds = self.kinds
        for name, kind in _FIELDS_OF.items():
            if getattr(self, name) not in (None, False) and kind not in kinds:
                raise bad(f"{name} needs a {kind} namespace", f"write isolate: [{', '.join([*kinds, kind])}]")
        for joined, whose in (self.join or {}).items():
            for name in (name for name, of in _FIELDS_OF.items() if of == joined and name != "init"):
                if getattr(self, name) is not None:
                    raise bad(f"it joins the {joined} namespace of {whose}, and {name} is for its own")
            if whose == self.name:
                raise bad(f"it cannot join the {joined} namespace of itself", f"isolate: [{joined}] gives it one")
        if any(kind in self.kinds for kind in PINNED):
            netns_name(self.name)  # what it brings has its name
        if self.uid_map is not None and not (self.uid_map and self.uid_map[0].startswith("0 ")):
            raise bad("uid_map has no root inside, which its launcher starts as", "for instance ['0 100000 65536']")
        if self.isolate is not None and self.unit_type != "service":
            raise bad(f"a {self.unit_type} cannot be isolated", "isolate the service that it starts")
        return self

    # -- what it comes to, whatever the host ------------------------------------------------------

    @property
    def kinds(self) -> tuple[KindName, ...]:
        """The kinds of namespaces that are its own."""
        return self.isolate or ()

    @property
    def network(self) -> str | None:
        """The named network namespace that it is in: one that is declared, or one of its own that its users own."""
        named: str | None = getattr(self, "netns", None)
        own = "net" in self.kinds and "user" in self.kinds and not self._joined("net")
        return named or (self.name if own else None)

    def _joined(self, kind: str) -> str | None:
        return (self.join or {}).get(kind)

    def pins(self) -> dict[str, str]:
        """The pinned namespaces that it enters, by type, each by its name."""
        made: dict[str, str] = {kind: self.name for kind in PINNED if kind in self.kinds}
        return made | {kind: name for kind, name in (self.join or {}).items() if kind in PINNED}

    def _owner(self) -> str | None:
        """The user namespace that owns what it brings."""
        return self.pins().get("user")

    def brings(self) -> Iterator[Resource]:
        """The namespaces of its own that last without a process, so that its launcher enters and does not make."""
        mine = [kind for kind, name in self.pins().items() if name == self.name and not self._joined(kind)]
        if "user" in mine:
            yield Namespace(type="user", name=self.name, uid_map=self.uid_map, gid_map=self.gid_map)
        owner = self._owner()
        if "uts" in mine:
            named = self.hostname or _hostname_of(self.name)
            yield Namespace(type="uts", name=self.name, owner=owner, hostname=named, domainname=self.domainname)
            hosts = self._hosts_file()
            if hosts is not None:
                yield File(name=hosts, content=_HOSTS.format(name=named), mode="0644")
        if "time" in mine:
            yield Namespace(
                type="time",
                name=self.name,
                owner=owner,
                monotonic_offset=self.monotonic_offset,
                boottime_offset=self.boottime_offset,
            )
        if self.network == self.name and getattr(self, "netns", None) is None:
            yield Netns(name=self.name, owner=owner)
        for name, fields in self.brings_root():
            yield type(self)(name=name, **fields)

    def _holder(self) -> str | None:
        """The unit that holds the named pid namespace that it joins."""
        pid = self._joined("pid")
        named = pid is not None and not pid.endswith(".service")
        return Namespace(type="pid", name=pid).holder if named and pid else None

    def _hosts_file(self) -> str | None:
        """The file that it sees as /etc/hosts: without, programs would ask name servers for its hostname."""
        own = "uts" in self.kinds and "mount" in self.kinds and not self._joined("uts")
        seen = [one for name in ("BindPaths", "BindReadOnlyPaths") for one in self.directives.get(name, ())]
        named = any(one.endswith("/etc/hosts") for one in (*seen, *(bind.to for bind in self.binds or ())))
        return f"/run/nsprov-{self.name}.hosts" if own and not named else None

    def isolation_needs(self) -> list[Address]:
        """What takes it along when it goes."""
        found = [Address("namespace", f"{type}/{name}") for type, name in self.pins().items()]
        for kind in ("ipc", "pid"):
            name = self._joined(kind)
            if name is not None and not name.endswith(".service"):
                found.append(Address("namespace", f"{kind}/{name}"))
        units = {name for kind, name in (self.join or {}).items() if kind in _SHARED and name.endswith(".service")}
        units |= {root for root in (self.root_unit(),) if root is not None}
        return [*found, *(Address("unit", name) for name in sorted(units))]

    def isolation_requires(self) -> list[Address]:
        """What must be there before it, and may change under it."""
        hosts = self._hosts_file()
        return [Address("file", hosts)] if hosts else []

    # -- what it comes to on a host ---------------------------------------------------------------

    def fitted(self, facts: Mapping[str, Any], desired: Desired) -> tuple[Resource, Sequence[Issue]]:
        systemd = facts.get("systemd")
        if systemd is None or not (self.isolate or self.join or self.harden):
            return self, ()
        shared, troubles = self._shared(desired)
        ipc = self._joined("ipc")
        network = self.network or shared.get("netns")
        pins = {type: pinned_path(type, name) for type, name in self.pins().items()}
        hosts = self._hosts_file()
        wish = Wish(
            self.name,
            frozenset(self.kinds),
            {**self.directives, **self.view(list(pins.values()), f"{hosts}:/etc/hosts" if hosts else None)},
            self.harden,
            network,
            bool(self.init),
            credentials=bool(getattr(self, "credentials", None)),
            pins=pins,
            by_socket=getattr(self, "socket", None) is not None,
            pid_of=shared.get("pid") or self._holder(),
            net_of=shared.get("net"),
            ipc_of=shared.get("ipc"),
            ipc_path=pinned_path("ipc", ipc) if ipc is not None and not ipc.endswith(".service") else None,
        )
        made = carried_out(wish, int(systemd))
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        fields |= {"netns": network} if "netns" in fields else {}
        issues = [Issue(one.message, one.field, one.hint) for one in (*troubles, *made.troubles)]
        issues += [Issue(message, name) for name, message in self.view_contradictions()]
        issues += self._not_shown(made.directives)
        issues += self._not_made(facts.get("namespaces"))
        issues += [Issue(one, "harden", severity="warning") for one in made.left]
        return type(self).observed(**fields, **made.directives), issues

    def _not_made(self, there: Sequence[str] | None) -> Iterator[Issue]:
        """The kinds of namespaces that the host's kernel does not make."""
        for kind in self.kinds:
            if there is not None and kind not in there:
                hint = f"its kernel has none, or user.max_{'mnt' if kind == 'mount' else kind}_namespaces is 0 (sysctl)"
                yield Issue(f"this host makes no {kind} namespaces", "isolate", hint)

    def _not_shown(self, made: Mapping[str, Value]) -> Iterator[Issue]:
        """What a launcher needs in a strict view that is not in it."""
        launcher, _ = workload_of(str((made.get("ExecStart") or ("",))[0]))
        if self.strict and launcher and not self.shows("/usr/bin/nsenter"):
            message = "strict hides the programs of the launcher that isolates it (util-linux, sh, mount)"
            yield Issue(message, "strict", "add /usr to binds")

    def _shared(self, desired: Desired) -> tuple[dict[str, str], list[Trouble]]:
        """The units that it shares namespaces with, by kind; only what those have."""
        found: dict[str, str] = {}
        troubles = []
        for kind in _SHARED:
            name = self._joined(kind)
            if name is None:
                continue
            if not name.endswith(".service"):
                unit = Address("unit", f"{name}.service")
                if unit in desired.resources and Address("namespace", f"{kind}/{name}") not in desired.resources:
                    message = f"join.{kind} names the namespace {kind}/{name}, which is not declared"
                    troubles.append(Trouble(message, f"if you mean the unit: join: {{{kind}: {unit.name}}}", "join"))
                continue
            declared = desired.resources.get(Address("unit", name))
            other = declared.resource if declared is not None else None
            if not isinstance(other, Isolated):
                continue  # told as a reference to what is not there
            if kind == "net" and other.network is not None:
                if self.network not in (None, other.network):
                    message = f"it is in the network namespace {self.network}, and {name}, which it joins, in another"
                    troubles.append(Trouble(message, "leave netns out, or net out of join", "netns"))
                found["netns"] = other.network
            elif kind in other.kinds:
                found[kind] = name
            elif len({(self.join or {}).get(one) for one in _SHARED}) > 1:  # a kind that was asked for alone
                troubles.append(
                    Trouble(f"{name} has no {kind} namespace of its own", f"isolate: [{kind}] on it", "join")
                )
        joined = set((self.join or {}).values())
        (name,) = joined if len(joined) == 1 else (None,)
        there = name is not None and Address("unit", name) in desired.resources
        if there and not troubles and not found and set(self.join or {}) == set(_SHARED):
            troubles.append(
                Trouble(
                    f"{name} has no network, ipc or pid namespace to share",
                    f"isolate: [net, ipc, pid] on {name}",
                    "join",
                )
            )
        return found, troubles

    def hidden_changes(self, current: Directives, changes: Iterable[Change]) -> Iterator[Change]:
        """Changes as a person means them: of the workload's own command, of how it is isolated, of its profile."""
        here, wanted = (ways(one.directives, getattr(one, "netns", None)) for one in (current, self))
        told: set[str] = set()
        for change in changes:
            field, before, after = change.field, change.before, change.after
            if field.startswith("Exec"):
                before, after = ([workload_of(line)[1] for line in one or ()] or None for one in (before, after))
                field = field if before != after else "isolate"
            elif after is not None:
                field = self._meant_by(change, _hardened(current))
            if field == "isolate":
                before, after = _differing(here, wanted)
            elif field == "harden":
                before, after = _hardened(current), self.harden
            if field == change.field:
                yield Change(field, before, after, change.effect, change.source)
            elif field not in told:
                told.add(field)
                yield Change(field, before, after, Effect.RESTART, change.source)

    def _meant_by(self, change: Change, hardened: str | None) -> str:
        """The field that a directive was set for, where the unit does not say it itself."""
        name, value = change.field, self.directives.get(change.field)
        if self.isolate or self.join:
            if name in _by_isolation(self.directives):
                return "isolate"
            before, after = (_own_part(name, jsonable(one)) for one in (change.before, value))
            if before == after:
                return "isolate"
        another = self.harden is not None and self.harden != hardened
        return "harden" if another and profile(self.harden or "off", _ANY_VERSION).get(name) == value else name

    def isolation_summary(self) -> list[tuple[str, str]]:
        """How it is isolated, for plans: each kind with what carries it out."""
        mine = {*self.kinds, *(self.join or {})}
        found = {kind: way for kind, way in ways(self.directives, getattr(self, "netns", None)).items() if kind in mine}
        rows = [("isolate", ", ".join(self.kinds))] if self.kinds else []
        rows += [("join", ", ".join(f"{kind} of {name}" for kind, name in self.join.items()))] if self.join else []
        by_launcher: dict[str, list[str]] = {}
        for kind, way in found.items():
            program, _, option = way.partition(" --")
            if option:
                by_launcher.setdefault(program, []).append(kind)
        by_systemd = [way for way in found.values() if " --" not in way]
        if rows and by_systemd:
            rows.append(("  by systemd", ", ".join(by_systemd)))
        if rows and by_launcher:
            told = (f"{program} ({', '.join(kinds)})" for program, kinds in by_launcher.items())
            rows.append(("  by launcher", ", ".join(told)))
        rows += [("harden", self.harden)] if self.harden else []
        for name in ("init", *(name for name in _FIELDS_OF if name != "init")):
            value = getattr(self, name)
            if value not in (None, False) and name not in Rooted.model_fields:
                rows.append((name, "yes" if value is True else ", ".join(value) if isinstance(value, tuple) else value))
        return rows + self.view_summary()

    def directives_told(self) -> list[tuple[str, Value]]:
        """The directives that plans show: those that the unit says itself, and what is left of its profile."""
        given = profile(self.harden, _ANY_VERSION) if self.harden else {}
        by_isolation = _by_isolation(self.directives)
        told: list[tuple[str, Value]] = []
        for name, value in self.directives.items():
            if given.get(name) == value or ((self.isolate or self.join) and name in by_isolation):
                continue
            value = _own_part(name, value)
            if not value or (self.has_own_view and name in _OF_VIEW):
                continue
            if name.startswith("Exec") and isinstance(value, tuple):
                moved = name == "ExecStart" and "User" not in self.directives
                user = _REUID.search(workload_of(value[0])[0]) if moved else None
                told += [("User", user[1])] if user else []
                value = tuple(workload_of(line)[1] for line in value)
            told.append((name, value))
        return told


def _by_isolation(directives: Mapping[str, Value]) -> set[str]:
    """The directives that make the namespaces of a unit."""
    found = {way.partition("=")[0] for way in ways(directives).values()}
    return found | ({"PrivateIPC"} if "IPCNamespacePath" in found else set())


def _own_part(name: str, value: Any) -> Any:
    """A directive's value without what it was given for a namespace."""
    if name == "BindReadOnlyPaths":
        return tuple(one for one in value or () if not one.startswith("/run/nsprov"))
    if name == "TemporaryFileSystem":
        return tuple(one for one in value or () if one != SHARED_MEMORY)
    return value


def _differing(here: Mapping[KindName, str], wanted: Mapping[KindName, str]) -> tuple[str, str]:
    """How a unit is isolated and shall be: each kind, and what carries out those that differ."""
    if here == wanted:
        same = "all" if set(wanted) == set(KINDS) else ", ".join(wanted) or "nothing"
        return same, f"{same}, by another launcher"
    return _told(here, wanted), _told(wanted, here)


def _told(found: Mapping[KindName, str], other: Mapping[KindName, str]) -> str:
    kinds = (kind if other.get(kind) == way else f"{kind} ({way})" for kind, way in found.items())
    return ", ".join(kinds) or "nothing"


def _hardened(current: Directives) -> str | None:
    """The profile that a unit has on its host, by what a launcher takes of none."""
    for name in ("strict", "standard"):
        if all(
            current.directives.get(one) == value
            for one, value in profile(name, _ANY_VERSION).items()
            if one in _TOLD_BY
        ):
            return name
    return None


def _hostname_of(unit: str) -> str:
    """A host's name for a unit that says none: its own, without what such names cannot have."""
    stem = unit.rpartition(".")[0]
    return re.sub(r"[^A-Za-z0-9-]+", "-", stem).strip("-")[:63].rstrip("-") or "workload"
