"""Task files: read once into tasks, with every wrong key found before any of them is evaluated.

A task declares one resource (by its kind), states what is expected or required, or stands for other tasks
(``block``, ``include_tasks``, ``include_role`` and their kin). What a task comes to on a host is in ``build``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.config.refusals import refused_key
from provisioner.config.source import Map, Seq, load_yaml, source_of
from provisioner.config.variables import has_template, written_at
from provisioner.errors import ConfigError, Problem, Problems, Source, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from provisioner.config.templating import Condition, Templates
    from provisioner.config.variables import Frame
    from provisioner.model import Kind

__all__ = [
    "Assertion",
    "Block",
    "Declaration",
    "Expectation",
    "IncludeRole",
    "IncludeTasks",
    "Loop",
    "Task",
    "TaskFile",
    "TaskFiles",
    "positions",
    "read_conditions",
    "read_loop",
    "read_tags",
    "read_vars",
]

_KEYWORDS = frozenset(["name", "when", "loop", "loop_control", "tags", "vars", "no_log"])
_ACTIONS = frozenset(
    ["block", "expect", "assert", "fail", "include_tasks", "import_tasks", "include_role", "import_role"]
)
_LOOP_CONTROL = frozenset(["loop_var", "index_var", "label", "extended"])


@dataclass(frozen=True, slots=True)
class Declaration:
    """A resource that a task declares, or one for each round of its loop."""

    kind: Kind[Any]
    #: The fields as they were written: a mapping, or the template of one.
    raw: Any
    render: Callable[[Frame], Any]
    source: Source
    #: Where each field's value was written, by dotted path.
    fields: Mapping[str, Source]
    #: Whether the kind makes more of the fields than what they say.
    prepared: bool


@dataclass(frozen=True, slots=True)
class Expectation:
    """Who reaches whom."""

    raw: Any
    render: Callable[[Frame], Any]
    source: Source


@dataclass(frozen=True, slots=True)
class Assertion:
    """What must hold before anything is touched; a failure is a problem at the task's place."""

    that: tuple[Condition, ...]
    message: Callable[[Frame], Any] | None
    source: Source


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks with a condition, tags and variables in common."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class IncludeTasks:
    """The tasks of another file. ``static`` is an import: its tags are those of each task."""

    file: Callable[[Frame], Any]
    static: bool
    base: Path
    source: Source
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IncludeRole:
    """The tasks of a role."""

    role: Callable[[Frame], Any]
    tasks_from: Callable[[Frame], Any] | None
    vars_from: str
    defaults_from: str
    static: bool
    source: Source
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """What a task is repeated over, and what each round is called."""

    items: Callable[[Frame], Any]
    source: Source | None
    loop_var: str = "item"
    index_var: str | None = None
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a file."""

    source: Source
    does: Declaration | Expectation | Assertion | Block | IncludeTasks | IncludeRole
    name: str | None = None
    when: tuple[Condition, ...] = ()
    loop: Loop | None = None
    tags: tuple[str, ...] = ()
    vars: Map | None = None
    #: Whether none of its fields is shown.
    no_log: bool = False


@dataclass(frozen=True, slots=True)
class TaskFile:
    """The tasks of one file, and what is wrong with them."""

    path: Path
    tasks: tuple[Task, ...] = ()
    problems: tuple[Problem, ...] = ()


# -- the parts that tasks and entries of roles share ------------------------------------------------


def read_conditions(raw: Map, templates: Templates, problems: Problems) -> tuple[Condition, ...]:
    """The conditions under ``when``: all of them must hold."""
    if "when" not in raw:
        return ()
    given = raw["when"]
    return _conditions(given if isinstance(given, list) else [given], given, raw.at("when"), templates, problems)


def _conditions(
    items: list[Any], container: Any, where: Source | None, templates: Templates, problems: Problems
) -> tuple[Condition, ...]:
    made = []
    for index, item in enumerate(items):
        at = written_at(container, index) if isinstance(container, Seq) else where
        try:
            made.append(templates.condition(item, at or where))
        except ConfigError as error:
            problems.extend(error)
    return tuple(made)


def read_tags(raw: Map, problems: Problems) -> tuple[str, ...]:
    """The tags: a list of words, or one text with commas."""
    given = raw.get("tags")
    if given is None:
        return ()
    made: list[str] = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, (dict, list)) or one is None:
            problems.add("tags are words", raw.at("tags"), hint="for example: tags: [network, web]")
            continue
        if has_template(one):
            problems.add(
                "tags are known before variables are", source_of(one), hint="write the tag itself, or use when"
            )
            continue
        made += [word.strip() for word in str(one).split(",") if word.strip()]
    return tuple(made)


def read_vars(raw: Map, problems: Problems) -> Map | None:
    """The variables under ``vars``."""
    given = raw.get("vars")
    if given is None:
        return None
    if not isinstance(given, Map):
        problems.add("vars must be a mapping of names to values", raw.at("vars"), hint="for example: vars: {size: 1G}")
        return None
    for name in given:
        if not name.isidentifier():
            problems.add(
                f"'{name}' cannot be the name of a variable", given.key_at(name), hint="use letters, digits, _"
            )
    return given


def read_loop(raw: Map, templates: Templates, problems: Problems) -> Loop | None:
    """The loop and its ``loop_control``."""
    control = raw.get("loop_control")
    if "loop" not in raw:
        if control is not None:
            problems.add("loop_control stands without a loop", raw.key_at("loop_control"), hint="write loop: as well")
        return None
    where = raw.at("loop")
    given = raw["loop"]
    if not isinstance(given, (list, str)):
        what = "a mapping" if isinstance(given, dict) else "nothing" if given is None else f"'{given}'"
        hint = 'for a mapping write: loop: "{{ MAPPING | dict2items }}"' if isinstance(given, dict) else None
        problems.add(f"loop takes a list, not {what}", where, hint=hint)
        return None
    if isinstance(given, str) and not has_template(given):
        problems.add(
            f"loop takes a list, not the text '{given}'",
            where,
            hint='for a variable write: loop: "{{ ' + given + ' }}"',
        )
        return None
    try:
        items = templates.renderer(given, where)
    except ConfigError as error:
        problems.extend(error)
        return None
    if control is None:
        return Loop(items, where)
    if not isinstance(control, Map):
        problems.add("loop_control must be a mapping", raw.at("loop_control"), hint="for example: {loop_var: tenant}")
        return None
    for key in control:
        if key not in _LOOP_CONTROL:
            hint = did_you_mean(key, _LOOP_CONTROL)
            if key == "pause":
                hint = "there is nothing to wait for: leave it out"
            elif key == "break_when":
                hint = "choose the items beforehand: loop: \"{{ LIST | selectattr('x') | list }}\""
            problems.add(f"loop_control has no key '{key}'", control.key_at(key), hint=hint)
    for key in ("loop_var", "index_var"):
        name = control.get(key)
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            problems.add(f"{key} must be the name of a variable, not '{name}'", control.at(key))
            return None
    return Loop(
        items, where, str(control.get("loop_var") or "item"), control.get("index_var"), control.get("extended") is True
    )


def positions(raw: Any, prefix: str = "") -> dict[str, Source]:
    """Where each value of a mapping was written, by dotted path."""
    made: dict[str, Source] = {}
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, item in items:
        path = f"{prefix}{key}"
        where = written_at(raw, key)
        if where is not None:
            made[path] = where
        made.update(positions(item, f"{path}."))
    return made


# -- task files -------------------------------------------------------------------------------------


@dataclass
class TaskFiles:
    """The task files of a run, each read when it is first used."""

    templates: Templates
    kinds: Mapping[str, Kind[Any]]
    _read: dict[Path, TaskFile] = field(default_factory=dict)

    def load(self, path: Path) -> TaskFile:
        """The tasks of a file; what is wrong with them is in its problems."""
        found = self._read.get(path)
        if found is None:
            problems = Problems()
            tasks: tuple[Task, ...] = ()
            try:
                raw = load_yaml(path)
            except ConfigError as error:
                problems.extend(error)
            else:
                tasks = _Reader(self.templates, self.kinds, path, problems).tasks(raw, Source(str(path)), "a task file")
            found = self._read[path] = TaskFile(path, tasks, tuple(problems.found))
        return found


class _Reader:
    """Reads the tasks of one file, gathering what is wrong on the way."""

    def __init__(self, templates: Templates, kinds: Mapping[str, Kind[Any]], path: Path, problems: Problems) -> None:
        self.templates = templates
        self.kinds = kinds
        self.path = path
        self.problems = problems

    def tasks(self, raw: Any, where: Source, what: str) -> tuple[Task, ...]:
        if raw is None:
            return ()
        if not isinstance(raw, list):
            found = "a mapping" if isinstance(raw, dict) else "a single value"
            self.problems.add(
                f"{what} must be a list of tasks, not {found}",
                source_of(raw) or where,
                hint="start each task with '- '",
            )
            return ()
        made = []
        for index, one in enumerate(raw):
            if not isinstance(one, Map):
                at = written_at(raw, index) or where
                self.problems.add("a task must be a mapping", at, hint="for example: - netns: {name: blue}")
                continue
            task = self.task(one)
            if task is not None:
                made.append(task)
        return tuple(made)

    def task(self, raw: Map) -> Task | None:
        source = raw.source or Source(str(self.path))
        actions = self._actions(raw)
        if actions is None:
            return None
        name = raw.get("name")
        if name is not None and isinstance(name, (dict, list)):
            self.problems.add("a task's name is a text", raw.at("name"))
            name = None
        read = len(self.problems.found)
        when = read_conditions(raw, self.templates, self.problems)
        tags = read_tags(raw, self.problems)
        given = read_vars(raw, self.problems)
        loop = read_loop(raw, self.templates, self.problems)
        silent = self._no_log(raw)
        # A task whose loop or condition is wrong is not evaluated: that would only tell the same again.
        whole = len(self.problems.found) == read
        if not actions:
            self.problems.add(
                "the task declares nothing", source, hint="give it a kind: " + ", ".join([*self.kinds, "expect"])
            )
            return None
        if len(actions) > 1:
            self.problems.add(
                f"one task declares one kind, and this one has '{actions[0]}' and '{actions[1]}'",
                raw.key_at(actions[1]),
                hint="make two tasks of it",
            )
            return None
        key = actions[0]
        before = len(self.problems.found)
        does = self._action(key, raw, source)
        if does is None:
            if len(self.problems.found) == before:
                self.problems.add(f"'{key}' cannot be read", raw.at(key))
            return None
        if loop is not None and isinstance(does, Block):
            self.problems.add(
                "a block has no loop", raw.key_at("loop"), hint="put the tasks into a file, and loop include_tasks"
            )
        if loop is not None and isinstance(does, (IncludeTasks, IncludeRole)) and does.static:
            self.problems.add(
                f"{key} has no loop", raw.key_at("loop"), hint=f"write include_{key.removeprefix('import_')}"
            )
        if not whole:
            return None
        name = name if name is None or isinstance(name, str) else str(name)  # a text knows where it was written
        return Task(source, does, name, when, loop, tags, given, silent)

    def _actions(self, raw: Map) -> list[str] | None:
        """The keys of a task that say what it does; None when one of its keys is refused or unknown."""
        found: list[str] = []
        good = True
        for key in raw:
            if key in _KEYWORDS:
                continue
            if key in _ACTIONS or self._kind(key) is not None or self._builtin(key) in _ACTIONS - {"expect", "block"}:
                found.append(key)
                continue
            good = False
            refused = refused_key(key)
            short = key.rpartition(".")[2]
            if refused is not None and short != key and short in self.kinds:
                refused = ("modules of Ansible do not run here", f"write the kind '{short}', with nsprov's own fields")
            if refused is not None:
                self.problems.add(f"'{key}' is refused: {refused[0]}", raw.key_at(key), hint=refused[1])
            else:
                known = [*self.kinds, *_KEYWORDS, *_ACTIONS]
                hint = did_you_mean(key, known) or "kinds: " + ", ".join(self.kinds)
                self.problems.add(f"a task has no key '{key}', and there is no such kind", raw.key_at(key), hint=hint)
        if not good:
            # The rest of the task is looked at all the same, so that all that is wrong is told at once.
            for key in found:
                self._action(key, raw, raw.source or Source(str(self.path)))
            return None
        return found

    def _no_log(self, raw: Map) -> bool:
        given = raw.get("no_log", False)
        if isinstance(given, str) and given.lower() in ("yes", "no", "true", "false"):
            given = given.lower() in ("yes", "true")
        if isinstance(given, bool):
            return given
        self.problems.add("no_log is true or false", raw.at("no_log"))
        return True

    @staticmethod
    def _builtin(key: str) -> str:
        return key.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")

    def _kind(self, key: str) -> Kind[Any] | None:
        """The kind of this name; Ansible's own modules of the same name and meaning may be written whole."""
        if key in self.kinds:
            return self.kinds[key]
        for whole, kind in (("ansible.builtin.template", "template"), ("ansible.posix.sysctl", "sysctl")):
            if key == whole:
                return self.kinds.get(kind)
        return None

    def _action(
        self, key: str, raw: Map, source: Source
    ) -> Declaration | Expectation | Assertion | Block | IncludeTasks | IncludeRole | None:
        given = raw[key]
        kind = self._kind(key)
        if kind is not None:
            return self._declaration(kind, key, raw)
        name = self._builtin(key)
        if name == "block":
            return Block(self.tasks(given, raw.at(key) or source, "a block"))
        if name == "expect":
            return self._expectation(given, raw.at(key) or source)
        if name in ("assert", "fail"):
            return self._assertion(name, given, raw.at(key) or source)
        if name in ("include_tasks", "import_tasks"):
            return self._include_tasks(name, given, raw.at(key) or source)
        return self._include_role(name, given, raw.at(key) or source)

    def _render(self, raw: Any, where: Source | None) -> Callable[[Frame], Any] | None:
        try:
            return self.templates.renderer(raw, where)
        except ConfigError as error:
            self.problems.extend(error)
            return None

    def _declaration(self, kind: Kind[Any], key: str, raw: Map) -> Declaration | None:
        from provisioner.model import Resource

        given = raw[key]
        where = raw.at(key) or raw.source or Source(str(self.path))
        if isinstance(given, str) and has_template(given):
            render = self._render(given, where)
            fields: Mapping[str, Source] = {}
            body: Any = given
        elif not isinstance(given, Map):
            what = "nothing" if given is None else "a list" if isinstance(given, list) else f"'{given}'"
            name = given if isinstance(given, str) and re.fullmatch(r"[\w.-]+", given) else "blue"
            hint = f"for example: {kind.name}: {{name: {name}}}"
            self.problems.add(f"{kind.name} takes a mapping of fields, not {what}", where, hint=hint)
            return None
        else:
            body = given
            render = self._render(given, where)
            fields = positions(given)
        if render is None:
            return None
        prepared = getattr(kind.resource.prepare, "__func__", None) is not getattr(Resource.prepare, "__func__", None)
        return Declaration(kind, body, render, raw.key_at(key) or where, fields, prepared)

    def _expectation(self, given: Any, where: Source) -> Expectation | None:
        if not isinstance(given, (Map, Seq)) and not has_template(given):
            self.problems.add(
                "expect takes a mapping of fields",
                where,
                hint="for example: {from: blue, to: 10.0.0.1, result: reached}",
            )
            return None
        render = self._render(given, where)
        return Expectation(given, render, where) if render else None

    def _assertion(self, name: str, given: Any, where: Source) -> Assertion | None:
        known = {"assert": ("that", "fail_msg", "msg", "success_msg", "quiet"), "fail": ("msg",)}[name]
        if name == "fail" and given is None:
            given = Map((), where)
        if not isinstance(given, Map):
            self.problems.add(f"{name} takes a mapping", where, hint=f"for example: {name}: {{{known[0]}: …}}")
            return None
        self._unknown(given, known, name)
        text = given.get("fail_msg", given.get("msg"))
        at = given.at("fail_msg") if "fail_msg" in given else given.at("msg")
        message = self._render(text, at) if text is not None else None
        if name == "fail":
            return Assertion((), message, where)
        if "that" not in given:
            self.problems.add("assert needs 'that'", where, hint="for example: assert: {that: tenants | length > 0}")
            return None
        that = given["that"]
        before = len(self.problems.found)
        items = that if isinstance(that, list) else [that]
        conditions = _conditions(items, that, given.at("that"), self.templates, self.problems)
        return None if len(self.problems.found) > before else Assertion(conditions, message, where)

    def _unknown(self, given: Map, known: tuple[str, ...], what: str) -> None:
        for key in given:
            if key not in known:
                self.problems.add(f"{what} has no key '{key}'", given.key_at(key), hint=did_you_mean(key, known))

    def _include_tasks(self, name: str, given: Any, where: Source) -> IncludeTasks | None:
        tags: tuple[str, ...] = ()
        if isinstance(given, Map):
            self._unknown(given, ("file", "apply"), name)
            tags = self._applied(given)
            where = given.at("file") or where
            given = given.get("file")
        if not isinstance(given, str) or not given:
            self.problems.add(f"{name} needs the name of a file", where, hint=f"for example: {name}: firewall.yml")
            return None
        file = self._render(given, where)
        return IncludeTasks(file, name.startswith("import"), self.path.parent, where, tags) if file else None

    def _applied(self, given: Map) -> tuple[str, ...]:
        """The tags that an include gives to the tasks that it includes."""
        apply = given.get("apply")
        if apply is None:
            return ()
        if not isinstance(apply, Map):
            self.problems.add("apply must be a mapping", given.at("apply"), hint="for example: {tags: [web]}")
            return ()
        for key in apply:
            if key != "tags":
                self.problems.add(
                    f"apply takes tags alone, not '{key}'", apply.key_at(key), hint=f"write {key} at the task"
                )
        return read_tags(apply, self.problems)

    def _include_role(self, name: str, given: Any, where: Source) -> IncludeRole | None:
        if not isinstance(given, Map):
            self.problems.add(f"{name} takes a mapping", where, hint=f"for example: {name}: {{name: tenant}}")
            return None
        known = ("name", "tasks_from", "vars_from", "defaults_from", "apply", "allow_duplicates", "rolespec_validate")
        for key in given:
            if key == "public":
                if given[key]:
                    self.problems.add(
                        "a role's variables stay in the role",
                        given.key_at(key),
                        hint="give the variables to both by the inventory",
                    )
            elif key == "handlers_from":
                self.problems.add("there are no handlers", given.key_at(key), hint="leave it out")
            elif key not in known:
                hint = "vars stands at the task, beside it" if key == "vars" else did_you_mean(key, known)
                self.problems.add(f"{name} has no key '{key}'", given.key_at(key), hint=hint)
        role = given.get("name")
        if not isinstance(role, str) or not role:
            self.problems.add(
                f"{name} needs the name of a role", given.at("name") or where, hint="for example: {name: tenant}"
            )
            return None
        render = self._render(role, given.at("name"))
        tasks_from = self._render(given["tasks_from"], given.at("tasks_from")) if "tasks_from" in given else None
        if render is None:
            return None
        return IncludeRole(
            render,
            tasks_from,
            str(given.get("vars_from") or "main"),
            str(given.get("defaults_from") or "main"),
            name.startswith("import"),
            given.at("name") or where,
            self._applied(given),
        )
