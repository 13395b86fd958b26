"""What a task may say of a dummy link, and what is refused before any host is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Address, Declared, Desired, Effect
from provisioner.resources.dummy import Dummy


def dummy(name: str = "svc0", **fields: Any) -> Dummy:
    return Dummy(name=name, **fields)


def refused(**fields: Any) -> tuple[str, str]:
    """The message and the hint of the one thing that is wrong."""
    with pytest.raises(ValidationError) as caught:
        Dummy(**fields)
    (error,) = caught.value.errors()
    return error["msg"], error.get("ctx", {}).get("hint", "")


def test_every_spelling_of_an_address_is_one_value() -> None:
    long = dummy(macaddress="02-00-00-00-00-0A", mtu="9000", addresses=["10.0.0.1/32", "FD00:0::0001/128"])
    short = dummy(macaddress="02:00:00:00:00:0a", mtu=9000, addresses=["10.0.0.1/32", "fd00::1/128"])
    assert long == short


def test_a_dummy_in_a_namespace_lives_in_it_and_is_an_interface_to_others() -> None:
    one = dummy(netns="blue")
    assert str(one.address) == "dummy/blue:svc0"
    assert list(one.requires()) == list(one.lives_in()) == [Address("netns", "blue")]
    assert Address("interface", "svc0", "blue") in list(one.provides())
    assert list(dummy().requires()) == []


def test_it_claims_its_interface_and_its_addresses_in_both_families() -> None:
    made = {claim.key for claim in dummy(netns="blue", addresses=["10.0.0.1/32", "fd00::1/128"]).claims()}
    assert {("interface", "blue", "svc0"), ("address", "blue", "10.0.0.1"), ("address", "blue", "fd00::1")} <= made


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"name": "a-name-of-16-byt"}, "has 16 bytes; Linux takes at most 15", "shorten it"),
        ({"name": "lo"}, "has its interface 'lo' already", "another name"),
        ({"name": "svc0", "addresses": ["10.0.0.1"]}, "has no prefix length", "10.0.0.1/24"),
        ({"name": "svc0", "mtu": 20}, "MTU 20 is out of range", "from 68"),
        ({"name": "svc0", "mtu": 1000, "addresses": ["fd00::1/64"]}, "at least 1280", "raise 'mtu'"),
        ({"name": "svc0", "up": False, "routes": [{"to": "10.1.0.0/16"}]}, "is down has no routes", "leave 'up' out"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_with_what_to_write(
    fields: dict[str, Any], message: str, hint: str
) -> None:
    said, hinted = refused(**fields)
    assert message in said
    assert hint in hinted


def test_a_port_of_a_bridge_it_is_not() -> None:
    assert refused(name="svc0", master="br0")[0] == "Extra inputs are not permitted"


def test_a_gateway_that_none_of_its_addresses_reaches_is_found_among_the_others() -> None:
    one = dummy(addresses=["10.0.0.1/24"], routes=[{"to": "10.9.0.0/16", "via": "10.1.0.1"}])
    (issue,) = one.audit(Desired({one.address: Declared(one)}))
    assert (issue.field, "10.1.0.1" in issue.message) == ("routes.0.via", True)


def test_networks_that_overlap_those_of_another_interface_are_found() -> None:
    near = dummy(addresses=["10.0.0.1/24"])
    far = dummy("svc1", addresses=["10.0.0.129/25"])
    desired = Desired({one.address: Declared(one) for one in (near, far)})
    assert any("overlaps" in issue.message for one in (near, far) for issue in one.audit(desired))


FOUND = dummy(mtu=9000, macaddress="02:00:00:00:00:01", addresses=["10.0.0.1/32", "fd00::1/128"], routes=[])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", 1400),
        ("macaddress", "02:00:00:00:00:02"),
        ("addresses", ["10.0.0.1/32"]),
        ("routes", [{"to": "10.9.0.0/16"}]),
        ("up", False),
    ],
)
def test_every_field_changes_in_place(field: str, value: Any) -> None:
    (change,) = dummy(**{field: value}).changes_from(FOUND, None)
    assert (change.field, change.effect) == (field, Effect.LIVE)


def test_what_is_not_declared_is_not_managed() -> None:
    assert dummy().changes_from(FOUND, None) == []
    assert dummy(addresses=["fd00::1/128", "10.0.0.1/32"]).changes_from(FOUND, None) == []


def test_what_is_not_declared_any_more_goes_back_to_what_a_link_has_by_itself() -> None:
    changes = dummy().changes_from(FOUND, FOUND)
    assert {change.field: change.after for change in changes} == {"mtu": 1500, "addresses": []}


def test_its_checks_name_each_fact_and_are_python() -> None:
    one = dummy(netns="blue", mtu=9000, addresses=["10.0.0.1/32", "fd00::1/128"], routes=[{"to": "10.9.0.0/16"}])
    titles = [check.title for check in one.checks()]
    assert titles == [
        "dummy/blue:svc0 exists and is up",
        "dummy/blue:svc0 has the MTU 9000",
        "dummy/blue:svc0 has 10.0.0.1/32",
        "dummy/blue:svc0 has fd00::1/128",
        "dummy/blue:svc0 has the route 10.9.0.0/16",
    ]
    for check in one.checks():
        compile(check.code, check.title, "exec")
