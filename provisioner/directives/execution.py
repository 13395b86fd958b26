"""The syntaxes of execution settings: commands, environments, mounts, credentials, limits, capabilities."""

from __future__ import annotations

import base64
import errno
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

from provisioner.directives import values
from provisioner.directives.exits import EXIT_STATUS
from provisioner.directives.syntax import Absolute, Item, Lines, Scalar, Setting, Text, Value, bare, simplified
from provisioner.directives.values import INFINITY, BadValue

__all__ = [
    "Binds",
    "Capabilities",
    "Commands",
    "CoredumpFilter",
    "Credentials",
    "Directories",
    "Environment",
    "EnvironmentFiles",
    "ErrorNumber",
    "ExitStatuses",
    "Hex",
    "Images",
    "InputData",
    "LogFields",
    "LogPatterns",
    "Marked",
    "Namespaces",
    "OpenFiles",
    "Propagation",
    "ResourceLimit",
    "RootOptions",
    "SearchPath",
    "SecureBits",
    "Signal",
    "Stream",
    "TemporaryFileSystems",
]

# -- commands -------------------------------------------------------------------------------------

_PREFIX = re.compile(r"[-@:+!]*")
#: How D-Bus names the prefixes of a command, in the order in which systemd writes them.
_FLAGS = {"-": "ignore-failure", ":": "no-env-expand", "+": "privileged", "!!": "ambient", "!": "no-setuid"}


class Commands(Lines):
    """Command lines: an executable, its arguments in systemd's quoting, and the prefixes ``- @ : + ! !!``."""

    expects = "a command line such as /usr/bin/python3 -m http.server 80"

    def __init__(self, prefixes: str = "-@:+!") -> None:
        #: The prefixes that this kind of unit knows.
        self.prefixes = prefixes

    def items(self, text: str) -> list[str]:
        return [self._item(part) for part in _commands(text)]

    def _item(self, text: str) -> str:
        flags, path, argv = self.parsed(text)
        made = "".join(flag for flag in _FLAGS if flag in flags)
        return f"{made}@{values.quoted(path)} {line(argv)}" if path != argv[0] else made + line(argv)

    def parsed(self, text: str) -> tuple[list[str], str, list[str]]:
        """A command's flags (its prefixes but ``@``), its executable, and its whole argument list."""
        match = _PREFIX.match(text)
        prefix = match[0] if match else ""
        if set(prefix) - set(self.prefixes):
            raise BadValue(f"the prefix '{prefix}' is not for this kind of unit", f"it knows {' '.join(self.prefixes)}")
        argv = [";" if word == "\\;" else word for word in values.words(text[len(prefix) :])]
        if not argv:
            raise BadValue(f"'{text}' has no command", f"it takes {self.expects}")
        flags = list(prefix.replace("!!", "").replace("@", "")) + (["!!"] if "!!" in prefix else [])
        if len([flag for flag in flags if flag in ("+", "!", "!!")]) > 1 or len(set(flags)) < len(flags):
            raise BadValue(f"the prefixes '{prefix}' do not go together", "one of +, ! and !!")
        given, path = argv[0], simplified(argv[0])
        if "@" in prefix:
            argv = argv[1:]
            if not argv:
                raise BadValue(f"'{text}' names no argv[0]", "after @ come the executable, its argv[0] and arguments")
        elif argv[0] != path:
            argv = [path, *argv[1:]]
        if "/" in given and not given.startswith("/"):
            raise BadValue(f"the executable '{given}' is a relative path", "write it from /, or its name alone")
        if given.endswith(("/", "/.", "/..")):
            raise BadValue(f"the executable '{given}' is a directory", f"it takes {self.expects}")
        return flags, path, argv

    def from_file(self, texts: Sequence[str]) -> Value:
        """systemd 252 writes ``\\$`` for a dollar, and later versions ``$$``."""
        return self.canonical([re.sub(r"\\\$|\$\$", "$", text).replace("\\;", ";") for text in texts])

    def encode(self, name: str, value: Value) -> list[Setting]:
        parsed = [self.parsed(item) for item in value]
        if any(set(flags) - {"-"} for flags, _, _ in parsed):
            made = [(path, argv, [_FLAGS[flag] for flag in flags]) for flags, path, argv in parsed]
            return [Setting(f"{name}Ex", "a(sasas)", made)]
        return [Setting(name, "a(sasb)", [(path, argv, "-" in flags) for flags, path, argv in parsed])]


