"""The tree that slices and units make, and their limits in it: which lies in which, and as what a value counts. Pure.

A slice's parent is in its name: ``a-b.slice`` lies in ``a.slice``. A unit's is its ``Slice``, or the one that
systemd puts it in. Slices that nobody declares are in the tree as well: systemd makes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from provisioner.directives import Value, values
from provisioner.directives.control import numbers_in

__all__ = ["ROOT", "Branch", "Tree", "cpu_set", "limits_in", "parent_of", "rates"]

ROOT = "-.slice"


@dataclass(frozen=True, slots=True)
class Branch:
    """One slice or unit: its name, the slice that it lies in, and its directives (None: it is not declared)."""

    name: str
    parent: str | None
    values: Mapping[str, Value] | None = None

    @property
    def declared(self) -> bool:
        return self.values is not None

    def get(self, directive: str) -> Value | None:
        return (self.values or {}).get(directive)


def parent_of(name: str, slice_name: str | None = None) -> str | None:
    """The slice that a slice or a unit lies in; None for the root."""
    stem, _, suffix = name.rpartition(".")
    if name == ROOT:
        return None
    if suffix == "slice":
        outer, dash, _ = stem.rpartition("-")
        return f"{outer}.slice" if dash else ROOT
    if slice_name:
        return slice_name
    prefix, at, _ = stem.partition("@")
    return "system-" + prefix.replace("-", "\\x2d") + ".slice" if at else "system.slice"


class Tree:
    """Slices and units by name, and the slices above them."""

    def __init__(self, declared: Mapping[str, Mapping[str, Value]]) -> None:
        self.branches: dict[str, Branch] = {}
        for name, directives in declared.items():
            above = directives.get("Slice")
            self.branches[name] = Branch(name, parent_of(name, str(above) if above else None), directives)
        for branch in list(self.branches.values()):
            parent = branch.parent
            while parent is not None and parent not in self.branches:
                self.branches[parent] = Branch(parent, parent_of(parent))
                parent = self.branches[parent].parent

    def above(self, branch: Branch) -> Iterator[Branch]:
        """The slices that one lies in, the nearest first, the root last."""
        while branch.parent is not None:
            branch = self.branches[branch.parent]
            yield branch

    @cached_property
    def below(self) -> Mapping[str, Sequence[Branch]]:
        """What lies directly in each slice."""
        found: dict[str, list[Branch]] = {}
        for branch in self.branches.values():
            if branch.parent is not None:
                found.setdefault(branch.parent, []).append(branch)
        return found

    def protection(self, branch: Branch, directive: str) -> str:
        """What systemd gives a branch as its ``MemoryMin`` or ``MemoryLow``: its own, or the nearest default."""
        own = branch.get(directive)
        if own is not None:
            return str(own)
        defaults = (one.get(f"Default{directive}") for one in self.above(branch))
        return next((str(one) for one in defaults if one is not None), "0")


# -- values as numbers ----------------------------------------------------------------------------


def limits_in(texts: Iterable[str], total: int | None) -> list[float] | None:
    """Limits as numbers that compare, where ``total`` is what percentages are of.

    None where it is not known and would be needed: when some are percentages and some are not.
    """
    return _numbers(tuple(texts), total)


@lru_cache(maxsize=16384)  # many units have the same
def _numbers(texts: tuple[str, ...], total: int | None) -> list[float] | None:
    shares = {values.percent(text) is not None for text in texts if text not in ("", "infinity", "0")}
    if total is None and shares == {True, False}:
        return None
    made: list[float] = []
    for text in texts:
        share = values.percent(text)
        if text in ("", "infinity"):
            made.append(math.inf)
        elif share is not None:
            made.append(share if total is None else share * total / 10000)
        else:
            made.append(values.size(text))
    return made


def cpu_set(text: str) -> frozenset[int]:
    """The CPUs or memory nodes of ``0-3 5``."""
    return frozenset(numbers_in(text))


def rates(value: Value) -> dict[str, int]:
    """Rates by device, of ``/dev/vda 10M``."""
    pairs = (item.partition(" ") for item in ([value] if isinstance(value, str) else value))
    return {device: values.size(text, 1000) for device, _, text in pairs if text != "infinity"}
