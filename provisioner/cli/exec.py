"""``nsprov exec``: a command inside a workload, or in a namespace."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from provisioner.cli.session import Limit, open_session

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command("exec", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})(exec_)


def exec_(
    name: Annotated[str, typer.Argument(help="A unit, or an address: web, netns/blue, namespace/uts/box.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", metavar="-- COMMAND...")],
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", metavar="SOURCE", help="Where the host is. Default: this machine itself."),
    ] = None,
    limit: Limit = None,
) -> None:
    """Run a command inside a workload, or in a namespace, on this terminal, and exit with its exit code.

    In a workload it is in all of its namespaces, its root and its cgroup, as root of its users; what hardens the
    workload (system calls, capabilities) does not bind it.
    """
    from provisioner.errors import UsageError
    from provisioner.isolation.inside import address_of, inside

    if command[0].startswith("-") and "--" in command[1:]:
        given = " ".join(command[: command.index("--")])
        raise UsageError(f"{given} comes after {name}", hint=f"options come first: nsprov exec {given} {name} -- …")
    try:
        argv = inside(address_of(name), command[1:] if command[0] == "--" else command)
    except ValueError as error:
        hint = "a unit (web.service), a network namespace (netns/blue), or another one (namespace/uts/box)"
        raise UsageError(str(error), hint=hint) from None
    sandbox = _sandbox_of(inventory, limit)
    if sandbox is not None:
        from provisioner.host.sandbox import Sandbox

        raise typer.Exit(Sandbox.attach(sandbox).call(argv))
    from provisioner.fleet.connect import need_root

    need_root("this host")
    os.execvp(argv[0], argv)


def _sandbox_of(inventory: list[str] | None, limit: str | None) -> str | None:
    """The sandbox that the host is, by its name; None for this machine itself."""
    from provisioner.errors import UsageError
    from provisioner.fleet.connect import connection_of

    if inventory is None and limit is None:
        return None
    session = open_session(inventory, limit=limit)
    if len(session.hosts) != 1:
        raise UsageError(f"a command runs on one host, not on {len(session.hosts)}", hint="choose one with --limit")
    host = session.hosts[0]
    connection = connection_of(host, session.variables(host))
    if connection == "ssh":
        raise UsageError(f"{host} is reached by ssh, which this version does not have", hint="run nsprov on it")
    return host if connection == "sandbox" else None
