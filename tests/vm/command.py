"""``scripts/vm``: builds images, and starts, shows, enters and stops a fleet of virtual machines."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from tests.vm import images
from tests.vm.fleet import Fleet
from tests.vm.images import RELEASES, VmError

USAGE = f"""\
scripts/vm build [RELEASE ...]      build the images that are missing, and keep them
scripts/vm start [RELEASE ...]      start a machine of each release, and wait until ssh lets you in
scripts/vm list                     the machines that are started
scripts/vm ssh NAME [-- COMMAND]    a shell, or one command, as root in a machine
scripts/vm stop                     end all machines, and leave nothing of them

Releases: {", ".join(RELEASES)}; all of them where none is given. A machine is named after its release.
A fleet beside this one is in the folder that NSPROV_FLEET names.
"""


def main(words: list[str]) -> int:
    fleet = Fleet(Path(os.environ.get("NSPROV_FLEET") or images.cache() / "fleet"))
    try:
        match words:
            case ["build", *names]:
                build(known(names))
            case ["start", *names]:
                start(fleet, known(names))
            case ["list"]:
                show(fleet)
            case ["ssh", name, "--", *command] | ["ssh", name, *command]:
                enter(fleet, name, command)
            case ["stop"]:
                fleet.stop()
            case ["-h" | "--help" | "help"]:
                print(USAGE, end="")
            case _:
                print(USAGE, end="", file=sys.stderr)
                return 64
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return 0


def known(names: list[str]) -> list[str]:
    for name in names:
        if name not in RELEASES:
            raise VmError(f"there are no images of {name}: the releases are {' and '.join(RELEASES)}")
    return list(dict.fromkeys(names)) or list(RELEASES)


def build(releases: list[str]) -> None:
    started = time.monotonic()
    missing = [release for release in releases if not images.image_of(release).built]
    if missing:
        how = "root, in namespaces of its own" if os.geteuid() == 0 else "unprivileged, in a user namespace"
        print(f"building {' and '.join(missing)} with mmdebstrap ({how}) ...", flush=True)
    for image in images.build(releases):
        print(f"{image.release:<10} {image.folder}", flush=True)
    if missing:
        print(f"built in {time.monotonic() - started:.0f} s", flush=True)


def start(fleet: Fleet, releases: list[str]) -> None:
    if running := [one.name for one in fleet.machines if one.running]:
        raise VmError(f"already started: {', '.join(running)}; end them first: scripts/vm stop")
    fleet.stop()
    build(releases)
    started = time.monotonic()
    try:
        for machine in fleet.start(releases, outlives_us=True):
            machine.wait_until_ready()
            print(f"{machine.name} is up after {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        fleet.stop()
        raise
    show(fleet)


def show(fleet: Fleet) -> None:
    machines = fleet.machines
    if not machines:
        print("no machine is started; start a fleet: scripts/vm start")
    for one in machines:
        state = "running" if one.running else "ended"
        print(f"{one.name:<10} {state:<8} 127.0.0.1:{one.port:<6} {shlex.join(one.ssh)}")


def enter(fleet: Fleet, name: str, command: list[str]) -> None:
    ssh = fleet.machine(name).ssh
    # One word is a line for the shell, as it is to ssh; several are an argument list, and arrive as they were given.
    line = command if len(command) < 2 else [shlex.join(command)]
    os.execvp(ssh[0], [*ssh, *line])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
