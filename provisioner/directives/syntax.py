"""How one directive's value is written, sent to systemd, and read back.

A ``Syntax`` knows four things of a directive: the one canonical form of its value (``canonical``, which also
finds what is wrong with it), the D-Bus properties that set it (``encode``: what ``systemd-run -p`` would
send), what systemd's own unit file has of it (``from_file``), and, for what can change on a running unit,
how its properties read back (``decode``). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from provisioner.directives import values
from provisioner.directives.values import BadValue

__all__ = [
    "Absolute",
    "Boolean",
    "Choice",
    "Item",
    "Lines",
    "Mode",
    "Nanoseconds",
    "Number",
    "Percentage",
    "Scalar",
    "Setting",
    "Size",
    "Span",
    "Syntax",
    "Text",
    "Upgraded",
    "Value",
    "Words",
    "bare",
    "simplified",
]

#: A canonical value: one text, or several where the directive may stand several times or takes a list.
Value = str | tuple[str, ...]


class Setting(NamedTuple):
    """One property of a unit as StartTransientUnit and SetUnitProperties take it."""

    property: str
    signature: str
    value: Any


class Syntax:
    """What all syntaxes share. ``many`` says that a value is a list."""

    many = False
    #: Whether the directive may be written several times, though its value is one text.
    several = False
    #: What a right value looks like, for hints and ``nsprov explain``.
    expects = "a value"
    #: The value of a unit that does not set the directive, where systemd has no better name for it.
    unset: Value = ""
    #: Whether a unit that does not set the directive may have another value, by the host's configuration.
    varies = False

    def canonical(self, texts: Sequence[str]) -> Value:
        """The one form of a value that stands in these assignments. Raises BadValue."""
        raise NotImplementedError

    def from_file(self, texts: Sequence[str]) -> Value:
        """The canonical value of what systemd itself wrote into a transient unit's file."""
        return self.canonical(texts)

    def encode(self, name: str, value: Value) -> list[Setting]:
        """The properties that give a unit this canonical value."""
        raise NotImplementedError

    def properties(self, name: str) -> tuple[str, ...]:
        """The properties that ``decode`` needs."""
        return (name,)

    def decode(self, name: str, found: Mapping[str, Any]) -> Value:
        """The canonical value of properties that were read from systemd."""
        raise NotImplementedError

    def settled(self, value: Value) -> Value:
        """What a daemon-reload leaves of a value: systemd writes some less exactly than it holds them."""
        return value


class Scalar(Syntax):
    """A directive that stands once; the last assignment counts."""

    def canonical(self, texts: Sequence[str]) -> str:
        text = texts[-1] if texts else ""
        return self.one(text) if text else str(self.unset)

    def one(self, text: str) -> str:
        raise NotImplementedError


class Text(Scalar):
    """Any text, as it stands; ``pattern`` is what all of it must match."""

    def __init__(self, expects: str = "a text", pattern: str | None = None) -> None:
        self.expects = expects
        self.pattern = re.compile(pattern) if pattern else None

    def one(self, text: str) -> str:
        if "\n" in text or "\0" in text:
            raise BadValue("it has more than one line", self.expects)
        if self.pattern and not self.pattern.fullmatch(text):
            raise BadValue(f"'{text}' is not {self.expects}")
        return text

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "s", value)]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        return str(found[name])


class Absolute(Text):
    """A path from the root; ``marks`` may stand before it, ``words`` instead of it."""

    def __init__(self, marks: str = "", words: tuple[str, ...] = ()) -> None:
        super().__init__("an absolute path")
        self.marks = marks
        self.words = words

    def one(self, text: str) -> str:
        path = super().one(text).lstrip(self.marks) if self.marks else super().one(text)
        mark = text[: len(text) - len(path)]
        if path in self.words:
            return text
        if not path.startswith("/"):
            raise BadValue(f"'{text}' is not an absolute path", "write the whole path, from /")
        return mark + simplified(path)


def simplified(path: str) -> str:
    """A path without doubled slashes, ``/./`` and a slash at its end, as systemd keeps it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


class Choice(Scalar):
    """One of some words; ``yes`` and ``no`` in any spelling where they are among them."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.expects = f"one of {', '.join(choices)}"

    def one(self, text: str) -> str:
        if text in self.choices:
            return text
        if "yes" in self.choices or "no" in self.choices:
            try:
                word = "yes" if values.boolean(text) else "no"
            except BadValue:
                pass
            else:
                text = word
        return values.one_of(text, self.choices)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "s", value)]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        return str(found[name])


class Boolean(Scalar):
    """``yes`` or ``no``."""

    expects = "yes or no"

    def __init__(self, unset: str = "no", *, varies: bool = False) -> None:
        self.unset = unset
        self.varies = varies

    def one(self, text: str) -> str:
        return "yes" if values.boolean(text) else "no"

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "b", value == "yes")]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        return "yes" if found[name] else "no"


class Upgraded(Choice):
    """A boolean that later versions gave more words, which go through a property of another name."""

    def __init__(self, *more: str) -> None:
        super().__init__("yes", "no", *more)

    unset = "no"

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value in ("yes", "no"):
            return [Setting(name, "b", value == "yes")]
        return [Setting(f"{name}Ex", "s", value)]


