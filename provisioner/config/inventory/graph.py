"""The graph of groups: which hosts and groups a group has, and the variables written for each of them.

``GroupGraph`` gathers what the files of all sources say, in their order; ``finish`` settles what Ansible
settles last (``all`` is everybody's ancestor, ``ungrouped`` has those without a group) and freezes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from provisioner.config.source import Map
from provisioner.errors import Problems, Source

__all__ = ["Group", "GroupGraph", "InventoryHost"]

_PRIORITY = "ansible_group_priority"


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of hosts and of other groups, with variables of its own."""

    name: str
    #: The hosts that were put into this very group, in the order of the files.
    hosts: tuple[str, ...]
    children: tuple[str, ...]
    parents: tuple[str, ...]
    #: How many groups are above it on the longest way up to ``all``; the deeper group's variables win.
    depth: int
    #: Among groups of one depth the higher ``ansible_group_priority`` wins, then the later name.
    priority: int
    #: As the inventory's files give them; without ``group_vars/``.
    variables: Map
    source: Source | None

    @property
    def precedence(self) -> tuple[int, int, str]:
        """What groups are sorted by; variables of a later group replace those of an earlier one."""
        return (self.depth, self.priority, self.name)


@dataclass(frozen=True, slots=True)
class InventoryHost:
    """A host of the inventory, with variables of its own."""

    name: str
    #: All its groups but ``all``, inherited ones too, in the order of precedence (the last one wins).
    groups: tuple[str, ...]
    #: As the inventory's files give them; without ``host_vars/``.
    variables: Map
    source: Source | None
    #: The source that named this host first, and the folder of it.
    file: str | None = None
    folder: str | None = None


@dataclass(slots=True)
class _Node:
    """A group or a host while files are read."""

    name: str
    source: Source | None
    variables: Map = field(default_factory=Map)
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    parents: dict[str, None] = field(default_factory=dict)
    priority: int = 1
    file: str | None = None
    folder: str | None = None


