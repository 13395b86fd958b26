"""The words that the whole of nsprov is written in: address, resource, change, step, plan, scope.

Everything here is a value or a protocol: no I/O, no clock, no root. ``resources`` defines kinds with it,
``config`` makes resources of files, ``engine`` compares and plans, ``host`` and ``fleet`` carry out.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from provisioner.errors import Source
from provisioner.secrets import MASK, NO_SECRETS, Paths, hidden, is_hidden

if TYPE_CHECKING:
    from pathlib import Path

    from provisioner.host import Host

__all__ = [
    "Action",
    "Address",
    "Change",
    "Check",
    "Claim",
    "Declared",
    "Desired",
    "Driver",
    "Effect",
    "Expect",
    "Issue",
    "Kind",
    "Manifest",
    "Number",
    "Owned",
    "Plan",
    "Resource",
    "Scope",
    "Snapshot",
    "Step",
    "StepResult",
    "TaskContext",
    "WholeNumber",
    "bad",
    "shown_text",
    "spec",
]


class Address(NamedTuple):
    """Names one resource of a host: ``kind/name``, or ``kind/netns:name`` inside a namespace."""

    kind: str
    name: str
    netns: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.netns}:{self.name}" if self.netns else f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``str()`` of it gave. Raises ValueError when there is no kind or no name."""
        kind, slash, rest = text.partition("/")
        if not slash or not kind or not rest:
            raise ValueError(f"'{text}' is not an address: expected kind/name or kind/netns:name")
        netns, colon, name = rest.partition(":")
        if netns and colon and name and kind in _kinds_in_namespaces() and not _begins_with_ipv6(rest):
            return cls(kind, name, netns)
        return cls(kind, rest)


def _kinds_in_namespaces() -> frozenset[str]:
    """The kinds whose addresses may have a namespace."""
    from provisioner.resources import kinds

    return frozenset(name for name, kind in kinds().items() if kind.resource.is_named_in_namespace())


def _begins_with_ipv6(name: str) -> bool:
    """Whether a name is that of an IPv6 route: the addresses in use begin with four digits, or with ``::``.

    So ``a:fd01::/64`` is the network fd01::/64 in the namespace a.
    """
    network = name.split()[0]
    if len(network.partition(":")[0]) not in (0, 4):
        return False
    try:
        return bool(IPv6Network(network, strict=False))
    except ValueError:
        return False


class Effect(StrEnum):
    """What carrying out one changed field does to what runs."""

    LIVE = "live"  #: changed in place, nothing notices
    RESTART = "restart"  #: the workload stops and starts again
    REPLACE = "replace"  #: the resource, and what lives in it, is deleted and created again


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    ADOPT = "adopt"  #: the host is right already; only the manifest changes


class Claim(NamedTuple):
    """Something that only one resource may have: an interface's name, an address, a route, a path.

    ``what`` is how a person calls it ("the interface"), ``key`` identifies it on the host.
    """

    what: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. ``before`` and ``after`` are JSON values; None is absent."""

    field: str
    before: Any
    after: Any
    effect: Effect = Effect.LIVE
    source: Source | None = None
    #: Whether the field is or was a secret: then neither value is shown.
    secret: bool = False

    def shown(self) -> tuple[Any, Any]:
        """Before and after, as a person may see them."""
        if not self.secret:
            return self.before, self.after
        before, after = (None if value is None else MASK for value in (self.before, self.after))
        return before, SECRET_CHANGED if before and after else after


#: What stands for a secret that is another one than before.
SECRET_CHANGED = f"{MASK[:-1]}, changed)"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact that testinfra checks after an apply.

    ``title`` names it for a person (``netns/blue exists``). ``code`` is Python: one statement, or a few
    lines, that uses ``host`` (testinfra's) and the functions of ``provisioner.verify.probes``, and fails by
    ``assert``. It reads the host with tools that nsprov did not write (``ip``, ``systemctl``, ``nft``, files).
    """

    title: str
    code: str


@dataclass(frozen=True, slots=True)
class Issue:
    """What a resource finds wrong with itself among the others: ``severity`` error stops the run."""

    message: str
    field: str | None = None
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"
    #: Other resources that it is about as well: a warning is told when the plan touches any of them.
    about: tuple[Address, ...] = ()


