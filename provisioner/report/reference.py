"""What each kind is and takes, read from its spec: for ``nsprov explain`` and the reference pages.

Pure: kinds in, values and text out. There is one source of this knowledge, the specs in ``resources``; nothing
here names a kind.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, get_args

from pydantic import AliasChoices, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from provisioner.model import Effect, Expect

if TYPE_CHECKING:
    from pydantic import BaseModel

    from provisioner.model import Kind, Resource

__all__ = [
    "GENERATED",
    "FieldEntry",
    "KindEntry",
    "entry_of",
    "expect_entry",
    "field_text",
    "index_text",
    "kind_text",
    "pages",
    "schema_of",
    "task_text",
]

#: What a change of a field does to what runs, in words.
EFFECTS: Mapping[Effect, str] = {
    Effect.LIVE: "changed in place; nothing restarts",
    Effect.RESTART: "restarts the workload",
    Effect.REPLACE: "replaces the resource, and what lives in it",
}

_WIDTH = 88


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """One field of a spec, as a reader of the reference sees it."""

    name: str
    type: str
    doc: str
    required: bool = False
    default: Any = None
    #: None for what is no part of a resource (`expect`): changing it does nothing to what runs.
    effect: Effect | None = Effect.LIVE
    examples: tuple[Any, ...] = ()
    fields: tuple[FieldEntry, ...] = ()
    #: systemd's own directives, where it takes them.
    directives: tuple[FieldEntry, ...] = ()
    #: Whether it is a part of the resource's address.
    identifies: bool = False

    @property
    def changing(self) -> str:
        """What changing it does to what runs."""
        if self.effect is None:
            return ""
        return "makes it another resource" if self.identifies else EFFECTS[self.effect]

    @property
    def given(self) -> str:
        """Whether it must be given, or what holds when it is not."""
        if self.required:
            return "required"
        if self.default is not None:
            return f"default {_yaml(self.default)}"
        return "may be left out" if self.effect is None else "not managed when left out"


@dataclass(frozen=True, slots=True)
class KindEntry:
    """One kind, as a reader of the reference sees it."""

    name: str
    summary: str
    about: str
    fields: tuple[FieldEntry, ...]
    #: systemd's own directives, where the kind takes them beside its fields.
    directives: tuple[FieldEntry, ...] = ()
    #: A task's fields that are right together.
    example: Mapping[str, Any] = field(default_factory=dict)

    def field(self, path: str) -> FieldEntry:
        """The field at a dotted path (``peer.addresses``). Raises KeyError with the part that is unknown."""
        fields = self.fields + self.directives
        found: FieldEntry | None = None
        for part in path.split("."):
            found = next((one for one in fields if one.name == part), None)
            if found is None:
                raise KeyError(part)
            fields = found.fields + found.directives
        assert found is not None
        return found


def entry_of(kind: Kind[Any]) -> KindEntry:
    """What the reference says of a kind."""
    schema = schema_of(kind.resource)
    summary, about = _docstring(kind.resource)
    naming = {"name", _name_in_tasks(kind.resource)} | ({"netns"} if kind.resource.is_named_in_namespace() else set())
    parts = _parts(kind.resource)
    fields = tuple(
        replace(one, identifies=one.name in naming, directives=parts.get(one.name, ()))
        for one in _fields(schema, schema.get("$defs", {}))
    )
    example = (schema.get("examples") or [None])[0] or _example_of(kind, fields)
    return KindEntry(kind.name, summary, about, fields, tuple(_directives(kind.resource)), example)


def expect_entry() -> KindEntry:
    """What the reference says of `expect`, which a task may be instead of a resource."""
    schema = schema_of(Expect)
    summary, about = _docstring(Expect)
    fields = tuple(replace(one, effect=None) for one in _fields(schema, schema.get("$defs", {})))
    return KindEntry("expect", summary, about, fields, example=schema["examples"][0])


def _name_in_tasks(resource: type[Resource]) -> str:
    """How a task calls the field that names the resource."""
    alias = resource.model_fields["name"].validation_alias
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return str(first or "name")


class _AsWritten(GenerateJsonSchema):
    """Keeps the order in which the examples of a mapping are written."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a spec, as its author wrote it."""
    return model.model_json_schema(schema_generator=_AsWritten)


