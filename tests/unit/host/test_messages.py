"""What is packed by hand is what pyroute2's own classes read, and what they write is read back."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from provisioner.host import messages as m
from provisioner.network import InterfaceRoute


def decoded(cls: Any, packed: bytes) -> Any:
    message = cls(packed)
    message.decode()
    assert message["header"]["length"] == len(packed)
    return message


def encoded(message: Any) -> bytes:
    """The body of a message of pyroute2's, without its header."""
    message.encode()
    return bytes(message.data[16:])


def route(**fields: Any) -> InterfaceRoute:
    return InterfaceRoute.model_validate(fields)


def test_a_veth_is_made_with_its_peer_in_the_peers_namespace_and_its_master() -> None:
    data = m.veth_data("eth0", 17, mtu=1400, mac="02:00:00:00:00:02")
    read = decoded(ifinfmsg, m.link_create("v-blue", "veth", data, mtu=1400, mac="02:00:00:00:00:01", master=5))
    assert read["header"]["type"] == 16
    assert read["header"]["flags"] == 0x1 | 0x4 | 0x400 | 0x200
    assert read.get_attr("IFLA_IFNAME") == "v-blue"
    assert read.get_attr("IFLA_MTU") == 1400
    assert read.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:01"
    assert read.get_attr("IFLA_MASTER") == 5
    info = read.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_NET_NS_FD") == 17
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:02"


def test_a_link_goes_up_and_leaves_its_master() -> None:
    read = decoded(ifinfmsg, m.link_set(7, up=True, mtu=9000, master=0))
    assert (read["index"], read["flags"], read["change"]) == (7, 1, 1)
    assert read.get_attr("IFLA_MASTER") == 0
    down = decoded(ifinfmsg, m.link_set(7, up=False))
    assert (down["flags"], down["change"]) == (0, 1)
    untouched = decoded(ifinfmsg, m.link_set(7, mtu=1500))
    assert (untouched["flags"], untouched["change"]) == (0, 0)


def test_links_are_removed_one_by_one_or_as_a_group() -> None:
    assert decoded(ifinfmsg, m.link_delete(9))["index"] == 9
    assert decoded(ifinfmsg, m.link_delete(group=77)).get_attr("IFLA_GROUP") == 77


@pytest.mark.parametrize(("cidr", "family", "flags"), [("10.0.0.2/24", 2, 0), ("fd00::2/64", 10, 2)])
def test_an_address_is_added_ipv6_without_duplicate_detection(cidr: str, family: int, flags: int) -> None:
    read = decoded(ifaddrmsg, m.address_change(3, cidr, add=True))
    assert (read["family"], read["index"], read["flags"]) == (family, 3, flags)
    assert f"{read.get_attr('IFA_LOCAL')}/{read['prefixlen']}" == cidr
    assert read.get_attr("IFA_ADDRESS") == read.get_attr("IFA_LOCAL")
    assert read["header"]["type"] == 20
    assert decoded(ifaddrmsg, m.address_change(3, cidr, add=False))["header"]["type"] == 21


ROUTES = [
    {"to": "default", "via": "10.0.0.1"},
    {"to": "default", "via": "fd00::1", "metric": 7},
    {"to": "10.1.0.0/16", "via": "10.0.0.1", "table": 100, "metric": 5, "src": "10.0.0.2"},
    {"to": "10.1.2.3", "via": "10.0.0.1", "table": 1000, "mtu": 1400},
    {"to": "10.2.0.0/16"},
    {"to": "10.2.0.0/16", "scope": "global"},
    {"to": "fd01::/64", "via": "fe80::1", "table": "local"},
    {"to": "10.3.0.0/16", "via": "192.0.2.1", "onlink": True},
]


@pytest.mark.parametrize("fields", ROUTES, ids=[str(one) for one in ROUTES])
def test_a_route_that_is_added_is_read_back_as_it_was_declared(fields: dict[str, Any]) -> None:
    wanted = route(**fields)
    packed = m.route_change("add", wanted, 4)
    read = decoded(rtmsg, packed)
    assert read["proto"] == 4
    assert read.get_attr("RTA_OIF") == 4
    entry = m.parse_route(packed[16:])
    assert entry.ifindex == 4
    assert entry.kind == "unicast"
    for name in InterfaceRoute.model_fields:
        assert getattr(entry, name) == getattr(wanted, name), name


def test_a_route_in_a_great_table_carries_it_as_an_attribute() -> None:
    read = decoded(rtmsg, m.route_change("add", route(to="10.0.0.0/8", via="10.0.0.1", table=1000), 1))
    assert (read["table"], read.get_attr("RTA_TABLE")) == (0, 1000)


def test_a_route_is_removed_whatever_its_scope_and_its_maker() -> None:
    read = decoded(rtmsg, m.route_change("delete", route(to="10.2.0.0/16"), 4))
    assert (read["header"]["type"], read["scope"], read["proto"]) == (25, 255, 0)


def test_what_pyroute2_writes_of_a_route_is_read() -> None:
    message = rtmsg()
    message["family"], message["dst_len"], message["table"], message["type"], message["proto"] = 10, 64, 254, 1, 4
    message["attrs"] = [("RTA_DST", "fd01::"), ("RTA_GATEWAY", "fe80::1"), ("RTA_OIF", 3), ("RTA_PRIORITY", 1024)]
    entry = m.parse_route(encoded(message))
    assert entry.identity == (None, "ipv6", "fd01::/64", None)
    assert (entry.via, entry.ifindex, entry.scope) == ("fe80::1", 3, None)


