"""Isolation on real machines, by both systemds: the heart of ``tests/host/isolation_cases.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host import isolation_cases as on_a_host
from tests.host.lab import Lab, lab_on
from tests.vm.machine import Machine


@pytest.fixture
def lab(vm: Machine) -> Iterator[Lab]:
    with lab_on(vm) as lab:
        yield lab


test_a_kind_alone_is_apart_and_no_other = on_a_host.test_a_kind_alone_is_apart_and_no_other
test_the_host_sees_the_process_and_the_process_not_the_host = (
    on_a_host.test_the_host_sees_the_process_and_the_process_not_the_host
)
test_its_clocks_are_ahead = on_a_host.test_its_clocks_are_ahead
test_all_eight_and_the_strict_profile = on_a_host.test_all_eight_and_the_strict_profile
test_root_inside_rules_its_own_network = on_a_host.test_root_inside_rules_its_own_network
test_what_is_killed_comes_up_isolated_again_also_after_a_reload = (
    on_a_host.test_what_is_killed_comes_up_isolated_again_also_after_a_reload
)
