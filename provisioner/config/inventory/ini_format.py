"""Reads an inventory's INI files: ``[group]``, ``[group:children]``, ``[group:vars]``, and host lines.

Values are Python literals where they can be read as such (``8080``, ``True``, ``['a', 'b']``), and the
text that was written otherwise; that is so on host lines and in ``:vars`` sections, as in Ansible.
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from dataclasses import dataclass, field
from typing import Any

from provisioner.config.inventory.graph import GroupGraph
from provisioner.config.inventory.ranges import expand_hosts
from provisioner.config.source import Key, Map, Seq, Str, Unsafe
from provisioner.errors import Source, did_you_mean
from provisioner.secrets import Secret, learn, marked

__all__ = ["read_ini_inventory"]

_KINDS = ("children", "hosts", "vars")
#: Almost any line can be taken for a host's, so that any text at all may be passed for an inventory.
_MOST_PROBLEMS = 50
_COMMENT = r"\s*(?:\#.*)?"
_SECTION = re.compile(rf"\[(?P<group>[^:\]\s]+)(?::(?P<kind>\w+))?\]{_COMMENT}")
_LIKE_SECTION = re.compile(r"\[([^\]]*$|.*\]$|[^\]]*\]\s*[;#])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_GROUP_NAME = re.compile(rf"(?P<group>[^:\]\s]+){_COMMENT}")


@dataclass(slots=True)
class _Wanted:
    """A group that was named, and must still be declared by a section of its own."""

    source: Source
    parents: list[tuple[str, Source]] = field(default_factory=list)


def read_ini_inventory(text: str, file: str, graph: GroupGraph) -> None:
    """Add what a file says to the graph; what is wrong with it goes to the graph's problems."""
    reader = _Reader(file, graph, secret=isinstance(text, Secret))
    before = len(graph.problems.found)
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if len(graph.problems.found) - before >= _MOST_PROBLEMS:
            graph.problems.add("the rest of the file was not read", Source(file, number), hint="is it an inventory?")
            return
        if control := _CONTROL.search(line):
            graph.problems.add(
                f"the character U+{ord(control[0]):04X} is not allowed in an inventory",
                Source(file, number, control.start() + 1),
                hint="is it a binary file?",
            )
        elif stripped and stripped[0] not in "#;":
            indent = len(line) - len(line.lstrip())
            reader.read(stripped, Source(file, number, indent + 1))
    reader.end()


