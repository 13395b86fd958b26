"""Host patterns of an inventory: ranges such as ``web[01:12:3]``, and ports such as ``host:2222``."""

from __future__ import annotations

import ipaddress
import re
import string

__all__ = ["MAX_HOSTS", "expand_hosts", "is_address", "split_port"]

#: What one pattern may expand to; a range beyond it is a slip of the keyboard.
MAX_HOSTS = 100_000

_RANGE = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_HEX_RANGE = re.compile(r"\[[0-9a-f]+:[0-9a-f]+(?::[0-9]+)?\]", re.IGNORECASE)
_LABEL = rf"(?:\w|{_RANGE})(?:[\w-]|{_RANGE})*(?<![_-])"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_BRACKETED_WITH_PORT = re.compile(r"\[(.+)\]:([0-9]+)")
_NAME_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")


def is_address(name: str) -> bool:
    """Whether a host's name is an IP address rather than a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def split_port(text: str, *, ranges: bool = True) -> tuple[str, int | None] | None:
    """A host (or a pattern of hosts) and its port; None when this is not the name of a host.

    An IPv6 address needs brackets to have a port: ``[2001:db8::1]:2222``.
    """
    port = None
    if match := _BRACKETED_WITH_PORT.fullmatch(text) or _NAME_WITH_PORT.fullmatch(text):
        text, port = match[1], int(match[2])
    if "[" in text and not ranges:
        return None
    if _HOST_NAME.fullmatch(text) or is_address(_HEX_RANGE.sub("1", text)):
        return text, port
    return None


def expand_hosts(pattern: str) -> tuple[list[str], int | None]:
    """The names of hosts that a pattern stands for, and the port that all of them have.

    Raises:
        ValueError: a range is malformed, empty, or too long. The message is for the user.
    """
    name, port = split_port(pattern) or (pattern, None)
    names = [name]
    while "[" in names[0]:
        # What is left of the pattern is the same in all of them, and so are the items of its first range.
        items = _first_range(names[0])
        if len(names) * len(items) > MAX_HOSTS:
            raise ValueError(f"the pattern '{pattern}' stands for more than {MAX_HOSTS} hosts")
        names = [f"{head}{item}{tail}" for head, tail in map(_around_range, names) for item in items]
    return names, port


def _around_range(text: str) -> tuple[str, str]:
    head, _, rest = text.partition("[")
    return head, rest.partition("]")[2]


def _first_range(text: str) -> list[str]:
    """The items of the first range in a pattern."""
    body, closed, _ = text.partition("[")[2].partition("]")
    if not closed:
        raise ValueError(f"the range of '{text}' has no closing ']'")
    bounds = body.split(":")
    if len(bounds) not in (2, 3):
        raise ValueError(f"'[{body}]' is not a range: it is written [first:last] or [first:last:step]")
    return _items(body, *bounds)


def _items(body: str, first: str, last: str, step: str = "1") -> list[str]:
    if not last:
        raise ValueError(f"the range '[{body}]' has no end")
    if not step.isdecimal() or int(step) == 0:
        raise ValueError(f"the step of the range '[{body}]' must be a positive number")
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        items = list(letters[letters.index(first) : letters.index(last) + 1 : int(step)])
    else:
        items = _numbers(body, first or "0", last, int(step))
    if not items:
        raise ValueError(f"the range '[{body}]' is empty: it ends before it begins")
    return items


def _numbers(body: str, first: str, last: str, step: int) -> list[str]:
    if not (first.isascii() and first.isdecimal() and last.isascii() and last.isdecimal()):
        raise ValueError(f"the range '[{body}]' must go from a number to a number, or from a letter to a letter")
    width = len(first) if len(first) > 1 and first[0] == "0" else 0
    if width and width != len(last):
        raise ValueError(f"the two ends of the range '[{body}]' must have the same number of digits")
    numbers = range(int(first), int(last) + 1, step)
    if len(numbers) > MAX_HOSTS:
        raise ValueError(f"the range '[{body}]' stands for more than {MAX_HOSTS} hosts")
    return [str(number).zfill(width) for number in numbers]
