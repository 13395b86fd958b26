"""Hardening profiles: which directives a unit is given so that it cannot do what it does not need.

Owns the profiles' directives, and what is left of them where a launcher (``unshare``, ``nsenter``) has to do
something first that a profile takes away: exactly that is left, and told. Pure.

    profile("strict", 252)["ProtectSystem"]                   ->  'strict'
    made = hardened("strict", {}, 252, {Right.PID_NAMESPACE})
    made.directives["RestrictNamespaces"]                     ->  'pid'
    made.left[-1]       ->  'RestrictNamespaces allows pid: the launcher enters a pid namespace'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Literal

from provisioner import directives
from provisioner.directives import Value, values

__all__ = ["Hardened", "Profile", "Right", "hardened", "profile"]

#: The names of the profiles.
Profile = Literal["strict", "standard", "off"]

#: What nearly every service takes without noticing: it stays root where it is root.
_STANDARD: dict[str, str] = {
    "NoNewPrivileges": "yes",  # a set-user-id program in its reach gives it nothing
    "PrivateDevices": "yes",  # no disks and no memory, only null, zero, random and the like
    "PrivateTmp": "yes",  # what it leaves in /tmp nobody else reads, or has put there for it
    "ProtectSystem": "full",  # /usr, /boot and /etc are read-only
    "ProtectHome": "yes",  # people's files are none of its business
    "ProtectClock": "yes",  # the time is everybody's
    "ProtectControlGroups": "yes",  # its limits are not its own to lift
    "ProtectKernelLogs": "yes",  # the kernel's log tells addresses and secrets
    "ProtectKernelModules": "yes",  # code in the kernel is above all that is here
    "ProtectKernelTunables": "yes",  # /proc/sys and /sys are everybody's
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",  # rare protocols have most of the holes
    "RestrictRealtime": "yes",  # a loop at real-time priority stops the machine
    "RestrictSUIDSGID": "yes",  # it leaves no set-user-id program behind
    "LockPersonality": "yes",  # odd personalities are seldom tested
    "KeyringMode": "private",  # keys of others stay theirs
    "SystemCallArchitectures": "native",  # a second table of system calls goes past filters
}

#: What a service takes that was written to listen, to read its files, and to answer.
_STRICT: dict[str, str | tuple[str, ...]] = {
    **_STANDARD,
    "DynamicUser": "yes",  # a user that nobody else is, or ever was
    "PrivateUsers": "yes",  # other users, and root, do not exist for it
    "CapabilityBoundingSet": "",  # no right of root is left
    "PrivateIPC": "yes",  # shared memory and message queues are its own
    "PrivateMounts": "yes",  # what it mounts nobody else sees
    "ProtectSystem": "strict",  # everything is read-only but what it is given
    "ProtectHostname": "yes",  # the host's name is everybody's
    "ProtectProc": "invisible",  # others' processes are not there
    "ProcSubset": "pid",  # /proc tells of processes, not of the machine
    "RemoveIPC": "yes",  # what it leaves in shared memory goes with its user
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",  # no looking at routes and interfaces
    "RestrictNamespaces": "yes",  # new namespaces reach much of the kernel that is for root else
    "InaccessiblePaths": "-/run/dbus",  # systemd tells everybody on the bus what runs, with its environment
    "MemoryDenyWriteExecute": "yes",  # what it is made to write it cannot run
    # What services use, and nothing of root's; no keys, which no namespace keeps apart; and no ring on which the
    # kernel does calls that no filter has seen.
    "SystemCallFilter": (
        "@system-service",
        "~@privileged @resources @keyring io_uring_enter io_uring_register io_uring_setup",
    ),
    "SystemCallErrorNumber": "EPERM",  # a program that only tries goes on
    "UMask": "0077",  # its files are its own
}

_PROFILES: dict[str, Mapping[str, str | tuple[str, ...]]] = {"strict": _STRICT, "standard": _STANDARD, "off": {}}


@cache
def profile(name: Profile, systemd: int) -> Mapping[str, Value]:
    """The directives of a profile, in canonical values; without those that this version of systemd has not."""
    return MappingProxyType(
        {
            directive: directives.canonical("service", directive, value)
            for directive, value in _PROFILES[name].items()
            if directives.check(directive, systemd) is None
        }
    )


# -- what launchers need --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Need:
    """What one right takes of the system: as little as lets the launcher do it."""

    #: What the launcher does, for people.
    does: str
    capabilities: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    #: The kind of namespace, as RestrictNamespaces calls it.
    namespace: str = ""
    #: Directives that forbid it whatever their value.
    without: tuple[str, ...] = ()


class Right(Enum):
    """Something that a launcher does before the workload starts."""

    MOUNT_NAMESPACE = _Need("enters a mount namespace", ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT"), (), "mnt")
    PID_NAMESPACE = _Need("enters a pid namespace", ("CAP_SYS_ADMIN",), (), "pid")
    NET_NAMESPACE = _Need("enters a net namespace", ("CAP_SYS_ADMIN",), (), "net")
    IPC_NAMESPACE = _Need("enters an ipc namespace", ("CAP_SYS_ADMIN",), (), "ipc")
    UTS_NAMESPACE = _Need("enters a uts namespace", ("CAP_SYS_ADMIN",), (), "uts")
    USER_NAMESPACE = _Need("enters a user namespace", (), (), "user")
    CGROUP_NAMESPACE = _Need("enters a cgroup namespace", ("CAP_SYS_ADMIN",), (), "cgroup")
    # RestrictNamespaces has no word for time: on 252 any list of it forbids time namespaces as well.
    TIME_NAMESPACE = _Need("enters a time namespace", ("CAP_SYS_ADMIN",), (), "", ("RestrictNamespaces",))
    TIME_OFFSETS = _Need("sets a time namespace's clocks", ("CAP_SYS_TIME",), (), "", ("ProtectClock",))
    HOSTNAME = _Need("sets a hostname", ("CAP_SYS_ADMIN",), ("setdomainname", "sethostname"), "", ("ProtectHostname",))
    MAP_USERS = _Need("maps users", ("CAP_SETGID", "CAP_SETUID"))
    MOUNT = _Need("mounts", ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT"), ("@mount",))
    CHOWN = _Need("gives files to others", ("CAP_CHOWN",), ("@chown",))
    SETUID = _Need("becomes another user", ("CAP_SETGID", "CAP_SETUID"), ("@setuid",))
    DROP = _Need("gives up its capabilities", ("CAP_SETPCAP",), ("capset",))
    RUN_AS_ROOT = _Need("starts as root", (), (), "", ("DynamicUser", "PrivateUsers"))


@dataclass(frozen=True, slots=True)
class Hardened:
    """What a profile comes to for one unit."""

    #: What the profile adds to the directives that the unit declares itself.
    directives: Mapping[str, Value]
    #: What was left out or loosened of the profile, one sentence each, for the plan.
    left: tuple[str, ...] = ()
    #: Directives that the unit declares itself and that its launcher cannot do with: each with why.
    #: Never changed here: what the unit says holds, and a plan is refused for it.
    refused: Mapping[str, str] = field(default_factory=dict)


def hardened(name: Profile, own: Mapping[str, Value], systemd: int, needs: Iterable[Right] = ()) -> Hardened:
    """What a profile adds to a unit whose launcher needs these rights.

    ``own`` are the directives that the unit declares itself: each wins over the profile's of the same name.
    A capability is of use to a launcher that is root alone, so that a right which takes one starts as root.
    """
    wanted = set(needs)
    if any(right.value.capabilities for right in wanted):
        wanted.add(Right.RUN_AS_ROOT)
    rights = [right for right in Right if right in wanted]
    chosen = {key: value for key, value in profile(name, systemd).items() if key not in own}
    left = [*_give_way(chosen, own), *_give_rights(chosen, rights)]
    return Hardened(MappingProxyType(chosen), tuple(left), MappingProxyType(dict(_refused(own, rights))))


def _give_way(chosen: dict[str, Value], own: Mapping[str, Value]) -> Iterable[str]:
    """Take out of a profile what says the opposite of a directive of another name."""
    if "User" in own:
        chosen.pop("DynamicUser", None)  # the unit has said who it is
    ambient = str(own.get("AmbientCapabilities", ""))
    if ambient and "CapabilityBoundingSet" in chosen:
        chosen["CapabilityBoundingSet"] = directives.canonical("service", "CapabilityBoundingSet", ambient)
        yield f"CapabilityBoundingSet keeps {ambient}: the unit has it in AmbientCapabilities"
    if (ambient or own.get("CapabilityBoundingSet")) and chosen.pop("PrivateUsers", None):
        yield "PrivateUsers is left out: the unit keeps capabilities, which count for nothing beyond its own users"


def _give_rights(chosen: dict[str, Value], rights: Iterable[Right]) -> Iterable[str]:
    """Loosen a profile by what a launcher needs, and by nothing else."""
    needs = [right.value for right in rights]
    for directive in dict.fromkeys(one for need in needs for one in need.without):
        if chosen.pop(directive, None):
            yield f"{directive} is left out: {_why(need for need in needs if directive in need.without)}"
    if "CapabilityBoundingSet" in chosen and (added := _all(need.capabilities for need in needs)):
        both = [chosen["CapabilityBoundingSet"], added]
        chosen["CapabilityBoundingSet"] = directives.canonical("service", "CapabilityBoundingSet", both)
        yield f"CapabilityBoundingSet keeps {added}: {_why(need for need in needs if need.capabilities)}"
    if "SystemCallFilter" in chosen and (calls := _all(need.calls for need in needs)):
        chosen["SystemCallFilter"] = (*chosen["SystemCallFilter"], calls)
        yield f"SystemCallFilter allows {calls}: {_why(need for need in needs if need.calls)}"
    kinds = _all([need.namespace] for need in needs if need.namespace)
    if "RestrictNamespaces" in chosen and kinds:
        chosen["RestrictNamespaces"] = directives.canonical("service", "RestrictNamespaces", kinds)
        yield f"RestrictNamespaces allows {kinds}: {_why(need for need in needs if need.namespace)}"


def _all(several: Iterable[Iterable[str]]) -> str:
    return " ".join(sorted({one for some in several for one in some}))


def _why(needs: Iterable[_Need]) -> str:
    return f"the launcher {_done(needs)}"


def _done(needs: Iterable[_Need]) -> str:
    done = [need.does for need in needs]
    return f"{', '.join(done[:-1])} and {done[-1]}" if len(done) > 1 else done[0]


def _refused(own: Mapping[str, Value], rights: Iterable[Right]) -> Iterable[tuple[str, str]]:
    """The unit's own directives that forbid what its launcher does."""
    needs = [right.value for right in rights]
    for directive, value in own.items():
        if value in ("", "no") and directive != "CapabilityBoundingSet":
            continue
        if directive == "RestrictNamespaces":
            lost = [need for need in needs if _restricted(need, str(value))]
        elif directive == "CapabilityBoundingSet":
            lost = [need for need in needs if any(not _within(one, str(value)) for one in need.capabilities)]
        else:
            lost = [need for need in needs if directive in need.without]
        if lost:
            yield directive, f"{directive}={value} forbids what the launcher does: it {_done(lost)}"


def _restricted(need: _Need, allowed: str) -> bool:
    """Whether a canonical RestrictNamespaces other than ``no`` forbids it."""
    return "RestrictNamespaces" in need.without or bool(need.namespace and need.namespace not in allowed.split())


def _within(capability: str, bounding: str) -> bool:
    """Whether a canonical bounding set has a capability."""
    names = values.words(bounding.removeprefix("~"))
    return (capability in names) != bounding.startswith("~")
