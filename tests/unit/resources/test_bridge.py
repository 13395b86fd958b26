"""The spec of ``bridge``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Address, Declared, Desired, Effect, Resource
from provisioner.resources.bridge import Bridge
from provisioner.resources.netns import Netns
from provisioner.resources.veth import Veth

DEFAULTS: dict[str, Any] = {
    "stp": False,
    "priority": 32768,
    "forward_delay": 15,
    "hello_time": 2,
    "max_age": 20,
    "ageing_time": 300,
    "vlan_filtering": False,
    "group_fwd_mask": 0,
    "mcast_snooping": True,
    "mcast_querier": False,
}


def observed(**fields: Any) -> Bridge:
    base: dict[str, Any] = {
        "name": "br0",
        "netns": None,
        "mtu": None,
        "macaddress": None,
        "addresses": (),
        "routes": (),
        "up": True,
        **DEFAULTS,
    }
    return Bridge.model_construct(**{**base, **fields})


def graph(*resources: Resource) -> Desired:
    return Desired({one.address: Declared(one) for one in resources})


def test_a_bridge_that_declares_nothing_more_takes_the_host_as_it_is() -> None:
    assert Bridge(name="br0").changes_from(observed(stp=True, addresses=("10.0.0.1/24",)), None) == []


def test_each_setting_changes_live() -> None:
    wanted = Bridge(name="br0", stp=True, forward_delay=4, ageing_time=0.5, mcast_snooping=False)
    changes = {(c.field, c.before, c.after, c.effect) for c in wanted.changes_from(observed(), None)}
    assert changes == {
        ("stp", False, True, Effect.LIVE),
        ("forward_delay", 15, 4, Effect.LIVE),
        ("ageing_time", 300, 0.5, Effect.LIVE),
        ("mcast_snooping", True, False, Effect.LIVE),
    }


def test_a_setting_that_left_the_configuration_goes_back_to_the_kernels_default() -> None:
    last = Bridge(name="br0", stp=True, ageing_time=10, addresses=("10.0.0.1/24",))
    found = observed(stp=True, ageing_time=10, addresses=("10.0.0.1/24",))
    changes = Bridge(name="br0").changes_from(found, last)
    assert {c.field: c.after for c in changes} == {"addresses": [], "stp": False, "ageing_time": 300}
    merged = Bridge(name="br0").merged_over(found, changes)
    assert isinstance(merged, Bridge)
    assert (merged.stp, merged.ageing_time, merged.addresses) == (None, None, None)
    assert merged.priority == 32768


@pytest.mark.parametrize(("written", "canonical"), [("15", 15), ("2.50", 2.5), (15.0, 15), ("15s", 15), (0.333, 0.33)])
def test_times_are_seconds_in_hundredths(written: Any, canonical: float) -> None:
    assert Bridge(name="br0", ageing_time=written).ageing_time == canonical


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a-bridge-of-18-byt"}, "has 18 bytes"),
        ({"forward_delay": 1, "stp": True}, "the kernel takes 2 to 30"),
        ({"hello_time": 0}, "the kernel takes 1 to 10"),
        ({"priority": 70000}, "less than or equal to 65535"),
        ({"group_fwd_mask": 1}, "which the kernel never does"),
        ({"ageing_time": "long"}, "is no time in seconds"),
        ({"master": "br1"}, "Extra inputs are not permitted"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_before(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Bridge.model_validate({"name": "br0", **fields})


def test_without_the_protocol_no_delay_is_too_short() -> None:
    assert Bridge(name="br0", forward_delay=0).forward_delay == 0


def test_the_1025th_port_is_one_too_many() -> None:
    bridge = Bridge(name="br0")
    ports = [Veth.model_validate({"name": f"v{n}", "master": "br0", "peer": {"name": f"p{n}"}}) for n in range(1025)]
    assert list(bridge.audit(graph(bridge, *ports[:1024]))) == []
    [issue] = bridge.audit(graph(bridge, *ports))
    assert "at most 1024 ports, and br0 would have 1025" in issue.message
    assert issue.hint == "use a second bridge"


def test_peers_that_are_ports_count_where_their_namespace_is() -> None:
    bridge = Bridge(name="br0", netns="blue")
    ports = [
        Veth.model_validate({"name": f"v{n}", "peer": {"name": f"p{n}", "netns": "blue", "master": "br0"}})
        for n in range(1025)
    ]
    assert len(list(bridge.audit(graph(Netns(name="blue"), bridge, *ports)))) == 1


def test_a_bridge_in_a_namespace_needs_it_and_lives_in_it() -> None:
    bridge = Bridge(name="br0", netns="blue")
    assert bridge.address == Address("bridge", "br0", "blue")
    assert list(bridge.requires()) == list(bridge.lives_in()) == [Address("netns", "blue")]


def test_a_plan_shows_what_was_declared_and_facts_compile() -> None:
    bridge = Bridge(name="br0", addresses=("10.0.0.1/24",), stp=False, ageing_time=10)
    assert bridge.summary() == [("addresses", "10.0.0.1/24"), ("ageing_time", "10"), ("stp", "no")]
    for check in bridge.checks():
        compile(check.code, check.title, "exec")
    code = next(check.code for check in bridge.checks() if "ageing_time" in check.title)
    assert code.endswith("== 1000")
