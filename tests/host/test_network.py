"""Namespaces, bridges, veths, routes, rules and kernel settings on a real kernel, seen through ``ip``."""

from __future__ import annotations

from tests.host.lab import INVENTORY, Lab, listing
from tests.host.listing import difference

TENANT = """
    - netns: {name: blue}
    - bridge: {name: br0, addresses: [10.20.0.1/24, "fd20::1/64"]}
    - veth:
        name: v-blue
        master: br0
        peer:
          netns: blue
          name: eth0
          addresses: [10.20.0.2/24, "fd20::2/64"]
          routes: [{to: default, via: 10.20.0.1}, {to: default, via: "fd20::1"}]
"""


def test_a_tenant_is_wired_to_a_bridge_and_reaches_it_by_both_families(lab: Lab) -> None:
    lab.apply(TENANT)
    assert lab.addresses("blue", "eth0") == ["10.20.0.2/24", "fd20::2/64"]
    assert lab.routes("blue") == ["default via 10.20.0.1 dev eth0", "default via fd20::1 dev eth0 metric 1024"]
    assert lab.link(None, "v-blue")["master"] == "br0"
    assert "UP" in lab.link("blue", "lo")["flags"]
    lab.box.run("ip netns exec blue ping -c1 -W2 10.20.0.1 && ip netns exec blue ping -c1 -W2 fd20::1")
    lab.verify()


def test_destroy_leaves_the_host_as_it_was_and_no_folder_behind(lab: Lab) -> None:
    before = listing(lab.box)
    lab.apply(TENANT)
    lab.box.nsprov("destroy", INVENTORY, "--yes")
    assert difference(before, listing(lab.box)) == []
    assert lab.box.run("ls -d /run/netns /run/nsprov 2>/dev/null || true").stdout == ""
    assert "netns" not in lab.box.run(["cat", "/proc/self/mountinfo"]).stdout


def test_a_namespace_works_with_ip_netns_and_is_seen_from_other_mount_namespaces(lab: Lab) -> None:
    lab.box.run("systemd-run -q --unit=other unshare -m --propagation slave sleep 300; sleep 0.3")
    lab.apply("- netns: {name: blue}")
    assert lab.box.run("ip netns list").stdout.split()[0] == "blue"
    other = lab.box.run("systemctl show -P MainPID other").stdout.strip()
    assert "/netns/blue" in lab.box.run(["cat", f"/proc/{other}/mountinfo"]).stdout
    # The other mount namespace does not keep it from going.
    lab.apply("[]")
    assert lab.box.run("ip netns list").stdout == ""
    lab.box.run("systemctl stop other")


def test_an_empty_file_that_a_crash_left_in_run_netns_is_no_namespace(lab: Lab) -> None:
    lab.box.run("mkdir -p /run/netns && touch /run/netns/blue")
    lab.apply("- netns: {name: blue, loopback: false}")
    assert "UP" not in lab.link("blue", "lo")["flags"]
    lab.apply("- netns: {name: blue}")
    assert "UP" in lab.link("blue", "lo")["flags"]
    lab.verify()


def test_the_peer_is_made_in_its_namespace_and_never_in_the_hosts(lab: Lab) -> None:
    lab.box.run("systemd-run -q --unit=links -p StandardOutput=file:/tmp/links.log ip monitor link; sleep 0.3")
    lab.apply(TENANT)
    lab.box.run("sleep 0.2; systemctl stop links")
    seen = lab.box.run(["cat", "/tmp/links.log"]).stdout
    assert "v-blue" in seen
    assert "eth0" not in seen


def test_two_namespaces_are_wired_to_each_other(lab: Lab) -> None:
    lab.apply(
        """
        - netns: {name: left}
        - netns: {name: right}
        - veth:
            name: a
            netns: left
            addresses: [10.1.0.1/30]
            peer: {netns: right, name: b, addresses: [10.1.0.2/30]}
        - veth: {name: both1, netns: left, peer: {netns: left, name: both2}}
        """
    )
    assert lab.addresses("left", "a") == ["10.1.0.1/30"]
    assert lab.link("left", "both1")["link"] == "both2"
    lab.box.run("ip netns exec left ping -c1 -W2 10.1.0.2")
    lab.verify()


def test_a_bridge_in_a_namespace_takes_the_peers_of_others_as_ports(lab: Lab) -> None:
    lab.apply(
        """
        - netns: {name: switch}
        - netns: {name: one}
        - netns: {name: two}
        - bridge: {name: br0, netns: switch}
        - veth:
            name: eth0
            netns: one
            addresses: [10.2.0.1/24]
            peer: {netns: switch, name: p1, master: br0}
        - veth:
            name: p2
            netns: switch
            master: br0
            peer: {netns: two, name: eth0, addresses: [10.2.0.2/24]}
        """
    )
    lab.box.run("ip netns exec one ping -c1 -W2 10.2.0.2")
    lab.verify()


