"""How a rollout is asked for and told: its options, the plans and the question before it, its progress and summary."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioner.cli.session import Fleet, Session, counting, retry_file, style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from provisioner.config.strategy import Strategy
    from provisioner.engine.apply import ApplyResult, Observation, Watcher
    from provisioner.errors import NsprovError
    from provisioner.fleet.rollout import Batch, Outcome, Planned
    from provisioner.fleet.target import Target
    from provisioner.model import Desired, Plan, Step

__all__ = [
    "AnyErrorsFatal",
    "Board",
    "Canary",
    "MaxFail",
    "Serial",
    "apply_one",
    "end",
    "lost_data",
    "plan_fleet",
    "roll_out_fleet",
    "say_lost",
    "strategy_of",
    "write_retry_file",
]

Serial = Annotated[
    list[str] | None,
    typer.Option(
        "--serial",
        metavar="N|N%,...",
        help="Batches of so many hosts, one after the other: 5, 10%, or 1,10%,50%; the last is repeated.",
    ),
]
Canary = Annotated[
    str | None,
    typer.Option(
        "--canary", metavar="N|PATTERN", help="First so many hosts, or these; then ask. What fails there ends it."
    ),
]
MaxFail = Annotated[
    float | None,
    typer.Option(
        "--max-fail-percentage",
        metavar="N",
        help="Stop when more than this percentage of a batch failed, and put that batch back.",
        min=0,
        max=100,
    ),
]
AnyErrorsFatal = Annotated[
    bool | None,
    typer.Option("--any-errors-fatal/--no-any-errors-fatal", help="One host that fails stops all.", show_default=False),
]

#: More hosts than these are told by what goes wrong alone, and in one line each.
_FEW = 20
_LOG_EVERY = 10.0
#: Seconds between two states of the one host of a run, on a terminal.
_LINE_EVERY = 0.1


def strategy_of(
    session: Session,
    *,
    serial: Sequence[str] | None = None,
    canary: str | None = None,
    max_fail_percentage: float | None = None,
    any_errors_fatal: bool | None = None,
    verify: bool | None = None,
    forks: int | None = None,
) -> Strategy:
    """How the rollout goes: by nsprov_rollout, and by the command line, which wins."""
    from provisioner.config.strategy import declared_strategy, strategy_of_words

    return strategy_of_words(
        declared_strategy(session.inventory, session.hosts, session.extra_vars),
        serial=serial or (),
        canary=canary,
        max_fail_percentage=max_fail_percentage,
        any_errors_fatal=any_errors_fatal,
        verify=verify,
        forks=forks,
    )


def plan_fleet(
    session: Session,
    fleet: Fleet,
    desired: Mapping[str, Desired],
    *,
    forks: int,
    adopt: bool = False,
    reason_for_delete: str | None = None,
    hold: bool = False,
) -> Planned:
    """A plan for every host that is connected; those that cannot be reached are among the lost."""
    from provisioner.fleet.rollout import observe_fleet

    with counting("planned", len(fleet.targets)) as seen:
        planned = observe_fleet(
            fleet.targets,
            desired,
            session.project_of,
            forks=forks,
            adopt=adopt,
            reason_for_delete=reason_for_delete,
            hold=hold,
            seen=seen,
        )
    lost = {**fleet.lost, **planned.lost}
    planned.lost = {host: lost[host] for host in session.hosts if host in lost}
    return planned


def say_lost(lost: Mapping[str, NsprovError], *, alone: bool = False) -> None:
    """A line on standard error for each host that could not be looked at; all of it where it is the only one."""
    from provisioner.fleet.rollout import fate_of, one_line
    from provisioner.report.hosts import summary_lines

    if lost and alone:
        typer.echo(f"nsprov: {next(iter(lost.values()))}", err=True)
    elif lost:
        fates = [(host, fate_of(error).value, one_line(error)) for host, error in lost.items()]
        typer.echo("\n".join(summary_lines(fates, style(on_error=True))), err=True)


def end(lost: Mapping[str, NsprovError]) -> None:
    """Exit with 1 where hosts were lost; with 75 where all of them are held by others."""
    from provisioner.errors import LockedError

    if lost:
        locked = all(isinstance(error, LockedError) for error in lost.values())
        raise typer.Exit(LockedError.exit_code if locked else 1)


def lost_data(lost: Mapping[str, NsprovError]) -> dict[str, dict[str, str]]:
    """The hosts that could not be looked at, by what became of them, and why: nothing where there are none."""
    from provisioner.fleet.rollout import fate_of

    made: dict[str, dict[str, str]] = {}
    for host, error in lost.items():
        made.setdefault(fate_of(error).value, {})[host] = str(error)
    return made


def apply_one(target: Target, observed: Observation, *, interrupted: Callable[[], bool]) -> ApplyResult:
    """Apply one host's plan, and tell what became of it as a rollout of one host does."""
    from provisioner.engine.apply import apply_plan
    from provisioner.fleet.rollout import outcome_of

    board = Board(1, 1)
    board.host_begins(target.name)
    began = time.monotonic()
    watcher = board.watcher(target.name, len(observed.plan.steps))
    result = apply_plan(target, observed, watcher=watcher, interrupted=interrupted)
    board.host_done(outcome_of(target.name, result, time.monotonic() - began))
    return result


