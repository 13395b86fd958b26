"""Prints how long a fleet takes, and how much memory the controller: agents as local processes, each 20 ms away.

    python -m benchmarks.fleet [--sizes 100,250,500] [--forks 50] [--delay 20] [--json FILE] [--check]

Each host is a process of its own that answers the agent's protocol over a socket, and holds what it has in memory:
no root is needed, and nothing of this machine is changed. Everything on the controller's side is the real thing:
inventory, templates, plans, the rollout and its threads.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims import add_options, conclude
from provisioner.fleet.target import Output, Target
from provisioner.model import Address, Resource, Scope, Snapshot, Step, StepResult

_TENANTS = 4
_INVENTORY = """\
all:
  vars: {nsprov_roles: [site], ansible_connection: local}
  children:
    web:
      hosts: {"host[1:SIZE]": }
"""
_TASKS = """\
- bridge: {name: br0, addresses: [10.20.0.1/16]}
- directory: {path: /site}
- file: {path: /site/name, content: "{{ inventory_hostname }} of {{ groups['web'] | length }}\\n"}
- include_tasks: tenant.yml
  loop: "{{ range(TENANTS) | list }}"
  loop_control: {loop_var: index}
  vars: {tenant: "t{{ index }}"}
"""
_TENANT = """\
- netns: {name: "{{ tenant }}"}
- veth:
    name: "v-{{ tenant }}"
    master: br0
    peer:
      netns: "{{ tenant }}"
      name: eth0
      addresses: ["10.20.0.{{ index + 10 }}/16"]
      routes: [{to: default, via: 10.20.0.1}]
