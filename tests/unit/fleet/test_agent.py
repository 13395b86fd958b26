"""The agent's channel: what it tells while it works, what runs beside it, and what is known when it breaks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from provisioner.engine.apply import apply_plan, observe_and_plan
from provisioner.errors import HostError, NsprovError, UnreachableError
from provisioner.fleet.agent import AgentTarget, serve
from provisioner.fleet.rollout import reason_of
from provisioner.fleet.target import Output
from provisioner.model import Step, StepResult
from tests.unit.fleet.memory_host import MemoryHost, shall_have


class Line:
    """The near end of a channel in this process."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def broken(self, name: str) -> NsprovError:
        return UnreachableError(f"the agent on {name} has ended")

    def close(self) -> None:
        self.socket.close()


@contextmanager
def connected(host: MemoryHost, seconds: int | None = None) -> Iterator[tuple[AgentTarget, socket.socket]]:
    """An agent that serves a host in a thread; the target, and the far end, to be broken."""
    near, far = socket.socketpair()
    requests, answers = far.makefile("r"), far.makefile("w")

    def work() -> None:
        try:
            serve(requests, answers, host)
        except (OSError, ValueError):
            pass  # the line was broken

    serving = threading.Thread(target=work, daemon=True)
    serving.start()
    target = AgentTarget(host.name, Line(near), "ssh://web1", answer_seconds=seconds)
    try:
        yield target, far
    finally:
        target.close()
        far.shutdown(socket.SHUT_RDWR)
        serving.join(10)
        assert not serving.is_alive()


class Seen:
    """A watcher that tells others."""

    def __init__(self, then: Callable[[str, int], object] = lambda name, done: None) -> None:
        self.told: list[tuple[str, int]] = []
        self.then = then

    def step(self, step: Step, done: int) -> None:
        self.told.append((step.address.name, done))
        self.then(step.address.name, done)

    def rolling_back(self, steps: int) -> None:
        raise AssertionError("nothing is put back here")


def test_steps_are_told_while_the_next_are_under_way() -> None:
    """The host makes the last one only when the controller knows of the first."""
    known = threading.Event()

    def when(name: str) -> None:
        if name == "d":
            assert known.wait(20), "nothing was told before the end"

    host = MemoryHost("web1", when=when)
    with connected(host) as (target, _):
        observed = observe_and_plan(target, shall_have("a", "b", "c", "d"), "shop")
        seen = Seen(lambda name, done: known.set())
        result = apply_plan(target, observed, watcher=seen)
    assert result.ok
    assert seen.told == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert host.names == {"a", "b", "c", "d"}


def test_of_a_host_that_is_lost_in_the_middle_it_is_known_what_it_has_done() -> None:
    breaking: list[socket.socket] = []
    known = threading.Event()

    def when(name: str) -> None:
        if name == "d":
            assert known.wait(20), "nothing was told before the end"
            breaking[0].shutdown(socket.SHUT_RDWR)

    with connected(MemoryHost("web1", when=when)) as (target, far):
        breaking.append(far)
        observed = observe_and_plan(target, shall_have("a", "b", "c", "d"), "shop")
        result = apply_plan(target, observed, watcher=Seen(lambda name, done: known.set() if done == 3 else None))
        assert result.unreachable
        assert result.error == "the agent on web1 has ended"
        assert [step.address.name for step in result.done] == ["a", "b", "c"]
        assert result.known == "3 steps are known to be done"
        assert str(target.lost) == "the agent on web1 has ended"


def test_a_host_that_works_is_not_given_up_as_long_as_it_tells() -> None:
    """Its steps together take longer than an answer may, and each of them less."""
    host = MemoryHost("web1", when=lambda _: time.sleep(0.5))
    with connected(host, seconds=1) as (target, _):
        observed = observe_and_plan(target, shall_have("a", "b", "c", "d"), "shop")
        assert apply_plan(target, observed).ok


