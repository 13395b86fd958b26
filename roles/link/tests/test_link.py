"""A cable joins two namespaces directly: each end's other end is in the other namespace, and packets can pass."""

from __future__ import annotations

import json


def _link(host, end):
    (found,) = json.loads(host.check_output(f"ip -n {end['netns']} -j link show dev {end['name']}"))
    return found


def test_each_end_leads_to_the_other(host, declared):
    for cable in declared("veth"):
        one, other = _link(host, cable), _link(host, cable["peer"])
        assert (one["link_index"], other["link_index"]) == (other["ifindex"], one["ifindex"])


def test_both_ends_carry_packets(host, declared):
    for cable in declared("veth"):
        for end in (cable, cable["peer"]):
            assert _link(host, end)["operstate"] == "UP"
