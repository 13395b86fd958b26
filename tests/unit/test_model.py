"""The words that everything is written in: addresses, and numbers of specs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Address
from provisioner.report.reference import FieldEntry, entry_of
from provisioner.resources import kinds
from provisioner.resources.bridge import Bridge
from provisioner.resources.route import Route
from provisioner.resources.rule import Rule
from provisioner.resources.sysctl import Sysctl


@pytest.mark.parametrize(
    "address",
    [
        Address("netns", "blue"),
        Address("unit", "a:b.service"),
        Address("unit", "getty@tty1.service"),
        Address("file", "/etc/a:b"),
        Address("route", "fd01::/64"),
        Address("route", "2001:db8::/32 table 100"),
        Address("route", "::/0"),
        Address("route", "::/0", "blue"),
        Address("route", "fd01::/64", "blue"),
        Address("route", "fd01::/64", "a"),
        Address("route", "10.1.0.0/16", "fd01"),
        Address("nftables", "inet filter"),
        Address("nftables", "inet filter", "blue"),
        Address("sysctl", "net.ipv4.ip_forward", "blue"),
        Address("veth", "eth0", "blue"),
    ],
    ids=str,
)
def test_an_address_is_read_as_it_is_written(address: Address) -> None:
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "netns", "/blue", "netns/"])
def test_what_has_no_kind_or_no_name_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected kind/name"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Rule, {"priority": True, "table": 100}),
        (Rule, {"priority": 5, "suppress_prefixlength": False}),
        (Route, {"to": "10.9.0.0/16", "dev": "br0", "metric": True}),
        (Bridge, {"name": "br0", "priority": True}),
        (Bridge, {"name": "br0", "ageing_time": True}),
        (Bridge, {"name": "br0", "stp": True, "hello_time": True}),
    ],
)
def test_true_is_not_the_number_1(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"must be a number, not (true|false)"):
        kind.model_validate(fields)


@pytest.mark.parametrize("name", sorted(kinds()))
def test_no_kind_takes_true_for_a_number(name: str) -> None:
    taken = list(_numbers("", entry_of(kinds()[name]).fields))
    for path in taken:
        value: Any = True
        for step in reversed(path.split(".")):
            value = {step: value}
        with pytest.raises(ValidationError) as caught:
            kinds()[name].resource.model_validate(value)
        where = tuple(path.split("."))
        assert any(error["loc"][: len(where)] == where for error in caught.value.errors()), path


def _numbers(parent: str, fields: tuple[FieldEntry, ...]) -> Iterator[str]:
    for one in fields:
        if one.type.split(" or ")[0] in ("integer", "number"):
            yield parent + one.name
        if one.type == "mapping":
            yield from _numbers(f"{parent}{one.name}.", one.fields)


@pytest.mark.parametrize("value", [[None], [1, None], [[1]], [{"a": 1}]])
def test_the_parts_of_a_setting_are_texts_or_numbers(value: Any) -> None:
    with pytest.raises(ValidationError, match="its parts must be texts or numbers"):
        Sysctl.model_validate({"key": "net.ipv4.tcp_rmem", "value": value})
