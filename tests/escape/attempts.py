"""What a workload tries in order to get out: one function each, which returns what it got, or raises.

    python3 -m tests.escape.attempts FOLDER [PROOF ...]

Runs each attempt in a child of its own with a limit of time, and prints a line of JSON for each: whether it
succeeded, and what it said. It runs as the workload itself, with no more rights than that, and needs the
standard library alone. What an attempt does where it succeeds changes nothing of a host that lasts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.escape import bus, kernel, wire
from tests.escape.bait import ECHO_PORT, KEY, LOOPBACK_PORT, NAME

SECRET = "the-secret-of-the-host"
#: A file for root of the host alone, and one that everybody on the host may write.
SECRET_FILE, OPEN_FILE = "/var/lib/escape/secret", "/var/lib/escape/open"
BRIDGE, NEIGHBOUR = "esc0", "red"
GATEWAY, NEIGHBOURS_ADDRESS = "10.99.0.1", "10.99.0.12"
GATEWAY6, NEIGHBOURS_ADDRESS6 = "fd99::1", "fd99::12"
SECONDS = 30


class RefusedError(Exception):
    """An attempt that came to nothing without an error of the kernel."""


@dataclass(frozen=True, slots=True)
class Bait:
    """What there is to be reached on the host, and where."""

    folder: str
    pid: int
    address: int
    length: int
    fd: int
    key: int

    def process(self) -> int:
        """The number of the host's process. RefusedError where that number is somebody else here."""
        with contextlib.suppress(OSError):
            if b"tests.escape.bait" not in Path(f"/proc/{self.pid}/cmdline").read_bytes():
                raise RefusedError(f"{self.pid} is another process here")
        return self.pid


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way out."""

    name: str
    #: What it tries, as a sentence.
    does: str
    #: What of the isolation it is up against, in words of ``isolate``, or directives of ``harden``.
    against: str
    #: The unit in which it succeeds: ``open``, on the host without isolation, or ``wired``, in a tenant whose
    #: port on the bridge is not guarded.
    proof: str
    #: Whether it can succeed on a real machine alone: a sandbox stops it even without isolation.
    machine: bool
    run: Callable[[Bait], str]


ATTEMPTS: dict[str, Attempt] = {}


def attempt(
    against: str, *, proof: str = "open", machine: bool = False, name: str = "", does: str = ""
) -> Callable[[Callable[[Bait], str]], Callable[[Bait], str]]:
    """Registers a function as an attempt; its name and its docstring are the attempt's."""

    def register(run: Callable[[Bait], str]) -> Callable[[Bait], str]:
        called = name or run.__name__
        ATTEMPTS[called] = Attempt(called, does or (run.__doc__ or "").strip(), against, proof, machine, run)
        return run

    return register


def secret_in(data: bytes) -> str:
    if SECRET.encode() not in data:
        raise RefusedError(f"it is not there: {data[:40]!r}")
    return "the secret"


def first_that_works(tries: Iterator[Callable[[], str]]) -> str:
    """What the first of several ways came to; the last error where none did."""
    last: Exception = RefusedError("there is nothing to try")
    for one in tries:
        try:
            return one()
        except (OSError, RefusedError) as error:
            last = error
    raise last


# -- processes outside ----------------------------------------------------------------------------


