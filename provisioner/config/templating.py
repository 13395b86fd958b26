"""Jinja2 in a sandbox, with native types: ``"{{ 5 }}"`` is an integer, ``"0{{ 5 }}"`` is text.

Templates see nothing but variables, filters, tests and lookups; they cannot reach Python, change a value, or
grow without bound. What goes wrong is a ``ConfigError`` at the file, line and column of the template. The
most frequent templates (a variable, an item of it, text around those) are not compiled at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.exceptions import SecurityError

from provisioner.config import vault
from provisioner.config.bounds import MAX_ITEMS, MAX_WORK, bounded
from provisioner.config.sandbox import FrameContext, InlineEnvironment, WholeEnvironment
from provisioner.config.source import Map, Seq, UnsafeSecret, Vaulted, read_text, source_of
from provisioner.config.taint import guarded, holds_secret
from provisioner.config.values import (
    SCALARS,
    Failed,
    FilterError,
    Missing,
    UndefinedVariableError,
    absent,
    finished,
    what,
)
from provisioner.config.variables import MISSING, OMIT, Evaluator, Frame, has_template, written_at
from provisioner.errors import ConfigError, Problem, Source, did_you_mean
from provisioner.secrets import Secret, is_secret, learn, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2.environment import Template as JinjaTemplate

__all__ = ["Condition", "Template", "Templates"]

_REFERENCE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_SIMPLE = re.compile(r"\{\{\s*(" + _REFERENCE + r")\s*\}\}")
#: Words of Jinja's that look like names of variables.
_RESERVED = frozenset(
    ["true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else", "self", "loop"]
)
_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_TRUE = frozenset(["true", "yes", "on", "1", "y", "t"])
_FALSE = frozenset(["false", "no", "off", "0", "n", "f"])


class _UndefinedInTemplateError(ConfigError):
    """A template used what is not defined: ``default`` may still pass over it."""


class Template:
    """One text with templates in it. ``render`` gives its value in a frame."""

    __slots__ = ("compiled", "opened", "owner", "parts", "path", "raw", "source", "text")

    def __init__(self, owner: Templates, raw: str, source: Source | None) -> None:
        self.owner = owner
        self.raw = raw
        self.text = text = str(raw)
        self.source = source
        #: The names of a template that is one reference (``{{ item.name }}``).
        self.path: tuple[str, ...] = ()
        #: The pieces of one that is text and references: texts, and tuples of names.
        self.parts: tuple[str | tuple[str, ...], ...] = ()
        self.compiled: JinjaTemplate | None = None
        #: What is in a vault, once it has been opened.
        self.opened: Secret | None = None
        if type(raw) is not Vaulted and not self._simple():
            try:
                self.compiled = owner.compile_inline(text)
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(owner.syntax_problem(error, text, source)) from None

    def _simple(self) -> bool:
        text = self.text
        if "{%" in text or "{#" in text:
            return False
        pieces = _SIMPLE.split(text)
        if any("{{" in piece or "}}" in piece for piece in pieces[::2]):
            return False
        names = [tuple(one.split(".")) for one in pieces[1::2]]
        if any(one[0] in _RESERVED or not _DICT_METHODS.isdisjoint(one[1:]) for one in names):
            return False
        if any(one[0] in self.owner.globals for one in names):
            return False
        if len(names) == 1 and not pieces[0] and pieces[2] in ("", "\n"):
            self.path = names[0]
            # A text keeps the newline after it, as in Ansible; anything else stays what it is.
            if pieces[2]:
                self.parts = (names[0], "\n")
            return True
        parts: list[str | tuple[str, ...]] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                parts.append(tuple(piece.split(".")))
            elif piece:
                parts.append(piece)
        self.parts = tuple(parts)
        return True

    def render(self, frame: Frame) -> Any:
        """The value in a frame. Raises ConfigError at the template's place."""
        if type(self.raw) is Vaulted:
            return self._open()
        value = self._render(frame)
        if is_secret(self.raw):
            value = marked(value, self.source)
            learn(value, whole=True)
        return value

    def _open(self) -> Secret:
        """What is in a vault; as in Ansible, a template in it is text."""
        if self.opened is None:
            self.opened = UnsafeSecret(vault.open_text(self.text, self.source), self.source)
            learn(self.opened)
        return self.opened

    def _render(self, frame: Frame) -> Any:
        try:
            if self.path:
                value = self._refer(self.path, frame)
                if self.parts and isinstance(value, str):
                    return value + "\n"
                return value
            if self.compiled is None:
                return self._mix(frame)
            return self.owner.evaluator.remembered(self, frame, self._run)
        except ConfigError:
            raise
        except Exception as error:
            raise self.owner.error_of(error, self.text, self.source, frame) from None

    def _refer(self, path: tuple[str, ...], frame: Frame) -> Any:
        value = self.owner.evaluator.lookup(frame, path[0])
        if value is MISSING:
            raise UndefinedVariableError(Missing(name=path[0]))
        for step in path[1:]:
            kind = type(value)
            if (kind is Map or kind is dict) and step in value:
                value = value[step]
            else:
                value = self.owner.inline.getattr(value, step)
        kind = type(value)
        if kind in SCALARS or kind is Map or kind is Seq:
            return value
        return finished(value)

    def _mix(self, frame: Frame) -> Any:
        made: list[Any] = []
        for part in self.parts:
            if type(part) is str:
                made.append(part)
            else:
                value = self._refer(part, frame)  # type: ignore[arg-type]
                if value is not None:
                    made.append(value)
        return _concatenated(made)

    def _run(self, frame: Frame) -> Any:
        compiled = self.compiled
        assert compiled is not None
        self.owner.begin()
        context = FrameContext(compiled.environment, self.owner.globals, None, compiled.blocks, None, frame)
        # Declared by Jinja as texts, but native templates give values.
        given: Iterable[Any] = compiled.root_render_func(context)
        made = [value for value in given if value is not None]
        if len(made) == 2 and made[1] == "\n" and not isinstance(made[0], str):
            return made[0]  # the newline that ends a block of YAML is no part of a list or a number
        return _concatenated(made)


