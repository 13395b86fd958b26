"""Jinja2 in a sandbox, with native types: ``"{{ 5 }}"`` is an integer, ``"0{{ 5 }}"`` is text.

Templates see nothing but variables, filters, tests and lookups; they cannot reach Python, change a value, or
grow without bound. What goes wrong is a ``ConfigError`` at the file, line and column of the template. The
most frequent templates (a variable, an item of it, text around those) are not compiled at all.
"""

from __future__ import annotations

import re
import types
from collections import deque
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.lexer import Lexer
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from jinja2.utils import missing as absent
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from provisioner.config.source import Map, Seq, Str, read_text, source_of
from provisioner.config.variables import MISSING, OMIT, Evaluator, Frame, has_template, written_at
from provisioner.errors import ConfigError, Problem, Source, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2.environment import Template as JinjaTemplate

__all__ = ["Condition", "FilterError", "Template", "Templates", "located"]

#: No text that a template makes may be longer.
MAX_TEXT = 16 * 1024 * 1024
#: No list that a template makes may be longer.
MAX_ITEMS = 1_000_000
#: Rounds of loops, items of ranges and calls that one evaluation may make.
MAX_WORK = 2_000_000

_REFERENCE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_SIMPLE = re.compile(r"\{\{\s*(" + _REFERENCE + r")\s*\}\}")
_BARE = re.compile(_REFERENCE + r"\Z")
#: Words of Jinja's that look like names of variables.
_RESERVED = frozenset(
    ["true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else", "self", "loop"]
)
_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_STR_METHODS = frozenset(name for name in dir(str) if not name.startswith("_"))
_LIST_METHODS = frozenset(name for name in dir(list) if not name.startswith("_"))
_EXTENSIONS = ("jinja2.ext.do", "jinja2.ext.loopcontrols")
_SCALARS = frozenset([str, int, float, bool, type(None), Str])
_LAZY = (types.GeneratorType, range, map, filter, zip, KeysView, ValuesView, ItemsView, set, frozenset, deque)

_TRUE = frozenset(["true", "yes", "on", "1", "y", "t"])
_FALSE = frozenset(["false", "no", "off", "0", "n", "f"])


class FilterError(Exception):
    """What a filter, test or lookup says of its input; ``hint`` is what would be right."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class _UndefinedInTemplateError(ConfigError):
    """A template used what is not defined: ``default`` may still pass over it."""


class UndefinedVariableError(jinja2.UndefinedError):
    """A value that is not there was used."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(missing.told)
        self.missing = missing


class Missing(jinja2.StrictUndefined):
    """A value that is not there. Its items are not there either, so that ``a.b | default(1)`` is 1."""

    __slots__ = ("problem",)

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = absent,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
        problem: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(hint, obj, name, exc)
        self.problem = problem

    @property
    def told(self) -> str:
        """What is missing, in words."""
        name, obj = self._undefined_name, self._undefined_obj
        if self._undefined_hint:
            return str(self._undefined_hint)
        if obj is absent:
            return f"'{name}' is undefined"
        if isinstance(obj, Mapping):
            return f"'{name}' is undefined: the mapping has no such key"
        if isinstance(obj, list):
            what = f"a list of {len(obj)}"
            return f"{what} has no item {name}" if isinstance(name, int) else f"{what} has no '{name}'"
        return f"{_what(obj)} has no '{name}'"

    @property
    def suggestion(self) -> str | None:
        obj = self._undefined_obj
        if isinstance(obj, Mapping):
            return did_you_mean(self._undefined_name, map(str, obj)) or "known here: " + ", ".join(
                sorted(map(str, obj))[:12]
            )
        return None

    def fail(self, *_: Any, **__: Any) -> Any:
        raise UndefinedVariableError(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> Any:
        return self

    # Every other use of it fails, with what is missing.
    __str__ = __len__ = __iter__ = __eq__ = __ne__ = __bool__ = __hash__ = __contains__ = fail  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = fail
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = fail
    __pos__ = __neg__ = __call__ = __lt__ = __le__ = __gt__ = __ge__ = fail
    __int__ = __float__ = __complex__ = __pow__ = __rpow__ = fail


class Failed(Missing):
    """A variable whose own value could not be worked out. Not even ``default`` passes over it."""

    __slots__ = ()


def _what(value: Any) -> str:
    """What a value is, as a person calls it."""
    for kind, name in (
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "a text"),
        (Mapping, "a mapping"),
        (list, "a list"),
        (tuple, "a list"),
        (type(None), "nothing (null)"),
    ):
        if isinstance(value, kind):
            return name
    return f"a value of the type {type(value).__name__}"


