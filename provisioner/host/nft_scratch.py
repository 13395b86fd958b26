"""Tries rulesets in a network namespace that nobody else sees, and lists what the kernel made of them.

The trial runs in a forked child: the namespace goes with it, the real tables are never near, and a text
that brings libnftables down (it has assertions) costs the child alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from provisioner.errors import HostError
from provisioner.host import messages
from provisioner.host.forked import Forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: Runs nft commands: whether it worked, the output, the errors.
    Run = Callable[[str], tuple[bool, str, str]]
    #: The text to load, the commands to list it and to delete it, the interfaces that it looks up.
    Trial = tuple[str, str, str, frozenset[str]]

__all__ = ["Outcome", "load_and_list"]

_CLONE_NEWNET = 0x40000000


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
        left = trials[len(outcomes) :]
        answers, ending = Forked(partial(_try_all, left, open_session)).collect()
        if answers and "refused" in answers[0]:
            number = answers[0]["refused"]
            hint = "root is needed" if number == errno.EPERM else None
            raise HostError("rulesets cannot be tried", detail=os.strerror(number), code=number, hint=hint)
        outcomes += [Outcome(one["listing"], one["error"]) for one in answers]
        if len(answers) < len(left):
            outcomes.append(Outcome(None, f"nft itself failed on this ruleset ({ending})"))
    return outcomes


def _try_all(trials: Sequence[Trial], open_session: Callable[[], Run], answer: Callable[[Any], None]) -> None:
    """The child: one answer for each text."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        answer({"refused": ctypes.get_errno()})
        return
    _make_links({name for _, _, _, names in trials for name in names})
    run = open_session()
    for text, list_it, delete_it, _ in trials:
        done, _, error = run(text)
        listing = ""
        if done:
            done, listing, error = run(list_it)
            run(delete_it)
        answer({"listing": listing if done else None, "error": error})


def _make_links(names: Iterable[str]) -> None:
    """Interfaces of these names, so that rules can name them. What cannot be made, nft will complain of."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for number, name in enumerate(sorted(names)):
            pair = messages.link_create(name, "veth", messages.veth_data(f"nsprov-far{number}", None))
            netlink.send(messages.with_sequence([pair], 1))
            netlink.recv(65536)
