"""Facts of many hosts: a pytest process for each, side by side, against one run of pytest with xdist.

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
from collections.abc import Callable, Iterable
from pathlib import Path

from provisioner.errors import Source
from provisioner.model import Check, Declared, Desired, Resource
from provisioner.verify.runner import verify_hosts
from provisioner.verify.suite import write_suite

#: Stands in for ssh's client, and takes as long as the way there.
_SSH = """\
#!/bin/sh
sleep {seconds}
for last; do :; done
exec /bin/sh -c "$last"
"""


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

        def processes() -> None:
            results = verify_hosts({name: (desired, uri) for name, uri in uris.items()})
            if not all(one.ok and one.passed == given.facts for one in results.values()):
                raise SystemExit("facts of this machine do not hold")

        def pytest(*args: str) -> Callable[[], None]:
            command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "testinfra.plugin", "-p", "no:cacheprovider"]
            environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

            def run() -> None:
                subprocess.run([*command, *args, str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)

            return run

        cores = os.cpu_count() or 1
        ways = {"a process for each host": processes, "one pytest, no workers": pytest()}
        for workers in (cores, 4 * cores):
            xdist = ("-p", "xdist", f"-n{workers}", "--dist=loadfile")
            ways[f"one pytest, {workers} workers of xdist"] = pytest(*xdist)
        print(f"{given.hosts} hosts of {given.facts} facts, {cores} cores")
        for title, way in ways.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            way()
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{title:36} {wall:6.1f} s   {cpu:6.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