def _commands(text: str) -> list[str]:
    """The commands of a line, which stand with a lone ``;`` between them."""
    found, at, quote = [""], 0, ""
    while at < len(text):
        char = text[at]
        if char == "\\":
            found[-1] += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        lone = char == ";" and not quote and (at == 0 or text[at - 1].isspace()) and text[at + 1 : at + 2].strip() == ""
        if lone:
            found.append("")
        else:
            found[-1] += char
        at += 1
    return [part.strip() for part in found if part.strip()]


def line(argv: Sequence[str]) -> str:
    """An argument list as it stands in a unit file."""
    return " ".join(f'"{word}"' if word == ";" else values.quoted(word) for word in argv)


# -- environment, log fields ----------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


class Environment(Lines):
    """Variables: ``NAME=value``, with quotes around an assignment that has blanks; the last of a name counts."""

    ordered = False
    expects = 'NAME=value, or "NAME=value with blanks", or a mapping'

    def items(self, text: str) -> list[str]:
        found = values.words(text)
        for word in found:
            if not _VARIABLE.fullmatch(word):
                raise BadValue(
                    f"'{word}' is not an assignment", f'it takes {self.expects}; quote what has blanks: "NAME=a b"'
                )
        return [values.quoted(word) for word in found]

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        by_name = {item.lstrip('"').partition("=")[0]: item for item in items}
        return tuple(by_name[name] for name in sorted(by_name))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "as", bare(value))]


class EnvironmentFiles(Item):
    """Files of variables; ``-`` before a path means that it may be missing."""

    expects = "an absolute path, or - and one"
    _path = Absolute("-")

    def item(self, text: str) -> str:
        return self._path.one(text)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("EnvironmentFiles", "a(sb)", [(one.removeprefix("-"), one[0] == "-") for one in value])]


class LogFields(Item):
    """Fields that are added to each log line: ``FIELD=value``."""

    expects = "FIELD=value"

    def item(self, text: str) -> str:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", text, re.DOTALL):
            raise BadValue(f"'{text}' is not a journal field", f"it takes {self.expects}, the name in upper case")
        return text

    def from_file(self, texts: Sequence[str]) -> Value:
        return self.canonical([values.c_unescape(text).decode() for text in texts])

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "aay", [list(item.encode()) for item in value])]


class LogPatterns(Item):
    """Patterns of log lines that are kept, or with ``~`` before them dropped."""

    expects = "a regular expression, or ~ and one"

    def item(self, text: str) -> str:
        return text

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(bs)", [(one[0] != "~", one.removeprefix("~")) for one in value])]


# -- files and mounts -----------------------------------------------------------------------------


class Binds(Lines):
    """Bind mounts: ``[-]source[:destination[:rbind|norbind]]``."""

    expects = "[-]source[:destination[:rbind|norbind]]"

    def items(self, text: str) -> list[str]:
        return [values.quoted(self._text(*self._parsed(word))) for word in values.words(text)]

    def _parsed(self, word: str) -> tuple[str, str, bool, int]:
        source, _, rest = word.partition(":")
        target, _, options = rest.partition(":")
        path = source.removeprefix("-")
        if options not in ("", "rbind", "norbind") or not path.startswith("/") or (target and target[0] != "/"):
            raise BadValue(f"'{word}' is not a bind mount", f"it takes {self.expects}, the paths from /")
        return simplified(path), simplified(target or path), source[0] == "-", 0 if options == "norbind" else 0x4000

    def _text(self, source: str, target: str, optional: bool, flags: int) -> str:
        mark = "-" if optional else ""
        if not flags:
            return f"{mark}{source}:{target}:norbind"
        return mark + source if source == target else f"{mark}{source}:{target}"

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(ssbt)", [self._parsed(item) for item in bare(value)])]