class Number(Scalar):
    """A whole number in a range; ``names`` may be written instead of numbers."""

    def __init__(
        self,
        signature: str = "u",
        low: int = 0,
        high: int = 2**32 - 1,
        names: Mapping[str, int] | None = None,
        unset: str = "",
        empty: int | None = None,
    ) -> None:
        self.signature = signature
        self.low, self.high = low, high
        self.names = names or {}
        self.called = {number: name for name, number in reversed(tuple(self.names.items()))}
        self.expects = f"one of {', '.join(self.names)}" if self.names else f"a number from {low} to {high}"
        self.unset = unset
        self.empty = empty

    def one(self, text: str) -> str:
        if text in self.names:
            number = self.names[text]
        else:
            try:
                number = values.integer(text, self.low, self.high)
            except BadValue as error:
                if self.names and not re.fullmatch(r"[+-]?\d+", text):
                    values.one_of(text, tuple(self.names))
                raise BadValue(error.message, self.expects) from None
        return self.called.get(number, str(number))

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value == "":
            return [] if self.empty is None else [Setting(name, self.signature, self.empty)]
        number = self.names[str(value)] if value in self.names else int(str(value))
        return [Setting(name, self.signature, number)]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        number = int(found[name])
        if number == self.empty:
            return str(self.unset)
        return self.called.get(number, str(number))


class Mode(Scalar):
    """An access mode in octal digits."""

    expects = "an access mode such as 0750"

    def one(self, text: str) -> str:
        if not re.fullmatch(r"(0o?)?[0-7]{1,4}", text):
            raise BadValue(f"'{text}' is not an access mode", 'quote it and write octal digits, for instance "0750"')
        return f"{int(text.replace('o', ''), 8):04o}"

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "u", int(str(value), 8))] if value else []


class Span(Scalar):
    """A time span; the property's name ends in USec where the directive's ends in Sec."""

    expects = "a time span such as 90, 1min 30s, 500ms or infinity"

    def __init__(self, unset: str = "", empty: int | None = None) -> None:
        self.unset = unset
        self.empty = empty

    def one(self, text: str) -> str:
        usec = values.span(text)
        return str(self.unset) if usec == self.empty else values.span_text(usec)

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value == self.unset and not value:
            return [] if self.empty is None else [Setting(_usec(name), "t", self.empty)]
        return [Setting(_usec(name), "t", values.span(str(value)))]

    def properties(self, name: str) -> tuple[str, ...]:
        return (_usec(name),)

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        usec = int(found[_usec(name)])
        return str(self.unset) if usec == self.empty else values.span_text(usec)

    def settled(self, value: Value) -> Value:
        if not value or value == "infinity":
            return value
        usec = values.span(str(value))
        return values.span_text(usec - usec % 1000)


def _usec(name: str) -> str:
    return f"{name.removesuffix('Sec')}USec" if name.endswith("Sec") else name


class Nanoseconds(Scalar):
    """A time span in nanoseconds."""

    expects = "a time span such as 50us or 1000"

    def one(self, text: str) -> str:
        return str(values.span(text, per_second=1_000_000_000, default="ns"))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "t", int(str(value)))] if value else []


class Size(Scalar):
    """A number of bytes."""

    expects = "a size such as 4096, 512K or 8M"

    def one(self, text: str) -> str:
        return values.bytes_text(values.size(text))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "t", values.size(str(value)))] if value else []


class Percentage(Scalar):
    """A share of 100 percent, sent as a fraction of 2^32-1."""

    expects = "a percentage from 0% to 100%"
    unset = "0%"

    def one(self, text: str) -> str:
        share = values.percent(text)
        if share is None or share > 10000:
            raise BadValue(f"'{text}' is not a percentage from 0% to 100%", "for instance 50% or 12.5%")
        return values.percent_text(share)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "u", scale(values.percent(str(value)) or 0))]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        return values.percent_text((int(found[name]) * 10000 + (2**32 - 1) // 2) // (2**32 - 1))


def scale(permyriad: int) -> int:
    """Hundredths of a percent as systemd sends them: 2^32-1 is 100 %."""
    return (permyriad * (2**32 - 1) + 5000) // 10000


class Lines(Syntax):
    """A directive that may stand several times; an empty assignment forgets those before it."""

    many = True
    unset = ()
    #: Whether the order of the items says something. Where it does not, they are sorted.
    ordered = True

    def canonical(self, texts: Sequence[str]) -> tuple[str, ...]:
        found: list[str] = []
        for text in texts:
            if text.strip():
                found += self.items(text.strip())
            else:
                found = []
        return self.arranged(found)

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        return tuple(items) if self.ordered else tuple(sorted(set(items)))

    def items(self, text: str) -> list[str]:
        """The canonical items of one assignment."""
        raise NotImplementedError


class Words(Lines):
    """A list of words, sent as an array of strings."""

    def __init__(
        self,
        expects: str = "a list of words",
        pattern: str | None = None,
        *,
        ordered: bool = False,
        escapes: bool = True,
        paths: bool = False,
    ) -> None:
        self.expects = expects
        self.pattern = re.compile(pattern) if pattern else None
        self.ordered = ordered
        self.escapes = escapes
        self.paths = paths

    def items(self, text: str) -> list[str]:
        found = values.words(text, escapes=self.escapes)
        for word in found:
            if self.pattern and not self.pattern.fullmatch(word):
                raise BadValue(f"'{word}' does not fit", f"it takes {self.expects}")
        found = [self._simplified(word) for word in found] if self.paths else found
        return [values.quoted(word) for word in found] if self.escapes else found

    def _simplified(self, word: str) -> str:
        path = word.lstrip("-+")
        return word[: len(word) - len(path)] + simplified(path)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "as", bare(value) if self.escapes else list(value))]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged([values.quoted(str(word)) for word in found[name]])


def bare(items: Sequence[str]) -> list[str]:
    """Items that are one word each, without the quotes that they are written in."""
    return [word for item in items for word in values.words(item)]


class Item(Lines):
    """A directive of which each assignment is one item: an address, a path, a condition."""

    def items(self, text: str) -> list[str]:
        return [self.item(text)]

    def item(self, text: str) -> str:
        raise NotImplementedError
