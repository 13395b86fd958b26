"""Roles, variables and templates of one host, evaluated into its desired resources.

Pure: reads the configuration's own files, and nothing of the host but the facts it is handed. Every problem of
the host is gathered, and raised together.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from provisioner.config import filters, lookups
from provisioner.config.argspec import UNKNOWN
from provisioner.config.argspec import check as check_options
from provisioner.config.invalid import origin, problems_of
from provisioner.config.lookups import find_file
from provisioner.config.refusals import refused_keyword
from provisioner.config.roles import Role, Roles, as_seen_from_here, default_role_path, project_folders
from provisioner.config.source import Map, Seq, read_text, source_of
from provisioner.config.tags import chosen
from provisioner.config.taint import holds_secret
from provisioner.config.tasks import (
    Assertion,
    Block,
    Declaration,
    Expectation,
    IncludeRole,
    IncludeTasks,
    Loop,
    Task,
    TaskFiles,
    read_conditions,
    read_loop,
    read_tags,
    read_vars,
)
from provisioner.config.templating import Templates
from provisioner.config.values import Missing, located
from provisioner.config.variables import MISSING, OMIT, Frame, Place, frames, has_template, written_at
from provisioner.errors import ConfigError, Problem, Problems, Source, did_you_mean
from provisioner.model import Address, Declared, Desired, Expect
from provisioner.secrets import MASK, NO_SECRETS, are_known, paths_in

if TYPE_CHECKING:
    from provisioner.config.inventory import Inventory
    from provisioner.config.templating import Condition
    from provisioner.model import Resource
    from provisioner.secrets import Paths

__all__ = ["build_desired", "default_role_path", "host_value", "make_templates"]

#: Task files and roles that include each other deeper than this do so without end.
_MAX_DEPTH = 40
#: What `nsprov_` stands before in the variables that nsprov itself reads.
_OWN_VARIABLES = ("roles", "project")
_ENTRY_KEYS = ("role", "vars", "when", "tags", "loop", "loop_control")
#: What ``no_log`` does not hide: it is part of the address.
_SHOWN_ALWAYS = ("name", "netns")
_NO_NAMES: Mapping[str, Any] = {}


def build_desired(
    inventory: Inventory,
    host: str,
    facts: Mapping[str, Any],
    *,
    role_path: Sequence[Path] = (),
    tags: Collection[str] = (),
    skip_tags: Collection[str] = (),
    extra_vars: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> Desired:
    """What one host shall have, by its roles.

    ``facts`` is what templates see as ``host``, ``run`` what they see of the run, by Ansible's names
    (``ansible_play_hosts``, ``ansible_limit``). ``role_path`` is where roles are looked for; without it, the
    default search path. Raises ConfigError with every problem of the host.
    """
    search = list(role_path) or default_role_path(inventory)
    build = _Build(inventory, host, facts, search, frozenset(tags), frozenset(skip_tags), extra_vars or {}, run or {})
    return build.run()


def host_value(
    inventory: Inventory, host: str, name: str, default: Any = None, *, extra_vars: Mapping[str, Any] | None = None
) -> Any:
    """One variable of a host with its templates evaluated, as it is outside of any role.

    For what must be known before roles are: ``ansible_host``, ``ansible_connection``, ``nsprov_project``.
    Raises ConfigError where it cannot be worked out.
    """
    build = _Build(inventory, host, {}, (), frozenset(), frozenset(), extra_vars or {})
    return build.value(name, default)


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a role: what its tasks are evaluated with."""

    role: Role
    frame: Frame
    #: The roles that led here, the outermost first, and this one.
    chain: tuple[Role, ...]
    #: Task files that are being evaluated, the outermost first.
    files: tuple[Path, ...] = ()
    depth: int = 0
    #: Whether a task or block said ``no_log``: then no field is shown.
    silent: bool = False


