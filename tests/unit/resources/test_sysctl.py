"""The spec of ``sysctl``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.engine.graph import levels
from provisioner.model import Declared, Desired, Resource
from provisioner.resources.netns import Netns
from provisioner.resources.sysctl import Sysctl
from provisioner.resources.veth import Veth


def sysctl(**fields: Any) -> Sysctl:
    return Sysctl.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        ({"key": "net.ipv4.ip_forward", "value": 1}, "net.ipv4.ip_forward", "1"),
        ({"name": "net.ipv4.ip_forward", "value": True}, "net.ipv4.ip_forward", "1"),
        ({"key": "net/ipv4/ip_forward", "value": False}, "net.ipv4.ip_forward", "0"),
        ({"key": "net/ipv4/conf/eth0.100/rp_filter", "value": 2}, "net.ipv4.conf.eth0/100.rp_filter", "2"),
        ({"key": "/proc/sys/kernel/panic", "value": " 10\n"}, "kernel.panic", "10"),
        ({"key": "net.ipv4.ip_local_port_range", "value": "1000\t 2000"}, "net.ipv4.ip_local_port_range", "1000 2000"),
        ({"key": "net.ipv4.tcp_rmem", "value": [4096, 5000, 6000]}, "net.ipv4.tcp_rmem", "4096 5000 6000"),
    ],
)
def test_keys_and_values_are_canonical(fields: dict[str, Any], key: str, value: str) -> None:
    one = sysctl(**fields)
    assert (one.name, one.key, one.value) == (key, key, value)
    assert Sysctl.model_validate(one.declared()) == one


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key": "ip_forward", "value": 1}, "is not a kernel setting"),
        ({"key": "net..ipv4", "value": 1}, "is not a kernel setting"),
        ({"key": "net/../../etc/passwd", "value": 1}, "is not a kernel setting"),
        ({"key": "kernel.panic", "value": 1, "netns": "blue"}, "one for the whole machine"),
        ({"key": "net.ipv4.ip_forward"}, "Field required"),
        ({"key": "net.ipv4.ip_forward", "value": {"a": 1}}, "valid string"),
    ],
)
def test_what_is_no_setting_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        sysctl(**fields)


def test_a_setting_of_an_interface_comes_after_it_and_goes_with_it() -> None:
    pair = Veth.model_validate({"name": "v", "peer": {"netns": "blue", "name": "eth0.5"}})
    one = sysctl(key="net/ipv4/conf/eth0.5/rp_filter", netns="blue", value=1)
    everybody = sysctl(key="net.ipv4.conf.all.rp_filter", netns="blue", value=1)
    graph: dict[Any, Resource] = {r.address: r for r in (one, everybody, pair, Netns(name="blue"))}
    level = levels(graph)
    assert level[one.address] > level[pair.address]
    assert level[everybody.address] == 1


def test_a_setting_of_an_interface_that_a_declared_namespace_lacks_is_found() -> None:
    pair = Veth.model_validate({"name": "v", "peer": {"netns": "blue", "name": "eth0"}})
    one = sysctl(key="net.ipv4.conf.eth1.rp_filter", netns="blue", value=1)
    desired = Desired({r.address: Declared(r) for r in (one, pair, Netns(name="blue"))})
    [issue] = one.audit(desired)
    assert issue.message == "blue has no interface 'eth1'"
    assert issue.hint == "did you mean 'eth0'?"


def test_a_plan_shows_its_value_and_its_fact_compiles() -> None:
    one = sysctl(key="net.ipv4.ip_forward", value=1)
    assert one.summary() == [("value", "1")]
    [check] = one.checks()
    assert check.title == "sysctl/net.ipv4.ip_forward is 1"
    compile(check.code, check.title, "exec")
