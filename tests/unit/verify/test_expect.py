"""What `expect:` means: where packets go, how the fact reads, and what is wrong with one that cannot be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from provisioner.verify.expect import Target, expect_check, target_of

from .kinds import expect


@pytest.mark.parametrize(
    ("to", "proto", "target"),
    [
        ("10.20.0.12:80", None, Target("10.20.0.12", 80, "tcp")),
        ("10.20.0.1:53", "udp", Target("10.20.0.1", 53, "udp")),
        ("10.20.0.1", None, Target("10.20.0.1", None, "icmp")),
        ("10.20.0.1", "icmp", Target("10.20.0.1", None, "icmp")),
        ("[fd00::12]:443", None, Target("fd00::12", 443, "tcp")),
        ("[fd00::12]", None, Target("fd00::12", None, "icmp")),
        ("fd00:0:0::12", None, Target("fd00::12", None, "icmp")),
        ("fe80::1%eth0", None, Target("fe80::1%eth0", None, "icmp")),
        ("web.example.com:80", None, Target("web.example.com", 80, "tcp")),
    ],
)
def test_a_port_means_tcp_and_none_means_a_ping(to: str, proto: str | None, target: Target) -> None:
    assert target_of(expect("blue", to, proto=proto)) == target


@pytest.mark.parametrize(
    ("to", "proto", "reason"),
    [
        ("10.20.0.12:99999", None, "'99999' is not a port"),
        ("10.20.0.12:http", None, "'http' is not a port"),
        ("10.20.0.12:", None, "'' is not a port"),
        ("10.20.0.300:80", None, "'10.20.0.300' is not an address"),
        ("10.20.0.0/24:80", None, "'10.20.0.0/24' is not an address"),
        ("fd00::zz", None, "'fd00::zz' is not an address"),
        ("[fd00::1:80", None, "expected [ADDRESS]:PORT"),
        ("[fd00::1]80", None, "expected [ADDRESS]:PORT"),
        ("", None, "'' is not an address"),
        ("10.20.0.12", "tcp", "tcp needs a port: write `to: 10.20.0.12:PORT`"),
        ("fd00::12", "udp", "udp needs a port: write `to: [fd00::12]:PORT`"),
        ("10.20.0.12:80", "icmp", "icmp has no ports: write `to: 10.20.0.12`"),
    ],
)
def test_what_is_no_target_is_said_with_what_would_be_right(to: str, proto: str | None, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        expect("blue", to, proto=proto)
    assert reason in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("given", "title"),
    [
        (("blue", "10.20.0.12:80", "reached"), "blue reaches 10.20.0.12:80"),
        (("blue", "10.20.0.12:80", "dropped"), "blue is dropped at 10.20.0.12:80"),
        (("host", "[fd00::1]:80", "refused"), "host is refused at [fd00::1]:80"),
        (("blue", "10.20.0.1:53", "reached", "udp"), "blue reaches 10.20.0.1:53/udp"),
        (("blue", "10.20.0.1", "reached"), "blue reaches 10.20.0.1"),
    ],
)
def test_an_expectation_reads_as_a_fact(given: tuple[str, ...], title: str) -> None:
    assert expect_check(expect(*given)).title == title


def test_the_host_itself_sends_from_no_namespace() -> None:
    check = expect_check(expect("host", "10.20.0.12:80", "dropped"))
    assert check.code == "expect_packet(host, None, '10.20.0.12:80', 'tcp', 'dropped')"
