"""A tenant is alone: in its namespace there is nothing but its own wires, and its firewall drops by default."""

from __future__ import annotations

import json


def test_a_tenant_sees_only_its_own_wires(host, declared):
    # By their hardware addresses: a host may have an eth0 of its own, as each tenant has.
    of_the_host = {one["address"] for one in json.loads(host.check_output("ip -j link")) if one["ifname"] != "lo"}
    for tenant in declared("netns"):
        links = json.loads(host.check_output(f"ip -n {tenant['name']} -j -d link"))
        wires = [one for one in links if one["ifname"] != "lo"]
        assert all(one.get("linkinfo", {}).get("info_kind") == "veth" for one in wires)
        assert not of_the_host & {one["address"] for one in wires}


def test_loopback_works_for_a_tenant(host, declared):
    for tenant in declared("netns"):
        assert host.run(f"ip netns exec {tenant['name']} ping -c 1 -W 2 127.0.0.1").rc == 0


def test_what_is_not_allowed_is_dropped(host, declared):
    for tenant in declared("netns"):
        table = host.check_output(f"ip netns exec {tenant['name']} nft list table inet filter")
        assert table.count("policy drop") == 2  # what comes in, and what would pass through


def test_a_tenant_has_a_budget(host, declared):
    for budget in declared("slice"):
        assert host.check_output(f"systemctl show --value -p MemoryMax {budget['name']}") != "infinity"
        assert host.check_output(f"systemctl show --value -p CPUQuotaPerSecUSec {budget['name']}") != "infinity"
