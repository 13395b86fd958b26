"""The spec of ``veth``: what it takes, refers to, claims, and how it differs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Address, Declared, Desired, Effect, Resource, Scope
from provisioner.network import InterfaceRoute
from provisioner.resources.bridge import Bridge
from provisioner.resources.netns import Netns
from provisioner.resources.veth import Peer, Veth


def veth(**fields: Any) -> Veth:
    base: dict[str, Any] = {"name": "v-blue", "peer": {"netns": "blue", "name": "eth0"}}
    return Veth.model_validate({**base, **fields})


def peer(**fields: Any) -> Veth:
    return veth(peer={"netns": "blue", "name": "eth0", **fields})


def refused(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        veth(**fields)
    return str(caught.value)


def graph(*resources: Resource) -> Desired:
    return Desired({one.address: Declared(one) for one in resources})


def issues(*resources: Resource) -> list[str]:
    desired = graph(*resources)
    return [issue.message for one in resources for issue in one.audit(desired)]


def observed(wanted: Veth, **fields: Any) -> Veth:
    """The host's, equal to the wanted one but for these fields."""
    known = {"mtu": 1500, "macaddress": "02:00:00:00:00:01", "addresses": (), "routes": (), "master": ""}
    ends = []
    for end in (wanted, wanted.peer):
        values = {name: getattr(end, name) for name in Peer.model_fields}
        ends.append({name: known.get(name) if value is None else value for name, value in values.items()})
    own, far = ends
    own["netns"], far["netns"] = wanted.netns, wanted.peer.netns
    for path, value in fields.items():
        (far if path.startswith("peer_") else own)[path.removeprefix("peer_")] = value
    return Veth.model_construct(**own, peer=Peer.model_construct(**far))


# -- values ---------------------------------------------------------------------------------------


def test_values_are_canonical_so_that_what_the_kernel_reports_compares_equal() -> None:
    end = peer(
        addresses=["FD00:0:0::2/64", "10.0.0.2/24"],
        macaddress="02-00-00-00-00-0A",
        routes=[
            {"to": "0.0.0.0/0", "via": "10.0.0.1", "table": "main", "metric": 0, "scope": "global"},
            {"to": "::/0", "via": "FD00::1", "metric": 1024},
            {"to": "10.9.0.1/32", "dev": "eth0", "table": 255, "scope": "link"},
        ],
    ).peer
    assert end.addresses == ("fd00::2/64", "10.0.0.2/24")
    assert end.macaddress == "02:00:00:00:00:0a"
    assert end.routes is not None
    assert [route.text() for route in end.routes] == [
        "default via 10.0.0.1",
        "default via fd00::1",
        "10.9.0.1 table local",
    ]
    assert [route.family for route in end.routes] == ["ipv4", "ipv6", "ipv4"]


