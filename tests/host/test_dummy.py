"""Dummy links on a real kernel. Not every kernel has them: where this one does not, see ``tests/vm``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.lab import INVENTORY, Lab, listing
from tests.host.listing import difference

BLUE = """
    - netns: {name: blue}
    - dummy:
        name: svc0
        netns: blue
        mtu: 1400
        macaddress: 02:00:00:00:00:01
        addresses: [10.50.0.1/24, "fd50::1/64"]
        routes: [{to: 10.51.0.0/16, via: 10.50.0.9}, {to: "fd51::/64", via: "fd50::9"}]
"""


@pytest.fixture(scope="module")
def has_dummies(box: Any) -> bool:
    """Whether the kernel makes them, asked where nobody sees it."""
    done = box.run("unshare -n ip link add d0 type dummy", check=False)
    return bool(done.returncode == 0)


@pytest.fixture
def dummies(has_dummies: bool, lab: Lab) -> Lab:
    if not has_dummies:
        pytest.skip("this kernel has no dummy links")
    return lab


def test_a_kernel_without_them_is_said_to_be_one_and_the_host_is_as_before(has_dummies: bool, lab: Lab) -> None:
    if has_dummies:
        pytest.skip("this kernel has dummy links")
    before = listing(lab.box)
    said = lab.fails(BLUE)
    assert "cannot make the dummy blue:svc0: Operation not supported" in said
    assert "the running kernel was built without it, or has no module of it" in said
    assert difference(before, listing(lab.box)) == []


def test_it_holds_addresses_and_routes_of_both_families_in_its_namespace(dummies: Lab) -> None:
    dummies.apply(BLUE)
    link = dummies.link("blue", "svc0")
    assert (link["linkinfo"]["info_kind"], link["mtu"], link["address"]) == ("dummy", 1400, "02:00:00:00:00:01")
    assert "UP" in link["flags"]
    assert dummies.addresses("blue", "svc0") == ["10.50.0.1/24", "fd50::1/64"]
    assert dummies.routes("blue") == [
        "10.51.0.0/16 via 10.50.0.9 dev svc0",
        "fd51::/64 via fd50::9 dev svc0 metric 1024",
    ]
    dummies.box.run("ip netns exec blue ping -c1 -W2 10.50.0.1 && ip netns exec blue ping -c1 -W2 fd50::1")
    dummies.verify()


def test_a_second_apply_changes_nothing(dummies: Lab) -> None:
    dummies.apply(BLUE)
    assert "no changes" in dummies.box.nsprov("apply", INVENTORY, "--yes").stdout


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("mtu: 1400", "mtu: 9000", "mtu"),
        ("02:00:00:00:00:01", "02:00:00:00:00:02", "macaddress"),
        ("[10.50.0.1/24, ", "[10.50.0.1/24, 10.50.0.2/24, ", "addresses"),
        (', "fd50::1/64"]', ', "fd50::1/64", "fd50::2/64"]', "addresses"),
        ("{to: 10.51.0.0/16, via: 10.50.0.9}, ", "", "routes"),
        ("via: 10.50.0.9", "via: 10.50.0.9, metric: 5", "routes"),
    ],
)
def test_each_field_changes_in_place_and_back(dummies: Lab, old: str, new: str, field: str) -> None:
    dummies.apply(BLUE)
    made = dummies.link("blue", "svc0")["ifindex"]
    for tasks in (BLUE.replace(old, new), BLUE):
        (step,) = dummies.steps(tasks).values()
        assert (step["action"], [change["field"] for change in step["changes"]]) == ("update", [field])
        dummies.apply(tasks)
        assert dummies.link("blue", "svc0")["ifindex"] == made
        dummies.verify()


def test_down_it_keeps_its_addresses_and_up_again_has_its_routes(dummies: Lab) -> None:
    dummies.apply(BLUE)
    addresses = dummies.addresses("blue", "svc0")
    dummies.apply(BLUE[: BLUE.index("        routes")] + "        up: false\n")
    assert "UP" not in dummies.link("blue", "svc0")["flags"]
    assert dummies.addresses("blue", "svc0") == addresses
    dummies.apply(BLUE)
    assert len(dummies.routes("blue")) == 2


def test_what_leaves_the_configuration_goes_back_to_what_a_link_has_by_itself(dummies: Lab) -> None:
    dummies.apply(BLUE)
    dummies.apply("- netns: {name: blue}\n- dummy: {name: svc0, netns: blue}\n")
    assert dummies.link("blue", "svc0")["mtu"] == 1500
    assert (dummies.addresses("blue", "svc0"), dummies.routes("blue")) == ([], [])


def test_one_on_the_host_and_one_in_a_namespace_come_and_go_and_leave_nothing(dummies: Lab) -> None:
    before = listing(dummies.box)
    dummies.apply(BLUE + "    - dummy: {name: svc0, addresses: [10.50.0.1/32]}\n")
    assert dummies.addresses(None, "svc0") == ["10.50.0.1/32"]
    dummies.box.nsprov("destroy", INVENTORY, "--yes")
    assert difference(before, listing(dummies.box)) == []


def test_removed_by_hand_it_is_made_again(dummies: Lab) -> None:
    dummies.apply(BLUE)
    dummies.box.run("ip -n blue link del svc0")
    assert dummies.steps(BLUE)["dummy/blue:svc0"]["action"] == "create"
    dummies.apply(BLUE)
    dummies.verify()


def test_one_that_was_there_before_is_left_alone_and_adopted_on_request(dummies: Lab) -> None:
    dummies.box.run("ip link add svc0 type dummy")
    tasks = "- dummy: {name: svc0, mtu: 1400}\n"
    assert "--adopt" in dummies.fails(tasks)
    assert dummies.link(None, "svc0")["mtu"] == 1500
    dummies.apply(tasks, "--adopt")
    assert dummies.link(None, "svc0")["mtu"] == 1400


def test_a_change_that_is_followed_by_a_refused_step_is_put_back(dummies: Lab) -> None:
    dummies.apply(BLUE)
    before = listing(dummies.box)
    changed = BLUE.replace("mtu: 1400", "mtu: 9000").replace("10.50.0.1/24", "10.50.0.2/24").replace("02:00", "02:07")
    dummies.fails(changed + "\n    - sysctl: {netns: blue, key: net.ipv4.conf.svc0.no_such_key, value: 1}\n")
    assert difference(before, listing(dummies.box)) == []


def test_a_deleted_one_is_put_back_when_a_later_step_is_refused(dummies: Lab) -> None:
    dummies.apply(BLUE)
    before = listing(dummies.box)
    dummies.fails("- netns: {name: blue}\n- sysctl: {netns: blue, key: net.ipv4.no_such_key, value: 1}\n")
    assert difference(before, listing(dummies.box)) == []
