"""The scenarios of molecule, and the page that shows them to role authors, say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent for path in ROOT.glob("molecule/*/molecule.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_is_a_scenario_of_virtual_machines_and_one_of_sandboxes() -> None:
    assert [path.name for path in SCENARIOS] == ["default", "sandbox"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_host_of_a_scenario_is_verified(scenario: Path) -> None:
    verified = loaded(scenario / "molecule.yml")["verifier"]["options"]["hosts"].split(",")
    there = loaded(scenario / "inventory.yml")["all"]["hosts"]
    assert [one.partition("://")[2] for one in verified] == list(there)


@pytest.mark.parametrize("name", ["molecule", "create", "converge", "destroy"])
def test_the_page_for_role_authors_shows_the_files_of_the_sandbox_scenario(name: str) -> None:
    page = (ROOT / "docs" / "testing-roles.md").read_text(encoding="utf-8")
    block = re.search(rf"^```yaml\n# molecule/default/{name}\.yml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block
    shown = re.sub(r"\bweb(\d)", r"molecule-\1", block[1])
    shipped = (ROOT / "molecule" / "sandbox" / f"{name}.yml").read_text(encoding="utf-8")
    # What a file of ours says of itself is not for the reader's.
    assert shown == re.sub(r"\A#.*\n", "", shipped)
