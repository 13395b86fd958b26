"""The command that puts a workload where no directive of its systemd does: util-linux's tools, one after another.

Owns the order of what is done before a workload's program runs, and the scripts that do it. Each step is a
program that becomes the next one (``unshare``, ``sh``, ``nsenter``, ``setpriv``), so that nothing of the
launcher stays but, where a pid namespace needs a fork, the process that waits for it. Pure.

    launch = Launch(pid=True, enter={"uts": "/run/nsprov/ns/uts/web.service"})
    launch.around("/usr/bin/web --port 80")
      ->  '/usr/bin/unshare --mount --pid … /bin/sh -c "…" nsprov-launch /usr/bin/web --port 80'
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.directives import values
from provisioner.directives.execution import Commands, line
from provisioner.isolation.hardening import Right

__all__ = ["Become", "Launch", "workload_of"]

#: The word before the workload's own command line.
_MARK = "nsprov-launch"

#: What systemd says that its sockets and its watchdog are for: the process that it started has another number
#: once it is in a pid namespace (sd_listen_fds(3), sd_watchdog_enabled(3)).
_OWN_NUMBER = 'test -z "$LISTEN_PID" || export LISTEN_PID=$$; test -z "$WATCHDOG_PID" || export WATCHDOG_PID=$$'
#: What is PID 1 in the place of a workload that is no init: it passes signals on, reaps, and ends as the workload
#: ends. A shell starts what runs in the background with SIGINT ignored: ``env`` puts that right. Its 9 is a copy of the
#: standard input, which a shell takes from what runs in the background; sockets that systemd hands over are from 3 on.
_INIT = (
    """for s in TERM INT HUP QUIT USR1 USR2; do trap "kill -$s \\$c 2>/dev/null || early=$s" $s; done; """
    f"exec 9<&0; sh -c '{_OWN_NUMBER}; "
    """exec env --default-signal "$@"' nsprov-init "$@" <&9 9<&- & c=$!; exec 9<&-; """
    'test -z "$early" || kill -$early $c; '
    "while :; do wait $c; r=$?; kill -0 $c 2>/dev/null || exit $r; done"
)
#: What of a fresh /proc the root of a container must not write, and what it must not read.
_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "mtrr")
_HIDDEN = ("kcore", "keys", "kmsg", "timer_list", "sched_debug", "latency_stats")

_COMMANDS = Commands()


