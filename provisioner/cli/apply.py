"""``plan``, ``apply``, ``destroy``, ``show`` and ``validate``: what is done to hosts."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from provisioner.cli.passwords import opening_vaults, plan_key
from provisioner.cli.rollout import (
    AnyErrorsFatal,
    Canary,
    MaxFail,
    Serial,
    end,
    lost_data,
    plan_fleet,
    roll_out_fleet,
    say_lost,
    strategy_of,
)
from provisioner.cli.session import (
    ExtraVars,
    Fleet,
    Forks,
    InventoryArgument,
    InventoryOption,
    Limit,
    ProjectName,
    SkipTags,
    Tags,
    Yes,
    connected,
    open_session,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from provisioner.errors import NsprovError
    from provisioner.fleet.target import Target
    from provisioner.model import Desired, Plan

__all__ = ["add_to", "stop_on_signal"]

Format = Annotated[Literal["text", "json"], typer.Option("--format", help="text for people, json for programs.")]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over what is on the host already and is not ours.")]


def add_to(app: typer.Typer) -> None:
    for command in (plan, apply, destroy, show, validate):
        app.command()(opening_vaults(command))


def plan(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    tags: Tags = None,
    skip_tags: SkipTags = None,
    extra_vars: ExtraVars = None,
    project: ProjectName = None,
    adopt: Adopt = False,
    format: Format = "text",
    forks: Forks = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Save it, for 'apply --plan FILE'.")] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 when there are changes.")
    ] = False,
) -> None:
    """Show every change that apply would make. Changes nothing."""
    session = open_session(
        inventory, also, limit=limit, project=project, tags=tags, skip_tags=skip_tags, extra_vars=extra_vars
    )
    strategy = strategy_of(session, forks=forks)
    with connected(session, strategy.forks) as fleet:
        planned = plan_fleet(session, fleet, fleet.build(session), forks=strategy.forks, adopt=adopt)
    plans = planned.plans
    if out is not None:
        _save(plans, out)
    _print_plans(plans, format, planned.lost)
    say_lost(planned.lost, alone=len(session.hosts) == 1)
    if out is not None:
        typer.echo(f"saved as {out}; to carry out exactly this, give apply the same words and --plan {out}", err=True)
    end(planned.lost)
    if detailed_exitcode and any(plans.values()):
        raise typer.Exit(2)


def apply(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    tags: Tags = None,
    skip_tags: SkipTags = None,
    extra_vars: ExtraVars = None,
    project: ProjectName = None,
    adopt: Adopt = False,
    keep_partial: Annotated[
        bool, typer.Option("--keep-partial", help="When a step fails, leave what was done before it.")
    ] = False,
    yes: Yes = False,
    saved: Annotated[
        str | None, typer.Option("--plan", metavar="FILE", help="Apply this saved plan, if it still holds.")
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Check each batch with testinfra afterwards.", show_default=False),
    ] = None,
    forks: Forks = None,
    serial: Serial = None,
    canary: Canary = None,
    max_fail_percentage: MaxFail = None,
    any_errors_fatal: AnyErrorsFatal = None,
    format: Format = "text",
) -> None:
    """Make the hosts what the inventory says. Shows the plan, asks, and carries out exactly that.

    All hosts are planned before one is touched, and then changed side by side. A host that fails is put back, and
    leaves the others alone, unless --serial, --canary, --max-fail-percentage or --any-errors-fatal say otherwise:
    then the batch in which too many failed is put back, and those after it are not touched. The variable
    nsprov_rollout says the same in the inventory. The hosts that are left undone are kept for --limit @retry.
    """
    session = open_session(
        inventory, also, limit=limit, project=project, tags=tags, skip_tags=skip_tags, extra_vars=extra_vars
    )
    strategy = strategy_of(
        session,
        serial=serial,
        canary=canary,
        max_fail_percentage=max_fail_percentage,
        any_errors_fatal=any_errors_fatal,
        verify=verify,
        forks=forks,
    )
    with connected(session, strategy.forks) as fleet:
        desired = fleet.build(session)
        planned = plan_fleet(session, fleet, desired, forks=strategy.forks, adopt=adopt, hold=True)
        try:
            if saved is not None:
                _refuse_stale(saved, planned.plans, but=planned.lost)
            code = roll_out_fleet(
                session,
                planned,
                strategy,
                print_plans=lambda: _print_plans(planned.plans, format),
                ask=_ask,
                yes=yes or saved is not None,
                asks_after_canary=not yes and sys.stdin.isatty(),
                keep_partial=keep_partial,
                format=format,
                stopping=stop_on_signal,
                verify=lambda hosts: _unproved(fleet, desired, hosts, quiet=format != "text"),
                keeps_retry_file=True,
            )
        finally:
            planned.let_go()
    if code:
        raise typer.Exit(code)


def destroy(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    extra_vars: ExtraVars = None,
    project: ProjectName = None,
    keep_partial: Annotated[
        bool, typer.Option("--keep-partial", help="When a step fails, leave what was done before it.")
    ] = False,
    yes: Yes = False,
    forks: Forks = None,
    format: Format = "text",
) -> None:
    """Remove all that this project owns on the hosts."""
    from provisioner.config.strategy import Strategy
    from provisioner.model import Desired

    session = open_session(inventory, also, limit=limit, project=project, extra_vars=extra_vars)
    strategy = strategy_of(session, forks=forks)
    # What stops a rollout, and what verifies it, is said of an apply.
    strategy = Strategy(forks=strategy.forks)
    with connected(session, strategy.forks) as fleet:
        nothing = {name: Desired() for name in fleet.targets}
        planned = plan_fleet(
            session, fleet, nothing, forks=strategy.forks, reason_for_delete="it is destroyed", hold=True
        )
        try:
            code = roll_out_fleet(
                session,
                planned,
                strategy,
                print_plans=lambda: _print_plans(planned.plans, format),
                ask=_ask,
                yes=yes,
                keep_partial=keep_partial,
                format=format,
                stopping=stop_on_signal,
            )
        finally:
            planned.let_go()
    if code:
        raise typer.Exit(code)


def show(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    extra_vars: ExtraVars = None,
    project: ProjectName = None,
    forks: Forks = None,
    format: Format = "text",
) -> None:
    """Show what this project owns on the hosts, and how it is."""
    from provisioner.errors import NsprovError
    from provisioner.fleet.rollout import side_by_side

    session = open_session(inventory, also, limit=limit, project=project, extra_vars=extra_vars)
    strategy = strategy_of(session, forks=forks)
    projects = {name: session.project_of(name) for name in session.hosts}
    listings: dict[str, list[dict[str, Any]]] = {}
    with connected(session, strategy.forks) as fleet:
        lost: dict[str, NsprovError] = dict(fleet.lost)
        looking = side_by_side(
            lambda name: _listing(fleet.targets[name], projects[name]), fleet.targets, strategy.forks
        )
        for name, found in looking:
            if isinstance(found, NsprovError):
                lost[name] = found
            else:
                listings[name] = found
    listings = {name: listings[name] for name in session.hosts if name in listings}
    if format == "json":
        typer.echo(json.dumps({"version": 1, "hosts": listings, **lost_data(lost)}, indent=2))
        say_lost(lost, alone=len(session.hosts) == 1)
        end(lost)
        return
    paint = style()
    for name, rows in listings.items():
        count = f"{len(rows)} resource{'s' if len(rows) != 1 else ''}" if rows else "owns nothing here"
        typer.echo(f"{paint(name, 'bold')}   project {session.project_of(name)}: {count}")
        width = max((len(row["address"]) for row in rows), default=0)
        for row in rows:
            colour = "green" if row["exists"] else "red"
            mark = paint("●" if row["exists"] else "○", colour)
            typer.echo(f"  {mark} {row['address']:<{width}}  {row['status']}".rstrip())
    say_lost(lost, alone=len(session.hosts) == 1)
    end(lost)


def validate(
    inventory: InventoryArgument = None,
    also: InventoryOption = None,
    limit: Limit = None,
    tags: Tags = None,
    skip_tags: SkipTags = None,
    extra_vars: ExtraVars = None,
) -> None:
    """Check the inventory, roles and templates. Needs no host and no root.

    Where a template asks for host facts, this machine's stand in for them.
    """
    from provisioner.engine.graph import concerns
    from provisioner.fleet.connect import connection_of
    from provisioner.host import Host
    from provisioner.report.text import counted, warning_lines

    session = open_session(inventory, also, limit=limit, tags=tags, skip_tags=skip_tags, extra_vars=extra_vars)
    strategy_of(session)
    with Host() as host:
        facts = host.facts.as_variables()
    built = session.build(lambda _: facts)
    for name, desired in built.items():
        session.project_of(name)
        connection_of(name, session.variables(name))
        resources, expects = len(desired.resources), len(desired.expects)
        typer.echo(f"{name}   {counted(resources, 'resource')}, {counted(expects, 'expectation')}")
        for doubt in concerns(desired):
            typer.echo("\n".join(warning_lines(doubt, style())))
    typer.echo("the configuration is valid")


# -- stages -------------------------------------------------------------------------------------------


@contextmanager
def stop_on_signal(waited_for: Callable[[], str] | None = None) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM finish the step in hand; the function says whether one came.

    Whoever asks again is told what is ``waited_for``.
    """
    came: list[int] = []

    def note(number: int, _: object) -> None:
        if not came:
            typer.echo("\nstopping after the step in hand, then putting the host back", err=True)
        elif waited_for is not None:
            typer.echo(f"\nstill waiting for the step in hand, and for it to be put back: {waited_for()}", err=True)
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_plans(plans: Mapping[str, Plan], format: str, lost: Mapping[str, NsprovError] | None = None) -> None:
    if format == "json":
        from provisioner.report.data import plans_data

        typer.echo(json.dumps({**plans_data(plans), **lost_data(lost or {})}, indent=2))
        return
    from provisioner.report.text import plans_text

    if plans:
        typer.echo(plans_text(plans, style()))


