"""A router forwards, and only what is allowed."""

from __future__ import annotations


def test_it_forwards(host, declared):
    for router in declared("netns"):
        assert host.check_output(f"ip netns exec {router['name']} sysctl -n net.ipv4.ip_forward") == "1"


def test_what_is_not_allowed_is_dropped(host, declared):
    for table in declared("nftables"):
        listing = host.check_output(f"ip netns exec {table['netns']} nft list chain inet filter forward")
        assert "policy drop" in listing
