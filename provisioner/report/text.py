"""Plans and results as a person reads them in a terminal, or pastes them into a review. Pure: makes strings."""

from __future__ import annotations

import difflib
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.engine.plan import short
from provisioner.model import Action, Effect
from provisioner.report.hosts import folded, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.engine.apply import ApplyResult, Failure
    from provisioner.errors import Source
    from provisioner.model import Change, Plan, Step

__all__ = [
    "Style",
    "count_line",
    "counted",
    "failure_lines",
    "plan_lines",
    "plans_text",
    "result_line",
    "show_path",
    "warning_lines",
]

_SIGNS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.REPLACE: ("±", "yellow"),
    Action.DELETE: ("-", "red"),
    Action.ADOPT: ("=", "cyan"),
}
_EFFECTS = {Effect.LIVE: "live", Effect.RESTART: "restarts it", Effect.REPLACE: "replaces it"}
_CODES = {"green": 32, "yellow": 33, "red": 31, "cyan": 36, "dim": 2, "bold": 1}
_WIDTH = 52


class Style:
    """Colours, or none of them."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, *names: str) -> str:
        if not self.colour or not text:
            return text
        codes = ";".join(str(_CODES[name]) for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m"


def show_path(source: Source | str | None) -> str:
    """A place in a file as ``path:line``, relative to the working folder where that is shorter."""
    if source is None:
        return ""
    if isinstance(source, str):
        return source
    path = source.file
    if path.startswith("/"):
        relative = os.path.relpath(path, Path.cwd())
        path = relative if len(relative) < len(path) else path
    return f"{path}:{source.line}"


#: So many hosts with equal plans are listed one by one; more are told in one line.
_LISTED = 4


def plans_text(plans: Mapping[str, Plan], style: Style) -> str:
    """The plans of all hosts. Equal plans are shown once, with the hosts they are for."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, plan in plans.items():
        groups.setdefault(tuple(plan_lines(plan, style)), []).append(name)
    listed = [name for names in groups.values() if len(names) <= _LISTED for name in names]
    width = max((len(name) for name in listed), default=0) + 3
    parts: dict[str, str] = {}
    for lines, names in groups.items():
        first, plan = names[0], plans[names[0]]
        if len(names) > _LISTED:
            parts[first] = "\n".join([*_many(names, plan, style), *_framed(lines)])
            continue
        for name in names:
            title = style(name, "bold") + " " * (width - len(name))
            if name != first and plan.steps:
                parts[name] = f"{title}the same as {first}"
            else:
                parts[name] = "\n".join([title + count_line(plan, style), *_framed(lines)])
    return "\n".join(parts[name] for name in plans if name in parts)


def _many(names: Sequence[str], plan: Plan, style: Style) -> list[str]:
    """The title of a plan that many hosts have: their names, and what happens on each."""
    each = "each " if plan.steps else ""
    rows = wrapped(folded(names))
    told = f"   {len(names)} hosts, {each}{count_line(plan, style)}"
    return [*(style(row, "bold") for row in rows[:-1]), style(rows[-1], "bold") + told]


def _framed(lines: Sequence[str]) -> list[str]:
    return ["", *lines, ""] if lines else []


def count_line(plan: Plan, style: Style) -> str:
    """``3 to create, 1 to change. No workload restarts.``"""
    if not plan.steps:
        return style("no changes", "green")
    words = {
        Action.CREATE: "to create",
        Action.UPDATE: "to change",
        Action.REPLACE: "to replace",
        Action.DELETE: "to delete",
        Action.ADOPT: "to adopt",
    }
    counts = {action: sum(step.action is action for step in plan.steps) for action in words}
    text = ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
    stops = [step for step in plan.steps if step.restarts and step.action is Action.DELETE]
    restarts = [step for step in plan.steps if step.restarts and step.action is not Action.DELETE]
    ends = []
    if restarts:
        ends.append(f"{counted(len(restarts), 'workload')} restart{'s' if len(restarts) == 1 else ''}")
    if stops:
        ends.append(f"{counted(len(stops), 'workload')} stop{'s' if len(stops) == 1 else ''} for good")
    if not ends:
        return f"{text}. No workload restarts."
    return f"{text}. " + style(" and ".join(ends) + ".", "yellow")


