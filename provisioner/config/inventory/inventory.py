"""An inventory that has been loaded: which hosts there are, and each one's variables by precedence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from provisioner.config.inventory.graph import Group, InventoryHost
from provisioner.config.inventory.patterns import select
from provisioner.config.inventory.ranges import is_address
from provisioner.config.inventory.vars_files import overlay
from provisioner.config.source import Map
from provisioner.errors import Source, UsageError, did_you_mean

__all__ = ["Inventory"]

_Files = Mapping[str, Sequence[Map | None]]


class Inventory:
    """Hosts, groups and variables. Values are as they were written: not templated."""

    def __init__(
        self,
        hosts: Mapping[str, InventoryHost],
        groups: Mapping[str, Group],
        group_files: _Files,
        host_files: _Files,
        base_dirs: list[Path],
    ) -> None:
        #: By name, in the order in which the files name them first.
        self.hosts = hosts
        #: By name, with ``all`` and ``ungrouped``.
        self.groups = groups
        #: The folders of the sources.
        self.base_dirs = base_dirs
        self._group_files = group_files
        self._host_files = host_files
        self._shared: dict[tuple[str, ...], Map] = {}

    def variables(self, host: str) -> Map:
        """A host's variables, merged by Ansible's precedence, each with its position. A copy of its own.

        From the weakest to the strongest: ``all`` in the inventory, the host's groups in the inventory
        (parents before children), ``group_vars/all``, the groups' ``group_vars/``, the host in the
        inventory, ``host_vars/``. Mappings and lists are replaced, not merged. Magic variables are not in it.
        """
        found = self.host(host)
        merged = self._of_groups(found.groups).copy()
        overlay(merged, found.variables)
        for layer in self._host_files[host]:
            if layer:
                overlay(merged, layer)
        return merged

    def _of_groups(self, names: tuple[str, ...]) -> Map:
        """What hosts of these groups share."""
        merged = self._shared.get(names)
        if merged is None:
            merged = self._shared[names] = Map()
            for name in ("all", *names):
                overlay(merged, self.groups[name].variables)
            for entities in (("all",), names):
                for layers in zip(*(self._group_files[name] for name in entities), strict=True):
                    for layer in layers:
                        if layer:
                            overlay(merged, layer)
        return merged

    def group_variables(self, group: str) -> Map:
        """A group's own variables: the inventory's, and ``group_vars/`` over them."""
        merged = self.groups[group].variables.copy()
        for layer in self._group_files[group]:
            if layer:
                overlay(merged, layer)
        return merged

    def host_variables(self, host: str) -> Map:
        """A host's own variables, without those of its groups."""
        merged = self.host(host).variables.copy()
        for layer in self._host_files[host]:
            if layer:
                overlay(merged, layer)
        return merged

    def layers(self, host: str, name: str) -> list[tuple[Any, Source | None]]:
        """Every value that one variable is given on the way from ``all`` down to a host, and where.

        In the order of the groups' precedence, the host last; for each of them first what the inventory
        says, then its ``group_vars/`` or ``host_vars/``. For variables that accumulate.
        """
        found = self.host(host)
        maps: list[Map | None] = []
        for group in ("all", *found.groups):
            maps += [self.groups[group].variables, *self._group_files[group]]
        maps += [found.variables, *self._host_files[host]]
        return [(layer[name], layer.at(name)) for layer in maps if layer and name in layer]

    def magic(self, host: str) -> dict[str, Any]:
        """The variables that say what the inventory is: ``inventory_hostname``, ``group_names``, ``groups``, …"""
        found = self.host(host)
        return {
            "inventory_hostname": host,
            "inventory_hostname_short": host if is_address(host) else host.split(".")[0],
            "group_names": sorted(found.groups),
            "groups": self.members,
            "inventory_dir": found.folder,
            "inventory_file": found.file,
        }

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """The hosts of every group, those of its children included."""
        return {name: self._members(name) for name in self.groups}

    def _members(self, name: str) -> list[str]:
        hosts: dict[str, None] = {}
        seen = {name}
        queue = [name]
        for group in queue:
            hosts.update(dict.fromkeys(self.groups[group].hosts))
            new = [child for child in self.groups[group].children if child not in seen]
            seen.update(new)
            queue.extend(new)
        return list(hosts)

    def select(self, pattern: str | None = None, *, retry: Path | None = None) -> list[str]:
        """The hosts that a pattern of ``--limit`` names; all of them without one. ``@retry`` is the retry file.

        Raises:
            UsageError: a name in it is neither a host nor a group, or no host is left.
        """
        if pattern is None:
            return list(self.members["all"])
        return select(pattern, self.hosts, self.members, retry=retry)

    def host(self, name: str) -> InventoryHost:
        """A host by its name. Raises UsageError when the inventory has none of this name."""
        found = self.hosts.get(name)
        if found is None:
            raise UsageError(f"the inventory has no host '{name}'", hint=did_you_mean(name, self.hosts))
        return found