def _docstring(owner: type) -> tuple[str, str]:
    summary, _, about = cleandoc(owner.__doc__ or "").replace("``", "`").partition("\n\n")
    return " ".join(summary.split()), about.strip()


# -- systemd's directives ---------------------------------------------------------------------------


def _directives(resource: type[Resource]) -> Iterator[FieldEntry]:
    """The directives that a kind takes, as fields."""
    from provisioner.directives.spec import Directives

    if issubclass(resource, Directives):
        unit_type = resource.unit_type_of({})
        effect_of = resource.model_construct(name=f"any.{unit_type}").effect_of_directive
        for one in _directives_of(unit_type):
            yield replace(one, effect=effect_of(one.name))


def _parts(resource: type[Resource]) -> dict[str, tuple[FieldEntry, ...]]:
    """The directives of the fields that are units themselves, by the field's name."""
    from provisioner.directives.spec import Part

    made = {}
    for name, info in resource.model_fields.items():
        for part in (info.annotation, *get_args(info.annotation)):
            if isinstance(part, type) and issubclass(part, Part):
                made[name] = tuple(_directives_of(part.unit_type, resource.effect_of(name)))
    return made


def _directives_of(unit_type: str, effect: Effect = Effect.LIVE) -> Iterator[FieldEntry]:
    from provisioner.directives import known

    # Those of the unit's own page come first: they are what it is about.
    for one in sorted(known(unit_type).values(), key=lambda one: (one.group != unit_type, one.group, one.name)):
        since = f", since systemd {one.since}" if one.since else ""
        doc = f"{manual_of(one.group)}{since}{_of_kernel(one.name)}"
        yield FieldEntry(one.name, one.syntax.expects, doc, effect=effect)


def _of_kernel(directive: str) -> str:
    """Which controller a limit needs, and where the kernel has it."""
    from provisioner.directives.kernel import FILE_OF
    from provisioner.limits.controllers import CONTROLLERS

    needed = next((controller for controller, names in CONTROLLERS.items() if directive in names), None)
    told = f", needs the cgroup v2 controller {needed}" if needed else ""
    return f"{told}, is in {FILE_OF[directive]}" if directive in FILE_OF else told


def manual_of(group: str) -> str:
    """The manual page of a group of directives."""
    return f"systemd.{group}(5)"


# -- from JSON Schema to fields -------------------------------------------------------------------


def _fields(schema: Mapping[str, Any], defs: Mapping[str, Any], effect: Effect = Effect.LIVE) -> Iterator[FieldEntry]:
    """The fields of a schema; those that say nothing of what changing them does are as what they are in."""
    required = schema.get("required", ())
    for name, one in schema.get("properties", {}).items():
        inner = _mapping_in(one, defs)
        own = Effect(one.get("effect", effect))
        yield FieldEntry(
            name=name,
            type=_type(one, defs),
            doc=" ".join(one.get("description", "").replace("``", "`").split()),
            required=name in required,
            default=one.get("default"),
            effect=own,
            examples=tuple(one.get("examples") or ()),
            fields=tuple(_fields(inner, defs, own)) if inner else (),
        )


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def _alternatives(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be, but for null: that a field may be left out is said elsewhere."""
    schema = _resolved(schema, defs)
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    flat = [one for option in options for one in (_alternatives(option, defs) if len(options) > 1 else [option])]
    return [_resolved(one, defs) for one in flat if one.get("type") != "null"]


def _mapping_in(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mapping that a field is, or is a list of, where it has named keys."""
    for option in _alternatives(schema, defs):
        if "properties" in option:
            return option
        if option.get("type") == "array" and "items" in option:
            inner = _mapping_in(option["items"], defs)
            if inner:
                return inner
    return None


_PLAIN_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "yes or no"}