@attempt("pid")
def see_a_process_outside(bait: Bait) -> str:
    """See a process of the host in /proc."""
    for entry in os.listdir("/proc"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if entry.isdecimal() and b"tests.escape.bait" in Path("/proc", entry, "cmdline").read_bytes():
                return f"process {entry}"
    raise RefusedError("there is none")


@attempt("pid")
def signal_a_process_outside(bait: Bait) -> str:
    """Send a signal to a process of the host by its number."""
    os.kill(bait.process(), signal.SIGUSR1)
    return f"signalled {bait.pid}"


@attempt("pid")
def read_the_environment_of_a_process_outside(bait: Bait) -> str:
    """Read the environment of a process of the host."""
    return secret_in(Path(f"/proc/{bait.process()}/environ").read_bytes())


@attempt("pid")
def leave_through_the_root_of_another_process(bait: Bait) -> str:
    """Read a file of the host through /proc/PID/root."""
    pids = ["1", str(bait.pid), str(os.getppid())]
    return first_that_works(
        lambda pid=pid: secret_in(Path(f"/proc/{pid}/root{SECRET_FILE}").read_bytes())  # type: ignore[misc]
        for pid in pids
    )


@attempt("pid")
def open_a_file_that_another_process_has_open(bait: Bait) -> str:
    """Open what a process of the host has open, through /proc/PID/fd."""
    return secret_in(Path(f"/proc/{bait.process()}/fd/{bait.fd}").read_bytes())


@attempt("pid")
def take_an_open_file_from_another_process(bait: Bait) -> str:
    """Duplicate a descriptor of a process of the host (pidfd_getfd)."""
    process = os.pidfd_open(bait.process())
    return secret_in(os.pread(kernel.call("pidfd_getfd", process, bait.fd, 0), 100, 0))


@attempt("pid")
def trace_a_process_outside(bait: Bait) -> str:
    """Attach to a process of the host as a debugger does (ptrace)."""
    kernel.call("ptrace", 0x4206, bait.process(), 0, 0)  # PTRACE_SEIZE; ends as this process ends
    return f"traces {bait.pid}"


def _remote(bait: Bait) -> tuple[Any, Any, Any]:
    buffer = ctypes.create_string_buffer(bait.length)
    here = kernel.Array(ctypes.cast(buffer, ctypes.c_void_p), bait.length)
    return buffer, here, kernel.Array(bait.address, bait.length)


@attempt("pid")
def read_the_memory_of_a_process_outside(bait: Bait) -> str:
    """Read the memory of a process of the host (process_vm_readv)."""
    buffer, here, there = _remote(bait)
    kernel.call("process_vm_readv", bait.process(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return secret_in(buffer.raw)


@attempt("pid")
def write_the_memory_of_a_process_outside(bait: Bait) -> str:
    """Write into the memory of a process of the host (process_vm_writev)."""
    buffer, here, there = _remote(bait)
    buffer.value = SECRET.encode()[: bait.length]
    kernel.call("process_vm_writev", bait.process(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return "written"


@attempt("pid")
def open_the_memory_of_a_process_outside(bait: Bait) -> str:
    """Read the memory of a process of the host through /proc/PID/mem."""
    with open(f"/proc/{bait.process()}/mem", "rb", 0) as file:  # noqa: PTH123
        file.seek(bait.address)
        return secret_in(file.read(bait.length))


@attempt("pid")
def slow_down_a_process_outside(bait: Bait) -> str:
    """Change the priority of a process of the host."""
    os.setpriority(os.PRIO_PROCESS, bait.process(), 5)
    return "slower"


@attempt("pid")
def limit_a_process_outside(bait: Bait) -> str:
    """Set a limit of a process of the host (prlimit)."""
    now = resource.prlimit(bait.process(), resource.RLIMIT_CORE)
    resource.prlimit(bait.process(), resource.RLIMIT_CORE, now)
    return f"its core files: {now}"


@attempt("pid")
def have_a_process_outside_killed_first(bait: Bait) -> str:
    """Have a process of the host killed first when memory runs out."""
    Path(f"/proc/{bait.process()}/oom_score_adj").write_text("900")
    return "killed first"


# -- files of the host ----------------------------------------------------------------------------


@attempt("user")
def read_a_file_of_root(bait: Bait) -> str:
    """Read a file that only root of the host may read."""
    return secret_in(Path(SECRET_FILE).read_bytes())


@attempt("mount, ProtectSystem")
def write_a_file_that_everybody_may_write(bait: Bait) -> str:
    """Write a file of the host that all users of the host may write."""
    with open(OPEN_FILE, "r+b", 0) as file:  # noqa: PTH123
        file.write(b"x")
    return OPEN_FILE


def _left_and_removed(path: str) -> str:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(descriptor)
    os.unlink(path)  # noqa: PTH108
    return path


@attempt("mount, ProtectSystem")
def leave_a_file_on_the_host(bait: Bait) -> str:
    """Make a file in /etc, /usr, /run, or /boot."""
    places = ("/etc", "/usr/local/bin", "/run/systemd/system", "/boot")
    return first_that_works(lambda one=one: _left_and_removed(f"{one}/escape-{os.getpid()}") for one in places)  # type: ignore[misc]


@attempt("mount", machine=True)
def remount_the_root_writable(bait: Bait) -> str:
    """Mount its root anew so that it may write."""
    with contextlib.suppress(OSError):
        kernel.mounts_of_its_own()
    kernel.mount("none", "/", flags=kernel.MS_REMOUNT | kernel.MS_BIND)
    return "mounted anew"


def _mount_point() -> str:
    return next(one for one in ("/mnt", "/tmp", "/usr") if Path(one).is_dir())


def _mounted_here(type: str, data: str = "") -> str:
    with contextlib.suppress(OSError):
        kernel.mounts_of_its_own()
    kernel.mount("none", _mount_point(), type, data=data)
    return f"a {type}"


@attempt("user, CapabilityBoundingSet")
def mount_a_file_system(bait: Bait) -> str:
    """Mount a file system."""
    return _mounted_here("tmpfs")


@attempt("user, CapabilityBoundingSet")
def mount_proc_anew(bait: Bait) -> str:
    """Mount a /proc that nothing is taken from."""
    return _mounted_here("proc")


@attempt("user, CapabilityBoundingSet")
def mount_the_control_groups_anew(bait: Bait) -> str:
    """Mount the control groups where they can be written."""
    return _mounted_here("cgroup2")


@attempt("user, CapabilityBoundingSet", machine=True)
def mount_control_groups_with_a_release_agent(bait: Bait) -> str:
    """Mount control groups of version 1, whose release agent the kernel runs as root of the host."""
    return _mounted_here("cgroup", "none,name=escape")


@attempt("user, CapabilityBoundingSet", machine=True)
def mount_the_kernels_debugging(bait: Bait) -> str:
    """Mount what the kernel shows to who debugs it (debugfs)."""
    return _mounted_here("debugfs")


@attempt("user, CapabilityBoundingSet")
def unmount_what_hides_the_kernels_settings(bait: Bait) -> str:
    """Take away what is mounted over /proc and /sys."""
    with contextlib.suppress(OSError):
        kernel.mounts_of_its_own()
    places = ("/proc/sys", "/proc/kcore", "/sys", "/proc")
    return first_that_works(
        lambda one=one: f"{one}{kernel.call('umount2', one.encode(), kernel.MNT_DETACH) or ''}"  # type: ignore[misc]
        for one in places
    )


@attempt("user, CapabilityBoundingSet", machine=True)
def clone_a_tree_of_mounts(bait: Bait) -> str:
    """Take a copy of a mount to put it elsewhere (open_tree)."""
    kernel.call("open_tree", -100, b"/", 0x8001)
    return "cloned"


@attempt("user, CapabilityBoundingSet")
def configure_a_file_system(bait: Bait) -> str:
    """Make a file system with the newer calls (fsopen)."""
    kernel.call("fsopen", b"tmpfs", 0)
    return "open"


@attempt("user, CapabilityBoundingSet")
def change_the_root(bait: Bait) -> str:
    """Leave by a second chroot, which forgets the first."""
    outside = os.open("/", os.O_RDONLY)
    os.chroot(_mount_point())
    os.fchdir(outside)
    for _ in range(20):
        os.chdir("..")
    os.chroot(".")
    return secret_in(Path(SECRET_FILE).read_bytes())


@attempt("user, CapabilityBoundingSet")
def pivot_the_root(bait: Bait) -> str:
    """Put another file system in the place of its root (pivot_root)."""
    with contextlib.suppress(OSError):
        kernel.mounts_of_its_own()
    point = _mount_point().encode()
    with contextlib.suppress(OSError):
        kernel.mount("none", point.decode(), "tmpfs")
    kernel.call("pivot_root", point, point)
    return "another root"


@attempt("user, CapabilityBoundingSet", machine=True)
def open_a_file_by_its_handle(bait: Bait) -> str:
    """Open a file by its number, past the folders that it is in (open_by_handle_at)."""

    def one(path: str) -> str:
        handle = bytearray(136)
        struct.pack_into("I", handle, 0, 128)
        buffer = (ctypes.c_char * 136).from_buffer(handle)
        kernel.call("name_to_handle_at", -100, path.encode(), buffer, ctypes.byref(ctypes.c_int()), 0)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        kernel.call("open_by_handle_at", folder, buffer, os.O_RDONLY)
        return path

    places = [one for one in ("/", "/run", "/dev/shm", "/dev", "/tmp", "/usr") if Path(one).is_dir()]
    return first_that_works(lambda path=path: one(path) for path in places)  # type: ignore[misc]


@attempt("user, CapabilityBoundingSet", machine=True)
def watch_every_file(bait: Bait) -> str:
    """Be told of every file that anybody opens (fanotify)."""
    kernel.call("fanotify_init", 0, os.O_RDONLY)
    return "watching"


# -- devices and the kernel -----------------------------------------------------------------------


@attempt("PrivateDevices", machine=True)
def read_a_disk(bait: Bait) -> str:
    """Read the disk under every file system."""
    disks = ("/dev/vda", "/dev/sda", "/dev/nvme0n1")
    return first_that_works(lambda one=one: f"{len(Path(one).open('rb', 0).read(512))} bytes of {one}" for one in disks)  # type: ignore[misc]


@attempt("user, CapabilityBoundingSet", machine=True)
def make_a_device_node(bait: Bait) -> str:
    """Make the device of the machine's memory (mknod)."""

    def one(folder: str) -> str:
        path = f"{folder}/escape-{os.getpid()}"
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 1))
        os.unlink(path)  # noqa: PTH108
        return path

    return first_that_works(lambda folder=folder: one(folder) for folder in ("/dev", "/tmp", "/var/tmp", "/dev/shm"))  # type: ignore[misc]


@attempt("PrivateDevices", machine=True)
def type_on_a_terminal_of_the_host(bait: Bait) -> str:
    """Put a key into the queue of a terminal of the host, as if somebody had typed it (TIOCSTI)."""

    def one(path: str) -> str:
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        fcntl.ioctl(terminal, 0x5412, b"\n")
        return path

    terminals = ("/dev/tty", "/dev/console", "/dev/ttyS0", "/dev/tty1", "/dev/pts/0")
    return first_that_works(lambda path=path: one(path) for path in terminals)  # type: ignore[misc]


@attempt("ProtectKernelLogs", machine=True)
def read_the_kernels_log(bait: Bait) -> str:
    """Read the kernel's log by its system call."""
    buffer = ctypes.create_string_buffer(4096)
    return f"{kernel.call('klogctl', 3, buffer, 4096)} bytes"


@attempt("ProtectKernelLogs", machine=True)
def read_the_kernels_log_as_a_file(bait: Bait) -> str:
    """Read the kernel's log at /dev/kmsg or /proc/kmsg."""

    def one(path: str) -> str:
        line = os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 8192)
        if not line:
            raise RefusedError(f"{path} is empty")
        return f"{len(line)} bytes of {path}"

    return first_that_works(lambda path=path: one(path) for path in ("/dev/kmsg", "/proc/kmsg"))  # type: ignore[misc]


@attempt("ProtectKernelLogs", machine=True)
def forge_a_line_of_the_kernels_log(bait: Bait) -> str:
    """Write into the kernel's log."""
    os.write(os.open("/dev/kmsg", os.O_WRONLY), b"escape\n")
    return "written"


def _written_as_it_was(paths: tuple[str, ...]) -> str:
    def one(path: str) -> str:
        with open(path, "r+b", 0) as file:  # noqa: PTH123
            value = file.read(4096)
            file.seek(0)
            file.write(value)
        return path

    return first_that_works(lambda path=path: one(path) for path in paths)  # type: ignore[misc]


@attempt("ProtectKernelTunables", machine=True)
def change_a_setting_of_the_kernel(bait: Bait) -> str:
    """Write a setting in /proc/sys."""
    return _written_as_it_was(("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/proc/sys/kernel/panic"))


@attempt("ProtectKernelTunables", machine=True)
def change_a_setting_in_sys(bait: Bait) -> str:
    """Write a setting in /sys."""
    return _written_as_it_was(("/sys/kernel/mm/ksm/run", "/sys/kernel/mm/ksm/sleep_millisecs"))


@attempt("ProtectKernelTunables", machine=True)
def trigger_the_kernels_emergency_keys(bait: Bait) -> str:
    """Write to /proc/sysrq-trigger."""
    Path("/proc/sysrq-trigger").write_text("h")  # tells the keys that there are
    return "triggered"


@attempt("user, ProcSubset", machine=True)
def read_the_memory_of_the_kernel(bait: Bait) -> str:
    """Read the machine's memory through /proc/kcore."""
    return f"{len(Path('/proc/kcore').open('rb', 0).read(64))} bytes"


@attempt("user, CapabilityBoundingSet", machine=True)
def load_a_module(bait: Bait) -> str:
    """Load code into the kernel."""
    try:
        kernel.call("finit_module", os.open("/usr/bin/env", os.O_RDONLY), b"", 0)
    except OSError as error:
        if error.errno not in (errno.ENOEXEC, errno.EINVAL, errno.EBADMSG):
            raise
    return "the kernel has looked at it"


@attempt("user, CapabilityBoundingSet", machine=True)
def reach_the_ports_of_devices(bait: Bait) -> str:
    """Have the right to speak to devices without the kernel (iopl)."""
    kernel.call("iopl", 3)
    return "every port"


@attempt("user, CapabilityBoundingSet", machine=True)
def have_the_machine_restart_on_a_key(bait: Bait) -> str:
    """Change what Ctrl-Alt-Del does (reboot)."""
    kernel.call("reboot", 0x89ABCDEF - (1 << 32))
    return "restarts"


@attempt("user, CapabilityBoundingSet", machine=True)
def set_the_clock(bait: Bait) -> str:
    """Set the machine's clock."""
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
    return "set"


@attempt("user, CapabilityBoundingSet", machine=True)
def change_the_speed_of_the_clock(bait: Bait) -> str:
    """Have the machine's clock go faster or slower (adjtimex)."""
    state = bytearray(208)
    buffer = (ctypes.c_char * 208).from_buffer(state)
    kernel.call("adjtimex", buffer)
    struct.pack_into("I", state, 0, 2)  # ADJ_FREQUENCY: as it was
    kernel.call("adjtimex", buffer)
    return "tuned"


@attempt("user, CapabilityBoundingSet")
def set_the_hostname(bait: Bait) -> str:
    """Name the host."""
    socket.sethostname(socket.gethostname())
    return socket.gethostname()


@attempt("user, CapabilityBoundingSet", machine=True)
def account_for_processes(bait: Bait) -> str:
    """Turn the accounting of processes off (acct)."""
    kernel.call("acct", None)
    return "off"


@attempt("user, CapabilityBoundingSet", machine=True)
def load_a_program_into_the_kernel(bait: Bait) -> str:
    """Make a map for programs in the kernel (bpf)."""
    attributes = (ctypes.c_char * 128).from_buffer(bytearray(struct.pack("4I", 2, 4, 4, 1).ljust(128, b"\0")))
    kernel.call("bpf", 0, attributes, 72)
    return "a map"


@attempt("user, CapabilityBoundingSet", machine=True)
def measure_the_whole_machine(bait: Bait) -> str:
    """Watch what a processor does, whoever it does it for (perf_event_open)."""
    attributes = (ctypes.c_char * 112).from_buffer(bytearray(struct.pack("IIQ", 1, 112, 0).ljust(112, b"\0")))
    kernel.call("perf_event_open", attributes, -1, 0, -1, 0)
    return "watching processor 0"


@attempt("user, CapabilityBoundingSet, SystemCallFilter", machine=True)
def stop_the_kernel_at_a_page(bait: Bait) -> str:
    """Have the kernel wait for this process where it touches its memory (userfaultfd)."""
    kernel.call("userfaultfd", 0)
    return "a descriptor"


@attempt("SystemCallFilter")
def have_the_kernel_do_its_calls(bait: Bait) -> str:
    """Have system calls done by the kernel itself, past every filter of them (io_uring)."""
    kernel.call("io_uring_setup", 1, (ctypes.c_char * 120)())
    return "a ring"


@attempt("RestrictAddressFamilies")
def speak_a_rare_protocol(bait: Bait) -> str:
    """Have the kernel load a protocol that nobody here needs."""

    def one(family: int, type: socket.SocketKind) -> str:
        socket.socket(family, type).close()
        return f"family {family}"

    rare = ((38, socket.SOCK_SEQPACKET), (40, socket.SOCK_STREAM), (44, socket.SOCK_RAW), (16, socket.SOCK_RAW))
    return first_that_works(lambda family=family, type=type: one(family, type) for family, type in rare)  # type: ignore[misc]


@attempt("MemoryDenyWriteExecute")
def write_code_and_run_it(bait: Bait) -> str:
    """Have memory that can be written and run."""
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return "a page"


@attempt("LockPersonality")
def have_the_kernel_be_an_older_one(bait: Bait) -> str:
    """Change the personality of what it runs."""
    kernel.call("personality", 0x0040000)
    return "without random addresses"


# -- control groups and limits --------------------------------------------------------------------


def _groups(depth: int = 4) -> Iterator[Path]:
    """The control groups that are in sight."""
    root = Path("/sys/fs/cgroup")
    above = [root]
    for _ in range(depth):
        yield from above
        below = []
        for one in above:
            with contextlib.suppress(OSError):
                below += [path for path in one.iterdir() if path.is_dir() and not path.is_symlink()]
        above = below


def _own_groups() -> list[Path]:
    path = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))[3:]
    unit = path.rpartition("/")[2]
    own = Path("/sys/fs/cgroup", path.lstrip("/"))
    return [own, *(one for one in _groups() if one.name in (unit, "escape-sealed.service"))]


