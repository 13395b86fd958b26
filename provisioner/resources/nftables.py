"""The kind ``nftables``: one table of the packet filter, in a namespace or on the host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AliasChoices, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from provisioner.errors import ConfigError, Problem, did_you_mean
from provisioner.model import Action, Change, Check, Driver, Issue, Resource, StepResult, bad, spec
from provisioner.network import NetnsName, interface_address
from provisioner.resources import register
from provisioner.rulesets import NftTable, Rejected, Ruleset, Write, check_ruleset, count_lines, statements_of
from provisioner.secrets import Paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from provisioner.host import Host
    from provisioner.model import Address, Desired, Scope, Step, TaskContext

__all__ = ["Nftables"]

_FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
_DEVICES = re.compile(r"\bdevices?\s*=?\s*(\{[^}]*\}|\S+)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,255}")


class Nftables(Resource):
    """A table of the packet filter (nftables), owned whole and replaced in one transaction."""

    kind: ClassVar[str] = "nftables"

    name: str = spec(
        ...,
        doc="the table: its family and its name",
        examples=["inet filter", "ip nat"],
        validation_alias=AliasChoices("table", "name"),
    )
    netns: NetnsName | None = spec(
        None, doc="the namespace that it filters in; left out, the host's own", examples=["blue"]
    )
    ruleset: str = spec(
        ...,
        doc="the table's content in nft's syntax, or the whole `table … { … }` block, perhaps after `define`s; "
        "what sets flagged `dynamic` or `timeout` contain is loaded, but not compared",
        examples=["chain input {\n  type filter hook input priority filter; policy drop;\n  tcp dport 80 accept\n}\n"],
    )
    #: What nft makes of the declared ruleset: set by an observation that found another one, for the diff.
    declared_as: SkipJsonSchema[str | None] = spec(None, doc="read from the host; not to be written")

    @field_validator("name", mode="after")
    @classmethod
    def _family_and_name(cls, value: str) -> str:
        words = value.split() or [""]
        family, name = ("ip", words[0]) if len(words) == 1 else (words[0], words[-1])
        if family not in _FAMILIES:
            raise bad(f"'{family}' is not a family of tables", did_you_mean(family, _FAMILIES))
        if len(words) not in (1, 2) or not _NAME.fullmatch(name):
            raise bad(f"'{value}' does not name a table", "write the family and the name: inet filter")
        return f"{family} {name}"

    @field_validator("ruleset", mode="after")
    @classmethod
    def _is_one_table(cls, value: str, info: ValidationInfo) -> str:
        text = "\n".join(line.rstrip() for line in value.splitlines()).rstrip("\n") + "\n"
        check_ruleset(text, info.data.get("name"))
        return text

    @classmethod
    def prepare(cls, fields: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        if "declared_as" in fields:
            raise ConfigError(
                Problem("nftables has no field 'declared_as' that could be written", context.source, "write `ruleset`")
            )
        return fields

    def block(self) -> tuple[str, int]:
        """The whole table as nft reads it, and how many lines of it stand before the ruleset's first."""
        if any(one.word == "table" for one in statements_of(self.ruleset) if one.depth == 0):
            return self.ruleset, 0
        return f"table {self.name} {{\n{self.ruleset}}}\n", 1

    def _devices(self) -> Iterator[Address]:
        """The interfaces that its chains are hooked to by name: the kernel takes such a chain away with them."""
        text, _ = self.block()
        for one in statements_of(text):
            if one.depth == 2 and one.word == "type" and (found := _DEVICES.search(one.text)):
                for word in re.split(r"[\s,{}]+", found[1]):
                    if name := word.strip('"'):
                        yield interface_address(self.netns, name)

    def lives_in(self) -> Iterable[Address]:
        return [*super().lives_in(), *self._devices()]

    def follows(self) -> Iterable[Address]:
        return list(self._devices())

    def audit(self, desired: Desired) -> Iterable[Issue]:
        text, before = self.block()
        for one in statements_of(text):
            if one.depth == 1 and one.word == "flags" and "owner" in one.text:
                message = f"line {one.line - before} of the ruleset: a table flagged 'owner' goes when nsprov ends"
                yield Issue(message, "ruleset", "leave the flag out")

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        if not isinstance(current, Nftables) or current.ruleset == self.ruleset:
            return []
        return [Change("ruleset", current.ruleset, current.declared_as or self.ruleset)]

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        return self

    def secret_fields(self, secrets: Paths) -> Paths:
        """What nft makes of a ruleset says what the ruleset does."""
        return secrets | {("declared_as",)} if ("ruleset",) in secrets else secrets

    def summary(self) -> list[tuple[str, str]]:
        return [("ruleset", "; ".join([f"{count_lines(self.ruleset)} lines", *self._contents()]))]

    def _contents(self) -> list[str]:
        """What the table has, by type: ``chains input, forward``."""
        named: dict[str, list[str]] = {}
        for word, name in self._objects():
            named.setdefault(word, []).append(name)
        return [f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}" for word, names in named.items()]

    def _objects(self) -> Iterator[tuple[str, str]]:
        text, _ = self.block()
        for one in statements_of(text):
            words = one.text.split()
            if one.depth == 1 and one.word in ("chain", "set", "map", "flowtable") and len(words) > 1:
                yield one.word, words[1]

    def checks(self) -> Iterable[Check]:
        family, name = self.name.split()
        listing = f"nft_list(host, {self.netns!r}, {family!r}, {name!r})"
        yield Check(f"{self.address} is loaded", f"assert {f'table {self.name}'!r} in {listing}")
        for word, called in self._objects():
            yield Check(f"{self.address} has {word} {called}", f"assert {f'{word} {called} {{'!r} in {listing}")


