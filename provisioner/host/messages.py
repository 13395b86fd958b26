"""Rtnetlink messages: packed by hand where they are many, and parsed no further than they are read.

Owns the numbers and the layouts of the kernel's ``rtnetlink.h``, and nothing else: no sockets, no names of
namespaces. Every packer returns a whole message without its sequence number, which the socket fills in.
Encoding the same with pyroute2's classes costs fifty times as much; the tests check this packing by them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = [
    "ACK",
    "AddressEntry",
    "Link",
    "RouteEntry",
    "RuleEntry",
    "address_change",
    "attribute",
    "attributes",
    "dump_request",
    "link_create",
    "link_delete",
    "link_set",
    "message",
    "nested",
    "nsid_request",
    "parse_address",
    "parse_link",
    "parse_nsid",
    "parse_route",
    "parse_rule",
    "route_change",
    "rule_change",
    "text_attribute",
    "veth_data",
]

AF_UNSPEC, AF_INET, AF_INET6 = 0, int(socket.AF_INET), int(socket.AF_INET6)

NLMSG_ERROR, NLMSG_DONE = 2, 3
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34
NEWNSID, GETNSID = 88, 90

REQUEST, MULTI, ACK_FLAG, DUMP_INTERRUPTED = 0x1, 0x2, 0x4, 0x10
DUMP, REPLACE, EXCL, CREATE = 0x300, 0x100, 0x200, 0x400
#: A request that is answered by an acknowledgement.
ACK: Final = REQUEST | ACK_FLAG

IFF_UP = 0x1
IFA_F_PERMANENT, IFA_F_NODAD = 0x80, 0x02
RTNH_F_ONLINK = 0x4
RT_SCOPE = {"global": 0, "link": 253, "host": 254}
RT_SCOPE_NOWHERE = 255
RT_TYPE = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}
#: Who made a route. What nsprov makes is static; what a person makes with ``ip route`` is boot.
PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC = 2, 3, 4
RULE_ACTION = {"lookup": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8}

_SCOPE_NAMES = {number: name for name, number in RT_SCOPE.items()}
_TYPE_NAMES = {number: name for name, number in RT_TYPE.items()}
_TABLE_NAMES: Mapping[int, int | str | None] = {254: None, 255: "local", 253: "default"}
_RULE_ACTION_NAMES = {number: name for name, number in RULE_ACTION.items()}

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_RULE = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF


# -- packing --------------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = len(value) + 4
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def text_attribute(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def number_attribute(kind: int, number: int) -> bytes:
    return _ATTRIBUTE.pack(8, kind) + _U32.pack(number)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A whole message; its sequence number is still zero."""
    return _HEADER.pack(16 + len(body), kind, flags, 0, 0) + body


def dump_request(kind: int, family: int = AF_UNSPEC, protocol: int = 0) -> bytes:
    """Asks for everything of one kind, as strict checking wants it: with that kind's whole header.

    Of routes, for those alone that were made by one ``protocol``, where one is given.
    """
    if kind == GETLINK:
        # Statistics are two thirds of a link's message, and nobody here reads them.
        body = _LINK.pack(family, 0, 0, 0, 0) + number_attribute(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    elif kind == GETADDR:
        body = _ADDRESS.pack(family, 0, 0, 0, 0)
    else:
        body = _ROUTE.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    return message(kind, REQUEST | DUMP, body)


IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 27, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 8


def _link_attributes(name: str | None, mtu: int | None, mac: str | None) -> bytes:
    parts = b"" if name is None else text_attribute(IFLA_IFNAME, name)
    if mtu is not None:
        parts += number_attribute(IFLA_MTU, mtu)
    if mac is not None:
        parts += attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return parts


def link_create(
    name: str,
    kind: str,
    data: bytes = b"",
    *,
    mtu: int | None = None,
    mac: str | None = None,
    master: int | None = None,
) -> bytes:
    """Makes an interface; fails when one of that name exists."""
    body = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + _link_attributes(name, mtu, mac)
    if master is not None:
        body += number_attribute(IFLA_MASTER, master)
    info = attribute(IFLA_INFO_KIND, kind.encode())
    if data:
        info += nested(IFLA_INFO_DATA, data)
    return message(NEWLINK, ACK | CREATE | EXCL, body + nested(IFLA_LINKINFO, info))


def veth_data(peer: str, peer_netns: int | None, *, mtu: int | None = None, mac: str | None = None) -> bytes:
    """The other end of a veth, made in its namespace (an open descriptor of it) from the start."""
    parts = _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + _link_attributes(peer, mtu, mac)
    if peer_netns is not None:
        parts += number_attribute(IFLA_NET_NS_FD, peer_netns)
    return nested(VETH_INFO_PEER, parts)


def link_set(
    index: int,
    *,
    up: bool | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    master: int | None = None,
    group: int | None = None,
    kind: str = "",
    data: bytes = b"",
) -> bytes:
    """Changes an interface; ``master`` 0 takes it out of its bridge. With ``data`` it changes its kind's options."""
    flags = 0 if up is None else IFF_UP * up
    body = _LINK.pack(AF_UNSPEC, 0, index, flags, 0 if up is None else IFF_UP) + _link_attributes(None, mtu, mac)
    if master is not None:
        body += number_attribute(IFLA_MASTER, master)
    if group is not None:
        body += number_attribute(IFLA_GROUP, group)
    if data:
        body += nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()), nested(IFLA_INFO_DATA, data))
        return message(NEWLINK, ACK, body)  # SETLINK would not hand the options to a bridge
    return message(SETLINK, ACK, body)


