"""What the fixtures ``netns``, ``unit`` and ``slice`` hand out: things of a host, asked when a test asks.

Nothing is kept from one question to the next, so that a test may change something and look again. The host is read
by ``probes`` and tried by ``packets``: it needs iproute2 and systemd, bash for connections, and no Python. What cannot
be read fails with ``AssertionError`` and the tool's own words; it is never taken for a no.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from provisioner.verify import packets, probes

__all__ = ["Interface", "Limit", "Namespace", "Netns", "Reach", "Slice", "Socket", "Unit"]


class _Now:
    """The host at this moment: probes keep answers for as long as a host lives, and this one lives for one question."""

    def __init__(self, host: Any) -> None:
        self.run = host.run


class _View:
    """Something of a host. It is shown with what was found there last, for the reason of an assertion that fails."""

    def __init__(self, host: Any, title: str) -> None:
        self._host = host
        self._title = title
        self._found = ""

    def __repr__(self) -> str:
        return f"<{self._title}: {self._found}>" if self._found else f"<{self._title}>"

    def _now(self) -> _Now:
        return _Now(self._host)


# -- networks -------------------------------------------------------------------------------------


class Netns(_View):
    """A network namespace with a name."""

    def __init__(self, host: Any, name: str) -> None:
        super().__init__(host, f"netns {name}")
        self.name = name

    @property
    def exists(self) -> bool:
        there = probes.netns_list(self._now())
        self._found = f"there is {_listed(sorted(there))}"
        return self.name in there

    @property
    def addr(self) -> set[str]:
        """The addresses of all its interfaces, with their prefix lengths, but for loopback and link-local ones."""
        __tracebackhide__ = True
        return {f"{one['local']}/{one['prefixlen']}" for one in self._global_addresses()}

    def interface(self, name: str) -> Interface:
        return Interface(self._host, self.name, name)

    def socket(self, spec: str) -> Socket:
        """A socket by ``tcp://:80``, ``tcp://10.0.0.1:80``, ``udp://[fd00::1]:53``."""
        return Socket(self._host, self.name, spec)

    @property
    def routes(self) -> list[str]:
        """The routes of its main table, of both families, as ``ip route`` words them."""
        __tracebackhide__ = True
        return [probes.route_line(one) for one in probes.routes(self._now(), self.name)]

    @property
    def ruleset(self) -> str:
        """All of its packet filter, as ``nft -s list ruleset`` prints it."""
        __tracebackhide__ = True
        answer = self.run("nft -s list ruleset")
        if answer.rc:
            raise AssertionError(f"nft list ruleset in the namespace {self.name}: {answer.stderr.strip()}")
        return str(answer.stdout)

    def run(self, command: str, *args: str) -> Any:
        """Runs a shell command inside; testinfra's CommandResult. ``%s`` in it are the arguments, quoted."""
        quoted = command % tuple(map(shlex.quote, args)) if args else command
        return probes.run(self._host, self.name, quoted)

    def can_reach(self, other: Netns | str, port: int | None = None, *, timeout: float = 2) -> Reach:
        """Whether a TCP connection to an address is made from inside; without a port, whether a ping is answered.

        Another namespace is reached when one of its addresses is.
        """
        __tracebackhide__ = True
        if isinstance(other, Netns):
            hosts = sorted(str(one["local"]) for one in other._global_addresses())
            if not hosts:
                raise AssertionError(f"netns {other.name} has no address that it could be reached by")
        else:
            hosts = [other]
        proto = "icmp" if port is None else "tcp"
        shown = hosts if port is None else [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]
        attempts = [packets.Attempt(self.name, to, proto, "") for to in shown]
        found = packets.outcomes(self._host, attempts, silence=timeout)
        reach = Reach(self.name, tuple((one.to, *found[one]) for one in attempts))
        untried = [words for _, outcome, words in reach.tries if outcome == "untried"]
        if untried and not reach:
            raise AssertionError(f"netns {self.name} could not try to reach {', '.join(shown)}: {untried[0]}")
        return reach

    def _global_addresses(self) -> list[dict[str, Any]]:
        __tracebackhide__ = True
        links = probes.ip_json(self._now(), self.name, "address", "show")
        return [one for link in links for one in link.get("addr_info", ()) if one.get("scope") == "global"]