# -- the driver -----------------------------------------------------------------------------------


class NftablesDriver(Driver[Nftables]):
    """Reads tables as the kernel lists them, and replaces each in one transaction."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Nftables]:
        wanted = scope.of("nftables")
        if not wanted:
            return []
        known = {address: [one for one in specs if isinstance(one, Nftables)] for address, specs in wanted.items()}
        canonical = host.nft.canonical(_ruleset(one) for specs in known.values() for one in specs)
        problems = []
        for address, specs in known.items():
            made = canonical[_ruleset(specs[0])] if specs else None
            if isinstance(made, Rejected) and address not in scope.undeclared:
                problems.append(Problem(f"{address}: nft does not take this ruleset: {made.reason}"))
        if problems:
            raise ConfigError(problems)
        tables = {address: NftTable(address.netns, *address.name.split()) for address in known}
        listings = host.nft.listings(tables.values())
        found = []
        for address, table in tables.items():
            if table in listings:
                forms = [(one, canonical[_ruleset(one)]) for one in known[address]]
                found.append(_observed(table, listings[table], forms))
        return found

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        for step, error in zip(steps, host.nft.carry_out([_write(step) for step in steps]), strict=True):
            yield StepResult(step.address) if error is None else StepResult(step.address, str(error), error.code)


def _observed(table: Any, listing: str, forms: Sequence[tuple[Nftables, Any]]) -> Nftables:
    """The table in the words of the spec that it equals, or in nft's own."""
    for one, canonical in forms:
        if canonical == listing:
            return one.model_copy(update={"declared_as": None})
    wanted = forms[0][1] if forms and isinstance(forms[0][1], str) else None
    return Nftables(name=str(table), netns=table.netns, ruleset=listing, declared_as=wanted)


def _write(step: Step) -> Write:
    table = NftTable(step.address.netns, *step.address.name.split())
    if step.action is Action.DELETE:
        return Write(table)
    assert isinstance(step.after, Nftables)
    return Write(table, _ruleset(step.after), fresh=step.action is Action.CREATE)


def _ruleset(one: Nftables) -> Ruleset:
    family, name = one.name.split()
    return Ruleset(family, name, *one.block())


register(Nftables, NftablesDriver())
