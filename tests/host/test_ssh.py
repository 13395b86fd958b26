"""Hosts that are reached by ssh: a sandbox with nsprov is the controller, others on its wire are the hosts."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from provisioner.host.sandbox import Sandbox
from tests.host.conftest import Box
from tests.host.sshd import add_user, address_of, authorize, start_sshd

TASKS = """\
- netns: {name: blue}
- veth: {name: v-blue, peer: {netns: blue, name: eth0, addresses: [10.1.0.2/24]}, addresses: [10.1.0.1/24]}
"""


@dataclass
class Wire:
    """A controller and a host."""

    controller: Box
    host: Box
    #: The host's address.
    address: str

    def nsprov(
        self, command: str, *args: str, others: dict[str, dict[str, Any]] | None = None, **more: Any
    ) -> CompletedProcess[str]:
        """A command of nsprov on the host, which has more variables, and on others by their variables."""
        hosts = {"web1": {"ansible_host": self.address, **more}, **(others or {})}
        inventory = {"all": {"hosts": hosts, "vars": {"nsprov_roles": ["net"]}}}
        self.controller.write("/root/site/inventory.yml", yaml.safe_dump(inventory))
        yes = ["--yes"] if command in ("apply", "destroy") else []
        return self.controller.nsprov(command, "/root/site/inventory.yml", *yes, *args, check=False)

    def forget_connections(self) -> None:
        """End the connections that ssh keeps for the next command."""
        each = "[ -S $one ] && ssh -O exit -o ControlPath=$one x"
        self.controller.run(f"for one in /tmp/nsprov-ssh-0/*; do {each}; done 2>/dev/null; true")

    def agent(self) -> str:
        """The folder of the agent's bundle on the host."""
        return f"/var/lib/nsprov/agent/{self.host.run('ls /var/lib/nsprov/agent').stdout.strip()}"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Box, Box]]:
    with (
        Sandbox.start(f"ctl-{uuid.uuid4().hex[:8]}") as controller,
        Sandbox.start(f"web-{uuid.uuid4().hex[:8]}") as host,
    ):
        here, there = Box(controller), Box(host)
        here.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        here.write("/root/site/roles/net/tasks/main.yml", TASKS)
        authorize(there, "root", here.run("cat /root/.ssh/id_ed25519.pub").stdout)
        yield here, there


@pytest.fixture
def wire(machines: tuple[Box, Box]) -> Iterator[Wire]:
    controller, host = machines
    key = start_sshd(host)
    address = address_of(host)
    controller.write("/root/.ssh/known_hosts", f"{address} {key}\n")
    made = Wire(controller, host, address)
    yield made
    made.forget_connections()
    if host.run("ls /var/lib/nsprov/manifests", check=False).stdout:
        made.nsprov("destroy")
        made.forget_connections()


