"""The version of what controller and agent say to each other."""

from __future__ import annotations

__all__ = ["PROTOCOL"]

#: Both sides must speak the same: an agent of another version is replaced, never guessed at.
PROTOCOL = 2