class GroupGraph:
    """What the sources say, one statement after another."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._groups: dict[str, _Node] = {}
        self._hosts: dict[str, _Node] = {}
        #: Set by the loader to the source in hand: (file, folder), for ``inventory_file`` and ``inventory_dir``.
        self.origin: tuple[str, str | None] | None = None
        self.add_group("all", None)
        self.add_group("ungrouped", None)
        self.add_child("all", "ungrouped", None)

    def has_group(self, name: str) -> bool:
        return name in self._groups

    def has_host(self, name: str) -> bool:
        return name in self._hosts

    @property
    def group_names(self) -> list[str]:
        return list(self._groups)

    def add_group(self, name: str, source: Source | None) -> None:
        node = self._groups.setdefault(name, _Node(name, source))
        node.source = node.source or source

    def add_child(self, parent: str, child: str, source: Source | None) -> None:
        """Put a group under another. A group that would become its own ancestor is a problem."""
        if child == "all":
            self.problems.add(
                f"'all' cannot be a child of '{parent}'", source, hint="every group is a child of 'all' by itself"
            )
        elif child == "ungrouped" and parent != "all":
            self.problems.add(
                f"'ungrouped' cannot be a child of '{parent}'",
                source,
                hint="a host in it would have a group, and so not be ungrouped; name a group for these hosts",
            )
        elif parent == child:
            self.problems.add(f"the group '{child}' cannot be its own child", source)
        elif circle := self._way_up(parent, child):
            self.problems.add(
                f"the group '{child}' cannot be a child of '{parent}': that makes a circle",
                source,
                hint=" > ".join([*reversed(circle), child]),
            )
        else:
            self._groups[parent].children[child] = None
            self._groups[child].parents[parent] = None

    def _way_up(self, start: str, goal: str) -> list[str]:
        """The groups from ``start`` up to ``goal``, or nothing when it is not above."""
        came_from: dict[str, str | None] = {start: None}
        queue = [start]
        for name in queue:
            if name == goal:
                way: list[str] = []
                step: str | None = name
                while step is not None:
                    way.append(step)
                    step = came_from[step]
                return way[::-1]
            for parent in self._groups[name].parents:
                if parent not in came_from:
                    came_from[parent] = name
                    queue.append(parent)
        return []

    def add_host(self, name: str, group: str, port: int | None, source: Source | None) -> None:
        """Put a host into a group. The port counts where the host is named first, as in Ansible."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Node(name, source)
            if port:
                host.variables.put("ansible_port", port, source)
            if self.origin is not None:
                host.file, host.folder = self.origin
        self._groups[group].hosts[name] = None

    def set_group_variable(self, group: str, key: str, value: Any, at: Source | None, key_at: Source | None) -> None:
        node = self._groups[group]
        if key != _PRIORITY:
            node.variables.put(key, value, at, key_at)
            return
        try:
            if value is None or isinstance(value, (list, dict)):
                raise ValueError
            node.priority = int(value)
        except ValueError:
            self.problems.add(f"{_PRIORITY} must be a whole number, not {value!r}", at)

    def set_host_variable(self, host: str, key: str, value: Any, at: Source | None, key_at: Source | None) -> None:
        """Set a host's variable; where a group has the same name it is the group's, as in Ansible."""
        if host in self._groups:
            self.set_group_variable(host, key, value, at, key_at)
        else:
            self._hosts[host].variables.put(key, value, at, key_at)

    # -- the end of reading -----------------------------------------------------------------------

    def finish(self) -> tuple[dict[str, InventoryHost], dict[str, Group]]:
        """The hosts in the order in which they were first named, and the groups likewise."""
        for name, node in self._groups.items():
            if name != "all" and not node.parents:
                self.add_child("all", name, node.source)
        direct = self._direct_groups()
        grouped = self._settle_ungrouped(direct)
        order = self._top_down()
        depths = self._depths(order)
        groups = {name: self._frozen_group(node, depths[name]) for name, node in self._groups.items()}
        above = self._ancestors(order)
        hosts = {
            name: InventoryHost(
                name,
                self._by_precedence(
                    groups,
                    {group for near in direct[name] for group in (near, *above[near])}
                    - ({"ungrouped"} if name in grouped else set()),
                ),
                node.variables,
                node.source,
                node.file,
                node.folder,
            )
            for name, node in self._hosts.items()
        }
        return hosts, groups

    def _direct_groups(self) -> dict[str, list[str]]:
        direct: dict[str, list[str]] = {name: [] for name in self._hosts}
        for name, node in self._groups.items():
            for host in node.hosts:
                direct[host].append(name)
        return direct

    def _settle_ungrouped(self, direct: dict[str, list[str]]) -> set[str]:
        """Hosts that are in no group but ``all`` are ungrouped, and no others. Those taken out of it are returned."""
        ungrouped = self._groups["ungrouped"].hosts
        grouped: set[str] = set()
        for host, names in direct.items():
            others = [name for name in names if name not in ("all", "ungrouped")]
            if others and "ungrouped" in names:
                del ungrouped[host]
                names.remove("ungrouped")
                grouped.add(host)
            elif not others and "ungrouped" not in names:
                if host in self._groups:
                    self.problems.add(
                        f"the host '{host}' has the name of a group, and is in no group but 'all'",
                        self._hosts[host].source,
                        hint="Ansible would take the one for the other here: rename it, or put the host into a group",
                    )
                ungrouped[host] = None
                names.append("ungrouped")
        return grouped

    def _top_down(self) -> list[str]:
        """The groups' names, parents before their children."""
        waiting = {name: len(node.parents) for name, node in self._groups.items()}
        order = [name for name, count in waiting.items() if not count]
        for name in order:
            for child in self._groups[name].children:
                waiting[child] -= 1
                if not waiting[child]:
                    order.append(child)
        return order

    def _depths(self, order: Iterable[str]) -> dict[str, int]:
        depths: dict[str, int] = {}
        for name in order:
            depths[name] = max((depths[parent] + 1 for parent in self._groups[name].parents), default=0)
        return depths

    def _ancestors(self, order: Iterable[str]) -> dict[str, frozenset[str]]:
        above: dict[str, frozenset[str]] = {}
        for name in order:
            parents = self._groups[name].parents
            above[name] = frozenset(parents).union(*(above[parent] for parent in parents))
        return above

    @staticmethod
    def _frozen_group(node: _Node, depth: int) -> Group:
        return Group(
            node.name,
            tuple(node.hosts),
            tuple(node.children),
            tuple(node.parents),
            depth,
            node.priority,
            node.variables,
            node.source,
        )

    @staticmethod
    def _by_precedence(groups: dict[str, Group], names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted((n for n in names if n != "all"), key=lambda n: groups[n].precedence))
