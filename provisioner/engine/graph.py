"""Orders resources by what they need, and finds what is wrong among them. Pure.

Owns the dependency levels, the cycle that is printed when there is one, and the checks that need more
than one resource: claims, references, audits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.errors import Problem, Problems, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from provisioner.errors import Source
    from provisioner.model import Address, Claim, Declared, Desired, Issue, Resource

__all__ = ["audited", "check_desired", "concerns", "dependents", "levels", "missing_references", "place", "told_once"]


def levels(resources: Mapping[Address, Resource]) -> dict[Address, int]:
    """How many layers of other resources each one stands on: 0 needs none of these.

    Resources that stand in a circle are left out; ``check_desired`` reports them.
    """
    needs = _all_needs(resources)
    needed_by: dict[Address, list[Address]] = {}
    open_needs: dict[Address, int] = {}
    for address, wanted in needs.items():
        open_needs[address] = len(wanted)
        for one in wanted:
            needed_by.setdefault(one, []).append(address)
    level: dict[Address, int] = {}
    ready = [address for address, count in open_needs.items() if count == 0]
    depth = 0
    while ready:
        following: list[Address] = []
        for address in ready:
            level[address] = depth
            for user in needed_by.get(address, ()):
                open_needs[user] -= 1
                if open_needs[user] == 0:
                    following.append(user)
        ready, depth = following, depth + 1
    return {address: depth for address, depth in level.items() if address in resources}


def _all_needs(resources: Mapping[Address, Resource]) -> dict[Address, set[Address]]:
    """What each one stands on, and what each stand-in does: an interface's name on whatever makes it."""
    needs: dict[Address, set[Address]] = {}
    for address, resource in resources.items():
        for stand_in in resource.provides():
            if stand_in not in resources:
                needs.setdefault(stand_in, set()).add(address)
    among = {*resources, *needs}
    furnishings = _furnishings(resources)
    for address, resource in resources.items():
        wanted = {*resource.requires(), *resource.follows()}
        needs[address] = {one for one in wanted if one in among}
        if resource.workload:
            needs[address].update(*(furnishings.get(home, ()) for home in resource.lives_in()))
    return needs


def _furnishings(resources: Mapping[Address, Resource]) -> dict[Address, set[Address]]:
    """What is in each network namespace before something runs there: its interfaces, and what belongs to those.

    A workload must never be there before its firewall is, nor still be there after it.
    """
    living = dependents(resources)
    found: dict[Address, set[Address]] = {}
    for netns in (home for home in living if home.kind == "netns"):
        inside: set[Address] = set()
        open_homes = [netns]
        while open_homes:
            for one in living.get(open_homes.pop(), ()):
                if one not in inside and not resources[one].workload:
                    inside.add(one)
                    open_homes.append(one)
        found[netns] = inside
    return found


def dependents(resources: Mapping[Address, Resource]) -> dict[Address, list[Address]]:
    """For each address, those that live in it: what goes along when it goes."""
    providers: dict[Address, list[Address]] = {}
    for address, resource in resources.items():
        for stand_in in resource.provides():
            providers.setdefault(stand_in, []).append(address)
    living: dict[Address, list[Address]] = {}
    for address, resource in resources.items():
        for home in resource.lives_in():
            for one in providers.get(home, (home,)):
                living.setdefault(one, []).append(address)
    return living


def check_desired(desired: Desired) -> Problems:
    """Everything that is wrong among the resources of one host, located; and nothing that needs the host."""
    problems = Problems()
    _check_claims(desired, problems)
    _check_cycles(desired, problems)
    problems.extend(place(issue, declared) for declared, issue in audited(desired) if issue.severity == "error")
    return problems


def concerns(desired: Desired) -> list[str]:
    """What the resources of one host find doubtful among them, and what does not stop a run."""
    return told_once((declared, issue) for declared, issue in audited(desired) if issue.severity == "warning")


def told_once(doubts: Iterable[tuple[Declared, Issue]]) -> list[str]:
    """Each doubt in words, where it was written; the same about several resources is told once.

    ``tasks/main.yml:3:5: slice/a.slice and 2 more: …``, and what would be right on a line of its own.
    """
    alike: dict[tuple[str, str | None], list[tuple[Declared, Issue]]] = {}
    for declared, issue in doubts:
        alike.setdefault((issue.message, issue.hint), []).append((declared, issue))
    return [str(_of_several(several)) for several in alike.values()]


def _of_several(several: Sequence[tuple[Declared, Issue]]) -> Problem:
    declared, issue = several[0]
    problem = place(issue, declared)
    if len(several) == 1:
        return problem
    address = str(declared.resource.address)
    return replace(problem, message=f"{address} and {len(several) - 1} more{problem.message.removeprefix(address)}")


def audited(desired: Desired, facts: Mapping[str, Any] | None = None) -> Iterator[tuple[Declared, Issue]]:
    """Each issue that a resource finds with itself among the others, on a host of these facts."""
    for declared in desired.resources.values():
        for issue in declared.resource.audit(desired):
            yield declared, issue
    for each in dict.fromkeys(type(declared.resource) for declared in desired.resources.values()):
        for address, issue in each.audit_all(desired, facts):
            yield desired.resources[address], issue