def _ask(plans: Mapping[str, Plan]) -> None:
    from provisioner.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask whether to go on", hint="add --yes to go on without being asked")
    hosts = sum(bool(plan) for plan in plans.values())
    steps = sum(len(plan.steps) for plan in plans.values())
    if not typer.confirm(f"Carry out {steps} steps on {hosts} host{'s' if hosts != 1 else ''}?"):
        typer.echo("nothing was touched")
        raise typer.Exit(1)


def _save(plans: Mapping[str, Plan], path: str) -> None:
    from pathlib import Path

    from provisioner.errors import NsprovError
    from provisioner.report.data import has_secrets, plans_data
    from provisioner.secrets import redact

    key = plan_key() if has_secrets(plans) else None
    try:
        Path(path).write_text(redact(json.dumps(plans_data(plans, key), indent=2)) + "\n")
    except OSError as error:
        raise NsprovError(f"cannot save the plan to {path}: {error.strerror}") from None


def read_plan(path: str) -> dict[str, Any]:
    """What a saved plan says of each host."""
    from pathlib import Path

    from provisioner.errors import UsageError
    from provisioner.report.data import PLAN_VERSION

    other = UsageError(f"{path} is not a plan of nsprov", hint="make one with: nsprov plan --out FILE")
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise other  # a device or a pipe may have no end
        data = json.loads(Path(path).read_text())
        if data["version"] != PLAN_VERSION:
            message = f"{path} is a plan of another version of nsprov (format {data['version']})"
            raise UsageError(message, hint="make a new plan, and review it")
        hosts: dict[str, Any] = {name: {**one} for name, one in data["hosts"].items()}
        if not all(isinstance(step["address"], str) for one in hosts.values() for step in one["steps"]):
            raise other
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise other from None
    return hosts


