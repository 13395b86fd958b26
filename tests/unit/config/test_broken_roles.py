"""Broken roles: each problem is found at its line and column, all of them at once (``tests/broken/``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.config.build import build_desired
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError
from tests.broken.cases import cases, check, sources_of

FACTS = {"kernel": "6.1.0"}


@pytest.mark.parametrize("case", cases("roles"), ids=lambda case: case.name)
def test_each_problem_is_found_where_it_is_and_no_other(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    monkeypatch.delenv("NSPROV_ROLES_PATH", raising=False)
    inventory = load_inventory(sources_of(case))
    (host,) = inventory.select()
    with pytest.raises(ConfigError) as caught:
        build_desired(inventory, host, FACTS)
    check(case, caught.value.problems)
    assert "Traceback" not in str(caught.value)


def test_there_are_at_least_forty_broken_roles() -> None:
    assert len(cases("roles")) >= 40
