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


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """The machines, by their names."""
    started = Fleet(tmp_path_factory.mktemp("fleet") / "vm")
    try:
        yield {machine.name: machine for machine in started.start(RELEASES, outlives_us=False)}
    finally:
        started.stop()


@pytest.fixture(scope="session", params=RELEASES)
def vm(request: pytest.FixtureRequest, fleet: dict[str, Machine]) -> Machine:
    machine = fleet[request.param]
    machine.wait_until_ready()
    return machine
