"""What holds for every unit test: how long an example of a property takes is no fact about it, and what one test
takes for a secret is none in the next."""

from __future__ import annotations

import pytest
from hypothesis import settings

from provisioner import secrets

settings.register_profile("nsprov", deadline=None)
settings.load_profile("nsprov")


@pytest.fixture(autouse=True)
def _no_secret_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_net", secrets._Net())
