"""What several commands begin with: load the inventory, connect to its hosts, build what they shall have."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from provisioner.config.inventory import Inventory
    from provisioner.config.source import Map
    from provisioner.errors import NsprovError
    from provisioner.fleet.target import Target
    from provisioner.model import Desired
    from provisioner.report.text import Style

__all__ = [
    "ExtraVars",
    "Fleet",
    "Forks",
    "InventoryArgument",
    "InventoryOption",
    "Limit",
    "ProjectName",
    "Session",
    "SkipTags",
    "Tags",
    "Yes",
    "connected",
    "counting",
    "open_session",
    "retry_file",
    "style",
]

InventoryArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INVENTORY",
        help="Inventory files or folders. Default: NSPROV_INVENTORY, or inventory.yml here.",
        show_default=False,
    ),
]
InventoryOption = Annotated[
    list[str] | None,
    typer.Option("--inventory", "-i", metavar="SOURCE", help="The same, as Ansible spells it. Repeat it."),
]
Limit = Annotated[
    str | None,
    typer.Option("--limit", "-l", metavar="PATTERN", help="Only these hosts, as in Ansible: web:!web3, @retry"),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tags", "-t", metavar="TAGS", help="Only tasks with these. Nothing is pruned."),
]
SkipTags = Annotated[list[str] | None, typer.Option("--skip-tags", metavar="TAGS", help="All but tasks with these.")]
ExtraVars = Annotated[
    list[str] | None,
    typer.Option("--extra-vars", "-e", metavar="VARS", help="name=value, JSON, or @file. Wins over all others."),
]
ProjectName = Annotated[
    str | None,
    typer.Option("--project", metavar="NAME", help="Owner of the resources. Default: nsprov_project, or 'default'."),
]
Forks = Annotated[
    int | None,
    typer.Option("--forks", "-f", metavar="N", help="So many hosts at once. Default: 10.", min=1, max=1000),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


@dataclass
class Session:
    """An inventory, the chosen hosts, and how they are built."""

    inventory: Inventory
    hosts: list[str]
    project: str | None = None
    tags: Sequence[str] = ()
    skip_tags: Sequence[str] = ()
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    #: What was given as inventories, and as --limit.
    sources: Sequence[str] = ()
    limit: str | None = None

    def build(
        self, facts: Callable[[str], Mapping[str, Any]], hosts: Iterable[str] | None = None
    ) -> dict[str, Desired]:
        """What each host shall have, or each of these. All problems of all hosts are raised together."""
        from provisioner.config.build import build_desired, default_role_path
        from provisioner.engine.fit import fit
        from provisioner.engine.graph import check_desired
        from provisioner.errors import ConfigError, Problems

        role_path = default_role_path(self.inventory)
        problems = Problems()
        built: dict[str, Desired] = {}
        chosen = list(self.hosts if hosts is None else hosts)
        # Ansible's: all that were chosen, and of them those that are there. Templates may not change the lists.
        run: dict[str, Any] = {
            "ansible_play_hosts_all": list(self.hosts),
            "ansible_play_hosts": chosen,
            "play_hosts": chosen,
        }
        if self.limit is not None:
            run["ansible_limit"] = self.limit
        for host in chosen:
            try:
                desired = build_desired(
                    self.inventory,
                    host,
                    facts(host),
                    role_path=role_path,
                    tags=self.tags,
                    skip_tags=self.skip_tags,
                    extra_vars=self.extra_vars,
                    run=run,
                )
            except ConfigError as error:
                problems.extend(error)
                continue
            problems.extend(check_desired(desired))
            built[host] = fit(desired, facts(host))
        problems.raise_if_any()
        self._warn_of_tags(built.values())
        return built

    def _warn_of_tags(self, built: Iterable[Desired]) -> None:
        """Say which words of --tags and --skip-tags no task has: Ansible is silent, and a typo then does nothing."""
        from provisioner.config.tags import SPECIAL
        from provisioner.errors import did_you_mean

        there = frozenset[str]().union(*(desired.tags for desired in built)) - SPECIAL
        for option, words in (("--tags", self.tags), ("--skip-tags", self.skip_tags)):
            for word in dict.fromkeys(words):
                if word in there or word in SPECIAL:
                    continue
                near = did_you_mean(word, there)
                known = f"the tags there are: {', '.join(sorted(there))}" if there else "no task has any tag"
                hint = near if near and near.startswith("did you mean") else known
                typer.echo(f"nsprov: {option} {word}: no task that applies here has this tag\n    {hint}", err=True)

    def variables(self, host: str) -> Map:
        """The variables of a host; those of the command line win, as in Ansible."""
        variables = self.inventory.variables(host).copy()
        for name, value in self.extra_vars.items():
            variables[name] = value
        return variables

    def connection(self, host: str) -> Map:
        """The variables of a host; those that say how it is reached with their templates evaluated."""
        from provisioner.cli.passwords import connection_passwords
        from provisioner.config.build import host_value
        from provisioner.fleet.ssh_options import CONNECTION_VARIABLES

        variables = self.variables(host)
        # As in Ansible, what the inventory says of a host wins over what was asked for all of them.
        for name, password in connection_passwords().items():
            if name not in variables:
                variables[name] = password
        for name in CONNECTION_VARIABLES & variables.keys():
            if isinstance(variables[name], str) and "{" in variables[name]:
                value = host_value(self.inventory, host, name, extra_vars=self.extra_vars)
                variables.put(name, value, variables.at(name))
        return variables

    def project_of(self, host: str) -> str:
        """The name under which this host's resources are owned."""
        from provisioner.errors import ConfigError, Problem, UsageError

        variables = self.variables(host)
        name = self.project if self.project is not None else variables.get("nsprov_project", "default")
        if isinstance(name, str) and _PROJECT.match(name):
            return str(name)
        message = f"'{name}' is not a project's name"
        hint = "letters, digits, '_', '.' and '-', at most 63 of them"
        if self.project is not None:
            raise UsageError(message, hint=hint)
        raise ConfigError(Problem(message, variables.at("nsprov_project"), hint))


