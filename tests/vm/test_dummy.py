"""Dummy links on a kernel that has them for sure: the heart of ``tests/host/test_dummy.py``, in a virtual machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host import test_dummy as on_a_host
from tests.host.lab import Lab, lab_on
from tests.vm.machine import Machine

# The kernel's links are the same whatever systemd it is: one machine does.
pytestmark = pytest.mark.parametrize("vm", ["trixie"], indirect=True)


@pytest.fixture
def dummies(vm: Machine) -> Iterator[Lab]:
    with lab_on(vm) as lab:
        yield lab


test_it_holds_addresses = on_a_host.test_it_holds_addresses_and_routes_of_both_families_in_its_namespace
test_what_is_changed_is_put_back = on_a_host.test_a_change_that_is_followed_by_a_refused_step_is_put_back
test_it_leaves_nothing = on_a_host.test_one_on_the_host_and_one_in_a_namespace_come_and_go_and_leave_nothing
