"""Many hosts side by side: planned before one is touched, then changed batch by batch.

The pure parts decide: which hosts are a batch, whether what failed in one stops the rest, what is left to do for
the next run. ``observe_fleet`` and ``roll_out`` do, in threads, one to a host. Prints nothing, asks nobody: what
is between batches is handed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from provisioner.engine.apply import apply_plan, is_settled, observe_and_plan, put_back, slimmed
from provisioner.engine.plan import NotOwnedError
from provisioner.errors import ConfigError, HostError, NsprovError, Problems, UnreachableError
from provisioner.model import Action

if TYPE_CHECKING:
    from provisioner.config.strategy import Share, Strategy
    from provisioner.engine.apply import ApplyResult, Observation, Watcher
    from provisioner.fleet.target import Target
    from provisioner.model import Desired, Plan

__all__ = [
    "Batch",
    "Fate",
    "Member",
    "Outcome",
    "Planned",
    "Spectator",
    "batches_of",
    "fate_of",
    "left_to_do",
    "observe_fleet",
    "one_line",
    "outcome_of",
    "reason_of",
    "roll_out",
    "settle",
    "side_by_side",
    "why_to_stop",
]

K = TypeVar("K")
V = TypeVar("V")


class Fate(StrEnum):
    """What became of a host in a rollout."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    PUT_BACK = "put back"
    NOT_TOUCHED = "not touched"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A host, what became of it, and why in one line."""

    host: str
    fate: Fate
    reason: str = ""
    result: ApplyResult | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.fate in (Fate.APPLIED, Fate.UNCHANGED)


@dataclass(slots=True)
class Batch:
    """Hosts that are changed at once. ``stopped`` is why no batch came after it."""

    hosts: tuple[str, ...]
    is_canary: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(slots=True)
class Member:
    """A host that is going to be changed: what it is planned to be, and the lock that is held on it."""

    target: Target
    observed: Observation
    _held: ExitStack

    def let_go(self) -> None:
        """Give the lock back; of a host that is gone it went by itself."""
        try:
            self._held.close()
        except HostError:
            pass  # whose connection broke has nobody left who holds it


@dataclass(slots=True)
class Planned:
    """A fleet that was looked at. Nothing of it is touched."""

    plans: dict[str, Plan] = field(default_factory=dict)
    #: Those that an apply would change, by host; empty unless they are held for one.
    members: dict[str, Member] = field(default_factory=dict)
    #: Those that could not be planned, and why.
    lost: dict[str, NsprovError] = field(default_factory=dict)

    def let_go(self) -> None:
        for member in self.members.values():
            member.let_go()


class Spectator(Protocol):
    """Sees a rollout as it goes. Called from the thread that called ``roll_out``, but for ``watcher``'s."""

    def batch_begins(self, number: int, batch: Batch) -> None: ...

    def host_begins(self, host: str) -> None: ...

    def watcher(self, host: str, steps: int) -> Watcher | None: ...

    def host_done(self, outcome: Outcome) -> None: ...

    def tick(self) -> None: ...

    def batch_ends(self, number: int, batch: Batch) -> None: ...


# -- pure: decides --------------------------------------------------------------------------------


def batches_of(
    hosts: Sequence[str], serial: Sequence[Share] = (), canary: int | Iterable[str] | None = None
) -> list[Batch]:
    """The hosts in batches: the canary first, then by ``serial``, whose last entry is repeated, as in Ansible.

    A percentage is of all the hosts, the canary included.
    """
    left = list(hosts)
    made: list[Batch] = []
    if canary is not None:
        first = left[:canary] if isinstance(canary, int) else [host for host in left if host in set(canary)]
        chosen = set(first)
        left = [host for host in left if host not in chosen]
        if first:
            made.append(Batch(tuple(first), is_canary=True))
    total = len(hosts)
    sizes = [share.of(total) for share in serial] or [max(1, len(left))]
    turn = 0
    while left:
        size = sizes[min(turn, len(sizes) - 1)]
        made.append(Batch(tuple(left[:size])))
        left = left[size:]
        turn += 1
    return made


