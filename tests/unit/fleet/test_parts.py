"""What a bundle is made of: this process, or a tree of Debian's packages, of which nothing is run."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from provisioner.errors import NsprovError
from provisioner.fleet import parts

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def machine() -> parts.Parts:
    """This machine, taken for a tree."""
    return parts.unpacked(Path("/"))


def test_a_tree_says_what_its_interpreter_was_built_for(machine: parts.Parts) -> None:
    assert machine.arch == platform.machine()
    assert machine.interpreter.name == PYTHON


def test_what_files_say_that_they_need_is_what_the_loader_loads(machine: parts.Parts) -> None:
    here = parts.this_process()
    programs = [here.interpreter, *here.extensions.glob("*.so")]
    names = ["libnftables.so.1"]

    def found(those: parts.Parts) -> set[str]:
        # Which of its own parts a loader tells of differs.
        return {one.name for one in those.libraries(programs, names) if not one.name.startswith("ld-linux")}

    assert found(machine) == found(here)
    assert {"libnftables.so.1", "libnftnl.so.11", "libc.so.6"} <= found(machine)


def test_a_package_of_the_tree_goes_before_that_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "usr/lib" / PYTHON).mkdir(parents=True)
    (tmp_path / "usr/lib" / PYTHON / "_sysconfigdata__aarch64-linux-gnu.py").touch()
    theirs = tmp_path / "usr/lib/python3/dist-packages/pydantic_core"
    theirs.mkdir(parents=True)
    tree = parts.unpacked(tmp_path)
    assert tree.arch == "aarch64"
    assert tree.package("pydantic_core") == theirs
    assert tree.package("pydantic") == parts.this_process().package("pydantic")
    assert tree.package("no_such_package") is None


def test_a_tree_without_this_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NsprovError, match=f"has no {PYTHON} of Debian"):
        parts.unpacked(tmp_path)


def test_a_library_that_the_tree_lacks_is_told(machine: parts.Parts) -> None:
    with pytest.raises(NsprovError, match=r"libnone\.so\.9 is not in the tree"):
        machine.libraries([machine.interpreter], ["libnone.so.9"])


def test_parts_for_different_processors_are_refused(machine: parts.Parts, tmp_path: Path) -> None:
    other = bytearray(machine.interpreter.read_bytes())
    other[18] = 243 if os.uname().machine != "riscv64" else 62
    (tmp_path / "other.so").write_bytes(other)
    with pytest.raises(NsprovError, match=r"for different processors: .*other\.so for RISC-V"):
        machine.libraries([machine.interpreter, tmp_path / "other.so"], [])
