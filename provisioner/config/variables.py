"""Variables in their scopes: looked up lazily, evaluated once, with every circle found.

A ``Frame`` holds the variables of one level (a role on a host, one use of that role, one round of a loop)
over those of the frames around it. What a template evaluates to is remembered in the outermost frame on which
it depends, so that what is the same for a thousand uses of a role is worked out once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from provisioner.config.source import Map, Seq, Str, Unsafe, UnsafeSecret, Vaulted, source_of
from provisioner.errors import Problem, Source
from provisioner.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["MISSING", "OMIT", "Evaluator", "Frame", "Place", "frames", "has_template", "walk", "written_at"]


class _Sentinel:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


#: What a lookup gives for a name that no frame has.
MISSING: Any = _Sentinel("MISSING")
#: The value of the variable ``omit``: a field that has it is left out.
OMIT: Any = _Sentinel("omit")

_NOTHING: frozenset[str] = frozenset()


class _Known(NamedTuple):
    """A value that was worked out, the names it was worked out from, and the depth of the deepest of them."""

    value: Any
    names: frozenset[str]
    depth: int


class Place:
    """Where a role finds its files: its own folder first, then those of the roles that include it.

    ``project`` are the folders beside the inventory whose ``templates/`` and ``files/`` are the project's.
    """

    __slots__ = ("_search", "folders", "found", "project")

    def __init__(self, folders: Sequence[Path], project: Sequence[Path] = ()) -> None:
        self.folders = tuple(folders)
        self.project = tuple(project)
        #: Files that were found already, by name and folder.
        self.found: dict[tuple[str, str], Path] = {}
        self._search: dict[str, tuple[Path, ...]] = {}

    def search(self, folder: str) -> tuple[Path, ...]:
        """Where files of a kind (``files``, ``templates``) are looked for, in this order."""
        made = self._search.get(folder)
        if made is None:
            own = [part for base in self.folders for part in (base / folder, base / "tasks", base)]
            shared = [part for base in self.project for part in (base / folder, base)]
            made = self._search[folder] = tuple(dict.fromkeys([*own, *shared]))
        return made


class Frame:
    """The variables of one level, over those of the levels around it.

    ``sealed`` frames hold arguments (the ``vars`` of a role's entry or of an include): these are evaluated
    where they were given, so that a loop inside the role cannot change what ``item`` meant outside of it.
    ``strong`` ones hold those of ``include_tasks`` and ``include_role``, which no task's own variables replace.
    """

    __slots__ = ("depth", "home", "known", "layers", "own", "parent", "place", "sealed", "strong")

    def __init__(
        self,
        own: Mapping[str, Any],
        parent: Frame | None = None,
        *,
        sealed: bool = False,
        strong: bool = False,
        place: Place | None = None,
        layers: Sequence[Mapping[str, Any]] = (),
        home: Frame | None = None,
    ) -> None:
        self.own = own
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.sealed = sealed
        self.strong = strong
        self.place: Place | None = place or (parent.place if parent else None)
        self.layers = layers
        #: The frame in which a sealed frame's values are evaluated: itself, or the one it is a copy of.
        self.home: Frame = home or self
        self.known: dict[Hashable, _Known] = {}

    def names(self) -> set[str]:
        """Every name that can be used here."""
        found: set[str] = set()
        frame: Frame | None = self
        while frame is not None:
            found.update(frame.own)
            frame = frame.parent
        return found

    def over(self, base: Frame, *, own: bool = True) -> Frame:
        """The levels of this frame above its outermost one, put over another outermost one.

        With ``own``, the innermost level is evaluated there as well: the arguments of a role see its defaults.
        """
        if self.parent is None:
            return base
        parent = self.parent.over(base, own=False)
        home = None if own else self.home
        return Frame(self.own, parent, sealed=self.sealed, strong=self.strong, layers=self.layers, home=home)

    def holder(self, name: str) -> Frame | None:
        frame: Frame | None = self
        while frame is not None and name not in frame.own:
            frame = frame.parent
        return frame

    def written_at(self, name: str) -> Source | None:
        """Where the variable of this name was written, as seen from here."""
        frame = self.holder(name)
        if frame is None:
            return None
        raw = frame.own[name]
        for layer in (frame.own, *frame.layers):
            if isinstance(layer, Map) and name in layer and layer[name] is raw:
                return layer.at(name)
        return source_of(raw)


def written_at(container: Any, key: Any) -> Source | None:
    """Where the value under a key of a located mapping, or at an index of a located sequence, was written."""
    if isinstance(container, Map) and isinstance(key, str):
        return container.at(key)
    if isinstance(container, Seq) and isinstance(key, int):
        return container.at(key)
    return source_of(container)


def has_template(value: Any) -> bool:
    """Whether a raw value has a template anywhere in it."""
    if isinstance(value, str):
        kind = type(value)
        if kind is Unsafe or kind is UnsafeSecret:
            return False
        if kind is Vaulted:
            return True  # it is opened when it is used
        return "{" in value and ("{{" in value or "{%" in value or "{#" in value)
    if isinstance(value, dict):
        return any(map(has_template, value.values()))
    if isinstance(value, list):
        return any(map(has_template, value))
    return False


class _Evaluation:
    """One value in the making: what it has used so far."""

    __slots__ = ("depth", "holder", "name", "names")

    def __init__(self, name: str | None, holder: Frame | None, depth: int) -> None:
        self.name = name
        self.holder = holder
        self.depth = depth
        self.names: set[str] = set()


class Used:
    """What a stretch of work has used."""

    __slots__ = ("depth", "names")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.depth = 0


class Evaluator:
    """Looks variables up and evaluates their templates.

    ``render`` turns a raw value that has templates into its value in a frame. ``failed`` turns what went
    wrong into the value that stands for it: using that value raises, testing whether it is defined does not.
    """

    def __init__(self, render: Callable[[Any, Frame], Any], failed: Callable[[str, Exception | Problem], Any]) -> None:
        self._render = render
        self._failed = failed
        self._open: list[_Evaluation] = []
        self._tracked = 0

    @contextmanager
    def tracked(self) -> Iterator[Used]:
        """What is looked up within: the names, and the depth of the deepest frame that had one."""
        used = Used()
        made = _Evaluation(None, None, 0)
        self._open.append(made)
        self._tracked += 1
        try:
            yield used
        finally:
            self._tracked -= 1
            self._open.pop()
            used.names, used.depth = made.names, made.depth
            if self._open:
                self._note(None, made.names, made.depth)

    @property
    def idle(self) -> bool:
        """Whether nothing is being evaluated."""
        return len(self._open) == self._tracked

    @property
    def outermost(self) -> bool:
        """Whether what is being evaluated is not a part of another evaluation."""
        return len(self._open) - self._tracked <= 1

    def lookup(self, frame: Frame, name: str) -> Any:
        """The value of a variable as seen from a frame; ``MISSING`` when no frame has it."""
        known = frame.known.get(name)
        if known is not None:
            if self._open:
                self._note(name, known.names, known.depth)
            return known.value
        if name in frame.own:
            return self._evaluate(name, frame, frame)
        passed = [frame]
        level = frame.parent
        while level is not None:
            known = level.known.get(name)
            if known is not None and (not known.names or all(known.names.isdisjoint(one.own) for one in passed)):
                if self._open:
                    self._note(name, known.names, known.depth)
                return known.value
            if name in level.own:
                return self._evaluate(name, level, frame)
            passed.append(level)
            level = level.parent
        if self._open:
            self._note(name, _NOTHING, 0)
        return MISSING

    def remembered(self, key: Hashable, frame: Frame, work: Callable[[Frame], Any]) -> Any:
        """What ``work`` gives in a frame, worked out once for all frames in which it must be the same."""
        level: Frame | None = frame
        passed: list[Frame] = []
        while level is not None:
            known = level.known.get(key)
            if known is not None and all(known.names.isdisjoint(one.own) for one in passed):
                if self._open:
                    self._note(None, known.names, known.depth)
                return known.value
            passed.append(level)
            level = level.parent
        made = _Evaluation(None, None, 0)
        self._open.append(made)
        try:
            value = work(frame)
        finally:
            self._open.pop()
            if self._open:
                self._note(None, made.names, made.depth)
        if made.depth < frame.depth:
            self._keep(key, value, frozenset(made.names), made.depth, frame)
        return value

    def _evaluate(self, name: str, holder: Frame, frame: Frame) -> Any:
        raw = holder.own[name]
        if not has_template(raw):
            holder.known[name] = _Known(raw, _NOTHING, holder.depth)
            if self._open:
                self._note(name, _NOTHING, holder.depth)
            return raw
        for index, one in enumerate(self._open):
            if one.name == name and one.holder is not None and one.holder.own is holder.own:
                return self._circle(name, index, frame)
        made = _Evaluation(name, holder, holder.depth)
        self._open.append(made)
        try:
            value = self._render(raw, holder.home if holder.sealed else frame)
        except RecursionError:
            value = self._failed(name, Problem(f"the variable '{name}' is nested too deeply", source_of(raw)))
        except Exception as error:
            value = self._failed(name, error)
        finally:
            self._open.pop()
        names = _NOTHING if holder.sealed else frozenset(made.names)
        depth = holder.depth if holder.sealed else made.depth
        if self._open:
            self._note(name, names, depth)
        self._keep(name, value, names, depth, frame)
        return value

    def _keep(self, key: Hashable, value: Any, names: frozenset[str], depth: int, frame: Frame) -> None:
        level = frame
        while level.depth > depth and level.parent is not None:
            level = level.parent
        level.known[key] = _Known(value, names, depth)

    def _note(self, name: str | None, names: frozenset[str] | set[str], depth: int) -> None:
        current = self._open[-1]
        if name is not None:
            current.names.add(name)
        if names:
            current.names |= names
        if depth > current.depth:
            current.depth = depth

    def _circle(self, name: str, index: int, frame: Frame) -> Any:
        names = [one.name for one in self._open[index:] if one.name is not None]
        circle = " -> ".join([*names, name])
        # The circle is one and the same wherever it was entered: it is told from its first name on.
        first = min(range(len(names)), key=lambda at: names[at])
        turned = names[first:] + names[:first]
        circle = " -> ".join([*turned, turned[0]])
        hint = (
            "a variable cannot be given its own value: use another name for one of the two"
            if len(names) == 1
            else "one of them must have a value of its own"
        )
        where = frame.written_at(turned[0])
        problem = Problem(f"variables that need each other's values: {circle}", where, hint)
        return self._failed(name, problem)


def walk(raw: Any, path: Sequence[Any]) -> tuple[Any, Sequence[Any], Source | None]:
    """Follow a path into a raw value as far as it goes: the value there, the rest of the path, and where it is."""
    where = source_of(raw)
    for index, step in enumerate(path):
        if (isinstance(raw, dict) and step in raw) or (
            isinstance(raw, list) and isinstance(step, int) and 0 <= step < len(raw)
        ):
            where = written_at(raw, step) or where
            raw = raw[step]
        elif isinstance(raw, (Str, Secret)):
            return raw, path[index:], where
    return raw, (), where


def frames(frame: Frame | None) -> Iterator[Frame]:
    """A frame and those around it, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.parent