def why_to_stop(
    strategy: Strategy, size: int, failed: int, unproved: int = 0, *, is_canary: bool = False
) -> str | None:
    """Why a batch of this size, of which this many failed and this many do not verify, ends the rollout; or None.

    As in Ansible, the percentage must be exceeded, not reached; and a batch that failed whole is the last.
    """
    bad = failed + unproved
    if not bad:
        return None
    if strategy.any_errors_fatal:
        return "any_errors_fatal is set"
    if is_canary:
        return "a canary failed"
    limit = strategy.max_fail_percentage
    if limit is not None and bad * 100 > limit * size:
        return f"{bad * 100 / size:.3g} % of the batch failed, and max_fail_percentage is {limit:g}"
    if limit is None and unproved and strategy.staged:
        return "the batch does not verify"
    if bad >= size and strategy.staged:
        return "every host of the batch failed"
    return None


def left_to_do(before: Iterable[str], outcomes: Iterable[Outcome], known: Iterable[str]) -> list[str]:
    """The hosts of a retry file after a run: those of before that this run did not finish, and what it left undone.

    In the order of the inventory, without hosts that it no longer has.
    """
    seen = {outcome.host: outcome.ok for outcome in outcomes}
    left = {host for host in before if host not in seen} | {host for host, ok in seen.items() if not ok}
    return [host for host in known if host in left]


def reason_of(result: ApplyResult) -> str:
    """Why an apply failed, in one line, and what became of the host."""
    verbs = {Action.CREATE: "creating", Action.UPDATE: "changing", Action.DELETE: "deleting"}
    if result.unreachable:
        return f"{one_line(result.error)}; {result.known}, the next apply goes on from there"
    if result.failure is not None:
        step = result.failure.step
        told = f"{verbs.get(step.action, step.action.value)} {step.address}: {one_line(result.failure.error)}"
    else:
        told = one_line(result.error) if result.error else "interrupted"
    if result.not_put_back is None:
        return f"{told}; {len(result.done)} steps were left as they are" if result.done else told
    if not result.not_put_back:
        return f"{told}; it was put back"
    return f"{told}; NOT put back: {', '.join(str(one.step.address) for one in result.not_put_back)}"


