"""Which hosts are a batch, whether what failed stops those after it, and who is left for the next run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.config.strategy import Share, Strategy
from provisioner.fleet.rollout import Fate, Outcome, batches_of, left_to_do, why_to_stop

HOSTS = [f"web{number}" for number in range(1, 11)]


def sizes(*serial: Share, canary: int | None = None, hosts: int = 10) -> list[int]:
    return [len(batch.hosts) for batch in batches_of([f"h{n}" for n in range(hosts)], serial, canary)]


def test_without_serial_all_hosts_are_one_batch() -> None:
    assert sizes() == [10]
    assert sizes(hosts=0) == []


def test_serial_is_a_number_of_hosts_or_a_percentage_of_them_and_its_last_entry_is_repeated() -> None:
    assert sizes(Share(4)) == [4, 4, 2]
    assert sizes(Share(30, percent=True)) == [3, 3, 3, 1]
    assert sizes(Share(1), Share(10, percent=True), Share(50, percent=True)) == [1, 1, 5, 3]
    assert sizes(Share(1), Share(100)) == [1, 9]


def test_a_percentage_of_few_hosts_is_at_least_one_and_is_cut_to_whole_hosts() -> None:
    assert sizes(Share(1, percent=True), hosts=3) == [1, 1, 1]
    assert sizes(Share(50, percent=True), hosts=5) == [2, 2, 1]


def test_the_canary_comes_first_and_what_is_left_goes_by_serial() -> None:
    batches = batches_of(HOSTS, [Share(5)], 1)
    assert [batch.hosts for batch in batches] == [("web1",), tuple(HOSTS[1:6]), tuple(HOSTS[6:])]
    assert [batch.is_canary for batch in batches] == [True, False, False]


def test_canaries_that_are_named_come_first_wherever_they_stand() -> None:
    batches = batches_of(HOSTS, (), ["web9", "web3", "elsewhere"])
    assert [batch.hosts for batch in batches] == [
        ("web3", "web9"),
        tuple(h for h in HOSTS if h not in ("web3", "web9")),
    ]


def test_a_canary_that_needs_no_change_is_no_batch() -> None:
    assert [batch.is_canary for batch in batches_of(HOSTS, (), ["elsewhere"])] == [False]


shares = st.one_of(
    st.integers(1, 40).map(Share), st.floats(0.1, 100, allow_nan=False).map(lambda number: Share(number, percent=True))
)


@given(st.integers(0, 60), st.lists(shares, max_size=4), st.none() | st.integers(1, 70))
def test_each_host_is_in_exactly_one_batch_and_in_order(count: int, serial: list[Share], canary: int | None) -> None:
    hosts = [f"h{number}" for number in range(count)]
    batches = batches_of(hosts, serial, canary)
    assert [host for batch in batches for host in batch.hosts] == hosts
    assert all(batch.hosts for batch in batches)
    assert not any(batch.is_canary for batch in batches[1:])


@given(st.integers(1, 60), st.lists(shares, min_size=1, max_size=4))
def test_no_batch_is_larger_than_serial_allows(count: int, serial: list[Share]) -> None:
    batches = batches_of([f"h{number}" for number in range(count)], serial)
    for number, batch in enumerate(batches):
        assert len(batch.hosts) <= serial[min(number, len(serial) - 1)].of(count)


STAGED = Strategy(serial=(Share(10),))


def test_in_one_batch_a_host_that_fails_leaves_the_others_alone() -> None:
    assert why_to_stop(Strategy(), 10, 9) is None
    assert why_to_stop(Strategy(), 1, 1) is None


def test_the_percentage_must_be_exceeded_and_not_reached() -> None:
    strategy = Strategy(serial=(Share(10),), max_fail_percentage=20)
    assert why_to_stop(strategy, 10, 2) is None
    assert why_to_stop(strategy, 10, 3) == "30 % of the batch failed, and max_fail_percentage is 20"
    assert why_to_stop(Strategy(max_fail_percentage=0), 10, 1)


def test_a_batch_of_which_every_host_failed_is_the_last() -> None:
    assert why_to_stop(STAGED, 3, 3) == "every host of the batch failed"
    assert why_to_stop(STAGED, 3, 2) is None


def test_any_error_is_fatal_where_that_is_set_and_in_a_canary() -> None:
    assert why_to_stop(Strategy(any_errors_fatal=True), 10, 1) == "any_errors_fatal is set"
    assert why_to_stop(Strategy(canary=5, max_fail_percentage=50), 5, 1, is_canary=True) == "a canary failed"
    assert why_to_stop(Strategy(any_errors_fatal=True), 10, 0) is None


def test_a_batch_that_does_not_verify_stops_the_rest_unless_a_percentage_allows_it() -> None:
    assert why_to_stop(STAGED, 10, 0, 1) == "the batch does not verify"
    assert why_to_stop(Strategy(serial=(Share(10),), max_fail_percentage=20), 10, 0, 2) is None
    assert why_to_stop(Strategy(serial=(Share(10),), max_fail_percentage=20), 10, 1, 2)
    assert why_to_stop(Strategy(), 10, 0, 10) is None


@given(st.integers(1, 50), st.data())
def test_what_stops_a_rollout_stops_it_with_more_failures_too(size: int, data: st.DataObject) -> None:
    strategy = Strategy(
        serial=data.draw(st.sampled_from([(), (Share(1),)])),
        max_fail_percentage=data.draw(st.none() | st.floats(0, 100)),
        any_errors_fatal=data.draw(st.booleans()),
    )
    failed = data.draw(st.integers(0, size))
    if why_to_stop(strategy, size, failed):
        assert all(why_to_stop(strategy, size, more) for more in range(failed, size + 1))


def test_the_retry_file_has_what_failed_was_unreachable_was_put_back_or_was_not_touched() -> None:
    fates = [Fate.APPLIED, Fate.UNCHANGED, Fate.FAILED, Fate.UNREACHABLE, Fate.PUT_BACK, Fate.NOT_TOUCHED]
    outcomes = [Outcome(host, fate) for host, fate in zip(HOSTS, fates, strict=False)]
    assert left_to_do([], outcomes, HOSTS) == ["web3", "web4", "web5", "web6"]


def test_a_run_over_a_part_of_the_retry_file_leaves_the_rest_in_it() -> None:
    outcomes = [Outcome("web2", Fate.APPLIED), Outcome("web1", Fate.FAILED)]
    assert left_to_do(["web9", "web2"], outcomes, HOSTS) == ["web1", "web9"]
    assert left_to_do(["web2"], outcomes[:1], HOSTS) == []
    assert left_to_do(["no-longer-there"], [], HOSTS) == []


@pytest.mark.parametrize(("share", "text"), [(Share(5), "5"), (Share(10, True), "10%"), (Share(2.5, True), "2.5%")])
def test_a_share_reads_as_it_is_written(share: Share, text: str) -> None:
    assert str(share) == text
