"""A project of one role, whose tasks are the test's: declared, applied, and seen through ``ip``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.host import listing as of_host

INVENTORY = "/root/net/inventory.yml"
TASKS = "/root/net/roles/net/tasks/main.yml"


def listing(box: Any) -> dict[str, list[str]]:
    """What the host has once its IPv6 addresses have settled, but for the cgroups: every command that is run
    in a sandbox gets one."""
    box.run("for i in $(seq 50); do ip -6 addr show tentative | grep -q . || break; sleep 0.1; done")
    return {title: lines for title, lines in of_host.listing(box).items() if title != "cgroups"}


class Lab:
    """The project on one host: a sandbox, or whatever else has its ``run``, ``write`` and ``nsprov``."""

    def __init__(self, box: Any) -> None:
        self.box = box
        box.write(INVENTORY, "all:\n  hosts: {here: {ansible_connection: local}}\n  vars: {nsprov_roles: [net]}\n")

    def declare(self, tasks: str) -> None:
        self.box.write(TASKS, textwrap.dedent(tasks))

    def apply(self, tasks: str, *args: str) -> str:
        """Apply these tasks; a second plan must then be empty."""
        self.declare(tasks)
        done = self.box.nsprov("apply", INVENTORY, "--yes", *args)
        again = self.box.nsprov("plan", INVENTORY, "--detailed-exitcode", check=False)
        assert again.returncode == 0, again.stdout + again.stderr
        return str(done.stdout)

    def steps(self, tasks: str) -> dict[str, dict[str, Any]]:
        """The plan of these tasks by address."""
        self.declare(tasks)
        data = json.loads(self.box.nsprov("plan", INVENTORY, "--format", "json").stdout)
        return {step["address"]: step for step in data["hosts"]["here"]["steps"]}

    def fails(self, tasks: str, *args: str) -> str:
        """What an apply of these tasks says, which must not succeed."""
        self.declare(tasks)
        done = self.box.nsprov("apply", INVENTORY, "--yes", *args, check=False)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        return str(done.stdout + done.stderr)

    def verify(self) -> None:
        done = self.box.nsprov("verify", INVENTORY, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def ip(self, netns: str | None, *args: str) -> Any:
        where = ["-n", netns] if netns else []
        text = self.box.run(["ip", *where, "-j", "-d", *args]).stdout
        return json.loads(text) if text.strip() else []

    def link(self, netns: str | None, name: str) -> dict[str, Any]:
        return next(one for one in self.ip(netns, "addr") if one["ifname"] == name)

    def addresses(self, netns: str | None, name: str) -> list[str]:
        found = self.link(netns, name)["addr_info"]
        return [f"{one['local']}/{one['prefixlen']}" for one in found if one["scope"] == "global"]

    def routes(self, netns: str | None, *args: str) -> list[str]:
        """Static routes as ``ip route`` words them, without what says who made them."""
        where = ["-n", netns] if netns else []
        lines = []
        for family in ("-4", "-6"):
            # IPv6 says of a table without routes that it does not exist.
            text = self.box.run(["ip", *where, family, "route", "show", "proto", "static", *args], check=False).stdout
            lines += [" ".join(line.replace("pref medium", "").split()) for line in text.splitlines()]
        return lines


@contextmanager
def lab_on(box: Any) -> Iterator[Lab]:
    """A project on this host, destroyed in the end."""
    yield Lab(box)
    done = box.nsprov("destroy", INVENTORY, "--yes", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert box.run("ls /run/netns 2>/dev/null || true").stdout == ""