def test_addresses_routes_mtu_and_master_change_in_place(lab: Lab) -> None:
    lab.apply(TENANT)
    index = lab.link("blue", "eth0")["ifindex"]
    changed = """
    - netns: {name: blue}
    - bridge: {name: br0, addresses: [10.20.0.1/24, 10.21.0.1/24, "fd20::1/64"]}
    - bridge: {name: br1, addresses: [10.22.0.1/24]}
    - veth:
        name: v-blue
        master: br0
        mtu: 1400
        peer:
          netns: blue
          name: eth0
          mtu: 1400
          macaddress: 02:00:00:00:00:99
          addresses: [10.21.0.2/24, "fd20::2/112"]
          routes: [{to: default, via: 10.21.0.1}, {to: 10.99.0.0/16, via: 10.21.0.9, metric: 7, table: 100}]
    """
    steps = lab.steps(changed)
    assert {address: step["action"] for address, step in steps.items()} == {
        "bridge/br0": "update",
        "bridge/br1": "create",
        "veth/v-blue": "update",
    }
    lab.apply(changed)
    assert lab.link("blue", "eth0")["ifindex"] == index
    assert lab.link("blue", "eth0")["mtu"] == 1400
    assert lab.link("blue", "eth0")["address"] == "02:00:00:00:00:99"
    assert lab.addresses("blue", "eth0") == ["10.21.0.2/24", "fd20::2/112"]
    assert lab.routes("blue") == ["default via 10.21.0.1 dev eth0"]
    assert lab.routes("blue", "table", "100") == ["10.99.0.0/16 via 10.21.0.9 dev eth0 metric 7"]
    lab.verify()
    lab.apply(changed.replace("        master: br0\n        mtu", "        master: br1\n        mtu"))
    assert lab.link(None, "v-blue")["master"] == "br1"


def test_fields_that_leave_the_configuration_go_back_to_what_an_interface_has_by_itself(lab: Lab) -> None:
    lab.apply(
        """
        - bridge:
            {name: br0, stp: true, forward_delay: 4, ageing_time: 0, mcast_snooping: false, addresses: [10.3.0.1/24]}
        - veth: {name: a, master: br0, mtu: 1300, peer: {name: b, mtu: 1300, addresses: [10.4.0.1/24]}}
        """
    )
    lab.verify()
    lab.apply("- bridge: {name: br0}\n- veth: {name: a, peer: {name: b}}\n")
    data = lab.link(None, "br0")["linkinfo"]["info_data"]
    assert (data["stp_state"], data["forward_delay"], data["ageing_time"], data["mcast_snooping"]) == (
        0,
        1500,
        30000,
        1,
    )
    assert lab.addresses(None, "br0") == []
    assert lab.link(None, "a")["mtu"] == 1500
    assert "master" not in lab.link(None, "a")
    assert lab.addresses(None, "b") == []


def test_replacing_the_first_address_keeps_the_secondaries_and_every_route(lab: Lab) -> None:
    tasks = """
    - netns: {name: blue}
    - veth:
        name: v-blue
        peer:
          netns: blue
          name: eth0
          addresses: [%s10.5.0.3/24, 10.5.0.4/24]
          routes: [{to: default, via: 10.5.0.1}]
    - route: {netns: blue, to: 10.6.0.0/16, via: 10.5.0.7}
    - route: {netns: blue, to: 10.7.0.0/16, via: 10.5.0.8, table: 50, dev: eth0}
    """
    lab.apply(tasks % "10.5.0.2/24, ")
    lab.box.run("ip netns exec blue sysctl -qw net.ipv4.conf.eth0.promote_secondaries=0")
    lab.apply(tasks % "")
    assert lab.addresses("blue", "eth0") == ["10.5.0.3/24", "10.5.0.4/24"]
    assert lab.routes("blue") == ["default via 10.5.0.1 dev eth0", "10.6.0.0/16 via 10.5.0.7 dev eth0"]
    assert lab.routes("blue", "table", "50") == ["10.7.0.0/16 via 10.5.0.8 dev eth0"]
    lab.verify()


