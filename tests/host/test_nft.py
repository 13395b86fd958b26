"""Tables of the packet filter on a real kernel: in the host's namespace and in others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.driving import driven

RULESET = """
set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
set web { type inet_service; elements = { 443, 80 } }
counter dropped { packets 7 bytes 700 }
chain input {
  type filter hook input priority 0; policy drop;
  ct state established,related accept
  ip saddr 10.0.0.0/8 tcp dport @web counter accept
  iif lo update @seen { ip saddr timeout 5m } accept
  tcp dport ssh log prefix "ssh { " drop
  counter name "dropped"
}
"""


def table(ruleset: str = RULESET, netns: str | None = "blue", name: str = "inet filter") -> str:
    return f"made('nftables', table={name!r}, netns={netns!r}, ruleset={ruleset!r})"


@pytest.fixture(autouse=True)
def _namespaces(box: Any) -> Iterator[None]:
    box.run("ip netns add blue; ip netns add green; ip -n blue link set lo up")
    yield
    box.run("ip netns del blue; ip netns del green; nft flush ruleset")


def test_a_table_is_loaded_into_its_namespace_alone(box: Any) -> None:
    assert driven(box, f"answer = settle({table()})") == [["create", None]]
    assert "chain input" in box.run("ip netns exec blue nft list table inet filter").stdout
    assert box.run("nft list ruleset; ip netns exec green nft list ruleset").stdout == ""


def test_a_table_that_is_as_declared_is_left_alone_whatever_packets_have_counted(box: Any) -> None:
    driven(box, f"answer = settle({table()})")
    box.run("ip netns exec blue sh -c 'for i in 1 2 3; do bash -c \"exec 3<>/dev/tcp/127.0.0.1/9\" 2>/dev/null; done'",
            check=False)  # fmt: skip
    listed = box.run("ip netns exec blue nft list table inet filter").stdout
    assert "127.0.0.1 timeout 5m" in listed
    recorded = box.run(
        "ip netns exec blue timeout 10 nft monitor > /tmp/nft-monitor & sleep 0.5; "
        f"{_python()} -c '{_noop()}'; sleep 0.5; kill $!; cat /tmp/nft-monitor"
    )  # fmt: skip
    assert recorded.stdout.strip() == "[]"
    assert "127.0.0.1 timeout 5m" in box.run("ip netns exec blue nft list table inet filter").stdout


def _python() -> str:
    import sys

    return sys.executable


def _noop() -> str:
    """The second settling as a program of its own, so that what it does can be watched."""
    from tests.host import driving

    program = f"{driving._PRELUDE}\nprint(json.dumps(settle({table()})))"
    return program.replace("'", "'\"'\"'")


def test_a_changed_table_is_replaced_and_the_diff_is_in_nfts_own_words(box: Any) -> None:
    driven(box, f"answer = settle({table()})")
    changed = table(RULESET.replace("policy drop", "policy accept"))
    before, after = driven(
        box,
        f"one = {changed}\nfound = observed(one)[one.address]\n(change,) = one.changes_from(found, None)\n"
        "answer = [change.before, change.after]",
    )
    differing = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert differing == [
        (
            "\t\ttype filter hook input priority filter; policy drop;",
            "\t\ttype filter hook input priority filter; policy accept;",
        )
    ]
    assert driven(box, f"answer = settle({changed})") == [["update", None]]
    assert driven(box, f"answer = settle({changed})") == []


def test_what_was_observed_can_be_put_back(box: Any) -> None:
    box.run("ip netns exec blue nft -f -", input=f"table inet filter {{\n{RULESET}\n}}\n")
    before = box.run("ip netns exec blue nft -s list ruleset").stdout
    code = f"""
other = {table("chain x {}")}
found = observed(other)[other.address]
first = settle(other)
answer = [first, settle(found), settle(found)]
"""
    assert driven(box, code) == [[["update", None]], [["update", None]], []]
    assert box.run("ip netns exec blue nft -s list ruleset").stdout == before


def test_deleting_a_table_leaves_the_others(box: Any) -> None:
    box.run("nft -f -", input="table ip theirs {\n}\n")
    both = f"{table(netns=None)}, {table('chain a {}', netns=None, name='ip nat')}"
    driven(box, f"answer = settle({both})")
    assert driven(box, f"answer = settle({table(netns=None)}, delete=True)") == [["delete", None]]
    assert box.run("nft list tables").stdout.split("\n")[:-1] == ["table ip theirs", "table ip nat"]


def test_creating_a_table_that_is_there_fails_and_leaves_it(box: Any) -> None:
    box.run("ip netns exec blue nft -f -", input="table inet filter {\n\tchain theirs {\n\t}\n}\n")
    code = f"""
