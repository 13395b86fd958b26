"""No attempt of the escape suite succeeds in an isolated workload on a machine of its own, and each does without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.escape.attempts import ATTEMPTS
from tests.escape.stage import Stage
from tests.vm.machine import Machine

_GUARD = [name for name, one in ATTEMPTS.items() if one.against == "guard"]


@pytest.fixture(scope="module")
def stage(vm: Machine) -> Iterator[Stage]:
    made = Stage(vm)
    made.set_up()
    yield made
    made.clear()


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_isolated_workload_does_not(stage: Stage, attempt: str) -> None:
    succeeded, said = stage.outcome("sealed", attempt)
    assert not succeeded, f"{ATTEMPTS[attempt].does} It got {said}"


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_workload_that_sees_only_what_is_named_does_not(stage: Stage, attempt: str) -> None:
    succeeded, said = stage.outcome("bare", attempt)
    assert not succeeded, f"{ATTEMPTS[attempt].does} It got {said}"


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_workload_without_that_isolation_does(stage: Stage, attempt: str) -> None:
    succeeded, said = stage.outcome(ATTEMPTS[attempt].proof, attempt)
    assert succeeded, said


@pytest.mark.parametrize("attempt", _GUARD)
def test_root_of_a_guarded_tenant_does_not(stage: Stage, attempt: str) -> None:
    """Whoever writes frames by hand, which no isolated workload can, is stopped at the bridge."""
    succeeded, said = stage.outcome("root", attempt)
    assert not succeeded, f"{ATTEMPTS[attempt].does} It got {said}"