@dataclass(frozen=True, slots=True)
class Become:
    """Who the workload is in the end, and what it is left of a root's rights (capabilities(7))."""

    #: The user and the group by name or number; None stays who the launcher is.
    user: str | None = None
    group: str | None = None
    groups: tuple[str, ...] = ()
    #: The bounding set in its canonical form (``CAP_A CAP_B``, ``~CAP_A``); None leaves all.
    bounding: str | None = None
    ambient: str = ""

    @property
    def words(self) -> list[str]:
        """The command that becomes it, in words of the shell; nothing where nothing changes."""
        made = []
        user = self.user if self.user is not None else "0" if self.group or self.groups else None
        if user is not None:
            group = self.group or (user if user.isdecimal() else f"$(id -g {user})")
            made += [f"--reuid={user}", f"--regid={group}"]
            named = not user.isdecimal() and not self.groups
            made.append(
                f"--groups={','.join(self.groups)}" if self.groups else "--init-groups" if named else "--clear-groups"
            )
        if self.bounding is not None:
            kept = _kept(self.bounding)[1:] if self.bounding.startswith("~") else _kept(self.bounding)
            made += [f"--bounding-set={','.join(kept)}"] if kept else []
        if made or self.ambient:
            inherited = ",".join(_kept(self.ambient))
            made += [f"--inh-caps={inherited}", f"--ambient-caps={inherited}"]
        return ["/usr/bin/setpriv", *made, "--"] if made else []


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher does; nothing of it is done where it is not asked for."""

    #: A pid namespace of its own, and the control groups seen from the unit's own on.
    pid: bool = False
    cgroup: bool = False
    #: The unit whose pid namespace it enters.
    pid_of: str | None = None
    #: Pinned namespaces to enter: the file of each by its type (``user``, ``uts``, ``time``).
    enter: Mapping[str, str] = field(default_factory=dict)
    #: A fresh /sys, where it ``mounts``: the one that is there shows the interfaces of the host's network.
    sysfs: bool = False
    #: Options of a fresh /proc beyond the usual ones: ``subset=pid``, ``hidepid=invisible``.
    proc_options: tuple[str, ...] = ()
    #: Whether the kernel's settings in a fresh /proc and /sys are read-only.
    proc_read_only: bool = False
    #: Whether it has folders (StateDirectory=) or credentials that must be handed to the users it has inside.
    hands_over_folders: bool = False
    hands_over_credentials: bool = False
    #: Whether it is told by its number that sockets or a watchdog are for it: by the one that it has inside.
    numbered: bool = False
    init: bool = False
    #: Who it becomes in the end.
    become: Become = Become()
    #: Whether systemd itself is kept from changing the user (the prefix ``!``): the launcher needs root.
    keeps_root: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.isolates or self.init or self.numbered

    @property
    def isolates(self) -> bool:
        """Whether it does what takes rights."""
        return bool(self.pid or self.cgroup or self.pid_of or self.enter)

    @property
    def mounts(self) -> bool:
        """Whether it has mounts of its own, for what it shows otherwise than the host."""
        return bool(self.pid or self.cgroup or self.pid_of)

    @property
    def rights(self) -> set[Right]:
        """What a hardening profile has to leave it."""
        found = {Right[f"{type.upper()}_NAMESPACE"] for type in self.enter}
        if self.mounts:
            found |= {Right.MOUNT_NAMESPACE, Right.MOUNT}
        if self.pid or self.pid_of:
            found.add(Right.PID_NAMESPACE)
        if self.cgroup:
            found.add(Right.CGROUP_NAMESPACE)
        if "user" in self.enter or self.become.user is not None:
            found.add(Right.SETUID)
        if self.become.words:
            found.add(Right.DROP)
        if self.hands_over_folders or self.hands_over_credentials:
            found.add(Right.CHOWN)
        if self.hands_over_credentials:
            found |= {Right.MOUNT_NAMESPACE, Right.MOUNT}
        return found

    def around(self, command: str) -> str:
        """A command line of a unit with the launcher before it. Raises BadValue for one that cannot have one."""
        flags, path, argv = _COMMANDS.parsed(command)
        if path != argv[0]:
            raise values.BadValue(f"'{command}' gives its program another name (@)", "a launcher cannot: leave @ out")
        if {"+", "!", "!!"} & set(flags):
            raise values.BadValue(f"'{command}' goes past the isolation (+, !)", "leave the prefix out")
        prefix = "".join(flags) + ("!" if self.keeps_root else "")
        launcher = [*self._outer(), "/bin/sh", "-c", self._script(), _MARK]
        if ":" not in flags:  # systemd takes $NAME for a variable of its own
            launcher = [word.replace("$", "$$") for word in launcher]
        return prefix + line([*launcher, *argv])

    def _outer(self) -> list[str]:
        """What comes before the script: what must be done before there is a /proc to be mounted."""
        words = []
        if self.pid_of is not None:
            enter = 'exec nsenter --pid=/proc/$(systemctl show -P MainPID "$0")/ns/pid_for_children -- "$@"'
            words += ["/bin/sh", "-c", enter, self.pid_of]
        if self.mounts or self.hands_over_credentials:
            words += ["/usr/bin/unshare", "--mount"]
            words += ["--pid", "--fork", "--kill-child"] if self.pid else []
            words += ["--cgroup"] if self.cgroup else []
            words.append("--")
        return words

    def _script(self) -> str:
        steps = []
        if self.init:
            steps.append(f"init={shlex.quote(_INIT)}")
        if self.sysfs and self.mounts:
            steps.append(self._fresh_sysfs())
        if self.cgroup:
            steps.append(
                "while umount -l /sys/fs/cgroup 2>/dev/null; do :; done; "
                "mount -t cgroup2 -o ro,nosuid,nodev,noexec cgroup2 /sys/fs/cgroup"
            )
        if self.pid or self.pid_of:
            options = ",".join(("nosuid", "nodev", "noexec", *self.proc_options))
            # Over the old one: where this host is a container itself, the kernel gives a /proc only to who sees one.
            steps.append(f"mount -t proc -o {options} proc /proc")
            if self.proc_read_only and "subset=pid" not in self.proc_options:
                steps.append(_closed_proc())
        if self.hands_over_folders or self.hands_over_credentials:
            steps += self._handing_over()
        if self.numbered and not self.init:
            steps.append(f"{{ {_OWN_NUMBER}; }}")
        words = []
        if self.enter:
            words += ["nsenter", *(f"--{type}={path}" for type, path in sorted(self.enter.items()))]
            words += ["-S", "0", "-G", "0", "--"] if "user" in self.enter else ["--"]
        words = [*map(shlex.quote, words), *self.become.words]
        started = '/bin/sh -c "$init" nsprov-init "$@"' if self.init else '"$@"'
        return " && ".join([*steps, " ".join(["exec", *words, started])])

    def _fresh_sysfs(self) -> str:
        options = ",".join((*(["ro"] if self.proc_read_only else []), "nosuid", "nodev", "noexec"))
        mount = f"mount -t sysfs -o {options} sysfs /sys"
        if self.cgroup:
            return mount
        # What was mounted in the old one is reached from underneath; mount would take its name for a place in the new.
        return f"(cd /sys/fs/cgroup && {mount} && mount -c --rbind . /sys/fs/cgroup)"

    def _handing_over(self) -> list[str]:
        """Give what root of the host made for the unit to the users that it has inside."""
        users = self.enter["user"]
        inside = self.become.user or "0"
        number = inside if inside.isdecimal() else f"$(id -u {inside})"
        # What the kernel calls outside who it is inside: by the range of the map that it is in.
        steps = [
            f"u={number}",
            (
                f"own=$(nsenter --user={users} cat /proc/self/uid_map | while read i o n; "
                "do test $u -lt $i || test $u -ge $((i + n)) || echo $((o + u - i)); done)"
            ),
        ]
        if self.hands_over_folders:
            steps.append(
                "(IFS=:; for d in $RUNTIME_DIRECTORY $STATE_DIRECTORY $CACHE_DIRECTORY $LOGS_DIRECTORY; do "
                "chown -R $own:$own $d || exit; done)"
            )
        if self.hands_over_credentials:
            # The copy is mounted over what it is made of, which is read from underneath.
            steps.append(
                "(cd $CREDENTIALS_DIRECTORY && mount -t tmpfs -o size=16m,mode=0700,nosuid,nodev,noexec tmpfs $PWD "
                "&& cp -- * $CREDENTIALS_DIRECTORY/ && cd $CREDENTIALS_DIRECTORY && chmod 0400 -- * "
                "&& chown $own:$own -- * . && mount -o remount,bind,ro $PWD)"
            )
        return steps


def _closed_proc() -> str:
    read_only = " ".join(_READ_ONLY)
    hidden = " ".join(_HIDDEN)
    return (
        f"for f in {read_only}; do test ! -e /proc/$f || "
        "{ mount --bind /proc/$f /proc/$f && mount -o remount,bind,ro,nosuid,nodev,noexec /proc/$f || exit; }; done; "
        f"for f in {hidden}; do test ! -e /proc/$f || mount --bind /dev/null /proc/$f || exit; done"
    )


def workload_of(command: str) -> tuple[str, str]:
    """The launcher and the workload's own command line, of a command line that may have one."""
    launcher, mark, own = command.partition(f" {_MARK} ")
    if not mark:
        return "", command
    prefix = launcher[: len(launcher) - len(launcher.lstrip("-:+!"))].replace("!", "")
    return launcher, prefix + own


def _kept(capabilities: str) -> list[str]:
    """Capabilities in their canonical form (``CAP_A CAP_B``, ``~CAP_A``) as setpriv takes them."""
    names = [name.lower().removeprefix("cap_") for name in capabilities.removeprefix("~").split()]
    if capabilities.startswith("~"):
        return ["+all", *(f"-{name}" for name in names)]
    return ["-all", *(f"+{name}" for name in names)]
