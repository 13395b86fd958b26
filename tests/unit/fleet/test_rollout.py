"""A rollout over hosts that refuse, hang, are locked or gone: what becomes of them, and of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from provisioner.config.strategy import Share, Strategy
from provisioner.engine.apply import Watcher
from provisioner.errors import ConfigError, LockedError, NsprovError, UnreachableError
from provisioner.fleet.rollout import (
    Batch,
    Fate,
    Outcome,
    Planned,
    batches_of,
    observe_fleet,
    roll_out,
    settle,
    side_by_side,
)
from provisioner.model import Desired, Scope, Snapshot
from tests.unit.fleet.memory_host import MemoryHost, shall_have


@dataclass
class Seen:
    """A spectator that remembers."""

    begun: list[str] = field(default_factory=list)
    done: list[Outcome] = field(default_factory=list)
    when_done: Callable[[Outcome], object] = lambda _: None

    def batch_begins(self, number: int, batch: Batch) -> None:
        self.begun.append(f"batch {number}")

    def host_begins(self, host: str) -> None:
        self.begun.append(host)

    def watcher(self, host: str, steps: int) -> Watcher | None:
        return None

    def host_done(self, outcome: Outcome) -> None:
        self.done.append(outcome)
        self.when_done(outcome)

    def tick(self) -> None:
        pass

    def batch_ends(self, number: int, batch: Batch) -> None:
        pass


def planned(hosts: Sequence[MemoryHost], desired: Desired | None = None, forks: int = 3) -> Planned:
    targets = {host.name: host for host in hosts}
    shall = {name: desired or shall_have("blue", "green") for name in targets}
    return observe_fleet(targets, shall, lambda _: "default", forks=forks, hold=True)


def rolled(
    hosts: Sequence[MemoryHost],
    strategy: Strategy | None = None,
    *,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
    unproved: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    go_on: Callable[[Batch], bool] = lambda _: True,
    seen: Seen | None = None,
) -> dict[str, Fate]:
    strategy = strategy or Strategy(forks=3)
    plan = planned(hosts)
    canary = strategy.canary if isinstance(strategy.canary, int) else None
    batches = roll_out(
        batches_of(list(plan.members), strategy.serial, canary),
        plan.members,
        strategy,
        seen or Seen(),
        keep_partial=keep_partial,
        interrupted=interrupted,
        unproved=unproved,
        go_on=go_on,
    )
    assert not plan.members
    assert not any(host.held for host in hosts)
    return {host: outcome.fate for batch in batches for host, outcome in batch.outcomes.items()}


def fleet(count: int, **bad: MemoryHost) -> list[MemoryHost]:
    return [bad.get(f"h{number}", MemoryHost(f"h{number}")) for number in range(1, count + 1)]


BOTH = {"blue", "green"}


def test_a_host_that_refuses_is_put_back_and_leaves_the_others_alone() -> None:
    hosts = fleet(4, h2=MemoryHost("h2", refuses=["green"]))
    assert rolled(hosts) == {"h1": Fate.APPLIED, "h2": Fate.FAILED, "h3": Fate.APPLIED, "h4": Fate.APPLIED}
    assert [host.names for host in hosts] == [BOTH, set(), BOTH, BOTH]


def test_a_host_that_is_lost_in_the_middle_is_unreachable_and_the_others_finish() -> None:
    lost = MemoryHost("h2")
    lost.when = lambda name: setattr(lost, "gone", True)
    seen = Seen()
    fates = rolled(fleet(3, h2=lost), seen=seen)
    assert fates == {"h1": Fate.APPLIED, "h2": Fate.UNREACHABLE, "h3": Fate.APPLIED}
    told = next(one for one in seen.done if one.host == "h2")
    assert told.reason == (
        "the connection to h2 broke: No route to host; how far it came is not known, the next apply goes on from there"
    )
    lost.gone, lost.when = False, lambda _: None
    assert rolled(fleet(3, h2=lost))["h2"] is Fate.APPLIED
    assert lost.names == BOTH


def test_hosts_are_planned_side_by_side_before_one_is_touched() -> None:
    together = threading.Barrier(3, timeout=10)

    class Slow(MemoryHost):
        def read_manifests(self) -> Mapping[str, str]:
            together.wait()
            return super().read_manifests()

    hosts = [Slow(f"h{number}") for number in range(1, 4)]
    assert list(planned(hosts).plans) == ["h1", "h2", "h3"]
    assert not any(host.names for host in hosts)


def test_a_host_that_is_gone_or_held_by_another_apply_is_lost_and_the_others_are_planned() -> None:
    hosts = fleet(4, h1=MemoryHost("h1", gone=True), h3=MemoryHost("h3", locked=True))
    found = planned(hosts)
    assert list(found.plans) == ["h2", "h4"]
    assert {name: type(error) for name, error in found.lost.items()} == {"h1": UnreachableError, "h3": LockedError}
    found.let_go()
    assert not any(host.held for host in hosts)


def test_a_mistake_in_the_configuration_of_one_host_stops_all_and_leaves_no_lock() -> None:
    class Wrong(MemoryHost):
        def observe(self, scope: Scope) -> Snapshot:
            raise ConfigError(f"{self.name} has no such disk")

    hosts = [MemoryHost("h1"), Wrong("h2"), Wrong("h3")]
    with pytest.raises(ConfigError) as raised:
        planned(hosts)
    assert {problem.message for problem in raised.value.problems} == {"h2 has no such disk", "h3 has no such disk"}
    assert not any(host.held for host in hosts)


def test_a_host_that_has_all_is_held_no_longer_than_it_is_looked_at() -> None:
    host = MemoryHost("h1")
    rolled([host])
    found = planned([host])
    assert not found.members
    assert not host.held


def test_a_host_whose_manifest_alone_is_out_of_date_is_brought_up_to_date_without_a_step() -> None:
    host = MemoryHost("h1")
    rolled([host])
    text = host.manifests["default"]
    host.manifests["default"] = text.replace('"source": ""', '"source": "old.yml:1:1"')
    found = planned([host])
    assert list(found.members) == ["h1"]
    assert settle(found.members, 3) == []
    assert host.manifests["default"] == text
    assert not host.held


def test_a_batch_in_which_too_many_fail_is_put_back_and_those_after_it_are_not_touched() -> None:
    hosts = fleet(7, h2=MemoryHost("h2", refuses=["blue"]), h3=MemoryHost("h3", refuses=["green"]))
    fates = rolled(hosts, Strategy(serial=(Share(1), Share(3)), max_fail_percentage=50, forks=1))
    assert fates == {
        "h1": Fate.APPLIED,
        "h2": Fate.FAILED,
        "h3": Fate.FAILED,
        "h4": Fate.NOT_TOUCHED,
        "h5": Fate.NOT_TOUCHED,
        "h6": Fate.NOT_TOUCHED,
        "h7": Fate.NOT_TOUCHED,
    }
    assert [host.names for host in hosts] == [BOTH, *[set()] * 6]


def test_what_was_applied_in_a_failed_batch_is_put_back_to_what_it_was() -> None:
    hosts = [MemoryHost("h1", "other"), MemoryHost("h2", refuses=["green"])]
    fates = rolled(hosts, Strategy(any_errors_fatal=True, forks=1))
    assert fates == {"h1": Fate.PUT_BACK, "h2": Fate.FAILED}
    assert hosts[0].names == {"other"}
    assert "default" not in hosts[0].manifests


def test_what_was_deleted_and_made_in_a_failed_batch_is_as_it_was() -> None:
    hosts = [MemoryHost("h1"), MemoryHost("h2", refuses=["green"])]
    before = planned([hosts[0]], shall_have("old"))
    roll_out(batches_of(["h1"]), before.members, Strategy(), Seen())
    manifest = dict(hosts[0].manifests)
    assert rolled(hosts, Strategy(any_errors_fatal=True, forks=1)) == {"h1": Fate.PUT_BACK, "h2": Fate.FAILED}
    assert hosts[0].names == {"old"}
    assert hosts[0].manifests == manifest


def test_interrupted_within_a_batch_hosts_that_were_not_begun_are_not_touched() -> None:
    stop = threading.Event()
    hosts = fleet(6)
    seen = Seen(when_done=lambda outcome: stop.set())
    for host in hosts:
        host.when = lambda name: threading.Event().wait(0.05)
    fates = rolled(hosts, Strategy(forks=2), interrupted=stop.is_set, seen=seen)
    assert list(fates.values()).count(Fate.NOT_TOUCHED) == 4
    assert seen.begun == ["batch 1", "h1", "h2"]
    assert not any(host.names for host in hosts[2:])


def test_with_keep_partial_a_failed_batch_stays_as_it_is() -> None:
    hosts = [MemoryHost("h1"), MemoryHost("h2", refuses=["green"]), MemoryHost("h3")]
    fates = rolled(hosts, Strategy(serial=(Share(2),), any_errors_fatal=True, forks=1), keep_partial=True)
    assert fates == {"h1": Fate.APPLIED, "h2": Fate.FAILED, "h3": Fate.NOT_TOUCHED}
    assert hosts[0].names == BOTH
    assert hosts[1].names == {"blue"}


def test_hosts_in_hand_are_put_back_as_soon_as_too_many_of_their_batch_have_failed() -> None:
    failed = threading.Event()
    slow = MemoryHost("h2", when=lambda name: failed.wait(10))
    # h2 is held in its first step until h1 has failed.
    seen = Seen(when_done=lambda outcome: failed.set())
    hosts = [MemoryHost("h1", refuses=["blue", "green"]), slow]
    fates = rolled(hosts, Strategy(any_errors_fatal=True, forks=2), seen=seen)
    assert fates["h1"] is Fate.FAILED
    assert fates["h2"] is Fate.PUT_BACK
    assert slow.names == set()


def test_a_batch_that_does_not_verify_is_put_back_and_stops_the_rest() -> None:
    hosts = fleet(4)
    asked: list[list[str]] = []

    def unproved(names: Sequence[str]) -> Mapping[str, str]:
        asked.append(list(names))
        return {"h3": "1 fact of 2 does not hold"} if "h3" in names else {}

    fates = rolled(hosts, Strategy(serial=(Share(1), Share(1), Share(1)), verify=True, forks=1), unproved=unproved)
    assert asked == [["h1"], ["h2"], ["h3"]]
    assert fates == {"h1": Fate.APPLIED, "h2": Fate.APPLIED, "h3": Fate.FAILED, "h4": Fate.NOT_TOUCHED}
    assert hosts[2].names == set()


def test_in_a_run_of_one_batch_what_does_not_verify_is_told_and_stays() -> None:
    hosts = fleet(2)
    fates = rolled(hosts, Strategy(verify=True, forks=1), unproved=lambda names: {"h1": "1 fact does not hold"})
    assert fates == {"h1": Fate.FAILED, "h2": Fate.APPLIED}
    assert hosts[0].names == BOTH


def test_after_the_canary_somebody_is_asked_and_no_means_that_the_rest_is_not_touched() -> None:
    hosts = fleet(3)
    fates = rolled(hosts, Strategy(canary=1, forks=2), go_on=lambda batch: False)
    assert fates == {"h1": Fate.APPLIED, "h2": Fate.NOT_TOUCHED, "h3": Fate.NOT_TOUCHED}
    assert hosts[0].names == BOTH


def test_interrupted_between_batches_what_is_done_stays_and_the_rest_is_not_touched() -> None:
    stop = threading.Event()
    hosts = fleet(3)
    seen = Seen(when_done=lambda outcome: stop.set())
    fates = rolled(hosts, Strategy(serial=(Share(1),), forks=2), interrupted=stop.is_set, seen=seen)
    assert fates == {"h1": Fate.APPLIED, "h2": Fate.NOT_TOUCHED, "h3": Fate.NOT_TOUCHED}
    assert hosts[0].names == BOTH
    assert seen.begun == ["batch 1", "h1"]


def test_no_more_hosts_are_in_hand_than_forks_allow() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(_: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1

    names = [f"h{number}" for number in range(20)]
    assert sorted(name for name, _ in side_by_side(work, names, 4)) == sorted(names)
    assert most[0] == 4


def test_a_defect_on_one_host_is_raised_when_those_in_hand_have_ended() -> None:
    ended: list[str] = []
    begun = threading.Event()

    def work(name: str) -> None:
        if name == "bad":
            begun.wait(10)
            raise RuntimeError("a defect")
        begun.set()
        threading.Event().wait(0.3)
        ended.append(name)

    with pytest.raises(RuntimeError, match="a defect"):
        list(side_by_side(work, ["good", "bad", "later"], 2))
    assert ended == ["good"]


def test_one_host_alone_is_done_in_the_thread_that_asked() -> None:
    host = MemoryHost("h1")
    rolled([host])
    assert host.threads == {threading.get_ident()}


def test_an_error_of_ours_is_a_result_and_no_exception() -> None:
    def work(name: str) -> str:
        raise NsprovError(f"{name} said no")

    assert [str(found) for _, found in side_by_side(work, ["a", "b"], 2)] in (
        ["a said no", "b said no"],
        ["b said no", "a said no"],
    )
