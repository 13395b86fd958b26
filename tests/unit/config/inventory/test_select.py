"""Host patterns of ``--limit`` select what they select in Ansible."""

from __future__ import annotations

import pytest

from provisioner.config.inventory import Inventory, load_inventory
from provisioner.errors import UsageError


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    path = tmp_path_factory.mktemp("inventory") / "hosts.ini"
    path.write_text(
        """
alone
[web]
web[1:4]
old-web
[db]
db1.example.com
db2.example.com
web4
[v6]
2001:db8::1
[prod:children]
web
db
[empty]
"""
    )
    return load_inventory([path])


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("web1", "web1"),
        ("web", "web1 web2 web3 web4 old-web"),
        ("web,alone", "web1 web2 web3 web4 old-web alone"),
        ("alone:web1", "alone web1"),
        ("web:&db", "web4"),
        ("web:!db", "web1 web2 web3 old-web"),
        ("!db:web:&prod:!old*", "web1 web2 web3"),
        ("!web:!db:!v6", "alone"),
        ("&db", "web4 db1.example.com db2.example.com"),
        ("web[0]", "web1"),
        ("web[-1]", "old-web"),
        ("web[1:2]", "web2 web3"),
        ("web[3:]", "web4 old-web"),
        ("web[0:0]", "web1"),
        ("web*", "web1 web2 web3 web4 old-web"),
        ("*.example.com", "db1.example.com db2.example.com"),
        ("db*[0]", "db1.example.com"),
        ("web?", "web1 web2 web3 web4"),
        (r"~web\d", "web1 web2 web3 web4"),
        ("~(web1|db1)", "web1 db1.example.com"),
        ("2001:db8::1", "2001:db8::1"),
        ("all:!prod:!v6", "alone"),
        ("ungrouped", "alone"),
        (" web1 , web2 ,", "web1 web2"),
        ("web1,web1,web", "web1 web2 web3 web4 old-web"),
        ("web:!nothing*", "web1 web2 web3 web4 old-web"),
    ],
)
def test_a_pattern_selects(inventory: Inventory, pattern: str, hosts: str) -> None:
    assert sorted(inventory.select(pattern)) == sorted(hosts.split())


def test_without_a_pattern_all_hosts_are_selected(inventory: Inventory) -> None:
    assert sorted(inventory.select(None)) == sorted(inventory.hosts)
    assert inventory.select("all") == inventory.select()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("wbe1", "no host or group 'wbe1'"),
        ("web:!dbb", "no host or group 'dbb'"),
        ("web:&", "empty after"),
        ("~web(", "not a regular expression"),
        ("web[7]", "beyond the 5 hosts"),
        ("empty", "no host of the inventory matches"),
        ("nothing*", "no host of the inventory matches"),
        ("web:!web", "no host of the inventory matches"),
    ],
)
def test_what_selects_nothing_is_an_error(inventory: Inventory, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        inventory.select(pattern)


def test_a_misspelt_name_is_answered_with_the_right_one(inventory: Inventory) -> None:
    with pytest.raises(UsageError, match="did you mean 'alone'"):
        inventory.select("alnoe")
