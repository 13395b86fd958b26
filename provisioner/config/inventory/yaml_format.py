"""Reads an inventory's YAML (and JSON) files: groups with ``hosts``, ``vars`` and ``children``."""

from __future__ import annotations

from typing import Any

from provisioner.config.inventory.graph import GroupGraph
from provisioner.config.inventory.ranges import expand_hosts
from provisioner.config.source import Key, Map, Seq
from provisioner.errors import Source, did_you_mean

__all__ = ["read_yaml_inventory"]

_SECTIONS = ("hosts", "vars", "children")


def read_yaml_inventory(document: Map, graph: GroupGraph) -> None:
    """Add what a document says to the graph; what is wrong with it goes to the graph's problems."""
    if document.get("plugin"):
        graph.problems.add(
            f"this configures the inventory plugin '{document['plugin']}', and plugins are not run: "
            "an inventory is static YAML or INI",
            document.key_at("plugin"),
            hint="write what it finds into a file: ansible-inventory -i FILE --list --export --yaml --output NEW.yml",
        )
        return
    for name in document:
        at = document.key_at(name)
        if name == "_meta":
            graph.problems.add(
                "'_meta' is what an inventory script prints, not a group",
                at,
                hint="put its hostvars under 'hosts:' of a group, or into host_vars/",
            )
        elif name in _SECTIONS and not _looks_like_group(document[name]):
            graph.problems.add(
                f"'{name}' stands where the name of a group belongs", at, hint="put it under a group such as 'all:'"
            )
        else:
            _read_group(name, document[name], at, None, graph)


def _looks_like_group(data: Any) -> bool:
    return isinstance(data, Map) and bool(data) and all(key in _SECTIONS for key in data)


def _read_group(name: str, data: Any, at: Source | None, parent: str | None, graph: GroupGraph) -> None:
    if not _is_name(name, "group", at, graph):
        return
    graph.add_group(name, at)
    if parent is not None:
        graph.add_child(parent, name, at)
    if data is None:
        return
    if not isinstance(data, Map):
        graph.problems.add(
            f"the group '{name}' must be a mapping with hosts, vars or children, not {_a(data)}", _at(data, at)
        )
        return
    for key in data:
        if key not in _SECTIONS:
            graph.problems.add(
                f"unknown key '{key}' in the group '{name}'", data.key_at(key), hint=did_you_mean(key, _SECTIONS)
            )
            continue
        section = _section(name, key, data, graph)
        if key == "vars":
            for variable in section:
                graph.set_group_variable(
                    name, variable, section[variable], section.at(variable), section.key_at(variable)
                )
        elif key == "children":
            for child in section:
                _read_group(child, section[child], section.key_at(child), name, graph)
        else:
            for pattern in section:
                _read_host(pattern, section, name, graph)


def _section(group: str, key: str, data: Map, graph: GroupGraph) -> Map:
    """A group's ``hosts``, ``vars`` or ``children`` as a mapping; a single name may stand alone."""
    value = data[key]
    if isinstance(value, Map):
        return value
    at = data.at(key)
    alone = Map((), at)
    if isinstance(value, str) and value and key != "vars":
        alone.put(value, None, at)
    elif value is not None:
        what = "variables" if key == "vars" else "names"
        hint = "write each of them as 'name:', with a colon and without a dash" if isinstance(value, Seq) else None
        graph.problems.add(
            f"'{key}' of the group '{group}' must be a mapping of {what}, not {_a(value)}", at, hint=hint
        )
    return alone


def _read_host(pattern: str, section: Map, group: str, graph: GroupGraph) -> None:
    at = section.key_at(pattern)
    variables = Map() if section[pattern] is None else section[pattern]
    if not isinstance(variables, Map):
        graph.problems.add(
            f"the host '{pattern}' must have a mapping of variables, or nothing, not {_a(variables)}",
            section.at(pattern),
        )
        return
    if not _is_name(pattern, "host", at, graph):
        return
    try:
        names, port = expand_hosts(pattern)
    except ValueError as error:
        graph.problems.add(str(error), at)
        return
    for name in names:
        graph.add_host(name, group, port, at)
        for variable in variables:
            graph.set_host_variable(
                name, variable, variables[variable], variables.at(variable), variables.key_at(variable)
            )


def _is_name(name: str, what: str, at: Source | None, graph: GroupGraph) -> bool:
    """Whether a key is a name: text, and not empty. Where it is not, a problem is reported."""
    if isinstance(name, Key):
        graph.problems.add(f"the name of a {what} must be text: '{name}' is not", at, hint=f'quote it: "{name}"')
    elif not name:
        graph.problems.add(f"the name of a {what} is empty", at)
    else:
        return True
    return False


def _a(value: Any) -> str:
    """What a value is, with its article."""
    if isinstance(value, bool):
        return f"{str(value).lower()!r}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text '{value}'" if isinstance(value, str) else f"the number {value}"


def _at(value: Any, otherwise: Source | None) -> Source | None:
    return getattr(value, "source", None) or otherwise