def counted(number: int, word: str) -> str:
    """``1 workload``, ``2 workloads``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def plan_lines(plan: Plan, style: Style) -> list[str]:
    """A line or a few for each step."""
    lines: list[str] = []
    for step in plan.steps:
        lines += _step_lines(step, style)
    for warning in plan.warnings:
        lines += warning_lines(warning, style)
    return lines


def warning_lines(warning: str, style: Style) -> list[str]:
    """A warning, with what would be right below it."""
    told, *hints = warning.splitlines()
    return [style(f"  ! {told}", "yellow"), *(f"    {hint}" for hint in hints)]


def _step_lines(step: Step, style: Style) -> list[str]:
    sign, colour = _SIGNS[step.action]
    head = f"  {style(sign, colour)} {style(str(step.address), colour)}"
    place = show_path(step.source) if step.source else ""
    if place and step.action is Action.DELETE:
        place = f"was {place}"
    lines = [head + style(_pad(len(str(step.address)) + 4) + place, "dim") if place else head]
    if step.action is Action.CREATE and step.after is not None:
        if "gone" in step.reason:
            lines.append(f"      {style(step.reason, 'yellow')}")
        lines += _columns(step.after.shown_summary(step.secrets))
    elif step.action is Action.DELETE:
        lines += [] if place else [f"      {style(step.reason, 'dim')}"]
    elif step.action is Action.ADOPT or not step.changes:
        lines.append(f"      {style(step.reason, 'dim')}")
    else:
        width = max(len(change.field) for change in step.changes)
        for change in step.changes:
            lines += _change_lines(change, width, style)
    if step.restarts and step.action is not Action.DELETE:
        lines.append("      " + style("the workload restarts", "yellow"))
    return lines


def _change_lines(change: Change, width: int, style: Style) -> list[str]:
    before, after = change.shown()
    effect = _EFFECTS[change.effect]
    if isinstance(before, str) and isinstance(after, str) and ("\n" in before or "\n" in after):
        diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[2:]
        coloured = [
            style(f"        {line}", "green" if line[:1] == "+" else "red" if line[:1] == "-" else "dim")
            for line in diff
        ]
        return [f"      {change.field:<{width}}  {style(effect, 'dim')}", *coloured]
    if change.field == "restart_on":
        return [f"      {change.field:<{width}}  {after}"]
    text = f"      {change.field:<{width}}  {short(before) or '(empty)'} -> {short(after) or '(empty)'}"
    return [text + style(_pad(len(text)) + effect, "dim")]


def _columns(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Field and text, one a line; the fields that are just switched on are gathered in one place."""
    listed = list(pairs)
    switched_on = [name for name, text in listed if text == "yes"]
    if len(switched_on) < 4:
        switched_on = []
    told = [(name, text) for name, text in listed if name not in switched_on]
    width = max((len(name) for name, _ in told), default=3)
    lines = [f"      {name:<{width}}  {short(text, 100) or '(none)'}" for name, text in told]
    words = textwrap.wrap(", ".join(switched_on), 100 - width)
    return lines + [f"      {'yes' if row == 0 else '':<{width}}  {text}" for row, text in enumerate(words)]


def _pad(used: int) -> str:
    return " " * max(2, _WIDTH + 4 - used)


def result_line(result: ApplyResult, seconds: float) -> str:
    """``3 created, 1 changed in 0.4 s``"""
    words = {
        Action.CREATE: "created",
        Action.UPDATE: "changed",
        Action.DELETE: "deleted",
    }
    counts = {action: sum(step.action is action for step in result.done) for action in words}
    text = ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
    return f"{text or 'no changes'} in {seconds:.1f} s"


def failure_lines(result: ApplyResult, style: Style) -> list[str]:
    """What failed, in the host's own words; and what became of the rest."""
    lines: list[str] = []
    if result.failure is not None:
        step = result.failure.step
        verb = {Action.CREATE: "creating", Action.UPDATE: "changing", Action.DELETE: "deleting"}[step.action]
        lines.append(f"  {style('failed', 'red')} {verb} {step.address}   {style(show_path(step.source), 'dim')}")
        lines += [f"      {line}" for line in result.failure.error.splitlines()]
    if result.error:
        lines.append(f"  {style('failed', 'red')} {result.error}")
    if result.interrupted:
        lines.append(f"  {style('interrupted', 'red')}")
    if result.unreachable:
        lines.append(f"  {result.known}; the next apply looks, and goes on from there")
    elif result.not_put_back is None:
        if result.done:
            lines.append(f"  {len(result.done)} steps were done before, and were left as they are (--keep-partial)")
    elif not result.not_put_back:
        lines.append("  the host was put back to what it was before")
    else:
        lines.append(f"  {style('could not be put back:', 'red')}")
        lines += [_failure_line(failure) for failure in result.not_put_back]
    return lines


def _failure_line(failure: Failure) -> str:
    return f"      {failure.step.address}: {failure.error}"
