"""What holds for every unit test: how long an example of a property takes is no fact about it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("nsprov", deadline=None)
settings.load_profile("nsprov")