class TemporaryFileSystems(Lines):
    """Mount points of tmpfs: ``path[:options]``."""

    expects = "path[:options], such as /var:ro"

    def items(self, text: str) -> list[str]:
        found = []
        for word in values.words(text):
            path, _, options = word.partition(":")
            if not path.startswith("/"):
                raise BadValue(f"'{word}' is not a mount point", f"it takes {self.expects}")
            found.append(values.quoted(f"{simplified(path)}:{options}" if options else simplified(path)))
        return found

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(ss)", [(one.partition(":")[0], one.partition(":")[2]) for one in bare(value)])]


class Directories(Lines):
    """Directories below /run, /var/lib, /var/cache, /var/log: ``name[:link[:ro]]``."""

    ordered = False
    expects = "a relative path, or path:link, or path:link:ro"

    def items(self, text: str) -> list[str]:
        found = []
        for word in values.words(text):
            path, _, rest = word.partition(":")
            link, _, flag = rest.partition(":")
            if word.startswith("/") or ".." in word.split("/") or flag not in ("", "ro") or not path:
                raise BadValue(f"'{word}' is not a relative path", f"it takes {self.expects}")
            parts = [simplified(path), simplified(link) if link else "", flag]
            found.append(values.quoted(":".join(parts).rstrip(":")))
        return found

    def encode(self, name: str, value: Value) -> list[Setting]:
        plain = [item for item in bare(value) if ":" not in item]
        linked = [((item + "::").split(":"))[:3] for item in bare(value) if ":" in item]
        made = [Setting(name, "as", plain)] if plain or not linked else []
        if linked:
            triples = [(path, link, 1 if flag == "ro" else 0) for path, link, flag in linked]
            made.append(Setting(f"{name}Symlink", "a(sst)", triples))
        return made


class Images(Lines):
    """Disk images to mount: ``[-]source:destination[:partition:options…]``."""

    def __init__(self, *, destination: bool) -> None:
        self.destination = destination
        self.expects = "[-]source:destination[:options]" if destination else "[-]source[:options]"

    def items(self, text: str) -> list[str]:
        found = values.words(text)
        for word in found:
            self._parsed(word)
        return [values.quoted(word) for word in found]

    def _parsed(self, word: str) -> tuple[Any, ...]:
        parts = word.split(":")
        source = parts.pop(0)
        head: tuple[Any, ...]
        if self.destination:
            if not parts or not parts[0].startswith("/"):
                raise BadValue(f"'{word}' is not an image and its mount point", f"it takes {self.expects}")
            head = (source.removeprefix("-"), parts.pop(0), source[0] == "-")
        else:
            head = (source.removeprefix("-"), source[0] == "-")
        if not head[0].startswith("/"):
            raise BadValue(f"'{word}' is not an absolute path", f"it takes {self.expects}")
        return (*head, _partitions(parts))

    def encode(self, name: str, value: Value) -> list[Setting]:
        signature = "a(ssba(ss))" if self.destination else "a(sba(ss))"
        return [Setting(name, signature, [self._parsed(item) for item in bare(value)])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        made = []
        for source, *target, optional, partitions in found[name]:
            options = [text for pair in partitions for text in pair if text]
            options = options[1:] if len(partitions) == 1 and options[:1] == ["root"] else options
            made.append(values.quoted(":".join([("-" if optional else "") + source, *target, *options])))
        return tuple(made)


def _partitions(parts: Sequence[str]) -> list[tuple[str, str]]:
    if len(parts) == 1:
        return [("root", parts[0])]
    return [(parts[at], parts[at + 1] if at + 1 < len(parts) else "") for at in range(0, len(parts), 2)]


class RootOptions(Lines):
    """Mount options of the root image's partitions: ``[partition:]options``."""

    expects = "[partition:]options, such as root:ro"

    def items(self, text: str) -> list[str]:
        return [values.quoted(word if ":" in word else f"root:{word}") for word in values.words(text)]

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(ss)", [tuple(item.split(":", 1)) for item in bare(value)])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(values.quoted(f"{partition}:{options}") for partition, options in found[name])


class SearchPath(Lines):
    """Directories in which executables are looked for, with colons between them."""

    expects = "absolute paths with colons between them"

    def items(self, text: str) -> list[str]:
        found = [part for part in text.split(":") if part]
        for path in found:
            if not path.startswith("/"):
                raise BadValue(f"'{path}' is not an absolute path", f"it takes {self.expects}")
        return [simplified(path) for path in found]

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "as", list(value))]