def test_of_a_host_that_is_lost_while_it_is_put_back_nothing_is_known_but_what_it_refused() -> None:
    done: list[str] = []
    host = MemoryHost("web1", refuses=["c"])
    with connected(host) as (target, far):

        def when(name: str) -> None:
            if name in done:  # the second time is when it is taken away again
                far.shutdown(socket.SHUT_RDWR)
            done.append(name)

        observed = observe_and_plan(target, shall_have("a", "b", "c"), "shop")
        host.when = when
        result = apply_plan(target, observed)
    assert result.unreachable
    assert reason_of(result) == (
        "creating netns/c: No space left on device; then the agent on web1 has ended; "
        "it was being put back, and how far that came is not known, the next apply goes on from there"
    )


class Slow(MemoryHost):
    """A host where one command waits for another."""

    def __init__(self) -> None:
        super().__init__("web1")
        self.quick_has_run = threading.Event()

    def run(self, command: str, seconds: float = 600) -> Output:
        if command == "slow":
            assert self.quick_has_run.wait(20), "the quick one did not run beside it"
        else:
            self.quick_has_run.set()
        return Output(0, command.encode(), b"\xff")


def test_commands_run_side_by_side_and_each_has_its_own_answer() -> None:
    answers: dict[str, Output] = {}
    with connected(Slow()) as (target, _):

        def run(command: str) -> None:
            answers[command] = target.run(command)

        threads = [threading.Thread(target=run, args=(one,)) for one in ("slow", *map(str, range(20)))]
        for one in threads:
            one.start()
        assert target.read_manifests() == {}
        for one in threads:
            one.join(20)
    assert answers == {one: Output(0, one.encode(), b"\xff") for one in ("slow", *map(str, range(20)))}


def waiting(target: AgentTarget, told: list[str]) -> threading.Thread:
    """A thread that waits for a command, and is told that there will be no answer."""

    def run() -> None:
        with pytest.raises(UnreachableError) as caught:
            target.run("slow")
        told.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_when_the_line_breaks_everybody_who_waits_is_told() -> None:
    told: list[str] = []
    with connected(Slow()) as (target, far):
        threads = [waiting(target, told) for _ in range(5)]
        time.sleep(0.2)
        far.shutdown(socket.SHUT_RDWR)
        for one in threads:
            one.join(20)
        with pytest.raises(UnreachableError):
            target.run("later")
    assert told == ["the agent on web1 has ended"] * 5


def test_results_are_told_once_each() -> None:
    seen: list[StepResult] = []
    host = MemoryHost("web1", refuses=["b"], when=lambda _: time.sleep(0.15))
    with connected(host) as (target, _):
        observed = observe_and_plan(target, shall_have("a", "b", "c"), "shop")
        results = target.carry_out(observed.plan.steps, seen.append)
    assert [(one.address.name, one.error is None) for one in results] == [("a", True), ("b", False), ("c", True)]
    assert seen == results


def test_hanging_up_waits_for_nobody() -> None:
    """As after Ctrl-C: a thread still waits for a host that hangs."""
    told: list[str] = []
    with connected(Slow()) as (target, _):
        waits = waiting(target, told)
        time.sleep(0.2)
        hanging_up = threading.Thread(target=target.close, daemon=True)
        hanging_up.start()
        hanging_up.join(5)
        assert not hanging_up.is_alive()
        waits.join(5)
    assert told == ["the agent on web1 has ended"]


def test_a_command_that_takes_longer_than_an_answer_may_fails_and_the_host_is_kept() -> None:
    given: list[float] = []

    class Patient(MemoryHost):
        def run(self, command: str, seconds: float = 600) -> Output:
            given.append(seconds)
            raise HostError(f"a command has not ended within {seconds:g} s")

    with connected(Patient("web1"), seconds=10) as (target, _):
        with pytest.raises(HostError, match="not ended within 9 s"):
            target.run("sleep 100")
        assert target.lost is None
        assert target.read_manifests() == {}
