"""``pull``: this host takes a signed commit of a repository and applies its own part. No controller is needed."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from provisioner.cli.apply import stop_on_signal
from provisioner.cli.passwords import use_passwords
from provisioner.cli.rollout import apply_one, plan_fleet
from provisioner.cli.session import Fleet, open_session, style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from provisioner.cli.session import Session
    from provisioner.fleet.pull.signatures import Signers
    from provisioner.fleet.pull.state import State
    from provisioner.fleet.target import Target
    from provisioner.model import Desired

__all__ = ["add_to", "host_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")


def add_to(app: typer.Typer) -> None:
    app.command()(pull)


def pull(
    repo: Annotated[
        str | None, typer.Option("--repo", metavar="URL", help="The repository: https://, ssh:// or file://.")
    ] = None,
    branch: Annotated[
        str, typer.Option("--branch", "--ref", metavar="REF", help="A branch, refs/tags/NAME, or a whole commit.")
    ] = "main",
    inventory: Annotated[
        str, typer.Option("--inventory", "-i", metavar="PATH", help="The inventory in the repository.")
    ] = "inventory.yml",
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="NAME", help="This host in the inventory. Default: its name, long or short."),
    ] = None,
    verify_commits: Annotated[
        bool, typer.Option("--verify-commits", help="Take only commits that these have signed.")
    ] = False,
    signers: Annotated[
        Path | None, typer.Option("--signers", metavar="FILE", help="Whose ssh keys sign: ssh's allowed signers.")
    ] = None,
    keyring: Annotated[
        Path | None, typer.Option("--keyring", metavar="DIR", help="Whose GPG keys sign: a folder like ~/.gnupg.")
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Take whatever the server has, as if it were root here.")
    ] = False,
    allow_rewind: Annotated[
        bool, typer.Option("--allow-rewind", help="Also a commit that does not build upon the last one.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What this pull is called. Default: the repository's.")
    ] = None,
    checkout: Annotated[
        Path | None, typer.Option("--checkout", metavar="DIR", help="Default: /var/lib/nsprov/pull/NAME.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", "--dry-run", help="Show the plan. Changes nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the result with testinfra afterwards.")] = False,
    only_if_changed: Annotated[
        bool, typer.Option("--only-if-changed", help="Do nothing where the commit was applied already.")
    ] = False,
    splay: Annotated[
        int | None, typer.Option("--splay", metavar="SECONDS", min=0, help="Wait up to this long first.")
    ] = None,
    vault_password_file: Annotated[
        list[str] | None,
        typer.Option("--vault-password-file", "--vault-pass-file", metavar="FILE", help="Opens vaults."),
    ] = None,
    vault_id: Annotated[
        list[str] | None, typer.Option("--vault-id", metavar="LABEL@SOURCE", help="The same, of one vault id.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say which commit each pull has applied here.")] = False,
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="How --status is printed.")] = "text",
    install_timer: Annotated[
        bool, typer.Option("--install-timer", help="Pull again and again: a timer of systemd with these options.")
    ] = False,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="How often: 5min, 1h, or OnCalendar's words.")
    ] = "5min",
    remove_timer: Annotated[bool, typer.Option("--remove-timer", help="Take that timer away.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over units that were edited by hand.")] = False,
) -> None:
    """Take a signed commit of a repository and apply this host's part of it.

    What the commit says is read only once its signature holds, and a commit older than the one applied last is
    refused. A commit that cannot be applied leaves the host as it was, and is tried again by the next pull.
    """
    from provisioner.errors import UsageError

    if sum((status, install_timer, remove_timer)) > 1:
        raise UsageError("one of --status, --install-timer and --remove-timer at a time")
    if output != "text" and not status:
        raise UsageError(f"--format {output} is for --status")
    if status:
        _print_status(name or (_name_of(repo) if repo else None), checkout, output)
        return
    if repo is None and not (remove_timer and name):
        raise UsageError("which repository?", hint="nsprov pull --repo URL --verify-commits --signers FILE")
    called = _checked_name(name or _name_of(repo or ""))
    if remove_timer:
        _remove_timer(called, force)
        return
    wish = _Wish(
        called,
        repo or "",
        branch,
        _checked_inventory(inventory),
        host,
        _trusted(verify_commits, signers, keyring, allow_unsigned),
        checkout,
        allow_rewind=allow_rewind,
        check=check,
        verify=verify,
        only_if_changed=only_if_changed,
        vault_password_file=tuple(vault_password_file or ()),
        vault_id=tuple(vault_id or ()),
    )
    _refuse_bad_source(wish)
    if install_timer:
        _install_timer(wish, every, splay, force)
        return
    if splay:
        _wait(called, splay)
    use_passwords(list(wish.vault_password_file), list(wish.vault_id), False)
    if not _pull(wish):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one pull is asked for."""

    name: str
    repo: str
    branch: str
    inventory: str
    host: str | None
    signers: Signers | None
    checkout: Path | None
    allow_rewind: bool
    check: bool
    verify: bool
    only_if_changed: bool
    vault_password_file: tuple[str, ...]
    vault_id: tuple[str, ...]

    @property
    def folder(self) -> Path:
        from provisioner.fleet.pull.state import FOLDER

        return (self.checkout or FOLDER / self.name).absolute()

    def words(self) -> list[str]:
        """The words of the command line that ask for this again."""
        made = [
            "pull",
            "--repo",
            self.repo,
            "--branch",
            self.branch,
            "--inventory",
            self.inventory,
            "--name",
            self.name,
        ]
        if self.host is not None:
            made += ["--host", self.host]
        if self.signers is None:
            made.append("--allow-unsigned")
        elif self.signers.allowed is not None:
            made += ["--verify-commits", "--signers", str(self.signers.allowed)]
        else:
            made += ["--verify-commits", "--keyring", str(self.signers.keyring)]
        if self.checkout is not None:
            made += ["--checkout", str(self.folder)]
        made += ["--verify"] * self.verify + ["--only-if-changed"] * self.only_if_changed
        for option, values in (("--vault-password-file", self.vault_password_file), ("--vault-id", self.vault_id)):
            made += [word for value in values for word in (option, value)]
        return made