def test_the_gateway_may_be_what_was_the_own_or_the_broadcast_address_before(lab: Lab) -> None:
    link = """
        - netns: {name: west}
        - netns: {name: east}
        - veth:
            name: eth0
            netns: west
            addresses: [%s, "fd09::1%s/64"]
            routes: [{to: 10.9.2.0/24, via: %s}, {to: "fd02::/64", via: "fd09::%s"}]
            peer: {netns: east, name: eth0, addresses: [%s, "fd09::%s/64"]}
    """
    lab.apply(link % ("10.9.1.1/30", "", "10.9.1.2", "2", "10.9.1.2/30", "2"))
    # In the smaller network the new gateway was the broadcast address.
    lab.apply(link % ("10.9.1.1/29", "", "10.9.1.3", "2", "10.9.1.3/29", "2"))
    assert "10.9.2.0/24 via 10.9.1.3 dev eth0" in lab.routes("west")
    # The two change places.
    lab.apply(link % ("10.9.1.3/29", "1", "10.9.1.1", "1", "10.9.1.1/29", "1"))
    assert lab.addresses("west", "eth0") == ["10.9.1.3/29", "fd09::11/64"]
    assert "10.9.2.0/24 via 10.9.1.1 dev eth0" in lab.routes("west")
    assert "fd02::/64 via fd09::1 dev eth0 metric 1024" in lab.routes("west")
    lab.verify()


def test_an_interface_that_goes_down_and_comes_up_has_its_addresses_and_routes_again(lab: Lab) -> None:
    up = TENANT
    down = """
    - netns: {name: blue}
    - bridge: {name: br0, addresses: [10.20.0.1/24, "fd20::1/64"]}
    - veth:
        name: v-blue
        master: br0
        peer: {netns: blue, name: eth0, up: false, addresses: [10.20.0.2/24, "fd20::2/64"]}
    """
    lab.apply(up)
    lab.apply(down)
    assert "UP" not in lab.link("blue", "eth0")["flags"]
    assert lab.addresses("blue", "eth0") == ["10.20.0.2/24", "fd20::2/64"]
    lab.apply(up)
    assert len(lab.routes("blue")) == 2
    lab.verify()


def test_what_is_added_by_hand_to_an_owned_interface_is_drift_and_goes(lab: Lab) -> None:
    lab.apply(TENANT)
    lab.box.run(
        "ip -n blue addr add 10.20.0.77/24 dev eth0; ip -n blue link set eth0 down; ip link set v-blue nomaster"
    )
    changes = {c["field"] for c in lab.steps(TENANT)["veth/v-blue"]["changes"]}
    assert changes == {"master", "peer.addresses", "peer.up", "peer.routes"}
    lab.apply(TENANT)
    assert lab.addresses("blue", "eth0") == ["10.20.0.2/24", "fd20::2/64"]


def test_a_new_name_or_namespace_of_the_peer_replaces_the_pair(lab: Lab) -> None:
    lab.apply(TENANT)
    moved = TENANT.replace("name: eth0", "name: net0")
    step = lab.steps(moved)["veth/v-blue"]
    assert step["action"] == "replace"
    lab.apply(moved)
    assert [one["ifname"] for one in lab.ip("blue", "link")] == ["lo", "net0"]
    lab.box.run("ip -n blue link set net0 down name wrong0")
    assert lab.steps(moved)["veth/v-blue"]["action"] == "replace"
    lab.apply(moved)
    assert [one["ifname"] for one in lab.ip("blue", "link")] == ["lo", "net0"]


def test_ends_with_equal_numbers_in_several_namespaces_are_told_apart(lab: Lab) -> None:
    pair = "- veth: {name: x, netns: %s, peer: {netns: %s, name: y}}\n"
    names = ("a", "b", "c", "d")
    spaces = "".join(f"- netns: {{name: {name}}}\n" for name in names)
    lab.apply(spaces + pair % ("a", "b") + pair % ("c", "d"))
    crossed = lab.steps(spaces + pair % ("a", "d") + pair % ("c", "b"))
    assert {step["action"] for step in crossed.values()} == {"replace"}
    lab.apply(spaces + pair % ("a", "d") + pair % ("c", "b"))
    lab.verify()


