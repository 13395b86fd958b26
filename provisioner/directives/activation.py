"""The syntaxes of what starts a unit: conditions, timers, sockets, paths."""

from __future__ import annotations

import ipaddress
import re

from provisioner.directives import values
from provisioner.directives.syntax import Item, Setting, Syntax, Value, simplified
from provisioner.directives.values import BadValue

__all__ = ["Both", "Calendar", "Condition", "Listen", "Monotonic", "Watched"]


class Condition(Item):
    """A condition or an assertion: ``[|][!]value``."""

    expects = "[|][!]value"

    def __init__(self, group: str) -> None:
        self.group = group

    def item(self, text: str) -> str:
        match = re.match(r"(\|?)\s*(!?)\s*", text)
        if not match or not text[match.end() :]:
            raise BadValue(f"'{text}' says nothing to check", f"it takes {self.expects}")
        return match[1] + match[2] + text[match.end() :]

    def encode(self, name: str, value: Value) -> list[Setting]:
        made = []
        for item in value:
            rest = item.removeprefix("|")
            made.append((name, item.startswith("|"), rest.startswith("!"), rest.removeprefix("!")))
        return [Setting(self.group, "a(sbbs)", made)]


class Monotonic(Item):
    """Time spans after an event, at which a timer elapses."""

    expects = "a time span such as 15min"

    def item(self, text: str) -> str:
        usec = values.span(text)
        return values.span_text(usec - usec % 1000)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("TimersMonotonic", "a(st)", [(name, values.span(item)) for item in value])]


_DAY = r"(?:mon|monday|tue|tuesday|wed|wednesday|thu|thursday|fri|friday|sat|saturday|sun|sunday)"
_DAYS = rf"{_DAY}(?:(?:\.\.|-|,){_DAY})*,?"
_FIELD = r"[\d*][\d*,/.]*"
_DATE = rf"(?:{_FIELD}-)?{_FIELD}[-~]{_FIELD}|@\d+"
_TIME = rf"{_FIELD}:{_FIELD}(?::{_FIELD})?"
_WORDS = (
    "minutely|hourly|daily|monthly|weekly|annually|yearly|anually|quarterly|"
    "biannually|bi-annually|semiannually|semi-annually"
)
_CALENDAR = re.compile(
    rf"(?:{_WORDS}|(?:{_DAYS}(?: (?:{_DATE}))?|{_DATE})(?:[ T]{_TIME})?|{_TIME})(?: [A-Za-z][A-Za-z0-9_+/-]*)?",
    re.IGNORECASE,
)


class Calendar(Item):
    """Calendar events: ``daily``, ``Mon..Fri 08:30``, ``*-*-01 04:00:00 UTC``."""

    expects = "a calendar event such as daily, Mon..Fri 08:30 or *-*-01 04:00"

    def item(self, text: str) -> str:
        plain = " ".join(text.split())
        if not _CALENDAR.fullmatch(plain):
            hint = "quote it: YAML reads 12:30 as a number" if plain.isdigit() else None
            raise BadValue(f"'{text}' is not a calendar event", hint or f"it takes {self.expects}")
        for number in re.findall(r"(?<![\d.])(\d+):(\d+)(?::(\d+))?", plain):
            hour, minute, second = (int(part or 0) for part in number)
            if hour > 23 or minute > 59 or second > 60:
                raise BadValue(f"'{text}' is not a time of day", f"it takes {self.expects}")
        return plain

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("TimersCalendar", "a(ss)", [(name, item) for item in value])]


class Watched(Item):
    """Paths that a path unit watches."""

    expects = "an absolute path"

    def item(self, text: str) -> str:
        if not text.startswith("/"):
            raise BadValue(f"'{text}' is not an absolute path", "write the whole path, from /")
        return simplified(text)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("Paths", "a(ss)", [(name, item) for item in value])]


class Listen(Item):
    """What a socket listens on: a port, ``address:port``, a path, ``@abstract``, ``vsock:CID:port``."""

    def __init__(self, paths_only: bool = False) -> None:
        self.paths_only = paths_only
        self.expects = "an absolute path" if paths_only else "a port, address:port, a path or @name"

    def item(self, text: str) -> str:
        if text.startswith("/"):
            return simplified(text)
        if not self.paths_only and not self._fits(text):
            raise BadValue(f"'{text}' is not an address to listen on", f"it takes {self.expects}")
        if self.paths_only and not text.startswith("/"):
            raise BadValue(f"'{text}' is not an absolute path", "write the whole path, from /")
        return text

    def _fits(self, text: str) -> bool:
        if text.startswith("@") or re.fullmatch(r"vsock(-\w+)?:[^:]*:\d+", text):
            return True
        address, colon, port = text.rpartition(":")
        host = address.removeprefix("[").partition("]")[0] if address.startswith("[") else address
        if not re.fullmatch(r"\d+", port.partition("%")[0]) or not 1 <= int(port.partition("%")[0]) <= 65535:
            return False
        try:
            return not colon or bool(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            return False

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("Listen", "a(ss)", [(name.removeprefix("Listen"), item) for item in value])]


class Anything(Item):
    """Whatever systemd itself will judge."""

    expects = "a text"

    def item(self, text: str) -> str:
        return text

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting("Listen", "a(ss)", [(name.removeprefix("Listen"), item) for item in value])]


class Both:
    """A directive that is short for several others (``TimeoutSec=`` of a service)."""

    def __init__(self, syntax: Syntax, *names: str) -> None:
        self.syntax = syntax
        self.names = names
