"""Makes the agent's bundle out of the interpreter and the packages that run this very process.

So an agent is always of the version of its controller, and needs nothing on a host but a libc that is not older than
the controller's. What is laid out: the interpreter, the standard library and the packages as compiled modules without
their sources, and the shared libraries of all that which are not of the libc. For another processor the interpreter
and what is machine code come from a tree of Debian's packages instead (``fleet.parts``).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gzip
import hashlib
import importlib.util
import io
import os
import py_compile
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import provisioner
from provisioner.errors import HostError, NsprovError
from provisioner.fleet.bundle import CONTROLLER, SUMS, Bundle, sources
from provisioner.fleet.parts import Parts, this_process, unpacked

__all__ = ["made", "made_of"]

#: The packages that an agent works with, beside our own.
_PACKAGES = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "pystemd")
#: What no agent imports: of the standard library by the names of modules, and of packages by their folders.
_LEFT_OUT = {
    *("__hello__", "__phello__", "_aix_support", "_bootsubprocess", "_distutils_system_mod", "_osx_support", "_pyio"),
    *("_py_abc", "_pydecimal", "aifc", "antigravity", "asynchat", "asyncio", "asyncore", "bdb", "bz2", "cProfile"),
    *("cgi", "cgitb", "chunk", "cmd", "code", "codeop", "colorsys", "compileall", "configparser", "crypt", "curses"),
    *("dbm", "distutils", "doctest", "ensurepip", "filecmp", "fileinput", "ftplib", "getopt", "getpass", "gettext"),
    *("graphlib", "http", "idlelib", "imaplib", "imghdr", "imp", "lib2to3", "lzma", "mailbox", "mailcap", "mimetypes"),
    *("modulefinder", "msilib", "multiprocessing", "netrc", "nntplib", "nturl2path", "optparse", "pdb", "pickletools"),
    *("pip", "pipes", "plistlib", "poplib", "profile", "pstats", "pty", "py_compile", "pyclbr", "pydoc", "pydoc_data"),
    *("rlcompleter", "sched", "shelve", "site", "sitecustomize", "smtpd", "smtplib", "sndhdr", "socketserver"),
    *("sqlite3", "sre_compile", "sre_constants", "sre_parse", "ssl", "statistics", "sunau", "symtable", "tabnanny"),
    *("telnetlib", "test", "this", "timeit", "tkinter", "tomllib", "trace", "tracemalloc", "tty", "turtle"),
    *("turtledemo", "unittest", "uu", "venv", "wave", "webbrowser", "wsgiref", "xdrlib", "xml", "xmlrpc", "zipapp"),
    *("site-packages", "dist-packages"),
}
_LEFT_OUT_FOLDERS = (
    *("annotated_types/test_cases", "pydantic/deprecated", "pydantic/mypy", "pydantic/v1"),
    *("pystemd/cutils", "pystemd/daemon", "pystemd/futures", "pystemd/journal", "pystemd/machine1", "pystemd/run"),
    "pystemd/__main__",
)
#: The codecs that a process with UTF-8 for all and everything meets.
_ENCODINGS = ("__init__", "aliases", "ascii", "idna", "latin_1", "punycode", "utf_8")
#: Extension modules of the interpreter that pull in large libraries; what wants them goes on without.
_LEFT_OUT_EXTENSIONS = (
    *("_bz2", "_crypt", "_curses", "_dbm", "_gdbm", "_hashlib", "_lzma", "_sqlite3", "_ssl", "_tkinter", "_uuid"),
    *("_asyncio", "_codecs_", "_ctypes_test", "_lsprof", "_multibytecodec", "_multiprocessing", "_posixshmem"),
    *("_test", "_xx", "audioop", "nis", "ossaudiodev", "readline", "xx"),
)
#: Libraries that every host with systemd has, and that must be its own.
_OF_THE_HOST = re.compile(
    r"(ld-linux.*|libc|libm|libdl|libpthread|librt|libutil|libresolv|libsystemd|libcap|libgcrypt|libgpg-error"
    r"|liblzma|libzstd|liblz4|libgcc_s)\.so.*|linux-vdso.*"
)
#: Opened by name when they are wanted, so no file says so.
_OPENED = ("libnftables.so.1",)

#: How many bundles the cache has at most.
_KEPT = 8

_START = """\
#!/bin/sh
# Started in the bundle's folder: it imports from there alone, whatever the environment says.
here=$(pwd)
exec env -i PATH="$PATH" LC_ALL=C.UTF-8 PYTHONHOME="$here" PYTHONPATH="$here/packages" LD_LIBRARY_PATH="$here/so" \\
    ./python -BPSs -c 'from provisioner.fleet.serving import main; main()'
"""


def made() -> Bundle:
    """The bundle of this process's interpreter and packages: made once, and kept in this user's cache.

    Raises HostError where it cannot be written, NsprovError where a part of it is not found.
    """
    with _cache() as cache:
        stamp = cache / f"{_mark()}.name"
        if not (stamp.exists() and (cache / stamp.read_text()).exists()):
            stamp.write_text(_make(cache, this_process()).name)
            _forget_old_ones(cache)
        return Bundle.of(cache / stamp.read_text())


def made_of(tree: Path) -> Bundle:
    """The bundle for another processor, of a tree of Debian's packages for it; left in the cache as well.

    Raises NsprovError where the tree lacks a part of it.
    """
    with _cache() as cache:
        bundle = Bundle.of(_make(cache, unpacked(tree)))
        _forget_old_ones(cache)
        return bundle


@contextlib.contextmanager
def _cache() -> Iterator[Path]:
    """The folder of this user's bundles, while no other process changes it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nsprov", "bundles")
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cache
    except OSError as error:
        raise HostError.from_os(f"cannot make the agent's bundle in {cache}", error) from None


