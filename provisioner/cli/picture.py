"""``picture``: what an inventory builds, as an SVG for a README or a review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.cli.passwords import opening_vaults
from provisioner.cli.session import ExtraVars, InventoryArgument, InventoryOption, Limit, open_session

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command()(opening_vaults(picture))


def picture(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    extra_vars: ExtraVars = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: standard output.")
    ] = None,
) -> None:
    """Draw what the inventory builds, and who reaches whom. Needs no host and no root."""
    from provisioner.errors import UsageError
    from provisioner.host import Host
    from provisioner.report.picture import picture as draw
    from provisioner.secrets import redact

    session = open_session(inventory, also, limit=limit, extra_vars=extra_vars)
    with Host() as host:
        facts = host.facts.as_variables()
    drawn = draw(session.build(lambda _: facts))
    if output is None:
        typer.echo(drawn, nl=False)
        return
    try:
        output.write_text(redact(drawn), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None
