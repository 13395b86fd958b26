"""``verify``: does each host have what the configuration says, proved by tools that nsprov did not write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli.passwords import opening_vaults
from provisioner.cli.rollout import say_lost
from provisioner.cli.session import (
    ExtraVars,
    InventoryArgument,
    InventoryOption,
    Limit,
    ProjectName,
    Session,
    SkipTags,
    Tags,
    connected,
    open_session,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from provisioner.model import Desired
    from provisioner.verify.reach import Reach

__all__ = ["add_to", "verify_and_print"]


def add_to(app: typer.Typer) -> None:
    app.command()(opening_vaults(verify))


def verify(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    tags: Tags = None,
    skip_tags: SkipTags = None,
    extra_vars: ExtraVars = None,
    project: ProjectName = None,
    junitxml: Annotated[
        Path | None, typer.Option("--junitxml", metavar="FILE", help="Write a JUnit report, a suite for each host.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Write the tests as a pytest-testinfra suite; run nothing."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every fact, not only what fails.")] = False,
) -> None:
    """Check on each host every fact that the configuration declares.

    The host is read with ip, systemctl, nft and /sys through testinfra, and `expect` with real packets. Exit code
    0 says that all of it holds, 1 that something does not.
    """
    session = open_session(
        inventory, also, limit=limit, project=project, tags=tags, skip_tags=skip_tags, extra_vars=extra_vars
    )
    with connected(session) as fleet:
        desired = fleet.build(session)
        if write is not None:
            _write(write, session, desired, {name: target.lasting_uri for name, target in fleet.targets.items()})
            return
        hosts = {name: (desired[name], fleet.targets[name]) for name in desired}
        proved = verify_and_print(hosts, project=_project(session), junitxml=junitxml, verbose=verbose)
        say_lost(fleet.lost, alone=len(session.hosts) == 1)
        proved = proved and not fleet.lost
    if not proved:
        raise typer.Exit(1)


def verify_and_print(
    hosts: Mapping[str, tuple[Desired, Reach]],
    *,
    project: str = "default",
    junitxml: Path | None = None,
    verbose: bool = False,
) -> bool:
    """Check hosts, each with what it shall have and the way to it; print the report; whether all of it holds."""
    from provisioner.verify.report import render
    from provisioner.verify.runner import verify_hosts

    results = verify_hosts(hosts, project=project, junitxml=junitxml)
    typer.echo(render(results, verbose=verbose, paint=style()))
    return all(result.ok for result in results.values())


def _write(folder: Path, session: Session, desired: Mapping[str, Desired], uris: Mapping[str, str]) -> None:
    from provisioner.verify.backend import SCHEME
    from provisioner.verify.suite import write_suite

    # A sandbox is reached through nsprov alone, and the suite shall run without it.
    lasting = {name: uri for name, uri in uris.items() if not uri.startswith(f"{SCHEME}:")}
    files = write_suite(folder, desired, project=_project(session), targets=lasting)
    typer.echo(f"wrote {', '.join(path.name for path in files)} into {folder}; how to run them: {folder}/README.md")


def _project(session: Session) -> str:
    return ", ".join(dict.fromkeys(session.project_of(name) for name in session.hosts))
