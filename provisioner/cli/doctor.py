"""``nsprov doctor``: what this host lacks, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from provisioner.host.doctor import Finding

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Say what this host lacks for an apply, and the command that mends it.

    Changes nothing. Ends in 0 when an apply would work here, in 1 otherwise.
    """
    from provisioner.host import Host
    from provisioner.host.doctor import diagnose, is_ready

    with Host() as host:
        findings = diagnose(host)
    if output == "json":
        _print_json(findings, is_ready(findings))
    else:
        _print_text(findings)
    raise typer.Exit(0 if is_ready(findings) else 1)


def _print_json(findings: Sequence[Finding], ready: bool) -> None:
    import json
    from dataclasses import asdict

    typer.echo(json.dumps({"ready": ready, "findings": [asdict(one) for one in findings]}, indent=2))


def _print_text(findings: Sequence[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    colours = {"ok": "green", "missing": "red", "warning": "yellow"}
    last = ""
    for one in findings:
        typer.echo(f"  {typer.style(f'{one.status:<7}', fg=colours[one.status])}  {one.name:<{width}}  {one.detail}")
        indent = " " * (width + 13)
        if one.needed_for:
            typer.echo(f"{indent}needed for {one.needed_for}")
        if one.remedy and one.remedy != last:  # one command mends several in a row
            typer.echo(f"{indent}{typer.style(one.remedy, bold=True)}")
        last = one.remedy
    missing = sum(one.status == "missing" for one in findings)
    warnings = sum(one.status == "warning" for one in findings)
    also = f"{warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    typer.echo()
    if missing:
        typer.echo(f"An apply would not work here: {missing} missing" + (f", {also}." if also else "."))
    else:
        typer.echo("An apply would work here" + (f", with {also}." if also else "."))
