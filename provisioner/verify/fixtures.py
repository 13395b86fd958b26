"""pytest fixtures that know namespaces, units and slices: ``netns``, ``unit`` and ``slice``.

The plugin ``nsprov`` of pytest, loaded wherever nsprov is installed, and copied into every suite that is written. It
stands on testinfra's fixture ``host`` and so works with any of its connections; a run that asks for none of the
fixtures does not notice it: what they need is imported when the first of them is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

if TYPE_CHECKING:
    from provisioner.verify.views import Netns, Slice, Unit

__all__ = ["Named", "netns", "slice_", "unit"]

T = TypeVar("T")


class Named(Generic[T]):
    """What a fixture hands out: called with a name, it is the host's thing of that name."""

    def __init__(self, fixture: str, kind: Callable[[Any, str], T], host: Any) -> None:
        self._fixture = fixture
        self._kind = kind
        self._host = host

    def __call__(self, name: str) -> T:
        return self._kind(self._host, name)

    def __repr__(self) -> str:
        # pytest shows what was called in its reason of a failure.
        return self._fixture


@pytest.fixture(scope="module")
def netns(host: Any) -> Named[Netns]:
    """A network namespace of the host: ``netns("blue").socket("tcp://:80").is_listening``."""
    from provisioner.verify.views import Netns

    return Named("netns", Netns, host)


@pytest.fixture(scope="module")
def unit(host: Any) -> Named[Unit]:
    """A unit of systemd: ``unit("web.service").namespaces["net"].is_host``."""
    from provisioner.verify.views import Unit

    return Named("unit", Unit, host)


@pytest.fixture(scope="module", name="slice")
def slice_(host: Any) -> Named[Slice]:
    """A slice of systemd: ``slice("tenants.slice").limit("MemoryMax") == "512M"``."""
    from provisioner.verify.views import Slice

    return Named("slice", Slice, host)
