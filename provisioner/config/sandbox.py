"""Jinja2 in a sandbox: templates see nothing but values, change none of them, and are bounded in what they do.

Owns the two environments: for texts in YAML, and for template files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jinja2
from jinja2 import nodes
from jinja2.lexer import Lexer
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from provisioner.config.bounds import bounded, bounded_format, bounded_method, bounded_number, bounded_power
from provisioner.config.taint import derived, holds_secret
from provisioner.config.values import Missing, UndefinedVariableError, absent, finished
from provisioner.config.variables import MISSING, Evaluator, Frame
from provisioner.secrets import Secret, are_known, is_secret

__all__ = ["FrameContext", "InlineEnvironment", "WholeEnvironment"]

_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_STR_METHODS = frozenset(name for name in dir(str) if not name.startswith("_"))
_LIST_METHODS = frozenset(name for name in dir(list) if not name.startswith("_"))
_EXTENSIONS = ("jinja2.ext.do", "jinja2.ext.loopcontrols")


class Owner(Protocol):
    """What an environment asks of the engine that it belongs to."""

    evaluator: Evaluator

    def charge(self, work: int) -> None:
        """Count work that a template does. Raises FilterError when it is too much."""

    def beside(self, name: str, parent: str) -> Path:
        """The file that a template file means by a name."""


class FrameContext(Context):
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
        # What Context does, but for the parts that are the same for every template: this is made for each value.
        self.parent = parent
        self.vars: dict[str, Any] = {}
        self.environment = environment
        self.eval_ctx = environment.plain_eval_context if name is None else nodes.EvalContext(environment, name)
        self.exported_vars: set[str] = set()
        self.name = name
        self.globals_keys = set(globals) if globals is not None else set()
        self.blocks = {block: [render] for block, render in blocks.items()} if blocks else {}
        self.frame = frame

    def derived(self, locals: dict[str, Any] | None = None) -> Context:
        made = FrameContext(self.environment, {**self.get_all(), **(locals or {})}, self.name, {}, None, self.frame)
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
        return FrameContext(
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
    context_class = FrameContext
    template_class = _Template
    concat = staticmethod(lambda parts: _joined([part for part in parts if part is not None]))
    intercepted_binops = frozenset(["*", "**", "+", "-", "/", "//", "%"])

    def __init__(self, templates: Owner, **options: Any) -> None:
        super().__init__(
            undefined=Missing,
            finalize=finished,
            autoescape=False,
            trim_blocks=True,
            keep_trailing_newline=True,
            extensions=_EXTENSIONS,
            **options,
        )
        self.templates = templates
        self.plain_eval_context = nodes.EvalContext(self)
        self.globals.pop("lipsum", None)
        self.filters["_counted"] = lambda items: _Counted(items, templates)
        self.filters["_joined"] = _joined

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
            found = obj[argument]
            return Secret(found) if is_secret(obj) else found
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
            bounded_number(left, right)
        elif operator == "**":
            bounded_power(left, right)
        elif operator == "%" and isinstance(left, str):
            bounded_format(left)
        elif operator == "+" and isinstance(left, (str, list)) and isinstance(right, (str, list)):
            bounded(len(left) + len(right), items=isinstance(left, list))
        made = super().call_binop(context, operator, left, right)
        return derived(made, (left, right)) if are_known() else made

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
            bounded_method(owner, getattr(method, "__name__", ""), args, kwargs)
        made = super().call(__context, __obj, *args, **kwargs)
        if isinstance(owner, (str, list, dict)) and are_known():
            return derived(made, (owner, *args, *kwargs.values()))
        return made

    def join_path(self, template: str, parent: str) -> str:
        return str(self.templates.beside(template, parent))


class WholeEnvironment(_Environment):
    """Template files."""

    def __init__(self, templates: Owner, load: Callable[[str], tuple[str, str, Callable[[], bool]]]) -> None:
        super().__init__(templates, loader=jinja2.FunctionLoader(load))


class InlineEnvironment(_Environment):
    """Templates in YAML."""

    @property
    def lexer(self) -> Lexer:
        return self._plain_lexer

    @cached_property
    def _plain_lexer(self) -> Lexer:
        return _PlainBackslashes(self)


class _Counted:
    """The items of a loop, with every round charged."""

    __slots__ = ("items", "templates")

    def __init__(self, items: Any, templates: Owner) -> None:
        if isinstance(items, Missing):
            items.fail()
        self.items = items
        self.templates = templates

    def __iter__(self) -> Iterator[Any]:
        charge = self.templates.charge
        for item in self.items:
            charge(1)
            yield Secret(item) if is_secret(self.items) else item

    def __len__(self) -> int:
        return len(self.items)


def _joined(parts: Iterable[Any]) -> str:
    """The ``~`` of Jinja, bounded."""
    for part in parts:
        if isinstance(part, Missing):
            part.fail()
    texts = [str(part) for part in parts]
    bounded(sum(map(len, texts)))
    joined = "".join(texts)
    return Secret(joined) if any(map(holds_secret, parts)) else joined
