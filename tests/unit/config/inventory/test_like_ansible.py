"""nsprov and ansible-inventory, side by side, on inventories of every shape (``tests/inventories/``)."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.config.inventory import Inventory, load_inventory, output
from tests.unit.config.inventory import ansible_answers

FOLDER = Path(__file__).parents[3] / "inventories"
SHIPPED = Path(__file__).parents[4] / "inventories"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def _fingerprint() -> str:
    """Changes with any inventory, the questions, or Ansible itself."""
    digest = hashlib.sha256(importlib.metadata.version("ansible-core").encode())
    for path in [Path(ansible_answers.__file__), *sorted(FOLDER.rglob("*")), *sorted(SHIPPED.rglob("*"))]:
        digest.update(f"{path}{path.readlink() if path.is_symlink() else ''}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def ansible(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """ansible-inventory's answers. Asked once, whatever the number of workers, and kept while nothing changes."""
    kept: Path = pytestconfig.cache.mkdir("ansible-inventory")  # type: ignore[union-attr]
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answers = kept / f"{_fingerprint()}.json"
        if not answers.exists():
            environ = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
            asked = subprocess.run(
                [sys.executable, ansible_answers.__file__, str(FOLDER)],
                env={**environ, "HOME": str(tmp_path_factory.mktemp("home"))},
                cwd=FOLDER,
                capture_output=True,
                text=True,
            )
            assert asked.returncode == 0, asked.stderr
            for old in kept.glob("*.json"):
                old.unlink()
            answers.write_text(asked.stdout)
        found: dict[str, dict[str, str]] = json.loads(answers.read_text())
    return found


def _answer(inventory: Inventory, question: str) -> str:
    export = question.endswith("export")
    hosts = dict.fromkeys(inventory.select())
    if question.startswith("host "):
        return output.to_json(output.host_data(inventory, question.removeprefix("host "))) + "\n"
    if question.startswith("graph"):
        return output.graph_text(inventory, with_vars=question.endswith("vars")) + "\n"
    if question.startswith("yaml"):
        return output.to_yaml(output.list_tree(inventory, hosts, export=export)) + "\n"
    return output.to_json(output.list_data(inventory, hosts, export=export)) + "\n"


def test_there_are_at_least_forty_inventories() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES)
def test_prints_what_ansible_inventory_prints(
    case: str, ansible: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER / case)
    inventory = load_inventory(ansible_answers.sources_of(FOLDER / case))
    for question, expected in ansible[case].items():
        answer = _answer(inventory, question)
        if "&id001" in expected:  # Ansible writes a mapping that stands twice as an alias; we write it twice
            answer, expected = yaml.safe_load(answer), yaml.safe_load(expected)
        assert answer == expected, question