def roll_out_fleet(
    session: Session,
    planned: Planned,
    strategy: Strategy,
    *,
    print_plans: Callable[[], None],
    ask: Callable[[Mapping[str, Plan]], None],
    yes: bool,
    keep_partial: bool,
    format: str,
    stopping: Callable[[Callable[[], str]], Any],
    asks_after_canary: bool = False,
    verify: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    keeps_retry_file: bool = False,
) -> int:
    """Show the plans, ask, change the hosts batch by batch, and tell what became of each. The exit code."""
    from provisioner.fleet.rollout import Fate, Outcome, batches_of, roll_out, settle, why_to_stop

    changing = [host for host, plan in planned.plans.items() if plan.steps]
    batches = batches_of(changing, strategy.serial, _canaries(session, strategy))
    if format == "text":
        print_plans()
    if format == "json" or len(session.hosts) == 1 or not yes:
        say_lost(planned.lost, alone=len(session.hosts) == 1)
    outcomes = {host: _outcome_of_lost(host, error) for host, error in planned.lost.items()}
    outcomes |= {host: Outcome(host, Fate.UNCHANGED) for host in planned.plans if host not in changing}
    text = format == "text"
    if planned.lost and strategy.any_errors_fatal:
        reason = why_to_stop(strategy, len(planned.lost), len(planned.lost))
        outcomes = {host: outcomes.get(host) or Outcome(host, Fate.NOT_TOUCHED, reason or "") for host in session.hosts}
        return _tell_end(session, planned, [], outcomes, format, keeps_retry_file=keeps_retry_file)
    if changing and not yes:
        ask({host: planned.plans[host] for host in changing})
    board = Board(len(batches), len(changing), quiet=not text)
    with stopping(board.waited_for) as stopped:
        refreshed = {host: planned.members[host] for host in planned.members if host not in set(changing)}
        outcomes |= {one.host: one for one in settle(refreshed, strategy.forks)}
        try:
            roll_out(
                batches,
                planned.members,
                strategy,
                board,
                keep_partial=keep_partial,
                interrupted=stopped,
                unproved=verify if strategy.verify else None,
                go_on=lambda batch: not asks_after_canary or _goes_on(batch, batches),
            )
        finally:
            board.clear()
        for batch in batches:
            outcomes |= batch.outcomes
        unchanged = [host for host, one in outcomes.items() if one.fate is Fate.UNCHANGED]
        if strategy.verify and verify is not None and unchanged and not stopped() and not _any_bad(batches):
            outcomes |= {host: Outcome(host, Fate.FAILED, reason) for host, reason in verify(unchanged).items()}
    return _tell_end(session, planned, batches, outcomes, format, keeps_retry_file=keeps_retry_file)


def _any_bad(batches: Iterable[Batch]) -> bool:
    return any(batch.stopped for batch in batches)


def _outcome_of_lost(host: str, error: NsprovError) -> Outcome:
    from provisioner.fleet.rollout import Outcome, fate_of, one_line

    return Outcome(host, fate_of(error), one_line(error))


def _canaries(session: Session, strategy: Strategy) -> int | list[str] | None:
    if isinstance(strategy.canary, str):
        return session.inventory.select(strategy.canary, retry=retry_file(session.sources))
    return strategy.canary


def _goes_on(batch: Batch, batches: Sequence[Batch]) -> bool:
    from provisioner.report.text import counted

    left = sum(len(one.hosts) for one in batches) - len(batch.hosts)
    # No step is in hand: Ctrl-C is an answer here.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(f"The canary is done. Go on with {counted(left, 'host')}?")
    except typer.Abort:
        typer.echo()
        return False
    finally:
        signal.signal(signal.SIGINT, handler)