def _concatenated(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return None
    if any(part is OMIT for part in parts):
        raise FilterError("omit cannot be a part of a text", 'use it alone: "{{ x | default(omit) }}"')
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    bounded(sum(map(len, texts)))
    joined = "".join(texts)
    return Secret(joined) if any(map(holds_secret, parts)) else joined


class Condition:
    """One expression of a ``when`` (or of ``assert``): ``holds`` says whether it is true in a frame."""

    __slots__ = ("constant", "source", "template", "text")

    def __init__(self, owner: Templates, raw: Any, source: Source | None) -> None:
        self.text = str(raw)
        self.source = source_of(raw) or source
        self.constant: bool | None = None
        self.template: Template | None = None
        if isinstance(raw, bool):
            self.constant = raw
            return
        if raw is None or isinstance(raw, (dict, list)):
            raise ConfigError(
                Problem(f"a condition must be an expression, not {what(raw)}", self.source, "for example: when: x == 1")
            )
        text = self.text.strip()
        whole = re.fullmatch(r"\{\{(.*)\}\}", text, re.DOTALL)
        if whole and "{{" not in whole[1]:
            text = whole[1].strip()
        elif "{{" in text or "{%" in text:
            raise ConfigError(
                Problem(
                    "a condition is an expression already, and holds no '{{ … }}' of its own",
                    self.source,
                    "write variables by their bare names: when: " + re.sub(r"\{\{\s*(.*?)\s*\}\}", r"\1", text),
                )
            )
        if not text:
            raise ConfigError(Problem("the condition is empty", self.source))
        if text.lower() in ("true", "false", "yes", "no"):
            self.constant = text.lower() in _TRUE
            return
        self.template = Template(owner, "{{ " + text + " }}", self.source)

    def holds(self, frame: Frame) -> bool:
        if self.template is None:
            return bool(self.constant)
        value = self.template.render(frame)
        if value is True or value is False:
            return value
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        hint = "compare it: x == 'a', x > 0"
        if isinstance(value, (list, dict, str)):
            hint = f"to ask whether there is something in it, write: ({self.text}) | length > 0"
        elif value is None:
            hint = f"write: ({self.text}) is not none"
        raise ConfigError(
            Problem(f"the condition '{self.text}' gives {what(value)}, not true or false", self.source, hint)
        )


def _compiled(make: Callable[[], JinjaTemplate]) -> JinjaTemplate:
    """A template, where Python takes what it becomes: that has bounds for what is nested."""
    try:
        return make()
    except (RecursionError, MemoryError, SyntaxError):
        raise jinja2.TemplateSyntaxError("it is nested too deeply", 1) from None


class Templates:
    """Compiles and evaluates the templates of one run.

    ``globals``, ``filters`` and ``tests`` are what templates may call. Compiled templates are kept by their
    text, so that the same text in a thousand places is compiled once.
    """

    def __init__(
        self,
        *,
        filters: Mapping[str, Any],
        tests: Mapping[str, Any],
        globals: Mapping[str, Any],
        unavailable: Mapping[str, str] | None = None,
    ) -> None:
        self.evaluator = Evaluator(self.render, self._stand_in)
        self.globals: dict[str, Any] = dict(globals)
        #: Filters, tests and functions of Ansible's that are refused, and what to do instead.
        self.unavailable = dict(unavailable or {})
        self._work = 0
        self._compiled: dict[str, JinjaTemplate] = {}
        self._made: dict[int, Template] = {}
        self._files: dict[str, JinjaTemplate] = {}
        self._texts: dict[str, str] = {}
        self._searched: dict[str, tuple[Path, ...]] = {}
        self.inline = InlineEnvironment(self)
        self.whole = WholeEnvironment(self, self._load)
        for environment in (self.inline, self.whole):
            environment.filters.update(filters)
            environment.filters.update(guarded(environment.filters))
            environment.tests.update(tests)
            environment.globals["range"] = self._range
            environment.globals.update(self.globals)
        self.globals = dict(self.inline.globals)

    # -- values -----------------------------------------------------------------------------------

    def template(self, text: str, source: Source | None = None) -> Template:
        """The template of a text. Raises ConfigError where its syntax is wrong."""
        # By identity: a value that was written once is one object, and comparing texts would take longer.
        made = self._made.get(id(text))
        if made is None or made.raw is not text:
            made = self._made[id(text)] = Template(self, text, source_of(text) or source)
        return made

    def render(self, raw: Any, frame: Frame, source: Source | None = None) -> Any:
        """A raw value with all of its templates evaluated; fields that are ``omit`` are left out."""
        if isinstance(raw, str):
            return self.template(raw, source).render(frame) if has_template(raw) else raw
        if isinstance(raw, dict):
            if not has_template(raw):
                return raw
            made = Map((), source_of(raw), getattr(raw, "values_at", None), getattr(raw, "keys_at", None))
            for key, item in raw.items():
                value = self.render(item, frame, written_at(raw, key))
                if value is not OMIT:
                    made[key] = value
            return made
        if isinstance(raw, list):
            if not has_template(raw):
                return raw
            items = [self.render(item, frame, written_at(raw, index)) for index, item in enumerate(raw)]
            kept = [item for item in items if item is not OMIT]
            return Seq(kept, source_of(raw), getattr(raw, "items_at", ()) if len(kept) == len(items) else ())
        return raw

    def renderer(self, raw: Any, source: Source | None = None) -> Callable[[Frame], Any]:
        """A function that renders a raw value in a frame, with the templates in it compiled beforehand.

        Gives fresh containers each time. Raises ConfigError with every template that is wrong.
        """
        problems: list[Problem] = []
        made = self._renderer(raw, source, problems)
        if problems:
            raise ConfigError(problems)
        return made

    def _renderer(self, raw: Any, source: Source | None, problems: list[Problem]) -> Callable[[Frame], Any]:
        if isinstance(raw, str):
            if not has_template(raw):
                return lambda _: raw
            try:
                return self.template(raw, source).render
            except ConfigError as error:
                problems.extend(error.problems)
                return lambda _: raw
        if isinstance(raw, dict):
            return _mapping_renderer(
                [
                    (key, self._renderer(item, written_at(raw, key), problems), has_template(item), item)
                    for key, item in raw.items()
                ]
            )
        if isinstance(raw, list):
            items = [self._renderer(item, written_at(raw, index), problems) for index, item in enumerate(raw)]
            return lambda frame: [value for render in items if (value := render(frame)) is not OMIT]
        return lambda _: raw

    def condition(self, raw: Any, source: Source | None = None) -> Condition:
        """The condition that an expression states. Raises ConfigError where its syntax is wrong."""
        return Condition(self, raw, source)

    # -- template files ---------------------------------------------------------------------------

    def render_file(self, path: Path, frame: Frame, search: Sequence[Path] = ()) -> str:
        """The text that a template file gives. Raises ConfigError at the line of the file."""
        name = str(path)
        self._searched.setdefault(name, tuple(search))
        fresh = self.evaluator.idle
        try:
            compiled = self._file(name)
            if fresh:
                self._work = 0
            context = FrameContext(compiled.environment, self.globals, compiled.name, compiled.blocks, None, frame)
            made = [value for value in compiled.root_render_func(context) if value is not None]
            text = _concatenated(made) if made else ""
            if is_secret(self._texts.get(name)):
                text = marked(text)
                learn(text, whole=True)
            if isinstance(text, str):
                return text
            return Secret(str(text)) if holds_secret(text) else str(text)
        except ConfigError:
            raise
        except jinja2.TemplateSyntaxError as error:
            at = error.filename or error.name or name
            raise ConfigError(self.syntax_problem(error, self._texts.get(at, ""), Source(at), file=True)) from None
        except jinja2.TemplateNotFound as error:
            where = self._line_of(error) or Source(name)
            raise ConfigError(Problem(f"the template '{error.message or error.name}' does not exist", where)) from None
        except RecursionError:
            raise ConfigError(Problem("the template includes or calls itself without end", Source(name))) from None
        except Exception as error:
            where = self._line_of(error) or Source(name)
            raise self.error_of(error, "", where, frame, file=True) from None

    def _file(self, name: str) -> JinjaTemplate:
        compiled = self._files.get(name)
        if compiled is None:
            compiled = self._files[name] = _compiled(lambda: self.whole.get_template(name))
        return compiled

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        if name not in self._texts:
            self._texts[name] = read_text(Path(name))
        return self._texts[name], name, lambda: True

    def beside(self, name: str, parent: str) -> Path:
        """The file that a template file means by a name in ``include``, ``import`` or ``extends``."""
        wanted = Path(name)
        near = [Path(parent).parent, *(one for one in Path(parent).parents if one.name == "templates")]
        search = self._searched.get(parent, ())
        for folder in (*near, *search):
            if (folder / wanted).is_file():
                found = folder / wanted
                self._searched.setdefault(str(found), search)
                return found
        raise jinja2.TemplateNotFound(name)

    # -- bounds -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the count of work anew, unless this is a part of another evaluation."""
        if self.evaluator.outermost:
            self._work = 0

    def charge(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise FilterError(f"the template does more than {MAX_WORK} steps", "is there a loop without end in it?")

    def _range(self, *args: int) -> range:
        made = range(*args)
        if len(made) > MAX_ITEMS:
            raise FilterError(f"a range of {len(made)} items is more than the {MAX_ITEMS} that are allowed")
        self.charge(len(made))
        return made

    # -- errors -----------------------------------------------------------------------------------

    def compile_inline(self, text: str) -> JinjaTemplate:
        compiled = self._compiled.get(text)
        if compiled is None:
            compiled = self._compiled[text] = _compiled(lambda: self.inline.from_string(text))
        return compiled

    def syntax_problem(
        self, error: jinja2.TemplateSyntaxError, text: str, source: Source | None, *, file: bool = False
    ) -> Problem:
        """What is wrong with a template's syntax, and where."""
        message, hint = str(error.message or error), None
        word = None
        found = re.match(r"No (filter|test) named '([^']+)'", message)
        if found:
            what, word = found[1], found[2]
            known = self.inline.filters if what == "filter" else self.inline.tests
            message = f"there is no {what} '{word}'"
            hint = self.unavailable.get(word.rpartition(".")[2]) or did_you_mean(
                word, (name for name in known if not name.startswith("_"))
            )
        else:
            message = f"the template is wrong: {message}"
        return Problem(message, _inside(source, text, error.lineno or 1, word, file=file), hint)

    def error_of(
        self, error: Exception, text: str, source: Source | None, frame: Frame | None, *, file: bool = False
    ) -> ConfigError:
        """The located error that an exception from a template stands for."""
        undefined = isinstance(error, UndefinedVariableError) and not isinstance(error.missing, Failed)
        return (_UndefinedInTemplateError if undefined else ConfigError)(
            self.problems_of(error, text, source, frame, file=file)
        )

    def problems_of(
        self, error: Exception, text: str, source: Source | None, frame: Frame | None, *, file: bool = False
    ) -> list[Problem]:
        """The problems that an exception from a template stands for."""
        line = 1 if file else _line_in(error)
        if isinstance(error, UndefinedVariableError):
            missing = error.missing
            if missing.problem:
                return list(missing.problem)
            word = str(missing._undefined_name) if missing._undefined_name is not None else None
            hint = missing.suggestion
            if line is None:
                line = _line_of_word(text, word)
            if missing._undefined_obj is absent and word:
                hint = self._meant(word, frame)
            return [Problem(missing.told, _inside(source, text, line, word, file=file), hint)]
        where = _inside(source, text, line or 1, None, file=file)
        if isinstance(error, FilterError):
            return [Problem(str(error), where, error.hint)]
        if isinstance(error, SecurityError):
            return [Problem(f"the template is not allowed to do this: {error}", where)]
        if isinstance(error, (OverflowError, MemoryError)):
            return [Problem(f"the template makes something too large: {error or 'out of memory'}", where)]
        if isinstance(error, RecursionError):
            return [Problem("the template is nested too deeply", where)]
        if isinstance(error, jinja2.TemplateNotFound):
            return [Problem(f"the template '{error.message or error.name}' does not exist", where)]
        if isinstance(error, KeyError):
            return [Problem(f"the template fails: there is no key {error}", where)]
        return [Problem(f"the template fails: {error or type(error).__name__}", where)]

    def _meant(self, word: str, frame: Frame | None) -> str | None:
        if word in self.unavailable:
            return self.unavailable[word]
        if word == "item":
            return "there is no loop here: write loop: beside it, or the variable's own name"
        if word.startswith("ansible_"):
            return "facts of the host are under host.*: host.kernel, host.systemd, host.interfaces"
        names = frame.names() if frame else set()
        near = did_you_mean(word, names)
        return near if near and near.startswith("did you mean") else None

    def _line_of(self, error: BaseException) -> Source | None:
        """The line of the template file in which an exception arose."""
        found = None
        trace = error.__traceback__
        while trace is not None:
            template = trace.tb_frame.f_globals.get("__jinja_template__")
            if template is not None and template.name in self._texts:
                found = Source(template.name, template.get_corresponding_lineno(trace.tb_lineno))
            trace = trace.tb_next
        return found

    def _stand_in(self, name: str, error: Exception | Problem) -> Any:
        if isinstance(error, Problem):
            return Failed(name=name, problem=(error,))
        if isinstance(error, ConfigError):
            return (Missing if isinstance(error, _UndefinedInTemplateError) else Failed)(
                name=name, problem=error.problems
            )
        raise error


def _mapping_renderer(fields: list[tuple[str, Callable[[Frame], Any], bool, Any]]) -> Callable[[Frame], Any]:
    """Renders a mapping; a field that is ``omit`` is left out."""
    constant = {key: raw for key, _, templated, raw in fields if not templated and not isinstance(raw, (dict, list))}
    if len(constant) == len(fields):
        return lambda _: dict(constant)
    renders = [(key, None if key in constant else render, raw) for key, render, _, raw in fields]

    def render_mapping(frame: Frame) -> dict[str, Any]:
        made = {}
        for key, render, raw in renders:
            if render is None:
                made[key] = raw
                continue
            value = render(frame)
            if value is not OMIT:
                made[key] = value
        return made

    return render_mapping


# -- where in a template --------------------------------------------------------------------------


def _line_in(error: BaseException) -> int | None:
    """The line of an inline template in which an exception arose."""
    trace = error.__traceback__
    found = None
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None and template.name is None:
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found


def _line_of_word(text: str, word: str | None) -> int:
    """The line of a template on which a word is first used."""
    for inside in re.finditer(r"\{\{.*?\}\}", text, re.DOTALL):
        found = re.search(rf"\b{re.escape(word)}\b", inside[0]) if word else None
        if found:
            return text.count("\n", 0, inside.start() + found.start()) + 1
    return 1


def _inside(source: Source | None, text: str, line: int, word: str | None, *, file: bool = False) -> Source | None:
    """The place within a template: the line of a file or of a block of YAML, the start of a scalar otherwise."""
    if source is None:
        return None
    if file:
        at = max(line, source.line)
        return Source(source.file, at, _column(source.file, at, word))
    if "\n" not in text:
        return source
    try:
        lines = read_text(Path(source.file)).splitlines()
    except ConfigError:
        return source
    if source.line > len(lines) or lines[source.line - 1][source.column - 1 : source.column] not in ("|", ">"):
        return source
    at = min(source.line + line, len(lines))
    return Source(source.file, at, _column(source.file, at, word, lines))


def _column(file: str, line: int, word: str | None, lines: list[str] | None = None) -> int:
    """The column of a word in a line of a file; of the first template there, or of the text."""
    try:
        lines = lines if lines is not None else read_text(Path(file)).splitlines()
    except ConfigError:
        return 1
    if not 0 < line <= len(lines):
        return 1
    here = lines[line - 1]
    found = re.search(rf"\b{re.escape(word)}\b", here) if word else None
    found = found or re.search(r"\{[{%]", here) or re.search(r"\S", here)
    return found.start() + 1 if found else 1
