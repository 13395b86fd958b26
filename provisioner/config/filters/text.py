"""Filters on text: regular expressions, comments, indentation."""

from __future__ import annotations

import re
import shlex
from typing import Any

from jinja2 import filters as jinja_filters
from jinja2 import pass_environment
from jinja2.environment import Environment

from provisioner.config.bounds import bounded, bounded_format
from provisioner.config.filters.inputs import text_of
from provisioner.config.values import FilterError, needed


def flags(ignorecase: bool, multiline: bool, dotall: bool = False) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0) | (re.DOTALL if dotall else 0)


def pattern_of(pattern: Any, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(text_of(pattern), flags)
    except re.error as error:
        raise FilterError(f"'{pattern}' is not a regular expression: {error}") from None


def regex_replace(
    value: Any = "",
    pattern: Any = "",
    replacement: Any = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    """The text with what matches a regular expression replaced; ``\\1`` is its first group."""
    try:
        made, times = pattern_of(pattern, flags(ignorecase, multiline)).subn(
            text_of(replacement), text_of(value), count=count
        )
    except (re.error, IndexError) as error:
        raise FilterError(f"'{replacement}' cannot replace '{pattern}': {error}") from None
    if mandatory_count and times != mandatory_count:
        raise FilterError(f"'{pattern}' should match {mandatory_count} times, but matches {times}")
    return made


def regex_findall(value: Any, regex: Any, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    """All that matches a regular expression."""
    return pattern_of(regex, flags(ignorecase, multiline)).findall(text_of(value))


def regex_search(
    value: Any, regex: Any, *groups: Any, ignorecase: bool = False, multiline: bool = False
) -> str | list[str] | None:
    """What first matches a regular expression, or the groups asked for (``'\\\\1'``, ``'\\\\g<name>'``)."""
    wanted: list[str | int] = []
    for group in groups:
        named = re.fullmatch(r"\\g<(\S+)>", str(group))
        numbered = re.fullmatch(r"\\(\d+)", str(group))
        if named:
            wanted.append(int(named[1]) if named[1].isdigit() else named[1])
        elif numbered:
            wanted.append(int(numbered[1]))
        else:
            raise FilterError(f"'{group}' is not a group", r"write '\\1' or '\\g<name>'")
    found = pattern_of(regex, flags(ignorecase, multiline)).search(text_of(value))
    if found is None:
        return None
    if not wanted:
        return found.group()
    try:
        return [found.group(one) for one in wanted]
    except IndexError:
        raise FilterError(f"'{regex}' has no such group: {', '.join(map(str, groups))}") from None


def regex_escape(value: Any, re_type: str = "python") -> str:
    """The text with the characters escaped that mean something in a regular expression."""
    if re_type == "python":
        return re.escape(text_of(value))
    if re_type == "posix_basic":
        return re.sub(r"([].[^$*\\])", r"\\\1", text_of(value))
    raise FilterError(f"the type of regular expression '{re_type}' is not known", "known here: python, posix_basic")


def split(value: Any, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    """The parts of a text between separators (white space by default)."""
    return text_of(value).split(sep, maxsplit)


def quote(value: Any) -> str:
    """The text as one word of a shell."""
    return shlex.quote("" if value is None else text_of(value))


_COMMENTS = {
    "plain": {"decoration": "# "},
    "erlang": {"decoration": "% "},
    "c": {"decoration": "// "},
    "cblock": {"beginning": "/*", "decoration": " * ", "end": " */"},
    "xml": {"beginning": "<!--", "decoration": " - ", "end": "-->"},
}


def comment(text: Any, style: str = "plain", **options: Any) -> str:
    """The text as a comment of a language: plain, c, cblock, erlang or xml."""
    if style not in _COMMENTS:
        raise FilterError(f"the style of comment '{style}' is not known", "known here: " + ", ".join(_COMMENTS))
    edge = str(options.get("decoration", _COMMENTS[style]["decoration"])).rstrip()
    made: dict[str, Any] = {
        "newline": "\n",
        "beginning": "",
        "prefix": edge,
        "prefix_count": 1,
        "decoration": "",
        "postfix": edge,
        "postfix_count": 1,
        "end": "",
        **_COMMENTS[style],
        **options,
    }
    newline, decoration = str(made["newline"]), str(made["decoration"])
    bounded(max(int(made["prefix_count"]), int(made["postfix_count"])) * 80)
    prefix = str(made["prefix"])
    head = f"{made['beginning']}{newline}" if made["beginning"] else ""
    if prefix:
        head += (prefix + newline if prefix != newline else newline) * int(made["prefix_count"])
    body = (decoration + text_of(text).replace(newline, newline + decoration)).replace(
        decoration + newline, decoration.rstrip() + newline
    )
    tail = newline.join(["", *[str(made["postfix"])] * int(made["postfix_count"])])
    end = f"{newline}{made['end']}" if made["end"] else ""
    return head + body + tail + end


def format_text(value: Any, *args: Any, **kwargs: Any) -> str:
    """A printf pattern with its values filled in."""
    if args and kwargs:
        raise FilterError("format takes values by position or by name, not both")
    bounded_format(text_of(value))
    given = kwargs or tuple(needed(one) for one in args)
    return text_of(value) % given


def center(value: Any, width: int = 80) -> str:
    """The text in the middle of a line of this width."""
    bounded(width)
    return text_of(value).center(width)


def indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """The text with every line (but the first) indented."""
    text = text_of(value)
    bounded(len(text) + (text.count("\n") + 1) * (width if isinstance(width, int) else len(width)))
    return str(jinja_filters.do_indent(text, width, first, blank))


def replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    """The text with one part replaced by another."""
    text, old, new = text_of(value), text_of(old), text_of(new)
    bounded(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_environment
def join(environment: Environment, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    """The items of a list as one text."""
    items: list[Any] = [needed(one) for one in ([*needed(value)] if isinstance(value, str) else value)]
    if attribute is not None:
        items = [needed(one) for one in map(jinja_filters.make_attrgetter(environment, attribute), items)]
    texts = [str(one) for one in items]
    bounded(sum(map(len, texts)) + len(texts) * len(d))
    return str(d).join(texts)