@attempt("cgroup, ProtectControlGroups", machine=True)
def lift_its_own_memory_limit(bait: Bait) -> str:
    """Write the memory.max of its own control group."""

    def one(group: Path) -> str:
        with open(group / "memory.max", "r+") as file:  # noqa: PTH123
            file.write("max")
        return str(group)

    return first_that_works(lambda group=group: one(group) for group in _own_groups())  # type: ignore[misc]


@attempt("cgroup, ProtectControlGroups")
def write_its_own_control_group(bait: Bait) -> str:
    """Write a file of its own control group."""

    def one(group: Path) -> str:
        with open(group / "cgroup.max.depth", "r+") as file:  # noqa: PTH123
            file.write("max")
        return str(group)

    return first_that_works(lambda group=group: one(group) for group in _own_groups())  # type: ignore[misc]


@attempt("cgroup, ProtectControlGroups")
def make_a_control_group(bait: Bait) -> str:
    """Make a control group within its own, or in the root of all."""

    def one(group: Path) -> str:
        made = group / f"escape-{os.getpid()}"
        made.mkdir()
        made.rmdir()
        return str(made)

    groups = [*_own_groups(), Path("/sys/fs/cgroup")]
    return first_that_works(lambda group=group: one(group) for group in groups)  # type: ignore[misc]


