"""Images of the Debian releases that nsprov is tested on: built from Debian's packages, and kept.

An image is a root file system with the kernel and the initrd of its release, and with nsprov's Python dependencies
for its release's Python. The checkout is not part of it: a machine is given that when it starts, so that an image
outlives every change of the code. Nothing here needs root: mmdebstrap works in a user namespace, or, when root runs
it, in mount and process namespaces of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
# The releases, and the Python that each of them has.
RELEASES = {"bookworm": "3.11", "trixie": "3.13"}
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,libsystemd0,linux-image-cloud-amd64,initramfs-tools,zstd,"
    "iproute2,iputils-ping,e2fsprogs,nftables,libnftables1,openssh-server,procps,python3,uidmap,util-linux"
)
# There are no wheels of this one: it is compiled in the tree.
COMPILED = "pystemd"


class VmError(Exception):
    """What keeps a virtual machine from being built or started, in words for the person who asked for it."""


@dataclass(frozen=True)
class Image:
    """A built image of a release."""

    release: str
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.ext4"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def built(self) -> bool:
        return self.folder.is_dir()


def cache() -> Path:
    """Where images are kept."""
    return Path(os.environ.get("NSPROV_CACHE", CHECKOUT / ".cache")).resolve() / "vm"


def image_of(release: str) -> Image:
    """The image of a release as this checkout wants it, whether it is built or not."""
    mark = hashlib.sha256("\n".join([release, PACKAGES, *locked(release)]).encode())
    for path in sorted([Path(__file__), HERE / "finish_image.sh", *(one for one in GUEST.rglob("*") if one.is_file())]):
        mark.update(path.relative_to(HERE).as_posix().encode() + path.read_bytes())
    return Image(release, cache() / f"{release}-{mark.hexdigest()[:12]}")


def build(releases: Iterable[str]) -> list[Image]:
    """The images of these releases, each built where it is missing; all of them at the same time."""
    images = [image_of(release) for release in releases]
    with ThreadPoolExecutor(len(images) or 1) as pool:
        list(pool.map(_build, images))
    return images


def locked(release: str) -> list[str]:
    """What nsprov needs at run time, as lines of the lock file, for the Python of this release."""
    blocks = re.findall(r"^([\w.-]+)==\S+ \\\n(?: +--hash=\S+(?: \\)?\n)+", text := _lock(), re.M)
    lines = {canonicalize_name(name): _block(text, name) for name in blocks}
    environment = {"python_version": RELEASES[release], "python_full_version": f"{RELEASES[release]}.0", "extra": ""}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted: dict[str, str] = {}
    waiting = list(project["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in wanted or (requirement.marker and not requirement.marker.evaluate(environment)):
            continue
        if name not in lines:
            raise VmError(f"{name}, which {release}'s Python needs, is not in requirements/dev.txt")
        wanted[name] = lines[name]
        waiting += importlib.metadata.requires(name) or []
    return [wanted[name] for name in sorted(wanted)]


def _lock() -> str:
    return (CHECKOUT / "requirements/dev.txt").read_text()


def _block(text: str, name: str) -> str:
    start = text.index(f"\n{name}==") + 1
    found = re.compile(r"[^\n]+\\\n(?: +--hash=\S+(?: \\)?\n)+").match(text, start)
    assert found
    return found[0]


def _build(image: Image) -> None:
    """Build an image that is missing; whoever else wants it at the same time waits for it."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{image.release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.built:
            # Not in /tmp, which may be memory.
            with tempfile.TemporaryDirectory(prefix="nsprov-image-", dir=cache()) as scratch:
                _make(image, Path(scratch))


def _make(image: Image, scratch: Path) -> None:
    _fetch_python_packages(image.release, scratch)
    made = scratch / "image"
    made.mkdir()
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=unshare",
        "--variant=apt",
        "--format=null",
        f"--include={PACKAGES}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        # Before the kernel is installed: how its initrd is made is among these files.
        f"--essential-hook=sync-in {GUEST} /",
        '--customize-hook=mkdir -p "$1/opt/nsprov/packages" "$1/opt/build"',
        f"--customize-hook=sync-in {scratch / 'packages'} /opt/nsprov/packages",
        f"--customize-hook=sync-in {scratch / 'build'} /opt/build",
        '--customize-hook=bash "$1/opt/build/finish_image.sh" "$1"',
        image.release,
    ]
    environment = {**os.environ, "TMPDIR": os.environ.get("TMPDIR", "/var/tmp")}
    # The tree belongs to users of a namespace that are nobody outside: what is made of it comes through a pipe.
    outlet, inlet = os.pipe()
    environment["NSPROV_IMAGE_FD"] = str(inlet)
    with (scratch / "log").open("w") as log:
        building = subprocess.Popen(command, stdout=log, stderr=log, env=environment, pass_fds=[inlet])
        os.close(inlet)
        unpacking = subprocess.run(["tar", "-xS", "--no-same-owner", "-C", made], stdin=outlet, stderr=log, check=False)
        os.close(outlet)
        failed = building.wait() or unpacking.returncode
    if failed:
        end = (scratch / "log").read_text(errors="replace")[-5000:]
        raise VmError(f"the image of {image.release} could not be built:\n{end}")
    made.rename(image.folder)


def _fetch_python_packages(release: str, scratch: Path) -> None:
    """nsprov's dependencies for this release's Python, unpacked in ``packages``; what compiles one in ``build``."""
    wheels = [one for one in locked(release) if not one.startswith(f"{COMPILED}==")]
    source = [one for one in locked(release) if one.startswith(f"{COMPILED}==")]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    foreign = ["--only-binary=:all:", "--implementation=cp", f"--python-version={RELEASES[release]}", "--no-compile"]
    exact = ["--require-hashes", "--no-deps"]
    _write(scratch / "wheels.txt", wheels)
    _write(scratch / "source.txt", source)
    _write(scratch / "build.txt", [_block(_lock(), "setuptools")])
    build = scratch / "build"
    build.mkdir()
    shutil.copy(HERE / "finish_image.sh", build)
    _quietly([*pip, "install", *exact, *foreign, "--target", scratch / "packages", "-r", scratch / "wheels.txt"])
    _quietly([*pip, "install", *exact, *foreign, "--target", build / "setuptools", "-r", scratch / "build.txt"])
    fetch = [*pip, "download", *exact, "--no-binary=:all:", "--no-build-isolation"]
    _quietly([*fetch, "--dest", scratch, "-r", scratch / "source.txt"])
    _quietly(["tar", "-xz", "--no-same-owner", "-C", build, "-f", next(scratch.glob(f"{COMPILED}-*.tar.gz"))])


def _write(path: Path, blocks: list[str]) -> None:
    path.write_text("".join(blocks))


def _quietly(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(f"failed: {' '.join(str(one) for one in command)}\n{done.stdout}{done.stderr}")
