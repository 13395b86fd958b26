"""What testinfra's ``host`` says about namespaces, interfaces, units, cgroups and packet filters.

Each function starts a well-known tool on the host (``ip``, ``systemctl``, ``nft``, ``cat``) and reads its answer;
the host needs no Python. A function fails with ``AssertionError`` and the tool's own words where there is
nothing to read. This module stands alone (the standard library and testinfra's ``host``): it is copied into
every suite that is written, next to the facts that use it.

Answers are kept for the length of a test session, as a host is asked the same thing by many facts; a test that
changes the host calls ``forget(host)`` before it looks again.
"""

from __future__ import annotations

import hmac
import json
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

__all__ = [
    "addresses",
    "cgroup_device",
    "cgroup_file",
    "clock_offset",
    "fact",
    "file_type",
    "forget",
    "has_controller",
    "inside",
    "interface",
    "ip_json",
    "link",
    "link_state",
    "namespaces",
    "netns_list",
    "nft_list",
    "own_namespace",
    "owned_by",
    "pinned",
    "read_ahead",
    "route_line",
    "route_words",
    "routes",
    "rule_words",
    "rules",
    "run",
    "sealed_file",
    "sysctl",
    "unit_netns",
    "unit_property",
]

F = TypeVar("F", bound=Callable[..., Any])

#: Between the answers to several commands that were asked in one go.
_MARK = "--8<--nsprov--"
#: The longest script sent in one go: the kernel takes 128 KiB in one argument.
_LONGEST = 60_000


def fact(title: str, declared: str | None = None) -> Callable[[F], F]:
    """Names a test after the fact that it checks, and the file and line that declare it."""

    def mark(check: F) -> F:
        check.fact = (title, declared)  # type: ignore[attr-defined]
        return check

    return mark


# -- namespaces and what is in them ---------------------------------------------------------------


def netns_list(host: Any) -> list[str]:
    """The names of the host's network namespaces."""
    answer = _ask(host, "ip netns list")
    if answer.status:
        raise AssertionError(f"ip netns list: {answer.words}")
    return [line.split()[0] for line in answer.text.splitlines() if line.strip()]


def run(host: Any, netns: str | None, command: str) -> Any:
    """Runs a shell command, inside a namespace or (None) on the host; testinfra's CommandResult. Never kept."""
    return host.run(_inside(netns, command))


def ip_json(host: Any, netns: str | None, *args: str) -> list[dict[str, Any]]:
    """What ``ip -j -d ARGS`` answers, in a namespace or (None) on the host."""
    __tracebackhide__ = True
    where = ["-n", netns] if netns else []
    answer = _ask(host, shlex.join(["ip", *where, "-j", "-d", *args]))
    if answer.status:
        raise AssertionError(f"{shlex.join(['ip', *where, *args])}: {answer.words}")
    return _json_lists(answer.text)


def link(host: Any, netns: str | None, name: str) -> dict[str, Any] | None:
    """One interface as ``ip -d link`` shows it; None where there is none of this name."""
    __tracebackhide__ = True
    return next((one for one in _network(host, netns).links if one["ifname"] == name), None)


def interface(host: Any, netns: str | None, name: str) -> dict[str, Any]:
    """One interface as ``ip -d link`` shows it. Fails where there is none of this name."""
    __tracebackhide__ = True
    found = link(host, netns, name)
    if found is None:
        there = ", ".join(sorted(one["ifname"] for one in _network(host, netns).links)) or "none"
        raise AssertionError(f"there is no interface {name} {_in(netns)}; there is: {there}")
    return found


def link_state(host: Any, netns: str | None, name: str) -> str:
    """Whether an interface is administratively ``up`` or ``down``."""
    __tracebackhide__ = True
    return "up" if "UP" in interface(host, netns, name)["flags"] else "down"


def addresses(host: Any, netns: str | None, dev: str) -> set[str]:
    """The addresses of an interface with their prefix lengths, of both families: ``{"10.0.0.2/24"}``."""
    __tracebackhide__ = True
    told = interface(host, netns, dev).get("addr_info", ())
    return {f"{one['local']}/{one['prefixlen']}" for one in told if "local" in one}