# -- stages -------------------------------------------------------------------------------------------


def _pull(wish: _Wish) -> bool:
    """Fetch, make sure, check out, apply, remember. Whether the host has what the commit says."""
    from provisioner.errors import NsprovError
    from provisioner.fleet.connect import need_root
    from provisioner.fleet.pull.state import held, read_state, write_state

    need_root()
    with held(wish.folder):
        state = replace(read_state(wish.folder), repo=wish.repo, ref=wish.branch)
        attempt = _Attempt()
        try:
            ended, after = _pull_held(wish, state, attempt)
        except NsprovError as error:
            if not wish.check:
                write_state(wish.folder, attempt.named(state).failed(attempt.commit, _now(), str(error)))
            raise
        if after != state:
            write_state(wish.folder, after)
        return ended


@dataclass(slots=True)
class _Attempt:
    """How far a pull came, for what is remembered when it fails."""

    commit: str | None = None
    host: str = ""

    def named(self, state: State) -> State:
        return replace(state, host=self.host or state.host)


def _pull_held(wish: _Wish, state: State, attempt: _Attempt) -> tuple[bool, State]:
    from provisioner.fleet.pull.repository import Repository, check_ref
    from provisioner.fleet.pull.state import refuse_going_back
    from provisioner.fleet.pull.tree import check_out, remove_others

    repository = Repository(wish.folder / "repo.git")
    repository.prepare()
    commit = attempt.commit = repository.fetch(wish.repo, check_ref(wish.branch))
    signer = wish.signers.verify(repository, commit, new=commit != state.applied) if wish.signers else None
    descends = state.applied is None or repository.descends(commit, state.applied)
    refuse_going_back(state.applied, commit, descends=descends, allowed=wish.allow_rewind)
    if wish.only_if_changed and commit == state.applied and state.error is None and state.proved is not False:
        typer.echo(f"{state.host or wish.name}   commit {commit[:12]} is applied already")
        return True, state if wish.check else replace(state, tried=commit, tried_at=_now())
    tree = check_out(repository, commit, wish.folder)
    os.chdir(tree)
    session = _session_of(wish)
    (host,) = session.hosts
    attempt.host = host
    typer.echo(
        f"{host}   commit {commit[:12]} of {wish.branch}, " + (f"signed by {signer}" if signer else "unverified")
    )
    outcome, proved = _apply(wish, session, host)
    if wish.check:
        return True, state
    if outcome is not None:
        return False, attempt.named(state).failed(commit, _now(), outcome)
    remove_others(wish.folder, [commit])
    done = attempt.named(state).done(commit, _now(), signer)
    return proved is not False, replace(done, proved=proved)


