"""A virtual machine with an aarch64 processor and kernel, and Debian of this machine's release, without any Python.

Its tree is unpacked, and never configured, as nothing of it runs here: what its packages would have done is done by
hand. It lives in the memory that it is booted into, and is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.vm.images import GUEST, VmError
from tests.vm.machine import free_port

PACKAGES = (
    "linux-image-cloud-arm64,systemd,systemd-sysv,dbus,udev,kmod,iproute2,iputils-ping,nftables,openssh-server,"
    "procps,passwd,login,base-files,base-passwd,bash,dash,coreutils,findutils,grep,sed,tar,gzip,hostname,mount,"
    "util-linux,libc-bin"
)
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt")
BOOT_SECONDS = 240
BOOTS = 2
SSHD = "PermitRootLogin prohibit-password\nHostKey /etc/ssh/ssh_host_ed25519_key\nSubsystem sftp internal-sftp\n"


class Aarch64Machine:
    """The machine, once it answers: ``ssh`` is the command that reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "ssh_config"
        self.ssh = ["ssh", "-F", str(self.config), "arm"]

    def run(self, command: str, check: bool = True) -> str:
        done = subprocess.run([*self.ssh, command], capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"{command!r} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout


@contextmanager
def aarch64_machine(folder: Path) -> Iterator[Aarch64Machine]:
    """Build one in the folder, start it, and end it. Needs root, as what is in its image belongs to root."""
    machine = Aarch64Machine(folder)
    _build(folder)
    port = free_port()
    host_key = (folder / "root/etc/ssh/ssh_host_ed25519_key.pub").read_text()
    (folder / "known_hosts").write_text(f"arm {host_key}")
    machine.config.write_text(
        f"Host arm\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  HostKeyAlias arm\n  IdentitiesOnly yes\n"
        f"  IdentityFile {folder}/key\n  UserKnownHostsFile {folder}/known_hosts\n  LogLevel ERROR\n"
    )
    shutil.rmtree(folder / "root")
    command = [
        *("setpriv", "--pdeathsig=KILL", "--", "qemu-system-aarch64", "-name", "aarch64"),
        *("-machine", "virt", "-cpu", "cortex-a57", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1536"),
        *("-nodefaults", "-display", "none", "-serial", f"file:{folder}/console.txt", "-no-reboot"),
        *("-kernel", folder / "kernel", "-initrd", folder / "initrd"),
        *("-append", "console=ttyAMA0 quiet net.ifnames=0 rdinit=/sbin/init"),
        *("-netdev", f"user,id=wire,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=wire,romfile=", "-device", "virtio-rng-pci"),
    ]
    emulator = _booted(machine, command)
    # It has them in memory by now.
    (folder / "initrd").unlink()
    try:
        yield machine
    finally:
        emulator.kill()
        emulator.wait()


def _booted(machine: Aarch64Machine, command: list[str | Path]) -> subprocess.Popen[bytes]:
    """The machine's emulator, once it answers. One in many hangs before its kernel says a word: it is tried again."""
    log = machine.folder / "qemu.txt"
    for _ in range(BOOTS):
        with log.open("wb") as file:
            emulator = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        try:
            if _answers(machine, emulator):
                return emulator
        except BaseException:
            emulator.kill()
            raise
        emulator.kill()
        emulator.wait()
    words = [
        path.read_text(errors="replace")[-3000:] for path in (log, machine.folder / "console.txt") if path.exists()
    ]
    raise VmError("the aarch64 machine did not start:\n" + "\n".join(words))


def _answers(machine: Aarch64Machine, emulator: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + BOOT_SECONDS
    while emulator.poll() is None and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            if subprocess.run([*machine.ssh, "true"], capture_output=True, timeout=30, check=False).returncode == 0:
                return True
        time.sleep(1)
    return False


def _build(folder: Path) -> None:
    """Make ``kernel`` and ``initrd`` there, and ``key``; the tree stays in ``root``."""
    root = folder / "root"
    root.mkdir()
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    unpack = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", f"--include={PACKAGES}"]
    _quietly([*unpack, '--aptopt=Acquire::Languages "none"', release["VERSION_CODENAME"], folder / "root.tar"])
    _quietly(["tar", "-xf", folder / "root.tar", "--exclude=./dev/*", "-C", root])
    (folder / "root.tar").unlink()
    for name in ("bin", "sbin", "lib"):
        # Where packages have all in /usr, these links are made when it is installed.
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    _configure(root)
    _let_in(root, folder)
    [version] = [path.name for path in (root / "lib/modules").iterdir()]
    _quietly(["depmod", "-b", root, version])
    (root / f"boot/vmlinuz-{version}").rename(folder / "kernel")
    shutil.rmtree(root / "boot")
    _quietly(["sh", "-c", 'cd "$1" && find . -xdev | cpio --quiet -o -H newc >"$2"', "sh", root, folder / "initrd"])


def _configure(root: Path) -> None:
    """What the packages' own scripts do, as far as it is needed here."""
    etc = root / "etc"
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", etc / name)
    with (etc / "passwd").open("a") as users, (etc / "group").open("a") as groups:
        users.write("sshd:x:105:65534::/run/sshd:/usr/sbin/nologin\nmessagebus:x:106:106::/:/usr/sbin/nologin\n")
        groups.write("messagebus:x:106:\n")
    names = [line.split(":")[0] for line in (etc / "passwd").read_text().splitlines()]
    (etc / "shadow").write_text("".join(f"{name}:*:20000:0:99999:7:::\n" for name in names))
    (etc / "hostname").write_text("arm\n")
    (etc / "hosts").write_text("127.0.0.1 localhost arm\n")
    (etc / "fstab").touch()
    (etc / "machine-id").write_text(f"{os.urandom(16).hex()}\n")
    shutil.copytree(GUEST / "etc/systemd", etc / "systemd", dirs_exist_ok=True)
    units = etc / "systemd/system"
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "vm-network.service").symlink_to("../vm-network.service")
    (wanted / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    for name in ("getty@tty1.service", "serial-getty@ttyAMA0.service"):
        (units / name).symlink_to("/dev/null")


def _let_in(root: Path, folder: Path) -> None:
    shutil.copytree(GUEST / "etc/ssh", root / "etc/ssh", dirs_exist_ok=True)
    config = root / "etc/ssh/sshd_config"
    config.write_text(SSHD + (GUEST / "etc/ssh/sshd_config.d/vm.conf").read_text())
    for path in (folder / "key", root / "etc/ssh/ssh_host_ed25519_key"):
        _quietly(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nsprov-vm", "-f", path])
    (root / "root").chmod(0o700)
    (root / "root/.ssh").mkdir(mode=0o700)
    (root / "root/.ssh/authorized_keys").write_text((folder / "key.pub").read_text())


def _quietly(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(f"failed: {' '.join(str(one) for one in command)}\n{done.stdout}{done.stderr}")
