"""The kind ``nftables``: one table of the packet filter, in a namespace or on the host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AliasChoices, ValidationInfo, field_validator

from provisioner.errors import ConfigError, Problem, did_you_mean
from provisioner.model import Action, Change, Check, Driver, Issue, Resource, StepResult, bad, spec
from provisioner.resources import register

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from provisioner.host import Host
    from provisioner.host.nft import Ruleset, Write
    from provisioner.model import Desired, Scope, Step, TaskContext

__all__ = ["Nftables"]

_FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,255}")
#: What may stand directly in a table.
_IN_TABLE = (
    "chain",
    "set",
    "map",
    "flowtable",
    "counter",
    "quota",
    "limit",
    "ct",
    "secmark",
    "synproxy",
    "tunnel",
    "flags",
    "comment",
    "define",
    "redefine",
    "undefine",
)
_DEFINES = ("define", "redefine", "undefine")


class Nftables(Resource):
    """A table of the packet filter (nftables), owned whole and replaced in one transaction."""

    kind: ClassVar[str] = "nftables"

    name: str = spec(
        ...,
        doc="the table: its family and its name",
        examples=["inet filter", "ip nat"],
        validation_alias=AliasChoices("table", "name"),
    )
    netns: str | None = spec(None, doc="the namespace that it filters in; left out, the host's own", examples=["blue"])
    ruleset: str = spec(
        ...,
        doc="the table's content in nft's syntax, or the whole `table … { … }` block, perhaps after `define`s; "
        "what sets flagged `dynamic` or `timeout` contain is loaded, but not compared",
        examples=["chain input {\n  type filter hook input priority filter; policy drop;\n  tcp dport 80 accept\n}\n"],
    )
    #: What nft makes of the declared ruleset: set by an observation that found another one, for the diff.
    declared_as: str | None = spec(None, doc="read from the host; not to be written")

    @field_validator("name", mode="after")
    @classmethod
    def _family_and_name(cls, value: str) -> str:
        words = value.split()
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
        _check_ruleset(text, info.data.get("name"))
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
        if any(one.word == "table" for one in _statements(self.ruleset) if one.depth == 0):
            return self.ruleset, 0
        return f"table {self.name} {{\n{self.ruleset}}}\n", 1

    def audit(self, desired: Desired) -> Iterable[Issue]:
        text, before = self.block()
        for one in _statements(text):
            if one.depth == 1 and one.word == "flags" and "owner" in one.text:
                message = f"line {one.line - before} of the ruleset: a table flagged 'owner' goes when nsprov ends"
                yield Issue(message, "ruleset", "leave the flag out")

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        if not isinstance(current, Nftables) or current.ruleset == self.ruleset:
            return []
        return [Change("ruleset", current.ruleset, current.declared_as or self.ruleset)]

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        return self

    def summary(self) -> list[tuple[str, str]]:
        return [("ruleset", "; ".join([f"{_count(self.ruleset)} lines", *self._contents()]))]

    def _contents(self) -> list[str]:
        """What the table has, by type: ``chains input, forward``."""
        named: dict[str, list[str]] = {}
        for word, name in self._objects():
            named.setdefault(word, []).append(name)
        return [f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}" for word, names in named.items()]

    def _objects(self) -> Iterator[tuple[str, str]]:
        text, _ = self.block()
        for one in _statements(text):
            words = one.text.split()
            if one.depth == 1 and one.word in ("chain", "set", "map", "flowtable") and len(words) > 1:
                yield one.word, words[1]

    def checks(self) -> Iterable[Check]:
        family, name = self.name.split()
        listing = f"nft_list(host, {self.netns!r}, {family!r}, {name!r})"
        yield Check(f"{self.address} is loaded", f"assert {f'table {self.name}'!r} in {listing}")
        for word, called in self._objects():
            yield Check(f"{self.address} has {word} {called}", f"assert {f'{word} {called} {{'!r} in {listing}")


# -- reading nft's syntax, as far as is needed to say what is plainly wrong ------------------------


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement's text up to its end or its ``{``, how many braces it stands in, and its line."""

    text: str
    depth: int
    line: int
    opens: bool

    @property
    def word(self) -> str:
        return self.text.split()[0]