@attempt("cgroup, ProtectControlGroups")
def move_to_another_control_group(bait: Bait) -> str:
    """Leave its control group, and with it all its limits, for another one."""

    def one(group: Path) -> str:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        return str(group)

    named = Path("/proc/self/cgroup").read_text().strip().rpartition("/")[2]
    others = [group for group in _groups() if group.name != named]
    return first_that_works(lambda group=group: one(group) for group in others)  # type: ignore[misc]


@attempt("cgroup, ProtectControlGroups")
def freeze_another_unit(bait: Bait) -> str:
    """Stop another unit through its control group."""
    for group in _groups():
        if group.name == "escape-bait.service":
            (group / "cgroup.freeze").write_text("0")
            return str(group)
    raise RefusedError("it is not in sight")


@attempt("user, CapabilityBoundingSet", machine=True)
def raise_its_own_limit(bait: Bait) -> str:
    """Raise the limit that its own limit of open files may be raised to."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 1, most + 1))
    return f"{most + 1} files"


@attempt("user, CapabilityBoundingSet", machine=True)
def be_more_important(bait: Bait) -> str:
    """Raise its own priority."""
    return f"nice {os.nice(-5)}"


@attempt("user, RestrictRealtime", machine=True)
def be_more_important_than_all(bait: Bait) -> str:
    """Run at real-time priority."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "real-time"