def _tell_end(
    session: Session,
    planned: Planned,
    batches: Sequence[Batch],
    outcomes: Mapping[str, Outcome],
    format: str,
    *,
    keeps_retry_file: bool,
) -> int:
    """Print the summary or the JSON, keep the retry file, and give the exit code."""
    from provisioner.errors import LockedError
    from provisioner.report.hosts import summary_lines

    ordered = [outcomes[host] for host in session.hosts if host in outcomes]
    left = write_retry_file(session, ordered) if keeps_retry_file else None
    if format == "json":
        typer.echo(json.dumps(_as_data(planned, batches, ordered), indent=2))
    elif len(ordered) > 1 and (planned.members or batches or any(not one.ok for one in ordered)):
        for batch in batches:
            if batch.stopped:
                typer.echo(style()(f"stopped: {batch.stopped}", "red"))
        typer.echo("\n".join(summary_lines([(one.host, one.fate.value, one.reason) for one in ordered], style())))
    if left is not None and len(ordered) > 1:
        words = ["nsprov", "apply", *session.sources, "--limit", "@retry"]
        typer.echo(f"to go on with {'these hosts' if left[1] > 1 else 'this host'}: {shlex.join(words)}", err=True)
    bad = [one for one in ordered if not one.ok]
    if bad and all(isinstance(planned.lost.get(one.host), LockedError) for one in bad):
        return LockedError.exit_code
    return 1 if bad else 0


