"""The desired graph as one host carries it out: what changes, what stays, and what it cannot do."""

from __future__ import annotations

from provisioner.engine.fit import fit
from provisioner.errors import Source
from provisioner.model import Address, Declared, Desired
from provisioner.resources.netns import Netns
from provisioner.resources.unit import Unit

WEB = Unit(name="web", ExecStart="/bin/web", isolate=["pid"])
HERE = Source("tasks/main.yml", 3)


def test_the_same_words_are_carried_out_by_what_each_host_has() -> None:
    desired = Desired({WEB.address: Declared(WEB, HERE, "r", "a task")})
    old, new = (fit(desired, {"systemd": version}).resources[WEB.address] for version in (252, 257))
    assert isinstance(old.resource, Unit)
    assert isinstance(new.resource, Unit)
    assert "PrivatePIDs" not in old.resource.directives
    assert new.resource.directives["PrivatePIDs"] == "yes"
    assert (old.source, old.role, old.task) == (HERE, "r", "a task")


def test_what_needs_no_fitting_is_left_alone() -> None:
    desired = Desired({Address("netns", "blue"): Declared(Netns(name="blue"))}, tests=("t",), partial=True)
    assert fit(desired, {"systemd": 252}) == desired


def test_what_a_host_cannot_do_is_told_with_whose_it_is() -> None:
    web = Unit(name="web", ExecStart="/bin/web", isolate=["pid"], Type="forking")
    ((address, issue),) = fit(Desired({web.address: Declared(web)}), {"systemd": 252}).concerns
    assert (address, issue.field, issue.severity) == (web.address, "Type", "error")