def routes(host: Any, netns: str | None, table: str | int = "main") -> list[dict[str, Any]]:
    """The routes of one table, of both families, as ``ip -d route`` shows them, with ``family`` inet or inet6."""
    __tracebackhide__ = True
    names = _table_names(table)
    found = [one for one in _network(host, netns).routes if str(one.get("table", "main")) in names]
    return found or _routes_of_named_table(host, netns, str(table))


def rules(host: Any, netns: str | None) -> list[dict[str, Any]]:
    """The routing rules of both families, as ``ip rule`` shows them, with ``family`` inet or inet6."""
    __tracebackhide__ = True
    found = []
    for family in ("inet", "inet6"):
        answer = _ask(host, _rules_command(netns, family))
        if answer.status:
            raise AssertionError(f"ip rule {_in(netns)}: {answer.words}")
        found += [one | {"family": family} for one in _json_lists(answer.text)]
    return found


def route_line(route: dict[str, Any]) -> str:
    """A route as ``ip route`` words it: ``default via 10.0.0.1 dev eth0``."""
    return _worded(route, route["dst"], _ROUTE_WORDS)


def route_words(found: Iterable[dict[str, Any]]) -> str:
    """Routes as ``ip route`` words them, for the reason of a fact that does not hold."""
    return "there is: " + (", ".join(map(route_line, found)) or "none")


def rule_words(found: Iterable[dict[str, Any]]) -> str:
    """Routing rules as ``ip rule`` words them, without those that every namespace has."""
    own = [one for one in found if one["priority"] not in (0, 32766, 32767)]
    return "there is: " + (", ".join(_worded(one, f"{one['priority']}:", _RULE_WORDS) for one in own) or "none")


def sysctl(host: Any, netns: str | None, key: str) -> str:
    """The value of a kernel parameter, in a namespace or on the host. Blanks within it become single spaces."""
    __tracebackhide__ = True
    answer = _ask(host, _sysctl_command(netns, key))
    if answer.status:
        raise AssertionError(f"sysctl {key} {_in(netns)}: {answer.words}")
    return " ".join(answer.text.split())


def nft_list(host: Any, netns: str | None, family: str, table: str) -> str:
    """A table of the packet filter as ``nft -s list table`` shows it, without counters."""
    __tracebackhide__ = True
    answer = _ask(host, _nft_command(netns, family, table))
    if answer.status:
        raise AssertionError(f"nft list table {family} {table} {_in(netns)}: {answer.words}")
    return answer.text


def file_type(host: Any, path: str) -> str:
    """What is at a path, by ``stat``: ``regular file``, ``directory``, ``symbolic link``, …, or ``nothing``."""
    __tracebackhide__ = True
    answer = _ask(host, _file_type_command(path))
    if answer.status:
        raise AssertionError(f"stat {path}: {answer.words}")
    return answer.text.strip().replace("regular empty file", "regular file")


def sealed_file(host: Any, path: str) -> str:
    """The digest of a file that has a secret in it, by the key of this run: it tells nothing to who has not got it."""
    __tracebackhide__ = True
    return sealed_digest(bytes.fromhex(os.environ["NSPROV_VERIFY_KEY"]), host.file(path).content)


def sealed_digest(key: bytes, content: bytes) -> str:
    return hmac.digest(key, content, "sha256").hex()


# -- units and cgroups ----------------------------------------------------------------------------


def unit_property(host: Any, unit: str, name: str) -> str:
    """A property of a unit as ``systemctl show`` spells it (``MemoryMax`` is in bytes, or ``infinity``)."""
    __tracebackhide__ = True
    known = _kept(host).units.setdefault(unit, {})
    if name not in known:
        answer = _ask(host, shlex.join(["systemctl", "show", "--all", "--no-pager", "--", unit]))
        if answer.status:
            raise AssertionError(f"systemctl show {unit}: {answer.words}")
        known.update(_properties(answer.text))
    if name not in known:
        raise AssertionError(f"this host's systemd knows no property {name} of {unit}")
    return known[name]


