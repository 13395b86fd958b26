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
    print("seconds of CPU on the host\ntenants   first pull   no change   --only-if-changed   plan alone")
    for tenants in map(int, options.tenants.split(",")):
        print(f"{tenants:>7}   {'   '.join(f'{one:.2f} s' for one in _on_a_host(tenants, options.rounds))}", flush=True)
    for hosts in (1_000, 10_000, 100_000):
        print(f"reading an inventory of {hosts:>6} hosts: {_of_an_inventory(hosts):.2f} s of CPU", flush=True)
    cpu, sent, received = _on_the_server()
    print(f"server, for each pull without changes: {cpu * 1000:.1f} ms of CPU, {received} bytes in, {sent} bytes out")
    return 0


def _on_a_host(tenants: int, rounds: int) -> list[float]:
    """CPU seconds of a first pull, one without changes, one that is not needed, and a plan of the same."""
    with Sandbox.start(f"pull-{os.getpid()}") as box:
        box.write("/srv/fleet/roles/wired/tasks/main.yml", _TASKS.read_text())
        with tempfile.TemporaryDirectory() as folder:
            written = wiring.inventory(Path(folder), wiring.tenants(tenants))
            box.write("/srv/fleet/inventory.yml", written.read_text())
        box.run(_SETUP)
        plan = f"cd /srv/fleet && {sys.executable} -P -m provisioner plan inventory.yml"
        first = _used(box, _PULL)
        rest = [_PULL, f"{_PULL} --only-if-changed", plan]
        return [first, *(min(_used(box, one) for _ in range(rounds)) for one in rest)]


def _used(box: Sandbox, command: str) -> float:
    """CPU seconds of a command and all that it starts: on a busy machine they say more than a clock."""
    timed = f"TIMEFORMAT='%U %S'; time ({command} >/dev/null)"
    return sum(map(float, box.run(["bash", "-c", timed]).stderr.split()[-2:]))


def _of_an_inventory(hosts: int) -> float:
    """CPU seconds of reading an inventory of so many hosts for one of them."""
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(f"    web{n}: {{ansible_host: 192.0.2.1, tenant_memory: 1G}}\n" for n in range(hosts))
        Path(folder, "inventory.yml").write_text(f"all:\n  vars: {{nsprov_roles: []}}\n  hosts:\n{lines}")
        words = [sys.executable, "-P", "-m", "provisioner", "validate", "inventory.yml", "--limit", "web7"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, cwd=folder, capture_output=True, check=True)
        return _since(before)


def _since(before: resource.struct_rusage) -> float:
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


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
        used = _since(before)
    return used / count, len(done.stdout), len(request)


def _line(text: bytes) -> bytes:
    return f"{len(text) + 4:04x}".encode() + text


if __name__ == "__main__":
    sys.exit(main())