def open_session(
    sources: Sequence[str] | None,
    also: Sequence[str] | None = None,
    *,
    limit: str | None = None,
    project: str | None = None,
    tags: Sequence[str] | None = None,
    skip_tags: Sequence[str] | None = None,
    extra_vars: Sequence[str] | None = None,
) -> Session:
    """Load the inventory and choose the hosts."""
    from provisioner.config.inventory import default_sources, load_inventory
    from provisioner.errors import UsageError

    given = [*(sources or ()), *(also or ())] or default_sources()
    inventory = load_inventory(given)
    hosts = inventory.select(limit, retry=retry_file(given))
    if not hosts:
        raise UsageError("no host is chosen", hint="the inventory has none, or --limit leaves none")
    words, skipped, extra = _words(tags), _words(skip_tags), _extra_vars(extra_vars)
    return Session(inventory, hosts, project, words, skipped, extra, [str(one) for one in given], limit)


def retry_file(sources: Sequence[str]) -> Path | None:
    """Where the hosts are kept that a run has left undone: beside the first inventory, as ``inventory.retry``."""
    first = Path(os.path.expandvars(sources[0])).expanduser() if sources else None
    if first is None or not first.exists() or not first.name:
        return None  # a list of hosts on the command line
    return first.with_name(f"{first.stem if first.is_file() else first.name}.retry")


@dataclass
class Fleet:
    """The chosen hosts that are connected, and those that cannot be, with the reason."""

    targets: dict[str, Target] = field(default_factory=dict)
    lost: dict[str, NsprovError] = field(default_factory=dict)

    def facts(self, name: str) -> Mapping[str, Any]:
        return self.targets[name].facts()

    def build(self, session: Session) -> dict[str, Desired]:
        """What each host that is connected shall have."""
        return session.build(self.facts, self.targets)


