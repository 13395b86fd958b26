"""Secret values: how one is marked, which fields of a resource hold one, and the net that no output passes without.

A secret is marked when it is read (``Secret``, ``SecretInt``, ``SecretFloat``), and whatever a template makes of it
is marked as well. What is marked is shown as ``(secret)`` whatever it says. Behind that is a net: the texts that were
read as secrets in this process, in the spellings that they may take, are cut out of all that is printed or written.

This module imports nothing of the project, and may be imported by all of it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, quote_plus

__all__ = [
    "MASK",
    "NO_SECRETS",
    "Paths",
    "RedactedStream",
    "Secret",
    "SecretFloat",
    "SecretInt",
    "are_known",
    "hidden",
    "hide",
    "is_hidden",
    "is_secret",
    "learn",
    "marked",
    "paths_in",
    "redact",
    "texts_in",
    "without_secrets",
]

#: What stands where a secret would.
MASK = "(secret)"

#: Which fields hold secrets: the keys that lead to each. A list that has one is secret as a whole.
Paths = frozenset[tuple[str, ...]]
NO_SECRETS: Paths = frozenset()

#: From this length on a secret is cut out wherever it stands; a shorter one only where it stands alone.
_LONG = 8
#: Shorter than this is no secret that could be told from other text. Where it is a marked field, it is masked.
_SHORT = 4
_SHORT_NUMBER = 6
#: A secret that is longer than this is looked for in pieces, and beyond that not at all: nothing quotes so much.
_PIECE = 1024
_MOST = 64 * 1024
#: Words that say nothing of a secret, and that a report cannot do without.
_COMMON = frozenset({
    "true", "false", "none", "null", "root", "admin", "administrator", "user", "users", "default", "localhost", "local",
    "host", "main", "test", "name", "password", "passwd", "secret", "service", "started", "stopped", "failed", "system",
    "daemon", "public", "private", "server", "client", "guest",
})  # fmt: skip


class Secret(str):
    """A text that is not shown. ``source`` is where it was written."""

    __slots__ = ("source",)
    source: Any

    def __new__(cls, text: str, source: Any = None) -> Self:
        made = super().__new__(cls, text)
        made.source = source
        return made

    def __repr__(self) -> str:
        return repr(MASK)

    def __add__(self, other: str) -> Secret:
        return Secret(str.__add__(self, other), self.source)

    def __radd__(self, other: str) -> Secret:
        return Secret(str.__add__(other, self), self.source)

    def __getitem__(self, at: Any) -> Secret:
        return Secret(str.__getitem__(self, at), self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (_plain(self), self.source))


class SecretInt(int):
    """A whole number that is not shown."""

    __slots__ = ()


class SecretFloat(float):
    """A number that is not shown."""

    __slots__ = ()


_MARKS = (Secret, SecretInt, SecretFloat)


def _plain(text: str) -> str:
    return str.__str__(text)


def is_secret(value: Any) -> bool:
    """Whether a single value is marked as a secret."""
    return isinstance(value, _MARKS)


def marked(value: Any, source: Any = None) -> Any:
    """A value with every text and number in it marked. True, false and null tell nothing, and stay."""
    if is_secret(value) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return Secret(value, source if source is not None else getattr(value, "source", None))
    if isinstance(value, int):
        return SecretInt(value)
    if isinstance(value, float):
        return SecretFloat(value)
    if isinstance(value, Mapping):
        return {key: marked(item, source) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [marked(item, source) for item in value]
    return value


def texts_in(value: Any) -> Iterator[str]:
    """The secrets anywhere in a value, as texts."""
    if is_secret(value):
        yield _plain(value) if isinstance(value, str) else format(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from texts_in(item)


# -- fields ---------------------------------------------------------------------------------------


def paths_in(fields: Mapping[str, Any]) -> Paths:
    """Which of some fields hold secrets."""
    return frozenset(_paths(fields, ()))


def _paths(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths(item, (*path, str(key)))
    elif any(True for _ in texts_in(value)):
        yield path


def is_hidden(field: str, secrets: Paths) -> bool:
    """Whether a field (``content``, ``peer.addresses``) is secret, holds a secret, or is a part of one."""
    return any(one == field or one.startswith(f"{field}.") or field.startswith(f"{one}.") for one in _dotted(secrets))


def _dotted(secrets: Paths) -> Iterable[str]:
    return (".".join(path) for path in secrets)


def hidden(value: Any, secrets: Paths) -> Any:
    """A JSON value with a mask in each of these places."""
    if not secrets or value is None:
        return value
    if () in secrets or not isinstance(value, Mapping):
        return MASK
    made = {}
    for key, item in value.items():
        below = frozenset(path[1:] for path in secrets if path[0] == key)
        made[key] = hidden(item, below)
    return made


# -- the net --------------------------------------------------------------------------------------


class _Net:
    """The secrets that were read, in all their spellings."""

    def __init__(self) -> None:
        #: Whether anything was marked at all, long enough to be looked for or not.
        self.used = False
        self._known: set[str] = set()
        #: What is looked for, by how it begins.
        self._spellings: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return self.used

    def learn(self, text: str, *, whole: bool) -> None:
        if text in self._known:
            return
        self._known.add(text)
        found = {one for part in _parts(text, whole) if len(part) >= _SHORT for one in _spellings(part)}
        for one in found:
            if len(one) >= _SHORT and one.lower() not in _COMMON:
                self._spellings.setdefault(one[:_SHORT], set()).add(one)

    def holds(self, text: str) -> bool:
        return text in self._known

    def redact(self, text: str) -> str:
        there = sorted(self._in(text), key=len, reverse=True)
        return re.sub("|".join(map(_expression, there)), MASK, text) if there else text

    def _in(self, text: str) -> list[str]:
        """Which spellings a text has. A run may know thousands, so that few of them are searched for: those whose
        beginnings are among the text's pieces."""
        if not self._spellings:
            return []
        pieces = {text[at : at + _SHORT] for at in range(len(text) - _SHORT + 1)}
        return [
            one
            for begin in pieces & self._spellings.keys()
            for one in self._spellings[begin]
            if (len(one) < 2 * _SHORT or one[_SHORT : 2 * _SHORT] in pieces) and one in text
        ]


