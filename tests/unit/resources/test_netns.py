"""The spec of ``netns``."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from provisioner.model import Address
from provisioner.resources.netns import Netns


def test_a_namespace_has_its_loopback_up_unless_told_otherwise() -> None:
    assert Netns(name="blue").loopback is True
    assert Netns(name="blue").summary() == []
    assert Netns(name="blue", loopback=False).summary() == [("loopback", "no")]


def test_its_address_is_its_name_and_it_needs_nothing() -> None:
    space = Netns(name="blue")
    assert space.address == Address("netns", "blue")
    assert list(space.requires()) == []
    assert list(space.lives_in()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "-a", "host", "x" * 256, "a\nb"])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Netns(name=name)


@pytest.mark.parametrize("name", ["blue", "x" * 255, "tenant-1.example", "42", "grün"])
def test_other_names_are_taken(name: str) -> None:
    assert Netns(name=name).name == name


def test_a_number_is_a_name() -> None:
    assert Netns.model_validate({"name": 42}).name == "42"


def test_its_facts_are_its_existence_and_its_loopback() -> None:
    checks = list(Netns(name="blue").checks())
    assert [check.title for check in checks] == ["netns/blue exists", "netns/blue has its loopback up"]
    for check in checks:
        compile(check.code, check.title, "exec")
