"""The scenarios of molecule, and the page that shows them to role authors, say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-roles.md").read_text(encoding="utf-8")
SCENARIOS = sorted(path.parent for path in ROOT.glob("molecule/*/molecule.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def on_the_page(path: str) -> str:
    block = re.search(rf"^```yaml\n# {re.escape(path)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block, path
    return block[1]


def test_there_is_a_scenario_of_virtual_machines_and_one_of_sandboxes() -> None:
    assert [path.name for path in SCENARIOS] == ["default", "sandbox"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_host_of_a_scenario_is_verified(scenario: Path) -> None:
    verified = loaded(scenario / "molecule.yml")["verifier"]["options"]["hosts"].split(",")
    there = loaded(scenario / "inventory.yml")["all"]["hosts"]
    assert [one.partition("://")[2] for one in verified] == list(there)


def test_sandboxes_and_virtual_machines_are_converged_in_the_same_way() -> None:
    first, *others = [(path / "converge.yml").read_text(encoding="utf-8") for path in SCENARIOS]
    assert others == [first]


@pytest.mark.parametrize("name", ["molecule", "create", "converge", "destroy"])
def test_the_page_for_role_authors_shows_the_files_of_the_sandbox_scenario(name: str) -> None:
    shown = re.sub(r"\bweb(\d)", r"molecule-\1", on_the_page(f"molecule/default/{name}.yml"))
    shipped = (ROOT / "molecule" / "sandbox" / f"{name}.yml").read_text(encoding="utf-8")
    # What a file of ours says of itself is not for the reader's.
    assert shown == re.sub(r"\A#.*\n", "", shipped)


def test_the_page_for_role_authors_reaches_virtual_machines_as_the_scenario_does() -> None:
    shown = yaml.safe_load(on_the_page("molecule/vm/inventory.yml"))
    assert shown["all"]["vars"].pop("nsprov_roles") == ["greeter"]
    assert shown == loaded(ROOT / "molecule" / "default" / "inventory.yml")