# -- Jinja, tamed ---------------------------------------------------------------------------------


class _Context(Context):
    """The variables of a template: those of a frame, looked up when they are first needed."""

    def __init__(
        self,
        environment: Any,
        parent: dict[str, Any],
        name: str | None,
        blocks: dict[str, Any],
        globals: Any = None,
        frame: Frame | None = None,
    ) -> None:
        super().__init__(environment, parent, name, blocks, globals)
        self.frame = frame

    def derived(self, locals: dict[str, Any] | None = None) -> Context:
        made = _Context(self.environment, {**self.get_all(), **(locals or {})}, self.name, {}, None, self.frame)
        made.eval_ctx = self.eval_ctx
        made.blocks.update((name, list(blocks)) for name, blocks in self.blocks.items())
        return made

    def resolve_or_missing(self, key: str) -> Any:
        if key in self.vars:
            return self.vars[key]
        if self.frame is not None:
            value = self.environment.templates.evaluator.lookup(self.frame, key)  # type: ignore[attr-defined]
            if value is not MISSING:
                return value
        return self.parent.get(key, absent)

    def get_all(self) -> dict[str, Any]:
        return _Inherited({**self.parent, **self.vars}, self.frame)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.resolve_or_missing(name) is not absent


class _Inherited(dict[str, Any]):
    """What an included template inherits: the variables set so far, and the frame of the rest."""

    def __init__(self, values: dict[str, Any], frame: Frame | None) -> None:
        super().__init__(values)
        self.frame = frame


class _Template(jinja2.Template):
    def new_context(self, vars: Any = None, shared: bool = False, locals: Mapping[str, Any] | None = None) -> Context:
        given = dict(self.globals) if vars is None else dict(vars) if shared else {**self.globals, **vars}
        if locals:
            given.update({key: value for key, value in locals.items() if value is not absent})
        return _Context(
            self.environment, given, self.name, self.blocks, self.globals, frame=getattr(vars, "frame", None)
        )


class _Generator(NativeCodeGenerator):
    """Keeps constants of expressions what they are, where Jinja would make them part of the text."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Any, finalize: Any) -> Any:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return node.as_const(frame.eval_ctx)


class _Bounds(NodeTransformer):
    """Puts loops and ``~`` under the environment's bounds."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's own name
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's own name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_joined", [], [], None, None, lineno=node.lineno)


