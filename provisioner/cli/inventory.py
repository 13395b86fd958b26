"""``nsprov inventory``: what ansible-inventory prints, from nsprov's own reading of the inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provisioner.cli.passwords import opening_vaults

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command("inventory")(opening_vaults(inventory))


def inventory(
    group: Annotated[str | None, typer.Argument(help="The group that --graph starts at.", show_default="all")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", metavar="SRC", help="A file, a folder, or host1,host2. Repeat to merge."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Print all groups, hosts and variables.")] = False,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Print one host's variables.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Print the groups and hosts as a tree.")] = False,
    with_vars: Annotated[bool, typer.Option("--vars", help="Add variables to --graph.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", "-y", help="Print YAML instead of JSON.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Print variables where they are set, unmerged.")] = False,
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="List only hosts that match.")] = None,
) -> None:
    """Show the inventory as nsprov understands it, in the words of ansible-inventory.

    Without -i the inventory is $NSPROV_INVENTORY, or ./inventory.yml.
    """
    from provisioner.config.inventory import default_sources, load_inventory, output
    from provisioner.errors import UsageError

    if (show_list, host is not None, graph).count(True) != 1:
        raise UsageError("give one of --list, --host and --graph")
    if group and not source and Path(group).exists():
        source, group = [group], None  # `nsprov inventory inventory.yml --list`, like `nsprov apply inventory.yml`
    if group and not graph:
        raise UsageError(f"the group '{group}' is for --graph", hint="to list a group's hosts: --list --limit GROUP")
    loaded = load_inventory(source or default_sources())
    dump = output.to_yaml if as_yaml else output.to_json
    if graph:
        typer.echo(output.graph_text(loaded, group or "all", with_vars=with_vars))
    elif host is not None:
        typer.echo(dump(output.host_data(loaded, loaded.host(host).name, export=export)))
    else:
        hosts = dict.fromkeys(loaded.select(limit))
        tree = output.list_tree if as_yaml else output.list_data
        typer.echo(dump(tree(loaded, hosts, export=export)))
