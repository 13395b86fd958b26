"""The spec of ``rule``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Effect
from provisioner.resources.rule import Rule


def rule(**fields: Any) -> Rule:
    return Rule.model_validate({"priority": 100, **fields})


def test_a_rule_is_called_by_its_priority_and_its_family() -> None:
    assert str(rule(netns="blue").address) == "rule/blue:100"
    assert str(rule(**{"from": "fd00::/64"}).address) == "rule/100 ipv6"
    assert str(rule(name="lab").address) == "rule/lab"


def test_selectors_are_canonical() -> None:
    one = rule(**{"from": "all", "to": "10.0.0.1/32", "fwmark": 16, "ipproto": 6, "dport": "80-80", "table": "main"})
    assert (one.from_, one.to, one.fwmark, one.ipproto, one.dport, one.table) == (
        None,
        "10.0.0.1",
        "0x10",
        "tcp",
        "80",
        None,
    )
    assert rule(fwmark="0x1/0xffffffff").fwmark == "0x1"
    assert rule(fwmark="1/255").fwmark == "0x1/0xff"
    assert one.family == "ipv4"


def test_what_was_declared_is_the_same_after_a_journey_through_json() -> None:
    one = rule(**{"from": "fd00::/64", "not": True, "fwmark": "0x1/0xff", "table": 100})
    assert Rule.model_validate(one.declared()) == one
    assert one.declared()["from"] == "fd00::/64"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"from": "10.0.0.1/24"}, "bits set beyond"),
        ({"from": "10.0.0.0/24", "to": "fd00::/64"}, "not of one family"),
        ({"from": "10.0.0.0/24", "family": "ipv6"}, "are not of the family ipv6"),
        ({"fwmark": "red"}, "is not a packet mark"),
        ({"fwmark": "0x1ffffffff"}, "out of range"),
        ({"dport": 80}, "ports are of a protocol"),
        ({"dport": "90-80", "ipproto": "tcp"}, "no port and no range"),
        ({"ipproto": "tpc"}, "is not an IP protocol"),
        ({"action": "blackhole", "table": 100}, "looks no table up"),
        ({"priority": 0}, "greater than or equal to 1"),
        ({"priority": None}, "valid integer"),
    ],
)
def test_what_is_no_rule_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        rule(**fields)


def test_a_rule_is_compared_whole() -> None:
    wanted, found = rule(table=100), rule(table=100, iif="eth0")
    assert [(c.field, c.before, c.after, c.effect) for c in wanted.changes_from(found, None)] == [
        ("iif", "eth0", None, Effect.LIVE)
    ]
    changed = rule(**{"from": "10.0.0.0/24"})
    assert [c.field for c in changed.changes_from(rule(), None)] == ["from"]


def test_one_priority_has_one_rule_of_a_family() -> None:
    assert set(rule().claims()) & set(rule(name="again", iif="eth0").claims())
    assert not set(rule().claims()) & set(rule(family="ipv6").claims())


def test_a_plan_words_it_as_ip_rule_does_and_its_fact_compiles() -> None:
    one = rule(**{"not": True, "from": "10.0.0.0/24", "iif": "eth0", "table": 100})
    assert one.summary() == [("rule", "not from 10.0.0.0/24 iif eth0 lookup 100")]
    [check] = one.checks()
    compile(check.code, check.title, "exec")