def one_line(text: object) -> str:
    """The first line of a message, and for a message alone what would be right."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return " - ".join(lines[:2])


# -- does -----------------------------------------------------------------------------------------


def side_by_side(
    work: Callable[[K], V],
    keys: Iterable[K],
    forks: int,
    *,
    begins: Callable[[K], object] = lambda _: None,
    tick: Callable[[], object] = lambda: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[K, V | NsprovError]]:
    """Do something for each key, ``forks`` at once; the results as they come, an error of ours as a result.

    Where there is one key alone it is done in this thread. What has not begun when ``go_on`` says no is left out.
    A defect is raised once what runs has ended: other hosts are not left in the middle of a step for it.
    A key is handed to a thread only when one is free, so that nothing waits in a queue that Ctrl-C would have to
    empty; ``begins`` and ``tick`` (several times a second) are called in this thread.
    """
    waiting = list(keys)
    if len(waiting) == 1 or forks == 1:
        for key in waiting:
            if go_on():
                begins(key)
                yield key, _attempt(work, key)
        return
    waiting.reverse()
    defect: Exception | None = None
    running: dict[Future[V | NsprovError], K] = {}
    pool = ThreadPoolExecutor(max_workers=max(1, min(forks, len(waiting))), thread_name_prefix="nsprov-host")
    try:
        while waiting or running:
            while waiting and len(running) < forks and go_on():
                key = waiting.pop()
                begins(key)
                running[pool.submit(_attempt, work, key)] = key
            if not running:
                break
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            tick()
            for one in done:
                key = running.pop(one)
                try:
                    result = one.result()
                except Exception as error:
                    defect = defect or error
                    waiting.clear()
                    continue
                yield key, result
        if defect is not None:
            raise defect
    finally:
        # After Ctrl-C nobody waits for hosts that hang: closing their connections ends them.
        pool.shutdown(wait=not running, cancel_futures=True)


def _attempt(work: Callable[[K], V], key: K) -> V | NsprovError:
    try:
        return work(key)
    except NsprovError as error:
        return error


def observe_fleet(
    targets: Mapping[str, Target],
    desired: Mapping[str, Desired],
    project_of: Callable[[str], str],
    *,
    forks: int,
    adopt: bool = False,
    reason_for_delete: str | None = None,
    hold: bool = False,
    seen: Callable[[], object] = lambda: None,
) -> Planned:
    """A plan for every host, before one is touched. With ``hold`` each host that would change is locked.
    ``seen`` is called after each host.

    Raises ConfigError and NotOwnedError with what is wrong on all hosts together. A host that another apply holds,
    or that cannot be looked at, is among the lost.
    """
    made = Planned()
    projects = {name: project_of(name) for name in targets}

    def look(name: str) -> tuple[Plan, Member | None]:
        target = targets[name]
        with ExitStack() as stack:
            if hold:
                stack.enter_context(target.lock())
            observed = observe_and_plan(
                target, desired[name], projects[name], adopt=adopt, reason_for_delete=reason_for_delete
            )
            if not hold or is_settled(observed):
                return observed.plan, None
            return observed.plan, Member(target, slimmed(observed), stack.pop_all())

    problems = Problems()
    foreign: dict[str, NotOwnedError] = {}
    try:
        for name, found in side_by_side(look, targets, forks):
            seen()
            if isinstance(found, ConfigError):
                problems.extend(found)
            elif isinstance(found, NotOwnedError):
                foreign[name] = found
            elif isinstance(found, NsprovError):
                made.lost[name] = found
            else:
                made.plans[name] = found[0]
                if found[1] is not None:
                    made.members[name] = found[1]
        problems.raise_if_any()
        if foreign:
            lines = [f"{name}: {line}" for name in targets if name in foreign for line in _lines(foreign[name])]
            raise NotOwnedError("\n".join(lines), hint=next(iter(foreign.values())).hint)
    except BaseException:
        made.let_go()
        raise
    for part in (made.plans, made.members, made.lost):
        _sort_as(part, targets)
    return made


def _lines(error: NsprovError) -> list[str]:
    return error.message.splitlines()


def _sort_as(part: dict[str, Any], order: Iterable[str]) -> None:
    """Put a dictionary into the order of the inventory: hosts answer in any."""
    kept = dict(part)
    part.clear()
    part.update({name: kept[name] for name in order if name in kept})


def roll_out(
    batches: Sequence[Batch],
    members: dict[str, Member],
    strategy: Strategy,
    spectator: Spectator,
    *,
    keep_partial: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
    unproved: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    go_on: Callable[[Batch], bool] = lambda _: True,
) -> list[Batch]:
    """Change the hosts batch by batch, until all are done or a batch stops the rest.

    ``unproved`` verifies hosts, and says of each that does not hold what does not; ``go_on`` is asked after a
    canary. ``members`` are let go of when their batch is done. The batches are the ones given, with their outcomes.
    """
    stopped = False
    for number, batch in enumerate(batches, 1):
        if stopped or interrupted():
            stopped = True
            reason = "the run was interrupted" if interrupted() else ""
            batch.outcomes = {host: Outcome(host, Fate.NOT_TOUCHED, reason) for host in batch.hosts}
            for host in batch.hosts:
                members.pop(host).let_go()
            continue
        spectator.batch_begins(number, batch)
        _Round(batch, members, strategy, spectator, keep_partial, interrupted, unproved).run()
        for host in batch.hosts:
            members.pop(host).let_go()
        _sort_as(batch.outcomes, batch.hosts)
        spectator.batch_ends(number, batch)
        stopped = batch.stopped is not None
        if batch.is_canary and not stopped and not interrupted() and number < len(batches) and not go_on(batch):
            batch.stopped = "it was not to go on after the canary"
            stopped = True
    return list(batches)


def settle(members: Mapping[str, Member], forks: int) -> list[Outcome]:
    """Bring the manifests of hosts that need no change up to date. The outcomes of those where that failed."""

    def write(host: str) -> str:
        return reason_of(result) if not (result := apply_plan(members[host].target, members[host].observed)).ok else ""

    failed = []
    for host, found in side_by_side(write, members, forks):
        members[host].let_go()
        if isinstance(found, NsprovError):
            failed.append(Outcome(host, fate_of(found), one_line(found)))
        elif found:
            failed.append(Outcome(host, Fate.FAILED, found))
    return failed


@dataclass(slots=True)
class _Round:
    """One batch being done."""

    batch: Batch
    members: Mapping[str, Member]
    strategy: Strategy
    spectator: Spectator
    keep_partial: bool
    interrupted: Callable[[], bool]
    unproved: Callable[[Sequence[str]], Mapping[str, str]] | None
    #: Set as soon as too many have failed: hosts in hand finish their step and are put back, the others never begin.
    halted: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self._apply()
        unproved = self._prove()
        failed = self._count() - len(unproved)
        stop = self._why(failed, len(unproved))
        if stop is None or self.interrupted():
            return
        self.batch.stopped = stop
        if not self.keep_partial:
            self._put_back([*self._applied(), *unproved], stop)

    def _applied(self) -> list[str]:
        return [host for host, outcome in self.batch.outcomes.items() if outcome.fate is Fate.APPLIED]

    def _count(self) -> int:
        return sum(outcome.fate in (Fate.FAILED, Fate.UNREACHABLE) for outcome in self.batch.outcomes.values())

    def _why(self, failed: int, unproved: int = 0) -> str | None:
        return why_to_stop(self.strategy, len(self.batch.hosts), failed, unproved, is_canary=self.batch.is_canary)

    def _goes_on(self) -> bool:
        return not self.interrupted() and not self.halted.is_set()

    def _apply(self) -> None:
        doing = side_by_side(
            self._apply_one,
            self.batch.hosts,
            self.strategy.forks,
            begins=self.spectator.host_begins,
            tick=self.spectator.tick,
            go_on=self._goes_on,
        )
        for host, found in doing:
            outcome = Outcome(host, fate_of(found), one_line(found)) if isinstance(found, NsprovError) else found
            self.batch.outcomes[host] = outcome
            self.spectator.host_done(outcome)
            if not self.keep_partial and self._why(self._count()):
                self.halted.set()
        for host in self.batch.hosts:
            if host not in self.batch.outcomes:
                reason = "the run was interrupted" if self.interrupted() else "too many of its batch failed"
                self.batch.outcomes[host] = Outcome(host, Fate.NOT_TOUCHED, reason)

    def _apply_one(self, host: str) -> Outcome:
        member = self.members[host]
        began = time.monotonic()
        result = apply_plan(
            member.target,
            member.observed,
            keep_partial=self.keep_partial,
            watcher=self.spectator.watcher(host, len(member.observed.plan.steps)),
            interrupted=lambda: self.interrupted() or self.halted.is_set(),
        )
        seconds = time.monotonic() - began
        if result.interrupted and result.not_put_back == [] and not self.interrupted():
            return Outcome(host, Fate.PUT_BACK, "too many of its batch failed", result, seconds)
        return outcome_of(host, result, seconds)

    def _prove(self) -> list[str]:
        """Verify what was applied. The hosts that do not hold count as failed."""
        applied = self._applied()
        if self.unproved is None or not applied or not self._goes_on():
            return []
        found = self.unproved(applied)
        for host, reason in found.items():
            was = self.batch.outcomes[host]
            self.batch.outcomes[host] = Outcome(host, Fate.FAILED, reason, was.result, was.seconds)
        return list(found)

    def _put_back(self, hosts: Sequence[str], why: str) -> None:
        def back(host: str) -> Outcome:
            was = self.batch.outcomes[host]
            result = was.result
            if result is None:
                raise AssertionError("what was applied has a result")
            member = self.members[host]
            put_back(member.target, member.observed, result)
            if result.unreachable:
                return Outcome(host, Fate.UNREACHABLE, f"{one_line(result.error)}; it was NOT put back", result)
            if result.error or result.not_put_back:
                left = ", ".join(str(one.step.address) for one in result.not_put_back or ())
                return Outcome(host, Fate.FAILED, f"NOT put back: {one_line(result.error) or left}", result)
            if was.fate is Fate.FAILED:
                return Outcome(host, Fate.FAILED, f"{was.reason}; it was put back", result, was.seconds)
            return Outcome(host, Fate.PUT_BACK, why, result, was.seconds)

        for host, found in side_by_side(back, hosts, self.strategy.forks, tick=self.spectator.tick):
            outcome = Outcome(host, fate_of(found), one_line(found)) if isinstance(found, NsprovError) else found
            self.batch.outcomes[host] = outcome
            self.spectator.host_done(outcome)


def fate_of(error: NsprovError) -> Fate:
    """What became of a host by its error: one that is not there is unreachable, one that refuses has failed."""
    return Fate.UNREACHABLE if isinstance(error, UnreachableError) else Fate.FAILED


def outcome_of(host: str, result: ApplyResult, seconds: float) -> Outcome:
    """What became of a host by the result of an apply."""
    if result.ok:
        return Outcome(host, Fate.APPLIED, "", result, seconds)
    fate = Fate.UNREACHABLE if result.unreachable else Fate.FAILED
    return Outcome(host, fate, reason_of(result), result, seconds)
