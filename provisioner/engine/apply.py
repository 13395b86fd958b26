"""Carries a plan out on a host, and puts the host back when it cannot be finished.

There is no undo code: to roll back is to plan from the host as it is now to the snapshot taken before,
and to carry that out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from provisioner.engine import manifest as manifests
from provisioner.engine.graph import audited, missing_references, place, told_once
from provisioner.engine.plan import batches, make_plan, scope_of
from provisioner.errors import ConfigError, HostError, NsprovError, Problem, Problems, UnreachableError
from provisioner.model import Action, Declared, Desired, Manifest, Owned, Plan, Scope, Snapshot, StepResult

if TYPE_CHECKING:
    from provisioner.fleet.target import Target
    from provisioner.model import Address, Issue, Resource, Step

__all__ = [
    "ApplyResult",
    "Failure",
    "Observation",
    "Watcher",
    "apply_plan",
    "is_settled",
    "observe_and_plan",
    "put_back",
    "slimmed",
]


@dataclass(frozen=True, slots=True)
class Observation:
    """A plan for one host, and all that it was made from."""

    desired: Desired
    manifest: Manifest
    snapshot: Snapshot
    plan: Plan


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that the host refused: the step, and the kernel's or systemd's own words."""

    step: Step
    error: str
    code: int = 0


@dataclass(slots=True)
class ApplyResult:
    """What an apply did: the steps that were done, what failed, and what the rollback came to."""

    done: list[Step] = field(default_factory=list)
    notes: dict[Address, str] = field(default_factory=dict)
    failure: Failure | None = None
    interrupted: bool = False
    #: None: no rollback was needed, or none was wanted. Empty: the host is as it was.
    not_put_back: list[Failure] | None = None
    error: str = ""
    #: The connection broke: the host came at least as far as what is done; whether it is put back is not known.
    unreachable: bool = False

    @property
    def ok(self) -> bool:
        return self.failure is None and not self.interrupted and not self.error

    @property
    def known(self) -> str:
        """How far a host came whose connection broke, in words."""
        if not self.done:
            return "how far it came is not known"
        return "1 step is known to be done" if len(self.done) == 1 else f"{len(self.done)} steps are known to be done"


class Watcher(Protocol):
    """Sees an apply as it goes."""

    def step(self, step: Step, done: int) -> None:
        """A step was carried out, as the so many-th; told while those beside it are under way."""

    def rolling_back(self, steps: int) -> None:
        """The host is being put back, in this many steps."""


def observe_and_plan(
    target: Target, desired: Desired, project: str, *, adopt: bool = False, reason_for_delete: str | None = None
) -> Observation:
    """Look at the host and plan. Changes nothing.

    Raises ConfigError for what this host cannot do, or lacks; NotOwnedError for what is not ours.
    """
    manifest = manifests.load(project, target.read_manifests())
    doubts = _refuse_what_host_cannot(desired, target)
    try:
        snapshot = target.observe(scope_of(desired, manifest))
    except ConfigError as error:
        raise ConfigError([_placed(problem, desired) for problem in error.problems]) from None
    going = set() if desired.partial else manifest.owned.keys() - desired.resources.keys()
    missing_references(desired, snapshot.resources.keys(), going).raise_if_any()
    if reason_for_delete is None:
        plan = make_plan(desired, snapshot, manifest, adopt=adopt)
    else:
        plan = make_plan(desired, snapshot, manifest, adopt=adopt, reason_for_delete=reason_for_delete)
    return Observation(desired, manifest, snapshot, replace(plan, warnings=_warnings(plan, doubts)))


def _refuse_what_host_cannot(desired: Desired, target: Target) -> list[tuple[Declared, Issue]]:
    """Raise for what this host cannot do. Returns what it can do only in part, or what is doubtful."""
    facts = {**target.facts(), "answers": _answers(desired, target)}
    problems = Problems()
    doubts: list[tuple[Declared, Issue]] = []
    found = [(desired.resources[address], issue) for address, issue in desired.concerns]
    for declared in desired.resources.values():
        found += [(declared, issue) for issue in declared.resource.check_host(facts)]
    for declared, issue in (*found, *audited(desired, facts)):
        if issue.severity == "error":
            problems.found.append(place(issue, declared))
        else:
            doubts.append((declared, issue))
    problems.raise_if_any()
    return doubts


