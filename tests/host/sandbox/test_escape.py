"""A sandbox cannot reach the machine: every way out that root has in a container is tried.

Each attempt runs as root of the sandbox. What is looked at afterwards is the machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.conftest import Box

#: Settings of the machine's kernel that an attempt might change.
WATCHED = [
    path
    for path in (
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/vm/swappiness",
        "/proc/sys/fs/file-max",
        "/proc/sys/net/ipv4/ip_forward",
        "/sys/kernel/mm/ksm/run",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    )
    if Path(path).exists()
]


def settings() -> dict[str, str]:
    return {path: Path(path).read_text() for path in WATCHED}


@pytest.fixture(autouse=True)
def _machine_is_unchanged() -> Iterator[None]:
    before, mounts = settings(), Path("/proc/self/mounts").read_text()
    yield
    assert settings() == before
    assert Path("/proc/self/mounts").read_text() == mounts


def refused(box: Box, command: str) -> str:
    """Run a command that must fail; what it said."""
    done = box.run(command, check=False)
    assert done.returncode != 0, f"'{command}' worked: {done.stdout}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", [path for path in WATCHED if "/net/" not in path])
def test_a_setting_of_the_kernel_cannot_be_written(box: Box, path: str) -> None:
    assert box.run(["test", "-e", path], check=False).returncode == 0
    refused(box, f'value=$(cat {path}); echo "${{value:-1}}" >{path}')


@pytest.mark.parametrize(
    "around",
    [
        "mount -o remount,rw /proc/sys",
        "mount -o remount,rw,bind /proc/sys",
        "mount -o remount,rw /proc",
        "umount -l /proc/sys/net; umount -l /proc/sys",
        "umount -l /proc; mount -t proc proc /proc",
        "mount -o remount,rw /sys",
        "mount -o remount,rw,bind /sys",
        "umount -l /sys; mount -t sysfs sysfs /sys",
        "mount --bind /run/host/sys /sys",
    ],
)
def test_mounting_it_anew_does_not_make_it_writable(box: Box, around: str) -> None:
    where = (
        "/sys/kernel/mm/transparent_hugepage/enabled" if "/sys" in around.split()[-1][:4] else "/proc/sys/kernel/panic"
    )
    said = refused(box, f"unshare -m --propagation private sh -c '({around}); cat {where} && echo 7 >{where}'")
    assert "cannot create" in said or "No such file" in said


@pytest.mark.parametrize("kind", ["debugfs", "tracefs", "devtmpfs", "securityfs", "configfs", "bpf", "efivarfs"])
def test_file_systems_of_the_kernel_that_reach_the_machine_do_not_mount(box: Box, kind: str) -> None:
    done = box.run(f"mount -t {kind} none /mnt && find /mnt -maxdepth 1 -mindepth 1; umount /mnt", check=False)
    assert done.stdout == ""


def test_a_disk_cannot_be_opened_by_a_node_made_for_it(box: Box) -> None:
    disk = os.stat("/").st_dev  # noqa: PTH116
    refused(box, f"mknod /root/disk b {os.major(disk)} {os.minor(disk)} && head -c 512 /root/disk")
    refused(box, "mknod /dev/mem c 1 1 && head -c 1 /dev/mem")
    refused(box, "mount -t ext4 /dev/vda /mnt")
    nodes = box.run("find /dev -type b").stdout
    assert nodes == ""


def test_memory_and_ports_cannot_be_reached(box: Box) -> None:
    for path in ("/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"):
        refused(box, f"test -s {path} && head -c 1 {path} && echo got it | grep got")
    code = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).iopl(3) == 0 else 1)"
    refused(box, f"python3 -c '{code}'")


def test_modules_cannot_be_loaded(box: Box) -> None:
    code = (
        "import ctypes, os, errno; libc = ctypes.CDLL(None, use_errno=True);"
        "fd = os.open('/bin/true', os.O_RDONLY); libc.syscall(313, fd, b'', 0);"
        "print(errno.errorcode[ctypes.get_errno()])"
    )
    assert box.python(code) in ("EPERM\n", "ENOSYS\n")


def test_the_machine_cannot_be_rebooted_nor_its_clock_set(box: Box) -> None:
    code = (
        "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True);"
        "libc.reboot(0x89abcdef); print(errno.errorcode[ctypes.get_errno()])"  # only turns Ctrl-Alt-Del on
    )
    assert box.python(code) == "EPERM\n"
    refused(box, "date -s 2001-01-01")
    refused(box, "hwclock --systohc")
    refused(box, "echo b >/proc/sysrq-trigger")
    assert time.localtime().tm_year > 2001


def test_processes_of_the_machine_are_neither_seen_nor_signalled(box: Box) -> None:
    sleeper = subprocess.Popen(["sleep", "5432"])
    try:
        assert "5432" not in box.run("ps -eo args | grep -v grep").stdout
        refused(box, f"kill -9 {sleeper.pid}")
        box.run("kill -9 -1", check=False)  # everything in sight
        assert sleeper.poll() is None
        refused(box, f"ls /proc/{os.getpid()}/")
        assert box.sandbox.alive
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_file_systems_of_the_machine_are_out_of_sight(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the machine")
    refused(box, f"cat {tmp_path}/secret")
    for escape in ("/proc/1/root", "/proc/1/cwd"):
        refused(box, f"cat {escape}{tmp_path}/secret")
    # The way out of a chroot.
    code = (
        "import os; os.makedirs('/root/jail', exist_ok=True); fd = os.open('/', os.O_RDONLY); os.chroot('/root/jail');"
        f"os.fchdir(fd); [os.chdir('..') for _ in range(64)]; os.chroot('.');"
        f"print(os.path.exists('{tmp_path}/secret'))"
    )
    assert box.python(code) == "False\n"


def test_a_file_of_the_machine_is_not_changed_by_writing_over_it(box: Box) -> None:
    target = Path("/var/tmp/nsprov-test-victim")
    target.write_text("as it was")
    try:
        box.run(f"cat {target} && echo changed >{target} && chmod 777 {target} && chown 33 {target}")
        assert box.run(["cat", str(target)]).stdout == "changed\n"
        assert target.read_text() == "as it was"
        assert target.stat().st_uid == os.getuid()
        assert target.stat().st_mode & 0o777 != 0o777
        box.run(f"rm {target}")
        assert target.exists()
    finally:
        target.unlink()


def test_the_layers_below_cannot_be_reached_by_their_names(box: Box) -> None:
    refused(box, "ls /tmp/lower")
    refused(box, "mount -t overlay overlay -o lowerdir=/tmp/lower/0,upperdir=/tmp/upper/0,workdir=/tmp/scratch/0 /mnt")


def test_cgroups_of_the_machine_cannot_be_written(box: Box) -> None:
    refused(box, "mkdir /sys/fs/cgroup/../../escape")
    refused(box, "echo 1 >/sys/fs/cgroup/cgroup.kill")
    refused(box, "echo max >/sys/fs/cgroup/cgroup.max.depth")
    script = "mount -t cgroup2 none /mnt; ls -d /mnt/../nsprov-sandbox-* /mnt/nsprov-sandbox-*"
    refused(box, f"unshare -m sh -c '{script}'")
    for controller in ("memory", "devices", "freezer", "cpu"):
        refused(
            box,
            f"unshare -m sh -c 'mount -t cgroup -o {controller} none /mnt && mkdir /mnt/escape'",
        )


def test_a_new_cgroup_namespace_is_rooted_in_the_sandbox(box: Box) -> None:
    seen = box.run("unshare -C -m sh -c 'mount -t cgroup2 none /mnt && cat /proc/1/cgroup'").stdout
    assert "nsprov-sandbox" not in seen


def test_the_network_of_the_machine_is_out_of_reach(box: Box) -> None:
    machine = {path.name for path in Path("/sys/class/net").iterdir()} - {"lo"}
    inside = box.run("ls /sys/class/net; ip -o link").stdout
    assert not any(name in inside.split() for name in machine)
    refused(box, f"ip link set uplink0 netns {os.getppid()} 2>&1 && ip link show uplink0 | grep -q . && false")


def test_commands_from_outside_have_no_more_rights_than_the_sandbox(box: Box) -> None:
    inside = box.run("grep CapBnd /proc/1/status").stdout
    assert box.run("grep CapBnd /proc/self/status").stdout == inside
    assert box.run("grep CapEff /proc/self/status").stdout.split()[1] == inside.split()[1]
    bounding = int(inside.split()[1], 16)
    for name, number in {"sys_module": 16, "sys_rawio": 17, "sys_boot": 22, "sys_time": 25, "mknod": 27}.items():
        assert not bounding >> number & 1, f"cap_{name}"


def test_no_descriptor_of_the_caller_is_open_inside(box: Box, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        opened = box.run("ls /proc/self/fd /proc/1/fd >/dev/null; ls -l /proc/self/fd").stdout
        assert str(tmp_path) not in opened
        listing = "import os; print([os.readlink(f'/proc/1/fd/{n}') for n in os.listdir('/proc/1/fd')])"
        assert str(tmp_path) not in box.python(listing)
    finally:
        os.close(descriptor)


def test_a_service_of_the_sandbox_cannot_undo_its_boundaries(box: Box) -> None:
    attempt = "echo 7 >/proc/sys/kernel/panic || mount -o remount,rw,bind /proc/sys && echo 7 >/proc/sys/kernel/panic"
    refused(box, f"systemd-run --wait --quiet --pipe sh -c '{attempt}'")
