"""What ships works on a real host: every inventory, every role, and what the README says to type."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.listing import difference, listing

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "tests" / "host" / "projects" / "roles" / "inventory.yml"

#: One host of each sort in the shipped inventories; the rehearsals of CI have them all.
HOSTS = [("demo.yml", "demo"), ("lab.yml", "host3"), ("production", "edge01"), ("production", "app01")]

LOCAL = ("--extra-vars", "ansible_connection=local", "--yes")


@pytest.fixture
def box(sandboxes: Callable[..., Any]) -> Any:
    """A host of its own for each test."""
    made = sandboxes()
    # What the first use of the bus and of a transient unit starts and makes is systemd's own.
    made.run("touch /run/started; busctl list > /dev/null; mkdir -p /run/systemd/transient")
    return made


def recorded_while(box: Any, command: str) -> str:
    """What the kernel and systemd tell listeners while a command runs, in the host and in every namespace."""
    return str(
        box.run(
            f"""
            set -u
            rm -rf /tmp/heard && mkdir /tmp/heard && cd /tmp/heard
            for try in 1 2 3 4 5 6 7 8 9 10; do # the kernel tells of link-local addresses and ports a while later
                for name in "" $(ls /run/netns); do
                    timeout 2 ip ${{name:+-n $name}} monitor all &
                done > moving 2>&1
                wait
                grep -qv -e '^Monitoring' -e '^.NEIGH' moving || break
            done
            rm moving
            pids=""
            for name in $(ls /run/netns); do
                ip -n $name monitor all > ip-$name 2>&1 & pids="$pids $!"
                ip netns exec $name nft monitor > nft-$name 2>&1 & pids="$pids $!"
            done
            ip monitor all > ip 2>&1 & pids="$pids $!"
            nft monitor > nft 2>&1 & pids="$pids $!"
            for type in signal method_call; do
                busctl monitor --quiet --match "type='$type',interface='org.freedesktop.systemd1.Manager'" \
                    > bus-$type 2>&1 & pids="$pids $!"
            done
            sleep 1
            {command} > /tmp/command.log 2>&1
            sleep 0.5
            kill $pids; wait
            grep -rv -e '^Monitoring' -e '^.NEIGH' . || true # who was seen on the wire is no configuration
            """
        ).stdout
    )


@pytest.mark.parametrize(("inventory", "host"), HOSTS)
def test_a_second_apply_of_a_shipped_inventory_changes_nothing_and_destroy_leaves_nothing(
    box: Any, inventory: str, host: str
) -> None:
    arguments = (str(ROOT / "inventories" / inventory), "--limit", host, *LOCAL)
    before = listing(box)
    box.nsprov("apply", *arguments)
    assert recorded_while(box, shlex.join([sys.executable, "-m", "provisioner", "apply", *arguments])) == ""
    assert box.run("cat /tmp/command.log").stdout.strip() == f"{host}   no changes"
    box.nsprov("destroy", *arguments)
    assert difference(before, listing(box)) == []


def test_every_option_of_the_roles_holds_what_it_promises(box: Any) -> None:
    before = listing(box)
    box.nsprov("apply", str(ROLES), "--yes")
    verified = box.nsprov("verify", str(ROLES), check=False)
    assert verified.returncode == 0, verified.stdout
    assert box.nsprov("apply", str(ROLES), "--yes").stdout.strip() == "here   no changes"
    box.nsprov("destroy", str(ROLES), "--yes")
    assert difference(before, listing(box)) == []


def test_masqueraded_tenants_leave_under_the_hosts_address(sandboxes: Callable[..., Any]) -> None:
    near, far = sandboxes(), sandboxes()
    far_address = far.sandbox.address.partition("/")[0]
    server = "import socket; s = socket.create_server(('', 7)); c, who = s.accept(); c.sendall(who[0].encode())"
    far.run(["systemd-run", "--unit=who", "-p", "Type=exec", "python3", "-c", server])
    near.nsprov("apply", str(ROLES), "--yes")
    client = f"import socket; print(socket.create_connection(('{far_address}', 7), 5).recv(99).decode())"
    seen = near.run(["ip", "netns", "exec", "both", "python3", "-c", client]).stdout.strip()
    assert seen == near.sandbox.address.partition("/")[0]


def test_what_the_readme_says_to_type_works(box: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    inventory = next(one for one in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "# inventory.yml" in one)
    commands = re.findall(r"^    nsprov (\w+) inventory\.yml", readme, re.MULTILINE)
    assert commands == ["rehearse", "plan", "apply", "verify", "destroy"]
    box.write("/root/inventory.yml", inventory)
    for command in commands[1:]:  # a rehearsal inside of a sandbox would be a sandbox in a sandbox
        answers = ["--yes"] if command in ("apply", "destroy") else []
        box.nsprov(command, "/root/inventory.yml", *answers)
