"""Packets that nobody answers: which are sent again, and what is made of it."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from provisioner.verify import packets
from provisioner.verify.packets import Attempt, expect_packet


class Ran(NamedTuple):
    stdout: str
    stderr: str = ""


class Busy:
    """A host that gives each attempt the next of its outcomes."""

    def __init__(self, **outcomes: list[str]) -> None:
        self.outcomes = {name.replace("_", ":"): list(given) for name, given in outcomes.items()}
        self.runs: list[int] = []

    def run(self, command: str, *args: str) -> Ran:
        asked = re.findall(r"^attempt (\d+) '' tcp (\S+) (\d+) ", args[0], re.MULTILINE)
        self.runs.append(len(asked))
        return Ran("".join(f"{number} {self.outcomes[f'{host}:{port}'].pop(0)}\n" for number, host, port in asked))


def test_what_shall_be_answered_is_tried_once_more_when_the_host_is_quiet() -> None:
    host = Busy(a_1=["dropped", "reached"], a_2=["dropped", "refused"], a_3=["reached"], a_4=["dropped"])
    wanted = {"a:1": "reached", "a:2": "refused", "a:3": "reached", "a:4": "dropped"}
    packets.start(host, [Attempt(None, to, "tcp", one) for to, one in wanted.items()])
    for to, one in wanted.items():
        expect_packet(host, None, to, "tcp", one)
    assert host.runs == [4, 2]


def test_what_is_not_answered_then_either_fails_and_is_not_tried_for_each() -> None:
    host = Busy(a_1=["dropped", "dropped"], a_2=["dropped", "dropped"])
    packets.start(host, [Attempt(None, to, "tcp", "reached") for to in ("a:1", "a:2")])
    for to in ("a:1", "a:2"):
        with pytest.raises(AssertionError, match=f"expected {to} to be reached from the host, it was dropped"):
            expect_packet(host, None, to, "tcp", "reached")
    assert host.runs == [2, 2]