def _answers(desired: Desired, target: Target) -> Mapping[str, Any]:
    """What the host says to all that the resources ask of it."""
    questions = {one for declared in desired.resources.values() for one in declared.resource.questions()}
    return target.ask(sorted(questions)) if questions else {}


def _warnings(plan: Plan, doubts: Iterable[tuple[Declared, Issue]]) -> tuple[str, ...]:
    """The warnings about what the plan touches; the same about several resources is said once."""
    touched = {step.address for step in plan.steps}
    return tuple(
        told_once(
            (declared, issue) for declared, issue in doubts if touched & {declared.resource.address, *issue.about}
        )
    )


def _placed(problem: Problem, desired: Desired) -> Problem:
    """A host's complaint about a resource, with the place that declares it."""
    if problem.source is not None:
        return problem
    for address, declared in desired.resources.items():
        if problem.message.startswith(f"{address}: "):
            return replace(problem, source=declared.source)
    return problem


def apply_plan(
    target: Target,
    observed: Observation,
    *,
    keep_partial: bool = False,
    watcher: Watcher | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> ApplyResult:
    """Carry out exactly the steps of the plan. On a refusal, or when interrupted, put the host back.

    The manifest is written before the first step (what is about to be made is ours from then on, should the
    power go) and after the last.
    """
    result = ApplyResult()
    attempted: dict[Address, Step] = {}
    project = observed.manifest.project
    groups = batches(observed.plan.steps)
    if groups:
        target.write_manifest(project, manifests.dump(_with_intent(observed)))
    try:
        for steps in groups:
            if interrupted():
                result.interrupted = True
                break
            attempted.update((step.address, step) for step in steps)
            _carry_out(target, steps, result, watcher)
            if result.failure is not None:
                break
    except HostError as error:
        result.error = str(error)
        result.unreachable = isinstance(error, UnreachableError)
    if result.unreachable:
        return result
    try:
        if result.ok:
            _write(target, _after(observed))
        elif keep_partial:
            _write(target, _kept(observed, attempted))
        elif attempted or result.interrupted:
            _roll_back(target, observed, attempted, result, watcher)
    except UnreachableError as error:
        result.error, result.unreachable = str(error), True
    return result


def put_back(target: Target, observed: Observation, result: ApplyResult, watcher: Watcher | None = None) -> None:
    """Put a host back to what it was before a plan was carried out on it; what became of that is in the result."""
    try:
        _roll_back(target, observed, {step.address: step for step in result.done}, result, watcher)
    except HostError as error:
        result.error = str(error)
        result.unreachable = isinstance(error, UnreachableError)


def is_settled(observed: Observation) -> bool:
    """Whether an apply would change nothing at all: neither the host, nor what is written of it in the manifest."""
    after = _after(observed)
    if not after.owned or not observed.manifest.owned:
        return not observed.plan.steps and not after.owned and not observed.manifest.owned
    return not observed.plan.steps and manifests.dump(after) == manifests.dump(observed.manifest)


def slimmed(observed: Observation) -> Observation:
    """The same, without what is known of resources that the plan does not touch: all that applying it, and putting
    the host back, look at."""
    touched = {step.address for step in observed.plan.steps}
    kept = {address: found for address, found in observed.snapshot.resources.items() if address in touched}
    return replace(observed, snapshot=Snapshot(kept))


def _carry_out(target: Target, steps: Sequence[Step], result: ApplyResult, watcher: Watcher | None) -> None:
    """Carry out steps of one kind, and note what became of each as it is told: of a host that is lost in the middle
    it is known then what it has done for certain."""
    by_address = {step.address: step for step in steps}

    def note(outcome: StepResult) -> None:
        step = by_address.pop(outcome.address, None)
        if step is None:
            return  # it was told before
        if outcome.error is not None:
            result.failure = result.failure or Failure(step, outcome.error, outcome.code)
        elif not outcome.skipped:
            result.done.append(step)
            if outcome.note:
                result.notes[step.address] = outcome.note
            if watcher is not None:
                watcher.step(step, len(result.done))

    for outcome in target.carry_out(steps, note):
        note(outcome)


def _roll_back(
    target: Target,
    observed: Observation,
    attempted: Mapping[Address, Step],
    result: ApplyResult,
    watcher: Watcher | None,
) -> None:
    try:
        failures = _put_back(target, observed, attempted, watcher)
    except UnreachableError:
        raise
    except NsprovError as error:
        failures = [Failure(step, str(error)) for step in attempted.values()]
    result.not_put_back = failures
    left = {failure.step.address for failure in failures}
    owned = dict(observed.manifest.owned)
    for address in left:  # what could not be put back stays ours, so that the next apply can mend it
        step = attempted[address]
        owned.setdefault(address, Owned.of(step.after or step.before or _none(), step.source, step.secrets))
    _write(target, Manifest(observed.manifest.project, owned))


def _none() -> Resource:
    raise AssertionError("a step has a before or an after")


def _put_back(
    target: Target, observed: Observation, attempted: Mapping[Address, Step], watcher: Watcher | None
) -> list[Failure]:
    """Plan from what is there now to the snapshot taken before, for what was attempted, and carry that out.

    Tried twice: what goes by itself a moment later (an interface of a dead namespace) may be in the way once.
    """
    failures: list[Failure] = []
    for _ in range(2):
        plan = _plan_back(target, observed, attempted)
        if watcher is not None:
            watcher.rolling_back(len(plan.steps))
        failures = []
        for steps in batches(plan.steps):
            results = target.carry_out(steps)
            failures += [
                Failure(step, outcome.error, outcome.code)
                for step, outcome in zip(steps, results, strict=True)
                if outcome.error is not None
            ]
        if not failures:
            break
    return failures


def _plan_back(target: Target, observed: Observation, attempted: Mapping[Address, Step]) -> Plan:
    before = observed.snapshot.resources
    # What lives in something replaced went with it, and comes back with it.
    wanted = {
        address: Declared(before[address], secrets=step.secrets)
        for address, step in attempted.items()
        if address in before
    }
    # As wide as the first look: what belongs to whom (a route of an interface, or one by itself) is told by all.
    specs = dict(scope_of(observed.desired, observed.manifest).resources)
    for address in attempted:
        if address in before:
            specs[address] = (before[address], *specs.get(address, ()))
    for declared in wanted.values():
        for needed in declared.resource.requires():
            specs.setdefault(needed, ())
    now = target.observe(Scope(specs, undeclared=specs.keys()))
    owned = {
        address: Owned.of(step.after or step.before or _none(), None, step.secrets)
        for address, step in attempted.items()
    }
    return make_plan(
        Desired(wanted), now, Manifest(observed.manifest.project, owned), reason_for_delete="the apply is rolled back"
    )


def _with_intent(observed: Observation) -> Manifest:
    """The manifest while the plan is carried out: what was ours, and all that is about to be."""
    owned = dict(observed.manifest.owned)
    for step in observed.plan.steps:
        if step.address not in owned and step.after is not None:
            owned[step.address] = Owned.of(step.after, step.source, step.secrets)
    return Manifest(observed.manifest.project, owned)


def _after(observed: Observation) -> Manifest:
    """The manifest once the plan has been carried out."""
    owned = {address: manifests.own(declared) for address, declared in observed.desired.resources.items()}
    if observed.desired.partial:
        owned = {**observed.manifest.owned, **owned}
    return Manifest(observed.manifest.project, owned)


def _kept(observed: Observation, attempted: Mapping[Address, Step]) -> Manifest:
    """The manifest of an apply that was stopped half way and left so."""
    owned = dict(observed.manifest.owned)
    for address, step in attempted.items():
        if step.after is not None and step.action is not Action.DELETE:
            owned[address] = Owned.of(step.after, step.source, step.secrets)
    return Manifest(observed.manifest.project, owned)


def _write(target: Target, manifest: Manifest) -> None:
    """Write the manifest if it says something new; a project that owns nothing has none."""
    text = manifests.dump(manifest) if manifest.owned else None
    if target.read_manifests().get(manifest.project) != text:
        target.write_manifest(manifest.project, text)