def _session_of(wish: _Wish) -> Session:
    """The inventory of the commit, and this host of it alone."""
    from provisioner.errors import UsageError

    if not os.path.lexists(wish.inventory):
        raise UsageError(
            f"the commit has no {wish.inventory}", hint="say where the inventory is: --inventory PATH/IN/THE/REPOSITORY"
        )
    session = open_session([wish.inventory])
    known = list(session.inventory.hosts)
    return replace(session, hosts=[wish.host if wish.host in known else host_of(known, wish.host, _own_names())])


def host_of(known: Sequence[str], asked: str | None, own: Sequence[str]) -> str:
    """Which host of an inventory this one is. Raises UsageError, with the names that were tried."""
    from provisioner.errors import UsageError, did_you_mean

    for name in (asked,) if asked is not None else own:
        if name in known:
            return name
    tried = asked if asked is not None else ", ".join(own)
    raise UsageError(
        f"this host is not in the inventory (tried: {tried})",
        hint=did_you_mean(asked or own[0], known) or "say which it is: --host NAME",
    )


def _own_names() -> list[str]:
    """The names of this host, the surest first: the kernel's, its long one, and its short one."""
    import socket

    name = socket.gethostname()
    return list(dict.fromkeys([name, socket.getfqdn(), name.partition(".")[0]]))


def _apply(wish: _Wish, session: Session, host: str) -> tuple[str | None, bool | None]:
    """Plan and carry out, on this machine whatever the inventory's connection. What failed, and the proof."""
    from provisioner.fleet.rollout import reason_of
    from provisioner.fleet.target import LocalTarget
    from provisioner.host import Host
    from provisioner.report.text import plans_text

    target = LocalTarget(Host(), host)
    with ExitStack() as stack:
        stack.callback(target.close)
        fleet = Fleet({host: target})
        desired = fleet.build(session)
        planned = plan_fleet(session, fleet, desired, forks=1, hold=not wish.check)
        stack.callback(planned.let_go)
        if planned.lost:
            raise planned.lost[host]
        if wish.check or planned.plans[host].steps:
            typer.echo(plans_text(planned.plans, style()))
        if wish.check:
            return None, None
        if not planned.plans[host].steps:
            typer.echo(f"{host}   no changes")
        if host in planned.members:
            with stop_on_signal() as stopped:
                result = apply_one(target, planned.members[host].observed, interrupted=stopped)
            if not result.ok:
                return reason_of(result), None
        return None, _proved(target, desired) if wish.verify else None


def _proved(target: Target, desired: dict[str, Desired]) -> bool:
    from provisioner.cli.verify import verify_and_print

    return verify_and_print({name: (one, target) for name, one in desired.items()})


def _wait(name: str, splay: int) -> None:
    """A moment of this host's own, the same every time, so that a fleet spreads over the splay."""
    import hashlib
    import time

    try:
        identity = Path("/etc/machine-id").read_text()
    except OSError:
        identity = _own_names()[0]
    number = int.from_bytes(hashlib.sha256(f"{identity}{name}".encode()).digest()[:8])
    time.sleep(number / 2**64 * splay)


# -- the timer and the status -------------------------------------------------------------------------


def _install_timer(wish: _Wish, every: str, splay: int | None, force: bool) -> None:
    from provisioner.fleet.connect import need_root
    from provisioner.fleet.pull.timer import check_calendar, install, schedule, units

    need_root()
    when = schedule(every, splay)
    check_calendar(when.calendar)
    wanted = units(wish.name, wish.repo, [*_this_nsprov(), *_lasting(wish).words()], when)
    lines = install(wanted, force=force)
    for line in lines or [f"nsprov-pull-{wish.name}.timer is there already, as it shall be"]:
        typer.echo(line)
    if lines:
        typer.echo(f"this host pulls at {when.calendar}, within {when.splay} s; see: nsprov pull --status")


