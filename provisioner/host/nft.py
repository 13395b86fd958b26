"""The packet filter: reads and replaces whole nftables tables, in the host's and in named namespaces.

Speaks to the kernel through libnftables, the library that ``nft`` itself is made of: one transaction for
a table, and no process. A declared ruleset is compared by what the kernel makes of it, so it is loaded
into a network namespace made for that purpose alone, and listed back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from provisioner.errors import HostError
from provisioner.host.forked import Forked
from provisioner.host.nft_scratch import load_and_list
from provisioner.rulesets import NftTable, Rejected, Ruleset, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from provisioner.host.netlink import Network

__all__ = ["Nft", "preload"]

_LIBRARY = "libnftables.so.1"
_WRITES_FOR_A_CHILD, _MOST_CHILDREN = 4, 16
_STATELESS = 1 << 2  # NFT_CTX_OUTPUT_STATELESS: no counters, no quotas used, no expiry
#: libnftables keeps some of its tables in the process, not in the context.
_one_at_a_time = threading.Lock()


class Nft:
    """The packet filter, in the host's and in named namespaces."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._canonical: dict[Ruleset, str | Rejected] = {}

    def forget(self) -> None:
        """Nothing: what nft makes of a text does not change with the host's tables."""

    def close(self) -> None:
        self._canonical.clear()

    def canonical(self, rulesets: Iterable[Ruleset]) -> Mapping[Ruleset, str | Rejected]:
        """What the kernel lists of each ruleset once it is loaded, found without touching any real table.

        Equal texts are tried once, and remembered.
        """
        rulesets = list(dict.fromkeys(rulesets))
        fresh = [one for one in rulesets if one not in self._canonical]
        if fresh:
            _library()  # loaded here, and not after the fork
            with _one_at_a_time:
                outcomes = load_and_list([_trial(one) for one in fresh], _open_session)
            for ruleset, outcome in zip(fresh, outcomes, strict=True):
                made = _canonical(outcome.listing) if outcome.listing is not None else None
                self._canonical[ruleset] = Rejected(_explained(outcome.error, ruleset)) if made is None else made
        return {one: self._canonical[one] for one in rulesets}

    def listings(self, tables: Iterable[NftTable]) -> dict[NftTable, str]:
        """The canonical text of those of the tables that exist. A namespace that is missing has none."""
        found: dict[NftTable, str] = {}
        tables = list(tables)
        self._network.prepare({table.netns for table in tables})
        for netns, some in _by_netns(tables):
            if self._network.exists(netns):
                with _one_at_a_time:
                    found.update(self._network.run_in(netns, partial(_read, some)))
        return found

    def carry_out(self, writes: Sequence[Write]) -> list[HostError | None]:
        """Carry out each write, in a transaction of its own; None for each that was done.

        Many are shared among children: a removal waits until no packet is on its way through the table,
        and the waits of several namespaces may pass together.
        """
        self._network.prepare({write.table.netns for write in writes})
        _library()
        with _one_at_a_time:
            return self._carry_out_shared(writes)

    def _carry_out_shared(self, writes: Sequence[Write]) -> list[HostError | None]:
        count = min(_MOST_CHILDREN, -(-len(writes) // _WRITES_FOR_A_CHILD))
        parts = [writes[first::count] for first in range(count)]
        children = [Forked(partial(self._answer_for, part)) for part in parts]
        outcome: list[HostError | None] = [None] * len(writes)
        for first, child in enumerate(children):
            answers, ending = child.collect()
            for index in range(len(parts[first])):
                if index >= len(answers):
                    outcome[first + index * count] = HostError(f"nft itself failed ({ending})")
                elif answers[index] is not None:
                    message, detail, code, hint = answers[index]
                    outcome[first + index * count] = error = HostError(message, code=code, hint=hint)
                    error.detail = detail
        return outcome

    def _answer_for(self, writes: Sequence[Write], answer: Callable[[Any], None]) -> None:
        for write in writes:
            error = self._carry_out(write)
            answer(None if error is None else (error.message, error.detail, error.code, error.hint))

    def _carry_out(self, write: Write) -> HostError | None:
        table = write.table
        work = partial(_delete, table) if write.ruleset is None else partial(_load, table, write.ruleset, write.fresh)
        try:
            self._network.run_in(table.netns, work)
        except HostError as error:
            gone = table.netns is not None and error.code == errno.ENOENT and not self._network.exists(table.netns)
            return None if write.ruleset is None and gone else error
        return None


def _read(tables: Sequence[NftTable]) -> list[tuple[NftTable, str]]:
    with _Session() as session:
        return [(table, text) for table in tables if (text := _list(session, table)) is not None]


def _load(table: NftTable, ruleset: Ruleset, fresh: bool) -> None:
    """Load a table in one transaction: no packet meets a part of it, or none."""
    first = f"create table {table}" if fresh else f"table {table}; delete table {table}"
    with _Session() as session:
        done, _, error = session.run(f"{first}\n{ruleset.text}")
    if done:
        return
    words = _explained(error, ruleset._replace(lines_before=ruleset.lines_before + 1))
    if words.startswith(f"{_BEFORE}: Could not process rule: File exists"):
        raise HostError(f"table {table} exists already", code=errno.EEXIST)
    raise _refused(f"table {table} is not taken", words)


def _delete(table: NftTable) -> None:
    with _Session() as session:
        done, _, error = session.run(f"delete table {table}")
        if not done and _list(session, table) is not None:
            raise _refused(f"table {table} cannot be deleted", error)


class _Session:
    """One libnftables context. Its socket is in the namespace of the thread that opened it."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise HostError("libnftables cannot be opened", detail=os.strerror(ctypes.get_errno()))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _STATELESS)

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.nft_ctx_free(self._context)

    def run(self, commands: str) -> tuple[bool, str, str]:
        """Whether all of it was done (otherwise none of it was), the output, and the errors.

        Given as a file, so that errors come with a line and a column; the file is in memory.
        """
        descriptor = os.memfd_create("ruleset")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(commands.encode())
            path = f"/proc/self/fd/{descriptor}".encode()
            code = self._library.nft_run_cmd_from_filename(self._context, path)
        finally:
            os.close(descriptor)
        output = self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace")
        errors = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        return code == 0, output, errors


def _open_session() -> Callable[[str], tuple[bool, str, str]]:
    return _Session().run


def preload() -> None:
    """Load libnftables where it can be: a process that then enters another root keeps the one it knows."""
    with suppress(HostError):
        _library()


@cache
def _library() -> Any:
    try:
        library: Any = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise HostError(
            "rulesets need libnftables", detail=str(error), hint="apt-get install nftables (or libnftables1)"
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_filename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _list(session: _Session, table: NftTable) -> str | None:
    """The canonical text of one table; None where there is none."""
    done, listing, error = session.run(f"list table {table}")
    if done:
        return _canonical(listing)
    if "No such file or directory" in error:
        return None
    raise _refused(f"table {table} cannot be read", error)


def _trial(ruleset: Ruleset) -> tuple[str, str, str, frozenset[str]]:
    named = f"table {ruleset.family} {ruleset.name}"
    return ruleset.text, f"list {named}", f"delete {named}", _interfaces(ruleset.text)


def _canonical(listing: str) -> str:
    """A listing without what changes by itself: elements that packets add and time removes."""
    kept: list[str] = []
    lines = iter(listing.splitlines())
    volatile = False
    for line in lines:
        text = line.strip()
        if line.startswith("#"):
            continue  # a warning, such as that the table is iptables-nft's
        if re.match(r"\t(set|map) ", line):
            volatile = False
        elif text.startswith("flags ") and re.search(r"\b(dynamic|timeout)\b", text):
            volatile = True
        elif volatile and line.startswith("\t\telements = {"):
            while not text.endswith("}"):
                text = next(lines, "}").strip()
            continue
        elif line == "\t}":
            volatile = False
        kept.append(_INDEX_SET.sub(_sorted_set, line.rstrip()))
    return "\n".join(kept) + "\n"


#: Sets of interfaces are listed in the order of the interfaces' numbers, which differ between namespaces.
_INDEX_SET = re.compile(r"\b([io]if (?:!= )?)\{ ([^}]*) \}")


def _sorted_set(found: re.Match[str]) -> str:
    return f"{found[1]}{{ {', '.join(sorted(found[2].split(', ')))} }}"


_BEFORE = "before the first line"
_ERROR = re.compile(r"^(?:/proc/self/fd/\d+|[^\s:]*):(\d+):(\d+)-\d+: (.*)$")


def _explained(words: str, ruleset: Ruleset) -> str:
    """nft's errors, with the author's own line numbers in place of its file names."""
    told: list[str] = []
    for line in words.rstrip().splitlines():
        found = _ERROR.match(line)
        if found is None:
            told.append(line)
            continue
        number = int(found[1]) - ruleset.lines_before
        where = f"line {number}" if number >= 1 else _BEFORE
        told.append(f"{where}: {found[3].removeprefix('Error: ')}")
    return "\n".join(told)


_ERRNO_BY_WORDS = {os.strerror(code): code for code in errno.errorcode}


def _refused(message: str, words: str) -> HostError:
    """nft's words as an error, with the errno that they spell."""
    words = words.strip()
    spelled = re.search(r"Could not process rule: (.+)", words)
    code = _ERRNO_BY_WORDS.get(spelled[1].strip(), 0) if spelled else 0
    hint = None
    if "Interface does not exist" in words:
        hint = "iif and oif need the interface to be there already: iifname and oifname do not"
    elif code == errno.EPERM or "Operation not permitted" in words:
        hint = "root is needed"
    return HostError(message, detail=words, code=code, hint=hint)


_INTERFACE_WORDS = re.compile(r"\b(?:iif|oif|sdif|device|devices)\b\s*(?:[!=]=|=)?\s*(\{[^}]*\}|\S+)")
_DEFINE = re.compile(r"^\s*(?:re)?define\s+(\w+)\s*=\s*(\{[^}]*\}|\S+)", re.MULTILINE)
_INTERFACE_NAME = re.compile(r'^[^\s/:{}"$]{1,15}$')


def _interfaces(text: str) -> frozenset[str]:
    """Names of interfaces that nft looks up while it loads a text: the trial namespace must have them."""
    defined = {name: _words(value) for name, value in _DEFINE.findall(text)}
    named: set[str] = set()
    for operand in _INTERFACE_WORDS.findall(text):
        for word in _words(operand):
            named.update(defined.get(word[1:], ()) if word.startswith("$") else [word])
    return frozenset(name for name in named if _INTERFACE_NAME.match(name) and name != "lo" and not name.isdigit())


def _words(operand: str) -> list[str]:
    return [word.strip('";') for word in re.split(r"[\s,{}]+", operand) if word.strip('";')]


def _by_netns(tables: Iterable[NftTable]) -> Iterator[tuple[str | None, list[NftTable]]]:
    grouped: dict[str | None, list[NftTable]] = {}
    for table in tables:
        grouped.setdefault(table.netns, []).append(table)
    yield from grouped.items()
