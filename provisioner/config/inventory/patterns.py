"""Ansible's host patterns, as ``--limit`` takes them: ``web:&prod:!old*``, ``~web[0-9]+``, ``web[0:2]``, ``@file``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from provisioner.config.inventory.ranges import split_port
from provisioner.errors import UsageError, did_you_mean

__all__ = ["select"]

_PIECE = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")
_SUBSCRIPT = re.compile(r"(?P<expression>.+)\[(?:(?P<index>-?[0-9]+)|(?P<first>[0-9]+):(?P<last>[0-9]*))\]")


def select(
    pattern: str, hosts: Collection[str], groups: Mapping[str, Sequence[str]], *, retry: Path | None = None
) -> list[str]:
    """The hosts that a pattern names. ``groups`` has all hosts of each group.

    Names are added first, then ``&`` keeps what is also in another set, then ``!`` takes away. ``@FILE`` stands for
    the patterns in a file, one a line; ``@retry`` for the file ``retry``.

    Raises:
        UsageError: a name is neither a host nor a group, an expression is malformed, or no host is left.
    """
    pieces = list(_with_files(_split(pattern), retry))
    added = [piece for piece in pieces if piece[0] not in "&!"] or (["all"] if pieces else [])
    chosen: dict[str, None] = {}
    for piece in added:
        chosen.update(dict.fromkeys(_match(piece, hosts, groups)))
    for piece in pieces:
        if piece[0] == "&":
            kept = set(_match(piece[1:], hosts, groups))
            chosen = {name: None for name in chosen if name in kept}
    for piece in pieces:
        if piece[0] == "!":
            gone = set(_match(piece[1:], hosts, groups))
            chosen = {name: None for name in chosen if name not in gone}
    if not chosen:
        raise UsageError(f"no host of the inventory matches '{pattern}'", hint=did_you_mean(pattern, [*hosts, *groups]))
    return list(chosen)


def _split(pattern: str) -> list[str]:
    """The single patterns of a list with commas, or with colons where that is no address or range."""
    if "," in pattern:
        pieces = pattern.split(",")
    elif split_port(pattern):
        pieces = [pattern]
    else:
        pieces = _PIECE.findall(pattern)
        if set(_PIECE.sub("", pattern)) & set("[]"):
            raise UsageError(f"a bracket is not closed in '{pattern}'", hint="as in web[0], web[0:2] or ~web[0-9]")
    return [piece.strip() for piece in pieces if piece.strip()]


def _with_files(pieces: Sequence[str], retry: Path | None) -> Iterator[str]:
    """The patterns, with those in files in the place of the files' names."""
    for piece in pieces:
        if not piece.startswith("@"):
            yield piece
            continue
        path = retry if piece == "@retry" and not Path("retry").exists() else Path(piece[1:]).expanduser()
        if path is None:
            raise UsageError("@retry: this inventory has no retry file: it is no file itself", hint="as in @hosts.txt")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UsageError(f"{piece}: {path} is not text in UTF-8") from None
        except OSError as error:
            hint = "no run has left a host undone; leave --limit out" if piece == "@retry" else None
            raise UsageError(f"{piece}: cannot read {path}: {error.strerror}", hint=hint) from None
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not found:
            raise UsageError(f"{piece}: {path} names no host")
        yield from found


def _match(piece: str, hosts: Collection[str], groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The hosts of a single pattern, without its ``&`` or ``!``."""
    if piece in hosts:
        return [piece]
    if not piece:
        raise UsageError("a host pattern is empty after its '&' or '!'")
    subscript = None if piece[0] == "~" else _SUBSCRIPT.fullmatch(piece)
    expression = subscript["expression"] if subscript else piece
    found = _matching(expression, hosts, groups)
    if subscript is None or not found:
        return found
    if subscript["index"] is not None:
        try:
            return [found[int(subscript["index"])]]
        except IndexError:
            raise UsageError(f"'{piece}' is beyond the {len(found)} hosts that '{expression}' has") from None
    last = int(subscript["last"]) if subscript["last"] else len(found) - 1
    return found[int(subscript["first"]) : last + 1]


def _matching(expression: str, hosts: Collection[str], groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The hosts of the groups that match, and where it is an expression, the hosts that match themselves."""
    is_expression = expression[0] == "~" or any(special in expression for special in ".?*[")
    try:
        compiled = re.compile(expression[1:] if expression[0] == "~" else fnmatch.translate(expression))
    except re.error as error:
        raise UsageError(f"'{expression}' is not a regular expression: {error}") from None
    matching = [name for name in groups if compiled.match(name)]
    found = dict.fromkeys(host for name in matching for host in groups[name])
    if is_expression or not matching:
        found.update(dict.fromkeys(name for name in hosts if compiled.match(name)))
    if not found and not matching and not any(special in expression for special in "~?*["):
        raise UsageError(
            f"the inventory has no host or group '{expression}'", hint=did_you_mean(expression, [*hosts, *groups])
        )
    return list(found)
