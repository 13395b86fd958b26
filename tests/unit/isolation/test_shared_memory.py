"""A unit with an ipc namespace of its own has POSIX shared memory of its own: a file system at /dev/shm."""

from __future__ import annotations

import pytest

from provisioner.directives import Value
from provisioner.isolation.ways import SHARED_MEMORY, Wish, carried_out


def mounted(kinds: set[str], profile: str | None = None, **own: Value) -> Value:
    """The empty file systems that the unit is given."""
    wish = Wish("web.service", frozenset(kinds), {"ExecStart": ("/usr/bin/web",), **own}, profile)  # type: ignore[arg-type]
    return carried_out(wish, 252).directives.get("TemporaryFileSystem", ())


def test_what_has_an_ipc_namespace_has_shared_memory_of_its_own() -> None:
    assert mounted({"ipc"}) == (SHARED_MEMORY,)
    assert mounted(set(), "strict") == (SHARED_MEMORY,)


def test_what_has_none_shares_the_hosts() -> None:
    assert mounted({"mount"}) == ()
    assert mounted(set(), "standard") == ()


def test_it_is_beside_the_file_systems_that_the_unit_names() -> None:
    assert mounted({"ipc"}, TemporaryFileSystem=("/var/cache",)) == ("/var/cache", SHARED_MEMORY)


@pytest.mark.parametrize(
    "own",
    [{"TemporaryFileSystem": ("/dev/shm:size=1G",)}, {"BindPaths": ("/srv/shared:/dev/shm",)}],
    ids=["of another size", "a folder"],
)
def test_a_unit_that_says_what_it_is_keeps_that(own: dict[str, Value]) -> None:
    assert SHARED_MEMORY not in mounted({"ipc"}, **own)