def unit_netns(host: Any, unit: str) -> str | None:
    """The named namespace that a unit's main process is in; None where it is in the host's own."""
    __tracebackhide__ = True
    pid = unit_property(host, unit, "MainPID")
    if pid in ("", "0"):
        state = f"{unit_property(host, unit, 'ActiveState')}, {unit_property(host, unit, 'SubState')}"
        raise AssertionError(f"{unit} has no main process: it is {state}")
    answer = _ask(host, _process_netns_command(pid))
    if answer.status:
        raise AssertionError(f"the namespace of {unit}, process {pid}: {answer.words}")
    named = _ask(host, "stat -L -c '%d:%i %n' /run/netns/* 2>/dev/null; true")
    for line in named.text.splitlines():
        inode, _, path = line.partition(" ")
        if inode == answer.text.strip():
            return path.rpartition("/")[2]
    return None


def cgroup_file(host: Any, unit: str, file: str) -> str | None:
    """The value in the kernel of a unit's or slice's cgroup v2 file (``memory.max``).

    None where the file is not there, because the kernel or the parent lacks its controller. Fails where the
    unit has no cgroup at all, because it does not run.
    """
    __tracebackhide__ = True
    group = unit_property(host, unit, "ControlGroup")
    if not group:
        raise AssertionError(f"{unit} has no cgroup: it is {unit_property(host, unit, 'ActiveState')}")
    answer = _ask(host, _cgroup_command(group, file))
    if answer.status == 3:
        raise AssertionError(f"{unit} has no cgroup: {group} is not there")
    if answer.status == 4:
        return None
    if answer.status:
        raise AssertionError(f"{file} of {unit}: {answer.words}")
    return answer.text.strip()


def cgroup_device(host: Any, unit: str, file: str, device: str, key: str) -> str | None:
    """What a unit's cgroup v2 file (``io.max``) says of a block device: the number after a key, or the bare one.

    None where the file is not there, or the device; empty where the device has no such line. A partition's
    limits are its disk's.
    """
    __tracebackhide__ = True
    text = cgroup_file(host, unit, file)
    number = _ask(host, _device_command(device))
    if text is None or number.status:
        return None
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == number.text.strip():
            return rest if not key else dict(one.partition("=")[::2] for one in rest.split()).get(key, "")
    return ""


def has_controller(host: Any, controller: str) -> bool:
    """Whether this host's kernel offers a controller of cgroup v2 (``memory``) to control groups."""
    __tracebackhide__ = True
    answer = _ask(host, "cat /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null")
    return controller in answer.text.split()


# -- pinned namespaces ----------------------------------------------------------------------------


def pinned(host: Any, type: str, name: str) -> bool:
    """Whether a file of this name is bound to a namespace of this type (``user``, ``uts``, ``ipc``, ``time``)."""
    path = f"/run/nsprov/ns/{type}/{name}"
    return _ask(host, shlex.join(["stat", "-f", "-c", "%T", path])).text.strip() == "nsfs"


def inside(host: Any, type: str, name: str, command: str) -> str:
    """What a shell command prints in a pinned namespace, its white space folded."""
    __tracebackhide__ = True
    answer = _ask(host, shlex.join(["nsenter", f"--{type}=/run/nsprov/ns/{type}/{name}", "sh", "-c", command]))
    if answer.status:
        raise AssertionError(f"{command} in the {type} namespace {name}: {answer.words}")
    return "\n".join(" ".join(line.split()) for line in answer.text.splitlines())


#: The namespaces of a unit's workload and of the host, a line each. Where a launcher had to fork, the unit's main
#: process waits outside, and the workload is the first process in the pid namespace of its children.
_NAMESPACES = """\
main=$(systemctl show -P MainPID -- {unit}) group=$(systemctl show -P ControlGroup -- {unit})
test "${{main:-0}}" != 0 || {{ echo "{unit} has no main process" >&2; exit 1; }}
tree=/sys/fs/cgroup; test -e $tree/cgroup.controllers || tree=$tree/unified
inner=$(readlink /proc/$main/ns/pid_for_children) pid=$main
for one in $(cat "$tree$group/cgroup.procs"); do
    if [ "$(readlink /proc/$one/ns/pid)" = "$inner" ]; then pid=$one; break; fi
done
for kind in mnt pid net ipc uts user cgroup time; do
    echo "$kind $(readlink /proc/$pid/ns/$kind) $(readlink /proc/1/ns/$kind)"
done"""


