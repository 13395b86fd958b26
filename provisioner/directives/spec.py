"""Resources whose fields are directives: each one under its own name, beside the fields that a kind declares.

Owns how directives are taken out of a task, made canonical, compared, and checked against a host's systemd.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from provisioner import directives
from provisioner.directives import BadValue, Value
from provisioner.directives.signatures import mismatch, settings_of
from provisioner.directives.syntax import Choice
from provisioner.isolation.credentials import refused
from provisioner.model import Address, Change, Desired, Effect, Issue, Resource, bad, jsonable
from provisioner.secrets import Paths

__all__ = ["Directives", "Part", "compared"]


def canonical_fields(fields: Mapping[str, Any], own: Mapping[str, Any], unit_type: str) -> dict[str, Any]:
    """A task's fields with the directives among them made canonical.

    ``own`` are the fields that the model declares itself. Raises ValidationError with an error for each
    directive that is wrong, at its own name.
    """
    made: dict[str, Any] = {}
    errors: list[InitErrorDetails] = []
    for key, value in fields.items():
        if key in own or value is None:
            made[key] = value
            continue
        try:
            if key not in directives.known(unit_type):
                raise directives.unknown(unit_type, key, own)
            name, value = _rewritten(key, value)
            for one in directives.short_for(unit_type, name):
                made[one] = directives.canonical(unit_type, one, value)
        except BadValue as error:
            errors.append(InitErrorDetails(type=bad(error.message, error.hint), loc=(key,), input=value))
    if errors:
        raise ValidationError.from_exception_data(unit_type, errors)
    return made


def _rewritten(name: str, value: Any) -> tuple[str, Any]:
    """Text that a service reads is kept by systemd as data."""
    if name != "StandardInputText":
        return name, value
    import base64

    from provisioner.directives.values import c_unescape

    texts = directives.assignments(value, many=False)
    return "StandardInputData", base64.b64encode(b"".join(c_unescape(text) + b"\n" for text in texts)).decode()


class Part(BaseModel):
    """The directives of a unit that another one brings along: a service's socket or timer."""

    model_config = ConfigDict(frozen=True, extra="allow")

    unit_type: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, fields: Any) -> Any:
        return canonical_fields(fields, {}, cls.unit_type) if isinstance(fields, Mapping) else fields

    @property
    def directives(self) -> dict[str, Value]:
        return {name: _value(value) for name, value in (self.__pydantic_extra__ or {}).items() if value is not None}


class Directives(Resource):
    """A resource with directives of systemd beside its own fields."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    #: The fields that a secret may stand in.
    may_be_secret: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def unit_type_of(cls, fields: Mapping[str, Any]) -> str:
        """The type of unit that a task's fields are for, ``service`` or ``slice``."""
        raise NotImplementedError

    @property
    def unit_type(self) -> str:
        return self.name.rpartition(".")[2]

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        return canonical_fields(fields, cls.model_fields, cls.unit_type_of(fields))

    @property
    def directives(self) -> dict[str, Value]:
        """The directives that are managed, in their canonical values."""
        return {name: _value(value) for name, value in (self.__pydantic_extra__ or {}).items() if value is not None}

    def effect_of_directive(self, name: str) -> Effect:
        """What changing a directive does to what runs."""
        if directives.directive(self.unit_type, name).live:
            return Effect.LIVE
        return Effect.RESTART

    def directive_changes(self, current: Directives, last: Directives | None) -> list[Change]:
        """The directives that differ; one that has left the configuration goes back to systemd's default."""
        before = last.directives if last is not None else {}
        return [
            Change(name, jsonable(found), jsonable(wanted), self.effect_of_directive(name))
            for name, found, wanted in compared(self.unit_type, self.directives, current.directives, before)
        ]

    @classmethod
    def refuse_secrets(cls, secrets: Paths, fields: Mapping[str, Any]) -> Iterable[Issue]:
        """systemd shows the directives of a unit to everybody."""
        return refused(secrets, fields, cls.may_be_secret)

    @classmethod
    def observed(cls, **fields: Any) -> Self:
        """A resource of values that are canonical already."""
        return cls.model_construct(**fields)

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        """What an update ends in; directives that have left the configuration are not in it."""
        changed = {change.field for change in changes}
        fields = {}
        for name in type(self).model_fields:
            wanted = getattr(self, name)
            keep = wanted is None and name not in changed
            fields[name] = getattr(current, name, None) if keep else wanted
        theirs = current.directives if isinstance(current, Directives) else {}
        kept = {name: value for name, value in theirs.items() if name not in changed}
        return type(self).observed(**fields, **{**kept, **self.directives})

    @classmethod
    def audit_all(cls, desired: Desired, facts: Mapping[str, Any] | None) -> Iterable[tuple[Address, Issue]]:
        """Limits that do not fit together in the tree of slices, or that this host cannot hold."""
        from provisioner.limits.checks import issues

        return issues(desired, facts, cls)

    def questions(self) -> Iterable[str]:
        from provisioner.limits.checks import questions

        if self.directives:
            yield f"signatures {self.unit_type}"
            yield from questions(self.directives)

    def check_host(self, facts: Mapping[str, Any]) -> Iterable[Issue]:
        """Directives that this host's systemd is too old for, or has in another form."""
        yield from check_directives(self.unit_type, self.directives, facts)


def _value(value: Any) -> Value:
    return tuple(value) if isinstance(value, (list, tuple)) else str(value)


def compared(
    unit_type: str, wanted: Mapping[str, Value], found: Mapping[str, Value], last: Mapping[str, Value]
) -> Iterable[tuple[str, Value | None, Value | None]]:
    """The directives that differ, each with what is there and what shall be (None: systemd's default)."""
    for name, value in wanted.items():
        there = found.get(name)
        syntax = directives.directive(unit_type, name).syntax
        if there is None:
            if value != syntax.unset or value == "infinity":
                yield name, None, value
        elif not directives.same(syntax, value, there):
            yield name, there, value
    for name in last:
        there = found.get(name)
        syntax = directives.directive(unit_type, name).syntax
        if name not in wanted and there is not None and (syntax.varies or there != syntax.unset):
            yield name, there, None


def check_directives(
    unit_type: str, wanted: Mapping[str, Value], facts: Mapping[str, Any], prefix: str = ""
) -> Iterable[Issue]:
    """What the host's systemd cannot do of these directives of a type of unit."""
    version = facts.get("systemd")
    there = (facts.get("answers") or {}).get(f"signatures {unit_type}") or {}
    for name, value in wanted.items():
        too_new = directives.check(name, int(version)) if version is not None else None
        if too_new:
            since = directives.directive(unit_type, name).since
            hint = f"leave it out for this host (`when: host.systemd >= {since}`), or upgrade it"
            yield Issue(too_new, prefix + name, hint)
            continue
        for setting in settings_of(unit_type, name, value) if there else ():
            wrong = mismatch(setting, there)
            if wrong:
                chosen = isinstance(directives.directive(unit_type, name).syntax, Choice)
                what = f"{name} cannot be {value}" if chosen else f"{name} cannot be set"
                hint = f"another value may be right, or leave it out for this host (`when: host.systemd != {version}`)"
                yield Issue(f"{what}: {wrong}", prefix + name, hint)
