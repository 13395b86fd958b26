"""``nsprov sandbox``: throwaway hosts with a real systemd."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from provisioner.host.sandbox import Sandbox

__all__ = ["add_to"]

_group = typer.Typer(help="Throwaway hosts with a real systemd, made of this machine.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_group, name="sandbox")


@_group.command()
def start(
    name: Annotated[str, typer.Argument(help="Its name, which is also its hostname.")],
    root: Annotated[
        Path | None, typer.Option(help="A root tree to view instead of this machine's own.", metavar="DIR")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Its address on the wire between sandboxes, e.g. 192.0.2.11/24.")
    ] = None,
) -> None:
    """Boot a sandbox, which runs until it is stopped."""
    from provisioner.host.sandbox import Sandbox

    began = time.monotonic()
    sandbox = Sandbox.start(name, root=root, address=address, outlive=True)
    typer.echo(f"{name} is up at {sandbox.address}, after {time.monotonic() - began:.2f} s")
    if sandbox.lacks:
        typer.echo(f"this machine's kernel lacks {'; '.join(sandbox.lacks)}", err=True)


@_group.command("list")
def list_(
    format: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """Show the sandboxes that run."""
    from provisioner.host.sandbox import list_sandboxes

    sandboxes = list_sandboxes()
    if format == "json":
        typer.echo(json.dumps([_as_json(sandbox) for sandbox in sandboxes], indent=2))
    elif sandboxes:
        rows = [("NAME", "PID", "ADDRESS", "ROOT", "SINCE")]
        rows += [(s.name, str(s.pid), s.address, str(s.root), _clock(s.since)) for s in sandboxes]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        typer.echo("no sandbox runs; start one: nsprov sandbox start NAME", err=True)


@_group.command("exec", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def exec_(
    name: Annotated[str, typer.Argument(help="The sandbox.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", metavar="-- COMMAND...")],
) -> None:
    """Run a command in a sandbox, on this terminal, and exit with its exit code."""
    from provisioner.errors import HostError
    from provisioner.host.sandbox import Sandbox

    argv = command[1:] if command[0] == "--" else command
    try:
        code = Sandbox.attach(name).call(argv)
    except HostError as error:
        typer.echo(f"nsprov: {error}", err=True)
        code = error.code or 1
    raise typer.Exit(code)


@_group.command()
def stop(
    names: Annotated[list[str] | None, typer.Argument(help="The sandboxes to end.", metavar="[NAME]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="End all that run.")] = False,
) -> None:
    """End sandboxes, and all that is in them."""
    from provisioner.errors import UsageError
    from provisioner.host.sandbox import Sandbox, list_sandboxes

    if bool(names) == every:
        raise UsageError("name the sandboxes to stop, or give --all")
    try:
        chosen = list_sandboxes() if every else [Sandbox.attach(name) for name in dict.fromkeys(names or ())]
    except UsageError as error:
        # Whoever stops one has no use for how it would be started.
        raise UsageError(error.message, hint="those that run: nsprov sandbox list") from None
    for sandbox in chosen:
        sandbox.stop()
        typer.echo(f"{sandbox.name} is gone")


def _as_json(sandbox: Sandbox) -> dict[str, object]:
    return {
        "name": sandbox.name,
        "pid": sandbox.pid,
        "address": sandbox.address,
        "root": str(sandbox.root),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(sandbox.since)),
        "lacks": sandbox.lacks,
    }


def _clock(seconds: float) -> str:
    """A time of day, with the date where it is not of today."""
    at = time.localtime(seconds)
    today = time.localtime()[:3] == at[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", at)
