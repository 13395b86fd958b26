"""`nsprov verify` as a person uses it: what holds, what does not and where it is declared, and a suite to keep."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from .conftest import Box

INVENTORY = """\
all:
  hosts:
    edge1:
      ansible_connection: local
  vars:
    nsprov_roles: [tenant_pair]
"""

ROLE = """\
- netns: {name: blue}
- netns: {name: green}
- veth:
    name: eth0
    netns: blue
    addresses: [10.20.0.11/24]
    peer: {netns: green, name: eth0, addresses: [10.20.0.12/24]}
- expect: {from: blue, to: 10.20.0.12}
- expect: {from: blue, to: "10.20.0.12:80", result: refused}
- expect: {from: blue, to: 10.20.0.99, result: dropped}
"""

TEST = """\
def test_each_namespace_reaches_itself(host, declared):
    for netns in declared("netns"):
        assert host.run(f"ip netns exec {netns['name']} ping -c 1 -W 1 127.0.0.1").rc == 0
"""


@pytest.fixture(scope="module")
def applied(box: Box) -> Box:
    box.write("/root/shop/inventory.yml", INVENTORY)
    box.write("/root/shop/roles/tenant_pair/tasks/main.yml", ROLE)
    box.write("/root/shop/roles/tenant_pair/tests/test_pair.py", TEST)
    box.nsprov("apply", "--yes", "/root/shop/inventory.yml")
    return box


def test_what_was_applied_holds(applied: Box) -> None:
    done = applied.nsprov("verify", "/root/shop/inventory.yml")
    assert re.fullmatch(r"edge1   \d+ facts checked, all hold\n", done.stdout)


def test_every_fact_is_listed_when_asked_for(applied: Box) -> None:
    done = applied.nsprov("verify", "-v", "/root/shop/inventory.yml")
    for fact in (
        "netns/blue exists",
        "veth/blue:eth0 has 10.20.0.11/24",
        "blue reaches 10.20.0.12",
        "blue is refused at 10.20.0.12:80",
        "blue is dropped at 10.20.0.99",
        "tenant_pair/test_pair.py::test_each_namespace_reaches_itself",
    ):
        assert f"✓ {fact} " in done.stdout.replace("\n", " \n")


def test_what_somebody_broke_is_named_with_its_line(applied: Box) -> None:
    applied.run("ip -n blue addr del 10.20.0.11/24 dev eth0 && ip -n blue addr add 10.20.0.13/24 dev eth0")
    try:
        done = applied.nsprov("verify", "/root/shop/inventory.yml", check=False)
    finally:
        applied.run("ip -n blue addr del 10.20.0.13/24 dev eth0 && ip -n blue addr add 10.20.0.11/24 dev eth0")
    assert done.returncode == 1
    _, fact, reason = done.stdout.splitlines()
    assert re.match(r"    ✗ veth/blue:eth0 has 10\.20\.0\.11/24 +\S*roles/tenant_pair/tasks/main\.yml:3$", fact)
    assert reason.startswith("        expected 10.20.0.11/24, found 10.20.0.13/24")


def test_a_ci_gets_its_report(applied: Box) -> None:
    applied.nsprov("verify", "--junitxml", "/root/shop/junit.xml", "/root/shop/inventory.yml")
    root = ElementTree.fromstring(applied.run("cat /root/shop/junit.xml").stdout)
    names = [case.get("name") for case in root.iter("testcase")]
    assert "netns/blue exists" in names
    assert [suite.get("failures") for suite in root] == ["0"]


def test_the_written_suite_is_run_by_plain_pytest(applied: Box) -> None:
    import sys

    done = applied.nsprov("verify", "--write", "/root/suite", "/root/shop/inventory.yml")
    assert done.stdout == "wrote test_edge1.py into /root/suite; how to run them: /root/suite/README.md\n"
    run = applied.run([sys.executable, "-P", "-m", "pytest", "--hosts=local://", "-v", "/root/suite"], check=False)
    assert run.returncode == 0, run.stdout
    assert "test_edge1.py::blue is dropped at 10.20.0.99 PASSED" in run.stdout