def _refuse_stale(path: str, plans: Mapping[str, Plan], *, but: Collection[str] = ()) -> None:
    """Raise StalePlanError unless a saved plan is exactly what would be done now, but for hosts that are not there."""
    from provisioner.errors import StalePlanError
    from provisioner.report.data import has_secrets, plans_data
    from provisioner.secrets import redact

    saved = read_plan(path)
    key = plan_key() if has_secrets(plans) else None
    data = json.loads(redact(json.dumps(plans_data(plans, key))))
    _refuse_other_key(path, data)
    now = data["hosts"]
    differences = []
    for name in sorted((saved.keys() | now.keys()) - set(but)):
        was, is_ = saved.get(name), now.get(name)
        if was == is_:
            continue
        if was is None or is_ is None:
            differences.append(f"  {name}: is {'no longer' if is_ is None else 'newly'} among the hosts")
            continue
        old = {step["address"]: step for step in was["steps"]}
        new = {step["address"]: step for step in is_["steps"]}
        changed = [a for a in sorted(old.keys() | new.keys()) if old.get(a) != new.get(a)]
        listed = ", ".join(changed[:8]) + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")
        differences.append(f"  {name}: {listed or 'something that no step touches'}")
    if differences:
        raise StalePlanError(
            "\n".join(["the plan is stale; since it was made these have changed:", *differences]),
            hint="make a new plan, and review it",
        )