@contextmanager
def connected(session: Session, forks: int = 10) -> Iterator[Fleet]:
    """Connections to the chosen hosts, side by side, closed at the end. Their facts are read.

    A host that cannot be reached leaves the others alone. What no host is at fault for (the configuration, root
    that is missing here) is raised, of all hosts at once.
    """
    from provisioner.errors import ConfigError, NotPermittedError, NsprovError, Problems, UnreachableError
    from provisioner.fleet.connect import connect, connection_of
    from provisioner.fleet.rollout import one_line, side_by_side

    problems = Problems()
    refused: list[NsprovError] = []
    here: dict[str, Map] = {}
    there: dict[str, Map] = {}
    for host in session.hosts:
        try:
            variables = session.connection(host)
            (there if connection_of(host, variables) == "ssh" else here)[host] = variables
        except ConfigError as error:
            problems.extend(error)
    fleet = Fleet()
    opened: list[Target] = []

    with ExitStack() as stack:
        # Side by side as well: each waits for the other end to hang up.
        stack.callback(lambda: list(side_by_side(lambda target: target.close(), opened, forks)))

        def note(host: str, found: Target | NsprovError) -> None:
            if not isinstance(found, NsprovError):
                fleet.targets[host] = found
                opened.append(found)
            elif isinstance(found, ConfigError):
                problems.extend(found)
            elif isinstance(found, NotPermittedError) and host in here:
                refused.append(found)
            else:
                fleet.lost[host] = found

        # A connection into a sandbox forks: that is done before there are threads.
        for host, variables in here.items():
            note(host, _tried(connect, host, variables))
        with counting("connected", len(there)) as seen:
            for host, found in side_by_side(lambda host: connect(host, there[host]), there, forks):
                note(host, found)
                seen()
        problems.raise_if_any()
        if refused:
            raise refused[0] if len(refused) == 1 else _all_of(refused)
        for host, facts in side_by_side(fleet.facts, list(fleet.targets), forks):
            if isinstance(facts, NsprovError):
                fleet.lost[host] = facts
                del fleet.targets[host]
        order = {host: number for number, host in enumerate(session.hosts)}
        fleet.targets = dict(sorted(fleet.targets.items(), key=lambda item: order[item[0]]))
        # One that lets us in and then refuses (sudo, a full disk, a bundle that was tampered with) has failed.
        fleet.lost = {
            host: error if host in there else UnreachableError(one_line(error))
            for host, error in sorted(fleet.lost.items(), key=lambda item: order[item[0]])
        }
        yield fleet


@contextmanager
def counting(done: str, total: int) -> Iterator[Callable[[], None]]:
    """A line on a terminal that says how many of many hosts are done, gone at the end; the function counts one."""
    on, count = total > 1 and sys.stderr.isatty(), 0

    def one() -> None:
        nonlocal count
        count += 1
        if on:
            sys.stderr.write(f"\r\x1b[K{count}/{total} {done}")
            sys.stderr.flush()

    try:
        yield one
    finally:
        if on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _tried(connect: Callable[[str, Map], Target], host: str, variables: Map) -> Target | NsprovError:
    from provisioner.errors import NsprovError

    try:
        return connect(host, variables)
    except NsprovError as error:
        return error


def _all_of(errors: Sequence[Any]) -> Any:
    return type(errors[0])("\n".join(dict.fromkeys(str(error) for error in errors)))


def style(*, on_error: bool = False) -> Style:
    """Colours where a person looks at a terminal, and has not set NO_COLOR."""
    from provisioner.report.text import Style

    stream = sys.stderr if on_error else sys.stdout
    return Style(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _words(given: Sequence[str] | None) -> list[str]:
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def _extra_vars(given: Sequence[str] | None) -> dict[str, Any]:
    import shlex

    from provisioner.config.source import Map, load_yaml, load_yaml_text
    from provisioner.errors import UsageError

    made: dict[str, Any] = {}
    for text in given or ():
        value: Any
        if not text.isprintable() and any("\udc80" <= char <= "\udcff" for char in text):
            raise UsageError(f"--extra-vars {text!a}: this is not text in UTF-8")
        if text.startswith("@"):
            value = load_yaml(Path(text[1:]))
        elif text.lstrip().startswith("{"):
            value = load_yaml_text(text, "--extra-vars")
        else:
            try:
                words = shlex.split(text)
            except ValueError as error:
                raise UsageError(f"--extra-vars {text}: {str(error).lower()}") from None
            value = dict(word.partition("=")[::2] for word in words)
            if not words or not all("=" in word for word in words):
                raise UsageError(f"--extra-vars {text}: expected name=value, JSON, or @file")
        if value is not None and not isinstance(value, (Map, dict)):
            raise UsageError(f"--extra-vars {text}: expected variables by name")
        for name in value or ():
            if not str(name).isidentifier():
                raise UsageError(
                    f"--extra-vars {text}: '{name}' cannot be the name of a variable", hint="use letters, digits, _"
                )
        made.update(value or {})
    return made
