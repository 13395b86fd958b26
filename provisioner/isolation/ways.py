"""Which way each kind of isolation is carried out on a host: a directive where its systemd has one, else a launcher.

    made = carried_out(Wish("web.service", frozenset({"ipc", "pid"}), {"ExecStart": ("/usr/bin/web",)}), 252)
    made.directives["PrivateIPC"]    ->  'yes'
    made.directives["ExecStart"]     ->  ('/usr/bin/unshare --mount --pid … nsprov-launch /usr/bin/web',)
    ways(made.directives)            ->  {'ipc': 'PrivateIPC', 'pid': 'unshare --pid'}

Pure. What goes together and what does not was tried on systemd 252 and 257 (docs/isolation.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from provisioner import directives
from provisioner.directives import BadValue, Value
from provisioner.isolation.hardening import Profile, hardened
from provisioner.isolation.launch import Become, Launch, workload_of

__all__ = ["KINDS", "PINNED", "SHARED_MEMORY", "CarriedOut", "KindName", "Trouble", "Wish", "carried_out", "ways"]

KindName = Literal["mount", "pid", "net", "ipc", "uts", "user", "cgroup", "time"]
#: The kinds of namespaces that Linux has (namespaces(7)).
KINDS: tuple[KindName, ...] = ("mount", "pid", "net", "ipc", "uts", "user", "cgroup", "time")
#: Those that last without a process, and are entered rather than made.
PINNED: tuple[KindName, ...] = ("uts", "user", "time")
#: What a unit with an ipc namespace has for POSIX shared memory, as TemporaryFileSystem takes it.
SHARED_MEMORY = "/dev/shm:mode=1777"

#: The version of systemd from which on it makes these itself.
_PRIVATE_PIDS = _CONTROL_GROUPS_EX = 257
#: The version from which on it shows a unit the /sys of the network that the unit is in.
_SYSFS_OF_NETWORK = 257
#: Where an older one shows the host's interfaces instead.
_HOSTS_INTERFACES = ("-/sys/class/net", "-/sys/devices/virtual/net")

#: The directives whose commands are started like the workload, and so have its launcher before them.
_LAUNCHED = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecStopPost")
#: Those whose commands are about the workload's main process, which has another number in a pid namespace.
_ABOUT_MAIN = ("ExecReload", "ExecStop")
#: What a launcher that has to be root until its end does in systemd's place.
_IDENTITY = ("User", "Group", "SupplementaryGroups")
_RIGHTS = ("CapabilityBoundingSet", "AmbientCapabilities")
_FOLDERS = ("RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory")
#: How long a workload that is PID 1 has to end; systemd's own default would be 90 s.
_STOP = "10s"
_CREDENTIALS = (
    "LoadCredential",
    "LoadCredentialEncrypted",
    "SetCredential",
    "SetCredentialEncrypted",
    "ImportCredential",
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What cannot be, and what could."""

    message: str
    hint: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """How a unit shall be isolated, whatever the host."""

    unit: str
    kinds: frozenset[KindName]
    #: The directives that the unit declares itself.
    own: Mapping[str, Value]
    profile: Profile | None = None
    #: The network namespace that it is in, by name.
    netns: str | None = None
    init: bool = False
    #: Whether it is given credentials by other means than its directives.
    credentials: bool = False
    #: Whether a socket starts it, which it is handed over by its process's number.
    by_socket: bool = False
    #: Pinned namespaces to enter, by type: the file of each.
    pins: Mapping[str, str] = field(default_factory=dict)
    #: The unit whose pid namespace it shares, and those whose network and ipc namespaces.
    pid_of: str | None = None
    net_of: str | None = None
    ipc_of: str | None = None
    #: The pinned ipc namespace that it is in, a file.
    ipc_path: str | None = None


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What a wish comes to on one host."""

    directives: Mapping[str, Value]
    #: What a profile had to leave to the launcher, one sentence each.
    left: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()


def carried_out(wish: Wish, systemd: int) -> CarriedOut:
    """The directives that carry a wish out on this version of systemd."""
    launch = _launch(wish, systemd)
    added = dict(_by_directives(wish, systemd))
    troubles = list(_contradictions(wish, added)) + list(_impossible(wish, launch))
    own = {name: value for name, value in wish.own.items() if name not in added}
    if launch.isolates:
        own = {name: value for name, value in own.items() if name not in _RIGHTS}
        if "user" in launch.enter:
            own = {name: value for name, value in own.items() if name not in _IDENTITY}
    made: dict[str, Value] = {**own, **added}
    found = hardened(wish.profile or "off", made, systemd, launch.rights if launch.isolates else ())
    left = found.left
    if wish.profile is not None and launch.become.bounding is not None:
        left += (f"the workload itself is left {launch.become.bounding or 'no capability'} in the end",)
    made |= {name: value for name, value in found.directives.items() if name not in made}
    told = {one.field for one in troubles}
    refused = [Trouble(why, "leave it out, or isolate less", name) for name, why in found.refused.items()]
    troubles += [one for one in refused if one.field not in told]
    made |= _own_shared_memory(made)
    if systemd < _SYSFS_OF_NETWORK and not launch.mounts and ("net" in wish.kinds or wish.profile == "strict"):
        made |= _no_interfaces_of_the_host(wish, made)
    if launch.isolates and (given := str(wish.own.get("CapabilityBoundingSet", "~"))) != "~":
        made["CapabilityBoundingSet"] = _with_launchers(given, launch)
    if launch.needed:
        troubles += _put_around(made, launch)
        if launch.init:
            # An init ends as its workload ended: by the signal that stopped it.
            ended = ["143", *made.get("SuccessExitStatus", ())]
            made["SuccessExitStatus"] = directives.canonical("service", "SuccessExitStatus", ended)
        if made.get("Type") in ("notify", "notify-reload"):
            made.setdefault("NotifyAccess", "all")  # what notifies is not the process that systemd started
    if "pid" in wish.kinds and not wish.init and not {"KillSignal", "TimeoutStopSec", "TimeoutSec"} & made.keys():
        made["TimeoutStopSec"] = _STOP  # the kernel drops SIGTERM for a first process that does not handle it
    return CarriedOut(MappingProxyType(made), left, tuple(troubles))


def _launch(wish: Wish, systemd: int) -> Launch:
    kinds = wish.kinds
    pid = "pid" in kinds and wish.pid_of is None and systemd < _PRIVATE_PIDS
    cgroup = "cgroup" in kinds and systemd < _CONTROL_GROUPS_EX
    users = "user" in wish.pins
    numbered = ("pid" in kinds or wish.pid_of is not None) and (wish.by_socket or "WatchdogSec" in wish.own)
    sysfs = _in_another_network(wish) and systemd < _SYSFS_OF_NETWORK
    made = Launch(
        pid=pid,
        cgroup=cgroup,
        pid_of=wish.pid_of,
        enter=dict(wish.pins),
        numbered=numbered,
        init=wish.init,
        sysfs=sysfs,
    )
    if not made.isolates:
        return made
    own = wish.own
    profile = hardened(wish.profile, {}, systemd).directives if wish.profile else {}
    wanted = {**profile, **own}
    bounding = str(own["CapabilityBoundingSet"]) if "CapabilityBoundingSet" in own else None
    if bounding is None and "CapabilityBoundingSet" in profile:
        bounding = str(
            directives.canonical("service", "CapabilityBoundingSet", str(own.get("AmbientCapabilities", "")))
        )
    user = str(own.get("User", "")) or None
    hidden = {"noaccess": "hidepid=noaccess", "invisible": "hidepid=invisible", "ptraceable": "hidepid=ptraceable"}
    options = [hidden[value] for value in (str(wanted.get("ProtectProc", "")),) if value in hidden]
    if wanted.get("ProcSubset") == "pid":
        options.append("subset=pid")
    return replace(
        made,
        proc_options=tuple(options),
        proc_read_only=users or wanted.get("ProtectKernelTunables") == "yes",
        hands_over_folders=users and any(own.get(name) for name in _FOLDERS),
        hands_over_credentials=users and (wish.credentials or any(own.get(name) for name in _CREDENTIALS)),
        become=Become(
            user,
            # Without a user of the unit's own, its groups are systemd's to give; but in a user namespace.
            (str(own.get("Group", "")) or None) if user or users else None,
            tuple(own.get("SupplementaryGroups", ())) if user or users else (),
            bounding,
            str(own.get("AmbientCapabilities", "")),
        ),
        keeps_root=user is not None and not users,
    )


def _by_directives(wish: Wish, systemd: int) -> Iterable[tuple[str, Value]]:
    """The directives of this systemd for what is wished."""
    kinds = wish.kinds
    if "mount" in kinds:
        yield "PrivateMounts", "yes"
    if wish.net_of is not None or ("net" in kinds and wish.netns is None):
        yield "PrivateNetwork", "yes"
    if wish.ipc_path is not None:
        yield "IPCNamespacePath", wish.ipc_path
    if wish.ipc_path is not None or wish.ipc_of is not None or "ipc" in kinds:  # 252 takes no path without it
        yield "PrivateIPC", "yes"
    shared = list(dict.fromkeys(one for one in (wish.net_of, wish.ipc_of) if one is not None))
    if shared:
        others = wish.own.get("JoinsNamespaceOf", ())
        yield "JoinsNamespaceOf", directives.canonical("service", "JoinsNamespaceOf", [*others, *shared])
    if "pid" in kinds and wish.pid_of is None and systemd >= _PRIVATE_PIDS:
        yield "PrivatePIDs", "yes"
    if "cgroup" in kinds and systemd >= _CONTROL_GROUPS_EX:
        yield "ProtectControlGroups", "strict"
    needed = list(dict.fromkeys(one for one in (wish.pid_of, *shared) if one is not None))
    for name in ("BindsTo", "After") if needed else ():
        yield name, directives.canonical("service", name, [*wish.own.get(name, ()), *needed])


def _own_shared_memory(made: Mapping[str, Value]) -> dict[str, Value]:
    """POSIX shared memory is files in /dev/shm: no namespace keeps those apart, and PrivateDevices shows the host's."""
    mounted = [*made.get("TemporaryFileSystem", ()), *made.get("BindPaths", ()), *made.get("BindReadOnlyPaths", ())]
    named = any("/dev/shm" in one.split(":")[:2] for one in mounted)
    if named or (made.get("PrivateIPC", "no") == "no" and not made.get("IPCNamespacePath")):
        return {}
    own = [*made.get("TemporaryFileSystem", ()), SHARED_MEMORY]
    return {"TemporaryFileSystem": directives.canonical("service", "TemporaryFileSystem", own)}


