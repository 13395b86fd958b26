"""What an agent's bundle is made of: what runs this very process, or what an unpacked tree has for another processor.

Nothing of such a tree is ever run. It is one of Debian's packages, with the version of Python that this process has,
so that modules that are compiled here are right there.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import NsprovError

__all__ = ["Parts", "this_process", "unpacked"]

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Parts:
    """An interpreter with all that belongs to it."""

    #: As ``uname -m`` has it.
    arch: str
    interpreter: Path
    #: The standard library, and where its compiled modules are.
    library: Path
    extensions: Path
    #: The folder of a package, or the file of a module; None where there is none of the name.
    package: Callable[[str], Path | None]
    #: The shared libraries that programs and modules need, and those of these names, each with all that it needs.
    libraries: Callable[[Sequence[Path], Sequence[str]], set[Path]]


def this_process() -> Parts:
    """What runs this process."""
    return Parts(
        arch=platform.machine(),
        interpreter=Path(sys.executable).resolve(),
        library=Path(sysconfig.get_path("stdlib")),
        extensions=Path(sysconfig.get_config_var("DESTSHARED")),
        package=_installed,
        libraries=_loaded,
    )


def unpacked(tree: Path) -> Parts:
    """What a tree of Debian's packages has; packages that it lacks are this process's, where those are not compiled.

    Raises NsprovError where it is no such tree, or its Python is of another version than this one.
    """
    library = tree / "usr/lib" / _PYTHON
    # The interpreter's own word for what it was built for, as in aarch64-linux-gnu.
    names = [path.stem.removeprefix("_sysconfigdata__") for path in library.glob("_sysconfigdata__*-linux-gnu.py")]
    triplets = [name for name in names if not name.startswith("linux_")]
    if len(triplets) != 1:
        raise NsprovError(f"{tree} has no {_PYTHON} of Debian", hint="unpack the Debian release that this machine has")
    triplet = triplets[0]

    def package(name: str) -> Path | None:
        there = tree / "usr/lib/python3/dist-packages" / name
        return there if there.is_dir() else _installed(name)

    def libraries(programs: Sequence[Path], names: Sequence[str]) -> set[Path]:
        return _needed(programs, names, [tree / folder / triplet for folder in ("usr/lib", "lib")])

    return Parts(
        arch=triplet.split("-")[0],
        interpreter=tree / "usr/bin" / _PYTHON,
        library=library,
        extensions=library / "lib-dynload",
        package=package,
        libraries=libraries,
    )


def _installed(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin if spec.submodule_search_locations is None else origin.parent


def _loaded(programs: Sequence[Path], names: Sequence[str]) -> set[Path]:
    """What this machine's loader finds."""
    known = _lines(["/sbin/ldconfig", "-p"])
    # The first of a name is the one that is loaded.
    by_name = {line.split()[0]: Path(line.split("=>")[1].strip()) for line in reversed(known) if "=> /" in line}
    opened = [by_name[name] for name in names if name in by_name]
    found = {Path(line.split("=>")[1].split()[0]) for line in _lines(["ldd", *programs, *opened]) if "=> /" in line}
    return {*found, *opened}


def _needed(programs: Sequence[Path], names: Sequence[str], folders: Sequence[Path]) -> set[Path]:
    """What the files themselves say that they need, as these folders have it.

    Raises NsprovError where a library is in none of them, or a file is not for the processor of the others.
    """
    found: dict[str, Path] = {}
    waiting = list(programs)
    missing = list(names)
    machines: dict[str, Path] = {}
    while waiting or missing:
        for name in missing:
            there = [path for folder in folders if (path := folder / name).exists()]
            if not there:
                raise NsprovError(f"{name} is not in the tree, and the agent needs it")
            found[name] = there[0]
            waiting.append(there[0])
        needed = set[str]()
        for path in waiting:
            lines = _lines(["readelf", "--wide", "--file-header", "--dynamic", path])
            machines |= {line.split(":")[1].strip(): path for line in lines if line.lstrip().startswith("Machine:")}
            needed |= {match[1] for line in lines if (match := re.search(r"\(NEEDED\).*\[(.*)\]", line))}
        waiting = []
        missing = sorted(needed - found.keys())
    if len(machines) != 1:
        kinds = " and ".join(f"{path.name} for {kind}" for kind, path in sorted(machines.items()))
        raise NsprovError(f"the parts of the agent are for different processors: {kinds or 'none is a program'}")
    return set(found.values())


def _lines(command: Sequence[str | Path]) -> list[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise NsprovError(f"there is no {command[0]} here, which tells what the agent needs") from None
    return done.stdout.splitlines()