_TOKEN = re.compile(r'"[^"\n]*"|"|#[^\n]*|\\\n|[{};\n]|[^"#{};\n\\]+|\\')


@lru_cache(maxsize=512)
def _statements(text: str) -> tuple[_Statement, ...]:
    """The statements of a ruleset, at every depth. Raises the validator's error for braces and quotes."""
    found: list[_Statement] = []
    opened: list[int] = []
    current, line, started = "", 1, 1
    for token in _TOKEN.findall(text):
        if token == '"':
            raise bad(f"line {line} of the ruleset: a string that is not closed")
        if token in ("{", "}", ";", "\n"):
            if current.strip():
                found.append(_Statement(current.strip(), len(opened), started, token == "{"))
            current = ""
            if token == "{":
                opened.append(line)
            elif token == "}":
                if not opened:
                    raise bad(f"line {line} of the ruleset: this '}}' closes nothing")
                opened.pop()
        elif not token.startswith("#") and token != "\\\n":
            if not current.strip():
                started = line
            current += token
        line += token.count("\n")
    if opened:
        raise bad(f"line {opened[-1]} of the ruleset: this '{{' is never closed")
    if current.strip():
        found.append(_Statement(current.strip(), 0, started, False))
    return tuple(found)


def _check_ruleset(text: str, table: str | None) -> None:
    statements = _statements(text)
    for one in statements:
        if one.word == "include":
            raise _wrong(one, "include is not taken: a plan shows all that it loads", "use a template")
        if one.word == "flush":
            raise _wrong(
                one,
                f"'{one.text}' is not taken: it would empty tables that are not this one",
                "leave it out: the table is replaced whole, in one transaction",
            )
    outer = [one for one in statements if one.depth == 0 and one.word not in _DEFINES]
    if not any(one.word == "table" for one in outer):
        _check_content(outer)
        return
    blocks = [one for one in outer if one.word == "table" and one.opens]
    for one in outer:
        if one not in blocks:
            raise _wrong(
                one,
                f"'{one.text}' is not taken: only one table's block, and defines, may stand here",
                "leave it out: the table is made, or replaced, in one transaction",
            )
    if len(blocks) > 1:
        raise _wrong(blocks[1], "a second table", "declare each table as a resource of its own")
    named = blocks[0].text.split()[1:]
    called = " ".join(["ip", *named] if len(named) == 1 else named).replace('"', "")
    if table is not None and called != table:
        raise _wrong(blocks[0], f"this is '{blocks[0].text}', but the resource is table {table}")


def _check_content(outer: Sequence[_Statement]) -> None:
    for one in outer:
        if one.word not in _IN_TABLE:
            hint = did_you_mean(one.word, _IN_TABLE) or "a table contains chains, sets, maps and named objects"
            if one.word in ("type", "policy") or one.word in ("tcp", "udp", "ip", "ip6", "meta", "iifname", "oifname"):
                hint = "rules stand in a chain: chain input { … }"
            raise _wrong(one, f"'{one.text}' cannot stand directly in a table", hint)


def _wrong(statement: _Statement, message: str, hint: str | None = None) -> Exception:
    return bad(f"line {statement.line} of the ruleset: {message}", hint)


def _count(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


# -- the driver -----------------------------------------------------------------------------------


class NftablesDriver(Driver[Nftables]):
    """Reads tables as the kernel lists them, and replaces each in one transaction."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Nftables]:
        from provisioner.host.nft import NftTable, Rejected

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
    from provisioner.host.nft import NftTable, Write

    table = NftTable(step.address.netns, *step.address.name.split())
    if step.action is Action.DELETE:
        return Write(table)
    assert isinstance(step.after, Nftables)
    return Write(table, _ruleset(step.after), fresh=step.action is Action.CREATE)


def _ruleset(one: Nftables) -> Ruleset:
    from provisioner.host.nft import Ruleset

    family, name = one.name.split()
    return Ruleset(family, name, *one.block())


register(Nftables, NftablesDriver())