def missing_references(desired: Desired, existing: Collection[Address], leaving: Collection[Address] = ()) -> Problems:
    """References to what is neither declared nor on the host, or is ours there and not declared any more."""
    problems = Problems()
    for declared in desired.resources.values():
        for wanted in declared.resource.requires():
            if wanted in desired.resources or (wanted in existing and wanted not in leaving):
                continue
            if wanted in existing:
                address = declared.resource.address
                problems.add(
                    f"{address} needs {wanted}, which has left the configuration and would be deleted",
                    _where_named(declared, wanted),
                    hint=f"keep its '{wanted.kind}:' task, or remove this one too",
                )
                continue
            known = {str(address) for address in desired.resources if address.kind == wanted.kind}
            problems.add(
                f"{declared.resource.address} needs {wanted}, which is neither declared nor on the host",
                _where_named(declared, wanted),
                hint=did_you_mean(str(wanted), known) or f"declare it with a '{wanted.kind}:' task",
            )
    return problems


def place(issue: Issue, declared: Declared) -> Problem:
    """An issue as a problem, at the field that it is about."""
    return Problem(f"{declared.resource.address}: {issue.message}", _field_source(declared, issue.field), issue.hint)


def _field_source(declared: Declared, name: str | None) -> Source | None:
    path = name or ""
    while path:
        if path in declared.fields:
            return declared.fields[path]
        path = path.rpartition(".")[0]
    return declared.source


def _where_named(declared: Declared, wanted: Address) -> Source | None:
    """The field that names the wanted resource, found by its value."""
    return _find_value(declared, declared.resource.declared(), wanted.name, "") or declared.source


def _find_value(declared: Declared, value: object, name: str, path: str) -> Source | None:
    if isinstance(value, dict):
        for key, item in value.items():
            if path == "" and key == "name":
                continue
            found = _find_value(declared, item, name, f"{path}.{key}" if path else key)
            if found:
                return found
    elif value == name and path:
        return declared.fields.get(path)
    return None


def _where_claimed(declared: Declared, claim: Claim) -> Source | None:
    """The field that makes a claim: the one whose value is in the claim's key, the last part of it first."""
    values = list(_leaves(declared.resource.declared(), ""))
    for word in reversed(list(_words(claim.key))):
        for path, text in values:
            if word in (text, text.partition("/")[0]) and path in declared.fields:
                return declared.fields[path]
    return declared.source


def _leaves(value: object, path: str) -> Iterable[tuple[str, str]]:
    """Each plain value with its dotted path."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, str(value)


def _words(key: object) -> Iterable[str]:
    if isinstance(key, tuple):
        for part in key:
            yield from _words(part)
    elif key is not None:
        yield str(key)


def _first_claim(holder: Declared, declared: Declared, claim: Claim) -> str | None:
    if holder.source is None:
        return None
    if holder.source == declared.source:
        return "two rounds of a loop, or two uses of the role, claim it: give each its own"
    return f"the first claim is at {_where_claimed(holder, claim)}"


def _check_claims(desired: Desired, problems: Problems) -> None:
    holders: dict[Claim, Declared] = {}
    for declared in desired.resources.values():
        mine: set[Claim] = set()
        for claim in declared.resource.claims():
            holder = holders.setdefault(claim, declared)
            if holder is not declared:
                problems.add(
                    f"{declared.resource.address}: {claim.what} is claimed by {holder.resource.address} already",
                    _where_claimed(declared, claim),
                    hint=_first_claim(holder, declared, claim),
                )
            elif claim in mine:
                problems.add(
                    f"{declared.resource.address}: {claim.what} stands twice in it", _where_claimed(declared, claim)
                )
            mine.add(claim)


def _check_cycles(desired: Desired, problems: Problems) -> None:
    resources = {address: declared.resource for address, declared in desired.resources.items()}
    ordered = levels(resources)
    left = {address: wanted for address, wanted in _all_needs(resources).items() if address not in ordered}
    reported: set[Address] = set()
    for start in left:
        circle = [one for one in _circle(start, left) if one in resources]
        if circle and not reported & set(circle):
            reported |= set(circle)
            problems.add(
                "these resources need each other in a circle: " + " -> ".join(str(a) for a in [*circle, circle[0]]),
                desired.resources[circle[0]].source,
                hint="one of them must do without another",
            )


def _circle(start: Address, among: Mapping[Address, set[Address]]) -> list[Address]:
    """The circle that is reached by following needs from here."""
    path: list[Address] = []
    at: Address | None = start
    while at is not None and at not in path:
        path.append(at)
        at = _first(wanted for wanted in among[at] if wanted in among)
    return path[path.index(at) :] if at is not None else []


def _first(addresses: Iterable[Address]) -> Address | None:
    return min(addresses, default=None, key=str)
