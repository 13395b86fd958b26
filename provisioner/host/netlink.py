"""Network namespaces, and a netlink socket in each of them.

Owns the sockets: who opens them, how many messages go out before the answers are read, and what was dumped
since the last change. What the messages mean is ``messages``'; what is done with them is ``interfaces``'.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from provisioner.errors import HostError
from provisioner.host import messages as m
from provisioner.host import namespaces

__all__ = ["Network", "Refusal", "Socket"]

T = TypeVar("T")

#: What tells a route of a namespace from others: its table, family, destination and metric.
Identity = tuple[int | str | None, str, str, int | None]

_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT_CHECK = 10, 11, 12
_SO_NETNS_COOKIE = 71
#: More unread acknowledgements than this may overflow a socket's buffer.
BATCH = 64
_LOOPBACK = 1
#: The kernel answers a dump in parts of at most 32 KiB.
_LARGEST = 64 * 1024


class Refusal(NamedTuple):
    """Why the kernel refused one message: its errno, and its own words."""

    code: int
    words: str

    def __str__(self) -> str:
        text = os.strerror(self.code)
        return f"{text}: {self.words}" if self.words else text


class Socket:
    """A routing netlink socket, in the namespace of the thread that opened it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    @property
    def cookie(self) -> int:
        """A number that no other namespace has, had or will have until the next boot; 0 before Linux 5.14."""
        try:
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return 0

    def transact(self, requests: Sequence[bytes]) -> list[Refusal | None]:
        """Send requests that ask for acknowledgement, many at a time; None for each that was done."""
        answers: list[Refusal | None] = []
        for start in range(0, len(requests), BATCH):
            answers += [answer for answer, _ in self._exchange(requests[start : start + BATCH])]
        return answers

    def query(self, requests: Sequence[bytes]) -> list[bytes | Refusal]:
        """Send requests that are each answered by one message; its body, or why not."""
        found: list[bytes | Refusal] = []
        for start in range(0, len(requests), BATCH):
            for refusal, body in self._exchange(requests[start : start + BATCH]):
                found.append(refusal if refusal is not None else body)
        return found

    def _exchange(self, requests: Sequence[bytes]) -> list[tuple[Refusal | None, bytes]]:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(m.with_sequence(requests, first))
        answers: dict[int, tuple[Refusal | None, bytes]] = {}
        while len(answers) < len(requests):
            for kind, flags, sequence, body in self._receive():
                index = sequence - first
                if not 0 <= index < len(requests):
                    continue  # the rest of a dump that was given up
                if kind != m.NLMSG_ERROR:
                    answers[index] = (None, body)
                    continue
                code, words = m.parse_error(flags, body)
                answers[index] = (Refusal(code, words) if code else None, b"")
        return [answers[index] for index in range(len(requests))]

    def dump(self, kind: int, family: int = m.AF_UNSPEC, protocol: int = 0) -> list[bytes]:
        """The bodies of all messages of one kind; read again when the kernel's table changed under way."""
        for _ in range(10):
            found, consistent = self._dump_once(m.dump_request(kind, family, protocol))
            if consistent:
                break
        return found

    def _dump_once(self, request: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        mine = self._sequence
        self._socket.send(m.with_sequence([request], mine))
        found: list[bytes] = []
        consistent = True
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != mine:
                    continue
                if flags & m.DUMP_INTERRUPTED:
                    consistent = False
                if kind == m.NLMSG_DONE:
                    return found, consistent
                if kind == m.NLMSG_ERROR:
                    code, words = m.parse_error(flags, body)
                    raise HostError("the kernel refused a dump", detail=str(Refusal(code, words)), code=code)
                found.append(body)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        try:
            return list(m.split(self._socket.recv(_LARGEST)))
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise HostError(
                    "the kernel's answers overflowed the socket's buffer", detail=os.strerror(errno.ENOBUFS),
                    code=errno.ENOBUFS, hint="raise net.core.rmem_default",
                ) from None  # fmt: skip
            raise


@dataclass
class _Open:
    """A namespace that is held open: its socket, a descriptor of it, and what was read of it."""

    socket: Socket
    descriptor: int
    inode: int
    checked: bool = True
    read: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        self.socket.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Network:
    """The host's network namespaces. ``netns`` is a name in /run/netns, or None for the host's own."""

    def __init__(self) -> None:
        self._open: dict[str | None, _Open] = {}

    # -- namespaces -------------------------------------------------------------------------------

    def names(self) -> set[str]:
        """The named namespaces. A file in /run/netns that is none is left out."""
        return {name for name in namespaces.names() if self._valid(name) or namespaces.holds_namespace(name)}

    def exists(self, netns: str | None) -> bool:
        """Whether there is such a namespace. It is never made by asking."""
        return self._find(netns) is not None

    def open(self, netns: str | None) -> Socket:
        """The socket of a namespace. Raises HostError where it is missing."""
        return self._require(netns).socket

    def descriptor(self, netns: str | None) -> int:
        """An open descriptor of a namespace, for messages that name one. Stays the adapter's.

        It is closed once ``room`` others have been used since.
        """
        return self._require(netns).descriptor

    def identity(self, netns: str | None) -> int:
        """What tells this namespace from any other of the same name, before or after it."""
        held = self._require(netns)
        return held.socket.cookie or held.inode

    def run_in(self, netns: str | None, function: Callable[[], T]) -> T:
        """Call a function inside a namespace, on a thread of its own, and wait for its answer.

        Programs that it starts run in the namespace too. Raises HostError where the namespace is missing.
        """
        if netns is None:
            return function()
        descriptor = self._require(netns).descriptor

        def inside() -> T:
            namespaces.enter(descriptor)
            return function()

        return namespaces.in_thread(inside)

    def prepare(self, wanted: Iterable[str | None]) -> None:
        """Open the namespaces among these that exist and are not open yet, all in one go."""
        missing = [name for name in dict.fromkeys(wanted) if name is not None and self._valid(name) is None]
        if not missing:
            return
        missing = missing[: self._descriptors // 2]  # the rest is opened in its turn
        self._make_room(len(missing))

        def open_all() -> None:
            for name in missing:
                held = _open_namespace(name)
                if held is not None:
                    self._open[name] = held

        namespaces.in_thread(open_all)

    def owner(self, netns: str) -> str | None:
        """The pinned user namespace that a namespace belongs to, by name; None where that is the host's."""
        from provisioner.host.pinned import Pinned

        return Pinned().owner(namespaces.FOLDER / netns)

    def create_namespaces(
        self, wanted: Sequence[str], loopback: Sequence[bool], owners: Sequence[str | None]
    ) -> list[HostError | None]:
        """Make named namespaces, all on one thread, each with its loopback up or left down, and with the pinned
        user namespace that owns it, if any."""
        outcome: list[HostError | None] = [None] * len(wanted)

        def make_all() -> None:
            with namespaces.lock_folder():
                for index, name in enumerate(wanted):
                    self._make_room(1)
                    try:
                        namespaces.make(name, owners[index])
                        self._open[name] = held = _hold(name)
                    except OSError as error:
                        outcome[index] = HostError.from_os(f"cannot make the namespace {name}", error)
                        continue
                    if loopback[index]:
                        refusal = held.socket.transact([m.link_set(_LOOPBACK, up=True)])[0]
                        if refusal:
                            outcome[index] = HostError(
                                f"cannot bring up lo in {name}", detail=str(refusal), code=refusal.code
                            )

        for name in wanted:
            self._drop(name)
        try:
            namespaces.in_thread(make_all)
        except OSError as error:
            failure = HostError.from_os("cannot make network namespaces", error)
            return [
                failure if self._open.get(name) is None else found for name, found in zip(wanted, outcome, strict=True)
            ]
        return outcome

    def set_loopback(self, netns: str, up: bool) -> HostError | None:
        """Bring a namespace's own interface up or down."""
        try:
            refusal = self.request(netns, [m.link_set(_LOOPBACK, up=up)])[0]
        except HostError as error:
            return error
        words = f"cannot bring {'up' if up else 'down'} lo in {netns}"
        return HostError(words, detail=str(refusal), code=refusal.code) if refusal else None

    def delete_namespaces(self, wanted: Sequence[str]) -> list[HostError | None]:
        """Remove named namespaces.

        The kernel takes a namespace apart later and on its own time. Its veths have their other ends in
        sight of others, so they are removed first, at once.
        """
        outcome: list[HostError | None] = []
        self.prepare(wanted)
        for name in wanted:
            try:
                self._remove_veths(name)
                self._drop(name)
                namespaces.remove(name)
                outcome.append(None)
            except OSError as error:
                outcome.append(HostError.from_os(f"cannot remove the namespace {name}", error))
            except HostError as error:
                outcome.append(error)
        namespaces.tidy_folder()
        return outcome

    def _remove_veths(self, name: str) -> None:
        if not self.exists(name):
            return
        veths = [link for link in self.links(name).values() if link.kind == "veth" and link.link_nsid is not None]
        if veths:
            self.request(name, [m.link_delete(link.ifindex) for link in veths])

    # -- what is there ----------------------------------------------------------------------------

    def links(self, netns: str | None) -> dict[str, m.Link]:
        """The interfaces of a namespace by name. Read once until ``forget``."""
        read = self._require(netns).read
        if "links" not in read:
            found = [m.parse_link(body) for body in self.open(netns).dump(m.GETLINK)]
            read["links"] = {link.name: link for link in found}
        links: dict[str, m.Link] = read["links"]
        return links

    def link_names(self, netns: str | None) -> dict[int, str]:
        """The names of a namespace's interfaces by index."""
        read = self._require(netns).read
        if "names" not in read:
            read["names"] = {link.ifindex: name for name, link in self.links(netns).items()}
        names: dict[int, str] = read["names"]
        return names

    def addresses(self, netns: str | None, index: int, link_local: bool = True) -> list[m.AddressEntry]:
        """The addresses of an interface, in the kernel's order, with or without IPv6's link-local ones.

        All of a namespace are read once, and parsed when they are asked for.
        """
        read = self._require(netns).read
        if "addresses" not in read:
            by_index: dict[int, list[tuple[bool, bytes]]] = {}
            for body in self.open(netns).dump(m.GETADDR):
                owner, local = m.address_owner(body)
                by_index.setdefault(owner, []).append((local, body))
            read["addresses"] = by_index
        found: list[tuple[bool, bytes]] = read["addresses"].get(index, [])
        return [m.parse_address(body) for local, body in found if link_local or not local]

    def routes(self, netns: str | None, protocol: int = m.PROTO_STATIC) -> list[m.RouteEntry]:
        """The routes of all tables that one ``protocol`` made (0: any but the kernel itself). Read once."""
        read = self._require(netns).read
        key = f"routes {protocol}"
        if key not in read:
            read[key] = [
                m.parse_route(body)
                for body in self.open(netns).dump(m.GETROUTE, protocol=protocol)
                if body[0] in (m.AF_INET, m.AF_INET6) and body[5] > m.PROTO_KERNEL
            ]
        routes: list[m.RouteEntry] = read[key]
        return routes

    def wished_routes(self, netns: str | None, declared: Iterable[Identity]) -> dict[Identity, list[m.RouteEntry]]:
        """Static routes by what tells them apart; those made by hand too, where a declared one is else missing."""
        read = self._require(netns).read
        if "wished" not in read:
            read["wished"] = _by_identity(self.routes(netns))
        wished: dict[Identity, list[m.RouteEntry]] = read["wished"]
        if all(identity in wished for identity in declared):
            return wished
        if "wished or boot" not in read:
            read["wished or boot"] = _by_identity([*self.routes(netns), *self.routes(netns, m.PROTO_BOOT)])
        either: dict[Identity, list[m.RouteEntry]] = read["wished or boot"]
        return either

    def routes_through(self, netns: str | None) -> dict[int, list[m.RouteEntry]]:
        """Static routes by the interface that they lead through."""
        read = self._require(netns).read
        if "routes_through" not in read:
            by_index: dict[int, list[m.RouteEntry]] = {}
            for route in self.routes(netns):
                if route.ifindex is not None:
                    by_index.setdefault(route.ifindex, []).append(route)
            read["routes_through"] = by_index
        through: dict[int, list[m.RouteEntry]] = read["routes_through"]
        return through

    def rules(self, netns: str | None) -> list[m.RuleEntry]:
        """The policy routing rules of both families. Read once."""
        read = self._require(netns).read
        if "rules" not in read:
            bodies = self.open(netns).dump(m.GETRULE, m.AF_INET) + self.open(netns).dump(m.GETRULE, m.AF_INET6)
            read["rules"] = [m.parse_rule(body) for body in bodies]
        rules: list[m.RuleEntry] = read["rules"]
        return rules

    def nsids(self, netns: str | None, others: Iterable[str | None]) -> dict[str | None, int | None]:
        """By what numbers one namespace knows others; None where it does not know one. Read once."""
        known: dict[str | None, int | None] = self._require(netns).read.setdefault("nsids", {})
        asked = [other for other in dict.fromkeys(others) if other not in known and self._find(other) is not None]
        if asked:
            size = min(BATCH, self.room - 1)
            for start in range(0, len(asked), size):
                some = asked[start : start + size]
                answers = self.open(netns).query([m.nsid_request(self.descriptor(other)) for other in some])
                for other, answer in zip(some, answers, strict=True):
                    known[other] = m.parse_nsid(answer) if isinstance(answer, bytes) else None
        return known

    def interfaces(self, netns: str | None = None) -> dict[str, dict[str, Any]]:
        """The interfaces of a namespace as facts: index, MAC address, MTU, addresses and whether each is up."""
        return {
            name: {
                "index": link.ifindex,
                "kind": link.kind or ("loopback" if link.ifindex == _LOOPBACK else "physical"),
                "macaddress": link.mac or None,
                "mtu": link.mtu,
                "up": link.up,
                "addresses": [entry.cidr for entry in self.addresses(netns, link.ifindex)],
            }
            for name, link in self.links(netns).items()
        }

    # -- changes ----------------------------------------------------------------------------------

    def request(self, netns: str | None, requests: Sequence[bytes]) -> list[Refusal | None]:
        """Send changes to a namespace, in batches and in order. What was read of it is forgotten."""
        if not requests:
            return []
        held = self._require(netns)
        held.read.clear()
        return held.socket.transact(requests)

    def forget(self) -> None:
        """Drop what was read; each namespace is checked to be the same one when next used."""
        for held in self._open.values():
            held.read.clear()
            held.checked = False

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    # -- handles ----------------------------------------------------------------------------------

    def _require(self, netns: str | None) -> _Open:
        held = self._find(netns)
        if held is None:
            raise HostError(f"there is no namespace {netns}", detail=os.strerror(errno.ENOENT), code=errno.ENOENT)
        return held

    def _find(self, netns: str | None) -> _Open | None:
        if netns is None:
            held = self._open.get(None)
            if held is None:
                held = self._open[None] = _Open(Socket(), os.open("/proc/thread-self/ns/net", _READ), 0)
            return held
        held = self._valid(netns)
        if held is None:
            self.prepare([netns])
            held = self._open.get(netns)
        else:
            self._open[netns] = self._open.pop(netns)  # the latest that was used
        return held

    def _valid(self, netns: str) -> _Open | None:
        """What is held of a namespace, if its name still means the same one."""
        held = self._open.get(netns)
        if held is None or held.checked:
            return held
        try:
            held.checked = os.stat(namespaces.FOLDER / netns).st_ino == held.inode  # noqa: PTH116 - hot
        except OSError:
            held.checked = False
        if held.checked:
            return held
        self._drop(netns)
        return None

    def _drop(self, netns: str | None) -> None:
        held = self._open.pop(netns, None)
        if held is not None:
            held.close()

    def _make_room(self, more: int) -> None:
        """See to it that this many more namespaces can be held open, two descriptors each: those go that were
        not used for longest."""
        while len(self._open) > 1 and 2 * (len(self._open) + more) > self._descriptors:
            oldest = next(name for name in self._open if name is not None)
            self._drop(oldest)

    @cached_property
    def _descriptors(self) -> int:
        """How many files this process may have open for namespaces: its limit, raised as far as it goes, but for
        those that it needs otherwise."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        limit = 1 << 20 if hard == resource.RLIM_INFINITY else hard
        return max(limit - 256, limit // 2, 8)

    @property
    def room(self) -> int:
        """How many namespaces can be held open at once, beside the host's own."""
        return self._descriptors // 2 - 1


def _by_identity(routes: Iterable[m.RouteEntry]) -> dict[Identity, list[m.RouteEntry]]:
    found: dict[Identity, list[m.RouteEntry]] = {}
    for route in routes:
        found.setdefault(route.identity, []).append(route)
    return found


_READ = os.O_RDONLY | os.O_CLOEXEC


def _open_namespace(name: str) -> _Open | None:
    """Enter a named namespace and open a socket in it; None where there is none of that name."""
    try:
        descriptor = os.open(f"{namespaces.FOLDER}/{name}", _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError.from_os(f"cannot open the namespace {name}", error) from None
    try:
        if not namespaces.is_namespace(descriptor):
            os.close(descriptor)
            return None
        inode = os.fstat(descriptor).st_ino
        namespaces.enter(descriptor)
        return _Open(Socket(), descriptor, inode)
    except OSError as error:
        os.close(descriptor)
        raise HostError.from_os(f"cannot enter the namespace {name}", error) from None


def _hold(name: str) -> _Open:
    """Hold the named namespace that the calling thread is in already."""
    descriptor = os.open(f"{namespaces.FOLDER}/{name}", _READ)
    return _Open(Socket(), descriptor, os.fstat(descriptor).st_ino)
