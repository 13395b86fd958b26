"""Host patterns of ``--limit`` select what they select in Ansible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_a_file_of_patterns_stands_for_what_is_in_it(inventory: Inventory, tmp_path: Path) -> None:
    file = tmp_path / "hosts.txt"
    file.write_text("web1\n\n db \n")
    assert set(inventory.select(f"@{file}")) == {"web1", "web4", "db1.example.com", "db2.example.com"}
    assert set(inventory.select(f"@{file},!web4,alone")) == {"web1", "db1.example.com", "db2.example.com", "alone"}


def test_retry_is_what_the_last_run_left_undone(inventory: Inventory, tmp_path: Path) -> None:
    retry = tmp_path / "hosts.retry"
    retry.write_text("web2\nweb3\n")
    assert inventory.select("@retry", retry=retry) == ["web2", "web3"]
    assert inventory.select("@retry:!web2", retry=retry) == ["web3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no run has left a host undone"), ("\n", "names no host"), ("nobody\n", "no host or group 'nobody'")],
)
def test_a_retry_file_that_is_not_there_or_names_nobody_is_told(
    inventory: Inventory, tmp_path: Path, content: str | None, message: str
) -> None:
    retry = tmp_path / "hosts.retry"
    if content is not None:
        retry.write_text(content)
    with pytest.raises(UsageError) as raised:
        inventory.select("@retry", retry=retry)
    assert message in str(raised.value)


def test_a_list_of_hosts_on_the_command_line_has_no_retry_file(inventory: Inventory) -> None:
    with pytest.raises(UsageError, match="has no retry file"):
        inventory.select("@retry")


@pytest.mark.parametrize(
    "limit", ["@{file}", "@{file},!web4", "web:&prod:!old*", "web[0:2],@{file}", "~web[23],db,&web"]
)
def test_ansible_chooses_the_same_with_files(inventory: Inventory, tmp_path: Path, limit: str) -> None:
    (tmp_path / "hosts.txt").write_text("web1\ndb\n!db2*\n")
    source = tmp_path / "hosts.ini"
    source.write_text(
        "alone\n[web]\nweb[1:4]\nold-web\n[db]\ndb1.example.com\ndb2.example.com\nweb4\n[prod:children]\nweb\ndb\n"
    )
    words = limit.replace("{file}", str(tmp_path / "hosts.txt"))
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [str(ansible), "all", "-i", str(source), "--list-hosts", "--limit", words], capture_output=True, text=True
    )
    theirs = {line.strip() for line in done.stdout.splitlines()[1:]}
    try:
        ours = set(load_inventory([source]).select(words))
    except UsageError:
        ours = set()
    assert ours == theirs, done.stderr
