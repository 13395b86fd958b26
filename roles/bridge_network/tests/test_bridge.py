"""The host carries tenants' packets: the bridge is there, has the gateway's address, and the host forwards."""

from __future__ import annotations

import json


def test_the_bridge_has_the_gateway_address(host, declared):
    for bridge in declared("bridge"):
        (found,) = json.loads(host.check_output(f"ip -j -d address show dev {bridge['name']}"))
        assert found["linkinfo"]["info_kind"] == "bridge"
        has = {f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"]}
        assert set(bridge["addresses"]) <= has


def test_the_host_forwards(host, declared):
    for one in declared("sysctl"):
        assert host.sysctl(one["name"]) == int(one["value"])