def namespaces(host: Any, unit: str) -> dict[str, tuple[str, str]]:
    """The namespaces of a unit's workload, and the host's own of the same kind, as ``net:[4026531840]``.

    By the names that ``/proc/PID/ns`` has for the kinds. Those that the kernel does not know are left out.
    """
    __tracebackhide__ = True
    answer = _ask(host, _NAMESPACES.format(unit=shlex.quote(unit)))
    if answer.status:
        raise AssertionError(f"the namespaces of {unit}: {answer.words}")
    lines = [line.split() for line in answer.text.splitlines()]
    found = {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}
    if not found:
        raise AssertionError(f"the namespaces of {unit} can be read by root alone")
    return found


def own_namespace(host: Any, unit: str, kind: str) -> bool:
    """Whether a unit's workload is in another namespace of this kind (``pid``, ``mount``, …) than the host."""
    __tracebackhide__ = True
    workload, host_own = namespaces(host, unit)["mnt" if kind == "mount" else kind]
    return workload != host_own


def clock_offset(host: Any, name: str, clock: str) -> int:
    """How many seconds a clock (``monotonic``, ``boottime``) is ahead in a pinned time namespace."""
    __tracebackhide__ = True
    told = inside(host, "time", name, "cat /proc/self/timens_offsets")
    return next((int(line.split()[1]) for line in told.splitlines() if line.split()[0] == clock), 0)


def owned_by(host: Any, netns: str, owner: str) -> bool:
    """Whether the root of a pinned user namespace has the rights over a network namespace: it may enter it."""
    inner = shlex.join(["nsenter", f"--net=/run/netns/{netns}", "true"])
    return not _ask(host, f"nsenter --user=/run/nsprov/ns/user/{owner} -S 0 -G 0 {inner}").status


# -- asking many things at once -------------------------------------------------------------------


def read_ahead(host: Any, calls: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Asks the host in a few round trips what these calls of probes (name, arguments) will ask one by one."""
    wanted: dict[str, set[tuple[Any, ...]]] = {}
    for name, args in calls:
        wanted.setdefault(name, set()).add(tuple(args))

    def of(*names: str) -> list[tuple[Any, ...]]:
        return sorted((args for name in names for args in wanted.get(name, ())), key=str)

    networked = of("link", "link_state", "interface", "addresses", "routes")
    commands = [_network_command(netns) for netns in {args[0]: None for args in networked}]
    commands += [_rules_command(args[0], family) for args in of("rules") for family in ("inet", "inet6")]
    commands += [_sysctl_command(*args) for args in of("sysctl") if len(args) == 2]
    commands += [_nft_command(*args) for args in of("nft_list") if len(args) == 3]
    commands += [_file_type_command(*args) for args in of("file_type") if len(args) == 1]
    _ask_all(host, commands)
    _read_units(host, of("unit_property"), of("unit_netns"), of("cgroup_file"))


def forget(host: Any) -> None:
    """Drops what was kept of a host's answers, after a test has changed it."""
    _all_kept.pop(host, None)


class _Answer(NamedTuple):
    status: int
    text: str

    @property
    def words(self) -> str:
        """What the tool said, in one line."""
        return "; ".join(line.strip() for line in self.text.splitlines() if line.strip()) or f"status {self.status}"


@dataclass
class _Network:
    """The interfaces (with their addresses) and the routes of one namespace."""

    links: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Kept:
    """What one host has answered."""

    answers: dict[str, _Answer] = field(default_factory=dict)
    networks: dict[str | None, _Network] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)


_all_kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()


def _kept(host: Any) -> _Kept:
    return _all_kept.setdefault(host, _Kept())


def _ask(host: Any, command: str) -> _Answer:
    """The answer to a shell command, asked once."""
    answers = _kept(host).answers
    if command not in answers:
        result = host.run(command)
        answers[command] = _Answer(result.rc, result.stdout if result.rc == 0 else result.stdout + result.stderr)
    return answers[command]


