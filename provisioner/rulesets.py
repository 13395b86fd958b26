"""Rulesets of the packet filter as values, and as much of nft's syntax as is needed to refuse what is plainly wrong.

Pure: what a host makes of a ruleset is the business of ``provisioner.host.nft``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from provisioner.errors import did_you_mean
from provisioner.model import bad

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NftTable", "Rejected", "Ruleset", "Statement", "Write", "check_ruleset", "count_lines", "statements_of"]

#: What may stand directly in a table.
_IN_TABLE = frozenset(
    (
        *("chain", "set", "map", "flowtable", "counter", "quota", "limit", "ct", "secmark", "synproxy", "tunnel"),
        *("flags", "comment", "define", "redefine", "undefine"),
    )
)
_DEFINES = ("define", "redefine", "undefine")


class NftTable(NamedTuple):
    """Names one table: its namespace (None is the host's), family and name."""

    netns: str | None
    family: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


class Ruleset(NamedTuple):
    """One table as text: ``text`` is a whole ``table … { … }`` block, perhaps after some defines.

    ``lines_before`` is how many of its first lines the author did not write, so that errors name theirs.
    """

    family: str
    name: str
    text: str
    lines_before: int = 0


class Write(NamedTuple):
    """One change of a table: load a ruleset, which must be ``fresh`` or replaces what is there, or delete it."""

    table: NftTable
    ruleset: Ruleset | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A ruleset that this host does not take: nft's own words, each with the line of the ruleset."""

    reason: str


# -- syntax ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
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
def statements_of(text: str) -> tuple[Statement, ...]:
    """The statements of a ruleset, at every depth. Raises the validator's error for braces and quotes."""
    found: list[Statement] = []
    opened: list[int] = []
    current, line, started = "", 1, 1
    for token in _TOKEN.findall(text):
        if token == '"':
            raise bad(f"line {line} of the ruleset: a string that is not closed")
        if token in ("{", "}", ";", "\n"):
            if current.strip():
                found.append(Statement(current.strip(), len(opened), started, token == "{"))
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
        found.append(Statement(current.strip(), 0, started, False))
    return tuple(found)


def check_ruleset(text: str, table: str | None) -> None:
    statements = statements_of(text)
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


def _check_content(outer: Sequence[Statement]) -> None:
    for one in outer:
        if one.word not in _IN_TABLE:
            hint = did_you_mean(one.word, _IN_TABLE) or "a table contains chains, sets, maps and named objects"
            if one.word in ("type", "policy") or one.word in ("tcp", "udp", "ip", "ip6", "meta", "iifname", "oifname"):
                hint = "rules stand in a chain: chain input { … }"
            raise _wrong(one, f"'{one.text}' cannot stand directly in a table", hint)


def _wrong(statement: Statement, message: str, hint: str | None = None) -> Exception:
    return bad(f"line {statement.line} of the ruleset: {message}", hint)


def count_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())