def bad(message: str, hint: str | None = None) -> PydanticCustomError:
    """The error that a spec's validator raises: what is wrong, and what would be right."""
    return PydanticCustomError("nsprov", "{message}", {"message": message, "hint": hint or ""})


def spec(
    default: Any = None, *, effect: Effect = Effect.LIVE, doc: str, examples: Sequence[Any] = (), **kw: Any
) -> Any:
    """A field of a spec: its default, what changing it does, and its line in ``nsprov explain``.

    Pass ``...`` as the default of a field that must be given.
    """
    return Field(default, description=doc, examples=list(examples) or None, json_schema_extra={"effect": effect}, **kw)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        word = "true" if value else "false"
        raise bad(f"must be a number, not {word}", "YAML reads yes, no, on and off as true and false")
    return value


#: What a field takes that is a number: pydantic alone would take true for 1.
Number = Annotated[int | float, BeforeValidator(_no_boolean)]
WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]


class TaskContext(Protocol):
    """What a kind may ask for while a task becomes a resource. Pure: reads the role's own files only."""

    source: Source | None

    def find_file(self, name: str, folder: Literal["files", "templates"]) -> Path:
        """The path of a role's file. Raises ConfigError when there is none."""
        ...

    def read_file(self, name: str) -> str:
        """The text of a file of the role's ``files/``."""
        ...

    def render_file(self, name: str, variables: Mapping[str, Any] | None = None) -> str:
        """A template of the role's ``templates/`` (or the project's), rendered with the task's variables."""
        ...


