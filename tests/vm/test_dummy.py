"""Dummy links, as ``tests/host`` has them, on a kernel that makes them for sure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.lab import Lab, lab_on
from tests.host.test_dummy import *  # noqa: F403
from tests.vm.machine import Machine


@pytest.fixture(scope="module")
def box(vm: Machine) -> Machine:
    """The host of these tests: a virtual machine in place of a sandbox."""
    return vm


@pytest.fixture
def lab(box: Machine) -> Iterator[Lab]:
    with lab_on(box) as lab:
        yield lab