one = {table()}
create = [Step(Action.CREATE, one.address, None, one)]
answer = [result.error for result in kind_of('nftables').driver.carry_out(host, create)]
"""
    assert driven(box, code) == ["table inet filter exists already"]
    assert "theirs" in box.run("ip netns exec blue nft list ruleset").stdout


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("chain a {\n  tcp dprt 80 accept\n}\n", "line 2: syntax error, unexpected string\n  tcp dprt 80 accept"),
        ("chain a {\n  accept\n  jump nowhere\n}\n", "line 3: Could not process rule: No such file or directory"),
        ("chain a {\n  ip saddr no.such.host accept\n}\n", "line 2: Could not resolve hostname"),
    ],
)
def test_a_ruleset_that_nft_refuses_stops_the_plan_with_its_words_and_line(box: Any, wrong: str, told: str) -> None:
    refused = driven(box, f"answer = settle({table()}, {table(wrong, netns='green')})")["refused"]
    assert refused.startswith("nftables/green:inet filter: nft does not take this ruleset: ")
    assert told in refused
    assert box.run("ip netns exec blue nft list ruleset; nft list ruleset").stdout == ""


def test_a_ruleset_that_is_not_taken_any_more_can_still_be_deleted(box: Any) -> None:
    box.run("ip netns exec blue nft -f -", input="table inet filter {\n}\n")
    assert driven(box, f"answer = settle({table('chain a { no such thing; }')}, delete=True)") == [["delete", None]]


def test_rules_may_name_interfaces_that_are_there_only_in_the_namespace(box: Any) -> None:
    # Their numbers are in the other order than those of the trial's.
    box.run("ip -n blue link add uplink type veth peer name a; ip -n blue link add far type veth peer name b")
    one = table("chain a {\n  type filter hook input priority 0;\n  iif { uplink, far } accept\n  iif uplink drop\n}\n")
    assert driven(box, f"answer = [settle({one}), settle({one})]") == [[["create", None]], []]


def test_a_kernel_that_refuses_a_rule_leaves_the_table_as_it_was(box: Any) -> None:
    driven(box, f"answer = settle({table()})")
    before = box.run("ip netns exec blue nft list ruleset").stdout
    here = table("chain a {\n  type filter hook input priority 0;\n  iif nowhere0 accept\n}\n")
    ((action, error),) = driven(box, f"answer = settle({here})")
    assert action == "update"
    assert "line 3: Interface does not exist" in error
    assert "iifname" in error
    assert box.run("ip netns exec blue nft list ruleset").stdout == before


def test_a_missing_namespace_has_no_table_and_nothing_to_delete(box: Any) -> None:
    one = table(netns="nowhere")
    code = f"""
one = {one}
delete = [Step(Action.DELETE, one.address, one)]
answer = [len(observed(one)), [r.error for r in kind_of('nftables').driver.carry_out(host, delete)], settle(one)]
"""
    found, deleted, ((_, error),) = driven(box, code)
    assert (found, deleted) == (0, [None])
    assert "no namespace nowhere" in error


def test_hundreds_of_namespaces_held_open_do_not_bring_libnftables_down(box: Any) -> None:
    code = f"""
names = [f"n{{i}}" for i in range(600)]
host.network.create_namespaces(names, [False] * len(names), [None] * len(names))
specs = [made('nftables', table='inet filter', netns=name, ruleset={RULESET!r}) for name in names]
steps = [Step(Action.CREATE, one.address, None, one) for one in specs]
driver = kind_of('nftables').driver
created = sorted({{str(r.error) for r in driver.carry_out(host, steps)}})
same = all(found == one for one, found in zip(specs, observed(*specs).values()))
deleted = sorted({{str(r.error) for r in driver.carry_out(host, [Step(Action.DELETE, s.address, s) for s in specs])}})
left = len(observed(*specs))
host.network.delete_namespaces(names)
answer = [created, same, deleted, left]
"""
    assert driven(box, code) == [["None"], True, ["None"], 0]


def test_the_checks_of_a_table_are_about_what_nft_lists(box: Any) -> None:
    titles = driven(box, f"answer = [[c.title, c.code] for c in {table()}.checks()]")
    assert json.dumps(titles).count("nft_list(host, 'blue', 'inet', 'filter')") == len(titles) == 4
