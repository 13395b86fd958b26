"""Waiting for what comes about on its own: no test asserts how long anything takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(holds: Callable[[], bool], seconds: float = 30, pause: float = 0.02) -> None:
    """Wait until it holds; the test fails when it does not for long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(pause)