def _in_another_network(wish: Wish) -> bool:
    return wish.netns is not None or wish.net_of is not None or "net" in wish.kinds


def _no_interfaces_of_the_host(wish: Wish, made: Mapping[str, Value]) -> dict[str, Value]:
    if not _in_another_network(wish):
        return {}
    both = [*made.get("InaccessiblePaths", ()), *_HOSTS_INTERFACES]
    return {"InaccessiblePaths": directives.canonical("service", "InaccessiblePaths", both)}


def _contradictions(wish: Wish, added: Mapping[str, Value]) -> Iterable[Trouble]:
    """What the unit declares and what its isolation is carried out by, where they differ."""
    for name, value in added.items():
        said = wish.own.get(name)
        less = name == "ProtectControlGroups" and said == "yes"  # strict is this, and more
        if said is not None and said != value and not less and name not in ("BindsTo", "After", "JoinsNamespaceOf"):
            yield Trouble(f"isolate is carried out by {name}={value}, and the unit says {name}={said}", None, name)
    if "net" in wish.kinds and wish.own.get("PrivateNetwork") == "yes" and wish.netns is not None:
        yield Trouble(
            f"it is in the namespace {wish.netns}, and PrivateNetwork asks for another", "leave one of them out"
        )
    if "user" in wish.kinds:
        for name in ("PrivateUsers", "DynamicUser"):
            if wish.own.get(name, "no") != "no":
                yield Trouble(
                    f"isolate has user: its users are a range of its own, and {name} asks for others",
                    f"leave {name} out",
                    name,
                )


