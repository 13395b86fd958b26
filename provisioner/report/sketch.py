"""What a picture shows of one host: its bridges, namespaces, cables, workloads, and who reaches whom.

Pure: read from a desired graph, through the fields of the resources alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.report.text import counted

if TYPE_CHECKING:
    from provisioner.model import Desired, Expect

__all__ = ["Bridge", "Cable", "Namespace", "Reach", "Sketch", "Workload", "sketch_of"]


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of the host."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs in a namespace."""

    name: str
    command: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace, its addresses by interface, what runs in it, and the limits of that together."""

    name: str
    addresses: tuple[tuple[str, str], ...] = ()
    workloads: tuple[Workload, ...] = ()
    limits: str = ""
    firewall: bool = False


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair: from an interface ``name`` in ``netns`` to ``host_end``, on the host or in ``other``."""

    netns: str
    name: str
    host_end: str
    other: str | None = None

    @property
    def inner(self) -> bool:
        return self.other is not None


@dataclass(frozen=True, slots=True)
class Reach:
    """Who is expected to reach an address, or not to: ``text`` is how it is tried (``ping``, ``:8080``)."""

    start: str
    address: str
    text: str
    result: str
    both_ways: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    """Everything a picture shows of one host."""

    host: str
    note: str
    bridges: tuple[Bridge, ...]
    namespaces: tuple[Namespace, ...]
    cables: tuple[Cable, ...]
    reaches: tuple[Reach, ...]


def sketch_of(host: str, desired: Desired) -> Sketch:
    """What to draw of a host."""
    fields: dict[str, list[dict[str, Any]]] = {}
    for address, declared in desired.resources.items():
        fields.setdefault(address.kind, []).append(declared.resource.without(declared.secrets).declared())
    interfaces = [end for kind in fields.values() for one in kind for end in _ends(one)]
    namespaces = tuple(_namespace(one["name"], interfaces, fields) for one in fields.get("netns", ()))
    bridges = tuple(
        Bridge(one["name"], tuple(one.get("addresses") or ()))
        for one in fields.get("bridge", ())
        if not one.get("netns")
    )
    workloads = sum(len(one.workloads) for one in namespaces)
    note = f"{counted(len(namespaces), 'namespace')}, {counted(workloads, 'workload')}"
    reaches = tuple(dict.fromkeys(_gathered(expect for expect, _ in desired.expects)))
    return Sketch(host, note, bridges, namespaces, tuple(_cables(fields)), reaches)


def _ends(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The interfaces that a resource declares: itself where it has addresses, and its peer."""
    if "addresses" in fields:
        yield fields
    if isinstance(fields.get("peer"), dict):
        yield fields["peer"]


def _namespace(name: str, interfaces: list[Mapping[str, Any]], fields: Mapping[str, Any]) -> Namespace:
    addresses = [
        (str(one.get("name", "")), str(address))
        for one in interfaces
        if one.get("netns") == name
        for address in one.get("addresses") or ()
    ]
    units = [one for one in fields.get("unit", ()) if one.get("netns") == name]
    slices = {one["name"]: one for one in fields.get("slice", ())}
    used = [slices[one["Slice"]] for one in units if one.get("Slice") in slices]
    used += [one for label, one in slices.items() if label.removesuffix(".slice").endswith(f"-{name}")]
    return Namespace(
        name,
        tuple(addresses),
        tuple(Workload(one["name"].removesuffix(".service"), _command(one)) for one in units),
        _limits(used[0]) if used else "",
        any(one.get("netns") == name for one in fields.get("nftables", ())),
    )


def _command(unit: Mapping[str, Any]) -> str:
    command = unit.get("ExecStart", "")
    first = command[0] if isinstance(command, list) and command else command
    text = first if isinstance(first, str) else " ".join(map(str, first))
    program, _, rest = text.partition(" ")
    return f"{program.rpartition('/')[2]} {rest}".strip()


def _limits(one: Mapping[str, Any]) -> str:
    parts = []
    if one.get("MemoryMax"):
        parts.append(f"{one['MemoryMax']} memory")
    if one.get("CPUQuota"):
        parts.append(f"{one['CPUQuota']} of a CPU")
    if one.get("TasksMax"):
        parts.append(f"{one['TasksMax']} tasks")
    return ", ".join(parts)


def _cables(fields: Mapping[str, list[dict[str, Any]]]) -> Iterator[Cable]:
    for one in fields.get("veth", ()):
        peer = one.get("peer") or {}
        near, far = one.get("netns"), peer.get("netns")
        if near and far:
            yield Cable(near, one["name"], peer["name"], far)
        elif far:
            yield Cable(far, peer["name"], one["name"])
        elif near:
            yield Cable(near, one["name"], peer.get("name", ""))


def _gathered(expects: Iterator[Expect]) -> Iterator[Reach]:
    """Expectations by who, whom and result, with all the ways in which it is tried."""
    ways: dict[tuple[str, str, str], list[str]] = {}
    for one in expects:
        address, way = _target(one)
        tried = ways.setdefault((one.from_, address, one.result), [])
        if way not in tried:
            tried.append(way)
    for (start, address, result), tried in ways.items():
        yield Reach(start, address, " ".join(tried), result)


def _target(expect: Expect) -> tuple[str, str]:
    host, port = expect.to, ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    proto = "/udp" if expect.proto == "udp" else ""
    return host, f":{port}{proto}" if port else "ping"
