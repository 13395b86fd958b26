"""A virtual machine with a kernel of its own: all cgroup v2 controllers, a real systemd, and nsprov in it.

It has one wire, to the machine that emulates it, which reaches nothing but its ssh server. Its root disk is a
copy-on-write view of an image; a second disk brings it its name, its keys and the checkout, and a third is empty,
for whoever wants to measure one. All that exists of a machine outside of it is one folder and one process.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import shlex
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.vm.images import CHECKOUT, Image, VmError

MEMORY = "1024"
PROCESSORS = "2"
SCRATCH_BYTES = 1 << 30
# A boot takes a minute where two processors emulate two machines, and more where others work on them too. One in
# many hangs before its kernel says a word: it is tried again.
BOOT_SECONDS = 180
BOOTS = 3
# How long its ssh server may take for its first word, once it is up, before the machine is taken to hang.
GREETING_SECONDS = 30
# What ssh exits with for itself, and not for the command.
SSH_FAILED = 255
# Short names for interfaces; and nothing that only slows an emulated processor down.
KERNEL_OPTIONS = "net.ifnames=0 mitigations=off modprobe.blacklist=kvm_amd,kvm_intel"
# The emulator's own command line, in the machine's folder: it tells what a machine does that answers no more.
MONITOR = "monitor"
SENT = ("provisioner", "roles", "templates", "inventories", "tests", "pyproject.toml")


class Machine:
    """A virtual machine of a fleet: ``start`` it, ``run`` commands in it, and ``stop`` it."""

    def __init__(self, fleet: Path, name: str) -> None:
        self.name = name
        self.ssh = ["ssh", "-F", str(fleet / "ssh_config"), name]
        self.folder = fleet / name
        self.console = self.folder / "console.txt"
        #: What its emulator told of it when it was found to answer no more; empty while it does.
        self.last_state = ""
        self._command: list[str | Path] = []
        self._started: subprocess.Popen[bytes] | None = None

    def start(self, image: Image, accelerator: str, authorized_key: str, *, outlives_us: bool) -> None:
        """Start it, without waiting for it; unless it outlives us, the kernel ends it when this process ends."""
        (self.folder / "port").write_text(str(free_port()))
        (self.folder / "release").write_text(image.release)
        (self.folder / "scratch").touch()
        os.truncate(self.folder / "scratch", SCRATCH_BYTES)
        self._write_seed(authorized_key)
        self._command = [
            *([] if outlives_us else ["setpriv", "--pdeathsig=KILL", "--"]),
            *("qemu-system-x86_64", "-name", self.name),
            *("-accel", accelerator, "-cpu", "max", "-smp", PROCESSORS, "-m", MEMORY),
            *("-nodefaults", "-display", "none", "-serial", f"file:{self.console}"),
            *("-kernel", image.kernel, "-initrd", image.initrd),
            *("-append", f"root=/dev/vda rw console=ttyS0 quiet {KERNEL_OPTIONS}"),
            *_disk("root", image.root, "snapshot=on"),
            *_disk("seed", self.folder / "seed.tar", "readonly=on"),
            *_disk("scratch", self.folder / "scratch", "cache=unsafe"),
            *("-netdev", f"user,id=wire,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-pci,netdev=wire,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-monitor", f"unix:{MONITOR},server=on,wait=off"),
        ]
        self._boot()

    def _boot(self) -> None:
        with (self.folder / "qemu.txt").open("wb") as log:
            self._started = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        (self.folder / "pid").write_text(str(self._started.pid))

    @property
    def port(self) -> int:
        """Where its ssh server is reached on 127.0.0.1."""
        return int((self.folder / "port").read_text())

    @property
    def release(self) -> str:
        return (self.folder / "release").read_text()

    @property
    def running(self) -> bool:
        with self._process() as process:
            return process is not None

    def wait_until_ready(self) -> None:
        """Wait until its ssh server lets us in; one that this object started is started again when it does not."""
        for boots_left in reversed(range(BOOTS if self._command else 1)):
            if self._answers_within(BOOT_SECONDS):
                self.run("true", timeout=60)
                return
            if boots_left:
                self.stop()
                self._boot()
        raise VmError(f"the virtual machine {self.name} did not start:\n{self._last_words()}")

    def run(
        self, command: str | list[str], input: str | None = None, check: bool = True, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """A shell command, or an argument list, as root in the guest.

        Raises VmError, and does so at once from then on, where the whole machine answers no more.
        """
        if self.last_state:
            raise VmError(f"the virtual machine {self.name} has stopped answering")
        argv = ["bash", "-c", command] if isinstance(command, str) else command
        try:
            done = subprocess.run(
                [*self.ssh, shlex.join(argv)],
                input=input or "",
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            self._refuse_to_go_on_if_it_hangs()
            raise
        if done.returncode == SSH_FAILED:
            self._refuse_to_go_on_if_it_hangs()
        if check and done.returncode != 0:
            raise AssertionError(f"{command!r} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def _refuse_to_go_on_if_it_hangs(self) -> None:
        if self._answers_within(GREETING_SECONDS):
            return
        self.last_state = self._ask_the_emulator("info status", "info cpus", "info registers -a") or "nothing"
        raise VmError(
            f"the virtual machine {self.name} has stopped answering; its emulator says:\n"
            f"{self.last_state}\n{self._last_words()}"
        )

    def _answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            if self._greets():
                return True
            time.sleep(0.2)
        return False

    def _ask_the_emulator(self, *questions: str) -> str:
        # The folder's name may be longer than a socket's address can be.
        folder = os.open(self.folder, os.O_PATH)
        said = b""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(3)
                line.connect(f"/proc/self/fd/{folder}/{MONITOR}")
                line.sendall("".join(f"{one}\n" for one in questions).encode())
                while piece := line.recv(1 << 16):
                    said += piece
        except OSError:
            pass  # it has said all, or says nothing
        finally:
            os.close(folder)
        return said.decode(errors="replace")

    def nsprov(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(["nsprov", *args], check=check)

    def write(self, path: str, text: str) -> None:
        self.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path], input=text)

    def cut_power(self) -> None:
        """Cut its power and give it back, without waiting for it: what it had not written is lost."""
        self._ask_the_emulator("system_reset")
        self._forget_connection()

    def _forget_connection(self) -> None:
        subprocess.run([*self.ssh, "-O", "exit"], capture_output=True, timeout=30, check=False)

    def stop(self) -> None:
        """End it at once, as pulling the plug does."""
        self._forget_connection()
        with self._process() as process:
            if process is None:
                return
            signal.pidfd_send_signal(process, signal.SIGKILL)
            if self._started:
                self._started.wait()
            select.select([process], [], [], 30)

    @contextlib.contextmanager
    def _process(self) -> Iterator[int | None]:
        """Its emulator as a pidfd, or None when it has ended: a pid alone may be another program's by now."""
        try:
            pid = int((self.folder / "pid").read_text())
            handle = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError):
            yield None
            return
        try:
            yield handle if os.fsencode(self.folder) in _command_line(pid) else None
        except (FileNotFoundError, ProcessLookupError):
            yield None
        finally:
            os.close(handle)

    def _greets(self) -> bool:
        # The emulator accepts connections before the guest does, and holds them open.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as line:
            return line.recv(4) == b"SSH-"
        return False

    def _last_words(self) -> str:
        texts = [path.read_text(errors="replace") for path in (self.folder / "qemu.txt", self.console) if path.exists()]
        return "\n".join(texts)[-3000:]

    def _write_seed(self, authorized_key: str) -> None:
        private = self.folder / "host_key"
        with tarfile.open(self.folder / "seed.tar", "w") as seed:
            _put(seed, "etc/hostname", f"{self.name}\n")
            _put(seed, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost ip6-localhost\n")
            _put(seed, "etc/ssh/ssh_host_ed25519_key", private.read_text(), 0o600)
            _put(seed, "root/.ssh/authorized_keys", authorized_key, 0o600)
            for name in SENT:
                seed.add(CHECKOUT / name, f"opt/nsprov/checkout/{name}", filter=_source)


def _command_line(pid: int) -> bytes:
    """The command line of a process. One that is just being started has none for a moment, one that ended never."""
    for _ in range(50):
        found = Path(f"/proc/{pid}/cmdline").read_bytes()
        if found:
            return found
        time.sleep(0.01)
    return b""


def _put(seed: tarfile.TarFile, path: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime, entry.size = mode, int(time.time()), len(text.encode())
    seed.addfile(entry, io.BytesIO(text.encode()))


def _source(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith(("__pycache__", ".egg-info")) else entry


def _disk(name: str, path: Path, option: str) -> list[str]:
    """A disk that the guest finds as /dev/disk/by-id/virtio-NAME."""
    return [
        *("-drive", f"file={path},format=raw,if=none,id={name},{option}"),
        *("-device", f"virtio-blk-pci,drive={name},serial={name}"),
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
