"""The kind ``rule``: policy routing, which table a packet is routed by."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, ValidationInfo, field_validator, model_validator

from provisioner.model import (
    Action,
    Change,
    Check,
    Claim,
    Driver,
    Effect,
    Resource,
    StepResult,
    WholeNumber,
    bad,
    jsonable,
    spec,
)
from provisioner.network import Destination, Family, InterfaceName, NetnsName, Table, family_of
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.host.messages import RuleEntry
    from provisioner.host.netlink import Network
    from provisioner.model import Address, Scope, Step

__all__ = ["Rule"]

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}


def _fwmark(value: str) -> str:
    """A mark, and the bits of it that count: ``0x1``, or ``0x1/0xff``."""
    mark, slash, mask = value.partition("/")
    try:
        numbers = [int(text, 0) for text in ((mark, mask) if slash else (mark, "0xffffffff"))]
    except ValueError:
        raise bad(f"'{value}' is not a packet mark", "a number, or number/mask, as in 0x1 or 0x1/0xff") from None
    if not all(0 <= number <= 0xFFFFFFFF for number in numbers):
        raise bad(f"the packet mark '{value}' is out of range", "marks have 32 bits")
    return hex(numbers[0]) if numbers[1] == 0xFFFFFFFF else f"{numbers[0]:#x}/{numbers[1]:#x}"


def _selector(value: Any) -> Any:
    """The network that a rule selects; all of them is none in particular."""
    return None if value in ("all", "any", "default", "0.0.0.0/0", "::/0") else value


def _protocol(value: str) -> str:
    if value.isdecimal() and 1 <= int(value) <= 255:
        return next((name for name, number in _PROTOCOLS.items() if number == int(value)), str(int(value)))
    if value not in _PROTOCOLS:
        raise bad(f"'{value}' is not an IP protocol", f"a number, or one of {', '.join(_PROTOCOLS)}")
    return value


def _ports(value: str) -> str:
    """A port, or a range of them: ``80``, ``8000-8080``."""
    first, dash, last = value.partition("-")
    last = last if dash else first
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 65535):
        raise bad(f"'{value}' is no port and no range of ports", "as in 80, or 8000-8080")
    return str(int(first)) if int(first) == int(last) else f"{int(first)}-{int(last)}"


Ports = Annotated[str, AfterValidator(_ports)]


class Rule(Resource):
    """A rule of policy routing: packets that match it are routed by its table, or not at all."""

    kind: ClassVar[str] = "rule"
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, populate_by_name=True)

    name: str = spec("", doc="its priority, where no other name is given")
    netns: NetnsName | None = spec(doc="the namespace; the host's own where left out", effect=Effect.REPLACE)
    priority: WholeNumber = spec(
        ..., doc="rules are tried from the lowest priority on", ge=1, le=0xFFFFFFFF, examples=[100]
    )
    from_: Annotated[Destination | None, BeforeValidator(_selector)] = spec(
        doc="packets from this network", alias="from", examples=["10.0.0.0/24"]
    )
    to: Annotated[Destination | None, BeforeValidator(_selector)] = spec(doc="packets to this network")
    iif: InterfaceName | None = spec(doc="packets that came in by this interface; `lo` for the host's own")
    oif: InterfaceName | None = spec(doc="packets of sockets that are bound to this interface")
    fwmark: Annotated[str, AfterValidator(_fwmark)] | None = spec(
        doc="packets with this firewall mark", examples=["0x1", "0x1/0xff"]
    )
    ipproto: Annotated[str, AfterValidator(_protocol)] | None = spec(
        doc="packets of this IP protocol", examples=["tcp"]
    )
    sport: Ports | None = spec(doc="packets from this port, or range of ports")
    dport: Ports | None = spec(doc="packets to this port, or range of ports", examples=["80", "8000-8080"])
    invert: bool = spec(False, doc="packets that do not match, instead of those that do", alias="not")
    action: Literal["lookup", "blackhole", "unreachable", "prohibit"] = spec(
        "lookup", doc="look the route up in a table, or drop, or answer that there is no way"
    )
    table: Table = spec(doc="the table to look it up in; main where left out", examples=[100])
    suppress_prefixlength: WholeNumber | None = spec(
        doc="take no route of the table whose prefix is this long or shorter", ge=0, le=128
    )
    family: Family | None = spec(doc="ipv4 or ipv6; told by the addresses, else ipv4", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _named_by_priority(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and not data.get("name") and data.get("priority") is not None:
            addresses = [str(data[key]) for key in ("from", "from_", "to") if data.get(key)]
            ipv6 = data.get("family") == "ipv6" or any(":" in text for text in addresses)
            return {**data, "name": f"{data['priority']}{' ipv6' if ipv6 else ''}"}
        return data

    @field_validator("family")
    @classmethod
    def _family_told(cls, value: Family | None, info: ValidationInfo) -> Family:
        told = {family_of(text) for key in ("from_", "to") if (text := info.data.get(key))}
        if len(told) > 1:
            raise bad("'from' and 'to' are not of one family", "write a rule for each family")
        if value is not None and told and value not in told:
            raise bad(f"the addresses are not of the family {value}", "leave 'family' out: the addresses tell it")
        return value or ("ipv6" if "ipv6" in told else "ipv4")

    @model_validator(mode="after")
    def _table_looked_up(self) -> Self:
        if self.action != "lookup" and self.table is not None:
            raise bad(f"a rule that answers '{self.action}' looks no table up", "leave 'table' out, or 'action'")
        if (self.sport or self.dport) and self.ipproto not in ("tcp", "udp", "sctp"):
            raise bad("ports are of a protocol", "give 'ipproto: tcp' or 'ipproto: udp' as well")
        return self

    def claims(self) -> Iterable[Claim]:
        where = f" of {self.netns}" if self.netns else ""
        yield Claim(
            f"the {self.family} rule of priority {self.priority}{where}",
            ("rule", self.netns, self.family, self.priority),
        )

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        """A rule is compared whole: what is left out matches anything."""
        changes = []
        for name, info in type(self).model_fields.items():
            wanted, found = getattr(self, name), getattr(current, name)
            if wanted != found and name != "name":
                effect = Effect.REPLACE if name in ("netns", "family") else Effect.LIVE
                changes.append(Change(info.alias or name, jsonable(found), jsonable(wanted), effect))
        return changes

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        return self

    def summary(self) -> list[tuple[str, str]]:
        return [("rule", self.text())]

    def text(self) -> str:
        """The rule as ``ip rule`` words it."""
        words = ["not"] if self.invert else []
        words += ["from", self.from_ or "all"]
        for name in ("to", "iif", "oif", "fwmark", "ipproto", "sport", "dport"):
            value = getattr(self, name)
            if value is not None:
                words += [name, value]
        words.append(self.action)
        if self.action == "lookup":
            words.append(str(self.table or "main"))
        if self.suppress_prefixlength is not None:
            words += ["suppress_prefixlength", str(self.suppress_prefixlength)]
        return " ".join(words)

    def checks(self) -> Iterable[Check]:
        tests = [f"one['priority'] == {self.priority}"]
        if self.action == "lookup":
            tests.append(f"one.get('table') == {str(self.table or 'main')!r}")
        source = (self.from_ or "all").partition("/")[0]
        tests.append(f"one['src'] == {source!r}")
        if self.to:
            tests.append(f"one.get('dst') == {self.to.partition('/')[0]!r}")
        for name in ("iif", "oif"):
            if getattr(self, name):
                tests.append(f"one.get({name!r}) == {getattr(self, name)!r}")
        if self.fwmark:
            tests.append(f"one.get('fwmark') == {self.fwmark.partition('/')[0]!r}")
        matched = f"any({' and '.join(tests)} for one in found)"
        yield Check(
            f"{self.address} is there",
            f"found = rules(host, {self.netns!r})\nassert {matched}, rule_words(found)",
        )


def _entry(rule: Rule) -> RuleEntry:
    """A rule in the form of its message."""
    from provisioner.host.messages import RuleEntry

    mark = None
    if rule.fwmark is not None:
        number, _, mask = rule.fwmark.partition("/")
        mark = int(number, 0), int(mask, 0) if mask else 0xFFFFFFFF
    return RuleEntry(
        str(rule.family),
        rule.priority,
        rule.action,
        rule.table if rule.action == "lookup" else None,
        rule.from_,
        rule.to,
        rule.iif,
        rule.oif,
        mark,
        None if rule.ipproto is None else _PROTOCOLS.get(rule.ipproto) or int(rule.ipproto),
        _range(rule.sport),
        _range(rule.dport),
        rule.suppress_prefixlength,
        rule.invert,
    )


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _ports_text(ports: tuple[int, int] | None) -> str | None:
    return None if ports is None else _ports(f"{ports[0]}-{ports[1]}")


def _observed(address: Address, entry: RuleEntry) -> Rule:
    mark = entry.fwmark
    return Rule.model_construct(
        name=address.name,
        netns=address.netns,
        priority=entry.priority,
        from_=entry.source,
        to=entry.destination,
        iif=entry.iif,
        oif=entry.oif,
        fwmark=None if mark is None else _fwmark(f"{mark[0]}/{mark[1]}"),
        ipproto=None if entry.ipproto is None else _protocol(str(entry.ipproto)),
        sport=_ports_text(entry.sport),
        dport=_ports_text(entry.dport),
        invert=entry.invert,
        action=entry.action,
        table=entry.table,
        suppress_prefixlength=entry.suppress_prefixlength,
        family=entry.family,
    )


class RuleDriver(Driver[Rule]):
    """Makes, reads and removes rules."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Rule]:
        wanted = scope.of("rule")
        host.network.prepare(address.netns for address in wanted)
        for address, specs in wanted.items():
            found = _find(host.network, address.netns, [_entry(one) for one in specs if isinstance(one, Rule)])
            if found is not None:
                yield _observed(address, found)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        by_netns: dict[str | None, list[Step]] = {}
        for step in steps:
            by_netns.setdefault(step.address.netns, []).append(step)
        host.network.prepare(by_netns)
        results = {
            result.address: result
            for netns, some in by_netns.items()
            for result in _carry_out_in(host.network, netns, some)
        }
        for step in steps:
            yield results[step.address]


