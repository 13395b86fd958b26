"""Hundreds of hosts as a person reads them: folded names, one status line, a summary, plans that are shown once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.config.inventory.ranges import expand_hosts
from provisioner.model import Action, Plan, Step
from provisioner.report.hosts import Tally, folded, status_line, summary_lines, wrapped
from provisioner.report.text import Style, plans_text
from provisioner.resources.netns import Netns

PLAIN = Style(False)


def test_names_with_numbers_in_a_row_are_written_as_a_range() -> None:
    assert folded([f"web{number}" for number in range(1, 201)]) == "web[1:200]"
    assert folded(["web1", "db1", "web2", "web4"]) == "web[1:2], web4, db1"
    assert folded(["rack1-web3.example.com", "rack1-web4.example.com"]) == "rack1-web[3:4].example.com"


def test_names_with_zeros_in_front_keep_them() -> None:
    assert folded([f"web{number:02}" for number in range(1, 13)]) == "web[01:12]"
    assert folded(["web7", "web07", "web8"]) == "web[7:8], web07"


def test_names_without_numbers_and_addresses_are_left_as_they_are() -> None:
    assert folded(["gateway", "localhost"]) == "gateway, localhost"
    assert folded(["192.0.2.1", "192.0.2.2", "192.0.2.9"]) == "192.0.2.[1:2], 192.0.2.9"
    assert folded([]) == ""


names = st.builds(
    lambda head, number, width, tail: f"{head}{number:0{width}d}{tail}",
    st.sampled_from(["web", "db-", "r1c", ""]),
    st.integers(0, 120),
    st.integers(0, 4),
    st.sampled_from(["", ".example.com", "x"]),
)


@given(st.lists(names | st.sampled_from(["alone", "gateway"]), max_size=40, unique=True))
def test_what_is_folded_is_read_back_by_the_inventory_as_the_same_hosts(hosts: list[str]) -> None:
    text = folded(hosts)
    found = [name for part in text.split(", ") if part for name in expand_hosts(part)[0]]
    assert sorted(found) == sorted(hosts)


def test_long_lists_are_wrapped_between_names() -> None:
    rows = wrapped(folded([f"host-{word}-name" for word in "abcdefghijklmnopqrstuvwxyz"]))
    assert all(len(row) <= 100 for row in rows)
    assert " ".join(rows).count("-name") == 26


def test_the_status_is_one_line_however_many_hosts_run() -> None:
    running = [f"web{number}" for number in range(48, 58)]
    line = status_line(Tally(2, 5, 47, 100, 2, running))
    assert line.startswith("batch 2/5   47/100 done, 2 failed, 10 running: web48, web49")
    assert (
        status_line(Tally(2, 5, 47, 100, 2, running), 60) == "batch 2/5   47/100 done, 2 failed, 10 running: web48, …"
    )
    assert status_line(Tally(1, 1, 3, 3, 0, [])) == "3/3 done"


@given(st.integers(1, 200), st.lists(names, max_size=50))
def test_the_status_never_is_wider_than_the_terminal(width: int, running: list[str]) -> None:
    assert len(status_line(Tally(1, 3, 5, 100, 1, running), width)) <= max(width, 2)


def test_a_summary_counts_and_names_each_host_that_is_not_as_it_should_be() -> None:
    lines = summary_lines(
        [
            ("web1", "applied", ""),
            ("web2", "unchanged", ""),
            ("web3", "failed", "creating netns/blue: File exists; it was put back"),
            ("web4", "unreachable", "the connection to web4 broke"),
            *((f"web{number}", "not touched", "") for number in range(5, 300)),
        ],
        PLAIN,
    )
    assert lines == [
        "applied 1, unchanged 1, failed 1, unreachable 1, not touched 295",
        "  web3   failed: creating netns/blue: File exists; it was put back",
        "  web4   unreachable: the connection to web4 broke",
        "  web[5:299]   not touched",
    ]


def plan(*made: str) -> Plan:
    return Plan(tuple(Step(Action.CREATE, one.address, None, one) for one in (Netns(name=name) for name in made)))


def test_equal_plans_of_a_few_hosts_are_told_as_the_same_as_the_first() -> None:
    text = plans_text({"edge1": plan("blue"), "edge2": plan("blue"), "edge3": Plan()}, PLAIN)
    assert text.splitlines()[0] == "edge1   1 to create. No workload restarts."
    assert text.splitlines()[-2:] == ["edge2   the same as edge1", "edge3   no changes"]


def test_equal_plans_of_many_hosts_are_shown_once_with_the_hosts_they_are_for() -> None:
    plans = {f"web{number}": plan("blue") for number in range(1, 201)}
    plans |= {"db1": plan("blue", "green")}
    plans |= {f"db{number}": Plan() for number in range(2, 100)}
    lines = plans_text(plans, PLAIN).splitlines()
    assert lines[0] == "web[1:200]   200 hosts, each 1 to create. No workload restarts."
    assert lines[-1] == "db[2:99]   98 hosts, no changes"
    assert len(lines) == 10
    assert sum("netns/blue" in line for line in lines) == 2