def said(done: CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_apply_plans_and_destroys_by_ssh(wire: Wire) -> None:
    done = wire.nsprov("apply")
    assert done.returncode == 0, said(done)
    assert "10.1.0.2/24" in wire.host.run("ip -n blue -br addr").stdout
    again = wire.nsprov("plan", "--detailed-exitcode")
    assert again.returncode == 0, said(again)
    gone = wire.nsprov("destroy")
    assert gone.returncode == 0, said(gone)
    assert wire.host.run("ip netns list").stdout == ""


def test_a_second_run_copies_nothing_and_uses_the_connection_that_is_kept(wire: Wire) -> None:
    wire.nsprov("apply")
    before = wire.host.run("stat -c '%n %Z' /var/lib/nsprov/agent/*").stdout
    logins = wire.host.run("journalctl -u 'test-sshd-*' | grep -c Accepted").stdout
    assert wire.nsprov("plan").returncode == 0
    assert wire.host.run("stat -c '%n %Z' /var/lib/nsprov/agent/*").stdout == before
    assert wire.host.run("journalctl -u 'test-sshd-*' | grep -c Accepted").stdout == logins


def test_verify_proves_the_facts_by_ssh(wire: Wire) -> None:
    wire.nsprov("apply")
    assert wire.nsprov("verify").returncode == 0
    wire.host.run("ip -n blue addr del 10.1.0.2/24 dev eth0")
    done = wire.nsprov("verify")
    assert done.returncode == 1
    assert "10.1.0.2/24" in said(done)


def test_a_user_becomes_root_by_sudo_without_a_password(wire: Wire) -> None:
    add_user(wire.host, "anna", sudo="NOPASSWD:ALL")
    authorize(wire.host, "anna", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    done = wire.nsprov("apply", ansible_user="anna", ansible_become=True)
    assert done.returncode == 0, said(done)
    assert wire.nsprov("verify", ansible_user="anna", ansible_become=True).returncode == 0


def test_sudo_is_given_its_password_and_a_wrong_one_is_one_clear_line(wire: Wire) -> None:
    add_user(wire.host, "bert", password="let-me-in-4711", sudo="ALL")
    authorize(wire.host, "bert", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    bert = {"ansible_user": "bert", "ansible_become": True}
    done = wire.nsprov("apply", **bert, ansible_become_password="let-me-in-4711")
    assert done.returncode == 0, said(done)
    done = wire.nsprov("plan", **bert, ansible_become_password="not-that-one-4712")
    assert done.returncode == 1
    assert "sudo on web1 does not take the password" in said(done)
    assert "4712" not in said(done)
    done = wire.nsprov("plan", **bert)
    assert f"sudo on {wire.address} wants a password" in said(done)


def test_the_password_of_sudo_is_asked_for_or_read_from_a_file(wire: Wire) -> None:
    add_user(wire.host, "gina", password="open-sudo-12", sudo="ALL")
    authorize(wire.host, "gina", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    gina = {"ansible_user": "gina", "ansible_become": True}
    wire.controller.write("/root/password", "open-sudo-12\n", 0o600)
    assert wire.nsprov("plan", "--become-password-file", "/root/password", **gina).returncode == 0
    wire.controller.write("/root/program", "#!/bin/sh\necho open-sudo-12\n", 0o700)
    assert wire.nsprov("plan", "--become-password-file", "/root/program", **gina).returncode == 0
    done = wire.nsprov("plan", "-K", **gina)
    assert done.returncode == 64
    assert "there is nobody to ask for the password of sudo" in said(done)
    done = wire.nsprov("plan", "--become-password-file", "/root/none", **gina)
    assert "the password file /root/none cannot be read: No such file or directory" in said(done)


def test_a_host_that_refuses_has_failed_and_one_that_is_not_there_is_unreachable(wire: Wire) -> None:
    add_user(wire.host, "hugo", password="open-sudo-13", sudo="ALL")
    authorize(wire.host, "hugo", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    others = {
        "refuses": {"ansible_host": wire.address, "ansible_user": "hugo", "ansible_become": True},
        "away": {"ansible_host": wire.address, "ansible_port": 2222},
    }
    done = wire.nsprov("apply", others=others)
    assert done.returncode == 1
    assert "applied 1, failed 1, unreachable 1" in said(done)
    assert "refuses   failed: sudo on" in said(done)
    assert "away   unreachable: " in said(done)
    told = json.loads(wire.nsprov("plan", "--format", "json", others=others).stdout)
    assert (list(told["failed"]), list(told["unreachable"])) == (["refuses"], ["away"])


def test_a_user_who_is_not_root_is_told_to_become_it(wire: Wire) -> None:
    add_user(wire.host, "carl")
    authorize(wire.host, "carl", wire.controller.run("cat /root/.ssh/id_ed25519.pub").stdout)
    done = wire.nsprov("plan", ansible_user="carl")
    assert f"carl@{wire.address} is not root on web1" in said(done)
    assert "ansible_become: true" in said(done)


def test_a_password_lets_in_where_a_key_does_not(wire: Wire) -> None:
    add_user(wire.host, "dora", password="open-sesame-99", sudo="NOPASSWD:ALL")
    dora = {"ansible_user": "dora", "ansible_become": True, "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}
    done = wire.nsprov("plan", **dora, ansible_password="open-sesame-99")
    assert done.returncode == 0, said(done)
    wire.forget_connections()
    done = wire.nsprov("plan", **dora, ansible_password="open-barley-98")
    assert done.returncode == 1
    assert f"dora@{wire.address} is not let in" in said(done)
    assert "barley" not in said(done)


def test_a_key_with_a_passphrase_is_opened(wire: Wire) -> None:
    wire.controller.run("rm -f /root/locked*; ssh-keygen -q -t ed25519 -N correct-horse -f /root/locked")
    authorize(wire.host, "root", wire.controller.run("cat /root/locked.pub").stdout)
    locked = {"ansible_ssh_private_key_file": "/root/locked", "ansible_ssh_common_args": "-o IdentitiesOnly=yes"}
    wire.controller.run("mv /root/.ssh/id_ed25519 /root/.ssh/away")
    try:
        done = wire.nsprov("plan", **locked, ansible_ssh_private_key_passphrase="correct-horse")
        assert done.returncode == 0, said(done)
        wire.forget_connections()
        assert "is not let in" in said(wire.nsprov("plan", **locked))
    finally:
        wire.controller.run("mv /root/.ssh/away /root/.ssh/id_ed25519")


def test_a_wrong_key_is_one_clear_line(wire: Wire) -> None:
    wire.controller.run("rm -f /root/other*; ssh-keygen -q -t ed25519 -N '' -f /root/other")
    only = "-o IdentitiesOnly=yes"
    done = wire.nsprov("plan", ansible_ssh_private_key_file="/root/other", ansible_ssh_common_args=only)
    assert done.returncode == 1
    assert f"{wire.address} is not let in: " in said(done)


def test_a_changed_host_key_is_refused(wire: Wire) -> None:
    start_sshd(wire.host)  # with a new key
    done = wire.nsprov("plan")
    assert done.returncode == 1
    assert f"the host key of {wire.address} is not the one that is known" in said(done)
    assert f"ssh-keygen -R {wire.address}" in said(done)


def test_a_host_key_that_nobody_knows_is_refused(wire: Wire) -> None:
    wire.controller.write("/root/.ssh/known_hosts", "")
    done = wire.nsprov("plan")
    assert done.returncode == 1
    assert f"the host key of {wire.address} is not known" in said(done)
    assert wire.nsprov("plan", ansible_host_key_checking=False).returncode == 0


def test_no_route_no_name_and_nobody_at_the_port_are_told_apart(wire: Wire) -> None:
    assert "refuses connections to its ssh port" in said(wire.nsprov("plan", ansible_port=2222))
    assert "there is no host of the name nowhere.invalid" in said(wire.nsprov("plan", ansible_host="nowhere.invalid"))
    wire.controller.run("ip route add unreachable 198.51.100.0/24")
    assert "there is no route to 198.51.100.7" in said(wire.nsprov("plan", ansible_host="198.51.100.7"))


def test_a_host_that_lets_in_and_then_hangs_is_given_up(wire: Wire) -> None:
    wire.host.write("/root/.bashrc", "sleep 60\n")
    try:
        done = wire.nsprov("plan", ansible_timeout=1)
        assert done.returncode == 1
        assert "web1 lets us in, but has not answered for 3 s" in said(done)
    finally:
        wire.host.run("rm /root/.bashrc")


def test_an_agent_that_stops_answering_is_given_up(wire: Wire) -> None:
    wire.host.write(
        "/root/freeze", "#!/bin/sh\nwhile ! pid=$(pgrep -x python); do sleep 0.02; done\nkill -STOP $pid\n", 0o755
    )
    wire.host.run("systemd-run --quiet --unit=freeze /root/freeze")
    done = wire.nsprov("plan", nsprov_timeout=3)
    wire.host.run("pkill -KILL -x python; true")
    assert done.returncode == 1
    assert "web1 has not answered for 3 s" in said(done)


def test_an_agent_that_is_killed_is_one_clear_line(wire: Wire) -> None:
    wire.nsprov("plan")
    wire.host.write(
        "/root/kill-it", "#!/bin/sh\nwhile ! pid=$(pgrep -x python); do sleep 0.02; done\nkill -KILL $pid\n", 0o755
    )
    wire.host.run("systemd-run --quiet --unit=kill-it /root/kill-it")
    done = wire.nsprov("plan")
    assert done.returncode == 1
    assert "the agent on web1 has ended" in said(done)


RELAY = """\
import asyncio, sys

async def pump(source, sink, seconds):
    while piece := await source.read(1 << 16):
        asyncio.get_running_loop().call_later(seconds, sink.write, piece)
    asyncio.get_running_loop().call_later(seconds, sink.close)
    await asyncio.sleep(seconds * 2)

async def main():
    loop = asyncio.get_running_loop()
    here = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(here), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    out = asyncio.StreamWriter(transport, protocol, None, loop)
    reader, writer = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    await asyncio.wait([asyncio.create_task(pump(here, writer, 0.04)), asyncio.create_task(pump(reader, out, 0.04))])

asyncio.run(main())
"""


def test_a_slow_line_that_loses_packets_works(wire: Wire) -> None:
    """80 ms there and back, and one packet in twenty is lost."""
    wire.host.run("rm -rf /var/lib/nsprov")  # the bundle crosses it too
    wire.controller.write("/root/relay.py", RELAY)
    loss = f"ip saddr {address_of(wire.controller)} numgen random mod 20 == 0 drop"
    chain = "add chain ip loss input { type filter hook input priority 0; }"
    wire.host.run("nft -f -", input=f"add table ip loss\n{chain}\nadd rule ip loss input {loss}\n")
    try:
        done = wire.nsprov("apply", ansible_ssh_common_args="-o ProxyCommand='python3 /root/relay.py %h %p'")
        assert done.returncode == 0, said(done)
        assert "blue" in wire.host.run("ip netns list").stdout
    finally:
        wire.host.run("nft delete table ip loss")


def test_a_full_disk_is_one_clear_line_and_nothing_stays(wire: Wire) -> None:
    wire.host.run(
        "rm -rf /var/lib/nsprov; mkdir /var/lib/nsprov; mount -t tmpfs -o size=4m,mode=755 none /var/lib/nsprov"
    )
    try:
        done = wire.nsprov("plan")
        assert done.returncode == 1
        assert "the agent cannot be put on web1: " in said(done)
        assert "No space left on device" in said(done)
        assert wire.host.run("ls /var/lib/nsprov/agent").stdout == ""
    finally:
        wire.host.run("umount /var/lib/nsprov")


@pytest.mark.parametrize(
    "tampering",
    [
        "echo evil >>{agent}/agent",
        "touch {agent}/packages/sitecustomize.py",
        "sed -i 1d {agent}/SHA256SUMS",
        "rm {agent}/so/libz.so.1",
        "chmod 777 {agent}",
        "chmod 666 {agent}/agent",
        "chown nobody {agent}",
        "chown nobody /var/lib/nsprov/agent",
        "mv {agent} /var/lib/elsewhere && ln -s /var/lib/elsewhere {agent}",
        "mv /var/lib/nsprov/agent /var/lib/elsewhere && ln -s /var/lib/elsewhere /var/lib/nsprov/agent",
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused(wire: Wire, tampering: str) -> None:
    wire.nsprov("plan")
    wire.host.run(tampering.format(agent=wire.agent()))
    try:
        done = wire.nsprov("plan")
        assert done.returncode == 1
        assert "the agent on web1 was tampered with, and was not started" in said(done)
    finally:
        wire.host.run("rm -rf /var/lib/nsprov /var/lib/elsewhere")


@pytest.fixture
def other_machine(wire: Wire) -> Iterator[Wire]:
    """The host says that it has another processor, and has no agent yet."""
    wire.host.run("rm -rf /var/lib/nsprov/agent")
    wire.host.write("/usr/sbin/uname", "#!/bin/sh\necho aarch64\n", 0o755)
    yield wire
    wire.host.run("rm /usr/sbin/uname")
    wire.controller.run("rm -rf /root/bundles")


def test_a_host_with_another_processor_needs_a_bundle_for_it(other_machine: Wire) -> None:
    alone = other_machine.nsprov("plan")
    assert alone.returncode == 1
    assert "there is no agent for processors of the kind aarch64, which web1 has" in said(alone)
    assert "make it with 'scripts/bundle FOLDER aarch64' in a checkout" in said(alone)
    away = {"away": {"ansible_host": other_machine.address, "ansible_port": 2222}}
    told = json.loads(other_machine.nsprov("plan", "--format", "json", others=away).stdout)
    assert (list(told["failed"]), list(told["unreachable"])) == (["web1"], ["away"])
    assert other_machine.host.run("ls /var/lib/nsprov/agent").stdout == ""


def test_a_host_with_another_processor_is_given_the_bundle_for_it(other_machine: Wire) -> None:
    """It is this processor's under the other's name: that such a one works there, test_bundle_aarch64 proves."""
    here = other_machine.controller
    here.run(f"{sys.executable} -m provisioner agent --bundle /root/bundles")
    here.run("cd /root/bundles && for one in *; do mv $one $(echo $one | sed 's/^agent-[^-]*/agent-aarch64/'); done")
    other_machine.nsprov("validate")  # writes the inventory
    nsprov = f"NSPROV_BUNDLES=/root/bundles {sys.executable} -m provisioner"
    done = here.run(f"{nsprov} apply /root/site/inventory.yml --yes", check=False)
    assert done.returncode == 0, said(done)
    assert "10.1.0.2/24" in other_machine.host.run("ip -n blue -br addr").stdout


def test_another_user_of_the_host_cannot_swap_the_bundle(wire: Wire) -> None:
    add_user(wire.host, "eve")
    wire.nsprov("plan")
    agent = wire.agent()
    attempts = [
        f"mv {agent} {agent}.old",
        f"echo evil >{agent}/agent",
        f"touch {agent}/x",
        f"rm {agent}/agent",
        f"ln -s /tmp {agent}/y",
        "mkdir /var/lib/nsprov/agent/new.x",
        "mv /var/lib/nsprov /var/lib/n",
    ]
    for attempt in attempts:
        done = wire.host.run(["runuser", "-u", "eve", "--", "sh", "-c", attempt], check=False)
        assert done.returncode != 0, attempt
    assert wire.nsprov("plan").returncode == 0


def test_no_secret_is_in_a_command_line_or_in_a_file_that_stays(wire: Wire) -> None:
    words = {"ansible_password": "s3cret-of-ssh", "ansible_become_password": "s3cret-of-sudo"}
    add_user(wire.host, "fred", password=words["ansible_become_password"], sudo="ALL")
    add_user(wire.host, "fred", password=words["ansible_password"])
    watch = (
        "for i in $(seq 400); do cat /proc/[0-9]*/cmdline 2>/dev/null; sleep 0.01; done | tr '\\0' '\\n' >/root/seen"
    )
    for box in (wire.controller, wire.host):
        box.write("/root/watch", f"#!/bin/sh\n{watch}\n", 0o755)
        box.run("systemd-run --quiet --unit=watch /root/watch")
    fred = {"ansible_user": "fred", "ansible_become": True, "ansible_ssh_common_args": "-o PubkeyAuthentication=no"}
    done = wire.nsprov("apply", **fred, **(words | {"ansible_become_password": words["ansible_password"]}))
    assert done.returncode == 0, said(done)
    wire.controller.write("/root/site/inventory.yml", "")
    for box in (wire.controller, wire.host):
        box.run("while systemctl -q is-active watch; do sleep 0.1; done")
        assert "nsprov-ag" in box.run("cat /root/seen").stdout, "the watch has seen the run"
        # What either sandbox wrote is newer than the watch; /tmp and /run are file systems of their own.
        written = "find / /tmp /run -xdev -newer /root/watch -type f -not -path /root/seen"
        for word in words.values():
            hits = f"{written} -exec grep -lsaF {word} {{}} +; grep -c {word} /root/seen"
            found = box.run(hits, check=False)
            assert found.stdout.strip() == "0", found.stdout
