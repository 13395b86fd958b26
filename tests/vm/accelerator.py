"""Which accelerator virtual machines can use here.

A machine may have ``/dev/kvm`` and still not run a kernel with it: where it is itself emulated, the emulator fails at
once, or hangs. So it is tried, once for each boot of this machine.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.vm import images

EMULATED = "tcg,thread=multi"
# A kernel without a root file system panics, which ends it, within a second where KVM works.
PROBE_SECONDS = 8


def accelerator(image: images.Image) -> str:
    """KVM where this image's kernel runs on it, emulation elsewhere."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATED
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = images.cache() / "accelerator"
    with contextlib.suppress(FileNotFoundError, ValueError):
        tried_at, found = remembered.read_text().split()
        if tried_at == boot:
            return found
    found = "kvm" if _kvm_runs(image) else EMULATED
    remembered.write_text(f"{boot} {found}\n")
    return found


def _kvm_runs(image: images.Image) -> bool:
    command: list[str | Path] = [
        *("qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none"),
        *("-no-reboot", "-kernel", image.kernel, "-append", "panic=-1 quiet"),
    ]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=PROBE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False