class _PlainBackslashes(Lexer):
    """Reads a backslash in a string of a YAML template as itself, as Ansible does: ``'\\1'`` is a group."""

    def wrap(
        self, stream: Iterable[tuple[int, str, str]], name: str | None = None, filename: str | None = None
    ) -> Iterator[Any]:
        doubled = (
            (line, token, text.replace("\\", "\\\\") if token == "string" else text) for line, token, text in stream
        )
        return super().wrap(doubled, name, filename)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates give native values, see nothing but values, and are bounded in what they do."""

    code_generator_class = _Generator
    context_class = _Context
    template_class = _Template
    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, templates: Templates, **options: Any) -> None:
        super().__init__(undefined=Missing, finalize=_finished, autoescape=False, extensions=_EXTENSIONS, **options)
        self.templates = templates

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Bounds().visit(tree)
        return tree

    # -- what a template may look at ------------------------------------------------------------

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Undefined):
            return obj if isinstance(obj, Missing) else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, dict):
            if attribute in _DICT_METHODS:  # as in Jinja: d.items() calls the method
                return super().getattr(obj, attribute)
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, str):
            allowed = _STR_METHODS
        elif isinstance(obj, list):
            allowed = _LIST_METHODS
        else:
            return super().getattr(obj, attribute)
        return super().getattr(obj, attribute) if attribute in allowed else self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return self.getattr(obj, str(argument))
        if isinstance(argument, Undefined):
            raise (
                UndefinedVariableError(argument)
                if isinstance(argument, Missing)
                else jinja2.UndefinedError(str(argument))
            )
        try:
            return obj[argument]
        except (LookupError, TypeError, AttributeError):
            if isinstance(argument, str) and not isinstance(obj, dict):
                return self.getattr(obj, argument)
            return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # A plain list or mapping was made by the running template, and nobody else sees it change. Those of
        # variables are located ones.
        if type(obj) in (list, dict):
            return SandboxedEnvironment.is_safe_attribute(self, obj, attr, value)
        return super().is_safe_attribute(obj, attr, value)

    # -- how much it may do ---------------------------------------------------------------------

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, Missing):
            left.fail()
        if isinstance(right, Missing):
            right.fail()
        if operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(times, int):
                    bounded(len(one) * times, items=True)
            _bounded_number(left, right)
        elif operator == "**":
            _bounded_power(left, right)
        elif operator == "%" and isinstance(left, str):
            bounded_format(left)
        elif operator == "+" and isinstance(left, (str, list)) and isinstance(right, (str, list)):
            bounded(len(left) + len(right), items=isinstance(left, list))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if isinstance(__obj, Missing):
            __obj.fail()
        __self.templates.charge(1)
        # The sandbox wraps str.format; what it wraps is the method.
        method = getattr(__obj, "__wrapped__", __obj)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, list) and args and isinstance(args[0], (list, tuple)):
            bounded(len(owner) + len(args[0]), items=True)
        elif isinstance(owner, str):
            _bounded_method(owner, getattr(method, "__name__", ""), args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def join_path(self, template: str, parent: str) -> str:
        return str(self.templates.beside(template, parent))


class _InlineEnvironment(_Environment):
    @property
    def lexer(self) -> Lexer:
        return self._plain_lexer

    @cached_property
    def _plain_lexer(self) -> Lexer:
        return _PlainBackslashes(self)


def bounded(size: int, *, items: bool = False) -> None:
    """Refuse a text or a list that would be larger than a template may make. Raises FilterError."""
    most = MAX_ITEMS if items else MAX_TEXT
    if size > most:
        what = "items" if items else "characters"
        raise FilterError(f"the result would have {size} {what}, more than the {most} that are allowed")


def _bounded_number(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
        raise FilterError("the number would have more than 4096 bits")


def _bounded_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * max(exponent, 0) > 4096:
        raise FilterError("the number would have more than 4096 bits")


_WIDTH = re.compile(r"\d{5,}|%[^%a-zA-Z]*\*|:[^{}]*\{")


def bounded_format(pattern: str) -> None:
    """Refuse a format whose widths are huge, or are given by another value. Raises FilterError."""
    if _WIDTH.search(pattern):
        raise FilterError("a width in a format is a number of at most four digits")


def _bounded_method(text: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse calls of a text's methods that would make something huge of little."""
    if method in ("ljust", "rjust", "center", "zfill", "expandtabs"):
        width = max((one for one in (*args, *kwargs.values()) if isinstance(one, int)), default=0)
        bounded(width if method != "expandtabs" else width * (text.count("\t") + 1))
    elif method == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        bounded(len(text) + text.count(args[0]) * len(args[1]))
    elif method in ("format", "format_map"):
        bounded_format(text)
    elif method == "join" and args and isinstance(args[0], (list, tuple)):
        bounded(len(text) * len(args[0]))
    elif method == "translate":
        raise FilterError("translate is not available in templates", "use replace, or the filter regex_replace")


# -- templates ------------------------------------------------------------------------------------


class Template:
    """One text with templates in it. ``render`` gives its value in a frame."""

    __slots__ = ("compiled", "owner", "parts", "path", "raw", "source", "text")

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
        if not self._simple():
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
        if kind in _SCALARS or kind is Map or kind is Seq:
            return value
        return _finished(value)

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
        context = _Context(compiled.environment, self.owner.globals, None, compiled.blocks, None, frame)
        made = [value for value in compiled.root_render_func(context) if value is not None]
        return _again_newline(_concatenated(made), self.text)