class _Reader:
    def __init__(self, file: str, graph: GroupGraph, *, secret: bool = False) -> None:
        self.file = file
        #: Whether the file was encrypted, so that its values are secrets.
        self.secret = secret
        self.graph = graph
        self.group = "ungrouped"
        self.kind: str | None = "hosts"
        self.wanted: dict[str, _Wanted] = {}

    def read(self, line: str, at: Source) -> None:
        """One line that is neither empty nor a comment."""
        if match := _SECTION.fullmatch(line):
            self._section(match["group"], match["kind"] or "hosts", at)
        elif _LIKE_SECTION.match(line):
            self.graph.problems.add(
                f"'{line}' is not a section",
                at,
                hint="it is written [group], [group:vars] or [group:children], without spaces; a comment starts with #",
            )
            self.kind = None
        elif self.kind == "hosts":
            self._host(line, at)
        elif self.kind == "vars":
            self._variable(line, at)
        elif self.kind == "children":
            self._child(line, at)

    def _section(self, group: str, kind: str, at: Source) -> None:
        self.group, self.kind = group, kind
        if kind not in _KINDS:
            column = Source(at.file, at.line, at.column + len(group) + 2)
            self.graph.problems.add(
                f"a section is of hosts, :vars or :children, not :{kind}", column, hint=did_you_mean(kind, _KINDS)
            )
            self.kind = None
            return
        if not self.graph.has_group(group):
            if kind == "vars" and group not in self.wanted:
                self.wanted[group] = _Wanted(Source(at.file, at.line, at.column + 1))
            self.graph.add_group(group, at)
        if kind != "vars":
            self._declared(group)

    def _declared(self, group: str) -> None:
        """A section declares the group; those that named it as a child before get it now."""
        wanted = self.wanted.pop(group, None)
        for parent, at in wanted.parents if wanted else ():
            self.graph.add_child(parent, group, at)

    def _child(self, line: str, at: Source) -> None:
        match = _GROUP_NAME.fullmatch(line)
        if not match:
            self.graph.problems.add(
                f"'{line}' is not the name of a group", at, hint="a :children section has one group's name on each line"
            )
            return
        child = match["group"]
        if self.graph.has_group(child):
            self.graph.add_child(self.group, child, at)
        else:
            self.wanted.setdefault(child, _Wanted(at)).parents.append((self.group, at))

    def _variable(self, line: str, at: Source) -> None:
        key, equals, text = line.partition("=")
        if not equals:
            self.graph.problems.add(
                f"'{line}' is not a variable", at, hint="a :vars section has 'name=value' on each line"
            )
            return
        value_at = Source(at.file, at.line, at.column + len(key) + 1 + len(text) - len(text.lstrip()))
        self.graph.set_group_variable(self.group, key.strip(), self._value(text.strip(), value_at), value_at, at)

    def _host(self, line: str, at: Source) -> None:
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            self.graph.problems.add(f"the quotes of this line do not match: {error}", at)
            return
        names = self._names(words[0] if words else "", at)
        column = len(words[0]) if words else 0
        for word in words[1:]:
            key, equals, text = word.partition("=")
            found = line.find(f"{key}{equals}", column)
            column = found if found >= 0 else column
            key_at = Source(at.file, at.line, at.column + column)
            if not equals:
                self.graph.problems.add(
                    f"'{word}' is not a variable of the host '{words[0]}'",
                    key_at,
                    hint="a host's line is 'name key=value key=value'; quote a value that has spaces",
                )
                return
            column += len(key) + 1
            value_at = Source(at.file, at.line, at.column + column)
            value = self._value(text, value_at)
            for name in names:
                self.graph.set_host_variable(name, key, value, value_at, key_at)

    def _names(self, pattern: str, at: Source) -> list[str]:
        """Add the hosts of a pattern to the group in hand."""
        problems = self.graph.problems
        try:
            names, port = expand_hosts(pattern)
        except ValueError as error:
            problems.add(str(error), at)
            return []
        if not pattern:
            problems.add("the name of a host is empty", at)
            return []
        if pattern.endswith(":") and port is None:
            problems.add(
                f"the host '{pattern}' ends in ':', which is for a port",
                at,
                hint="is this YAML? then name the file so that it ends in .yml",
            )
            return []
        if "---" in names:
            problems.add("'---' is not the name of a host", at, hint="is this YAML? then its name must end in .yml")
            self.kind = None
            return []
        for name in names:
            self.graph.add_host(name, self.group, port, at)
        return names

    def _value(self, text: str, at: Source) -> Any:
        value = self._literal(text, at)
        if self.secret:
            value = marked(value, at)
            learn(value)
        return value

    def _literal(self, text: str, at: Source) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return Str(text, at)
        except (TypeError, MemoryError, RecursionError) as error:
            self.graph.problems.add(f"not a valid value: {error}", at)
            return None
        return _located(value, at)

    def end(self) -> None:
        """Groups that were only ever named are problems."""
        for name, wanted in self.wanted.items():
            if not wanted.parents:
                self.graph.problems.add(
                    f"the group '{name}' has variables, but is not declared",
                    wanted.source,
                    hint=f"add a section [{name}] with its hosts, or [{name}:children] with its groups",
                )
            for parent, at in wanted.parents:
                self.graph.problems.add(
                    f"the group '{name}', a child of '{parent}', is not declared",
                    at,
                    hint=did_you_mean(name, [g for g in self.graph.group_names if g not in ("all", "ungrouped")])
                    or f"add a section [{name}]",
                )


def _located(value: Any, at: Source) -> Any:
    """A Python literal in the types that YAML has too."""
    if isinstance(value, str):
        return Str(value, at)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)  # Ansible makes a list of it, in no certain order
    if isinstance(value, (list, tuple)):
        return Seq([_located(item, at) for item in value], at)
    if isinstance(value, dict):
        made = Map((), at)
        for key, item in value.items():
            made.put(_key(key), _located(item, at), at)
        return made
    if isinstance(value, bytes):
        return Unsafe(value.decode("utf-8", "surrogateescape"), at)
    if value is ...:
        return Str("...", at)
    return Str(str(value), at) if isinstance(value, complex) else value


def _key(key: Any) -> str:
    """A literal's key as a mapping of YAML has it: text."""
    return key if isinstance(key, str) else Key(str(key), key)