def _impossible(wish: Wish, launch: Launch) -> Iterable[Trouble]:
    own = wish.own
    if ("pid" in wish.kinds or wish.pid_of) and own.get("Type") == "forking":
        yield Trouble("a service of Type=forking cannot have a pid namespace of its own", "use Type: exec", "Type")
    if wish.init and not wish.unit.endswith(".service"):
        yield Trouble("only a service has an init", None, "init")
    if not launch.isolates:
        return
    for name in _ABOUT_MAIN:
        if own.get(name) and (launch.pid or launch.pid_of):
            hint = "write KillSignal, or send a signal with `systemctl kill`"
            yield Trouble(f"{name} would run in a pid namespace of its own, away from the main process", hint, name)
    if launch.pid and own.get("KillMode") in ("mixed", "process"):
        message = f"KillMode={own['KillMode']} would send its signal to the launcher alone, which does not pass it on"
        yield Trouble(message, "leave it out: then all its processes are signalled", "KillMode")
    if own.get("DynamicUser", "no") != "no" and "user" not in wish.kinds:
        yield Trouble(
            "DynamicUser goes with no launcher, which has to start as root",
            "add user to isolate: then its users are nobody else's, too" + _newer(wish),
            "DynamicUser",
        )
    elif wish.profile == "strict" and "user" not in launch.enter and launch.become.user is None:
        yield Trouble(
            "harden: strict gives a unit users of its own by DynamicUser, which goes with no launcher",
            "add user to isolate, or name a User" + _newer(wish),
            "isolate",
        )


