"""The kind ``dummy``: interfaces that lead nowhere, on the host or in a namespace."""

from __future__ import annotations

from typing import ClassVar

from provisioner.links import LinkDriver, LinkResource
from provisioner.resources import register

__all__ = ["Dummy"]


class Dummy(LinkResource):
    """An interface that leads nowhere: it holds addresses that no cable can take down, and drops what it is sent."""

    kind: ClassVar[str] = "dummy"


register(Dummy, LinkDriver(Dummy))
