"""Prints how long a warm run that changes nothing takes by ssh: nsprov beside pyinfra and Ansible, in one run.

    python -m benchmarks.ssh [--hosts 5] [--tenants 20] [--rounds 3] [--json FILE] [--check]

Needs root and an installed sshd. The hosts and the controller are sandboxes on one wire, and are gone when it ends.
The resources are the same for all three: for each tenant a namespace, a veth pair, two addresses and a default route.
nsprov declares them; the others get one shell command a tenant that makes what is not there, which is the least that
they can be given. Ansible has pipelining, and all three keep their connections and take all hosts side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.claims import add_options, conclude
from provisioner.host.sandbox import Sandbox
from tests.host.sshd import address_of, authorize, start_sshd

_TASKS = """\
- netns: {name: "{{ item.name }}"}
- veth:
    name: "v-{{ item.name }}"
    addresses: ["{{ item.near }}/31"]
    peer:
      netns: "{{ item.name }}"
      name: eth0
      addresses: ["{{ item.far }}/31"]
      routes: [{to: default, via: "{{ item.near }}"}]
"""
_MAKE = (
    "ip netns add {name} 2>/dev/null;"
    " ip link show v-{name} >/dev/null 2>&1 || ip link add v-{name} type veth peer name eth0 netns {name};"
    " ip link set v-{name} up; ip -n {name} link set eth0 up; ip -n {name} link set lo up;"
    " ip addr replace {near}/31 dev v-{name}; ip -n {name} addr replace {far}/31 dev eth0;"
    " ip -n {name} route replace default via {near}"
)
_PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: "{{ item }}"
      loop: COMMANDS
      changed_when: false
"""
_DEPLOY = """\
from pyinfra.operations import server

for command in COMMANDS:
    server.shell(commands=[command])
"""
_FOLDER = "/root/bench"


def main() -> int:
    options = _options()
    if os.geteuid() != 0:
        print("the hosts are sandboxes, and need root: run it with sudo", file=sys.stderr)
        return 77
    with ExitStack() as stack:
        controller = stack.enter_context(Sandbox.start("bench-controller"))
        hosts = [stack.enter_context(Sandbox.start(f"bench-{number}")) for number in range(options.hosts)]
        addresses = _open(controller, hosts)
        _write(controller, addresses, options.tenants)
        tools = {name: _runner(controller, command) for name, command in _commands(options.hosts).items()}
        print(f"{options.hosts} hosts by ssh, {options.tenants} tenants each; medians of {options.rounds} warm runs")
        found: dict[str, float] = {}
        for name, run in tools.items():
            first = run()
            found[name] = statistics.median(run() for _ in range(options.rounds))
            print(f"{name:>8}   first {first:6.2f} s   again {found[name]:6.2f} s", flush=True)
    claims = [
        (
            found["nsprov"] <= found["pyinfra"] / 3,
            f"a run that changes nothing takes at most a third of pyinfra's: {found['nsprov'] / found['pyinfra']:.2f}",
        ),
        (
            found["nsprov"] <= found["ansible"] / 10,
            f"a run that changes nothing takes at most a tenth of Ansible's: {found['nsprov'] / found['ansible']:.2f}",
        ),
    ]
    return conclude(claims, found, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ssh", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="warm runs, of which the median counts")
    add_options(parser)
    return parser.parse_args()


def _open(controller: Sandbox, hosts: list[Sandbox]) -> list[str]:
    """Make ssh hosts of the sandboxes, which let the controller in; their addresses."""
    controller.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    public = controller.run("cat /root/.ssh/id_ed25519.pub").stdout
    addresses, known = [], []
    for host in hosts:
        key = start_sshd(host)
        authorize(host, "root", public)
        address = address_of(host)
        addresses.append(address)
        known.append(f"{address} {key}\n")
    controller.write("/root/.ssh/known_hosts", "".join(known))
    return addresses


def _write(controller: Sandbox, addresses: list[str], tenants: int) -> None:
    ends = [
        {"name": f"t{n}", "near": f"10.{n // 256}.{n % 256}.0", "far": f"10.{n // 256}.{n % 256}.1"}
        for n in range(tenants)
    ]
    hosts = {f"host{n}": {"ansible_host": address, "ansible_user": "root"} for n, address in enumerate(addresses)}
    everyone = {
        "nsprov_roles": [{"role": "bench", "loop": "{{ tenants }}"}],
        "tenants": ends,
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    commands = json.dumps([_MAKE.format(**one) for one in ends])
    controller.write(f"{_FOLDER}/inventory.yml", json.dumps({"all": {"hosts": hosts, "vars": everyone}}))
    controller.write(f"{_FOLDER}/roles/bench/tasks/main.yml", _TASKS)
    controller.write(f"{_FOLDER}/play.yml", _PLAY.replace("COMMANDS", commands))
    controller.write(f"{_FOLDER}/deploy.py", _DEPLOY.replace("COMMANDS", commands))
    controller.write(f"{_FOLDER}/hosts.py", f"hosts = [(a, {{'ssh_user': 'root'}}) for a in {addresses!r}]\n")


def _commands(hosts: int) -> dict[str, str]:
    """What is run for each tool, in the controller; Ansible and pyinfra are those of this environment."""
    programs = Path(sys.executable).parent
    return {
        "nsprov": f"{sys.executable} -m provisioner apply inventory.yml --yes",
        "pyinfra": f"{programs}/pyinfra -y --parallel {hosts} hosts.py deploy.py",
        "ansible": f"{programs}/ansible-playbook -f {hosts} -i inventory.yml play.yml",
    }


def _runner(controller: Sandbox, command: str) -> Callable[[], float]:
    def run() -> float:
        began = time.monotonic()
        line = f"cd {_FOLDER} && export HOME=/root LC_ALL=C.UTF-8 && {command}"
        done = controller.run(line, timeout=600, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return time.monotonic() - began

    return run


if __name__ == "__main__":
    sys.exit(main())