def _again_newline(value: Any, text: str) -> Any:
    """The newline at the end of a text, which Jinja drops, as Ansible keeps it."""
    return value + "\n" if text.endswith("\n") and isinstance(value, str) else value


def _concatenated(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return None
    if any(part is OMIT for part in parts):
        raise FilterError("omit cannot be a part of a text", 'use it alone: "{{ x | default(omit) }}"')
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    bounded(sum(map(len, texts)))
    return "".join(texts)


def _finished(value: Any) -> Any:
    """A value as variables hold it: no generators, no tuples, no undefined parts, nothing that is not a value."""
    kind = type(value)
    if kind in _SCALARS or kind is Map or kind is Seq or value is OMIT:
        return value
    if isinstance(value, Undefined):
        if isinstance(value, Missing):
            value.fail()
        raise FilterError("an inline 'if' without 'else' has no value here", "write: a if condition else b")
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return Seq([_finished(item) for item in value])
    if isinstance(value, dict):
        return Map({key: _finished(item) for key, item in value.items()})
    if isinstance(value, _LAZY):
        return Seq([_finished(item) for item in value])
    if isinstance(value, Mapping):
        return value
    if callable(value):
        name = getattr(value, "__name__", "it")
        raise FilterError(
            f"'{name}' is a function here, not a value", f"for a key of that name write ['{name}'], or call {name}()"
        )
    return value


def located(value: Any) -> Any:
    """A value whose mappings and lists no template can change."""
    if isinstance(value, Mapping):
        return Map({key: located(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Seq([located(item) for item in value])
    return value


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
                Problem(
                    f"a condition must be an expression, not {_what(raw)}", self.source, "for example: when: x == 1"
                )
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
            Problem(f"the condition '{self.text}' gives {_what(value)}, not true or false", self.source, hint)
        )


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
        self.inline = _InlineEnvironment(self, trim_blocks=True)
        self.whole = _Environment(
            self, trim_blocks=True, keep_trailing_newline=True, loader=jinja2.FunctionLoader(self._load)
        )
        for environment in (self.inline, self.whole):
            environment.filters.update(filters)
            environment.filters["_counted"] = self._counted
            environment.filters["_joined"] = _joined
            environment.tests.update(tests)
            environment.globals.pop("lipsum", None)
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
            context = _Context(compiled.environment, self.globals, compiled.name, compiled.blocks, None, frame)
            made = [value for value in compiled.root_render_func(context) if value is not None]
            text = _concatenated(made) if made else ""
            return text if isinstance(text, str) else str(text)
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
            compiled = self._files[name] = self.whole.get_template(name)
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

    def _counted(self, items: Any) -> Any:
        return _Counted(items, self)

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
            compiled = self._compiled[text] = self.inline.from_string(text)
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
        line = 1 if file else (_line_in(error) or 1)
        if isinstance(error, UndefinedVariableError):
            missing = error.missing
            if missing.problem:
                return list(missing.problem)
            word = str(missing._undefined_name) if missing._undefined_name is not None else None
            hint = missing.suggestion
            if missing._undefined_obj is absent and word:
                hint = self._meant(word, frame)
            return [Problem(missing.told, _inside(source, text, line, word, file=file), hint)]
        where = _inside(source, text, line, None, file=file)
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
        if word.startswith("ansible_"):
            return "facts of the host are under host.*: host.kernel, host.systemd, host.interfaces"
        names = frame.names() if frame else set()
        near = did_you_mean(word, names | set(self.globals))
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


class _Counted:
    """The items of a loop, with every round charged."""

    __slots__ = ("items", "templates")

    def __init__(self, items: Any, templates: Templates) -> None:
        if isinstance(items, Missing):
            items.fail()
        self.items = items
        self.templates = templates

    def __iter__(self) -> Iterator[Any]:
        charge = self.templates.charge
        for item in self.items:
            charge(1)
            yield item

    def __len__(self) -> int:
        return len(self.items)


def _joined(parts: list[Any]) -> str:
    """The ``~`` of Jinja, bounded."""
    for part in parts:
        if isinstance(part, Missing):
            part.fail()
    texts = [str(part) for part in parts]
    bounded(sum(map(len, texts)))
    return "".join(texts)


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