- file: {path: "/site/{{ tenant }}.conf", content: "tenant = {{ tenant }}\\n"}
"""


class MemoryTarget(Target):
    """A host that has what its steps made."""

    def __init__(self, name: str, facts: Mapping[str, Any]) -> None:
        self.name = name
        self._facts = facts
        self._has: dict[Address, Resource] = {}
        self._manifests: dict[str, str] = {}

    def facts(self) -> Mapping[str, Any]:
        return self._facts

    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        return {}

    def observe(self, scope: Scope) -> Snapshot:
        return Snapshot({address: self._has[address] for address in scope.resources if address in self._has})

    def carry_out(
        self, steps: Sequence[Step], seen: Callable[[StepResult], object] = lambda _: None
    ) -> list[StepResult]:
        for step in steps:
            if step.after is None:
                self._has.pop(step.address, None)
            else:
                self._has[step.address] = step.after
        return [StepResult(step.address) for step in steps]

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        return {}

    def read_manifests(self) -> Mapping[str, str]:
        return dict(self._manifests)

    def write_manifest(self, project: str, text: str | None) -> None:
        if text is None:
            self._manifests.pop(project, None)
        else:
            self._manifests[project] = text

    def run(self, command: str, seconds: float = 600) -> Output:
        raise NotImplementedError("what is in memory has no shell")

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Channel:
    """The near end of a simulated host, and its process."""

    socket: socket.socket
    pid: int
    errors: str = ""

    def close(self) -> None:
        self.socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class _Delayed:
    """The lines of a peer that is some milliseconds away."""

    def __init__(self, lines: Iterator[str], seconds: float) -> None:
        self._lines, self._seconds = lines, seconds

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            time.sleep(self._seconds)
            yield line


def _start(name: str, facts: Mapping[str, Any], delay: float, others: Sequence[Channel]) -> Channel:
    from provisioner.fleet.agent import serve

    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            for other in others:
                other.socket.close()
            near.close()
            with far.makefile("r") as requests, far.makefile("w") as answers:
                lines: Any = _Delayed(iter(requests), delay)
                serve(lines, answers, MemoryTarget(name, facts))
        finally:
            os._exit(0)
    far.close()
    return Channel(near, pid)


class _Silent:
    """Watches a rollout and says nothing."""

    def batch_begins(self, number: int, batch: Any) -> None: ...

    def host_begins(self, host: str) -> None: ...

    def watcher(self, host: str, steps: int) -> None: ...

    def host_done(self, outcome: Any) -> None:
        if not outcome.ok:
            raise SystemExit(f"{outcome.host}: {outcome.reason}")

    def tick(self) -> None: ...

    def batch_ends(self, number: int, batch: Any) -> None: ...


def measure(size: int, forks: int, delay: float) -> dict[str, float]:
    """Seconds of each stage for this many hosts, and the most memory that this process had."""
    from provisioner.cli.session import Session
    from provisioner.config.inventory import load_inventory
    from provisioner.config.strategy import Strategy
    from provisioner.fleet.agent import AgentTarget
    from provisioner.fleet.rollout import batches_of, observe_fleet, roll_out, side_by_side
    from provisioner.host import Host
    from provisioner.report.text import Style, plans_text
    from provisioner.resources import kinds

    kinds()
    with Host() as host:
        facts = host.facts.as_variables()
    names = [f"host{number}" for number in range(1, size + 1)]
    gc.collect()
    gc.freeze()  # what the agents share with this process stays shared
    channels: list[Channel] = []
    for name in names:
        channels.append(_start(name, facts, delay, channels))
    took: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        took[stage] = time.monotonic() - began
        return result

    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder, "roles/site/tasks/main.yml")
        tasks.parent.mkdir(parents=True)
        tasks.write_text(_TASKS.replace("TENANTS", str(_TENANTS)))
        tasks.with_name("tenant.yml").write_text(_TENANT)
        inventory = Path(folder, "inventory.yml")
        inventory.write_text(_INVENTORY.replace("SIZE", str(size)))
        session = Session(load_inventory([inventory]), names)
        by_name = dict(zip(names, channels, strict=True))

        def connect() -> dict[str, Target]:
            targets: dict[str, Target] = {}
            for name, made in side_by_side(lambda name: AgentTarget(name, by_name[name], "local://"), names, forks):
                if not isinstance(made, Target):
                    raise made
                targets[name] = made
            list(side_by_side(lambda name: targets[name].facts(), names, forks))
            return targets

        targets = timed("connect", connect)
        desired = timed("build", lambda: session.build(lambda name: targets[name].facts()))

        def plan(hold: bool = False) -> Any:
            return observe_fleet(targets, desired, lambda _: "default", forks=forks, hold=hold)

        planned = timed("plan", lambda: plan(hold=True))
        timed("show", lambda: plans_text(planned.plans, Style(False)))
        took["steps"] = sum(len(one.steps) for one in planned.plans.values())
        timed(
            "apply",
            lambda: roll_out(batches_of(list(planned.members)), planned.members, Strategy(forks=forks), _Silent()),
        )
        again = timed("no-op", plan)
        if any(again.plans.values()):
            raise SystemExit("a second plan is not empty")
    took["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for channel in channels:
        channel.close()
    return took


_STAGES = ("connect", "build", "plan", "show", "apply", "no-op")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=lambda text: sorted(map(int, text.split(","))), default=[100, 250, 500])
    parser.add_argument("--forks", type=int, default=50, help="so many hosts at once")
    parser.add_argument("--delay", type=float, default=20, help="milliseconds before each answer")
    add_options(parser)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one, options.forks, options.delay / 1000)))
        return 0
    found: dict[int, dict[str, float]] = {}
    print(f"{'hosts':>6}{'steps':>8}" + "".join(f"{stage:>10}" for stage in _STAGES) + f"{'peak MiB':>10}")
    for size in options.sizes:
        command = [sys.executable, "-m", "benchmarks.fleet", "--one", str(size)]
        command += ["--forks", str(options.forks), "--delay", str(options.delay)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
        if done.returncode != 0:
            raise SystemExit(f"{size} hosts failed:\n{done.stdout}{done.stderr}")
        one = found[size] = json.loads(done.stdout.splitlines()[-1])
        row = "".join(f"{one[stage]:>9.2f}s" for stage in _STAGES)
        print(f"{size:>6}{one['steps']:>8.0f}{row}{one['memory']:>10.0f}", flush=True)
    return conclude(_claims(found), found, options)


def _claims(found: Mapping[int, Mapping[str, float]]) -> list[tuple[bool, str]]:
    """What is claimed of the largest fleet, and whether this run bears it out."""
    least, most = min(found), max(found)

    def each(size: int) -> float:
        return sum(found[size][stage] for stage in _STAGES) / size * 1000

    memory = found[most]["memory"]
    claims = [(memory < 500, f"{most} hosts take {memory:.0f} MiB on the controller, of the 500 that it may")]
    if least < most:
        words = f"it grows linearly: a host takes {each(most):.1f} ms among {most}, {each(least):.1f} among {least}"
        claims.append((each(most) <= each(least) * 1.5, words))
    return claims


if __name__ == "__main__":
    sys.exit(main())
