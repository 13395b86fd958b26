"""Why a host lacks a controller, and what mends that."""

from __future__ import annotations

import pytest

from provisioner.directives import known
from provisioner.host.controllers import lacking
from provisioner.limits.controllers import CONTROLLERS, FILES, mend, why

HEAD = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"


def cgroups(**rows: str) -> str:
    return HEAD + "".join(f"{name}\t{row}\n" for name, row in rows.items())


@pytest.mark.parametrize(
    ("text", "command_line", "nested", "lack"),
    [
        (cgroups(memory="4\t38\t1"), "", False, "v1"),
        (cgroups(memory="0\t38\t0"), "", False, "disabled"),
        (cgroups(), "quiet cgroup_disable=memory,hugetlb", False, "disabled"),
        (cgroups(cpu="0\t1\t1"), "", False, "absent"),
        (cgroups(memory="0\t38\t1"), "", True, "withheld"),
        (cgroups(), "", True, "withheld"),
    ],
)
def test_why_the_memory_controller_is_not_there(text: str, command_line: str, nested: bool, lack: str) -> None:
    there = ("cpu", "cpuset", "io", "pids")
    assert lacking(there, text, command_line, nested=nested) == {"memory": lack}


def test_io_is_called_blkio_in_version_1_and_on_the_command_line() -> None:
    there = ("cpu", "cpuset", "memory", "pids")
    assert lacking(there, cgroups(blkio="7\t1\t1"), "", nested=False) == {"io": "v1"}
    assert "cgroup_disable=blkio" in mend("io", "disabled")


def test_every_reason_has_words_and_a_step_that_mends_it() -> None:
    for controller in CONTROLLERS:
        for lack in ("v1", "disabled", "absent", "withheld"):
            assert why(controller, lack)
            assert mend(controller, lack)


def test_every_directive_that_is_said_to_need_a_controller_is_one_of_systemds() -> None:
    named = {name for names in CONTROLLERS.values() for name in names}
    assert named | FILES.keys() <= known("service").keys() | known("slice").keys()
