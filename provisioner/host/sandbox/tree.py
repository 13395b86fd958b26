"""The file systems of a sandbox: a copy-on-write view of a root, and the kernel's own on top of it.

``Layers`` are stacked by the guardian, outside, in a mount namespace of its own; ``furnish`` runs inside, as
the sandbox's first process, and leaves nothing of the machine's mounts in sight.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import HostError
from provisioner.host import kernel
from provisioner.host.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT
from provisioner.host.sandbox.state import unescape

__all__ = ["ROOT", "Layer", "find_layers", "furnish", "stack"]

#: Where the guardian stacks the layers. Every machine has it, and only the guardian sees what is there.
_STAGE = Path("/tmp")
ROOT = _STAGE / "root"

#: File systems that hold files for people. The others are the kernel's own, or somebody's server.
_KEPT = frozenset(
    (
        "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "reiserfs", "squashfs",
        "tmpfs", "vfat", "xfs", "zfs",
    )
)  # fmt: skip
#: What the sandbox has of its own.
_REPLACED = ("proc", "sys", "dev", "run", "tmp")
#: Kernel interfaces that only the machine's root may open, which root of a sandbox is where nothing is shifted.
_HIDDEN = ("kallsyms", "kcore", "keys", "sysrq-trigger", "timer_list", "kmsg", "kpagecount", "kpageflags")


@dataclass(frozen=True, slots=True)
class Layer:
    """One file system of the root: a detached copy of its mount, and where it belongs under the root."""

    tree: int
    place: str
    shifted: bool


def find_layers(root: Path, user_namespace: int | None) -> list[Layer]:
    """The file systems that make up a root, its own first, with their owners shifted as in a user namespace.

    Where the first cannot be shifted none is. What else cannot be had as the first is, is left out.
    """
    layers: list[Layer] = []
    for place in ["", *_mounts_below(root)]:
        try:
            tree = kernel.clone_tree(root / place if place else root)
        except OSError:
            if not place:
                raise  # told by the guardian, with what the kernel said
            continue
        shifted = user_namespace is not None and (not layers or layers[0].shifted) and _shift(tree, user_namespace)
        if layers and shifted != layers[0].shifted:
            os.close(tree)
        else:
            layers.append(Layer(tree, place, shifted))
    return layers


def _shift(tree: int, user_namespace: int) -> bool:
    try:
        kernel.shift_ids(tree, user_namespace)
    except OSError:  # this file system, or this kernel, cannot
        return False
    return True


def _mounts_below(root: Path) -> list[str]:
    """The mount points under a root, relative to it, that a copy-on-write view of it must include."""
    places: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        point = Path(unescape(left.split()[4]))
        if point != root and point.is_relative_to(root):
            places[str(point.relative_to(root))] = right.split()[0]
    return sorted(
        place
        for place, kind in places.items()
        if kind in _KEPT
        and place.split("/")[0] not in _REPLACED
        and not any(place.startswith(f"{other}/") for other, its in places.items() if its not in _KEPT)
    )


def stack(layers: list[Layer]) -> None:
    """Lay a writable view over the layers, at ``ROOT``. Call it in a mount namespace of this process's own."""
    kernel.mount("tmpfs", _STAGE, "tmpfs", MS_NODEV, "mode=0755")
    _STAGE.joinpath("lower").mkdir()
    for number, layer in enumerate(layers):
        _stack_one(layer, number)


def _stack_one(layer: Layer, number: int) -> None:
    lower, upper, work = (_STAGE / part / str(number) for part in ("lower", "upper", "work"))
    target = ROOT / layer.place if layer.place else ROOT
    is_folder = stat.S_ISDIR(os.fstat(layer.tree).st_mode)
    if not is_folder:
        # A single file that was bound over another: seen as it is, but not for writing.
        kernel.move_mount(layer.tree, target)
        kernel.mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV)
        return
    for folder in (lower, upper, work):
        folder.mkdir(parents=True)
    ROOT.mkdir(exist_ok=True)
    kernel.move_mount(layer.tree, lower)
    at = lower.stat()
    os.chown(upper, at.st_uid, at.st_gid)
    upper.chmod(stat.S_IMODE(at.st_mode))
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    try:
        kernel.mount("overlay", target, "overlay", MS_NODEV, options)
    except OSError as error:
        if not layer.place:
            hint = "load its module: modprobe overlay" if error.errno == 19 else None  # ENODEV
            raise HostError(
                "overlayfs cannot be mounted", detail=error.strerror or "", code=error.errno or 0, hint=hint
            ) from None


# -- inside ---------------------------------------------------------------------------------------


def furnish(shifted: bool) -> None:
    """Mount what a system needs over ``ROOT``, make that the root, and let go of the machine's mounts.

    Runs as the first process of the sandbox, in all its namespaces, before systemd.
    """
    root = str(ROOT)
    kernel.mount(root, root, None, MS_BIND | MS_REC)
    for folder in ("proc", "sys", "dev", "run", "tmp"):
        _folder(ROOT / folder)
    kernel.mount("tmpfs", ROOT / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    kernel.mount("tmpfs", ROOT / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    _furnish_proc(ROOT / "proc", shifted)
    _furnish_sys(ROOT / "sys")
    if shifted:
        # The kernel lets a user namespace mount a sysfs (as "ip netns exec" does, after it has unmounted this
        # one) only where one is in sight that is as writable. What it may write is its own interfaces'.
        spare = ROOT / "run/host/sys"
        spare.mkdir(parents=True)
        kernel.mount("sysfs", spare, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount("cgroup2", ROOT / "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _furnish_dev(ROOT / "dev")
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.umount(".", kernel.MNT_DETACH)
    os.chdir("/")
    # Namespaces that units and people pin under /run must be seen by each other's mount namespaces.
    kernel.mount(None, "/", None, MS_REC | kernel.MS_SHARED)


def _folder(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir(mode=0o755)


def _furnish_proc(proc: Path, shifted: bool) -> None:
    kernel.mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount(proc / "sys", proc / "sys", None, MS_BIND)
    kernel.mount(proc / "sys/net", proc / "sys/net", None, MS_BIND)
    kernel.mount(None, proc / "sys", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in _HIDDEN:
        if not shifted and (proc / name).exists():
            kernel.mount("/dev/null", proc / name, None, MS_BIND)


def _furnish_sys(sys: Path) -> None:
    kernel.mount("sysfs", sys, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount(None, sys, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _furnish_dev(dev: Path) -> None:
    kernel.mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=0755")
    for name in ("null", "zero", "full", "random", "urandom", "tty", "net/tun"):
        source = Path("/dev", name)
        if source.exists():
            (dev / name).parent.mkdir(exist_ok=True)
            (dev / name).touch()
            kernel.mount(source, dev / name, None, MS_BIND)
    for name, mode in (("pts", 0o755), ("shm", 0o1777)):
        (dev / name).mkdir()
        (dev / name).chmod(mode)
    kernel.mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    kernel.mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    (dev / "mqueue").mkdir()
    with contextlib.suppress(OSError):  # a kernel without POSIX message queues
        kernel.mount("mqueue", dev / "mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("log", "/run/systemd/journal/dev-log"),
    ):
        (dev / name).symlink_to(target)
