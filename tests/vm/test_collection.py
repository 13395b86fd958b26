"""ansible-playbook with the collection applies to a virtual machine by ssh: in check mode, really, and once only."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.vm.images import CHECKOUT
from tests.vm.machine import Machine

BIN = Path(sys.executable).parent
TASKS = """\
- netns: {name: play}
- veth: {name: v-play, peer: {netns: play, name: eth0, addresses: [10.9.0.2/24]}, addresses: [10.9.0.1/24]}
- slice: {name: play.slice, MemoryMax: 64M}
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, installed as a user installs it."""
    folder = tmp_path_factory.mktemp("collections")
    subprocess.run([CHECKOUT / "scripts" / "collection", "build", folder], check=True, capture_output=True)
    (tarball,) = folder.glob("nsprov-core-*.tar.gz")
    install = [BIN / "ansible-galaxy", "collection", "install", "--offline", "-p", folder, tarball]
    subprocess.run(install, check=True, capture_output=True)
    return folder


def play(folder: Path, collections: Path, vm: Machine, *words: str, state: str = "present") -> dict[str, Any]:
    """The result of nsprov.core.apply on the machine."""
    config = vm.ssh[vm.ssh.index("-F") + 1]
    host = {"ansible_ssh_common_args": shlex.join(["-F", config]), "nsprov_roles": ["play"]}
    (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": {vm.name: host}}}))
    (folder / "roles/play/tasks").mkdir(parents=True, exist_ok=True)
    (folder / "roles/play/tasks/main.yml").write_text(TASKS)
    apply = {"nsprov.core.apply": {"project": "play", "state": state}}
    (folder / "site.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [apply]}]))
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.tree"}
    environment |= {"ANSIBLE_CALLBACK_TREE_DIR": str(folder / "said")}
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", "inventory.yml", "site.yml", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads((folder / "said" / vm.name).read_text())
    return said


def test_a_playbook_applies_to_a_machine_in_check_mode_then_really_then_with_nothing_to_change(
    vm: Machine, tmp_path: Path, collections: Path
) -> None:
    # Less talkative, what Ansible writes of a result leaves the differences out.
    checked = play(tmp_path, collections, vm, "--check", "--diff", "-vvv")
    assert checked["changed"] is True
    assert "netns/play" in [one["after_header"] for one in checked["diff"]]
    assert "play" not in vm.run("ip netns").stdout.split()

    assert play(tmp_path, collections, vm)["msg"] == "3 created"
    assert "10.9.0.2/24" in vm.run("ip -n play address").stdout

    again = play(tmp_path, collections, vm)
    assert again["changed"] is False
    assert again["msg"] == "no changes"

    assert play(tmp_path, collections, vm, state="absent")["msg"] == "3 deleted"
    assert "play" not in vm.run("ip netns").stdout.split()
