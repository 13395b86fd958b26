"""The agent's bundle for aarch64: made here, and at work in a sandbox by way of an emulator.

The emulator has the sandbox's kernel do what the agent asks it for, but for what its own translation does not know:
netfilter's sockets, and the numbers of namespaces. ``tests/vm/test_aarch64.py`` has a whole machine of that kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from provisioner.fleet import bundle, protocol
from provisioner.fleet.bundle import Bundle
from provisioner.fleet.version import PROTOCOL
from provisioner.host.sandbox import Sandbox
from provisioner.model import Action, Scope, Step
from provisioner.resources import kind_of
from tests.host.conftest import Box
from tests.host.test_bundle import WANTED, answers
from tests.unit.fleet.agents_imports import START, agents_imports

CHECKOUT = Path(__file__).resolve().parents[2]
#: What the emulator lets the agent make, and look at.
MADE = [one for one in WANTED if one.kind != "nftables"]
SEEN = [one for one in MADE if one.kind != "veth"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that sandboxes see too."""
    with tempfile.TemporaryDirectory(prefix="nsprov-aarch64-", dir="/var/tmp") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def made(folder: Path) -> Bundle:
    """The bundle, as a controller that is told of its folder finds it."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command: list[str | Path] = [CHECKOUT / "scripts/bundle", folder / "bundles", "aarch64"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSPROV_BUNDLES", str(folder / "bundles"))
        return bundle.find("aarch64")


@dataclass
class Emulated:
    """A sandbox whose agent is an aarch64 one, with the libraries that each such host has, and no Python."""

    box: Box
    agent: Path

    def start(self, *requests: Any, code: str = START) -> CompletedProcess[str]:
        text = (self.agent / "agent").read_text()
        assert START in text
        start = text.replace("./python", "qemu-aarch64 ./python").replace(START, code)
        asked = "".join(f"{json.dumps(one)}\n" for one in requests)
        return self.box.run(f"cd {self.agent} && {start}", input=asked, check=False)


@pytest.fixture(scope="module")
def emulated(made: Bundle, folder: Path) -> Iterator[Emulated]:
    agent, libraries = folder / "agent", folder / "libraries"
    agent.mkdir()
    libraries.mkdir()
    subprocess.run(["tar", "-xzf", made.archive, "-C", agent], check=True)
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    unpack = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", "--include=libsystemd0"]
    subprocess.run([*unpack, release["VERSION_CODENAME"], folder / "libraries.tar"], check=True)
    subprocess.run(["tar", "-xf", folder / "libraries.tar", "--exclude=./dev", "-C", libraries], check=True)
    with Sandbox.start(f"test-aarch64-{os.getpid()}") as sandbox:
        box = Box(sandbox)
        box.run("rm -rf /usr/bin/python3* /usr/lib/python3*")
        # Debian 13's packages have nothing in /lib itself.
        box.run(f"for one in lib usr/lib; do [ ! -e {libraries}/$one ] || cp -a {libraries}/$one/. /$one/; done")
        yield Emulated(box, agent)


def test_it_has_what_the_bundle_for_this_processor_has(made: Bundle) -> None:
    own = bundle.find(os.uname().machine)

    def names(one: Bundle) -> set[str]:
        with tarfile.open(one.archive) as archive:
            return {name.replace(one.arch, "ARCH") for name in archive.getnames()}

    assert made.arch == "aarch64"
    assert names(made) == names(own)
    assert made.archive.stat().st_size < 12 << 20


def test_it_greets_and_knows_its_host(emulated: Emulated) -> None:
    done = emulated.start({"do": "hello"}, {"do": "facts"})
    hello, facts = answers(done)
    assert hello == {"protocol": PROTOCOL}
    assert facts["arch"] == "aarch64"
    assert facts["name"] == emulated.box.sandbox.name


def test_everything_that_an_agent_may_import_is_in_it(emulated: Emulated) -> None:
    done = emulated.start(code=agents_imports())
    assert done.returncode == 0, done.stderr


def test_it_makes_and_sees_a_workload(emulated: Emulated) -> None:
    scope = protocol.encode_scope(Scope({one.address: (one,) for one in SEEN}))
    steps = [protocol.encode_steps([Step(Action.CREATE, one.address, None, one)]) for one in MADE]
    done = emulated.start(*({"do": "carry_out", "with": one} for one in steps), {"do": "observe", "with": scope})
    *results, snapshot = answers(done)
    assert [one.error for given in results for one in protocol.decode_results(given)] == [None] * len(MADE)
    assert protocol.decode_snapshot(snapshot).resources.keys() == {one.address for one in SEEN}
    box = emulated.box
    assert "10.9.0.1/24" in box.run("ip -n blue -br addr").stdout
    assert box.run("systemctl is-active bare.service").stdout == "active\n"
    assert box.run("cat /etc/bare").stdout == "x"


def test_it_loads_its_own_libnftables(emulated: Emulated) -> None:
    rules = kind_of("nftables").resource(table="inet filter", ruleset="chain in { }")
    step = Step(Action.CREATE, rules.address, None, rules)
    done = emulated.start({"do": "carry_out", "with": protocol.encode_steps([step])})
    assert "Unable to initialize Netlink socket: Protocol not supported" in done.stderr