@attempt("user, CapabilityBoundingSet", machine=True)
def have_the_disks_first(bait: Bait) -> str:
    """Have the disks at real-time priority (ioprio_set)."""
    kernel.call("ioprio_set", 1, 0, 1 << 13)
    return "real-time"


@attempt("user, CapabilityBoundingSet", machine=True)
def be_killed_last(bait: Bait) -> str:
    """Have itself killed last when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("-500")
    return "killed last"


# -- rights ---------------------------------------------------------------------------------------


@attempt("CapabilityBoundingSet")
def become_another_user(bait: Bait) -> str:
    """Become another user."""
    os.setuid(4711)
    return f"user {os.getuid()}"


@attempt("CapabilityBoundingSet")
def have_a_capability(bait: Bait) -> str:
    """Raise a capability that it has not (capset)."""
    wanted = 1 << 21  # CAP_SYS_ADMIN
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kernel.call("capset", header, (ctypes.c_uint32 * 6)(wanted, wanted, 0, 0, 0, 0))
    return "CAP_SYS_ADMIN"


def _what_it_prints(program: str) -> str:
    with contextlib.suppress(OSError):
        os.setgroups([])
    with contextlib.suppress(OSError):
        os.setgid(65534)
        os.setuid(65534)
    return secret_in(subprocess.run([program, SECRET_FILE], capture_output=True, check=False).stdout)


@attempt("user, NoNewPrivileges")
def run_a_program_that_is_root(bait: Bait) -> str:
    """Run a set-user-id program of the host."""
    return _what_it_prints(f"{bait.folder}/cat-set-user-id")


@attempt("user, NoNewPrivileges")
def run_a_program_that_has_rights(bait: Bait) -> str:
    """Run a program of the host that has file capabilities."""
    return _what_it_prints(f"{bait.folder}/cat-with-capabilities")


# -- namespaces -----------------------------------------------------------------------------------

_KINDS = {
    "mount": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "user": kernel.CLONE_NEWUSER,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "time": kernel.CLONE_NEWTIME,
}


def _makes_one(kind: str, flag: int) -> None:
    @attempt("user, RestrictNamespaces", name=f"make_a_new_{kind}_namespace", does=f"Make a new {kind} namespace.")
    def make(bait: Bait) -> str:
        kernel.call("unshare", flag)
        return os.readlink(f"/proc/self/ns/{'mnt' if kind == 'mount' else kind}")  # noqa: PTH115


for _kind, _flag in _KINDS.items():
    _makes_one(_kind, _flag)


@attempt("user, RestrictNamespaces")
def start_a_process_in_new_users(bait: Bait) -> str:
    """Make a user namespace with the newer call, whose arguments no filter reads (clone3)."""
    arguments = (ctypes.c_char * 88).from_buffer(
        bytearray(struct.pack("QQQQQ", kernel.CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD).ljust(88, b"\0"))
    )
    child = kernel.call("clone3", arguments, 88)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "a process in it"


@attempt("user, CapabilityBoundingSet")
def join_the_network_of_another_tenant(bait: Bait) -> str:
    """Enter another tenant's network namespace by its file."""
    kernel.call("setns", os.open(f"/run/netns/{NEIGHBOUR}", os.O_RDONLY), kernel.CLONE_NEWNET)
    return NEIGHBOUR