def _ask_all(host: Any, commands: Iterable[str]) -> None:
    """Asks many shell commands in as few round trips as the length of a command line allows."""
    answers = _kept(host).answers
    script: list[str] = []
    asked: list[str] = []
    length = 0

    def send() -> None:
        if not asked:
            return
        parts = host.run("\n".join(script)).stdout.split(_MARK)
        # One part less or more, and nobody knows whose answer is whose: then each is asked for itself.
        if len(parts) == len(asked) + 1:
            for command, text in zip(asked, parts[:-1], strict=True):
                body, _, status = text.rpartition("\n")
                answers[command] = _Answer(int(status), body)
        script.clear()
        asked.clear()

    for command in dict.fromkeys(commands):
        if command in answers:
            continue
        line = f"( {command} ) 2>&1; printf '\\n%s{_MARK}' $?"
        length += len(line) + 1
        if length > _LONGEST:
            send()
            length = len(line)
        script.append(line)
        asked.append(command)
    send()


def _read_units(
    host: Any, properties: Sequence[tuple[Any, ...]], netns: Sequence[tuple[Any, ...]], files: Sequence[tuple[Any, ...]]
) -> None:
    """Reads the properties of many units with one ``systemctl show``, then what their cgroups and processes say."""
    names = {args[1] for args in properties if len(args) == 2} | {"ActiveState", "ControlGroup", "MainPID", "SubState"}
    units = sorted({args[0] for args in (*properties, *netns, *files)})
    for start in range(0, len(units), 500):
        chunk = units[start : start + 500]
        command = ["systemctl", "show", "--all", "--no-pager", f"--property={','.join(sorted(names))}", "--", *chunk]
        result = host.run(shlex.join(command))
        blocks = result.stdout.strip("\n").split("\n\n")
        if result.rc or len(blocks) != len(chunk):
            continue
        for unit, block in zip(chunk, blocks, strict=True):
            _kept(host).units.setdefault(unit, {}).update(_properties(block))
    known = _kept(host).units
    pids = [known.get(args[0], {}).get("MainPID", "0") for args in netns]
    groups = [(known.get(args[0], {}).get("ControlGroup"), args[1]) for args in files if len(args) == 2]
    commands = [_process_netns_command(pid) for pid in pids if pid not in ("", "0")]
    commands += [_cgroup_command(group, file) for group, file in groups if group]
    _ask_all(host, commands)


# -- the commands, and how their answers read -----------------------------------------------------


def _in(netns: str | None) -> str:
    return f"in the namespace {netns}" if netns else "on the host"


def _inside(netns: str | None, command: str) -> str:
    return f"ip netns exec {shlex.quote(netns)} sh -c {shlex.quote(command)}" if netns else command


def _network_command(netns: str | None) -> str:
    where = f"-n {shlex.quote(netns)} " if netns else ""
    return f"printf 'address show\\nroute show table all\\n' | ip {where}-j -d -force -batch -"


def _rules_command(netns: str | None, family: str) -> str:
    return shlex.join(["ip", *(["-n", netns] if netns else []), "-f", family, "-j", "-d", "rule", "show"])


def _sysctl_command(netns: str | None, key: str) -> str:
    # As sysctl(8): the separator that comes first is the separator; the other one is part of a name (eth0.5).
    dot, slash = key.find("."), key.find("/")
    path = key if slash >= 0 and (dot < 0 or slash < dot) else key.translate(str.maketrans("./", "/."))
    read = f"cat /proc/sys/{shlex.quote(path)}"
    return f"ip netns exec {shlex.quote(netns)} {read}" if netns else read


def _nft_command(netns: str | None, family: str, table: str) -> str:
    read = f"nft -s list table {shlex.quote(family)} {shlex.quote(table)}"
    return f"ip netns exec {shlex.quote(netns)} {read}" if netns else read


def _file_type_command(path: str) -> str:
    quoted = shlex.quote(path)
    return f"if [ -e {quoted} ] || [ -L {quoted} ]; then stat -c %F -- {quoted}; else echo nothing; fi"