@dataclass(slots=True)
class _Context:
    """What a kind may ask for while a task becomes a resource."""

    templates: Templates
    frame: Frame
    source: Source | None
    raw: Any

    def find_file(self, name: str, folder: Literal["files", "templates"]) -> Path:
        raw = self.raw if isinstance(self.raw, Map) else Map()
        named = next((raw.at(key) for key, given in raw.items() if given == name or key == "src"), None)
        return find_file(name, folder, self.frame.place, named or self.source)

    def read_file(self, name: str) -> str:
        return read_text(self.find_file(name, "files"))

    def render_file(self, name: str, variables: Mapping[str, Any] | None = None) -> str:
        frame = Frame(dict(variables), self.frame) if variables else self.frame
        path = self.find_file(name, "templates")
        search = self.frame.place.search("templates") if self.frame.place else ()
        return self.templates.render_file(path, frame, search)


class _HostVars(Mapping[str, Any]):
    """``hostvars``: every host's variables, evaluated when they are used."""

    def __init__(self, build: _Build) -> None:
        self._build = build

    def __getitem__(self, host: str) -> Any:
        if host not in self._build.inventory.hosts:
            raise KeyError(host)
        return _OneHost(self._build, self._build.host_frame(host))

    def __iter__(self) -> Iterator[str]:
        return iter(self._build.inventory.hosts)

    def __len__(self) -> int:
        return len(self._build.inventory.hosts)


class _OneHost(Mapping[str, Any]):
    """One host of ``hostvars``."""

    def __init__(self, build: _Build, frame: Frame) -> None:
        self._build = build
        self._frame = frame

    def __getitem__(self, name: str) -> Any:
        value = self._build.templates.evaluator.lookup(self._frame, name)
        if value is MISSING:
            raise KeyError(name)
        if isinstance(value, Missing):
            value.fail()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._frame.own)

    def __len__(self) -> int:
        return len(self._frame.own)


class _EndlessError(Exception):
    """Roles or files include each other without end; told where it was noticed."""