def test_what_was_declared_is_the_same_after_a_journey_through_json() -> None:
    wanted = veth(
        master="br0",
        mtu=1400,
        peer={
            "netns": "blue",
            "name": "eth0",
            "addresses": ["10.0.0.2/24"],
            "routes": [{"to": "default", "via": "10.0.0.1"}, {"to": "default", "family": "ipv6"}],
        },
    )
    assert Veth.model_validate(wanted.declared()) == wanted


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a-name-of-twenty-byt"}, "has 20 bytes; Linux takes at most 15"),
        ({"name": "näme-of-15-char"}, "has 16 bytes"),
        ({"name": "a/b"}, "cannot name an interface"),
        ({"name": "v%d"}, "cannot name an interface"),
        ({"name": "lo"}, "every namespace has its interface 'lo' already"),
        ({"name": "all"}, "cannot be called 'all'"),
        ({"netns": "a b"}, "cannot name a namespace"),
        ({"netns": "host"}, "cannot be called 'host'"),
        ({"netns": ""}, "a namespace needs a name"),
        ({"addresses": ["10.0.0.2"]}, "has no prefix length"),
        ({"addresses": ["10.0.0.256/24"]}, "is not an IP address"),
        ({"addresses": ["10.0.0.2/33"]}, "is not a prefix length"),
        ({"addresses": ["10.0.0.0/24"]}, "the address of the network itself"),
        ({"addresses": ["10.0.0.255/24"]}, "broadcast address"),
        ({"addresses": ["224.0.0.1/24"]}, "multicast"),
        ({"addresses": ["10.0.0.2/24", "10.0.0.2/16"]}, "stands twice here"),
        ({"mtu": 60}, "out of range"),
        ({"mtu": 70000}, "out of range"),
        ({"mtu": 1000, "addresses": ["fd00::1/64"]}, "IPv6 needs an MTU of at least 1280"),
        ({"macaddress": "01:00:00:00:00:01"}, "multicast"),
        ({"macaddress": "02:00:00:00:01"}, "is not a MAC address"),
        ({"master": "v-blue"}, "cannot be a port of itself"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"routes": [{"to": "10.1.0.5/16", "via": "10.0.0.1"}]}, "has bits set beyond its prefix length"),
        ({"routes": [{"to": "10.1.0.0/16", "via": "fd00::1"}]}, "fd00::1 is IPv6, but 10.1.0.0/16 is IPv4"),
        ({"routes": [{"to": "default"}]}, "whose default route"),
        ({"routes": [{"to": "default", "via": "10.0.0.1", "table": "mian"}]}, "is not a routing table"),
        ({"routes": [{"to": "default", "via": "10.0.0.1", "dev": "eth9"}]}, "cannot lead through eth9"),
        ({"routes": [{"to": "10.1.0.0/16", "onlink": True}]}, "there is no 'via'"),
        ({"routes": [{"to": "fd01::/64", "scope": "link"}]}, "an IPv6 route has no scope"),
        ({"routes": [{"to": "default", "via": "10.0.0.1"}] * 2}, "have the same metric"),
        ({"up": False, "routes": [{"to": "10.1.0.0/16"}]}, "an interface that is down has no routes"),
        ({"mtu": 1400, "peer": {"name": "x", "mtu": 1500}}, "the ends have different MTUs"),
        ({"peer": {"name": "v-blue"}}, "both ends are called v-blue"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(fields: dict[str, Any], words: str) -> None:
    assert words in refused(**fields)


# -- relations ------------------------------------------------------------------------------------


def test_it_needs_both_namespaces_and_the_bridge_that_it_is_a_port_of() -> None:
    pair = veth(netns="red", master="br0", peer={"netns": "blue", "name": "eth0", "master": "br1"})
    assert set(pair.requires()) == {
        Address("netns", "red"),
        Address("netns", "blue"),
        Address("bridge", "br0", "red"),
        Address("bridge", "br1", "blue"),
    }
    assert list(pair.lives_in()) == [Address("netns", "red"), Address("netns", "blue")]


def test_both_of_its_interfaces_are_found_by_their_names() -> None:
    assert Address("interface", "eth0", "blue") in set(veth().provides())
    assert Address("interface", "v-blue") in set(veth().provides())


def overlap(one: Resource, other: Resource) -> list[str]:
    return sorted(claim.what for claim in set(one.claims()) & set(other.claims()))


def test_an_interface_an_address_and_a_route_have_one_owner() -> None:
    route = {"to": "default", "via": "10.0.0.1"}
    one = peer(addresses=["10.0.0.2/24"], routes=[route])
    two = veth(name="v-two", peer={"netns": "blue", "name": "eth0", "addresses": ["10.0.0.2/16"], "routes": [route]})
    assert overlap(one, two) == [
        "the address 10.0.0.2 of blue",
        "the interface blue:eth0",
        "the route to default of blue",
    ]


def test_one_address_stands_once_on_a_bridge_whatever_namespaces_its_ports_lead_to() -> None:
    bridge = Bridge(name="br0", addresses=("10.0.0.1/24",))
    one = veth(name="a", master="br0", peer={"netns": "one", "name": "eth0", "addresses": ["10.0.0.2/24"]})
    two = veth(name="b", master="br0", peer={"netns": "two", "name": "eth0", "addresses": ["10.0.0.2/24"]})
    gate = veth(name="c", master="br0", peer={"netns": "three", "name": "eth0", "addresses": ["10.0.0.1/24"]})
    apart = veth(name="d", master="br1", peer={"netns": "four", "name": "eth0", "addresses": ["10.0.0.2/24"]})
    assert overlap(one, two) == ["the address 10.0.0.2 on the bridge br0"]
    assert overlap(bridge, gate) == ["the address 10.0.0.1 on the bridge br0"]
    assert overlap(one, apart) == []


def test_both_ends_of_one_wire_cannot_have_the_same_address() -> None:
    pair = veth(addresses=["10.0.0.1/30"], peer={"netns": "blue", "name": "eth0", "addresses": ["10.0.0.1/30"]})
    claims = list(pair.claims())
    assert len(claims) == len(set(claims)) + 1


def test_a_gateway_that_no_address_reaches_is_found() -> None:
    def with_route(*addresses: str, **route: Any) -> list[str]:
        return issues(peer(addresses=addresses, routes=[{"to": "default", **route}]))

    assert with_route("10.0.0.2/24", via="10.0.0.1") == []
    assert with_route("10.0.0.2/24", via="10.9.0.1") == [
        "no address of blue:eth0 is in the network of the gateway 10.9.0.1"
    ]
    assert with_route("10.0.0.2/24", via="10.9.0.1", onlink=True) == []
    assert with_route("10.0.0.2/24", via="10.0.0.2") == ["the gateway 10.0.0.2 is blue:eth0's own address"]
    assert with_route("fd00::2/64", via="fe80::1") == []
    linked = [{"to": "10.9.0.1"}, {"to": "default", "via": "10.9.0.1"}]
    assert issues(peer(addresses=["10.0.0.2/32"], routes=linked)) == []


def test_networks_of_one_namespace_that_overlap_are_found() -> None:
    space = Netns(name="blue")
    one = peer(addresses=["10.0.0.2/24"])
    inside = veth(name="w", peer={"netns": "blue", "name": "eth1", "addresses": ["10.0.0.130/25"]})
    beside = veth(name="x", peer={"netns": "blue", "name": "eth2", "addresses": ["10.0.1.2/24"]})
    elsewhere = veth(name="y", peer={"netns": "green", "name": "eth0", "addresses": ["10.0.0.3/24"]})
    assert issues(space, one, beside, elsewhere) == []
    found = issues(space, one, inside, beside)
    assert found == ["the network of 10.0.0.130/25 overlaps that of 10.0.0.2/24 on blue:eth0 (veth/v-blue)"]


# -- differences ----------------------------------------------------------------------------------


def changes(wanted: Veth, found: Veth, last: Veth | None = None) -> list[tuple[str, Any, Any, Effect]]:
    return [(c.field, c.before, c.after, c.effect) for c in wanted.changes_from(found, last)]


def test_nothing_changes_where_the_host_has_what_is_declared_in_any_order() -> None:
    wanted = peer(addresses=["10.0.0.2/24", "10.0.0.3/24"])
    assert changes(wanted, observed(wanted, peer_addresses=("10.0.0.3/24", "10.0.0.2/24"))) == []
    assert changes(veth(), observed(veth(), peer_addresses=("10.0.0.3/24",), mtu=9000)) == []


def test_what_differs_is_named_by_end_and_changes_live() -> None:
    wanted = veth(
        master="br0",
        peer={
            "netns": "blue",
            "name": "eth0",
            "addresses": ["10.0.0.2/24"],
            "routes": [{"to": "default", "via": "10.0.0.1"}],
        },
    )
    found = observed(wanted, master="", peer_addresses=(), peer_up=False, peer_routes=())
    assert changes(wanted, found) == [
        ("master", None, "br0", Effect.LIVE),
        ("peer.addresses", [], ["10.0.0.2/24"], Effect.LIVE),
        ("peer.routes", [], ["default via 10.0.0.1"], Effect.LIVE),
        ("peer.up", False, True, Effect.LIVE),
    ]


def test_another_place_of_the_peer_replaces_the_pair() -> None:
    effects = {change[0]: change[3] for change in changes(veth(), observed(veth(), peer_name="net0", peer_netns="x"))}
    assert effects == {"peer.name": Effect.REPLACE, "peer.netns": Effect.REPLACE}


def test_fields_that_left_the_configuration_go_back_to_what_an_interface_has_by_itself() -> None:
    last = veth(master="br0", mtu=1400, peer={"netns": "blue", "name": "eth0", "addresses": ["10.0.0.2/24"]})
    found = observed(last)
    assert changes(veth(), found, last) == [
        ("mtu", 1400, 1500, Effect.LIVE),
        ("master", "br0", None, Effect.LIVE),
        ("peer.addresses", ["10.0.0.2/24"], [], Effect.LIVE),
    ]
    merged = veth().merged_over(found, veth().changes_from(found, last))
    assert isinstance(merged, Veth)
    assert (merged.mtu, merged.master, merged.peer.addresses) == (None, None, None)
    assert merged.peer.mtu == 1500


def test_a_snapshot_plans_its_way_back() -> None:
    """To roll back is to want what was observed: a master that was not there must go again."""
    before = observed(veth())
    now = observed(veth(), master="br0", peer_addresses=("10.0.0.2/24",))
    assert [change[0] for change in changes(before, now)] == ["master", "peer.addresses"]


def test_a_route_of_its_own_is_not_mistaken_for_a_route_through_the_veth() -> None:
    from provisioner.network import claimed_elsewhere
    from provisioner.resources.route import Route

    apart = Route.model_validate({"netns": "blue", "to": "10.9.0.0/16", "via": "10.0.0.1"})
    pair = peer(routes=[{"to": "10.8.0.0/16", "via": "10.0.0.1"}])
    scope = Scope({pair.address: (pair,), apart.address: (apart,)})
    elsewhere = claimed_elsewhere(scope, pair.address, "blue")
    assert elsewhere(InterfaceRoute(to="10.9.0.0/16", via="10.0.0.9"))
    assert not elsewhere(InterfaceRoute(to="10.8.0.0/16", via="10.0.0.1"))
    assert not elsewhere(InterfaceRoute(to="10.9.0.0/16", via="10.0.0.1", metric=5))


# -- to a person ----------------------------------------------------------------------------------


def test_a_plan_shows_the_peer_on_one_line() -> None:
    wanted = veth(
        master="br0",
        peer={
            "netns": "green",
            "name": "eth0",
            "addresses": ["10.20.0.12/24"],
            "routes": [{"to": "default", "via": "10.20.0.1"}],
        },
    )
    assert wanted.summary() == [
        ("master", "br0"),
        ("peer", "green:eth0  10.20.0.12/24, default via 10.20.0.1"),
    ]


def test_every_fact_is_checked_by_name_and_its_code_compiles() -> None:
    wanted = veth(
        master="br0",
        mtu=1400,
        peer={
            "netns": "blue",
            "name": "eth0",
            "addresses": ["10.0.0.2/24"],
            "routes": [{"to": "default", "via": "10.0.0.1"}],
        },
    )
    titles = [check.title for check in wanted.checks()]
    assert titles == [
        "veth/v-blue exists and is up",
        "veth/v-blue has the MTU 1400",
        "veth/v-blue is a port of br0",
        "veth/blue:eth0 exists and is up",
        "veth/blue:eth0 has 10.0.0.2/24",
        "veth/blue:eth0 has the route default via 10.0.0.1",
        "veth/v-blue leads to blue:eth0",
    ]
    for check in wanted.checks():
        compile(check.code, check.title, "exec")


def test_a_fact_of_an_interface_that_is_gone_fails_in_words() -> None:
    """`link` gives None for what is not there, and a fact that looks into None fails in Python's words."""
    made = [
        Netns.model_validate({"name": "blue"}),
        Bridge.model_validate({"name": "br0", "stp": True, "mtu": 1400}),
        Veth.model_validate({"name": "v0", "mtu": 1400, "peer": {"netns": "blue", "name": "eth0"}}),
    ]
    assert [check.title for one in made for check in one.checks() if "link(host" in check.code] == []