def _expression(needle: str) -> str:
    """A short secret is found where it stands alone, so that no word is garbled that happens to have it in it."""
    escaped = re.escape(needle)
    return escaped if len(needle) >= _LONG else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _parts(text: str, whole: bool) -> set[str]:
    """The text, and each of its lines that says something: a report may show it line by line."""
    text = text[:_MOST]
    parts = {text, text.strip()}
    if len(text) > _PIECE:
        parts = {text[at : at + _PIECE] for at in range(0, len(text), _PIECE)}
    if not whole:
        parts |= {line.strip() for line in text.splitlines() if len(line.strip()) >= _LONG}
    return parts


def _spellings(text: str) -> Iterator[str]:
    """How a text may be spelled in what is printed: in JSON, a URL, a shell's word, Python, XML, and base64."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield html.escape(text, quote=False).replace('"', "&quot;")
    yield shlex.quote(text)
    yield shlex.quote(text)[1:-1] if "'" in text else text
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    yield quote(text)
    yield quote(text, safe="")
    yield quote_plus(text)
    yield data.hex() if len(data) >= _LONG else text
    yield from _in_base64(data)


def _in_base64(data: bytes) -> Iterator[str]:
    """In base64, by itself and amid other data: what of it is the same whatever stands around it."""
    whole = base64.b64encode(data).decode()
    yield whole
    yield base64.urlsafe_b64encode(data).decode()
    if len(data) < _LONG:
        return
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        begin = (before * 8 + 5) // 6
        end = (before + len(data)) * 8 // 6
        core = encoded[begin:end]
        if len(core) >= _LONG:
            yield core


_net = _Net()


def learn(value: Any, *, whole: bool = False) -> None:
    """Remember secrets, so that no output has them. ``whole`` ones are known as they are, not line by line."""
    _net.used = True
    for text in [value] if isinstance(value, str) else texts_in(value):
        if isinstance(value, str) or len(text) >= _SHORT_NUMBER or not text.isdigit():
            _net.learn(_plain(text), whole=whole)


def are_known() -> bool:
    """Whether any secret was read in this process."""
    return bool(_net)


def redact(text: str) -> str:
    """A text without the secrets that were read in this process."""
    return _net.redact(text)


_QUOTED = re.compile(r"'([^']+)'")


def hide(text: str, value: Any) -> str:
    """A text without the secrets that a value holds, however short they are, and without quoted pieces of them."""
    secrets = sorted(filter(None, texts_in(value)), key=len, reverse=True)
    for secret in secrets:
        bounded = len(secret) < _SHORT  # a letter that is a secret is no reason to garble every word
        text = re.sub(_expression(secret), MASK, text) if bounded else text.replace(secret, MASK)

    def masked(piece: re.Match[str]) -> str:
        return f"'{MASK}'" if any(piece[1] in secret for secret in secrets) else piece[0]

    return redact(_QUOTED.sub(masked, text) if secrets else text)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a program that is started, without variables that hold a secret."""
    return {
        name: value
        for name, value in environment.items()
        if name != "NSPROV_VAULT_PASSWORD" and not _net.holds(value) and redact(value) == value
    }


class RedactedStream(io.RawIOBase):
    """A stream that secrets do not pass. What is written at once is looked at as a whole."""

    def __init__(self, text: Any) -> None:
        self._text = text  # kept, for it closes its buffer when it goes
        self._stream = text.buffer

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, data: Any) -> int:
        taken = bytes(data)
        if _net:
            text = taken.decode("utf-8", "surrogateescape")
            self._stream.write(redact(text).encode("utf-8", "surrogateescape"))
        else:
            self._stream.write(taken)
        return len(taken)

    def flush(self) -> None:
        if not self._stream.closed:
            self._stream.flush()
