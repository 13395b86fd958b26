"""``rehearse``: the whole inventory on throwaway hosts, applied, proved, applied again, and gone."""

from __future__ import annotations

import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli.apply import stop_on_signal
from provisioner.cli.passwords import opening_vaults
from provisioner.cli.rollout import apply_one, plan_fleet
from provisioner.cli.session import (
    ExtraVars,
    Fleet,
    InventoryArgument,
    InventoryOption,
    Limit,
    Session,
    SkipTags,
    Tags,
    open_session,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from provisioner.fleet.rollout import Planned
    from provisioner.fleet.target import Target
    from provisioner.host.sandbox import Sandbox
    from provisioner.model import Desired

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command()(opening_vaults(rehearse))


def rehearse(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    tags: Tags = None,
    skip_tags: SkipTags = None,
    extra_vars: ExtraVars = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="A root tree for the hosts. Default: this machine's own."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the sandboxes running, to look around in.")] = False,
) -> None:
    """Try the inventory on throwaway hosts: apply, verify, apply again.

    Each host is a sandbox with a systemd of its own, over a copy-on-write view of this machine's root. Nothing
    of this machine is touched.
    """
    session = open_session(inventory, also, limit=limit, tags=tags, skip_tags=skip_tags, extra_vars=extra_vars)
    with stop_on_signal() as stopped, _sandboxes(session, root, keep=keep) as targets:
        desired = session.build(lambda name: targets[name].facts())
        _title("plan")
        planned = _planned(session, targets, desired, hold=True)
        _title("apply")
        for member in planned.members.values():
            result = apply_one(member.target, member.observed, interrupted=stopped)
            if not result.ok:
                raise typer.Exit(1)
        planned.let_go()
        _title("verify")
        proved = _verify(targets, desired)
        _title("apply again")
        unchanged = _apply_again(session, targets, desired)
        _title("what runs")
        _show(targets, desired)
        if keep:
            typer.echo(f"\nthe hosts are left running: nsprov sandbox exec {next(iter(targets))} -- ip netns")
    typer.echo()
    paint = style()
    if proved and unchanged:
        left = "" if keep else "; nothing is left of them on this machine"
        typer.echo(
            paint(
                f"rehearsed on {_hosts(len(targets))}: applied, proved, and no changes the second time{left}", "green"
            )
        )
        return
    typer.echo(
        paint(
            "the rehearsal failed: " + ("a check does not hold" if not proved else "a second apply changes things"),
            "red",
        )
    )
    raise typer.Exit(1)


@contextmanager
def _sandboxes(session: Session, root: str | None, *, keep: bool) -> Iterator[dict[str, Target]]:
    """A sandbox for each host, on one wire, at the address that the inventory gives it."""
    from pathlib import Path

    from provisioner.fleet.connect import need_root, sandbox_target
    from provisioner.host.sandbox import Sandbox

    need_root("this machine to make sandboxes")
    began = time.monotonic()
    tree = Path(root) if root is not None else None
    with ExitStack() as stack:

        def start(name: str) -> Sandbox:
            sandbox = Sandbox.start(name, root=tree, address=_address(session, name), outlive=keep)
            if not keep:
                stack.callback(sandbox.stop)
            return sandbox

        with ThreadPoolExecutor(4) as pool:
            sandboxes = dict(zip(session.hosts, pool.map(start, session.hosts), strict=True))
        targets: dict[str, Target] = {}
        for name, sandbox in sandboxes.items():
            targets[name] = sandbox_target(name, sandbox)
            stack.callback(targets[name].close)
        _say_ready(sandboxes, time.monotonic() - began)
        yield targets


def _say_ready(sandboxes: Mapping[str, Sandbox], seconds: float) -> None:
    typer.echo(f"{_hosts(len(sandboxes))} ready in {seconds:.1f} s: {', '.join(sandboxes)}")
    lacks = next(iter(sandboxes.values())).lacks
    if lacks:
        typer.echo(style()(f"not on this machine's kernel: {', '.join(lacks)}", "yellow"))


def _hosts(count: int) -> str:
    return f"{count} throwaway host{'s' if count != 1 else ''}"


def _address(session: Session, name: str) -> str | None:
    """The host's own address on the underlay, where the inventory says one."""
    try:
        return str(ipaddress.ip_interface(str(session.variables(name).get("ansible_host"))).ip)
    except ValueError:
        return None


def _title(text: str) -> None:
    typer.echo()
    typer.echo(style()(f"── {text} " + "─" * (70 - len(text)), "dim"))


def _planned(
    session: Session, targets: Mapping[str, Target], desired: Mapping[str, Desired], *, hold: bool = False
) -> Planned:
    """The plans of all hosts, printed. A host that cannot be looked at ends the rehearsal."""
    from provisioner.config.strategy import DEFAULT_FORKS
    from provisioner.report.text import plans_text

    planned = plan_fleet(session, Fleet(dict(targets)), desired, forks=DEFAULT_FORKS, hold=hold)
    for error in planned.lost.values():
        raise error
    typer.echo(plans_text(planned.plans, style()))
    return planned


def _verify(targets: Mapping[str, Target], desired: Mapping[str, Desired]) -> bool:
    from provisioner.cli.verify import verify_and_print

    return verify_and_print({name: (desired[name], target) for name, target in targets.items()})


def _apply_again(session: Session, targets: Mapping[str, Target], desired: Mapping[str, Desired]) -> bool:
    return not any(_planned(session, targets, desired).plans.values())


def _show(targets: Mapping[str, Target], desired: Mapping[str, Desired]) -> None:
    """The workloads of each host, and who reaches whom."""
    paint = style()
    for name, target in targets.items():
        workloads = [one.resource for one in desired[name].resources.values() if one.resource.workload]
        lines = target.status(workloads)
        width = max((len(str(one.address)) for one in workloads), default=0)
        typer.echo(paint(name, "bold"))
        for one in workloads:
            typer.echo(f"  {one.address!s:<{width}}  {lines.get(one.address, '')}")
        for expect, _ in desired[name].expects:
            colour = "green" if expect.result == "reached" else "red"
            arrow = {"reached": "──▶", "refused": "──╳", "dropped": "──┤"}[expect.result]
            typer.echo(f"  {expect.from_} {paint(arrow, colour)} {expect.to}   {expect.result}")
