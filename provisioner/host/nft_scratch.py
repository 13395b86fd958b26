"""Tries rulesets in a network namespace that nobody else sees, and lists what the kernel made of them.

The trial runs in a forked child: the namespace goes with it, the real tables are never near, and a text
that brings libnftables down (it has assertions) costs the child alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.errors import HostError
from provisioner.host import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: Runs nft commands: whether it worked, the output, the errors.
    Run = Callable[[str], tuple[bool, str, str]]
    #: The text to load, the commands to list it and to delete it, the interfaces that it looks up.
    Trial = tuple[str, str, str, frozenset[str]]

__all__ = ["Outcome", "load_and_list"]

_CLONE_NEWNET = 0x40000000
#: No ruleset that a person writes takes this long; what does hangs.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one text: its listing, or nft's words against it."""

    listing: str | None
    error: str = ""


def load_and_list(trials: Sequence[Trial], open_session: Callable[[], Run]) -> list[Outcome]:
    """Load each text alone, and list it. One child serves all of them, unless one brings it down.

    Raises:
        HostError: no namespace can be made (root is missing).
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(trials):
        some, ending = _in_child(trials[len(outcomes) :], open_session)
        outcomes.extend(some)
        if len(outcomes) < len(trials):
            outcomes.append(Outcome(None, f"nft itself failed on this ruleset ({ending})"))
    return outcomes


def _in_child(trials: Sequence[Trial], open_session: Callable[[], Run]) -> tuple[list[Outcome], str]:
    """The outcomes up to the end of the child, and how it ended."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _try_all(trials, open_session, writing)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        text, hung = _read_all(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    outcomes = []
    for line in text.decode().split("\n")[:-1]:
        answer = json.loads(line)
        if "refused" in answer:
            number = answer["refused"]
            hint = "root is needed" if number == 1 else None
            raise HostError("rulesets cannot be tried", detail=os.strerror(number), code=number, hint=hint)
        outcomes.append(Outcome(answer["listing"], answer["error"]))
    return outcomes, f"no answer in {_PATIENCE:.0f} s" if hung else _ending(status)


def _ending(status: int) -> str:
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "it ended early"


def _read_all(descriptor: int) -> tuple[bytes, bool]:
    """All that the child writes, and whether it kept silent for too long."""
    parts: list[bytes] = []
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while waiting.poll(_PATIENCE * 1000):
        part = os.read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts), False
        parts.append(part)
    return b"".join(parts), True


def _try_all(trials: Sequence[Trial], open_session: Callable[[], Run], answers: int) -> None:
    """The child: one answer line for each text. Takes no lock and imports nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    with os.fdopen(answers, "w", encoding="utf-8") as lines:
        if libc.unshare(_CLONE_NEWNET) != 0:
            lines.write(json.dumps({"refused": ctypes.get_errno()}) + "\n")
            return
        _make_links({name for _, _, _, names in trials for name in names})
        run = open_session()
        for text, list_it, delete_it, _ in trials:
            done, _, error = run(text)
            listing = None
            if done:
                done, listing, error = run(list_it)
                run(delete_it)
            answer = {"listing": listing if done else None, "error": error}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def _make_links(names: Iterable[str]) -> None:
    """Interfaces of these names, so that rules can name them. What cannot be made, nft will complain of."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for number, name in enumerate(sorted(names)):
            pair = messages.link_create(name, "veth", messages.veth_data(f"nsprov-far{number}", None))
            netlink.send(messages.with_sequence([pair], 1))
            netlink.recv(65536)