def _newer(wish: Wish) -> str:
    """The version of systemd that would need no launcher for it."""
    kinds = " and ".join(sorted(wish.kinds & {"pid", "cgroup"}))
    return "" if wish.pins or wish.pid_of else f"; systemd {_PRIVATE_PIDS} needs no launcher for {kinds}"


def _with_launchers(given: str, launch: Launch) -> Value:
    """A bounding set with what the launcher needs, which gives it up at its end."""
    needed = " ".join(sorted({one for right in launch.rights for one in right.value.capabilities}))
    if not needed:
        return given
    if given.startswith("~"):
        without = set(given.removeprefix("~").split()) - set(needed.split())
        return directives.canonical("service", "CapabilityBoundingSet", "~" + " ".join(sorted(without)))
    return directives.canonical("service", "CapabilityBoundingSet", [given, needed])


def _put_around(made: dict[str, Value], launch: Launch) -> list[Trouble]:
    """Put the launcher before each command that is started."""
    troubles = []
    for name in _LAUNCHED:
        commands = made.get(name)
        if not commands:
            continue
        # Only the workload itself is taken care of by an init.
        one = launch if name == "ExecStart" else replace(launch, init=False, numbered=False)
        if not one.needed:
            continue
        try:
            wrapped = [one.around(command) for command in commands]
            made[name] = directives.canonical("service", name, wrapped)
        except BadValue as error:
            troubles.append(Trouble(error.message, error.hint, name))
    return troubles


def ways(made: Mapping[str, Value], netns: str | None = None) -> dict[KindName, str]:
    """What carries each kind out, of the directives that a unit has on a host; kinds that nothing does are left out."""
    started = made.get("ExecStart") or ("",)
    launcher, _ = workload_of(started[0])
    found: dict[KindName, str] = {}
    for kind, way in _WAYS:
        name, _, value = way.partition("=")
        if name in made and made[name] != "no" and (not value or made[name] == value):
            found.setdefault(kind, way)
    if netns is not None:
        found["net"] = "NetworkNamespacePath"
    for kind in KINDS:
        if f"nsenter --{kind}=" in launcher or (kind in PINNED and f"--{kind}=" in launcher):
            found[kind] = f"nsenter --{kind}"
        elif kind in ("pid", "cgroup") and f"--{kind} " in launcher:
            found[kind] = f"unshare --{kind}"
    return {kind: found[kind] for kind in KINDS if kind in found}


#: The directives that make a namespace, the strongest first.
_WAYS: tuple[tuple[KindName, str], ...] = (
    ("mount", "PrivateMounts"),
    ("net", "PrivateNetwork"),
    ("ipc", "IPCNamespacePath"),
    ("ipc", "PrivateIPC"),
    ("pid", "PrivatePIDs"),
    ("cgroup", "ProtectControlGroups=strict"),
    ("cgroup", "ProtectControlGroups=private"),
    ("user", "PrivateUsers"),
)
