"""The kinds of resources: one file per kind, each with its spec, its diff rules and its driver.

A module of this package registers its kind by calling ``register``; nothing else names it. Specs are
pure; only the driver's methods are handed a ``Host``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

from provisioner.model import Kind, R

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.model import Driver

__all__ = ["kind_of", "kinds", "register"]

_registry: dict[str, Kind[Any]] = {}


def register(resource: type[R], driver: Driver[R]) -> None:
    """Make a kind known. Raises ValueError when another module has registered the same word."""
    name = resource.kind
    if name in _registry:
        taken = _registry[name].resource.__module__
        raise ValueError(f"the kind '{name}' of {resource.__module__} is registered by {taken} already")
    _registry[name] = Kind(name, resource, driver)


@cache
def kinds() -> Mapping[str, Kind[Any]]:
    """Every kind by its name, in the order of names."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_registry.items()))


def kind_of(name: str) -> Kind[Any]:
    """The kind of this name. Raises KeyError."""
    return kinds()[name]