@dataclass(frozen=True)
class Reach:
    """What became of trying to reach something: true where it was reached."""

    netns: str
    #: For each address that was tried: ``reached``, ``refused``, ``dropped`` or ``untried``, and the kernel's words.
    tries: tuple[tuple[str, str, str], ...]

    def __bool__(self) -> bool:
        return any(outcome == "reached" for _, outcome, _ in self.tries)

    def __repr__(self) -> str:
        told = [f"{to} {outcome}{f' ({words})' if words else ''}" for to, outcome, words in self.tries]
        return f"<from netns {self.netns}: {', '.join(told)}>"


class Interface(_View):
    """An interface in a namespace. What is asked of one that is not there fails, but for ``exists``."""

    def __init__(self, host: Any, netns: str, name: str) -> None:
        super().__init__(host, f"interface {name} of netns {netns}")
        self.netns = netns
        self.name = name

    @property
    def exists(self) -> bool:
        there = probes.ip_json(self._now(), self.netns, "address", "show")
        self._found = f"there is {_listed(sorted(one['ifname'] for one in there))}"
        return probes.link(self._now(), self.netns, self.name) is not None

    @property
    def addresses(self) -> set[str]:
        """Its addresses of both families, with their prefix lengths."""
        __tracebackhide__ = True
        return probes.addresses(self._now(), self.netns, self.name)

    @property
    def is_up(self) -> bool:
        """Whether it is set up; that its cable carries anything is ``state``."""
        __tracebackhide__ = True
        return "UP" in self._asked()["flags"]

    @property
    def state(self) -> str:
        """What the kernel makes of it: ``UP``, ``DOWN``, ``LOWERLAYERDOWN``, or ``UNKNOWN`` as for loopback."""
        __tracebackhide__ = True
        return str(self._asked()["operstate"])

    @property
    def mtu(self) -> int:
        __tracebackhide__ = True
        return int(self._asked()["mtu"])

    @property
    def mac(self) -> str:
        __tracebackhide__ = True
        return str(self._asked()["address"])

    def _asked(self) -> dict[str, Any]:
        __tracebackhide__ = True
        found = probes.interface(self._now(), self.netns, self.name)
        self._found = f"{','.join(found['flags'])}, state {found['operstate']}, mtu {found['mtu']}"
        return found


_SOCKET = re.compile(r"(?P<proto>tcp|udp)://(?:(?:\[(?P<v6>[^]]+)\]|(?P<v4>[^:]*)):)?(?P<port>\d+)")


class Socket(_View):
    """A TCP or UDP socket that waits in a namespace; without an address, at any."""

    def __init__(self, host: Any, netns: str, spec: str) -> None:
        super().__init__(host, f"socket {spec} of netns {netns}")
        found = _SOCKET.fullmatch(spec)
        if not found:
            raise ValueError(
                f"{spec!r} is no socket: expected one like tcp://:80, tcp://10.0.0.1:80, udp://[fd00::1]:53"
            )
        self.netns = netns
        self.proto = found["proto"]
        self.address = found["v6"] or found["v4"] or ""
        self.port = int(found["port"])

    @property
    def is_listening(self) -> bool:
        """Whether something listens there, at the address itself or at all addresses."""
        __tracebackhide__ = True
        answer = probes.run(self._now(), self.netns, f"ss -H -l -n --{self.proto}")
        if answer.rc:
            raise AssertionError(f"ss in the namespace {self.netns}: {answer.stderr.strip()}")
        there = [fields[3] for line in answer.stdout.splitlines() if len(fields := line.split()) > 3]
        self._found = f"{self.proto} listens at {_listed(sorted(set(there)))}"
        return any(self._is(local) for local in there)

    def _is(self, local: str) -> bool:
        place, _, port = local.rpartition(":")
        if port != str(self.port):
            return False
        # `ss` appends the interface that a socket is bound to, and writes * for all addresses of both families.
        at = place.partition("%")[0].strip("[]")
        return not self.address or at in (self.address, "*", "::" if ":" in self.address else "0.0.0.0")


