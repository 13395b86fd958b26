"""What one host makes of what is desired: each resource as this host carries it out. Pure.

The same words mean the same on every host; how they are carried out may differ, as where one systemd has a
directive and another has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.model import Address, Desired, Issue

__all__ = ["fit"]


def fit(desired: Desired, facts: Mapping[str, Any]) -> Desired:
    """The desired graph as a host with these facts has it, with what it cannot do of it, or only in part."""
    resources = dict(desired.resources)
    concerns: list[tuple[Address, Issue]] = []
    for address, declared in desired.resources.items():
        fitted, issues = declared.resource.fitted(facts, desired)
        concerns += [(address, issue) for issue in issues]
        if fitted is not declared.resource:
            resources[address] = replace(declared, resource=fitted)
    return replace(desired, resources=resources, concerns=tuple(concerns))
