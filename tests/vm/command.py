"""``scripts/vm``: builds images, and starts, shows, enters and stops a fleet of virtual machines."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time

from tests.vm import images
from tests.vm.fleet import Fleet
from tests.vm.images import RELEASES, VmError

USAGE = """\
scripts/vm build [RELEASE ...]      build the images that are missing, and keep them
scripts/vm start [RELEASE ...]      start a machine of each release (bookworm and trixie), and wait for its ssh
scripts/vm list                     the machines that are started
scripts/vm ssh NAME [-- COMMAND]    a shell, or one command, as root in a machine
scripts/vm stop                     end all machines, and leave nothing of them
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/vm", usage="\n" + USAGE, add_help=True)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="build|start|list|ssh|stop")
    for verb in ("build", "start"):
        verbs.add_parser(verb).add_argument("releases", nargs="*", metavar="RELEASE")
    verbs.add_parser("list")
    verbs.add_parser("stop")
    ssh = verbs.add_parser("ssh")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    chosen = parser.parse_args()
    fleet = Fleet(images.cache() / "fleet")
    try:
        match chosen.verb:
            case "build":
                build(chosen.releases)
            case "start":
                start(fleet, chosen.releases)
            case "list":
                show(fleet)
            case "ssh":
                enter(fleet, chosen.name, chosen.command)
            case "stop":
                fleet.stop()
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return 0


def build(names: list[str]) -> None:
    started = time.monotonic()
    wanted = known(names)
    missing = [release for release in wanted if not images.image_of(release).built]
    if missing:
        how = "root, in namespaces of its own" if os.geteuid() == 0 else "an unprivileged user namespace"
        print(f"building {' and '.join(missing)} with mmdebstrap ({how}) ...", flush=True)
    for image in images.build(wanted):
        print(f"{image.release}  {image.folder}")
    if missing:
        print(f"built in {time.monotonic() - started:.0f} s")


def start(fleet: Fleet, names: list[str]) -> None:
    if running := [one.name for one in fleet.machines if one.running]:
        raise VmError(f"{' and '.join(running)} is started already; end it with: scripts/vm stop")
    fleet.stop()
    wanted = known(names)
    build(wanted)
    started = time.monotonic()
    try:
        for machine in fleet.start(wanted, outlives_us=True):
            machine.wait_until_ready()
            print(f"{machine.name} is up after {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        fleet.stop()
        raise
    show(fleet)


def show(fleet: Fleet) -> None:
    machines = fleet.machines
    if not machines:
        print("no machine is started; start two with: scripts/vm start")
        return
    for one in machines:
        state = "running" if one.running else "ended"
        print(f"{one.name:<10} {state:<8} 127.0.0.1:{one.port:<6} {' '.join(one.ssh)}")


def enter(fleet: Fleet, name: str, command: list[str]) -> None:
    words = command[1:] if command[:1] == ["--"] else command
    ssh = fleet.machine(name).ssh
    os.execvp(ssh[0], [*ssh, shlex.join(words)] if words else ssh)


def known(names: list[str]) -> list[str]:
    for name in names:
        if name not in RELEASES:
            raise VmError(f"{name} is no release that images are built of: there are {' and '.join(RELEASES)}")
    return list(dict.fromkeys(names)) or list(RELEASES)


if __name__ == "__main__":
    sys.exit(main())
