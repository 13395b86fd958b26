"""A fleet: virtual machines that start together, with keys of their own, in one folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.vm import images
from tests.vm.accelerator import accelerator
from tests.vm.images import VmError
from tests.vm.machine import Machine

# The address of a unix socket ends here; ssh adds a random suffix while it makes one.
SOCKET_PATH_BYTES = 107 - 20


class Fleet:
    """The machines in a folder, each named after its release; nothing is left of them after ``stop``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def machines(self) -> list[Machine]:
        return [Machine(self.folder, path.parent.name) for path in sorted(self.folder.glob("*/release"))]

    def machine(self, name: str) -> Machine:
        found = {one.name: one for one in self.machines}
        if name not in found:
            known = f"there are {', '.join(found)}" if found else "none is started"
            raise VmError(f"there is no virtual machine {name}: {known}")
        return found[name]

    def start(self, releases: Iterable[str], *, outlives_us: bool) -> list[Machine]:
        """Start a machine of each release, without waiting for them."""
        built = images.build(releases)
        accelerated = accelerator(built[0])
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _make_key(self.folder / "id_ed25519")
        machines = [Machine(self.folder, image.release) for image in built]
        known_hosts = []
        for machine, image in zip(machines, built, strict=True):
            machine.folder.mkdir(mode=0o700)
            known_hosts.append(f"{machine.name} {_make_key(machine.folder / 'host_key')}")
            machine.start(image, accelerated, key, outlives_us=outlives_us)
        (self.folder / "known_hosts").write_text("".join(known_hosts))
        (self.folder / "ssh_config").write_text(self._ssh_config(machines))
        return machines

    def stop(self) -> None:
        for machine in self.machines:
            machine.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ssh_config(self, machines: list[Machine]) -> str:
        common = f"""\
Host *
    HostName 127.0.0.1
    User root
    IdentityFile {self.folder}/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile {self.folder}/known_hosts
    StrictHostKeyChecking yes
    LogLevel ERROR
    ServerAliveInterval 30
    ServerAliveCountMax 4
"""
        socket = f"{self.folder}/%n.ssh"
        if len(socket.encode()) < SOCKET_PATH_BYTES:
            # One handshake for all commands: an emulated processor takes a second for it.
            common += f"    ControlMaster auto\n    ControlPath {socket}\n    ControlPersist yes\n"
        hosts = [f"Host {one.name}\n    Port {one.port}\n    HostKeyAlias {one.name}\n" for one in machines]
        return "".join(hosts) + common


def _make_key(path: Path) -> str:
    """A new key pair; the public half as one line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nsprov-vm", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text()
