"""Facts of many hosts: as nsprov verifies them, against a process for each and one run of pytest with xdist.

    python benchmarks/verify_fleet.py [HOSTS] [FACTS] [--delay MS]

Every host is this machine, read and changed nowhere. With ``--delay`` each command waits for so many milliseconds
first, as one does that goes over a network.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from provisioner.errors import Source
from provisioner.fleet.target import LocalTarget, Output
from provisioner.host import Host
from provisioner.model import Check, Declared, Desired, Resource
from provisioner.verify.reach import Reach
from provisioner.verify.runner import verify_hosts
from provisioner.verify.suite import write_suite

#: Stands in for ssh's client, and takes as long as the way there.
_SSH = """\
#!/bin/sh
sleep {seconds}
for last; do :; done
exec /bin/sh -c "$last"
"""


class Away(LocalTarget):
    """This machine, with a connection that takes its time."""

    def __init__(self, host: Host, name: str, seconds: float) -> None:
        super().__init__(host, name)
        self.seconds = seconds

    def run(self, command: str, seconds: float = 600) -> Output:
        time.sleep(self.seconds)
        return super().run(command, seconds)


class Seen(Resource):
    """A resource with many facts, which are asked of the host in one go, as most facts are."""

    kind = "seen"
    facts: int

    def checks(self) -> Iterable[Check]:
        for number in range(self.facts):
            yield Check(f"fact {number}", f"assert file_type(host, '/{'./' * number}') == 'directory'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", type=int, nargs="?", default=50)
    parser.add_argument("facts", type=int, nargs="?", default=30)
    parser.add_argument("--delay", type=int, default=0, metavar="MS")
    given = parser.parse_args()
    seen = Seen(name="all", facts=given.facts)
    desired = Desired({seen.address: Declared(seen, Source("benchmark", 1), role="none")}, [], [])
    names = [f"host{number}" for number in range(given.hosts)]

    with tempfile.TemporaryDirectory() as temporary:
        # Each of its own, as what is known of a host is kept by its URI.
        uris = {name: f"{'ssh' if given.delay else 'local'}://{name}" for name in names}
        ssh = Path(temporary, "ssh")
        ssh.write_text(_SSH.format(seconds=given.delay / 1000))
        ssh.chmod(0o755)
        os.environ["PATH"] = f"{temporary}:{os.environ['PATH']}"
        folder = Path(temporary, "suite")
        write_suite(folder, dict.fromkeys(names, desired), project="benchmark", targets=uris)

        def verify(ways: Mapping[str, Reach]) -> None:
            results = verify_hosts({name: (desired, way) for name, way in ways.items()})
            if not all(one.ok and one.passed == given.facts for one in results.values()):
                raise SystemExit("facts of this machine do not hold")

        def pytest(*args: str) -> Callable[[], None]:
            command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "testinfra.plugin", "-p", "no:cacheprovider"]
            environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

            def run() -> None:
                subprocess.run([*command, *args, str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)

            return run

        cores = os.cpu_count() or 1
        host = Host()
        ways: dict[str, Callable[[], None]] = {
            "nsprov verify": lambda: verify({name: Away(host, name, given.delay / 1000) for name in names}),
            "a process for each host": lambda: verify(uris),
            "a written suite, one pytest": pytest(),
        }
        for workers in (cores, 4 * cores):
            xdist = ("-p", "xdist", f"-n{workers}", "--dist=loadfile")
            ways[f"a written suite, {workers} workers of xdist"] = pytest(*xdist)
        print(f"{given.hosts} hosts of {given.facts} facts, {cores} cores")
        for title, way in ways.items():
            before = _processor_seconds()
            start = time.perf_counter()
            way()
            wall = time.perf_counter() - start
            print(f"{title:36} {wall:6.1f} s   {_processor_seconds() - before:6.1f} s of CPU", flush=True)


def _processor_seconds() -> float:
    """Of this process and all that it has started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
