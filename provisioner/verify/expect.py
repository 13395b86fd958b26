"""Declared reachability as facts: who reaches whom, and who must not. Pure.

``packets.py`` is what sends the packets; this module reads where a role's ``expect:`` sends them.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from provisioner.model import Check

if TYPE_CHECKING:
    from provisioner.model import Expect

__all__ = ["Target", "expect_check", "parse_target", "target_of"]

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?$")


class Target(NamedTuple):
    """Where packets go: an address (or a name), a port but for pings, and the protocol."""

    host: str
    port: int | None
    proto: Literal["tcp", "udp", "icmp"]

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target_of(expect: Expect) -> Target:
    """Where an expectation sends its packets."""
    return parse_target(expect.to, expect.proto)


def parse_target(to: str, proto: Literal["tcp", "udp", "icmp"] | None) -> Target:
    """What ``to`` and ``proto`` mean together. Raises ValueError with what is wrong with them."""
    host, port = _split(to.strip())
    proto = proto or ("icmp" if port is None else "tcp")
    if proto == "icmp" and port is not None:
        raise ValueError(f"icmp has no ports: write `to: {host}`, or leave `proto` out to try tcp port {port}")
    if proto != "icmp" and port is None:
        raise ValueError(f"{proto} needs a port: write `to: {'[' + host + ']' if ':' in host else host}:PORT`")
    return Target(_canonical(host), port, proto)


def expect_check(expect: Expect) -> Check:
    """The fact that an expectation states: ``blue reaches 10.20.0.12:80``."""
    target = target_of(expect)
    netns = None if expect.from_ == "host" else expect.from_
    verb = {"reached": "reaches", "refused": "is refused at", "dropped": "is dropped at"}[expect.result]
    shown = f"{target}/udp" if target.proto == "udp" else str(target)
    call = f"expect_packet(host, {netns!r}, {str(target)!r}, {target.proto!r}, {expect.result!r})"
    return Check(f"{expect.from_} {verb} {shown}", call)


def _split(text: str) -> tuple[str, int | None]:
    """The address and the port; an IPv6 address with a port stands in brackets."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is not an address: expected [ADDRESS]:PORT")
        return host, _port(rest[1:]) if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, _port(port) if colon else None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"'{text}' is not a port: expected a number from 1 to 65535")
    return int(text)


def _canonical(host: str) -> str:
    address, _, zone = host.partition("%")
    try:
        return f"{ipaddress.ip_address(address)}{'%' + zone if zone else ''}"
    except ValueError:
        looks_like_address = ":" in host or host.replace(".", "").isdecimal() or "/" in host
        if looks_like_address or not _NAME.match(host):
            raise ValueError(f"'{host}' is not an address: expected one like 10.20.0.12 or fd00::12") from None
        return host
