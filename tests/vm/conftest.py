"""Every test in this folder that asks for ``vm`` runs in a virtual machine of each release.

Both start together, before the first of these tests; the second is booting while the first one's tests run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.fleet import Fleet
from tests.vm.images import RELEASES
from tests.vm.machine import Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("vm")


#: The exit code of a run in which a virtual machine hung: its emulator's fault, and worth a second try.
HUNG = 12


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """The machines, by their names."""
    started = Fleet(tmp_path_factory.mktemp("fleet") / "vm")
    machines: dict[str, Machine] = {}
    try:
        machines = {machine.name: machine for machine in started.start(RELEASES, outlives_us=False)}
        yield machines
    finally:
        started.stop()
        request.config.stash[_HANGING] = [name for name, machine in machines.items() if machine.last_state]


_HANGING = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash.get(_HANGING, []):
        session.exitstatus = HUNG


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name in config.stash.get(_HANGING, []):
        terminalreporter.write_line(f"the virtual machine {name} hung: what failed on it was not its tests' doing")


@pytest.fixture(scope="session", params=RELEASES)
def vm(request: pytest.FixtureRequest, fleet: dict[str, Machine]) -> Machine:
    machine = fleet[request.param]
    machine.wait_until_ready()
    return machine
