"""Which tasks ``--tags`` and ``--skip-tags`` choose, as in Ansible: ``always``, ``never``, ``all``, ``tagged``."""

from __future__ import annotations

from collections.abc import Set

__all__ = ["SPECIAL", "chosen"]

#: Tags that mean something by themselves, whether a task has them or not.
SPECIAL = frozenset({"all", "always", "never", "tagged", "untagged"})


def chosen(tags: Set[str], only: Set[str], skip: Set[str]) -> bool:
    """Whether a task with these tags is chosen."""
    return _included(tags, only) and not (skip and _excluded(tags, skip))


def _included(tags: Set[str], only: Set[str]) -> bool:
    if "always" in tags:
        return True
    if not only or "all" in only:
        return "never" not in tags or not only.isdisjoint(tags)
    if not only.isdisjoint(tags):
        return True
    if "tagged" in only and tags:
        return "never" not in tags
    return "untagged" in only and not tags


def _excluded(tags: Set[str], skip: Set[str]) -> bool:
    if "all" in skip:
        return "always" not in tags or "always" in skip
    if not skip.isdisjoint(tags):
        return True
    return ("tagged" in skip and bool(tags)) or ("untagged" in skip and not tags)