def _find(network: Network, netns: str | None, specs: Sequence[RuleEntry]) -> RuleEntry | None:
    """The rule that specs speak of: one that is equal, else one of the same priority."""
    if not network.exists(netns):
        return None
    rules = network.rules(netns)
    for one in specs:
        if one in rules:
            return one
    wanted = {(one.family, one.priority) for one in specs}
    return next((rule for rule in rules if (rule.family, rule.priority) in wanted), None)


def _carry_out_in(network: Network, netns: str | None, steps: Sequence[Step]) -> Iterator[StepResult]:
    """An update adds the new rule before it removes the old: no packet is routed by neither.

    But for rules that differ in `not` alone: the kernel takes them for one, and would refuse the new, and
    remove whichever comes first.
    """
    if not network.exists(netns):
        for step in steps:
            gone = step.action is Action.DELETE
            words = None if gone else f"cannot add the rule: there is no namespace {netns}"
            yield StepResult(step.address, words, 0 if gone else errno.ENOENT)
        return
    failed: dict[Address, StepResult] = {}
    first = [step for step in steps if _same_to_the_kernel(step)]
    _send(network, netns, [(s, s.before) for s in first], False, failed)
    coming = [(s, s.after) for s in steps if s.action is not Action.DELETE and s.address not in failed]
    _send(network, netns, coming, True, failed)
    going = [(s, s.before) for s in steps if s.action is not Action.CREATE and s not in first]
    _send(network, netns, [(s, rule) for s, rule in going if s.address not in failed], False, failed)
    for step in steps:
        yield failed.get(step.address, StepResult(step.address))


def _same_to_the_kernel(step: Step) -> bool:
    before, after = step.before, step.after
    if not isinstance(before, Rule) or not isinstance(after, Rule):
        return False
    return before.invert is not after.invert and _entry(before)._replace(invert=after.invert) == _entry(after)


def _send(
    network: Network,
    netns: str | None,
    work: Sequence[tuple[Step, Resource | None]],
    add: bool,
    failed: dict[Address, StepResult],
) -> None:
    from provisioner.host.messages import rule_change

    rules = [(step, rule) for step, rule in work if isinstance(rule, Rule)]
    answers = network.request(netns, [rule_change(_entry(rule), add=add) for _, rule in rules])
    for (step, rule), refusal in zip(rules, answers, strict=True):
        if refusal is None or (not add and refusal.code in (errno.ENOENT, errno.ESRCH)):
            continue
        words = f"cannot {'add' if add else 'remove'} the rule {rule.priority}: {rule.text()}: {refusal}"
        failed[step.address] = StepResult(step.address, words, refusal.code)


register(Rule, RuleDriver())