@functools.cache
def _mark() -> str:
    """What changes when a bundle of the same sources would be another one. Asked for each host, and read once."""
    mark = hashlib.sha256(f"{sys.version}{os.uname().machine}".encode())
    root = Path(provisioner.__file__).parent
    packages = [Path(spec.origin) for spec in map(importlib.util.find_spec, _PACKAGES) if spec and spec.origin]
    for path in [Path(sys.executable).resolve(), *packages, *sorted([*root.rglob("*.py"), *root.rglob("*.json")])]:
        status = path.stat()
        mark.update(f"{path}{status.st_size}{status.st_mtime_ns}".encode())
    return mark.hexdigest()[:16]


def _forget_old_ones(cache: Path) -> None:
    """Each change of a source makes a bundle of its own: the last few are kept, for the checkouts at work."""
    by_age = sorted(cache.glob("agent-*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in by_age[_KEPT:]:
        archive.unlink()
    for stamp in cache.glob("*.name"):
        if not (cache / stamp.read_text()).exists():
            stamp.unlink()


def _make(cache: Path, parts: Parts) -> Path:
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
        tree = Path(scratch, "tree")
        _lay_out(tree, parts)
        files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
        sums = "".join(f"{hashlib.sha256((tree / one).read_bytes()).hexdigest()}  {one}\n" for one in files)
        (tree / SUMS).write_text(sums)
        id_ = hashlib.sha256(sums.encode()).hexdigest()
        archive = Path(scratch, f"agent-{parts.arch}-{sources()}-{len(files)}-{id_}.tar.gz")
        archive.write_bytes(_packed(tree))
        return archive.rename(cache / archive.name)


def _packed(tree: Path) -> bytes:
    """The tree as an archive that is the same for the same tree."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(tree.rglob("*")):
            entry = tar.gettarinfo(path, path.relative_to(tree).as_posix())
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
            with path.open("rb") if path.is_file() else io.BytesIO() as content:
                tar.addfile(entry, content)
    return gzip.compress(packed.getvalue(), 6, mtime=0)


def _lay_out(tree: Path, parts: Parts) -> None:
    (tree / "so").mkdir(parents=True)
    shutil.copy(parts.interpreter, tree / "python")
    (tree / "agent").write_text(_START)
    (tree / "agent").chmod(0o755)
    standard = tree / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in _standard_modules(parts.library):
        _compile(path, standard / path.relative_to(parts.library).with_suffix(".pyc"))
    for path in parts.extensions.glob("*.so"):
        if not path.name.startswith(_LEFT_OUT_EXTENSIONS):
            _copy(path, standard / "lib-dynload" / path.name)
    for name in _PACKAGES:
        _add_package(name, parts.package(name), tree / "packages")
    ours = Path(provisioner.__file__).parent
    _add_folder(ours, tree / "packages", lambda path: path.relative_to(ours).parts[0] not in CONTROLLER)
    # Its own __init__ imports all that pystemd has, and lxml with it; the agent uses its D-Bus library alone.
    _compile_text("", tree / "packages/pystemd/__init__.pyc")
    for path in parts.libraries([tree / "python", *tree.rglob("*.so")], _OPENED):
        if not _OF_THE_HOST.fullmatch(path.name):
            _copy(path, tree / "so" / path.name)


def _standard_modules(library: Path) -> Iterator[Path]:
    for path in library.rglob("*.py"):
        parts = path.relative_to(library).parts
        top = parts[0].removesuffix(".py")
        if top in _LEFT_OUT or top.startswith("config-") or {"__pycache__", "test", "tests"} & set(parts):
            continue
        if top == "encodings" and path.stem not in _ENCODINGS:
            continue
        yield path


def _add_package(name: str, found: Path | None, packages: Path) -> None:
    if found is None:
        raise NsprovError(f"the package {name} is not here, and the agent needs it")
    if found.is_file():
        _compile(found, packages / f"{name}.pyc")
        return
    skipped = tuple(f"{found.parent}/{one}" for one in _LEFT_OUT_FOLDERS)
    _add_folder(found, packages, lambda path: not str(path).startswith(skipped))


def _add_folder(folder: Path, packages: Path, wanted: Callable[[Path], bool]) -> None:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts or not wanted(path):
            continue
        target = packages / path.relative_to(folder.parent)
        if path.suffix == ".py":
            _compile(path, target.with_suffix(".pyc"))
        elif path.suffix in (".so", ".json"):
            _copy(path, target)


def _compile(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target),
        dfile=target.stem,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _compile_text(text: str, target: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(text)
        file.flush()
        _compile(Path(file.name), target)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    if os.access(path, os.X_OK) and path.suffix != ".json":
        target.chmod(0o755)
