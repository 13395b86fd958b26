"""Puts the attempts on a host, and tells how each ended: a bridge, tenants, what there is to be reached, and workloads.

The host is a sandbox or a virtual machine: whatever has ``run``, ``write`` and ``nsprov``. Each workload makes all
the attempts, one after another, and tells how each ended in its log.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml

from tests.escape.attempts import ATTEMPTS, BRIDGE, NEIGHBOUR, OPEN_FILE, SECRET, SECRET_FILE

FOLDER = "/srv/escape"
PROJECT = "/root/escape"
INVENTORY = f"{PROJECT}/inventory.yml"
#: How long all attempts of a workload take at most, on an emulated processor.
SECONDS = 240

_HERE = Path(__file__).parent
_PYTHON = "/usr/bin/python3 -m tests.escape"

#: The workloads that make the attempts, and what makes them what they are.
WORKLOADS: dict[str, dict[str, Any]] = {
    # Isolated in every way.
    "sealed": {"netns": "blue", "isolate": "all", "harden": "strict"},
    # And with nothing in sight but what is named.
    "bare": {
        "netns": "blue",
        "isolate": "all",
        "harden": "strict",
        "strict": True,
        "binds": ["/usr", FOLDER],
    },
    # Without isolation, on the host.
    "open": {},
    # Without isolation, in a tenant that nothing guards the others from.
    "wired": {"netns": "loose"},
    # Root without isolation, in a tenant as the role makes it.
    "root": {"netns": "blue"},
}
#: The attempts that a workload makes, by what they succeed in; without, all.
_MAKES = {"open": "open", "wired": "wired", "root": "wired"}


def _tenant(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "role": "tenant",
        "vars": {
            "tenant_name": name,
            "tenant_address": f"10.99.0.{number}/24",
            "tenant_address6": f"fd99::{number}/64",
            "tenant_interface": f"esc-{name}",
            "tenant_memory": "1G",
            "tenant_cpu": "200%",
            **more,
        },
    }


def _inventory() -> dict[str, Any]:
    roles = [
        "bridge_network",
        _tenant("blue", 11),
        _tenant(NEIGHBOUR, 12, tenant_guard=False),  # who is attacked: nothing of its own protects it
        _tenant("loose", 13, tenant_guard=False),
        "escape",
    ]
    bridge = {"bridge_name": BRIDGE, "bridge_address": "10.99.0.1/24", "bridge_address6": "fd99::1/64"}
    return {"all": {"hosts": {"here": {"ansible_connection": "local"}}, "vars": {**bridge, "nsprov_roles": roles}}}


def _units() -> list[dict[str, Any]]:
    common = {"WorkingDirectory": FOLDER, "Environment": {"PYTHONDONTWRITEBYTECODE": "1"}}
    bait = {
        "name": "escape-bait.service",
        "Type": "notify",
        "ExecStart": f"{_PYTHON}.bait {FOLDER}",
        "SetCredential": f"token:{SECRET}",
        **common,
        "Environment": {"PYTHONDONTWRITEBYTECODE": "1", "TOKEN": SECRET},
    }
    talking = [
        {"name": "escape-host.service", "ExecStart": f"{_PYTHON}.neighbour 4413 10.99.0.12 fd99::12", **common},
        {
            "name": "escape-red.service",
            "netns": NEIGHBOUR,
            "ExecStart": f"{_PYTHON}.neighbour 4413 10.99.0.1 fd99::1",
            **common,
        },
    ]
    attacking = [
        {
            "name": f"escape-{name}.service",
            "Type": "exec",
            "RemainAfterExit": "yes",
            "ExecStart": f"{_PYTHON}.attempts {FOLDER} {_MAKES.get(name, '')}".strip(),
            "After": "escape-bait.service",
            **({"Slice": f"tenants-{fields['netns']}.slice"} if "netns" in fields else {}),
            "MemoryMax": "512M",
            **common,
            **fields,
        }
        for name, fields in WORKLOADS.items()
    ]
    return [bait, *talking, *attacking]


class Stage:
    """What the attempts need on a host, from ``set_up`` on until ``clear``."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self._outcomes: dict[str, dict[str, tuple[bool, str]]] = {}

    def set_up(self) -> None:
        for path in _HERE.glob("*.py"):
            self.host.write(f"{FOLDER}/tests/escape/{path.name}", path.read_text())
        self.host.write(f"{FOLDER}/tests/__init__.py", "")
        self.host.run(_FILES)
        self.host.write(INVENTORY, yaml.safe_dump(_inventory(), sort_keys=False))
        tasks = [{"unit": unit} for unit in _units()]
        self.host.write(f"{PROJECT}/roles/escape/tasks/main.yml", yaml.safe_dump(tasks, sort_keys=False, width=200))
        self.host.nsprov("apply", INVENTORY, "--yes")

    def clear(self) -> None:
        self.host.nsprov("destroy", INVENTORY, "--yes", check=False)
        self.host.run(f"rm -rf {PROJECT} {FOLDER} /var/lib/escape", check=False)

    def outcome(self, workload: str, attempt: str) -> tuple[bool, str]:
        """Whether an attempt succeeded in a workload, and what it said."""
        if workload not in self._outcomes:
            self._outcomes[workload] = self._collected(workload)
        return self._outcomes[workload][attempt]

    def _collected(self, workload: str) -> dict[str, tuple[bool, str]]:
        unit = f"escape-{workload}.service"
        until = time.monotonic() + SECONDS
        while True:
            log = self.host.run(["journalctl", "--no-pager", "-o", "cat", "-u", unit]).stdout
            found = [json.loads(line) for line in log.splitlines() if line.startswith('{"name"')]
            if found and not found[-1]["name"]:
                return {one["name"]: (one["succeeded"], one["said"]) for one in found}
            state = self.host.run(["systemctl", "is-active", unit], check=False).stdout.strip()
            if time.monotonic() > until or state == "failed":
                raise AssertionError(f"{unit} did not make all attempts ({state}):\n{log}")
            time.sleep(0.5)


#: What is in the host's files: secrets, what everybody may write, and programs with rights.
_FILES = f"""
set -e
mkdir -p {Path(SECRET_FILE).parent}
printf %s {SECRET} > {SECRET_FILE}; chmod 600 {SECRET_FILE}
printf %s {SECRET} > {OPEN_FILE}; chmod 666 {OPEN_FILE}
cp /bin/cat {FOLDER}/cat-set-user-id; chmod 4755 {FOLDER}/cat-set-user-id
cp /bin/cat {FOLDER}/cat-with-capabilities
python3 -c 'import os, struct, sys
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, 1 << 2, 0, 0, 0))
' {FOLDER}/cat-with-capabilities
"""


def parameters() -> list[str]:
    """The names of all attempts, for tests that are one for each."""
    return list(ATTEMPTS)