@attempt("user, CapabilityBoundingSet")
def join_the_namespaces_of_another_workload(bait: Bait) -> str:
    """Enter another workload's pinned namespaces by their files."""

    def one(path: Path) -> str:
        kernel.call("setns", os.open(path, os.O_RDONLY), 0)
        return str(path)

    own = {os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("uts", "user", "time")}  # noqa: PTH116
    pinned = [one for kind in ("uts", "user") for one in Path("/run/nsprov/ns", kind).glob("*")]
    others = [one for one in pinned if one.stat().st_ino not in own]
    return first_that_works(lambda path=path: one(path) for path in others)  # type: ignore[misc]


@attempt("pid")
def join_the_mounts_of_a_process_outside(bait: Bait) -> str:
    """Enter the mount namespace of a process of the host, through /proc/PID/ns."""
    kernel.call("setns", os.open(f"/proc/{bait.process()}/ns/mnt", os.O_RDONLY), kernel.CLONE_NEWNS)
    return secret_in(Path(SECRET_FILE).read_bytes())


@attempt("pid")
def join_a_process_outside_by_its_descriptor(bait: Bait) -> str:
    """Enter all namespaces of a process of the host at once (setns of a pidfd)."""
    kernel.call("setns", os.pidfd_open(bait.process()), kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
    return secret_in(Path(SECRET_FILE).read_bytes())


# -- what processes share -------------------------------------------------------------------------


@attempt("ipc")
def read_the_hosts_shared_memory(bait: Bait) -> str:
    """Attach the host's System V shared memory."""
    piece = kernel.call("shmget", KEY, 0, 0)
    return secret_in(ctypes.string_at(kernel.call("shmat", piece, None, 0o10000), bait.length))


@attempt("ipc")
def read_the_hosts_message_queue(bait: Bait) -> str:
    """Open the host's System V message queue."""
    return f"queue {kernel.call('msgget', KEY, 0)}"


@attempt("ipc")
def open_the_hosts_message_queue_by_name(bait: Bait) -> str:
    """Open the host's POSIX message queue."""
    return f"queue {kernel.call('mq_open', f'/{NAME}'.encode(), os.O_RDWR)}"


@attempt("ipc")
def read_the_hosts_shared_memory_by_name(bait: Bait) -> str:
    """Open the host's POSIX shared memory."""
    return secret_in(Path("/dev/shm", NAME).read_bytes())


@attempt("ipc")
def leave_a_message_in_shared_memory(bait: Bait) -> str:
    """Leave something in /dev/shm where others of the host find it."""
    with open(f"/dev/shm/{NAME}", "r+b", 0) as file:  # noqa: PTH123
        file.write(SECRET.encode())
    return "left"


@attempt("net")
def connect_to_an_abstract_socket_of_the_host(bait: Bait) -> str:
    """Connect to a socket of the host that has no file."""
    socket.socket(socket.AF_UNIX).connect(f"\0{NAME}")
    return "connected"


@attempt("KeyringMode, SystemCallFilter", machine=True)
def read_a_key_of_the_host(bait: Bait) -> str:
    """Read a key of root of the host by its number."""
    buffer = ctypes.create_string_buffer(100)
    kernel.call("keyctl", 11, bait.key, buffer, 100)
    return secret_in(buffer.raw)


@attempt("mount, user")
def read_anothers_credentials(bait: Bait) -> str:
    """Read the credentials that systemd gives to another unit."""
    return secret_in(Path("/run/credentials/escape-bait.service/token").read_bytes())


@attempt("user")
def read_the_journal(bait: Bait) -> str:
    """Read what all units of the host have logged."""
    files = [one for place in ("/run/log/journal", "/var/log/journal") for one in Path(place).glob("*/*.journal")]
    return first_that_works(lambda one=one: f"{len(one.open('rb', 0).read(64))} bytes of {one}" for one in files)  # type: ignore[misc]


@attempt("user")
def start_a_command_through_systemd(bait: Bait) -> str:
    """Have the host's systemd run a command, over D-Bus."""
    done = subprocess.run(
        ["/usr/bin/systemd-run", "--quiet", "--wait", "/bin/true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr.strip()[:200])
    return "it ran"


_MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_UNIT = "/org/freedesktop/systemd1/unit/escape_2dbait_2eservice"


@attempt("InaccessiblePaths")
def read_the_environment_of_another_unit(bait: Bait) -> str:
    """Ask the host's systemd for another unit's environment, over D-Bus."""
    words = ("org.freedesktop.systemd1.Service", "Environment")
    return secret_in(bus.asked(_UNIT, "org.freedesktop.DBus.Properties", "Get", *words))


@attempt("InaccessiblePaths")
def see_the_units_of_the_host(bait: Bait) -> str:
    """Ask the host's systemd what runs on the host, over D-Bus."""
    return f"{len(bus.asked(*_MANAGER, 'ListUnits'))} bytes"


@attempt("user, InaccessiblePaths")
def start_a_unit_of_the_host(bait: Bait) -> str:
    """Have the host's systemd start a unit, over D-Bus."""
    bus.asked(*_MANAGER, "StartUnit", "basic.target", "replace")
    return "started"


@attempt("user")
def connect_to_systemds_private_socket(bait: Bait) -> str:
    """Connect to the socket on which systemd takes root's orders."""
    socket.socket(socket.AF_UNIX).connect("/run/systemd/private")
    return "connected"


# -- networks -------------------------------------------------------------------------------------


@attempt("net")
def see_the_hosts_interfaces(bait: Bait) -> str:
    """See the interfaces of the host."""

    def one(names: Callable[[], list[str]]) -> str:
        if BRIDGE not in (seen := names()):
            raise RefusedError(f"there is only {', '.join(sorted(seen))}")
        return BRIDGE

    ways = (
        lambda: [name for _, name in socket.if_nameindex()],
        lambda: os.listdir("/sys/class/net"),  # noqa: PTH208
        lambda: os.listdir("/sys/devices/virtual/net"),  # noqa: PTH208
        lambda: [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()],
    )
    return first_that_works(lambda names=names: one(names) for names in ways)  # type: ignore[misc]


@attempt("net")
def listen_on_an_address_of_the_host(bait: Bait) -> str:
    """Listen on an address of the host."""
    socket.create_server((GATEWAY, 0)).close()
    return GATEWAY


@attempt("net")
def connect_to_the_hosts_loopback(bait: Bait) -> str:
    """Reach a server that the host has for itself, on 127.0.0.1."""
    with socket.create_connection(("127.0.0.1", LOOPBACK_PORT), 3) as line:
        return secret_in(line.recv(100))


@attempt("user, CapabilityBoundingSet", proof="wired")
def have_a_raw_socket(bait: Bait) -> str:
    """Write packets by hand."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "a raw socket"


@attempt("user, CapabilityBoundingSet, RestrictAddressFamilies", proof="wired")
def have_a_packet_socket(bait: Bait) -> str:
    """Read and write frames by hand."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    return "a packet socket"


@attempt("user, CapabilityBoundingSet", proof="wired")
def give_itself_another_address(bait: Bait) -> str:
    """Put a second address on its interface."""
    wire.add_address("eth0:1", "10.99.0.77")
    return "10.99.0.77"


@attempt("user, CapabilityBoundingSet", proof="wired")
def take_an_interface_down(bait: Bait) -> str:
    """Take its interface down."""
    wire.set_flags("lo", wire.flags("lo"))
    return "lo"


@attempt("user, CapabilityBoundingSet", proof="wired")
def change_its_own_firewall(bait: Bait) -> str:
    """Change the firewall that keeps others out of its namespace, and it in."""
    for what in ("add", "delete"):
        done = subprocess.run(
            ["/usr/sbin/nft", what, "table", "inet", "escape"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RefusedError(done.stderr.strip()[:200])
    return "changed"


@attempt("ProtectKernelTunables", proof="wired")
def change_a_setting_of_its_network(bait: Bait) -> str:
    """Write a setting of its own network namespace."""
    return _written_as_it_was(("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/arp_ignore"))


@attempt("guard", proof="wired")
def send_from_anothers_address(bait: Bait) -> str:
    """Send a packet to the host that seems to come from another tenant."""
    return wire.seen_from(NEIGHBOURS_ADDRESS, GATEWAY, ECHO_PORT)


@attempt("guard", proof="wired")
def claim_the_gateways_address_with_arp(bait: Bait) -> str:
    """Tell another tenant that the gateway's address is here, and get what it sends there."""
    return wire.claimed(GATEWAY, NEIGHBOURS_ADDRESS)


@attempt("guard", proof="wired")
def claim_the_gateways_ipv6_address(bait: Bait) -> str:
    """Tell another tenant that the gateway's IPv6 address is here, and get what it sends there."""
    return wire.claimed(GATEWAY6, NEIGHBOURS_ADDRESS6, NEIGHBOURS_ADDRESS)


@attempt("guard", proof="wired")
def announce_a_router(bait: Bait) -> str:
    """Tell another tenant that it is in another network as well (router advertisement)."""
    mine = wire.own_address().rpartition(".")[2]  # others announce theirs at the same time
    return wire.routed(f"2001:db8:{mine}::", NEIGHBOURS_ADDRESS)


@attempt("guard", proof="wired")
def take_anothers_frames_with_its_mac(bait: Bait) -> str:
    """Send with another tenant's hardware address, so that the bridge sends its frames here."""
    return wire.taken_over(NEIGHBOURS_ADDRESS, GATEWAY)


# -- how they are run -----------------------------------------------------------------------------


def ended(one: Attempt, bait: Bait) -> tuple[bool, str]:
    """How an attempt ends that is made in a child, and what it said."""
    answers, answering = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answers)
        try:
            said = [True, one.run(bait)]
        except (OSError, RefusedError, subprocess.SubprocessError, ValueError) as error:
            said = [False, f"{error}"]
        with contextlib.suppress(OSError):
            os.write(answering, json.dumps(said).encode()[:4000])
        os._exit(0)
    os.close(answering)
    readable, _, _ = select.select([answers], [], [], SECONDS)
    data = os.read(answers, 4096) if readable else b'[false, "it took too long"]'
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(answers)
    succeeded, words = json.loads(data or b'[false, "it ended without a word"]')
    return succeeded, words


def main() -> None:
    folder, proofs = sys.argv[1], sys.argv[2:]
    found = json.loads(Path(folder, "bait.json").read_text())
    bait = Bait(folder, **found)
    for one in ATTEMPTS.values():
        if one.proof in proofs or not proofs:
            succeeded, said = ended(one, bait)
            print(json.dumps({"name": one.name, "succeeded": succeeded, "said": said}), flush=True)
    print(json.dumps({"name": "", "succeeded": True, "said": "all are made"}), flush=True)


if __name__ == "__main__":
    main()
