"""Every test in this folder runs in one virtual machine, which is booted for the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.machine import Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("vm")


@pytest.fixture(scope="session")
def vm() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()