class OpenFiles(Item):
    """Files that are opened for the service: ``path[:name[:options]]``."""

    expects = "path[:name[:read-only,append,truncate,graceful]]"
    _options: Final = {"read-only": 1, "append": 2, "truncate": 4, "graceful": 8}

    def item(self, text: str) -> str:
        self._parsed(text)
        return text

    def _parsed(self, text: str) -> tuple[str, str, int]:
        path, _, rest = text.partition(":")
        name, _, options = rest.partition(":")
        flags = 0
        for option in options.split(",") if options else ():
            flags |= self._options[values.one_of(option, tuple(self._options))]
        if not path.startswith("/"):
            raise BadValue(f"'{text}' is not an absolute path", f"it takes {self.expects}")
        return path, name or path.rpartition("/")[2], flags

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(sst)", [self._parsed(item) for item in value])]


# -- input, output, credentials -------------------------------------------------------------------


class Stream(Text):
    """Where a standard stream goes: a word, or ``file:``, ``append:``, ``truncate:`` and a path, or ``fd:`` name."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.files = ("file",) if "data" in words else ("file", "append", "truncate")
        super().__init__(f"one of {', '.join(words)}, {':PATH, '.join(self.files)}:PATH, fd:NAME")

    def one(self, text: str) -> str:
        kind, colon, rest = text.partition(":")
        if kind == "fd":
            return text
        if not colon:
            return values.one_of(text, self.words)
        if kind not in self.files or not rest.startswith("/"):
            raise BadValue(f"'{text}' is not a stream", self.expects)
        return f"{kind}:{simplified(rest)}"

    def encode(self, name: str, value: Value) -> list[Setting]:
        kind, colon, rest = str(value).partition(":")
        if not colon and kind != "fd":
            return [Setting(name, "s", value)]
        suffix = {"fd": "FileDescriptorName", "file": "File", "append": "FileToAppend", "truncate": "FileToTruncate"}
        return [Setting(name + suffix[kind], "s", rest)]


class InputData(Scalar):
    """What a service reads from its standard input, in base64."""

    expects = "base64"
    several = True

    def canonical(self, texts: Sequence[str]) -> str:
        data = b""
        for text in texts:
            data = data + values.base64_bytes(text) if text else b""
        return base64.b64encode(data).decode()

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("StandardInputData", "ay", list(values.base64_bytes(str(value))))]


class Credentials(Item):
    """Credentials: ``id:value`` (set), or ``id:path`` (load)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.expects = {"set": "id:value", "encrypted": "id: and base64", "load": "id, or id:path"}[kind]

    def item(self, text: str) -> str:
        one, colon, rest = text.partition(":")
        if not one or (not colon and self.kind != "load"):
            raise BadValue("it is not a credential", f"it takes {self.expects}")
        if self.kind == "load":
            return f"{one}:{rest or one}"
        if self.kind == "encrypted":
            return f"{one}:{base64.b64encode(values.base64_bytes(rest)).decode()}"
        return f"{one}:{_escaped(values.c_unescape(rest))}"

    def encode(self, name: str, value: Value) -> list[Setting]:
        pairs = [tuple(item.split(":", 1)) for item in value]
        if self.kind == "load":
            return [Setting(name, "a(ss)", pairs)]
        read = values.base64_bytes if self.kind == "encrypted" else values.c_unescape
        return [Setting(name, "a(say)", [(one, list(read(text))) for one, text in pairs])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(f"{one}:{base64.b64encode(bytes(octets)).decode()}" for one, octets in found[name])


def _escaped(data: bytes) -> str:
    return "".join(chr(one) if 32 <= one < 127 and one not in b"\\" else f"\\x{one:02x}" for one in data)


# -- limits, capabilities, masks ------------------------------------------------------------------


class ResourceLimit(Scalar):
    """A process limit: one value, or ``soft:hard``; in ``unit`` bytes, seconds, microseconds, nice or a count."""

    def __init__(self, unit: str = "count") -> None:
        self.unit = unit
        what = {"bytes": "a size", "s": "a time span", "us": "a time span", "nice": "+N or -N"}.get(unit, "a number")
        self.expects = f"{what} or infinity, or soft:hard"

    def one(self, text: str) -> str:
        soft, colon, hard = text.partition(":")
        low = self._number(soft.strip())
        high = self._number(hard.strip()) if colon else low
        if low > high:
            raise BadValue(f"the soft limit {soft} is above the hard limit {hard}", "write soft:hard")
        return self._text(low) if low == high else f"{self._text(low)}:{self._text(high)}"

    def _number(self, text: str) -> int:
        if text == "infinity":
            return INFINITY
        if self.unit == "bytes":
            return values.size(text)
        if self.unit == "s":
            return -(-values.span(text) // 1_000_000)
        if self.unit == "us":
            return values.span(text, default="us")
        if self.unit == "nice" and text[:1] in "+-":
            return 20 - values.integer(text, -20, 19)
        return values.integer(text, 0, INFINITY - 1)

    def _text(self, number: int) -> str:
        if number == INFINITY:
            return "infinity"
        return values.bytes_text(number) if self.unit == "bytes" else str(number)

    def encode(self, name: str, value: Value) -> list[Setting]:
        if not value:
            return []
        soft, _, hard = str(value).partition(":")
        low = self._number(soft)
        high = self._number(hard) if hard else low
        return [Setting(name, "t", high), Setting(f"{name}Soft", "t", low)]


_CAPABILITIES = (  # noqa: SIM905
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
_ALL_CAPABILITIES = (1 << len(_CAPABILITIES)) - 1


class Capabilities(Scalar):
    """Capabilities: ``CAP_A CAP_B``, or all but some: ``~CAP_A``."""

    expects = "names such as CAP_NET_BIND_SERVICE, or ~ and names"
    several = True

    def __init__(self, *, full: bool) -> None:
        #: What a unit starts from: all of them (a bounding set), or none.
        self.initial = _ALL_CAPABILITIES if full else 0
        self.unset = _capability_text(self.initial)

    def canonical(self, texts: Sequence[str]) -> str:
        mask = self.initial
        for text in texts:
            inverted, named = text.startswith("~"), self._mask(text.removeprefix("~"))
            if not named or mask == self.initial:
                mask = _ALL_CAPABILITIES & ~named if inverted else named
            else:
                mask = mask & ~named if inverted else mask | named
        return _capability_text(mask)

    def _mask(self, text: str) -> int:
        mask = 0
        for word in values.words(text):
            name = word.upper().removeprefix("CAP_")
            if name not in _CAPABILITIES:
                values.one_of(word.upper(), tuple(f"CAP_{one}" for one in _CAPABILITIES))
            mask |= 1 << _CAPABILITIES.index(name)
        return mask

    def encode(self, name: str, value: Value) -> list[Setting]:
        text = str(value)
        mask = self._mask(text.removeprefix("~"))
        return [Setting(name, "t", INFINITY & ~mask if text.startswith("~") else mask)]


def _capability_text(mask: int) -> str:
    inverted = mask.bit_count() > len(_CAPABILITIES) // 2
    shown = _ALL_CAPABILITIES & ~mask if inverted else mask
    names = sorted(f"CAP_{name}" for at, name in enumerate(_CAPABILITIES) if shown >> at & 1)
    return ("~" if inverted else "") + " ".join(names)


class SecureBits(Scalar):
    """The secure bits of a process."""

    _bits: Final = {
        "keep-caps": 16,
        "keep-caps-locked": 32,
        "no-setuid-fixup": 4,
        "no-setuid-fixup-locked": 8,
        "noroot": 1,
        "noroot-locked": 2,
    }
    expects = f"some of {', '.join(_bits)}"

    def one(self, text: str) -> str:
        return " ".join(sorted({values.one_of(word, tuple(self._bits)) for word in values.words(text)}))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "i", sum(self._bits[word] for word in str(value).split()))]


class CoredumpFilter(Scalar):
    """Which mappings a core dump has: names, or a hexadecimal mask."""

    _names = (  # noqa: SIM905
        "private-anonymous shared-anonymous private-file-backed shared-file-backed elf-headers private-huge "
        "shared-huge private-dax shared-dax"
    ).split()
    expects = f"some of {', '.join(_names)}, all, default, or a hexadecimal mask"

    def one(self, text: str) -> str:
        mask = 0
        for word in values.words(text):
            if word in ("default", "all"):
                mask |= 0x33 if word == "default" else 2**64 - 1
            elif word in self._names:
                mask |= 1 << self._names.index(word)
            else:
                try:
                    mask |= int(word, 16)
                except ValueError:
                    values.one_of(word, tuple(self._names))
        return hex(mask)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "t", int(str(value), 16))] if value else []


