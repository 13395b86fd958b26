"""YAML in which every value knows the file, line and column it was written at.

Owns the located values (``Map``, ``Seq``, ``Str``) and the loader that makes them. A mapping and a
sequence are plain ``dict`` and ``list`` to everybody else; a string is a plain ``str``. Numbers,
booleans and null cannot carry a position themselves, so their container does it for them.
"""

from __future__ import annotations

import gc
import json
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from provisioner.config import vault
from provisioner.errors import ConfigError, Problem, Source
from provisioner.secrets import Secret, is_secret, learn, marked

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_BYTES",
    "Key",
    "Map",
    "Seq",
    "Str",
    "Timestamp",
    "Unsafe",
    "UnsafeSecret",
    "Vaulted",
    "load_yaml",
    "load_yaml_text",
    "read_text",
    "source_of",
]

#: No file of a configuration comes near this; what does is a mistake (a disk image, a dump).
MAX_BYTES = 16 * 1024 * 1024
#: A document nested deeper than this is a mistake, and would exhaust the interpreter's stack.
MAX_DEPTH = 100
#: Aliases may share nodes, but not blow up: what all of them expand to is bounded.
MAX_EXPANDED = 200_000


class Str(str):
    """A string that knows where it was written."""

    __slots__ = ("source",)
    source: Source | None

    def __new__(cls, value: str, source: Source | None = None) -> Self:
        made = super().__new__(cls, value)
        made.source = source
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (Str, (str(self), self.source))


class Unsafe(Str):
    """A string tagged ``!unsafe``: what looks like a template in it is text."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Unsafe, (str(self), self.source))


class UnsafeSecret(Secret):
    """A secret in which what looks like a template is text."""

    __slots__ = ()


class Vaulted(Str):
    """A value tagged ``!vault``: the vault as it was written, opened when the value is used."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Vaulted, (str(self), self.source))


class Timestamp(Str):
    """A date or time of YAML, which stays the text that was written."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Timestamp, (str(self), self.source))


class Key(str):
    """A mapping's key that YAML does not take for text (``80``, ``yes``), as it was written; ``native`` is the rest."""

    __slots__ = ("native",)
    native: Any

    def __new__(cls, text: str, native: Any) -> Self:
        made = super().__new__(cls, text)
        made.native = native
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (Key, (str(self), self.native))


class Map(dict[str, Any]):
    """A mapping that knows where it, each key and each value was written."""

    __slots__ = ("keys_at", "source", "values_at")

    def __init__(
        self,
        items: Any = (),
        source: Source | None = None,
        values_at: dict[str, Source] | None = None,
        keys_at: dict[str, Source] | None = None,
    ) -> None:
        super().__init__(items)
        self.source = source
        self.values_at: dict[str, Source] = values_at if values_at is not None else {}
        self.keys_at: dict[str, Source] = keys_at if keys_at is not None else {}

    def at(self, key: str) -> Source | None:
        """Where the value of this key was written (or the key, or the mapping)."""
        return self.values_at.get(key) or self.keys_at.get(key) or self.source

    def key_at(self, key: str) -> Source | None:
        """Where this key was written."""
        return self.keys_at.get(key) or self.source

    def put(self, key: str, value: Any, source: Source | None, key_source: Source | None = None) -> None:
        """Set a value and its position together."""
        self[key] = value
        if source is not None:
            self.values_at[key] = source
            self.keys_at[key] = key_source or source

    def copy(self) -> Map:
        return Map(self, self.source, dict(self.values_at), dict(self.keys_at))


class Seq(list[Any]):
    """A sequence that knows where it and each item was written."""

    __slots__ = ("items_at", "source")

    def __init__(self, items: Any = (), source: Source | None = None, items_at: Any = ()) -> None:
        super().__init__(items)
        self.source = source
        self.items_at: list[Source | None] = list(items_at)

    def at(self, index: int) -> Source | None:
        if 0 <= index < len(self.items_at):
            return self.items_at[index] or self.source
        return self.source


def source_of(value: Any) -> Source | None:
    """Where a located value was written; None for numbers, booleans and values made at run time."""
    return getattr(value, "source", None)


def read_text(path: Path) -> str:
    """The text of a configuration file; one that ansible-vault encrypted is opened, and is a secret.

    Raises:
        ConfigError: it is missing, unreadable, a folder, a device, larger than ``MAX_BYTES``, or not UTF-8; or
            no password opens it.
    """
    where = Source(str(path))
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            what = "a folder" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise ConfigError(Problem(f"the file is {what}", where))
        if info.st_size > MAX_BYTES:
            raise ConfigError(
                Problem(
                    f"the file has {info.st_size} bytes, more than the {MAX_BYTES} that a configuration file may have",
                    where,
                    "keep data out of the configuration, or split the file",
                )
            )
        data = path.read_bytes()
    except FileNotFoundError:
        what = f"is a link to {path.readlink()}, which is missing" if path.is_symlink() else "is missing"
        raise ConfigError(Problem(f"the file {what}", where)) from None
    except OSError as error:  # a loop of links, no permission
        raise ConfigError(Problem(f"the file cannot be read: {error.strerror}", where)) from None
    encrypted = vault.is_vaulted(data)
    if encrypted:
        data = vault.open_vault(data.decode("utf-8", "replace"), where)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise ConfigError(
            Problem(
                "the file is not UTF-8 text",
                Source(str(path), line, column),
                "is it a binary file?" if b"\0" in data else "convert it, for example: iconv -f LATIN1 -t UTF-8",
            )
        ) from None
    return Secret(text, where) if encrypted else text