# -- units and slices -----------------------------------------------------------------------------


class Namespace(NamedTuple):
    """A namespace that a process is in."""

    kind: str
    inode: int
    #: Whether it is the host's own, and isolates nothing.
    is_host: bool

    def __repr__(self) -> str:
        return f"<{self.kind}:[{self.inode}]{', the host has the same' if self.is_host else ''}>"


class _Limited(_View):
    """A unit with a control group."""

    def __init__(self, host: Any, word: str, name: str) -> None:
        super().__init__(host, f"{word} {name}")
        self.name = name

    @property
    def is_active(self) -> bool:
        __tracebackhide__ = True
        wanted = "--property=LoadState,ActiveState,SubState,Result"
        answer = self._host.run(shlex.join(["systemctl", "show", wanted, "--", self.name]))
        if answer.rc:
            raise AssertionError(f"systemctl show {self.name}: {answer.stderr.strip()}")
        told = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
        active = told["ActiveState"]
        why = f", {told['Result']}" if told.get("Result", "success") != "success" else ""
        unknown = told["LoadState"] == "not-found"
        self._found = "systemd knows no such unit" if unknown else f"{active} ({told['SubState']}{why})"
        return active in ("active", "reloading")

    @property
    def cgroup(self) -> str:
        """The path of its control group below /sys/fs/cgroup; empty where it has none, as it does not run."""
        __tracebackhide__ = True
        return probes.unit_property(self._now(), self.name, "ControlGroup")

    def limit(self, directive: str) -> Limit | str:
        """What the kernel enforces of a directive of systemd, from the file of its control group.

        A number that can be compared with systemd's own way of writing (``"512M"``, ``"50%"``, ``"infinity"``);
        for ``AllowedCPUs`` and ``AllowedMemoryNodes`` the kernel's text.
        """
        __tracebackhide__ = True
        file = _FILES.get(directive)
        if file is None:
            near = difflib.get_close_matches(directive, _FILES, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_FILES)}"
            raise ValueError(f"{directive!r} is no limit that stands in a file of the kernel: {hint}")
        now = self._now()
        text = probes.cgroup_file(now, self.name, file)
        if text is None:
            raise AssertionError(self._why_missing(now, directive, file))
        return _limit(directive, file, text)

    def _why_missing(self, now: _Now, directive: str, file: str) -> str:
        controller = file.partition(".")[0]
        missing = f"{self.name} has no {file}, so {directive} is not in force: "
        if not probes.has_controller(now, controller):
            return (
                f"{missing}cgroup v2 has no controller '{controller}' on this host. Either cgroup v1 holds it"
                " (boot with systemd.unified_cgroup_hierarchy=1), or the kernel lacks it, or this is a container that"
                " was lent none"
            )
        above = probes.unit_property(now, self.name, "Slice") or "-.slice"
        if controller not in (probes.cgroup_file(now, above, "cgroup.subtree_control") or "").split():
            return (
                f"{missing}{above} does not hand on the controller '{controller}'. systemd sees to that where a limit"
                f" of it is set: is {directive} set on {self.name}?"
            )
        return (
            f"{missing}the kernel has the controller '{controller}', but not this file: it is too old, or built without"
        )