def _lasting(wish: _Wish) -> _Wish:
    """The same with every path whole, for the timer starts elsewhere. Raises UsageError for what it cannot use."""
    from provisioner.errors import UsageError

    def whole(path: str) -> str:
        if not Path(path).exists():
            raise UsageError(f"the vault password file {path} is missing")
        return str(Path(path).absolute())

    ids = []
    for one in wish.vault_id:
        label, at, source = one.rpartition("@")
        if source == "prompt":
            raise UsageError("a timer has nobody to ask for the vault password", hint="name a file: LABEL@FILE")
        ids.append(f"{label}{at}{whole(source)}")
    return replace(wish, vault_password_file=tuple(map(whole, wish.vault_password_file)), vault_id=tuple(ids))


def _this_nsprov() -> list[str]:
    """The command line of the nsprov that runs now: this Python with this package."""
    # -P: the folder where it is started has no say in what is imported.
    return [sys.executable, "-P", "-m", "provisioner"]


def _remove_timer(name: str, force: bool) -> None:
    from provisioner.fleet.connect import need_root
    from provisioner.fleet.pull.timer import remove

    need_root()
    for line in remove(name, force=force) or [f"there is no timer of a pull called {name}"]:
        typer.echo(line)


def _print_status(name: str | None, checkout: Path | None, output: str) -> None:
    from dataclasses import asdict

    from provisioner.errors import UsageError
    from provisioner.fleet.connect import need_root
    from provisioner.fleet.pull.state import FOLDER, all_states, read_state, status_line
    from provisioner.fleet.pull.timer import next_pull

    need_root("this host's pulls")
    states = {checkout.name: read_state(checkout)} if checkout is not None else all_states(FOLDER)
    if name is not None and checkout is None:
        states = {one: state for one, state in states.items() if one == name}
    if not states:
        raise UsageError("nothing was pulled here yet", hint="nsprov pull --repo URL --verify-commits --signers FILE")
    nexts = {one: next_pull(name or one) for one in states}
    if output == "json":
        data = {one: asdict(state) | {"next_pull": nexts[one]} for one, state in states.items()}
        typer.echo(json.dumps(data, indent=2))
    else:
        for one, state in states.items():
            typer.echo(f"{status_line(one, state)}; {f'next pull {nexts[one]}' if nexts[one] else 'no timer'}")
    if any(state.error is not None or state.proved is False for state in states.values()):
        raise typer.Exit(1)


# -- what was asked for -------------------------------------------------------------------------------


def _name_of(repo: str) -> str:
    from provisioner.fleet.pull.repository import name_of

    return name_of(repo)


def _checked_name(name: str) -> str:
    from provisioner.errors import UsageError

    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be the name of a pull", hint="letters, digits, '_' and '-', at most 48")
    return name


def _checked_inventory(path: str) -> str:
    from provisioner.errors import UsageError

    if path.startswith("/") or ".." in path.split("/") or not path:
        raise UsageError(f"--inventory {path}: the inventory is a file or folder of the repository")
    return path


def _trusted(verify_commits: bool, signers: Path | None, keyring: Path | None, unsigned: bool) -> Signers | None:
    """Whose commits are taken: None says anybody's, which must be said in so many words."""
    from provisioner.errors import UsageError
    from provisioner.fleet.pull.signatures import Signers

    if unsigned:
        if verify_commits or signers or keyring:
            raise UsageError("either --verify-commits or --allow-unsigned")
        return None
    if not verify_commits:
        raise UsageError(
            "whose commits shall be root here?",
            hint="--verify-commits --signers FILE, or, where whoever can push is trusted so far: --allow-unsigned",
        )
    if (signers is None) == (keyring is None):
        raise UsageError("--verify-commits needs the signers: --signers FILE (ssh keys), or --keyring DIR (GPG keys)")
    trusted = Signers(signers.absolute() if signers else None, keyring.absolute() if keyring else None)
    trusted.check()
    return trusted


def _refuse_bad_source(wish: _Wish) -> None:
    from provisioner.fleet.pull.repository import check_ref, check_url

    check_url(wish.repo, signed=wish.signers is not None)
    check_ref(wish.branch)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