@dataclass
class _Build:
    """Evaluates the roles of one host."""

    inventory: Inventory
    host: str
    facts: Mapping[str, Any]
    search: Sequence[Path]
    tags: frozenset[str]
    skip_tags: frozenset[str]
    extra_vars: Mapping[str, Any]
    of_run: Mapping[str, Any] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    resources: dict[Address, Declared] = field(default_factory=dict)
    expects: dict[Expect, Source | None] = field(default_factory=dict)
    tests: dict[str, None] = field(default_factory=dict)
    #: The tags of all tasks that were come to, chosen or not; only where tags choose.
    met_tags: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        library = _library(self.inventory, self.search)
        self.templates = library.templates
        self.roles = library.roles
        self.files = library.files
        self.project = tuple(
            dict.fromkeys(
                as_seen_from_here(folder)
                for folder in (*project_folders(self.inventory.base_dirs), *(Path(one).parent for one in self.search))
            )
        )
        self._frames: dict[Any, Frame] = {}
        self._applied: dict[Any, list[frozenset[str]]] = {}
        self._checked: set[int] = set()
        self._fitting: dict[tuple[int, str], Any] = {}
        self._named: dict[tuple[int, int], Map] = {}
        self._looked: dict[tuple[str, int, str], Path | None] = {}
        self._hostvars = _HostVars(self)

    # -- the run ------------------------------------------------------------------------------------

    def run(self) -> Desired:
        base = self.base_frame(())
        self._check_own_variables()
        seen: list[Any] = []
        for raw, source in self.inventory.layers(self.host, "nsprov_roles"):
            for entry, where in self._entries(raw, source, base):
                if entry in seen:
                    continue
                seen.append(entry)
                self._entry(entry, where, base)
        self._declare_what_is_brought()
        self.problems.raise_if_any()
        return Desired(
            self.resources,
            tuple(self.expects.items()),
            tuple(self.tests),
            partial=bool(self.skip_tags) or bool(self.tags - {"all"}),
            tags=frozenset(self.met_tags),
        )

    def _declare_what_is_brought(self) -> None:
        """Declare what resources bring along, and what those bring, each at the place of the one that brings it."""
        bringing = list(self.resources.values())
        while bringing:
            declared = bringing.pop(0)
            for resource in declared.resource.brings():
                there = self.resources.get(resource.address)
                if there is None:
                    made = Declared(resource, declared.source, declared.role, declared.task, declared.fields)
                    self.resources[resource.address] = made
                    bringing.append(made)
                elif there.resource != resource:
                    self.problems.add(
                        f"{resource.address} is declared here, and {declared.resource.address} brings another",
                        there.source,
                        hint="give one of them another name",
                    )

    def _check_own_variables(self) -> None:
        """A word of nsprov's own that is almost right would be a variable that nobody reads."""
        for name in self._host_variables:
            prefix, _, word = name.partition("_")
            if prefix != "nsprov" or word in _OWN_VARIABLES:
                continue
            near = difflib.get_close_matches(word, _OWN_VARIABLES, n=1, cutoff=0.75)
            if near:
                hint = f"did you mean 'nsprov_{near[0]}'?"
                self.problems.add(f"nsprov reads no variable '{name}'", self._host_variables.key_at(name), hint=hint)

    def value(self, name: str, default: Any) -> Any:
        """A variable of the host, outside of any role."""
        frame = self.base_frame(())
        value = self.templates.evaluator.lookup(frame, name)
        if value is MISSING:
            return default
        if isinstance(value, Missing):
            raise ConfigError(value.problem or Problem(value.told, frame.written_at(name)))
        return value

    def _entries(self, raw: Any, source: Source | None, base: Frame) -> list[tuple[Any, Source | None]]:
        """The entries of one ``nsprov_roles``, and where each was written."""
        if isinstance(raw, str) and has_template(raw):
            try:
                raw = self.templates.render(raw, base, source)
            except ConfigError as error:
                self.problems.extend(error)
                return []
        if raw is None:
            return []
        if not isinstance(raw, list):
            hint = "write it as a list: nsprov_roles: [" + (str(raw) if isinstance(raw, str) else "tenant") + "]"
            self.problems.add("nsprov_roles must be a list of roles", source, hint=hint)
            return []
        return [(entry, source_of(entry) or written_at(raw, index) or source) for index, entry in enumerate(raw)]

    def _entry(self, raw: Any, where: Source | None, base: Frame) -> None:
        """Evaluate one entry of ``nsprov_roles``: a role, once or for each round of its loop."""
        read = self._read_entry(raw, where)
        if read is None:
            return
        entry, when, loop, tags, given = read
        for frame in self._rounds(loop, base, when, sealed=True):
            own = frame.own if frame is not base else _NO_NAMES
            params = self._without_fixed(given, base) if given else _NO_NAMES
            scope = Frame({**own, **params}, base, sealed=True, layers=(params,)) if own or params else base
            self._use_entry(entry, given, when, tags, where, scope)

    def _read_entry(
        self, raw: Any, where: Source | None
    ) -> tuple[str, tuple[Condition, ...], Loop | None, tuple[str, ...], Map | None] | None:
        if isinstance(raw, str):
            return raw, (), None, (), None
        if not isinstance(raw, Map):
            hint = "for example: tenant, or {role: tenant, vars: {…}}"
            self.problems.add("an entry must be a role's name, or a mapping with 'role'", where, hint=hint)
            return None
        before = len(self.problems.found)
        for key in raw:
            if key not in _ENTRY_KEYS:
                near = did_you_mean(key, _ENTRY_KEYS)
                hint = near if near and near.startswith("did you mean") else "the role's variables stand under vars:"
                refused = refused_keyword(key)
                if refused is not None:
                    hint = f"{refused[0]}; {refused[1]}"
                self.problems.add(f"an entry of a role has no key '{key}'", raw.key_at(key), hint=hint)
        when = read_conditions(raw, self.templates, self.problems)
        loop = read_loop(raw, self.templates, self.problems)
        tags = read_tags(raw, self.problems)
        given = read_vars(raw, self.problems)
        name: Any = raw.get("role")
        if not isinstance(name, str) or not name:
            self.problems.add("an entry needs the name of a role", raw.at("role"), hint="write: role: NAME")
            return None
        return None if len(self.problems.found) > before else (name, when, loop, tags, given)

    def _use_entry(
        self,
        name: str,
        given: Map | None,
        when: tuple[Condition, ...],
        tags: tuple[str, ...],
        where: Source | None,
        scope: Frame,
    ) -> None:
        try:
            role = self._role(name, scope, source_of(name) or where)
            if role is not None:
                self._use_role(role, (), scope, given, when, frozenset(tags), where)
        except ConfigError as error:
            self.problems.extend(error)
        except _EndlessError:
            pass

    # -- roles --------------------------------------------------------------------------------------

    def _role(self, name: str, frame: Frame, where: Source | None, **files: str) -> Role | None:
        """The role of a name; what is wrong with its files is told once."""
        name = self.templates.render(name, frame, where) if has_template(name) else name
        if not isinstance(name, str):
            self.problems.add(f"the name of a role must be a text, not '{name}'", where)
            return None
        role = self.roles.load(str(name), where, **files)
        if id(role) not in self._checked:
            self._checked.add(id(role))
            self.problems.extend(role.problems)
        return role

    def _use_role(
        self,
        role: Role,
        chain: tuple[Role, ...],
        scope: Frame,
        given: Map | None,
        when: tuple[Condition, ...],
        tags: frozenset[str],
        where: Source | None,
        tasks_from: str = "main",
        depth: int = 0,
        silent: bool = False,
    ) -> None:
        """Check a role's arguments, then evaluate the roles that it depends on, and its tasks."""
        frame = scope.over(self.base_frame((*chain, role)))
        if not self._holds(when, frame):
            return
        use = _Use(role, frame, (*chain, role), (), depth, silent)
        names = [one.name for one in use.chain]
        if depth > _MAX_DEPTH:
            circle = " -> ".join(names[names.index(role.name) :][:6])
            self.problems.add(f"roles include each other without end: {circle} -> …", where, hint="end it with when:")
            raise _EndlessError
        if not self._arguments_fit(use, given, tasks_from, where):
            return
        for index, raw in enumerate(role.dependencies):
            self._dependency(use, raw, index, tags)
        path = self._once("tasks", role, tasks_from, lambda: role.task_file(tasks_from))
        if path is not None:
            self._task_file(path, use, tags, frame)
        elif tasks_from != "main":
            folder = role.path / "tasks"
            there = sorted(one.stem for one in folder.glob("*.y*ml")) if folder.is_dir() else []
            self.problems.add(
                f"the role '{role.name}' has no tasks '{tasks_from}'", where, hint=did_you_mean(tasks_from, there)
            )
        tests = self._once("tests", role, "", role.tests)
        if tests is not None:
            self.tests[str(tests)] = None

    def _once(self, what: str, role: Role, name: str, look: Callable[[], Path | None]) -> Path | None:
        """A file or folder of a role, looked for once."""
        key = (what, id(role), name)
        if key not in self._looked:
            self._looked[key] = look()
        return self._looked[key]

    def _arguments_fit(self, use: _Use, given: Map | None, entry: str, where: Source | None) -> bool:
        """Whether the role's variables are what its specification asks for."""
        spec = use.role.specs.get(entry.rpartition(".")[0] or entry if entry.endswith((".yml", ".yaml")) else entry)
        if spec is None:
            return True
        before = len(self.problems.found)
        lookup = self.templates.evaluator.lookup
        frame = use.frame
        values: dict[str, Any] = {}
        # What is undefined because a required option is missing is told by that option alone.
        absent = any(
            option.required and all(lookup(frame, name) is MISSING for name in (option.name, *option.aliases))
            for option in spec.options.values()
        )
        for option in spec.options.values():
            for name in (option.name, *option.aliases):
                value = lookup(frame, name)
                if value is MISSING or value is OMIT:
                    continue
                if isinstance(value, Missing):
                    if not absent:
                        self.problems.extend(value.problem)
                    value = UNKNOWN
                # A value of the host or the role is one and the same for every use, and is checked once.
                elif not spec.rules and self._fitting.get((id(option), name), values) is value:
                    value = UNKNOWN
                values[name] = value
        check_options(
            values,
            spec.options,
            spec.rules,
            self.problems,
            owner=f"the role '{use.role.name}'",
            where=where,
            locate=lambda path: self._locate(frame, path) or where,
        )
        if len(self.problems.found) == before:
            for option in spec.options.values():
                for name in (option.name, *option.aliases):
                    value = values.get(name, UNKNOWN)
                    if value is not UNKNOWN:
                        self._fitting[id(option), name] = value
        if given and (id(spec), id(given)) not in self._named:
            self._named[id(spec), id(given)] = given
            known = self._known_names(use.chain) | spec.names()
            for name in given:
                if name not in known:
                    hint = did_you_mean(name, known)
                    self.problems.add(
                        f"the role '{use.role.name}' has no variable '{name}'", given.key_at(name), hint=hint
                    )
        return len(self.problems.found) == before

    def _known_names(self, chain: tuple[Role, ...]) -> set[str]:
        """The variables that a role, and the roles that it depends on, know."""
        names: set[str] = set()
        for role in self._with_dependencies(chain[-1]):
            names.update(role.defaults, role.vars)
            for spec in role.specs.values():
                names |= spec.names()
        return names

    def _locate(self, frame: Frame, path: Sequence[Any]) -> Source | None:
        """Where the value at a path into a variable was written, through the templates that it came by."""
        return origin(frame, str(path[0]), tuple(path[1:]))

    def _dependency(self, use: _Use, raw: Any, index: int, tags: frozenset[str]) -> None:
        where = source_of(raw) or Source(str(use.role.path / "meta" / "main.yml"))
        key = (tuple(id(role) for role in use.chain), index, tags)
        for names in self._applied.get(key, ()):
            # Nothing that it used has another value here: it declared already what it would declare again.
            if all(names.isdisjoint(one.own) for one in frames(use.frame) if one.parent is not None):
                return
        read = self._read_entry(raw, where)
        if read is None:
            return
        name, when, loop, own_tags, given = read
        evaluator = self.templates.evaluator
        with evaluator.tracked() as used:
            for frame in self._rounds(loop, use.frame, when):
                params = self._without_fixed(given, frame) if given else _NO_NAMES
                scope = Frame(params, frame, sealed=True) if params else frame
                role = self._role(name, scope, source_of(name) or where)
                if role is None:
                    continue
                names_there = [one.name for one in use.chain]
                if role.name in names_there:
                    circle = " -> ".join([*names_there[names_there.index(role.name) :], role.name])
                    self.problems.add(f"roles depend on each other in a circle: {circle}", where)
                    raise _EndlessError
                self._use_role(
                    role, use.chain, scope, given, when, tags | frozenset(own_tags), where, depth=use.depth + 1
                )
        if used.depth == 0:
            self._applied.setdefault(key, []).append(frozenset(used.names))

    # -- frames -------------------------------------------------------------------------------------

    def base_frame(self, chain: tuple[Role, ...]) -> Frame:
        """The variables of a role on this host, without those that one use of it is given."""
        key = tuple(id(role) for role in chain)
        frame = self._frames.get(key)
        if frame is None:
            layers = self._layers(chain)
            own: dict[str, Any] = {}
            for layer in reversed(layers):
                own.update(layer)
            place = Place([role.path for role in reversed(chain)], self.project)
            frame = self._frames[key] = Frame(own, place=place, layers=layers)
        return frame

    def _layers(self, chain: tuple[Role, ...]) -> tuple[Mapping[str, Any], ...]:
        """The mappings of a role's variables, the strongest first."""
        related = [one for role in chain for one in (*self._with_dependencies(role)[1:], role)]
        strongest = list(reversed(related))
        return (
            self._magic(chain),
            self.extra_vars,
            *(role.vars for role in strongest),
            self._host_variables,
            *(role.defaults for role in strongest),
        )

    def _with_dependencies(self, role: Role, seen: tuple[str, ...] = ()) -> list[Role]:
        """A role, and those that it depends on, whose variables it sees."""
        made = [role]
        for raw in role.dependencies:
            name = raw if isinstance(raw, str) else raw.get("role") if isinstance(raw, Map) else None
            if not isinstance(name, str) or has_template(name) or name in seen or name == role.name:
                continue
            try:
                found = self.roles.load(str(name), None)
            except ConfigError:
                continue  # told where the dependency is evaluated
            made += self._with_dependencies(found, (*seen, role.name))
        return made

    @cached_property
    def _host_variables(self) -> Map:
        return self.inventory.variables(self.host)

    @cached_property
    def _inventory_magic(self) -> dict[str, Any]:
        return {**located(self.inventory.magic(self.host)), **located(self.of_run), "host": located(self.facts)}

    def _magic(self, chain: tuple[Role, ...]) -> dict[str, Any]:
        made: dict[str, Any] = {
            **self._inventory_magic,
            "hostvars": self._hostvars,
            "omit": OMIT,
        }
        if chain:
            role = chain[-1]
            made["role_name"] = made["ansible_role_name"] = role.name
            made["role_path"] = str(role.path)
            made["ansible_parent_role_names"] = [one.name for one in reversed(chain[:-1])]
        return made

    def host_frame(self, host: str) -> Frame:
        """The variables of another host."""
        frame = self._frames.get(host)
        if frame is None:
            variables = self.inventory.variables(host)
            own = {
                **variables,
                **self.extra_vars,
                **self.inventory.magic(host),
                "hostvars": self._hostvars,
                "omit": OMIT,
            }
            frame = self._frames[host] = Frame(own, layers=(variables,))
        return frame

    def _without_fixed(self, given: Map, frame: Frame, *, include: bool = False) -> Map:
        """The variables given here, without those for which something stronger has a value."""
        strong: set[str] = set(self.extra_vars)
        if not include:
            for one in frames(frame):
                if one.strong:
                    strong.update(one.own)
        if strong.isdisjoint(given):
            return given
        kept = given.copy()
        for name in strong & set(given):
            del kept[name]
        return kept

    def _rounds(
        self, loop: Loop | None, frame: Frame, when: tuple[Condition, ...] = (), *, sealed: bool = False
    ) -> Iterator[Frame]:
        """A frame for each round of a loop; the frame itself where there is none."""
        if loop is None:
            yield frame
            return
        try:
            items = loop.items(frame)
        except ConfigError as error:
            # As in Ansible: a list that is not there does not matter where the condition is false anyway.
            if not self._is_false(when, frame):
                self.problems.extend(error)
            return
        if not isinstance(items, list):
            hint = None
            if isinstance(items, Mapping):
                hint = 'for a mapping write: loop: "{{ MAPPING | dict2items }}"'
            elif isinstance(items, str):
                hint = "for one item write a list: [ITEM]"
            what = "a mapping" if isinstance(items, Mapping) else "nothing" if items is None else f"'{items}'"
            self.problems.add(f"loop takes a list, and this gives {what}", loop.source, hint=hint)
            return
        where = Seq(items) if not isinstance(items, Seq) else items
        count = len(items)
        for index, item in enumerate(items):
            own: dict[str, Any] = {loop.loop_var: item}
            if loop.index_var:
                own[loop.index_var] = index
            if loop.extended:
                own["ansible_loop"] = {
                    "allitems": items,
                    "index": index + 1,
                    "index0": index,
                    "first": index == 0,
                    "last": index == count - 1,
                    "length": count,
                    "revindex": count - index,
                    "revindex0": count - index - 1,
                    **({"previtem": items[index - 1]} if index else {}),
                    **({"nextitem": items[index + 1]} if index < count - 1 else {}),
                }
            made = Map(own, source_of(item))
            at = where.at(index)
            if at is not None:
                made.values_at[loop.loop_var] = at
            yield Frame(made, frame, sealed=sealed)

    def _holds(self, when: tuple[Condition, ...], frame: Frame) -> bool:
        for condition in when:  # noqa: SIM110 - a generator would cost more than most conditions
            if not condition.holds(frame):
                return False
        return True

    def _is_false(self, when: tuple[Condition, ...], frame: Frame) -> bool:
        for condition in when:
            try:
                if not condition.holds(frame):
                    return True
            except ConfigError:
                return False
        return False

    # -- tasks --------------------------------------------------------------------------------------

    def _task_file(self, path: Path, use: _Use, tags: frozenset[str], frame: Frame) -> None:
        file = self.files.load(path)
        if id(file) not in self._checked:
            self._checked.add(id(file))
            self.problems.extend(file.problems)
        inner = replace(use, files=(*use.files, path), depth=use.depth + 1)
        self._tasks(file.tasks, inner, tags, frame)

    def _tasks(self, tasks: Sequence[Task], use: _Use, tags: frozenset[str], frame: Frame) -> None:
        for task in tasks:
            self._task(task, use, tags, frame)

    def _task(self, task: Task, use: _Use, inherited: frozenset[str], frame: Frame) -> None:
        does = task.does
        if task.no_log and not use.silent:
            use = replace(use, silent=True)
        tags = inherited.union(task.tags) if task.tags else inherited
        if self.tags or self.skip_tags:
            self.met_tags |= tags
        holds_others = isinstance(does, (Block, IncludeTasks, IncludeRole))
        static = holds_others and getattr(does, "static", True)
        if not static and not chosen(tags, self.tags, self.skip_tags):
            return
        if holds_others and not static:
            tags = inherited.union(getattr(does, "tags", ()))  # a dynamic include's own tags choose it alone
        if task.vars:
            frame = Frame(self._without_fixed(task.vars, frame), frame)
        if task.loop is None:
            self._round(task, use, tags, frame)
            return
        for one in self._rounds(task.loop, frame, task.when):
            self._round(task, use, tags, one)

    def _round(self, task: Task, use: _Use, tags: frozenset[str], frame: Frame) -> None:
        """Do what a task says, in one round of its loop."""
        try:
            if not task.when or self._holds(task.when, frame):
                self._do(task, task.does, use, tags, frame)
        except ConfigError as error:
            self.problems.extend(error)

    def _do(self, task: Task, does: Any, use: _Use, tags: frozenset[str], frame: Frame) -> None:
        if isinstance(does, Declaration):
            self._declare(task, does, use, frame)
        elif isinstance(does, Block):
            self._tasks(does.tasks, use, tags, frame)
        elif isinstance(does, Expectation):
            self._expect(does, frame)
        elif isinstance(does, Assertion):
            self._assert(does, frame)
        elif isinstance(does, IncludeTasks):
            self._include_tasks(task, does, use, tags, frame)
        elif isinstance(does, IncludeRole):
            self._include_role(task, does, use, tags, frame)

    def _declare(self, task: Task, does: Declaration, use: _Use, frame: Frame) -> None:
        fields = does.render(frame)
        kind = does.kind
        if not isinstance(fields, dict):
            self.problems.add(f"{kind.name} takes a mapping of fields, not '{fields}'", does.source)
            return
        try:
            if does.prepared:
                fields = kind.resource.prepare(fields, _Context(self.templates, frame, does.source, does.raw))
            secrets = paths_in(fields) if are_known() else NO_SECRETS
            if secrets and self._refused_secrets(kind.resource, fields, secrets, does):
                return
            resource = kind.resource.model_validate(fields)
        except ValueError as error:
            self.problems.extend(problems_of(error, kind.name, kind.resource, does.raw, does.source, frame))
            return
        address = resource.address
        shown_never = resource.secret_fields(secrets)
        there = self.resources.get(address)
        if there is None:
            name = task.name
            if name is not None and has_template(name):
                told = self.templates.render(name, frame, source_of(name) or task.source)
                name = MASK if holds_secret(told) else str(told)
            if use.silent:
                shown_never |= {(field,) for field in resource.declared() if field not in _SHOWN_ALWAYS}
                shown_never = resource.secret_fields(shown_never)
            self.resources[address] = Declared(resource, task.source, use.role.name, name, does.fields, shown_never)
        elif there.resource != resource:
            hint = f"it is declared at {there.source} too"
            if there.source == task.source:
                hint = "two rounds of the loop, or two uses of the role, declare it differently: give each its own name"
            self.problems.add(
                f"{address} is declared twice, differently", does.fields.get("name") or does.source, hint=hint
            )
        elif shown_never - there.secrets:
            self.resources[address] = replace(there, secrets=there.secrets | shown_never)

    def _refused_secrets(
        self, resource: type[Resource], fields: Mapping[str, Any], secrets: Paths, does: Declaration
    ) -> bool:
        """Whether a secret stands where it may not. It is told before the fields are read, of which errors tell."""
        before = len(self.problems.found)
        info = resource.model_fields["name"]
        names = {"name", "netns", *getattr(info.validation_alias, "choices", ())}
        for path in sorted(path for path in secrets if path[0] in names):
            self.problems.add(
                f"{resource.kind}.{path[0]}: a name cannot be a secret: it is shown wherever the resource is",
                does.fields.get(path[0]) or does.source,
                hint="give it another name; if it is no secret, write it outside of the file that is encrypted",
            )
        for issue in resource.refuse_secrets(secrets, fields):
            where = does.fields.get(issue.field or "") or does.source
            self.problems.add(f"{resource.kind}.{issue.field}: {issue.message}", where, hint=issue.hint)
        return len(self.problems.found) > before

    def _expect(self, does: Expectation, frame: Frame) -> None:
        made = does.render(frame)
        for index, fields in enumerate(made if isinstance(made, list) else [made]):
            raw = does.raw[index] if isinstance(does.raw, list) and index < len(does.raw) else does.raw
            if not isinstance(fields, Mapping):
                self.problems.add("expect takes a mapping of fields", source_of(raw) or does.source)
                continue
            try:
                expect = Expect.model_validate(fields)
            except ValueError as error:
                self.problems.extend(problems_of(error, "expect", Expect, raw, does.source, frame))
                continue
            self.expects.setdefault(expect, source_of(raw) or does.source)

    def _assert(self, does: Assertion, frame: Frame) -> None:
        failed = [condition for condition in does.that if not condition.holds(frame)]
        if does.that and not failed:
            return
        message = does.message(frame) if does.message else None
        if not failed:
            self.problems.add(str(message or "the role refuses this configuration"), does.source)
        for condition in failed:
            text = str(message) if message else f"this must hold: {condition.text}"
            self.problems.add(
                text, condition.source or does.source, hint=f"asserted: {condition.text}" if message else None
            )

    def _include_tasks(self, task: Task, does: IncludeTasks, use: _Use, tags: frozenset[str], frame: Frame) -> None:
        name = does.file(frame)
        path = self._included(str(name), does, use)
        if use.files.count(path) > (0 if does.static else _MAX_DEPTH // 2):
            circle = " -> ".join([*(one.name for one in use.files[use.files.index(path) :][:6]), path.name])
            self.problems.add(
                f"task files include each other without end: {circle}", does.source, hint="end it with when:"
            )
            raise _EndlessError
        self._task_file(path, use, tags, frame if does.static else self._arguments(task, frame))

    def _arguments(self, task: Task, frame: Frame) -> Frame:
        """The frame of what an include includes: its variables are arguments, stronger than those of the tasks."""
        if not task.vars:
            return frame
        return Frame(self._without_fixed(task.vars, frame, include=True), frame, sealed=True, strong=True)

    def _included(self, name: str, does: IncludeTasks, use: _Use) -> Path:
        for folder in dict.fromkeys([does.base, use.role.path / "tasks", use.role.path]):
            for ending in ("", ".yml", ".yaml"):
                path = folder / (name + ending)
                if path.is_file():
                    return path
        there = [one.name for one in (use.role.path / "tasks").glob("*.y*ml")]
        raise ConfigError(Problem(f"there is no task file '{name}'", does.source, did_you_mean(name, there)))

    def _include_role(self, task: Task, does: IncludeRole, use: _Use, tags: frozenset[str], frame: Frame) -> None:
        scope = frame if does.static else self._arguments(task, frame)
        role = self._role(
            str(does.role(frame)), frame, does.source, vars_from=does.vars_from, defaults_from=does.defaults_from
        )
        if role is None:
            return
        tasks_from = str(does.tasks_from(frame)) if does.tasks_from else "main"
        self._use_role(
            *(role, use.chain, scope, task.vars, (), tags, does.source, tasks_from),
            depth=use.depth + 1,
            silent=use.silent,
        )


@dataclass(slots=True)
class _Library:
    """What the builds of one inventory's hosts have in common: files that were read, templates that were compiled."""

    templates: Templates
    roles: Roles
    files: TaskFiles


_libraries: WeakKeyDictionary[Inventory, dict[tuple[Path, ...], _Library]] = WeakKeyDictionary()


def _library(inventory: Inventory, search: Sequence[Path]) -> _Library:
    from provisioner.resources import kinds

    of_inventory = _libraries.setdefault(inventory, {})
    made = of_inventory.get(tuple(search))
    if made is None:
        templates = make_templates()
        made = of_inventory[tuple(search)] = _Library(templates, Roles(search), TaskFiles(templates, kinds()))
    return made


def make_templates() -> Templates:
    """The template engine of one run, with every filter, test and lookup."""
    made: list[Templates] = []
    templates = Templates(
        filters=filters.filters(),
        tests=filters.tests(),
        globals=lookups.functions(lambda: made[0]),
        unavailable=filters.UNAVAILABLE,
    )
    made.append(templates)
    return templates