_NAMESPACES = {
    "cgroup": 0x02000000,
    "ipc": 0x08000000,
    "mnt": 0x00020000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "user": 0x10000000,
    "uts": 0x04000000,
}


class Namespaces(Scalar):
    """Which namespaces may be made: ``no`` restriction, ``yes`` for none at all, or names, or ``~`` and names."""

    expects = f"yes, no, or some of {', '.join(_NAMESPACES)}"
    several = True
    unset = "no"

    def canonical(self, texts: Sequence[str]) -> str:
        """The names that may be made; several assignments add and take away."""
        allowed: set[str] | None = None
        for text in texts:
            try:
                allowed = set() if text and values.boolean(text) else None
                continue
            except BadValue:
                pass
            names = {values.one_of(word, tuple(_NAMESPACES)) for word in values.words(text.removeprefix("~"))}
            if text.startswith("~"):
                allowed = (set(_NAMESPACES) if allowed is None else allowed) - names
            else:
                allowed = names | (allowed or set())
        if allowed is None or allowed == set(_NAMESPACES):
            return "no"
        return " ".join(sorted(allowed)) or "yes"

    def from_file(self, texts: Sequence[str]) -> Value:
        """systemd writes "none at all" as an empty value."""
        return "yes" if texts and not texts[-1] else self.canonical(texts)

    def encode(self, name: str, value: Value) -> list[Setting]:
        allowed = {"yes": [], "no": list(_NAMESPACES)}.get(str(value), str(value).split())
        return [Setting(name, "t", sum(_NAMESPACES[one] for one in allowed))]