def _as_data(planned: Planned, batches: Sequence[Batch], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    from provisioner.fleet.rollout import Fate
    from provisioner.report.data import plans_data, result_data

    def named(fate: Fate) -> dict[str, str]:
        return {one.host: one.reason for one in outcomes if one.fate is fate}

    return {
        **plans_data(planned.plans),
        "results": {one.host: result_data(one.result, one.seconds) for one in outcomes if one.result is not None},
        "applied": [one.host for one in outcomes if one.fate is Fate.APPLIED],
        "unchanged": [one.host for one in outcomes if one.fate is Fate.UNCHANGED],
        "failed": named(Fate.FAILED),
        "unreachable": named(Fate.UNREACHABLE),
        "put_back": named(Fate.PUT_BACK),
        "not_touched": named(Fate.NOT_TOUCHED),
        "batches": [
            {"hosts": list(batch.hosts), "canary": batch.is_canary, "stopped": batch.stopped} for batch in batches
        ],
    }


def write_retry_file(session: Session, outcomes: Sequence[Outcome]) -> tuple[str, int] | None:
    """Keep the hosts that are left undone for ``--limit @retry``: the file and how many; None where none are.

    What cannot be written is left: the summary has the names too.
    """
    from provisioner.fleet.rollout import left_to_do

    path = retry_file(session.sources)
    if path is None or os.environ.get("NSPROV_RETRY_FILES", "1").lower() in ("0", "false", "no", "off"):
        return None
    try:
        before = path.read_text(encoding="utf-8").split() if path.exists() else []
        left = left_to_do(before, outcomes, session.inventory.hosts)
        if left:
            path.write_text("".join(f"{host}\n" for host in left), encoding="utf-8")
            return str(path), len(left)
        path.unlink(missing_ok=True)
    except (OSError, UnicodeDecodeError):
        pass
    return None


class Board:
    """Tells a rollout as it goes: one status line on a terminal, a line now and then in a log; what failed, always.

    Few hosts are told each with all that was done; many by what goes wrong alone.
    """

    def __init__(self, batches: int, total: int, *, quiet: bool = False) -> None:
        self.batches, self.total, self.quiet = batches, total, quiet
        self.few = total <= _FEW
        self.on = not quiet and sys.stderr.isatty()
        self.done = self.failed = self.number = self.in_batch = self.batch_size = 0
        self.running: dict[str, str] = {}
        self._lock = threading.Lock()
        self._told = time.monotonic()

    def waited_for(self) -> str:
        """What a run that shall stop is still waiting for."""
        from provisioner.report.hosts import folded

        return folded(list(self.running)) or "nothing: it is about to end"

    def batch_begins(self, number: int, batch: Batch) -> None:
        from provisioner.report.hosts import folded, wrapped
        from provisioner.report.text import counted

        self.number, self.in_batch, self.batch_size = number, 0, len(batch.hosts)
        if self.quiet or self.batches == 1:
            return
        self.clear()
        what = "canary" if batch.is_canary else f"batch {number}/{self.batches}"
        rows = wrapped(folded(batch.hosts))
        names = rows[0] if len(rows) == 1 else f"{rows[0]} …"
        typer.echo(style()(f"{what}: {counted(len(batch.hosts), 'host')}: {names}", "bold"))

    def host_begins(self, host: str) -> None:
        with self._lock:
            self.running[host] = ""
        self.tick()

    def watcher(self, host: str, steps: int) -> Watcher | None:
        return None if self.quiet else _Steps(self, host, steps)

    def host_done(self, outcome: Outcome) -> None:
        with self._lock:
            if self.running.pop(outcome.host, None) is not None:
                self.done += 1
                self.in_batch += 1
            self.failed += not outcome.ok
        if self.total == 1 and outcome.result is None and not outcome.ok:
            self.clear()
            typer.echo(f"nsprov: {outcome.reason}", err=True)
        elif not self.quiet:
            lines = self._lines(outcome)
            if lines:
                self.clear()
                typer.echo("\n".join(lines))
            self.tick()

    def _lines(self, outcome: Outcome) -> list[str]:
        from provisioner.fleet.rollout import Fate
        from provisioner.report.text import failure_lines, result_line

        paint = style()
        name, result = paint(outcome.host, "bold"), outcome.result
        if outcome.ok:
            if not self.few or result is None or not result.done:
                return []
            notes = [f"  {address}   {note}" for address, note in result.notes.items()]
            return [f"{name}   {paint('applied', 'green')}: {result_line(result, outcome.seconds)}", *notes]
        if outcome.fate is Fate.PUT_BACK:
            return [f"{name}   {paint('put back', 'yellow')}: {outcome.reason}"]
        if self.few and result is not None and not result.ok:
            return [f"{name}   {paint('not applied', 'red')}", *failure_lines(result, paint)]
        return [f"{name}   {paint(outcome.fate.value, 'red')}: {outcome.reason}"]

    def tick(self) -> None:
        if self.on and self.total > 1:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{self._status(width)}")
            sys.stderr.flush()
        elif not self.on and not self.quiet and time.monotonic() - self._told >= _LOG_EVERY:
            self._told = time.monotonic()
            typer.echo(self._status(120), err=True)

    def _status(self, width: int) -> str:
        from provisioner.report.hosts import Tally, status_line

        with self._lock:
            running = [f"{host} {far}".rstrip() for host, far in self.running.items()]
        return status_line(Tally(self.number, self.batches, self.done, self.total, self.failed, running), width)

    def is_at(self, host: str, far: str, what: str, *, at_once: bool = False) -> None:
        """How far a host is. Where it is the only one, nobody else tells."""
        with self._lock:
            if host in self.running:
                self.running[host] = far
        waited = time.monotonic() - self._told
        if self.total == 1 and (at_once or waited >= (_LINE_EVERY if self.on else _LOG_EVERY)):
            self._told = time.monotonic()
            line = f"{host}   {far}   {what}".rstrip()
            if self.on:
                self.say(line)
            else:
                typer.echo(line, err=True)

    def say(self, text: str) -> None:
        """Replace the status line on a terminal."""
        if self.on:
            with suppress(OSError):
                sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
                sys.stderr.flush()

    def batch_ends(self, number: int, batch: Batch) -> None:
        self.clear()
        if self.quiet or self.batches == 1:
            return
        counts: dict[str, int] = {}
        for outcome in batch.outcomes.values():
            counts[outcome.fate.value] = counts.get(outcome.fate.value, 0) + 1
        told = ", ".join(f"{count} {word}" for word, count in counts.items())
        typer.echo(f"batch {number}/{self.batches} done: {told}   ({self.done}/{self.total} hosts)")

    def clear(self) -> None:
        if self.on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _Steps:
    """How far a host is."""

    def __init__(self, board: Board, host: str, steps: int) -> None:
        self.board, self.host, self.steps = board, host, steps

    def step(self, step: Step, done: int) -> None:
        self.board.is_at(self.host, f"{min(done, self.steps)}/{self.steps}", f"{step.action} {step.address}")

    def rolling_back(self, steps: int) -> None:
        self.board.is_at(self.host, "is put back", f"in {steps} steps", at_once=True)