def _type(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_one_type(one, defs) for one in _alternatives(schema, defs))) or "any"


def _one_type(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items') or _first(schema), defs)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"mapping of {_type(values, defs)}" if isinstance(values, dict) and values else "mapping"
    return _PLAIN_TYPES.get(str(kind), "any")


def _first(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    items = schema.get("prefixItems") or [{}]
    return items[0] if isinstance(items[0], dict) else {}


# -- examples -------------------------------------------------------------------------------------


def _example_of(kind: Kind[Any], fields: Sequence[FieldEntry]) -> dict[str, Any]:
    """The examples of the fields, as far as they are right together."""
    made = {one.name: _example_value(one, f"{kind.name}0") for one in fields if one.required}
    for one in fields:
        if one.examples and not one.required and _is_right(kind, {**made, one.name: one.examples[0]}):
            made[one.name] = one.examples[0]
    return {one.name: made[one.name] for one in fields if one.name in made}


def _example_value(entry: FieldEntry, name: str) -> Any:
    if entry.examples or not entry.fields:
        return entry.examples[0] if entry.examples else name
    return {one.name: _example_value(one, name) for one in entry.fields if one.examples or one.required}


def _is_right(kind: Kind[Any], fields: Mapping[str, Any]) -> bool:
    try:
        kind.resource.model_validate(fields)
    except ValidationError:
        return False
    return True


def task_text(entry: KindEntry) -> str:
    """The example of a kind, as a task in YAML."""
    return "\n".join([f"- {entry.name}:", *_yaml_lines(entry.example, 4)])


def _yaml(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if value and value.isprintable() and not _needs_quotes(value) else json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _needs_quotes(text: str) -> bool:
    import yaml

    try:
        return bool(yaml.safe_load(f"[{text}]") != [text])
    except yaml.YAMLError:
        return True


def _yaml_lines(fields: Mapping[str, Any], indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, value in fields.items():
        flat = _yaml(value)
        if isinstance(value, str) and "\n" in value:
            yield f"{pad}{name}: |"
            yield from textwrap.indent(value.rstrip("\n"), pad + "  ").splitlines()
        elif isinstance(value, Mapping) and len(flat) + indent > 60:
            yield f"{pad}{name}:"
            yield from _yaml_lines(value, indent + 2)
        else:
            yield f"{pad}{name}: {flat}"


# -- text for a terminal --------------------------------------------------------------------------


def index_text(entries: Sequence[KindEntry]) -> str:
    """The kinds, one line each."""
    wide = max((len(one.name) for one in entries), default=0)
    lines = [f"  {one.name:<{wide}}  {one.summary}" for one in entries]
    return "\n".join(["The kinds of resources that a task may declare:", "", *lines])


def kind_text(entry: KindEntry) -> str:
    """A kind with all of its fields, for a terminal."""
    parts = [f"{entry.name}: {entry.summary}"]
    if entry.about:
        parts.append(entry.about)
    parts.append("FIELDS")
    parts.extend(textwrap.indent(_field_lines(entry.name, one), "  ") for one in entry.fields)
    parts.extend(_directive_lines(entry))
    parts.append("EXAMPLE")
    parts.append(textwrap.indent(task_text(entry), "  "))
    return "\n\n".join(parts)


def _directive_lines(entry: KindEntry | FieldEntry) -> Iterator[str]:
    if entry.directives:
        yield "DIRECTIVES OF SYSTEMD, by their own names and in their own syntax"
    for page, names in directives_by_manual(entry).items():
        yield textwrap.fill(f"{page}: {', '.join(names)}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def directives_by_manual(entry: KindEntry | FieldEntry) -> dict[str, list[str]]:
    """The names of the directives of a kind or a field, by the manual page that describes them."""
    found: dict[str, list[str]] = {}
    for one in entry.directives:
        found.setdefault(one.doc.partition(",")[0], []).append(one.name)
    return found


def field_text(kind: str, path: str, entry: FieldEntry) -> str:
    """One field, with the fields inside it, for a terminal."""
    parts = [_field_lines("", entry, name=f"{kind}.{path}")]
    if entry.fields:
        parts.append("FIELDS")
        parts.extend(textwrap.indent(_field_lines(f"{kind}.{path}", one), "  ") for one in entry.fields)
    parts.extend(_directive_lines(entry))
    return "\n\n".join(parts)


def _field_lines(parent: str, entry: FieldEntry, *, name: str | None = None) -> str:
    lines = [f"{name or entry.name}  <{entry.type}>  {entry.given}"]
    lines += textwrap.wrap(entry.doc, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    if entry.changing:
        lines.append(f"    changing it: {entry.changing}")
    if entry.examples:
        lines.append("    for example: " + "   ".join(_yaml(one) for one in entry.examples))
    if (entry.fields or entry.directives) and parent:
        lines.append(f"    its {'fields' if entry.fields else 'directives'}: nsprov explain {parent}.{entry.name}")
    return "\n".join(lines)


# -- Markdown pages -------------------------------------------------------------------------------

#: How each page begins.
GENERATED = "<!-- Written by `nsprov explain --write docs/reference`; change the spec, not this page. -->\n"


def pages(kinds: Mapping[str, Kind[Any]]) -> dict[str, str]:
    """The reference pages by file name: an index, and one page a kind."""
    entries = [*(entry_of(kind) for kind in kinds.values()), expect_entry()]
    made = {f"{entry.name}.md": _page(entry) for entry in entries}
    rows = [f"| [`{one.name}`]({one.name}.md) | {one.summary} |" for one in entries]
    made["README.md"] = "\n".join(
        [
            GENERATED,
            "# Kinds of resources",
            "",
            "Each task of a role declares one resource of one of these kinds; `expect` is none, but states who reaches",
            "whom. `nsprov explain KIND` shows the same in a terminal, and `nsprov explain --format json-schema`",
            "gives editors the schema of a task file.",
            "",
            "| kind | what it is |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )
    return made


def _page(entry: KindEntry) -> str:
    parts = [GENERATED, f"# {entry.name}", "", entry.summary, ""]
    if entry.about:
        parts += [entry.about, ""]
    parts += ["```yaml", task_text(entry), "```", "", *_table(entry.fields)]
    for path, one in _nested("", entry.fields):
        parts += ["", f"## {path}", "", *_table(one.fields)]
    if entry.directives:
        parts += ["", "## Directives of systemd", *_directive_paragraphs(entry.name, entry)]
    for one in entry.fields:
        if one.directives:
            parts += ["", f"## Directives of {one.name}", *_directive_paragraphs(f"{entry.name}.{one.name}", one)]
    return "\n".join([*parts, ""])


def _directive_paragraphs(path: str, entry: KindEntry | FieldEntry) -> Iterator[str]:
    told = f"`nsprov explain {path}.DIRECTIVE` says what one takes, and since when."
    yield from ("", f"By their own names and in their own syntax. {told}")
    for manual, names in directives_by_manual(entry).items():
        yield from ("", f"**{manual}**: {', '.join(f'`{name}`' for name in names)}")


def _nested(parent: str, fields: Sequence[FieldEntry]) -> Iterator[tuple[str, FieldEntry]]:
    for one in fields:
        if one.fields:
            path = f"{parent}{one.name}"
            yield path, one
            yield from _nested(f"{path}.", one.fields)


def _table(fields: Sequence[FieldEntry]) -> list[str]:
    rows = ["| field | type | when left out | what it is | changing it |", "| --- | --- | --- | --- | --- |"]
    for one in fields:
        left_out = one.given.removesuffix(" when left out")
        if one.default is not None:
            left_out = f"`{_yaml(one.default)}`"
        doc = f"{one.doc}. For example `{_yaml(one.examples[0])}`." if one.examples else one.doc
        cells = (f"`{one.name}`", one.type, left_out, doc, one.changing)
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return rows
