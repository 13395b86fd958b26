"""What was verified, as a person reads it, and as JSON values: counts for each host, and each fact. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner.report.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from provisioner.report.text import Style
    from provisioner.verify.runner import FactResult, VerifyResult

__all__ = ["render", "summary", "verified_data"]

_SIGNS = {"passed": "✓", "failed": "✗", "skipped": "-"}
_COLOURS = {"passed": "green", "failed": "red", "skipped": "dim"}


def render(results: Mapping[str, VerifyResult], *, paint: Style, verbose: bool = False) -> str:
    """The report of all hosts: a line each, what failed below it, and with ``verbose`` every fact."""
    width = max(map(len, results), default=0)
    lines: list[str] = []
    for name, result in results.items():
        lines.append(f"{name:<{width}}   {summary(result)}")
        if result.error:
            lines += [f"    {line}" for line in result.error.splitlines()]
        shown = [one for one in result.facts if verbose or one.outcome == "failed"]
        lines += _facts(shown, paint)
    return "\n".join(lines)


def summary(result: VerifyResult) -> str:
    """What was found of one host, in a few words."""
    if result.error:
        return "could not be checked"
    if not result.total:
        return "nothing to check"
    facts = counted(result.total, "fact")
    if result.failed:
        told = f"{facts}, {result.failed} {'does' if result.failed == 1 else 'do'} not hold"
    else:
        told = f"{facts} checked, all hold" if not result.skipped else f"{facts} checked, none fails"
    return f"{told}, {result.skipped} skipped" if result.skipped else told


def verified_data(result: VerifyResult) -> dict[str, Any]:
    """What was found of one host, for programs."""
    facts = [
        {"title": one.title, "outcome": one.outcome, "message": one.message, "declared": one.declared}
        for one in result.facts
    ]
    return {"ok": result.ok, "error": result.error, "facts": facts}


def _facts(facts: list[FactResult], paint: Style) -> Iterator[str]:
    width = min(70, max((len(one.title) for one in facts), default=0))
    for one in facts:
        sign = paint(_SIGNS[one.outcome], _COLOURS[one.outcome])
        yield f"    {sign} {one.title:<{width}}   {one.declared or ''}".rstrip()
        if one.outcome == "failed":
            yield f"        {one.message}"
