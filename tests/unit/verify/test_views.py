"""The fixtures stand alone in a written suite: what they know of limits is held against the rest of nsprov."""

from __future__ import annotations

from provisioner.directives.kernel import FILE_OF
from provisioner.verify import views


def test_a_limit_is_read_from_the_file_that_the_checks_of_an_apply_read() -> None:
    assert {name: FILE_OF[name] for name in views._FILES} == views._FILES