def test_routes_of_every_type_and_table_come_and_go(lab: Lab) -> None:
    lab.apply(
        TENANT
        + """
    - route: {netns: blue, to: 10.66.0.0/16, type: blackhole}
    - route: {netns: blue, to: "fd66::/64", type: unreachable}
    - route: {netns: blue, to: 10.67.0.0/16, dev: eth0}
    - route: {netns: blue, to: 10.68.0.0/16, via: 192.0.2.1, dev: eth0, onlink: true, metric: 50}
    - route: {netns: blue, to: 10.69.0.0/16, via: 10.20.0.1, src: 10.20.0.2, mtu: 1300, table: 1000}
    - route: {netns: blue, to: "fd69::/64", via: "fd20::1", metric: 5}
    - route: {to: 10.70.0.0/16, via: 10.20.0.2}
    """
    )
    assert lab.routes("blue", "table", "1000") == ["10.69.0.0/16 via 10.20.0.1 dev eth0 src 10.20.0.2 mtu 1300"]
    assert "blackhole 10.66.0.0/16" in lab.routes("blue")
    assert lab.routes(None) == ["10.70.0.0/16 via 10.20.0.2 dev br0"]
    lab.verify()
    lab.apply(TENANT + "\n    - route: {netns: blue, to: 10.66.0.0/16, type: prohibit}\n")
    assert [line for line in lab.routes("blue") if "default" not in line] == ["prohibit 10.66.0.0/16"]
    assert lab.routes("blue", "table", "1000") == []
    lab.apply(TENANT)
    assert len(lab.routes("blue")) == 2


def test_a_replaced_interface_gives_back_the_routes_and_settings_that_lived_in_it(lab: Lab) -> None:
    tasks = (
        TENANT
        + """
    - route: {netns: blue, to: 10.71.0.0/16, via: 10.20.0.9}
    - route: {netns: blue, to: 10.72.0.0/16, via: 10.20.0.9, dev: %s}
    - sysctl: {netns: blue, key: net.ipv4.conf.%s.rp_filter, value: 2}
    """
    )
    lab.apply(tasks % ("eth0", "eth0"))
    moved = (tasks % ("net0", "net0")).replace("name: eth0", "name: net0")
    lab.apply(moved)
    assert [line for line in lab.routes("blue") if "default" not in line] == [
        "10.71.0.0/16 via 10.20.0.9 dev net0",
        "10.72.0.0/16 via 10.20.0.9 dev net0",
    ]
    lab.verify()


def test_rules_route_packets_by_tables_of_their_own(lab: Lab) -> None:
    tasks = """
    - netns: {name: blue}
    - rule: {netns: blue, priority: 100, from: 10.0.0.0/24, table: 100}
    - rule: {netns: blue, priority: 100, from: "fd00::/64", table: 100}
    - rule: {netns: blue, priority: 200, fwmark: 0x1/0xff, iif: eth7, action: %s}
    - rule: {netns: blue, priority: 300, ipproto: tcp, dport: 8000-8080, to: 10.9.0.0/16, table: 1000}
    - rule: {netns: blue, priority: 400, not: true, fwmark: 7, suppress_prefixlength: 0}
    """
    lab.apply(tasks % "blackhole")
    text = lab.box.run("ip -n blue rule; ip -n blue -6 rule").stdout.replace("\t", " ")
    for line in (
        "100: from 10.0.0.0/24 lookup 100 proto static",
        "100: from fd00::/64 lookup 100 proto static",
        "200: from all fwmark 0x1/0xff iif eth7 [detached] blackhole proto static",
        "300: from all to 10.9.0.0/16 ipproto tcp dport 8000-8080 lookup 1000 proto static",
        "400: not from all fwmark 0x7 lookup main suppress_prefixlength 0 proto static",
    ):
        assert line in text, text
    lab.verify()
    assert {s["action"] for s in lab.steps(tasks % "prohibit").values()} == {"update"}
    lab.apply(tasks % "prohibit")
    lab.apply("- netns: {name: blue}\n")
    assert "static" not in lab.box.run("ip -n blue rule; ip -n blue -6 rule").stdout


def test_settings_are_set_on_the_host_and_in_a_namespace_and_put_back(lab: Lab) -> None:
    before = lab.box.run("sysctl -n net.ipv4.ip_forward net.ipv4.ip_local_port_range").stdout
    forward = "0" if before.startswith("1") else "1"
    tasks = f"""
    - netns: {{name: blue}}
    - sysctl: {{key: net.ipv4.ip_forward, value: {forward}}}
    - sysctl: {{name: net/ipv4/ip_local_port_range, value: "20000   30000"}}
    - sysctl: {{netns: blue, key: net.ipv4.ip_forward, value: true}}
    """
    lab.apply(tasks)
    assert lab.box.run("sysctl -n net.ipv4.ip_forward").stdout.strip() == forward
    assert lab.box.run("ip netns exec blue sysctl -n net.ipv4.ip_forward").stdout.strip() == "1"
    lab.verify()
    lab.box.run("sysctl -qw net.ipv4.ip_local_port_range='10000 20000'")
    assert lab.steps(tasks)["sysctl/net.ipv4.ip_local_port_range"]["action"] == "update"
    lab.apply(tasks)
    lab.apply("- netns: {name: blue}\n")
    assert lab.box.run("sysctl -n net.ipv4.ip_forward net.ipv4.ip_local_port_range").stdout == before
    assert lab.box.run("ip netns exec blue sysctl -n net.ipv4.ip_forward").stdout.strip() == "0"
    assert lab.box.run("ls /run/nsprov/sysctl.json 2>/dev/null || true").stdout == ""


