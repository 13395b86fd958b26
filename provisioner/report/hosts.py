"""Many hosts as a person reads them: names that are folded, how far a rollout is, what became of each. Pure."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.report.text import Style

__all__ = ["Tally", "folded", "status_line", "summary_lines", "wrapped"]

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)\Z", re.DOTALL)
_WIDTH = 100
#: The order in which a summary tells what became of hosts, with its colour.
_FATES = {
    "applied": "green",
    "unchanged": "green",
    "failed": "red",
    "unreachable": "red",
    "put back": "yellow",
    "not touched": "yellow",
}


def folded(names: Iterable[str]) -> str:
    """Names with their numbers as ranges, as an inventory writes them: ``web[1:200], db1``."""
    runs: dict[tuple[str, str, int], list[int]] = {}
    for name in names:
        match = _NUMBERED.match(name)
        if match is None or not match[1] or "[" in name:
            runs[(name, "", -1)] = []
            continue
        digits = match[2]
        # 007 and 7 are two names; what has no zero in front is a range whatever its width.
        width = len(digits) if digits[0] == "0" and len(digits) > 1 else _width_among(runs, match, digits)
        runs.setdefault((match[1], match[3], width), []).append(int(digits))
    return ", ".join(part for key, numbers in runs.items() for part in _ranges(key, numbers))


def _width_among(runs: Mapping[tuple[str, str, int], list[int]], match: re.Match[str], digits: str) -> int:
    """The width of the zero-padded names that this one goes with (web09, web10), or 0."""
    return len(digits) if (match[1], match[3], len(digits)) in runs else 0


def _ranges(key: tuple[str, str, int], numbers: Sequence[int]) -> list[str]:
    head, tail, width = key
    if width < 0:
        return [head]
    parts: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    told = []
    for first, last in parts:
        if first == last:
            told.append(f"{head}{first:0{width}d}{tail}")
        else:
            told.append(f"{head}[{first:0{width}d}:{last:0{width}d}]{tail}")
    return told


def wrapped(text: str, indent: str = "") -> list[str]:
    """A list of names in lines that fit a terminal."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


class Tally(NamedTuple):
    """How far a rollout is."""

    batch: int
    batches: int
    done: int
    total: int
    failed: int
    running: Sequence[str]


def status_line(tally: Tally, width: int = _WIDTH) -> str:
    """``batch 2/5   47/100 done, 2 failed, 10 running: web48 3/40, web49 …``, never wider than the terminal."""
    text = f"batch {tally.batch}/{tally.batches}   " if tally.batches > 1 else ""
    text += f"{tally.done}/{tally.total} done"
    if tally.failed:
        text += f", {tally.failed} failed"
    if tally.running:
        text += f", {len(tally.running)} running: {', '.join(tally.running)}"
    if len(text) <= width:
        return text
    cut = text[: max(0, width - 1)]
    # A name that is cut would be another host's.
    return f"{cut[: cut.rindex(', ') + 1] if ', ' in cut else cut[:-1]} …"


def summary_lines(fates: Sequence[tuple[str, str, str]], style: Style) -> list[str]:
    """What became of the hosts: a line of counts, and a line for each that is not as it should be, with the reason.

    ``fates`` are host, fate and reason. Hosts of one fate and one reason are told together.
    """
    counts = {word: sum(fate == word for _, fate, _ in fates) for word in _FATES}
    parts = [style(f"{word} {count}", colour) for word, colour in _FATES.items() if (count := counts[word])]
    lines = [", ".join(parts)]
    for word, colour in list(_FATES.items())[2:]:
        reasons: dict[str, list[str]] = {}
        for host, fate, reason in fates:
            if fate == word:
                reasons.setdefault(reason, []).append(host)
        for reason, hosts in reasons.items():
            names = wrapped(folded(hosts), "  ")
            lines += [f"  {row}" for row in names[:-1]]
            lines.append(f"  {names[-1]}   {style(word, colour)}{f': {reason}' if reason else ''}")
    return lines
