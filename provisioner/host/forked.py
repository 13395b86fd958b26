"""Work in a forked child that answers in JSON lines: what it enters, and what brings it down, is its own.

The child shares no namespace that it leaves, dies with its parent, and is not asked by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Forked"]

_PR_SET_PDEATHSIG = 1


class Forked:
    """A child that is at work. ``work`` is handed the function that answers; it must take no lock."""

    def __init__(self, work: Callable[[Callable[[Any], None]], None]) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._answers = reading
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(reading)
                _be_a_child_of(parent)
                with os.fdopen(writing, "w", encoding="utf-8") as lines:
                    work(lambda value: print(json.dumps(value), file=lines, flush=True))
            finally:
                os._exit(0)
        os.close(writing)

    def collect(self, patience: float = 60.0) -> tuple[list[Any], str]:
        """The answers until the child ends, and how it ended. It is ended when it is silent for too long."""
        parts: list[bytes] = []
        silent = True
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        try:
            while waiting.poll(patience * 1000):
                part = os.read(self._answers, 1 << 20)
                if not part:
                    silent = False
                    break
                parts.append(part)
        finally:
            os.close(self._answers)
            if silent:
                os.kill(self._child, signal.SIGKILL)
            _, status = os.waitpid(self._child, 0)
        answers = [json.loads(line) for line in b"".join(parts).decode().split("\n")[:-1]]
        if silent:
            return answers, f"no answer in {patience:.0f} s"
        return answers, signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "it ended early"


def _be_a_child_of(parent: int) -> None:
    # Standard input makes room: a library's socket takes the first free number, and libnftables dies of one
    # that select() cannot hold (1024 and more), as a parent that holds many namespaces has.
    with contextlib.suppress(OSError):
        os.close(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