def test_a_setting_that_the_kernel_refuses_is_reported_and_the_host_is_as_before(lab: Lab) -> None:
    before = listing(lab.box)
    said = lab.fails(TENANT + "\n    - sysctl: {netns: blue, key: net.ipv4.ip_forwrd, value: 1}\n")
    assert "net.ipv4.ip_forwrd" in said
    assert "no such setting" in said
    assert difference(before, listing(lab.box)) == []


def test_what_the_kernel_refuses_is_said_in_its_own_words_and_the_host_is_as_before(lab: Lab) -> None:
    lab.apply(TENANT)
    before = listing(lab.box)
    said = lab.fails(TENANT + "\n    - route: {to: 10.88.0.0/16, via: 203.0.113.1}\n    - netns: {name: green}\n")
    assert "Nexthop has invalid gateway" in said or "unreachable" in said
    assert difference(before, listing(lab.box)) == []


def test_a_failed_change_of_an_interface_is_put_back_with_all_that_went_along(lab: Lab) -> None:
    lab.apply(TENANT)
    before = listing(lab.box)
    said = lab.fails(
        TENANT.replace("10.20.0.2/24", "10.20.0.3/24").replace("master: br0", "mtu: 1400")
        + "\n    - route: {netns: blue, to: 10.88.0.0/16, via: 10.20.0.1, src: 10.20.0.200}\n"
    )
    assert "10.88.0.0/16" in said
    assert difference(before, listing(lab.box)) == []


def test_an_interface_of_another_is_refused_and_left_alone_and_adopted_on_request(lab: Lab) -> None:
    lab.box.run("ip link add br0 type bridge; ip addr add 10.20.0.1/24 dev br0; ip link set br0 up")
    before = listing(lab.box)
    said = lab.fails("- bridge: {name: br0, addresses: [10.20.0.1/24]}")
    assert "--adopt" in said
    assert difference(before, listing(lab.box)) == []
    lab.apply("- bridge: {name: br0, addresses: [10.20.0.1/24]}", "--adopt")


def test_a_name_that_another_kind_of_interface_has_is_said(lab: Lab) -> None:
    lab.box.run("ip link add br7 type bridge")
    said = lab.fails("- veth: {name: br7, peer: {name: br8}}")
    assert "an interface of that name is there already" in said
    lab.box.run("ip link del br7")


def test_a_deleted_namespace_gives_up_its_names_at_once(lab: Lab) -> None:
    """The kernel takes a namespace apart later; nobody has to wait for it."""
    for _ in range(3):
        lab.apply(TENANT)
        lab.box.run("ip netns del blue")
        lab.apply(TENANT)
        lab.box.nsprov("destroy", INVENTORY, "--yes")
        assert "v-blue" not in lab.box.run("ip link").stdout


def test_a_process_in_a_deleted_namespace_keeps_nobody_waiting(lab: Lab) -> None:
    lab.apply(TENANT)
    lab.box.run("systemd-run -q --unit=held -p NetworkNamespacePath=/run/netns/blue sleep 300; sleep 0.3")
    lab.apply("[]")
    assert "v-blue" not in lab.box.run("ip link").stdout
    lab.apply(TENANT)
    lab.box.run("systemctl stop held")


def test_many_tenants_are_made_checked_changed_and_removed(lab: Lab) -> None:
    tenants = """
    - bridge: {name: br0, addresses: [10.30.0.1/16]}
    - netns: {name: "t{{ item }}"}
      loop: "{{ range(1, 151) | list }}"
    - veth:
        name: "v-{{ item }}"
        master: br0
        peer:
          netns: "t{{ item }}"
          name: eth0
          addresses: ["10.30.1.{{ item }}/16"%s]
          routes: [{to: default, via: 10.30.0.1}]
      loop: "{{ range(1, 151) | list }}"
    """
    before = listing(lab.box)
    lab.apply(tenants % "")
    assert len(lab.box.run("ip netns list").stdout.splitlines()) == 150
    lab.box.run("ip netns exec t150 ping -c1 -W2 10.30.1.1")
    lab.apply(tenants % ', "10.30.2.{{ item }}/16"')
    lab.box.nsprov("destroy", INVENTORY, "--yes")
    assert difference(before, listing(lab.box)) == []