class Propagation(Scalar):
    """How mounts propagate."""

    _flags: Final = {"shared": 1 << 20, "slave": 1 << 19, "private": 1 << 18}
    expects = "shared, slave or private"

    def one(self, text: str) -> str:
        return values.one_of(text, tuple(self._flags))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "t", self._flags.get(str(value), 0))]


class Signal(Scalar):
    """A signal by name or number."""

    expects = "a signal such as SIGTERM"

    def one(self, text: str) -> str:
        return _signal_text(_signal(text))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "i", _signal(str(value)))] if value else []


def _signal(text: str) -> int:
    word = text.upper().removeprefix("SIG")
    if word.isdigit() and 1 <= int(word) <= 64:
        return int(word)
    if match := re.fullmatch(r"RTMIN(?:\+(\d+))?|RTMAX(?:-(\d+))?", word):
        return (
            signal.SIGRTMIN + int(match[1] or 0) if word.startswith("RTMIN") else signal.SIGRTMAX - int(match[2] or 0)
        )
    known = {one.name for one in signal.Signals}
    return int(signal.Signals[values.one_of(f"SIG{word}", tuple(sorted(known)))])


def _signal_text(number: int) -> str:
    if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


class ExitStatuses(Lines):
    """Exit statuses by number or name, and signals."""

    ordered = False
    expects = "exit statuses and signals, such as 1 TEMPFAIL SIGKILL"

    def items(self, text: str) -> list[str]:
        return [_status(word) for word in values.words(text)]

    def encode(self, name: str, value: Value) -> list[Setting]:
        statuses = [int(item) for item in value if item.isdigit()]
        signals = [_signal(item) for item in value if not item.isdigit()]
        return [Setting(name, "(aiai)", (statuses, signals))]


