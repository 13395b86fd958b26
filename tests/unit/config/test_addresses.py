"""Filters and tests on addresses, as ``ansible.utils`` documents them."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.config.build import make_templates
from provisioner.config.variables import Frame
from provisioner.errors import ConfigError

MIXED = [
    "192.24.2.1",
    "host.fqdn",
    "::1",
    "192.168.32.0/24",
    "fe80::100/10",
    "42540766412265424405338506004571095040/64",
    True,
]


def evaluate(expression: str) -> Any:
    return make_templates().render("{{ " + expression + " }}", Frame({"mixed": MIXED}))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (
            "mixed | ansible.utils.ipaddr",
            ["192.24.2.1", "::1", "192.168.32.0/24", "fe80::100/10", "2001:db8:32c:faad::/64"],
        ),
        ("mixed | ipaddr('host')", ["192.24.2.1/32", "::1/128", "fe80::100/10"]),
        ("mixed | ipaddr('net')", ["192.168.32.0/24", "2001:db8:32c:faad::/64"]),
        ("mixed | ipaddr('public')", ["192.24.2.1"]),
        ("mixed | ipaddr('private')", ["::1", "192.168.32.0/24", "fe80::100/10", "2001:db8:32c:faad::/64"]),
        ("mixed | ipv4", ["192.24.2.1", "192.168.32.0/24"]),
        ("mixed | ipv4('ipv6')", ["::ffff:192.24.2.1/128", "::ffff:192.168.32.0/120"]),
        ("mixed | ipv4('address')", ["192.24.2.1"]),
        (
            "mixed | ipwrap",
            ["192.24.2.1", "host.fqdn", "[::1]", "192.168.32.0/24", "[fe80::100]/10", "[2001:db8:32c:faad::]/64", True],
        ),
        ("'192.0.2.230' | ipaddr", "192.0.2.230"),
        ("'192.0.2.230/30' | ipaddr", "192.0.2.230/30"),
        ("'nonsense' | ipaddr", False),
        ("'' | ipaddr", False),
        ("true | ipaddr", False),
        ("'192.0.2.1/24' | ipaddr('address')", "192.0.2.1"),
        ("'192.0.2.0/24' | ipaddr('address')", None),
        ("'192.0.2.1/24' | ipaddr('network')", "192.0.2.0"),
        ("'192.0.2.1/24' | ipaddr('netmask')", "255.255.255.0"),
        ("'192.0.2.1/24' | ipaddr('prefix')", 24),
        ("'192.0.2.1/24' | ipaddr('host')", "192.0.2.1/24"),
        ("'192.0.2.1/24' | ipaddr('subnet')", "192.0.2.0/24"),
        ("'192.0.2.1/24' | ipaddr('network/prefix')", "192.0.2.0/24"),
        ("'192.0.2.1/24' | ipaddr('size')", 256),
        ("'192.0.2.1/24' | ipaddr('size_usable')", 254),
        ("'192.0.2.1/24' | ipaddr('broadcast')", "192.0.2.255"),
        ("'192.0.2.1/24' | ipaddr('hostmask')", "0.0.0.255"),
        ("'192.0.2.1/24' | ipaddr('first_usable')", "192.0.2.1"),
        ("'192.0.2.1/24' | ipaddr('last_usable')", "192.0.2.254"),
        ("'192.0.2.1/24' | ipaddr('next_usable')", "192.0.2.2"),
        ("'192.0.2.1/24' | ipaddr('previous_usable')", None),
        ("'192.0.2.0/31' | ipaddr('first_usable')", "192.0.2.0"),
        ("'192.0.2.1/24' | ipaddr('range_usable')", "192.0.2.1-192.0.2.254"),
        ("'192.0.2.1/31' | ipaddr('peer')", "192.0.2.0"),
        ("'192.0.2.1/30' | ipaddr('peer')", "192.0.2.2"),
        ("'192.0.2.1/24' | ipaddr('ip_netmask')", "192.0.2.1 255.255.255.0"),
        ("'192.0.2.1/24' | ipaddr('network_netmask')", "192.0.2.0 255.255.255.0"),
        ("'192.0.2.1/24' | ipaddr('network_wildcard')", "192.0.2.0 0.0.0.255"),
        ("'192.0.2.1/24' | ipaddr('gateway')", "192.0.2.1/24"),
        ("'192.0.2.1/24' | ipaddr('type')", "address"),
        ("'192.0.2.0/24' | ipaddr('type')", "network"),
        ("'192.0.2.1/24' | ipaddr('version')", 4),
        ("'2001:db8::1/64' | ipaddr('version')", 6),
        ("'192.0.2.1' | ipaddr('revdns')", "1.2.0.192.in-addr.arpa."),
        ("'192.0.2.1' | ipaddr('int')", 3221225985),
        ("'192.0.2.1/24' | ipaddr('int')", "3221225985/24"),
        ("3221225985 | ipaddr", "192.0.2.1"),
        ("('172.20.0.1' | ipaddr('int') + 6) | ipaddr('address')", "172.20.0.7"),
        ("'192.0.2.1' | ipaddr('bool')", True),
        ("'127.0.0.1' | ipaddr('loopback')", "127.0.0.1"),
        ("'169.254.1.1' | ipaddr('link-local')", "169.254.1.1"),
        ("'224.0.0.1' | ipaddr('multicast')", "224.0.0.1"),
        ("'192.0.2.230' | ipaddr('6to4')", "2002:c000:02e6::1/48"),
        ("'::ffff:192.168.32.0/120' | ipv6('ipv4')", "192.168.32.0/24"),
        ("'2001:db8::1/64' | ipaddr('address')", "2001:db8::1"),
        ("'2001:db8::1/64' | ipaddr('subnet')", "2001:db8::/64"),
        ("'192.0.2.0/24' | ipaddr('5')", "192.0.2.5/24"),
        ("'192.0.2.0/24' | ipaddr(5)", "192.0.2.5/24"),
        ("'192.0.2.0/24' | ipaddr(-2)", "192.0.2.254/24"),
        ("'192.0.2.0/24' | ipaddr(1) | ipaddr('address')", "192.0.2.1"),
        ("'192.0.2.0/24' | ipaddr(999)", False),
        ("['192.0.2.7', '10.0.0.1'] | ipaddr('192.0.2.0/24')", ["192.0.2.7"]),
        ("'192.168.144.5' | ansible.utils.ipsubnet", "192.168.144.5/32"),
        ("'192.168.0.0/16' | ipsubnet", "192.168.0.0/16"),
        ("'192.168.0.0/16' | ipsubnet(20)", "16"),
        ("'192.168.0.0/16' | ipsubnet('20', '0')", "192.168.0.0/20"),
        ("'192.168.0.0/16' | ipsubnet(20, -1)", "192.168.240.0/20"),
        ("'192.168.0.0/16' | ipsubnet(20, 99)", False),
        ("'192.168.144.5' | ipsubnet(20)", "192.168.144.0/20"),
        ("'192.168.144.5' | ipsubnet(18, 0)", "192.168.128.0/18"),
        ("'192.168.144.5' | ipsubnet('192.168.0.0/16')", "36870"),
        ("'192.168.144.16/30' | ipsubnet('192.168.144.0/24')", "5"),
        ("'2001:db8::/56' | ipsubnet(120, 4)", "2001:db8::400/120"),
        ("'10.0.0.0/8' | ansible.utils.nthhost(305)", "10.0.1.49"),
        ("'10.0.0.0/8' | nthhost(-1)", "10.255.255.255"),
        ("'10.0.0.7/24' | nthhost(1)", "10.0.0.1"),
        ("'192.168.122.1/24' | next_nth_usable(2)", "192.168.122.3"),
        ("'192.168.122.254/24' | next_nth_usable(2)", None),
        ("'192.168.122.10/24' | previous_nth_usable(2)", "192.168.122.8"),
        ("'192.168.0.0/24' | network_in_network('192.168.0.1')", True),
        ("'192.168.0.0/24' | network_in_network('10.0.0.1')", False),
        ("'192.168.0.0/24' | network_in_usable('192.168.0.255')", False),
        ("'192.168.0.0/16' | network_in_usable('192.168.0.255')", True),
        ("['192.168.0.34', '10.3.0.3', '192.168.2.34'] | reduce_on_network('192.168.0.0/24')", ["192.168.0.34"]),
        ("'192.168.1.5' | ipmath(5)", "192.168.1.10"),
        ("'192.168.1.5/24' | ipmath(-6)", "192.168.0.255"),
        ("'2001:db8::1' | ipmath(9)", "2001:db8::a"),
        (
            "'fdcf:1894:23b5:d38c:0000:0000:0000:0000/64' | slaac('c2:31:b3:83:bf:2b')",
            "fdcf:1894:23b5:d38c:c031:b3ff:fe83:bf2b",
        ),
        ("'1a:2b:3c:4d:5e:6f' | hwaddr", "1a:2b:3c:4d:5e:6f"),
        ("'1a:2b:3c:4d:5e:6f' | hwaddr('cisco')", "1a2b.3c4d.5e6f"),
        ("'1a-2b-3c-4d-5e-0f' | hwaddr('linux')", "1a:2b:3c:4d:5e:0f"),
        ("'1a2b.3c4d.5e6f' | macaddr('bare')", "1A2B3C4D5E6F"),
        ("'nonsense' | hwaddr('bool') | bool", False),
        ("['192.168.0.0/17', '192.168.128.0/17', '192.168.128.1'] | cidr_merge", ["192.168.0.0/16"]),
        ("['192.168.1.1', '192.168.1.2', '192.168.1.3', '192.168.1.4'] | cidr_merge('span')", "192.168.1.0/29"),
        ("'192.168.1.5' | ip4_hex", "c0a80105"),
        ("'192.168.1.5' | ip4_hex(':')", "c0:a8:01:05"),
        ("'1234:4321:abcd:dcba::17' | ipcut(64)", "1234:4321:abcd:dcba"),
        ("'1234:4321:abcd:dcba::17' | ipcut(-80)", "dcba:0:0:0:17"),
        ("'1234:4321:abcd:dcba::17' | ipv6form('expand')", "1234:4321:abcd:dcba:0000:0000:0000:0017"),
        ("'1234:4321:abcd:dcba::17' | ipv6form('x509')", "1234:4321:abcd:dcba:0:0:0:17"),
        ("'10.0.0.0/30' | usable_range", {"usable_ips": [f"10.0.0.{n}" for n in range(4)], "number_of_ips": 4}),
        ("'10.0.0.5' is ansible.utils.in_network('10.0.0.0/24')", True),
        ("'10.0.0.5' is ansible.utils.ipv4", True),
        ("'10.0.0.5/24' is ansible.utils.ipv4_address", False),
        ("'::1' is ansible.utils.ipv6_address", True),
        ("'10.0.0.5' is ansible.utils.private", True),
        ("'127.0.0.1' is ansible.utils.loopback", True),
        ("'1a:2b:3c:4d:5e:6f' is ansible.utils.mac", True),
        ("'10.0.0.0/24' is ansible.utils.subnet_of('10.0.0.0/8')", True),
        ("'10.0.0.0/8' is ansible.utils.supernet_of('10.0.0.0/24')", True),
    ],
)
def test_an_address_is_what_its_documentation_says(expression: str, value: Any) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("'10.0.0.1/24' | ipaddr('adress')", "ipaddr has no query 'adress'"),
        ("'10.0.0.1' | ipaddr('first_usable')", "is an address, not a network"),
        ("'10.0.0.1/24' | ipaddr('peer')", "not a point-to-point network"),
        ("'10.0.0.0/30' | ipaddr('peer')", "has no peer"),
        ("'10.0.0.0/24' | ipsubnet(16)", "does not fit"),
        ("'10.0.0.0/24' | ipsubnet('192.168.0.0/16')", "is not in"),
        ("'nonsense' | ipmath(1)", "is not an address"),
        ("'255.255.255.255' | ipmath(1)", "past the last address"),
        ("'10.0.0.1' | ipmath('x')", "not a whole number"),
        ("'nonsense' | hwaddr('linux')", "not a hardware address"),
        ("['nonsense'] | cidr_merge", "is not an address"),
    ],
)
def test_a_wrong_question_says_why(expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(expression)