class Unit(_Limited):
    """A unit of systemd; ``web`` is ``web.service``."""

    def __init__(self, host: Any, name: str) -> None:
        super().__init__(host, "unit", name if "." in name else f"{name}.service")

    @property
    def pid(self) -> int | None:
        """Its main process; None where none runs."""
        __tracebackhide__ = True
        return int(probes.unit_property(self._now(), self.name, "MainPID") or 0) or None

    @property
    def namespaces(self) -> dict[str, Namespace]:
        """The namespaces of its workload by kind, as /proc/PID/ns names them: ``net``, ``mnt``, ``pid``, …"""
        __tracebackhide__ = True
        return {
            kind: Namespace(kind, int(own.partition("[")[2].rstrip("]")), own == of_host)
            for kind, (own, of_host) in probes.namespaces(self._now(), self.name).items()
        }

    @property
    def netns(self) -> str | None:
        """The name of the network namespace that it is in; None where that has none, as the host's own."""
        __tracebackhide__ = True
        return probes.unit_netns(self._now(), self.name)


class Slice(_Limited):
    """A slice of systemd; ``tenants`` is ``tenants.slice``."""

    def __init__(self, host: Any, name: str) -> None:
        super().__init__(host, "slice", name if name.endswith(".slice") else f"{name}.slice")


# -- limits ---------------------------------------------------------------------------------------

_BYTES = {
    "MemoryMax": "memory.max",
    "MemoryHigh": "memory.high",
    "MemoryLow": "memory.low",
    "MemoryMin": "memory.min",
    "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}
_TEXTS = {"AllowedCPUs": "cpuset.cpus", "AllowedMemoryNodes": "cpuset.mems"}
_FILES = {
    **_BYTES,
    **_TEXTS,
    "CPUQuota": "cpu.max",
    "CPUWeight": "cpu.weight",
    "IOWeight": "io.weight",
    "TasksMax": "pids.max",
}
_SIZES = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10}
_AMOUNT = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[KMGT%]?)")


class Limit(float):
    """A number that the kernel enforces, ``math.inf`` for none. A text beside it is read as systemd reads it."""

    def __new__(cls, number: float, unit: str = "") -> Limit:
        made = super().__new__(cls, number)
        made.unit = unit
        return made

    #: ``B`` for bytes, ``%`` of one CPU, or nothing.
    unit: str

    def __repr__(self) -> str:
        if math.isinf(self):
            return "infinity"
        number = int(self) if self.is_integer() else float(self)
        if self.unit == "B":
            suffix = next((one for one, size in _SIZES.items() if number and number % size == 0), "")
            return f"{int(number // _SIZES.get(suffix, 1))}{suffix}"
        return f"{number}{self.unit}"

    __str__ = __repr__
    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return float(self) == self._number(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: float | str) -> bool:
        return float(self) < self._number(other)

    def __le__(self, other: float | str) -> bool:
        return float(self) <= self._number(other)

    def __gt__(self, other: float | str) -> bool:
        return float(self) > self._number(other)

    def __ge__(self, other: float | str) -> bool:
        return float(self) >= self._number(other)

    def _number(self, other: object) -> float:
        if isinstance(other, (int, float)):
            return float(other)
        if not isinstance(other, str):
            return math.nan
        if other == "infinity":
            return math.inf
        found = _AMOUNT.fullmatch(other.strip())
        fits = {"B": "KMGT", "%": "%", "": ""}[self.unit]
        if not found or found["unit"] not in fits:
            expected = {"B": "512M, or 1073741824", "%": "50%", "": "100"}[self.unit]
            raise ValueError(f"{other!r} is not a limit of this kind: expected one like {expected}, or infinity")
        return float(found["number"]) * _SIZES.get(found["unit"], 1)


def _limit(directive: str, file: str, text: str) -> Limit | str:
    """What stands in a file of a control group."""
    if directive in _TEXTS:
        return text
    if file == "cpu.max":
        quota, period = text.split()
        return Limit(math.inf if quota == "max" else 100 * int(quota) / int(period), "%")
    # `io.weight` has a line for each device after the one for all.
    number = text.split("\n")[0].removeprefix("default ")
    return Limit(math.inf if number == "max" else int(number), "B" if directive in _BYTES else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