def _status(word: str) -> str:
    if word in EXIT_STATUS:
        return str(EXIT_STATUS[word])
    if word.isdigit():
        return str(values.integer(word, 0, 255))
    try:
        return _signal_text(_signal(word))
    except BadValue:
        raise BadValue(f"'{word}' is neither an exit status nor a signal", "such as 1, TEMPFAIL or SIGKILL") from None


_KILL = 2**31 - 2


class ErrorNumber(Scalar):
    """What a forbidden system call answers: an error's name or number, or ``kill``."""

    expects = "an error such as EPERM, or kill"

    def one(self, text: str) -> str:
        if text in ("kill", str(_KILL)):
            return "kill"
        if text.isdigit():
            return errno.errorcode.get(int(text), text)
        return values.one_of(text, tuple(sorted(errno.errorcode.values())))

    def encode(self, name: str, value: Value) -> list[Setting]:
        if not value:
            return []
        text = str(value)
        number = _KILL if text == "kill" else int(text) if text.isdigit() else int(getattr(errno, text))
        return [Setting(name, "i", number)]


class Marked(Text):
    """A profile or label; ``-`` before it means that it may be missing."""

    def encode(self, name: str, value: Value) -> list[Setting]:
        text = str(value)
        return [Setting(name, "(bs)", (text.startswith("-"), text.removeprefix("-")))]


class Hex(Scalar):
    """A hash in hexadecimal digits, or a path to it; a signature in ``base64:``, or a path to it."""

    def __init__(self, signature: bool = False) -> None:
        self.signed = signature
        self.expects = "base64: and base64, or an absolute path" if signature else "hexadecimal digits, or a path"

    def one(self, text: str) -> str:
        if text.startswith("/"):
            return simplified(text)
        if self.signed and text.startswith("base64:"):
            return "base64:" + base64.b64encode(values.base64_bytes(text.removeprefix("base64:"))).decode()
        if self.signed or not re.fullmatch(r"([0-9a-fA-F]{2}){16,}", text):
            raise BadValue(f"'{text}' does not fit", f"it takes {self.expects}")
        return text.lower()

    def encode(self, name: str, value: Value) -> list[Setting]:
        text = str(value)
        if text.startswith("/"):
            return [Setting(f"{name}Path", "s", text)]
        octets = values.base64_bytes(text.removeprefix("base64:")) if self.signed else bytes.fromhex(text)
        return [Setting(name, "ay", list(octets))]