class Resource(BaseModel):
    """One declared or observed thing on a host: a frozen, canonical spec.

    Desired and observed are the same type. Values are canonicalised at construction (addresses, sizes,
    order of sets), so that comparing is ``==``. A field that is None is not managed (desired) or not
    known (observed).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    #: The word that tasks use for it, and the first part of its address.
    kind: ClassVar[str]
    #: One sentence for ``nsprov explain`` and the reference pages is the class docstring's first line.

    #: Whether it is a running workload: then replacing or deleting it interrupts somebody, and the plan says so.
    workload: ClassVar[bool] = False

    name: str

    @property
    def address(self) -> Address:
        return Address(self.kind, self.name, getattr(self, "netns", None))

    @classmethod
    def is_named_in_namespace(cls) -> bool:
        """Whether each namespace may have one of the same name, so that the address tells which."""
        return cls.model_construct(name="", netns="any").address.netns is not None

    # -- relations, all derived from the fields ---------------------------------------------------

    def requires(self) -> Iterable[Address]:
        """What must exist before this can be created."""
        netns = getattr(self, "netns", None)
        return [Address("netns", netns)] if netns else []

    def lives_in(self) -> Iterable[Address]:
        """What takes this along when it goes: these are replaced with it. A subset of ``requires``."""
        netns = getattr(self, "netns", None)
        return [Address("netns", netns)] if netns else []

    def provides(self) -> Iterable[Address]:
        """Other addresses that stand for this one in ``requires``, ``lives_in`` and ``follows`` of others: an
        interface by its name (``interface/blue:eth0``), whatever kind makes it."""
        return []

    def follows(self) -> Iterable[Address]:
        """What is made before this, and deleted after it, where it is declared as well. Unlike what it
        ``requires`` it may be missing. A ``lives_in`` may name these too."""
        return []

    def claims(self) -> Iterable[Claim]:
        """What no other resource of the host may have as well."""
        return []

    def triggers(self) -> Iterable[Address]:
        """Resources whose change restarts this one (a unit's ``restart_on``)."""
        return []

    def audit(self, desired: Desired) -> Iterable[Issue]:
        """What is wrong with this among the others, beyond claims and missing references."""
        return []

    @classmethod
    def audit_all(cls, desired: Desired, facts: Mapping[str, Any] | None) -> Iterable[tuple[Address, Issue]]:
        """What is wrong with those of this class among the others, where each by itself would look at all of
        them anew. Asked twice: of the configuration alone (``facts`` is None), and of a host."""
        return []

    def questions(self) -> Iterable[str]:
        """What checks must know of the host beyond its facts, such as ``block-device /dev/vda``. They find the
        answers by question in ``facts["answers"]``."""
        return []

    def check_host(self, facts: Mapping[str, Any]) -> Iterable[Issue]:
        """What this host cannot do of it: a directive that its systemd is too old for."""
        return []

    def brings(self) -> Iterable[Resource]:
        """Other resources that are declared along with this one, at the same place."""
        return []

    def fitted(self, facts: Mapping[str, Any], desired: Desired) -> tuple[Resource, Sequence[Issue]]:
        """This resource as a host with these facts carries it out, and what of it that host cannot do.

        It keeps its address and its relations. Comparing, applying and proving are done with this one.
        """
        return self, ()

    # -- from a task, and to a person -------------------------------------------------------------

    @classmethod
    def prepare(cls, fields: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        """The spec's fields from a task's (already rendered) fields; for kinds that read the role's files."""
        return fields

    def summary(self) -> list[tuple[str, str]]:
        """Field and text pairs that a plan shows when this is created. Only what was declared."""
        return [
            (name, shown_text(value))
            for name, value in self.declared().items()
            if name not in ("name", "netns") and value is not None
        ]

    def declared(self) -> dict[str, Any]:
        """The managed fields as JSON values, without those that are None."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return dumped

    # -- secrets ----------------------------------------------------------------------------------

    @classmethod
    def refuse_secrets(cls, secrets: Paths, fields: Mapping[str, Any]) -> Iterable[Issue]:
        """What is wrong with secrets in these fields: that everyone on the host could read them there."""
        return []

    def secret_fields(self, secrets: Paths) -> Paths:
        """The fields that tell what secret ones do: these, and where the same stands in another form."""
        return secrets

    def shown(self, secrets: Paths) -> dict[str, Any]:
        """The managed fields as JSON values, with a mask where a secret is."""
        made: dict[str, Any] = hidden(self.declared(), secrets)
        return made

    def shown_summary(self, secrets: Paths) -> list[tuple[str, str]]:
        """What a plan shows when this is created, with a mask where a secret is."""
        return [
            (name, self._masked(name, secrets) if is_hidden(name, secrets) else text) for name, text in self.summary()
        ]

    def _masked(self, name: str, secrets: Paths) -> str:
        value = self.shown(secrets).get(name)
        return shown_text(value) if isinstance(value, Mapping) else MASK

    def secret_files(self, secrets: Paths) -> Iterable[tuple[str, str, bytes]]:
        """What on the host holds a secret of this: the fact that it does, the file, and its content."""
        return []

    def without(self, secrets: Paths) -> Resource:
        """This, as if it did not manage the fields that are secret; what must be given is empty then."""
        return _without(self, secrets) if secrets else self

    # -- comparing --------------------------------------------------------------------------------

    @classmethod
    def effect_of(cls, field_name: str) -> Effect:
        """What changing this field does to what runs; from the field's own declaration."""
        info = cls.model_fields.get(field_name)
        extra = info.json_schema_extra if info else None
        return Effect(str(extra["effect"])) if isinstance(extra, dict) and "effect" in extra else Effect.LIVE

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        """What differs between the host's ``current`` and this desired one, field by field.

        ``last`` is what was last applied, where something was. A field that was managed then and is not now
        goes back to its default: its change has None for ``after``, and the driver knows the default.
        """
        changes = []
        for name in type(self).model_fields:
            wanted, found = getattr(self, name), getattr(current, name, None)
            left = wanted is None and found is not None and getattr(last, name, None) is not None
            if left or (wanted is not None and wanted != found):
                changes.append(Change(name, jsonable(found), jsonable(wanted), self.effect_of(name)))
        return changes

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        """What an update ends in: this one, with the fields that neither it manages nor a change names
        taken from the host's."""
        changed = {change.field for change in changes}
        merged = {}
        for name in type(self).model_fields:
            wanted = getattr(self, name)
            keep = wanted is None and name not in changed
            merged[name] = getattr(current, name, None) if keep else wanted
        return type(self).model_construct(**merged)

    # -- proof ------------------------------------------------------------------------------------

    def checks(self) -> Iterable[Check]:
        """The facts that testinfra checks once this has been applied."""
        return []


def jsonable(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(jsonable(item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _without(one: Any, secrets: Paths) -> Any:
    changed: dict[str, Any] = {}
    for path in secrets:
        name, below = path[0], path[1:]
        info = type(one).model_fields.get(name)
        value = getattr(one, name, None)
        if below and isinstance(value, BaseModel):
            changed[name] = _without(changed.get(name, value), frozenset([below]))
        elif below and isinstance(value, Mapping):
            changed[name] = {**changed.get(name, value), below[0]: ""}
        elif info is not None:
            changed[name] = "" if info.is_required() else None
    made = one.model_copy(update=changed)
    if made.__pydantic_extra__ is not None:
        names = {path[0] for path in secrets}
        kept = {name: value for name, value in made.__pydantic_extra__.items() if name not in names}
        object.__setattr__(made, "__pydantic_extra__", kept)
    return made


def shown_text(value: Any) -> str:
    """A JSON value as a person reads it in a plan."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown_text(item) for item in value)
    if isinstance(value, Mapping):
        return "  ".join(f"{key} {shown_text(item)}" for key, item in value.items())
    return str(value)


R = TypeVar("R", bound=Resource)


class Driver(ABC, Generic[R]):
    """Reads and writes one kind on a host, in bulk. The only place that turns a spec into system calls."""

    @abstractmethod
    def observe(self, host: Host, scope: Scope) -> Iterable[R]:
        """Those resources of ``scope.of(kind)`` that exist on the host, with their fields as they are.

        Changes nothing. Starts no program. Reads in bulk; fields that cannot be read cheaply may be read
        only for the addresses that manage them.
        """

    @abstractmethod
    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        """Carry out steps of one kind and one action (create, update or delete), one result per step.

        Results are in the order of the steps. Steps after one that failed may or may not have been carried
        out: say which by their result. Never raises for what the host refuses; that is a failed result.
        A delete of what is already gone is done; a create of what already exists fails.
        """

    def status(self, host: Host, resources: Sequence[R]) -> Mapping[Address, str]:
        """One live line for ``nsprov show`` (``running, PID 123``), for those that have more than their spec."""
        return {}


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """A type of resource: its spec and its driver."""

    name: str
    resource: type[R]
    driver: Driver[R]


class Expect(BaseModel):
    """Declares who reaches whom: checked by real packets after an apply, in ``verify``.

    ``from`` is a namespace's name, or ``host``. ``to`` is ``address`` (ping) or ``address:port`` (TCP; with
    ``proto: udp`` UDP); an IPv6 address with a port stands in brackets.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        coerce_numbers_to_str=True,
        json_schema_extra={"examples": [{"from": "blue", "to": "10.20.0.12:8080", "result": "dropped"}]},
    )

    from_: str = Field(alias="from", description="the namespace that sends; `host` for the host itself")
    to: str = Field(description="the address, or address:port, that is tried")
    proto: Literal["tcp", "udp", "icmp"] | None = Field(None, description="tcp where `to` has a port, else icmp")
    result: Literal["reached", "refused", "dropped"] = Field("reached", description="what must happen")

    @field_validator("from_")
    @classmethod
    def _sends(cls, value: str) -> str:
        from provisioner.network.values import netns_name

        if not value:
            raise bad("nobody sends", "a namespace, or `host` for the host itself")
        return value if value == "host" else netns_name(value)

    @field_validator("to", "proto")
    @classmethod
    def _has_a_target(cls, value: Any, info: ValidationInfo) -> Any:
        """Looked at field by field, so that what is wrong is told where it was written."""
        from provisioner.verify.expect import parse_target

        try:
            if info.field_name == "to":
                parse_target(value, None)
            elif "to" in info.data:
                parse_target(info.data["to"], value)
        except ValueError as error:
            raise bad(str(error)) from None
        return value


# -- the two sides of a diff ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declared:
    """A desired resource, and where it was written."""

    resource: Resource
    source: Source | None = None
    role: str | None = None
    task: str | None = None
    #: Where each field's value was written, by dotted path (``peer.addresses.0``).
    fields: Mapping[str, Source] = field(default_factory=dict)
    #: Which fields are not shown.
    secrets: Paths = NO_SECRETS


@dataclass(frozen=True, slots=True)
class Desired:
    """What one host shall have: resources by address, and what is expected of them."""

    resources: Mapping[Address, Declared] = field(default_factory=dict)
    expects: Sequence[tuple[Expect, Source | None]] = ()
    #: Folders of roles' ``tests/``, run by ``verify``.
    tests: Sequence[str] = ()
    #: Set where ``--tags`` chose a part: then nothing is pruned.
    partial: bool = False
    #: What the host that it was fitted to cannot do of it, or only in part.
    concerns: Sequence[tuple[Address, Issue]] = ()
    #: The tags that its tasks have, whether they were chosen or not; known where ``--tags`` or ``--skip-tags`` chose.
    tags: frozenset[str] = frozenset()

    def of(self, kind: str) -> Iterator[Declared]:
        return (one for address, one in self.resources.items() if address.kind == kind)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the host has now, by address, for the addresses that were asked for."""

    resources: Mapping[Address, Resource] = field(default_factory=dict)


class Scope:
    """What an observation is asked to look at: for each address every spec that is known of it
    (the desired, the last applied, or a bare one that another resource refers to).

    ``undeclared`` are those that are owned, but that this run does not declare: a driver that finds fault
    with what is declared (a ruleset with a syntax error) lets these pass, so that they can be deleted.
    """

    def __init__(self, resources: Mapping[Address, Sequence[Resource]], undeclared: Iterable[Address] = ()) -> None:
        self.resources = resources
        self.undeclared = frozenset(undeclared)
        self._by_kind: dict[str, dict[Address, Sequence[Resource]]] = {}
        for address, specs in resources.items():
            self._by_kind.setdefault(address.kind, {})[address] = specs
        self._claims: dict[Claim, set[Address]] | None = None

    def of(self, kind: str) -> Mapping[Address, Sequence[Resource]]:
        """The addresses of one kind, with the specs known of each. A spec list may be empty: then only
        existence is asked for."""
        return self._by_kind.get(kind, {})

    def kinds(self) -> Iterable[str]:
        return self._by_kind

    def claimed_by_other(self, claim: Claim, address: Address) -> bool:
        """Whether another resource in scope has this claim: then it is not ours to report or to remove.

        A veth's ``routes`` and a ``route`` resource through the same interface are told apart so. What makes
        interfaces itself claims for those alone: a route through ours is ours, though it shall move to theirs.
        """
        if self._claims is None:
            self._claims = {}
            for owner, specs in self.resources.items():
                for one in specs:
                    if any(one.provides()):
                        continue
                    for made in one.claims():
                        self._claims.setdefault(made, set()).add(owner)
        owners = self._claims.get(claim)
        return bool(owners and owners - {address})


@dataclass(frozen=True, slots=True)
class Owned:
    """One resource that a project owns on a host: what was last applied of it, and where that was written.

    ``spec`` is kept as JSON values and only becomes a resource when it is asked for, since most of the time
    it equals the desired one. It has no secret in it, nor a digest of one: a mask says that the field was managed,
    which is all that is asked of it. ``secrets`` are the fields that have one.
    """

    spec: Mapping[str, Any]
    source: str = ""
    secrets: Paths = NO_SECRETS

    @classmethod
    def of(cls, resource: Resource, source: Source | None, secrets: Paths) -> Owned:
        """The entry for a resource that is applied."""
        return cls(resource.shown(secrets), str(source or ""), secrets)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one project owns on a host. The host is the truth; the manifest only says what is ours."""

    project: str = "default"
    owned: Mapping[Address, Owned] = field(default_factory=dict)
    #: Addresses that other projects own on this host, with the project's name.
    others: Mapping[Address, str] = field(default_factory=dict)


# -- plans ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a plan. ``before`` is None for a create, ``after`` for a delete."""

    action: Action
    address: Address
    before: Resource | None = None
    after: Resource | None = None
    reason: str = ""
    changes: tuple[Change, ...] = ()
    source: Source | None = None
    #: Whether a running workload stops or restarts because of this step.
    restarts: bool = False
    #: Which fields, before and after, are not shown.
    secrets: Paths = NO_SECRETS


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one step. ``error`` is None when it was carried out; ``skipped`` when it was not tried."""

    address: Address
    error: str | None = None
    code: int = 0
    skipped: bool = False
    #: What the host answered that a person may want to see (a PID, a warning).
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change that an apply makes, in order, and the fingerprint of the host that it was made for."""

    steps: tuple[Step, ...] = ()
    fingerprint: str = ""
    #: Owned addresses that are gone from both the configuration and the host: forgotten, nothing to do.
    forgets: tuple[Address, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)


def digest(value: Any) -> str:
    """A short stable digest of a JSON value, for fingerprints."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