def test_a_route_is_given_back_without_the_state_that_it_was_reported_with() -> None:
    message = rtmsg()
    message["family"], message["type"], message["scope"], message["proto"], message["table"] = 2, 1, 0, 4, 254
    message["flags"] = 0x10 | 0x4  # linkdown, onlink
    message["attrs"] = [("RTA_GATEWAY", "10.0.0.1"), ("RTA_OIF", 3)]
    read = decoded(rtmsg, m.route_replay(encoded(message)))
    assert read["flags"] == 0x4
    assert read.get_attr("RTA_GATEWAY") == "10.0.0.1"


def test_a_link_of_pyroute2s_is_read() -> None:
    message = ifinfmsg()
    message["index"], message["flags"] = 12, 0x1043
    message["attrs"] = [
        ("IFLA_IFNAME", "v-blue"),
        ("IFLA_MTU", 1400),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"),
        ("IFLA_LINK", 2),
        ("IFLA_MASTER", 5),
        ("IFLA_GROUP", 0),
        ("IFLA_LINK_NETNSID", 3),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
    ]
    link = m.parse_link(encoded(message))
    assert link[:9] == (12, "v-blue", 0x1043, 1400, "02:00:00:00:00:01", 5, 2, 3, 0)
    assert (link.kind, link.up) == ("veth", True)


def test_addresses_that_come_from_dhcp_are_told_from_static_ones() -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"], message["flags"] = 2, 24, 3, 0x80
    message["attrs"] = [("IFA_ADDRESS", "10.0.0.2"), ("IFA_LOCAL", "10.0.0.2"), ("IFA_FLAGS", 0x80)]
    assert m.parse_address(encoded(message))[:3] == (3, "10.0.0.2/24", True)
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = 10, 64, 3
    message["attrs"] = [("IFA_ADDRESS", "fd00::9"), ("IFA_FLAGS", 0)]
    assert m.parse_address(encoded(message))[:3] == (3, "fd00::9/64", False)


RULES = [
    m.RuleEntry("ipv4", 100, "lookup", 100, source="10.0.0.0/24"),
    m.RuleEntry("ipv6", 100, "lookup", 1000, source="fd00::/64", destination="fd01::1"),
    m.RuleEntry("ipv4", 200, "blackhole", fwmark=(1, 0xFF), iif="eth0", oif="eth1"),
    m.RuleEntry("ipv4", 300, "lookup", None, ipproto=6, sport=(1, 2), dport=(80, 80), invert=True),
    m.RuleEntry("ipv4", 400, "lookup", None, suppress_prefixlength=0),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_that_is_added_is_read_back(rule: m.RuleEntry) -> None:
    packed = m.rule_change(rule, add=True)
    read = decoded(fibmsg, packed)
    assert read.get_attr("FRA_PRIORITY") == rule.priority
    assert read.get_attr("FRA_PROTOCOL") == 4
    assert m.parse_rule(packed[16:]) == rule


def test_the_number_of_a_namespace_is_asked_for_and_read() -> None:
    read = decoded(nsidmsg, m.nsid_request(9))
    assert read.get_attr("NETNSA_FD") == 9
    body = b"\0\0\0\0" + struct.pack("=HHi", 8, 1, 7)
    assert m.parse_nsid(body) == 7
    assert m.parse_nsid(b"\0\0\0\0" + struct.pack("=HHi", 8, 1, -1)) is None


def test_a_refusal_carries_the_kernels_own_words() -> None:
    words = b"Nexthop has invalid gateway\0"
    header = struct.pack("=IHHII", 60, 24, 5, 1, 0)
    body = struct.pack("=i", -101) + header + m.attribute(1, words)
    assert m.parse_error(0x100 | 0x200, body) == (101, "Nexthop has invalid gateway")
    # Without the cap the whole request is echoed before the words.
    echoed = struct.pack("=i", -101) + header + b"\0" * 44 + m.attribute(1, words)
    assert m.parse_error(0x200, echoed) == (101, "Nexthop has invalid gateway")
    assert m.parse_error(0x100, struct.pack("=i", 0) + header) == (0, "")


def test_messages_are_numbered_and_aligned_in_a_datagram_and_split_again() -> None:
    datagram = m.with_sequence([m.link_delete(1), m.message(20, 5, b"abc"), m.link_delete(2)], 40)
    assert len(datagram) % 4 == 0
    assert [(kind, sequence, body) for kind, _, sequence, body in m.split(datagram)] == [
        (17, 40, m.link_delete(1)[16:]),
        (20, 41, b"abc"),
        (17, 42, m.link_delete(2)[16:]),
    ]


def test_dumps_are_asked_for_with_the_whole_header_that_strict_checking_wants() -> None:
    assert decoded(ifinfmsg, m.dump_request(m.GETLINK)).get_attr("IFLA_EXT_MASK") == 8
    assert len(m.dump_request(m.GETADDR)) == 16 + 8
    assert len(m.dump_request(m.GETROUTE)) == 16 + 12
