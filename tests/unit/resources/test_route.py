"""The spec of ``route``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.engine.graph import levels
from provisioner.model import Declared, Desired, Effect, Resource
from provisioner.resources.netns import Netns
from provisioner.resources.route import Route
from provisioner.resources.veth import Veth


def route(**fields: Any) -> Route:
    return Route.model_validate(fields)


def issues(*resources: Resource) -> list[str]:
    desired = Desired({one.address: Declared(one) for one in resources})
    return [issue.message for one in resources if isinstance(one, Route) for issue in one.audit(desired)]


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"netns": "blue", "to": "10.1.0.0/16", "via": "10.0.0.1"}, "route/blue:10.1.0.0/16"),
        ({"to": "default", "via": "10.0.0.1"}, "route/default"),
        ({"to": "0.0.0.0/0", "via": "10.0.0.1"}, "route/default"),
        ({"to": "default", "via": "fd00::1"}, "route/::/0"),
        ({"to": "::/0", "dev": "eth0"}, "route/::/0"),
        ({"to": "10.1.2.3/32", "dev": "eth0", "table": "main"}, "route/10.1.2.3"),
        ({"to": "FD01:0::/64", "via": "fe80::1", "dev": "eth0"}, "route/fd01::/64"),
        ({"to": "10.1.0.0/16", "dev": "e", "table": 100, "metric": 5}, "route/10.1.0.0/16 table 100 metric 5"),
        ({"name": "to-lab", "to": "10.1.0.0/16", "dev": "e"}, "route/to-lab"),
    ],
)
def test_a_route_is_called_by_where_it_leads(fields: dict[str, Any], address: str) -> None:
    made = route(**fields)
    assert str(made.address) == address
    assert Route.model_validate(made.declared()) == made


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"to": "10.1.0.0/16"}, "leads nowhere"),
        ({"to": "10.1.0.0/16", "via": "10.0.0.1", "type": "blackhole"}, "has no 'via'"),
        ({"to": "default", "type": "blackhole"}, "whose default route"),
        ({"to": "10.1.0.1/16", "dev": "e"}, "did you mean 10.1.0.0/16"),
        ({"to": "nowhere", "dev": "e"}, "is not an IP address"),
        ({"to": "10.1.0.0/16", "via": "fd00::1"}, "is IPv6"),
        ({"to": "::/0", "via": "10.0.0.1"}, "is not of the family ipv6"),
        ({"to": "10.1.0.0/16", "dev": "a-name-of-20-bytes.."}, "has 20 bytes"),
        ({"to": "10.1.0.0/16", "dev": "e", "table": 0}, "out of range"),
        ({"to": "10.1.0.0/16", "dev": "e", "metric": -1}, "greater than or equal to 0"),
        ({"to": "10.1.0.0/16", "dev": "e", "type": "multicast"}, "Input should be"),
    ],
)
def test_what_is_no_route_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        route(**fields)
    text = str(caught.value) + str([error.get("ctx") for error in caught.value.errors()])
    assert words in text


def test_a_route_comes_after_the_interface_that_it_names_whatever_made_it() -> None:
    pair = Veth.model_validate({"name": "v", "peer": {"netns": "blue", "name": "eth0"}})
    named = route(netns="blue", to="10.1.0.0/16", dev="eth0")
    unnamed = route(netns="blue", to="10.2.0.0/16", via="10.0.0.1")
    dropped = route(netns="blue", to="10.3.0.0/16", type="blackhole")
    graph: dict[Any, Resource] = {one.address: one for one in (named, unnamed, dropped, pair, Netns(name="blue"))}
    level = levels(graph)
    assert level[pair.address] < min(level[named.address], level[unnamed.address])
    assert level[dropped.address] == 1


def test_in_a_declared_namespace_the_way_out_must_exist() -> None:
    space = Netns(name="blue")
    pair = Veth.model_validate({"name": "v", "peer": {"netns": "blue", "name": "eth0", "addresses": ["10.0.0.2/24"]}})
    assert issues(space, pair, route(netns="blue", to="10.1.0.0/16", via="10.0.0.1")) == []
    assert issues(space, pair, route(netns="blue", to="10.1.0.0/16", dev="eth1")) == ["blue has no interface 'eth1'"]
    assert issues(space, pair, route(netns="blue", to="10.1.0.0/16", via="10.9.0.1")) == [
        "no interface of blue has an address in the network of the gateway 10.9.0.1"
    ]
    first = route(netns="blue", to="10.9.0.0/24", dev="eth0")
    assert issues(space, pair, first, route(netns="blue", to="10.1.0.0/16", via="10.9.0.1")) == []
    assert issues(pair, route(netns="blue", to="10.1.0.0/16", via="10.9.0.1")) == []


def test_a_route_is_compared_whole_but_for_an_interface_that_the_kernel_chose() -> None:
    wanted = route(netns="blue", to="10.1.0.0/16", via="10.0.0.1")
    same = wanted.model_copy(update={"dev": "eth0"})
    assert wanted.changes_from(same, None) == []
    other = same.model_copy(update={"via": "10.0.0.9", "src": "10.0.0.2", "mtu": 1300})
    changes = {c.field: (c.before, c.after, c.effect) for c in wanted.changes_from(other, None)}
    assert changes == {
        "via": ("10.0.0.9", "10.0.0.1", Effect.LIVE),
        "src": ("10.0.0.2", None, Effect.LIVE),
        "mtu": (1300, None, Effect.LIVE),
    }


def test_a_route_that_keeps_its_name_and_leads_elsewhere_is_replaced() -> None:
    wanted = route(name="lab", to="10.1.0.0/16", dev="e")
    found = route(name="lab", to="10.2.0.0/16", dev="e")
    assert {c.field: c.effect for c in wanted.changes_from(found, None)} == {"to": Effect.REPLACE}


def test_two_routes_to_one_network_need_different_metrics_or_tables() -> None:
    def claims(**fields: Any) -> set[Any]:
        return set(route(to="10.1.0.0/16", dev="e", **fields).claims())

    assert claims() & claims(name="again")
    assert not claims() & claims(metric=5)
    assert not claims() & claims(table=100)
    assert not claims() & claims(netns="blue")


def test_a_plan_words_it_as_ip_route_does_and_its_fact_compiles() -> None:
    one = route(netns="blue", to="10.1.0.0/16", via="10.0.0.1", table=100, dev="eth0")
    assert one.summary() == [("route", "10.1.0.0/16 via 10.0.0.1 table 100 dev eth0")]
    assert route(to="10.1.0.0/16", type="blackhole").summary() == [("route", "blackhole 10.1.0.0/16")]
    [check] = one.checks()
    compile(check.code, check.title, "exec")
