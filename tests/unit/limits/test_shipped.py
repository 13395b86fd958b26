"""The limits of what ships fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from provisioner.cli import app

INVENTORIES = Path(__file__).parents[3] / "inventories"


@pytest.mark.parametrize("name", ["demo.yml", "lab.yml", "production"])
def test_a_shipped_inventory_is_valid_without_a_doubt(name: str) -> None:
    answer = CliRunner().invoke(app, ["validate", str(INVENTORIES / name)])
    assert answer.exit_code == 0, answer.output
    assert "  ! " not in answer.output


def test_a_doubt_is_told_and_the_configuration_is_valid_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text("all: {hosts: {here: }, vars: {nsprov_roles: [limited]}}\n")
    tasks = tmp_path / "roles" / "limited" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(
        "- slice: {name: a.slice, MemoryMax: 1G}\n- slice: {name: a-b.slice, MemoryMax: 2G}\n"
    )
    answer = CliRunner().invoke(app, ["validate", str(tmp_path / "inventory.yml")])
    assert answer.exit_code == 0, answer.output
    assert "main.yml:2:39: slice/a-b.slice: MemoryMax 2G is above MemoryMax 1G of slice/a.slice" in answer.output
    assert "at most MemoryMax: 1G here, or a higher MemoryMax of a.slice" in answer.output
    assert answer.output.endswith("the configuration is valid\n")
