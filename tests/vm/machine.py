"""A virtual machine with a kernel of its own: all cgroup v2 controllers, a real systemd, and nsprov in it.

The image is a Debian tree of the same release as this machine, with this machine's Python packages copied in,
so that nothing is fetched by the guest. It is kept in ``.cache/`` until what it is made of changes. Commands
run over a serial line, answered by ``answer_commands.py`` in the guest; there is no network.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,iproute2,nftables,libnftables1,python3,udev,kmod,iputils-ping,procps,libsystemd0"
BOOT_SECONDS = 240


def kernel() -> tuple[Path, Path, str]:
    """The kernel, its initrd and its version, of Debian's linux-image-cloud-amd64."""
    found = sorted(Path("/boot").glob("vmlinuz-*-cloud-*"))
    if not found:
        raise RuntimeError("no kernel for virtual machines: apt-get install linux-image-cloud-amd64 initramfs-tools")
    version = found[-1].name.removeprefix("vmlinuz-")
    return found[-1], Path(f"/boot/initrd.img-{version}"), version


def image() -> Path:
    """The root image without the project, built when there is none for this kernel and these packages."""
    _, _, version = kernel()
    lock = "".join(path.read_text() for path in sorted(CHECKOUT.glob("requirements*")) if path.is_file())
    mark = hashlib.sha256(f"{PACKAGES} {version} {lock} {sys.version} 2".encode()).hexdigest()[:12]
    cache = Path(os.environ.get("NSPROV_CACHE", CHECKOUT / ".cache")) / "vm"
    made = cache / f"root-{mark}.ext4"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _build(Path(scratch), made, version)
    return made


def _build(scratch: Path, made: Path, version: str) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    tree = scratch / "tree"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", release["VERSION_CODENAME"], tree],
        check=True,
    )
    shutil.copytree(f"/lib/modules/{version}", tree / "lib/modules" / version, symlinks=True)
    subprocess.run(["depmod", "-b", tree, version], check=True)
    packages = next(Path(sys.prefix, "lib").glob("python3*/site-packages"))
    shutil.copytree(packages, tree / "opt/nsprov/packages", symlinks=True)
    service = tree / "etc/systemd/system/answer-commands.service"
    service.write_text(
        "[Unit]\nAfter=basic.target dbus.service\n"
        "[Service]\nExecStart=/usr/bin/python3 /opt/nsprov/answer_commands.py\nStandardInput=null\n"
    )
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / service.name).symlink_to(f"/etc/systemd/system/{service.name}")
    shutil.copy(Path(__file__).parent / "answer_commands.py", tree / "opt/nsprov/answer_commands.py")
    fresh = scratch / "root.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, fresh, "3G"], check=True)
    fresh.rename(made)


class Machine:
    """A running virtual machine; ``run`` is a command in it. Ends with ``close``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nsprov-vm-"))
        disk = image()
        vmlinuz, initrd, _ = kernel()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / "serial"))
        listener.listen(1)
        self.console = self.folder / "console.txt"
        self._qemu = subprocess.Popen(
            shlex.split(
                f"qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -display none -no-reboot"
                f" -kernel {vmlinuz} -initrd {initrd} -append 'root=/dev/vda rw console=ttyS0 quiet'"
                f" -drive file={disk},format=raw,if=virtio,snapshot=on -nic none"
                f" -serial file:{self.console} -serial unix:{self.folder / 'serial'}"
            ),
            stdin=subprocess.DEVNULL,
        )
        self._line, _ = listener.accept()
        listener.close()
        self._buffer = b""
        self._wait_until_ready()
        self._send_project()

    def run(
        self, command: str | list[str], input: str | None = None, check: bool = True, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """A shell command, or an argument list, as root in the guest."""
        argv = ["bash", "-c", command] if isinstance(command, str) else command
        answer = self._ask({"argv": argv, "input": input}, timeout)
        done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess(
            argv, answer["code"], answer["stdout"], answer["stderr"]
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command!r} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def nsprov(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = "/opt/nsprov/checkout:/opt/nsprov/packages"
        command = ["env", f"PYTHONPATH={path}", "python3", "-m", "provisioner", *args]
        return self.run(command, check=check)

    def write(self, path: str, text: str) -> None:
        self.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path], input=text)

    def close(self) -> None:
        self._line.close()
        self._qemu.kill()
        self._qemu.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self._qemu.poll() is not None:
                break
            with contextlib.suppress(TimeoutError):
                if self._ask({"argv": ["true"], "input": None}, 5)["code"] == 0:
                    return
        console = self.console.read_text(errors="replace")[-3000:] if self.console.exists() else ""
        self.close()
        raise RuntimeError(f"the virtual machine did not start:\n{console}")

    def _send_project(self) -> None:
        files = subprocess.run(
            [
                "tar",
                "-C",
                CHECKOUT,
                "-cz",
                "--exclude=__pycache__",
                "provisioner",
                "roles",
                "templates",
                "inventories",
                "tests",
            ],
            check=True,
            capture_output=True,
        ).stdout
        self.run(
            "mkdir -p /opt/nsprov/checkout && base64 -d | tar -xz -C /opt/nsprov/checkout",
            input=base64.b64encode(files).decode(),
        )

    def _ask(self, request: dict[str, object], timeout: float) -> dict[str, Any]:
        self._line.settimeout(timeout)
        number = time.monotonic_ns()
        self._line.sendall(json.dumps({"number": number, **request}).encode() + b"\n")
        while True:
            while b"\n" not in self._buffer:
                self._buffer += self._line.recv(1 << 16)
            line, _, self._buffer = self._buffer.partition(b"\n")
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                # Before the guest's program has made its line raw, the terminal echoes what is sent to it.
                if answer["number"] == number and "code" in answer:
                    return dict(answer)