def _process_netns_command(pid: str) -> str:
    return f"stat -L -c %d:%i /proc/{shlex.quote(pid)}/ns/net"


def _cgroup_command(group: str, file: str) -> str:
    """Reads a file of a cgroup; status 3 says that the cgroup is missing, 4 that the file is."""
    return (
        "r=/sys/fs/cgroup; [ -f $r/cgroup.controllers ] || r=$r/unified; "
        f'd=$r{shlex.quote(group.rstrip("/"))}; [ -d "$d" ] || exit 3; '
        f'f="$d"/{shlex.quote(file)}; [ -e "$f" ] || exit 4; cat "$f"'
    )


def _device_command(device: str) -> str:
    """The number of the disk that a block device is, or is a part of."""
    return (
        f"n=$(stat -L -c '%Hr:%Lr' -- {shlex.quote(device)}) && d=$(readlink -f /sys/dev/block/$n) && "
        'if [ -e "$d/partition" ]; then d=${d%/*}; fi && '
        'while [ "$(ls "$d/slaves" 2>/dev/null | wc -l)" = 1 ]; do d=$(readlink -f "$d"/slaves/*); done; '
        'cat "$d/dev"'
    )


def _network(host: Any, netns: str | None) -> _Network:
    __tracebackhide__ = True
    networks = _kept(host).networks
    if netns not in networks:
        answer = _ask(host, _network_command(netns))
        if answer.status:
            raise AssertionError(f"ip {_in(netns)}: {answer.words}")
        made = networks[netns] = _Network()
        for one in _json_lists(answer.text):
            if "ifname" in one:
                made.links.append(one)
            elif "dst" in one:
                # `ip` does not say a route's family; only IPv6 routes have a preference.
                made.routes.append(one | {"family": "inet6" if "pref" in one else "inet"})
    return networks[netns]


def _routes_of_named_table(host: Any, netns: str | None, table: str) -> list[dict[str, Any]]:
    """The routes of a table that rt_tables may know by another name."""
    where = ["-n", netns] if netns else []
    found = []
    for family, flag in (("inet", "-4"), ("inet6", "-6")):
        answer = _ask(host, shlex.join(["ip", *where, flag, "-j", "-d", "route", "show", "table", table]))
        # A table without routes is no table: `ip` then fails.
        found += [one | {"family": family} for one in (_json_lists(answer.text) if answer.status == 0 else ())]
    return found


#: The fields of ``ip``'s JSON that words are made of, in the order of its text, and the words before them.
_ROUTE_WORDS = {"gateway": "via", "dev": "dev", "prefsrc": "src", "metric": "metric"}
_RULE_WORDS = {"src": "from", "dst": "to", "iif": "iif", "oif": "oif", "fwmark": "fwmark", "table": "lookup"}


def _worded(one: dict[str, Any], first: str, words: dict[str, str]) -> str:
    kind = [one["type"]] if one.get("type", "unicast") != "unicast" else []
    length = {"src": one.get("srclen"), "dst": one.get("dstlen")}
    told = [f"{words[key]} {one[key]}{f'/{length[key]}' if length.get(key) else ''}" for key in words if key in one]
    return " ".join([*kind, first, *told, *([one["action"]] if "action" in one else [])])


def _table_names(table: str | int) -> set[str]:
    known = {"255": "local", "254": "main", "253": "default"}
    text = str(table)
    return {text, known.get(text, text)}


def _json_lists(text: str) -> list[dict[str, Any]]:
    """The objects of the JSON lists that ``ip`` printed, one list a line; what else it said is skipped."""
    return [one for line in text.splitlines() if line.startswith("[") for one in json.loads(line) if one]


def _properties(text: str) -> dict[str, str]:
    """``NAME=VALUE`` lines of ``systemctl show``; a line that is none continues the value before it.

    A name that comes several times (``ExecStart=`` for each command) has its values on a line each.
    """
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.isidentifier() and name[0].isupper():
            found[name] = f"{found[name]}\n{value}" if name in found else value
            last = name
        elif last:
            found[last] += f"\n{line}"
    return found