def link_delete(index: int = 0, *, group: int | None = None) -> bytes:
    """Removes an interface, or in one sweep all of a group."""
    body = _LINK.pack(AF_UNSPEC, 0, index, 0, 0)
    return message(DELLINK, ACK, body if group is None else body + number_attribute(IFLA_GROUP, group))


IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8


def address_change(index: int, cidr: str, *, add: bool) -> bytes:
    """Adds or removes an address, given as ``10.0.0.2/24``.

    An IPv6 address is added without duplicate detection: it is usable at once, as a static address in a
    namespace of its own can be, and a service may bind to it as soon as it starts.
    """
    text, _, length = cidr.partition("/")
    family = AF_INET6 if ":" in text else AF_INET
    packed = socket.inet_pton(family, text)
    flags = IFA_F_NODAD if add and family == AF_INET6 else 0
    body = _ADDRESS.pack(family, int(length), flags, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return message(NEWADDR, ACK | CREATE | EXCL, body) if add else message(DELADDR, ACK, body)


RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = (
    1, 4, 5, 6, 7, 8, 9, 15, 18,
)  # fmt: skip
RTAX_MTU = 2


def route_change(command: str, route: Any, index: int | None, kind: str = "unicast") -> bytes:
    """Adds, replaces or removes a route, given by its fields (``to``, ``via``, ``table`` and the like)."""
    family = AF_INET6 if route.family == "ipv6" else AF_INET
    to, length = b"", 0
    if route.to != "default":
        text, slash, prefix = route.to.partition("/")
        to = socket.inet_pton(family, text)
        length = int(prefix) if slash else len(to) * 8
    table = _table_number(route.table)
    if command == "delete":
        scope, protocol = RT_SCOPE_NOWHERE if family == AF_INET else 0, 0
    else:
        on_link = kind == "unicast" and route.via is None and family == AF_INET
        scope = RT_SCOPE[route.scope] if route.scope else RT_SCOPE["link"] if on_link else 0
        protocol = PROTO_STATIC
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = _ROUTE.pack(family, length, 0, 0, table if table < 256 else 0, protocol, scope, RT_TYPE[kind], flags)
    if to:
        body += attribute(RTA_DST, to)
    if route.via is not None:
        body += attribute(RTA_GATEWAY, socket.inet_pton(family, route.via))
    if index is not None:
        body += number_attribute(RTA_OIF, index)
    if route.metric is not None:
        body += number_attribute(RTA_PRIORITY, route.metric)
    if table >= 256:
        body += number_attribute(RTA_TABLE, table)
    if command == "delete":
        return message(DELROUTE, ACK, body)
    if route.src is not None:
        body += attribute(RTA_PREFSRC, socket.inet_pton(family, route.src))
    if route.mtu is not None:
        body += nested(RTA_METRICS, number_attribute(RTAX_MTU, route.mtu))
    return message(NEWROUTE, ACK | CREATE | (REPLACE if command == "replace" else EXCL), body)


def _table_number(table: int | str | None) -> int:
    if isinstance(table, int):
        return table
    return {None: 254, "local": 255, "default": 253}[table]


FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK = (
    1, 2, 3, 6, 10, 14, 15, 16,
)  # fmt: skip
FRA_OIFNAME, FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 17, 21, 22, 23, 24
FIB_RULE_INVERT = 0x2
_PORTS = struct.Struct("=HH")


class RuleEntry(NamedTuple):
    """One policy routing rule, in canonical forms; None matches anything."""

    family: str
    priority: int
    action: str
    table: int | str | None = None
    source: str | None = None
    destination: str | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: tuple[int, int] | None = None
    ipproto: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    suppress_prefixlength: int | None = None
    invert: bool = False


def rule_change(rule: RuleEntry, *, add: bool) -> bytes:
    """Adds or removes a rule. Rules cannot be changed; all fields together name the one to remove."""
    family = AF_INET6 if rule.family == "ipv6" else AF_INET
    body = number_attribute(FRA_PRIORITY, rule.priority)
    lengths = []
    for kind, text in ((FRA_DST, rule.destination), (FRA_SRC, rule.source)):
        packed, length = b"", 0
        if text is not None:
            address, slash, prefix = text.partition("/")
            packed = socket.inet_pton(family, address)
            length = int(prefix) if slash else len(packed) * 8
            body += attribute(kind, packed)
        lengths.append(length)
    for kind, name in ((FRA_IIFNAME, rule.iif), (FRA_OIFNAME, rule.oif)):
        if name is not None:
            body += text_attribute(kind, name)
    if rule.fwmark is not None:
        body += number_attribute(FRA_FWMARK, rule.fwmark[0]) + number_attribute(FRA_FWMASK, rule.fwmark[1])
    if rule.ipproto is not None:
        body += attribute(FRA_IP_PROTO, bytes([rule.ipproto]))
    for kind, ports in ((FRA_SPORT_RANGE, rule.sport), (FRA_DPORT_RANGE, rule.dport)):
        if ports is not None:
            body += attribute(kind, _PORTS.pack(*ports))
    if rule.suppress_prefixlength is not None:
        body += number_attribute(FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefixlength)
    table = _table_number(rule.table) if rule.action == "lookup" else 0
    if table:
        body += number_attribute(FRA_TABLE, table)
    if add:
        body += attribute(FRA_PROTOCOL, bytes([PROTO_STATIC]))
    flags = FIB_RULE_INVERT if rule.invert else 0
    head = _RULE.pack(
        family, lengths[0], lengths[1], 0, table if table < 256 else 0, 0, 0, RULE_ACTION[rule.action], flags
    )
    return message(NEWRULE, ACK | CREATE | EXCL, head + body) if add else message(DELRULE, ACK, head + body)


NETNSA_NSID, NETNSA_FD = 1, 3


def nsid_request(descriptor: int) -> bytes:
    """Asks by what number the asking namespace knows another one."""
    return message(GETNSID, REQUEST, b"\0\0\0\0" + number_attribute(NETNSA_FD, descriptor))


# -- parsing --------------------------------------------------------------------------------------


def attributes(data: bytes, start: int, wanted: frozenset[int] | None = None) -> dict[int, bytes]:
    """The attributes from ``start`` to the end, or those that are wanted of them."""
    found = {}
    end = len(data)
    unpack = _ATTRIBUTE.unpack_from
    while start + 4 <= end:
        size, kind = unpack(data, start)
        if size < 4:
            break
        kind &= _TYPE_MASK
        if wanted is None or kind in wanted:
            found[kind] = data[start + 4 : start + size]
        start += (size + 3) & ~3
    return found


class Link(NamedTuple):
    """An interface: what the kernel says of it. ``link`` is the other end's index for a veth."""

    ifindex: int
    name: str
    flags: int
    mtu: int
    mac: str
    master: int
    link: int
    link_nsid: int | None
    group: int
    kind: str
    data: bytes

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


_LINK_WANTED = frozenset(
    {IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_GROUP, IFLA_LINK_NETNSID}
)


#: How the attributes of every namespace's own interface begin: its name comes first.
_LOOPBACK_NAME = text_attribute(IFLA_IFNAME, "lo")


def parse_link(data: bytes) -> Link:
    """An interface from the body of its message."""
    _, _, index, flags, _ = _LINK.unpack_from(data)
    if data.startswith(_LOOPBACK_NAME, 16):  # there are as many as namespaces, and only their flags matter
        return Link(index, "lo", flags, 65536, "00:00:00:00:00:00", 0, 0, None, 0, "", b"")
    found = attributes(data, 16, _LINK_WANTED)
    kind, details = "", b""
    info = found.get(IFLA_LINKINFO)
    if info is not None:
        parts = attributes(info, 0)
        kind = parts.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
        details = parts.get(IFLA_INFO_DATA, b"")
    nsid = found.get(IFLA_LINK_NETNSID)
    return Link(
        index,
        found[IFLA_IFNAME][:-1].decode(errors="surrogateescape"),
        flags,
        _number(found, IFLA_MTU),
        found.get(IFLA_ADDRESS, b"").hex(":"),
        _number(found, IFLA_MASTER),
        _number(found, IFLA_LINK),
        None if nsid is None else _S32.unpack(nsid)[0],
        _number(found, IFLA_GROUP),
        kind,
        details,
    )


def _number(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return 0 if value is None else int(_U32.unpack_from(value)[0])


class AddressEntry(NamedTuple):
    """An address of an interface. ``permanent`` is false for those of DHCP and router advertisements."""

    ifindex: int
    cidr: str
    permanent: bool


_ADDRESS_WANTED = frozenset({IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS})


def address_owner(data: bytes) -> tuple[int, bool]:
    """The interface's index of an address, and whether it is link-local IPv6: enough to tell whether to parse it."""
    family, _, _, scope, index = _ADDRESS.unpack_from(data)
    return index, family == AF_INET6 and scope == RT_SCOPE["link"]


def parse_address(data: bytes) -> AddressEntry:
    family, length, flags, _, index = _ADDRESS.unpack_from(data)
    found = attributes(data, 8, _ADDRESS_WANTED)
    if IFA_FLAGS in found:
        flags = _U32.unpack(found[IFA_FLAGS])[0]
    packed = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
    return AddressEntry(index, f"{socket.inet_ntop(family, packed)}/{length}", bool(flags & IFA_F_PERMANENT))


class RouteEntry(NamedTuple):
    """A route of a table, in canonical forms: what the kernel fills in by itself is None.

    ``data`` is the body of its message, which the kernel takes back as it is.
    """

    family: str
    table: int | str | None
    to: str
    metric: int | None
    kind: str
    via: str | None
    ifindex: int | None
    scope: str | None
    src: str | None
    mtu: int | None
    onlink: bool
    protocol: int
    data: bytes

    @property
    def identity(self) -> tuple[int | str | None, str, str, int | None]:
        """What the kernel has only one of (but for IPv6's and appended equals)."""
        return self.table, self.family, self.to, self.metric

    def fields(self) -> dict[str, Any]:
        """What every declared route says (``RouteFields``), canonical by construction."""
        return {
            "to": self.to,
            "via": self.via,
            "metric": self.metric,
            "table": self.table,
            "src": self.src,
            "scope": self.scope,
            "onlink": self.onlink,
            "mtu": self.mtu,
            "family": self.family,
        }


_ROUTE_WANTED = frozenset(
    {RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE, RTA_VIA}
)


def parse_route(data: bytes) -> RouteEntry:
    family, length, _, _, table, protocol, scope, kind, flags = _ROUTE.unpack_from(data)
    found = attributes(data, 12, _ROUTE_WANTED)
    if RTA_TABLE in found:
        table = _U32.unpack(found[RTA_TABLE])[0]
    metric = _number(found, RTA_PRIORITY)
    via = found.get(RTA_GATEWAY)
    if via is None and RTA_MULTIPATH in found:
        via = _first_hop(found)
    gateway = socket.inet_ntop(family, via) if via else None
    type_name = _TYPE_NAMES.get(kind, str(kind))
    on_link = type_name == "unicast" and gateway is None
    usual_scope = 253 if on_link and family == AF_INET else 0
    unicast = type_name == "unicast"
    metrics = found.get(RTA_METRICS)
    mtu = _number(attributes(metrics, 0), RTAX_MTU) if metrics else 0
    return RouteEntry(
        "ipv6" if family == AF_INET6 else "ipv4",
        _TABLE_NAMES.get(table, table),
        _network(family, found.get(RTA_DST), length),
        None if metric in (0, 1024 if family == AF_INET6 else 0) else metric,
        type_name,
        gateway,
        _number(found, RTA_OIF) or None if unicast else None,
        None if scope == usual_scope else _SCOPE_NAMES.get(scope, str(scope)),
        socket.inet_ntop(family, found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
        mtu or None,
        bool(flags & RTNH_F_ONLINK),
        protocol,
        data,
    )


def _first_hop(found: dict[int, bytes]) -> bytes | None:
    """The gateway of a multipath route's first hop; its interface is put among the attributes."""
    hops = found[RTA_MULTIPATH]
    size, _, _, index = struct.unpack_from("=HBBi", hops)
    found[RTA_OIF] = _S32.pack(index)
    return attributes(hops[:size], 8).get(RTA_GATEWAY)


def _network(family: int, packed: bytes | None, length: int) -> str:
    if packed is None:
        return "default" if length == 0 else f"{'::' if family == AF_INET6 else '0.0.0.0'}/{length}"
    text = socket.inet_ntop(family, packed)
    return text if length == len(packed) * 8 else f"{text}/{length}"


def route_replay(data: bytes) -> bytes:
    """Adds a route again, from the body of the message that reported it."""
    head = list(_ROUTE.unpack_from(data))
    head[8] &= RTNH_F_ONLINK  # the rest of the flags is state, and no wish
    return message(NEWROUTE, ACK | CREATE | EXCL, _ROUTE.pack(*head) + data[12:])


def parse_rule(data: bytes) -> RuleEntry:
    family, to_length, from_length, _, table, _, _, action, flags = _RULE.unpack_from(data)
    found = attributes(data, 12)
    if FRA_TABLE in found:
        table = _U32.unpack(found[FRA_TABLE])[0]
    mark = None
    if FRA_FWMARK in found or FRA_FWMASK in found:
        mark = _number(found, FRA_FWMARK), _number(found, FRA_FWMASK) if FRA_FWMASK in found else 0xFFFFFFFF
    name = _RULE_ACTION_NAMES.get(action, str(action))
    suppress = found.get(FRA_SUPPRESS_PREFIXLEN)
    length = None if suppress is None else _S32.unpack(suppress)[0]
    return RuleEntry(
        "ipv6" if family == AF_INET6 else "ipv4",
        _number(found, FRA_PRIORITY),
        name,
        _TABLE_NAMES.get(table, table) if name == "lookup" else None,
        _network(family, found[FRA_SRC], from_length) if FRA_SRC in found else None,
        _network(family, found[FRA_DST], to_length) if FRA_DST in found else None,
        _text(found, FRA_IIFNAME),
        _text(found, FRA_OIFNAME),
        mark,
        found[FRA_IP_PROTO][0] if FRA_IP_PROTO in found else None,
        _ports(found, FRA_SPORT_RANGE),
        _ports(found, FRA_DPORT_RANGE),
        None if length is None or length < 0 else length,
        bool(flags & FIB_RULE_INVERT),
    )


def _text(found: Mapping[int, bytes], kind: int) -> str | None:
    return found[kind].rstrip(b"\0").decode() if kind in found else None


def _ports(found: Mapping[int, bytes], kind: int) -> tuple[int, int] | None:
    if kind not in found:
        return None
    first, last = _PORTS.unpack(found[kind])
    return first, last


def parse_nsid(data: bytes) -> int | None:
    """The number that a namespace is known by, or None where it has none."""
    value = attributes(data, 4).get(NETNSA_NSID)
    number = -1 if value is None else int(_S32.unpack(value)[0])
    return None if number < 0 else number


def split(buffer: bytes | bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: kind, flags, sequence number and body of each."""
    start, end = 0, len(buffer)
    while start + 16 <= end:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(buffer, start)
        if size < 16:
            break
        yield kind, flags, sequence, bytes(buffer[start + 16 : start + size])
        start += (size + 3) & ~3


NLMSGERR_ATTR_MSG = 1
_CAPPED = 0x100


def parse_error(flags: int, body: bytes) -> tuple[int, str]:
    """The errno of an acknowledgement (0: done) and the kernel's words for it, if it has any."""
    code = -_S32.unpack_from(body)[0]
    # The request's header is echoed, and the rest of it too unless that was capped.
    start = 20 if flags & _CAPPED or code == 0 else 4 + ((_U32.unpack_from(body, 4)[0] + 3) & ~3)
    words = attributes(body, start).get(NLMSGERR_ATTR_MSG, b"")
    return code, words.rstrip(b"\0").decode(errors="replace")


def with_sequence(messages: Iterable[bytes], first: int) -> bytearray:
    """Messages one after another in a datagram, numbered from ``first``."""
    datagram = bytearray()
    for number, one in enumerate(messages, first):
        start = len(datagram)
        datagram += one
        _U32.pack_into(datagram, start + 8, number)
        datagram += b"\0" * (-len(one) % 4)
    return datagram