def load_yaml(path: Path) -> Any:
    """The one document of a YAML file, in located values; None for an empty file."""
    return load_yaml_text(read_text(path), str(path))


def load_yaml_text(text: str, file: str, *, line_offset: int = 0) -> Any:
    """The one document of a YAML text, in located values.

    ``file`` is the name that errors carry. Raises ConfigError with the line and column of what is wrong:
    syntax, a key that stands twice in one mapping, an unknown tag, aliases that explode. The values of a text
    that is a secret are secrets.
    """
    with _without_garbage_collection():
        # libyaml's parser takes nothing but plain text.
        return _load(str.__str__(text), file, line_offset, secret=isinstance(text, Secret))


def _load(text: str, file: str, line_offset: int, *, secret: bool) -> Any:
    try:
        loader = _CLoader(text)
    except yaml.reader.ReaderError as error:
        raise ConfigError(_character_problem(error, file, line_offset, text)) from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        as_yaml = _json_as_yaml(text)
        if as_yaml is not None and as_yaml != text:
            return _load(as_yaml, file, line_offset, secret=secret)
        raise ConfigError(_syntax_problem(error, file, line_offset, text)) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(_character_problem(error, file, line_offset, text)) from None
    except RecursionError:
        raise ConfigError(Problem("the document is nested too deeply", Source(file))) from None
    finally:
        loader.dispose()
    if node is None:
        return None
    build = _Builder(file, line_offset, secret=secret)
    value = build.value(node, 0)
    if build.problems:
        raise ConfigError(build.problems)
    return value


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Building many values that all stay makes the collector look at them over and over: half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def _json_as_yaml(text: str) -> str | None:
    """A JSON text without what JSON allows and YAML does not: tabs, and characters written in two halves."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _SURROGATES.sub(_whole_character, text.replace("\t", " "))


def _whole_character(halves: re.Match[str]) -> str:
    high, low = int(halves[1], 16), int(halves[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


_CLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _syntax_problem(error: yaml.MarkedYAMLError, file: str, offset: int, text: str) -> Problem:
    message, mark = f"not valid YAML: {error.problem or error.context or error}", error.problem_mark
    if error.context and error.problem:
        message += f" ({error.context}{_beginning(error, offset)})"
    if "unexpected end of stream" in message and error.context == "while scanning a quoted scalar":
        message, mark = "not valid YAML: this quote is never closed", error.context_mark
    mark = mark or error.context_mark
    if mark is None:
        return Problem(message, Source(file))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    column, hint = mark.column, None
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "YAML is indented with spaces, not tabs"
    elif "{{" in line and "'{{" not in line and '"{{' not in line:
        hint, column = 'a value that starts with a template must be quoted: "{{ … }}"', line.index("{{")
    elif "escape" in message:
        hint = "in double quotes a backslash begins an escape: use single quotes, or write it twice"
    elif "mapping values are not allowed" in message:
        hint = "is the line above without its ':', or this one indented wrongly? A text with ': ' in it must be quoted"
    return Problem(message, Source(file, mark.line + 1 + offset, column + 1), hint)


def _beginning(error: yaml.MarkedYAMLError, offset: int) -> str:
    """Where the thing began that is wrong further down."""
    begin, end = error.context_mark, error.problem_mark
    return f" that begins at line {begin.line + 1 + offset}" if begin and end and begin.line != end.line else ""


def _character_problem(error: yaml.reader.ReaderError, file: str, offset: int, text: str) -> Problem:
    """What to say of a character that YAML forbids. The error's own position counts bytes, so look it up."""
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[0])
    found = max(text.find(chr(code)), 0)
    line, column = text.count("\n", 0, found) + 1, found - text.rfind("\n", 0, found)
    return Problem(
        f"the character U+{code:04X} is not allowed in YAML",
        Source(file, line + offset, column),
        "is it a binary file?",
    )


