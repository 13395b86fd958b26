"""Prints how long a pull without changes takes on a host, and what a git server has to do for it.

    python -m benchmarks.pull [--tenants 20,200] [--rounds 5]

Needs root. The host is a sandbox, which is gone when it ends; the server is a repository in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import wiring
from provisioner.host.sandbox import Sandbox

_TASKS = Path(__file__).parent / "roles" / "wired" / "tasks" / "main.yml"
_PULL = (
    f"cd / && {sys.executable} -P -m provisioner pull --repo file:///srv/fleet --host here "
    "--verify-commits --signers /srv/signers"
)
_SETUP = """
set -e
ssh-keygen -q -t ed25519 -N '' -f /srv/key
echo "ops@example.com $(cut -d' ' -f1,2 /srv/key.pub)" > /srv/signers
cd /srv/fleet && git init -q -b main
git config user.name ops; git config user.email ops@example.com
git config gpg.format ssh; git config user.signingkey /srv/key
git add -A && git commit -q -S -m first
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pull", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tenants", default="20,200", help="how many tenants the host has, by commas")
    parser.add_argument(
        "--rounds", type=int, default=5, help="measure this often; the best is told, for other work only adds"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root: run it with sudo", file=sys.stderr)
        return 77
    print("tenants   first pull   no change   --only-if-changed   plan alone")
    for tenants in map(int, options.tenants.split(",")):
        print(f"{tenants:>7}   {'   '.join(f'{one:.2f} s' for one in _on_a_host(tenants, options.rounds))}", flush=True)
    cpu, sent, received = _on_the_server()
    print(f"server, for each pull without changes: {cpu * 1000:.1f} ms of CPU, {received} bytes in, {sent} bytes out")
    return 0


def _on_a_host(tenants: int, rounds: int) -> list[float]:
    with Sandbox.start(f"pull-{os.getpid()}") as box:
        box.write("/srv/fleet/roles/wired/tasks/main.yml", _TASKS.read_text())
        with tempfile.TemporaryDirectory() as folder:
            written = wiring.inventory(Path(folder), wiring.tenants(tenants))
            box.write("/srv/fleet/inventory.yml", written.read_text())
        box.run(_SETUP)
        first = _seconds(lambda: box.run(_PULL))
        same = min(_seconds(lambda: box.run(_PULL)) for _ in range(rounds))
        skipped = min(_seconds(lambda: box.run(f"{_PULL} --only-if-changed")) for _ in range(rounds))
        plan = f"cd /srv/fleet && {sys.executable} -P -m provisioner plan inventory.yml"
        planned = min(_seconds(lambda: box.run(plan)) for _ in range(rounds))
        return [first, same, skipped, planned]


def _seconds(do: Callable[[], object]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def _on_the_server(count: int = 200) -> tuple[float, int, int]:
    """CPU seconds, and bytes sent and received, of answering what the newest commit of a branch is."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "GIT_PROTOCOL": "version=2"}
        who = ["-c", "user.name=ops", "-c", "user.email=ops@example.com"]
        for words in (["init", "-q", "-b", "main"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
            subprocess.run(["git", *words], cwd=folder, env=environment, check=True)
        lines = (b"peel\n", b"symrefs\n", b"ref-prefix refs/heads/main\n")
        request = _line(b"command=ls-refs\n") + b"0001" + b"".join(map(_line, lines)) + b"0000" + b"0000"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(count):
            done = subprocess.run(
                ["git", "upload-pack", folder], input=request, env=environment, capture_output=True, check=True
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return used / count, len(done.stdout), len(request)


def _line(text: bytes) -> bytes:
    return f"{len(text) + 4:04x}".encode() + text


if __name__ == "__main__":
    sys.exit(main())