def _refuse_other_key(path: str, now: Mapping[str, Any]) -> None:
    """Raise StalePlanError where a plan's secrets were sealed with a key that is not at hand."""
    from pathlib import Path

    from provisioner.errors import StalePlanError

    sealed_with = json.loads(Path(path).read_text()).get("sealed_with")
    if sealed_with is not None and "sealed_with" in now and sealed_with != now["sealed_with"]:
        raise StalePlanError(
            "whether the plan's secrets are still the same cannot be told: it was sealed with another key",
            hint="give the vault password that it was made with first; without one, apply it where it was made",
        )


def _unproved(fleet: Fleet, desired: Mapping[str, Desired], hosts: Sequence[str], *, quiet: bool) -> dict[str, str]:
    """Verify hosts and print what was found; those that do not hold, each with what does not in one line."""
    from provisioner.report.text import counted
    from provisioner.verify.report import render
    from provisioner.verify.runner import verify_hosts

    results = verify_hosts({name: (desired[name], fleet.targets[name]) for name in hosts})
    told = results if len(results) <= 20 else {name: one for name, one in results.items() if not one.ok}
    if told and not quiet:
        typer.echo(render(told, verbose=False, paint=style()))
    bad = {name: one for name, one in results.items() if not one.ok}
    return {
        name: one.error.splitlines()[0]
        if one.error
        else f"{counted(one.failed, 'fact')} of {one.total} not as declared"
        for name, one in bad.items()
    }


def _listing(target: Target, project: str) -> list[dict[str, Any]]:
    from provisioner.engine import manifest as manifests
    from provisioner.engine.plan import scope_of, short
    from provisioner.model import Desired

    manifest = manifests.load(project, target.read_manifests())
    found = target.observe(scope_of(Desired(), manifest)).resources
    lines = target.status(list(found.values()))
    rows = []
    for address, owned in manifest.owned.items():
        resource, applied = found.get(address), manifests.last_applied(address, owned, None)
        summary = applied.shown_summary(owned.secrets)[:3] if applied is not None else []
        told = "  ".join(f"{name} {text}" for name, text in summary)
        status = lines.get(address) or (short(told, 90) if resource is not None and told else "")
        rows.append(
            {
                "address": str(address),
                "exists": resource is not None,
                "status": status if resource is not None else "gone from the host",
            }
        )
    return rows
