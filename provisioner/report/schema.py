"""The JSON Schema of a role's task files, for editors and linters; from the same specs as the reference.

Pure, and names no kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices

from provisioner.model import Expect
from provisioner.report.reference import FieldEntry, entry_of, schema_of

if TYPE_CHECKING:
    from provisioner.model import Kind, Resource

__all__ = ["task_schema"]

#: A template stands for a value of any type until it is rendered.
_TEMPLATE = {"type": "string", "pattern": r"\{[\{%]"}


def task_schema(kinds: Mapping[str, Kind[Any]]) -> dict[str, Any]:
    """The JSON Schema of a role's task file, for editors and linters."""
    defs: dict[str, Any] = {"template": _TEMPLATE}
    properties: dict[str, Any] = {**_KEYWORDS, **_ACTIONS}
    for name, kind in kinds.items():
        entry = entry_of(kind)
        properties[name] = _kind_schema(name, _with_aliases(kind.resource), defs)
        properties[name]["description"] = entry.summary
        if entry.directives:
            properties[name]["properties"] |= {one.name: _directive(one) for one in entry.directives}
            properties[name]["additionalProperties"] = False
        properties[name] = _whole_or_template(properties[name])
    properties["expect"] = _whole_or_template(_kind_schema("expect", schema_of(Expect), defs))
    one_of = [*kinds, "expect", *_ACTIONS]
    defs["task"] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in one_of],
    }
    defs["tasks"] = {"type": "array", "items": {"$ref": "#/$defs/task"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tasks of an nsprov role",
        "type": ["array", "null"],
        "items": {"$ref": "#/$defs/task"},
        "$defs": defs,
    }


_TEXT = {"type": "string"}
_FILE = {"anyOf": [_TEXT, {"type": "object", "properties": {"file": _TEXT}, "required": ["file"]}]}
_ROLE = {
    "type": "object",
    "properties": {"name": _TEXT, "tasks_from": _TEXT, "defaults_from": _TEXT, "vars_from": _TEXT},
    "required": ["name"],
}
_CONDITION = {"anyOf": [_TEXT, {"type": "boolean"}]}
_WHEN = {"anyOf": [_TEXT, {"type": "boolean"}, {"type": "array", "items": _CONDITION}]}

#: What a task may say beside the kind that it declares.
_KEYWORDS: Mapping[str, Any] = {
    "name": {"type": "string", "description": "what the task is for; shown in plans"},
    "when": _WHEN,
    "loop": {"description": "the list (or a template that gives it) that the task is repeated for"},
    "loop_control": {
        "type": "object",
        "properties": {"loop_var": _TEXT, "index_var": _TEXT, "label": _TEXT},
    },
    "vars": {"type": "object", "description": "variables of this task alone"},
    "no_log": {"type": "boolean", "description": "whether no field of it is shown, in plans or anywhere else"},
    "tags": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
}

#: What a task may be but the declaration of a resource or of reachability.
_ACTIONS: Mapping[str, Any] = {
    "assert": {
        "type": "object",
        "description": "what must be so before anything is touched",
        "properties": {"that": _WHEN, "fail_msg": _TEXT, "msg": _TEXT},
        "required": ["that"],
    },
    "fail": {"type": ["object", "null"], "properties": {"msg": _TEXT}},
    "block": {"$ref": "#/$defs/tasks"},
    "include_tasks": _FILE,
    "import_tasks": _FILE,
    "include_role": _ROLE,
    "import_role": _ROLE,
}


def _directive(entry: FieldEntry) -> dict[str, Any]:
    return {
        "description": f"{entry.doc}; {entry.type}",
        "type": ["string", "number", "boolean", "array", "object"],
    }


def _with_aliases(resource: type[Resource]) -> dict[str, Any]:
    """The schema of a spec, with every word that a task may use for a field."""
    schema = schema_of(resource)
    required = set(schema.get("required", ()))
    for name, info in resource.model_fields.items():
        alias = info.validation_alias
        choices = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else []
        for other in choices[1:]:
            schema["properties"][other] = schema["properties"][choices[0]]
        if choices:
            required.discard(choices[0])
        if name == "name" and not info.is_required():
            required = set()  # it is named by another field, and may be written under either name
    schema["required"] = sorted(required)
    return schema


def _whole_or_template(schema: dict[str, Any]) -> dict[str, Any]:
    """All the fields of a task may be one template."""
    description = schema.pop("description", "")
    return {"description": description, "anyOf": [schema, {"$ref": "#/$defs/template"}]}


def _kind_schema(prefix: str, schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """A kind's own schema with its definitions moved to ``defs``, and a template allowed for every value."""
    for name, one in schema.pop("$defs", {}).items():
        defs[f"{prefix}.{name}"] = _templated(one, prefix)
    made = _templated(schema, prefix)
    made.pop("title", None)
    return made


def _templated(schema: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: _or_template(one, prefix) for name, one in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            made[key] = _or_template(value, prefix)
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            made[key] = [_templated(one, prefix) for one in value]
        elif key == "$ref":
            made[key] = f"#/$defs/{prefix}.{value.rsplit('/', 1)[-1]}"
        elif key == "type" and value == "string":
            made[key] = ["string", "number"]  # numbers are taken as they are written
        elif key != "effect":
            made[key] = value
    return made


def _or_template(schema: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    inner = _templated(schema, prefix)
    inner.pop("title", None)
    outer: dict[str, Any] = {key: inner.pop(key) for key in ("description", "default", "examples") if key in inner}
    return {**outer, "anyOf": [inner, {"$ref": "#/$defs/template"}]} if inner else outer