class _Builder:
    """Turns YAML nodes into located values, gathering what is wrong on the way."""

    def __init__(self, file: str, line_offset: int, *, secret: bool = False) -> None:
        self.file = file
        self.secret = secret
        self.line_offset = line_offset
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")
        #: Mappings and sequences that are built, and how many values each holds: an alias is the same object again.
        self._built: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()
        self._count = 0
        self._aliased = 0

    def source(self, node: Any) -> Source:
        mark = node.start_mark
        return Source(self.file, mark.line + 1 + self.line_offset, mark.column + 1)

    def value(self, node: Any, depth: int, source: Source | None = None) -> Any:
        source = source or self.source(node)
        self._count += 1
        if isinstance(node, yaml.ScalarNode):
            made = self._scalar(node, source)
            return self._marked(made, source) if self.secret else made
        identity = id(node)
        if identity in self._built:
            return self._alias(*self._built[identity], source)
        if identity in self._open:
            raise ConfigError(Problem("an alias that contains itself", source))
        if depth > MAX_DEPTH:
            raise ConfigError(Problem("the document is nested too deeply", source))
        before = self._count
        self._open.add(identity)
        made = self._container(node, source, depth)
        self._open.discard(identity)
        self._built[identity] = (made, self._count - before)
        return made

    def _alias(self, made: Any, size: int, source: Source) -> Any:
        self._count += size
        self._aliased += size
        if self._aliased > MAX_EXPANDED:
            raise ConfigError(Problem("the aliases of this document expand to too many values", source))
        return made

    def _container(self, node: Any, source: Source, depth: int) -> Map | Seq:
        sequence = isinstance(node, yaml.SequenceNode)
        if node.tag != ("tag:yaml.org,2002:seq" if sequence else "tag:yaml.org,2002:map"):
            self._unknown_tag(node, source)
        if not sequence:
            return self._mapping(node, source, depth)
        sources = [self.source(item) for item in node.value]
        items = [self.value(item, depth + 1, at) for item, at in zip(node.value, sources, strict=True)]
        return Seq(items, source, sources)

    def _mapping(self, node: Any, source: Source, depth: int) -> Map:
        made = Map((), source)
        for key, item in self._pairs(node, depth):
            at = self.source(key)
            name = self._key(key, depth + 1, at)
            if not isinstance(name, (str, int, float, bool)) and name is not None:
                template = isinstance(name, Map) and len(node.value) == 1 and node.flow_style and key.flow_style
                hint = 'a value that starts with a template must be quoted: "{{ … }}"' if template else None
                self.problems.append(Problem("a key must be a plain value, not a mapping or a list", at, hint))
                continue
            # Keys are strings everywhere; 8080: and yes: keep their spelling.
            name = str(name) if isinstance(name, str) else Key(key.value, name)
            if name in made and made.keys_at[name] != at:
                self.problems.append(
                    Problem(
                        f"the key '{name}' stands twice in this mapping",
                        at,
                        f"the first one is at line {made.keys_at[name].line}",
                    )
                )
            source = self.source(item)
            made[name] = self.value(item, depth + 1, source)
            made.keys_at[name] = at
            made.values_at[name] = source
        return made

    def _pairs(self, node: Any, depth: int) -> Iterator[tuple[Any, Any]]:
        """Key and value nodes, with merge keys (``<<``) first, so that the mapping's own keys win."""
        own: list[tuple[Any, Any]] = []
        own_names: set[str] = set()
        merged: list[tuple[Any, Any]] = []
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:merge":
                parts = item.value if isinstance(item, yaml.SequenceNode) else [item]
                for part in parts:
                    if isinstance(part, yaml.MappingNode):
                        merged.extend(self._pairs(part, depth + 1))
                    else:
                        self.problems.append(Problem("'<<' takes a mapping or a list of them", self.source(part)))
            else:
                own.append((key, item))
                own_names.add(str(getattr(key, "value", "")))
        seen: set[str] = set()
        for key, item in merged:
            name = str(getattr(key, "value", ""))
            if name not in own_names and name not in seen:
                seen.add(name)
                yield key, item
        yield from own

    def _key(self, node: Any, depth: int, source: Source) -> Any:
        """A key. Those of an encrypted file are names, and no secrets."""
        if isinstance(node, yaml.ScalarNode):
            self._count += 1
            return self._scalar(node, source)
        return self.value(node, depth, source)

    @staticmethod
    def _marked(value: Any, source: Source) -> Any:
        if isinstance(value, Vaulted):
            return value
        made = UnsafeSecret(value, source) if isinstance(value, Unsafe) else marked(value, source)
        if is_secret(made):
            learn(made)
        return made

    def _scalar(self, node: Any, source: Source) -> Any:
        tag = node.tag
        if tag == "!unsafe":
            return Unsafe(node.value, source)
        if tag in ("!vault", "!vault-encrypted"):
            self.problems.extend(vault.problems_of(node.value, source, below=1))
            return Vaulted(node.value, source)
        if tag == "tag:yaml.org,2002:str" or tag == "tag:yaml.org,2002:value":
            return Str(node.value, source)
        construct = yaml.SafeLoader.yaml_constructors.get(tag)
        if construct is None or not tag.startswith("tag:yaml.org,2002:") or tag == "tag:yaml.org,2002:binary":
            self._unknown_tag(node, source)
            return None
        try:
            value = construct(self._scalars, node)
        except (ValueError, yaml.YAMLError) as error:
            self.problems.append(Problem(f"not a valid value: {error}", source))
            return None
        # No field and no filter takes a date: what looks like one (a version, a name) is wanted as it was written.
        return Timestamp(node.value, source) if tag == "tag:yaml.org,2002:timestamp" else value

    def _unknown_tag(self, node: Any, source: Source) -> None:
        self.problems.append(
            Problem(f"the YAML tag '{node.tag}' is not known here", source, "write a plain value instead")
        )
