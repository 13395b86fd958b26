"""The syntaxes of resource control: limits, weights, quotas, device rates, address lists.

These can change on a running unit, so they are read back from systemd's properties, not from its files.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.directives import values
from provisioner.directives.syntax import Item, Lines, Scalar, Setting, Value, scale
from provisioner.directives.values import INFINITY, BadValue

__all__ = [
    "Addresses",
    "BpfPrograms",
    "Cpus",
    "Delegation",
    "DeviceLatencies",
    "DeviceRates",
    "DeviceWeights",
    "Devices",
    "Filter",
    "FilterPaths",
    "Limit",
    "NftSets",
    "Ports",
    "Quota",
    "Tasks",
    "numbers_in",
    "ranges",
]

_U32 = 2**32 - 1


class Limit(Scalar):
    """A number of bytes, a share of the machine's memory, or ``infinity``."""

    expects = "a size such as 512M, a percentage of the memory, or infinity"

    def __init__(self, unset: str = "infinity", *, shares: bool = True) -> None:
        self.unset = unset
        if not shares:
            self.expects = "a size such as 512M, or infinity"
        #: Whether D-Bus takes a share of the memory.
        self.shares = shares

    def one(self, text: str) -> str:
        if text == "infinity":
            return text
        share = values.percent(text)
        if share is None:
            try:
                return values.bytes_text(values.size(text))
            except BadValue as error:
                near = error.hint if error.hint and error.hint.startswith("did") else self.expects
                raise BadValue(error.message, near) from None
        if share > 10000 or not self.shares:
            raise BadValue(f"'{text}' is {'more than 100%' if self.shares else 'a percentage'}", self.expects)
        return values.percent_text(share)

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value == "infinity":
            return [Setting(name, "t", INFINITY)]
        share = values.percent(str(value))
        if share is not None:
            return [Setting(f"{name}Scale", "u", scale(share))]
        return [Setting(name, "t", values.size(str(value)))]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        number = int(found[name])
        return "infinity" if number == INFINITY else values.bytes_text(number)

    def resolved(self, value: Value, total: int) -> str:
        """A percentage as the number that systemd makes of it, where ``total`` is all there is (in pages)."""
        share = values.percent(str(value))
        if share is None:
            return str(value)
        return values.bytes_text(total * scale(share) // _U32)


class Tasks(Limit):
    """A number of tasks, a share of the system's, or ``infinity``."""

    expects = "a number of tasks, a percentage, or infinity"
    varies = True

    def one(self, text: str) -> str:
        if text == "infinity" or values.percent(text) is not None:
            return super().one(text)
        try:
            return str(values.integer(text, 1, INFINITY - 1))
        except BadValue as error:
            raise BadValue(error.message, self.expects) from None

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value == "infinity" or values.percent(str(value)) is not None:
            return super().encode(name, value)
        return [Setting(name, "t", int(str(value)))]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        number = int(found[name])
        return "infinity" if number == INFINITY else str(number)

    def resolved(self, value: Value, total: int) -> str:
        share = values.percent(str(value))
        return str(value) if share is None else str(max(1, total * scale(share) // _U32))


class Quota(Scalar):
    """CPU time in percent of one CPU; more than 100 % is more than one CPU."""

    expects = "a percentage of one CPU such as 50% or 200%"

    def one(self, text: str) -> str:
        share = values.percent(text)
        if not share:
            raise BadValue(f"'{text}' is not a percentage of one CPU", "for instance 50%, or 200% for two CPUs")
        return values.percent_text(share)

    def encode(self, name: str, value: Value) -> list[Setting]:
        usec = INFINITY if not value else (values.percent(str(value)) or 0) * 100
        return [Setting("CPUQuotaPerSecUSec", "t", usec)]

    def properties(self, name: str) -> tuple[str, ...]:
        return ("CPUQuotaPerSecUSec",)

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        usec = int(found["CPUQuotaPerSecUSec"])
        return "" if usec == INFINITY else values.percent_text(usec // 100)

    def settled(self, value: Value) -> Value:
        """systemd writes whole percents into its files (rounded as C's printf rounds)."""
        share = values.percent(str(value)) if value else None
        return value if share is None else values.percent_text(round(share / 100) * 100)


class Cpus(Scalar):
    """A set of CPUs or memory nodes, such as ``0-3 5``; ``words`` may stand instead."""

    expects = "numbers and ranges such as 0-3 5"

    def __init__(self, words: Mapping[str, Setting] | None = None) -> None:
        self.words = words or {}

    def one(self, text: str) -> str:
        if text in self.words:
            return text
        return ranges(numbers_in(text))

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value in self.words:
            return [self.words[str(value)]]
        return [Setting(name, "ay", _bitmap(numbers_in(str(value))))]

    def decode(self, name: str, found: Mapping[str, Any]) -> str:
        octets = bytes(found[name])
        return ranges({at * 8 + bit for at, octet in enumerate(octets) for bit in range(8) if octet >> bit & 1})


def numbers_in(text: str) -> set[int]:
    """The numbers of ``0-3 5``."""
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        if not part:
            continue
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        low = int(match[1]) if match else 0
        high = int(match[2]) if match and match[2] else low
        if not match or high < low or high > 8191:
            raise BadValue(f"'{part}' is not a number or a range", "for instance 0-3 5")
        found.update(range(low, high + 1))
    return found


def ranges(numbers: set[int]) -> str:
    """``0-3 5``, of numbers."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def _bitmap(numbers: set[int]) -> list[int]:
    if not numbers:
        return []
    octets = [0] * (max(numbers) // 8 + 1)
    for number in numbers:
        octets[number // 8] |= 1 << number % 8
    return octets


class _PerDevice(Lines):
    """One value for each block device: ``/dev/vda 10M``."""

    ordered = False
    signature = "a(st)"

    def number(self, text: str) -> int:
        raise NotImplementedError

    def text(self, number: int) -> str:
        raise NotImplementedError

    def items(self, text: str) -> list[str]:
        device, _, value = text.partition(" ")
        if not value.strip() or not device.startswith("/"):
            raise BadValue(f"'{text}' is not a device and its value", f"it takes {self.expects}")
        return [f"{device} {self.text(self.number(value.strip()))}"]

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        """The last value of each device."""
        return tuple(sorted({item.partition(" ")[0]: item for item in items}.values()))

    def encode(self, name: str, value: Value) -> list[Setting]:
        pairs = [item.split(" ", 1) for item in value]
        return [Setting(name, self.signature, [(device, self.number(text)) for device, text in pairs])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        (source,) = self.properties(name)
        return self.arranged([f"{device} {self.text(int(number))}" for device, number in found[source]])


class DeviceRates(_PerDevice):
    """Bytes or operations a second of each block device."""

    expects = "a device and a rate, such as /dev/vda 10M"

    def number(self, text: str) -> int:
        return INFINITY if text == "infinity" else values.size(text, 1000)

    def text(self, number: int) -> str:
        return "infinity" if number == INFINITY else values.bytes_text(number, 1000)

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        """systemd does not report a device without a limit."""
        return tuple(item for item in super().arranged(items) if not item.endswith(" infinity"))


class DeviceWeights(_PerDevice):
    """The weight of each block device."""

    expects = "a device and a weight from 1 to 10000, such as /dev/vda 200"

    def number(self, text: str) -> int:
        return values.integer(text, 1, 10000)

    def text(self, number: int) -> str:
        return str(number)


class DeviceLatencies(_PerDevice):
    """The latency to aim at on each block device."""

    expects = "a device and a time span, such as /dev/vda 25ms"

    def number(self, text: str) -> int:
        return values.span(text)

    def text(self, number: int) -> str:
        return values.span_text(number)

    def encode(self, name: str, value: Value) -> list[Setting]:
        return super().encode("IODeviceLatencyTargetUSec", value)

    def properties(self, name: str) -> tuple[str, ...]:
        return ("IODeviceLatencyTargetUSec",)


class Devices(Lines):
    """Device nodes that may be used, and how: ``/dev/null rw``, ``char-pts``."""

    ordered = False
    expects = "a device and r, w, m, such as /dev/null rw"

    def items(self, text: str) -> list[str]:
        device, _, access = text.partition(" ")
        access = access.strip()
        if not re.fullmatch(r"/.+|(char|block)-.+", device) or set(access) - set("rwm"):
            raise BadValue(f"'{text}' is not a device and its access", f"it takes {self.expects}")
        return [f"{device} {''.join(letter for letter in 'rwm' if letter in (access or 'rwm'))}"]

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted({item.partition(" ")[0]: item for item in items}.values()))

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(ss)", [tuple(item.split(" ", 1)) for item in value])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged([f"{device} {access}" for device, access in found[name]])


_NETWORKS = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}


class Addresses(Lines):
    """IP networks: ``10.0.0.0/8``, ``localhost``, ``link-local``, ``multicast``, ``any``."""

    ordered = False
    expects = f"an IP network, or one of {', '.join(_NETWORKS)}"

    def items(self, text: str) -> list[str]:
        found: list[str] = []
        for word in values.words(text):
            try:
                found += _NETWORKS.get(word) or (str(ipaddress.ip_network(word, strict=False)),)
            except ValueError:
                raise BadValue(f"'{word}' is not an IP network", self.expects) from None
        return found

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        found = set(items)
        for word, both in _NETWORKS.items():
            if found >= set(both):
                found = found - set(both) | {word}
        return tuple(sorted(found))

    def encode(self, name: str, value: Value) -> list[Setting]:
        made = []
        for item in value:
            for network in _NETWORKS.get(item) or (item,):
                one = ipaddress.ip_network(network)
                made.append((2 if one.version == 4 else 10, list(one.network_address.packed), one.prefixlen))
        return [Setting(name, "a(iayu)", made)]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged(
            [str(ipaddress.ip_network((bytes(octets), prefix), strict=False)) for _, octets, prefix in found[name]]
        )


class FilterPaths(Item):
    """Paths of pinned BPF programs."""

    ordered = False
    expects = "an absolute path below /sys/fs/bpf"

    def item(self, text: str) -> str:
        if not text.startswith("/"):
            raise BadValue(f"'{text}' is not an absolute path", f"it takes {self.expects}")
        return text

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "as", list(value))]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged([str(path) for path in found[name]])


class BpfPrograms(Item):
    """A BPF program and where it attaches: ``egress:/sys/fs/bpf/program``."""

    ordered = False
    expects = "an attach type, a colon and a path, such as egress:/sys/fs/bpf/program"

    def item(self, text: str) -> str:
        if not re.fullmatch(r"[a-z0-9]+:/.+", text):
            raise BadValue(f"'{text}' is not a program", f"it takes {self.expects}")
        return text

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(ss)", [tuple(item.split(":", 1)) for item in value])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged([f"{kind}:{path}" for kind, path in found[name]])


_FAMILIES = {"": 0, "ipv4": 2, "ipv6": 10}
_PROTOCOLS = {"": 0, "tcp": 6, "udp": 17}
_PORT = re.compile(r"(?:(ipv4|ipv6)(?::|$))?(?:(tcp|udp)(?::|$))?(any|\d+(?:-\d+)?)?")


class Ports(Item):
    """Ports that may be bound: ``any``, ``8080``, ``ipv4:tcp:1000-2000``."""

    expects = "any, or [ipv4|ipv6:][tcp|udp:]port, such as tcp:8000-9000"

    def item(self, text: str) -> str:
        family, protocol, count, port = self._parsed(text)
        return self._text(family, protocol, count, port)

    def _parsed(self, text: str) -> tuple[int, int, int, int]:
        match = _PORT.fullmatch(text)
        if not match or not text:
            raise BadValue(f"'{text}' is not a port", f"it takes {self.expects}")
        family, protocol, ports = match[1] or "", match[2] or "", match[3] or "any"
        if ports == "any":
            return _FAMILIES[family], _PROTOCOLS[protocol], 0, 0
        low, _, high = ports.partition("-")
        first, last = int(low), int(high or low)
        if not 1 <= first <= last <= 65535:
            raise BadValue(f"'{ports}' is not a port or a range of ports", "ports are 1 to 65535")
        return _FAMILIES[family], _PROTOCOLS[protocol], last - first + 1, first

    def _text(self, family: int, protocol: int, count: int, port: int) -> str:
        parts = [word for word, number in _FAMILIES.items() if number == family and word]
        parts += [word for word, number in _PROTOCOLS.items() if number == protocol and word]
        if count:
            parts.append(str(port) if count == 1 else f"{port}-{port + count - 1}")
        return ":".join(parts) or "any"

    def encode(self, name: str, value: Value) -> list[Setting]:
        return [Setting(name, "a(iiqq)", [self._parsed(item) for item in value])]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        return self.arranged([self._text(*(int(number) for number in item)) for item in found[name]])


class Filter(Lines):
    """Names that are allowed, or with ``~`` before them denied; later assignments add and take away."""

    def __init__(self, expects: str, pattern: str, *, folds: bool = False, none: bool = False) -> None:
        self.expects = expects
        self.pattern = re.compile(pattern)
        self.none = none
        #: Whether what several assignments come to can be told without the host (there are no groups of names).
        self.folds = folds

    def items(self, text: str) -> list[str]:
        deny = "~" if text.startswith("~") else ""
        found = values.words(text.removeprefix("~"), escapes=False)
        if self.none and text == "none":
            return [text]
        for word in found:
            if not self.pattern.fullmatch(word):
                hint = "write a list: one item to allow, one that starts with ~ to deny" if "~" in word else None
                raise BadValue(f"'{word}' does not fit", hint or f"it takes {self.expects}")
        return [deny + " ".join(sorted(set(found)))]

    def arranged(self, items: Sequence[str]) -> tuple[str, ...]:
        if not self.folds or not items:
            return tuple(items)
        deny = items[0].startswith("~")
        names: set[str] = set()
        for item in items:
            words = set(item.removeprefix("~").split()) - {"none"}
            names = names | words if item.startswith("~") == deny else names - words
        if not names:
            return ("none",) if self.none and not deny else ()
        return (("~" if deny else "") + " ".join(sorted(names)),)

    def encode(self, name: str, value: Value) -> list[Setting]:
        if not value:
            return [Setting(name, "(bas)", (False, []))]
        return [
            Setting(
                name, "(bas)", (not item.startswith("~"), [w for w in item.removeprefix("~").split() if w != "none"])
            )
            for item in value
        ]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        allow, names = found[name]
        if not names:
            return ("none",) if allow and self.none else ()
        return (("" if allow else "~") + " ".join(sorted(str(one) for one in names)),)


_NFT_SOURCES = {"cgroup": 3, "user": 4, "group": 5}
_NFT_FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}


class NftSets(Lines):
    """nftables sets that systemd fills in: ``cgroup:inet:filter:my_set``."""

    ordered = False
    expects = "source:family:table:set, such as cgroup:inet:filter:my_set"

    def items(self, text: str) -> list[str]:
        found = values.words(text)
        for word in found:
            parts = word.split(":")
            if len(parts) != 4 or parts[0] not in _NFT_SOURCES or parts[1] not in _NFT_FAMILIES:
                raise BadValue(f"'{word}' is not an nftables set", f"it takes {self.expects}")
        return found

    def encode(self, name: str, value: Value) -> list[Setting]:
        made = []
        for item in value:
            source, family, table, one = item.split(":")
            made.append((_NFT_SOURCES[source], _NFT_FAMILIES[family], table, one))
        return [Setting(name, "a(iiss)", made)]

    def decode(self, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        sources = {number: word for word, number in _NFT_SOURCES.items()}
        families = {number: word for word, number in _NFT_FAMILIES.items()}
        return self.arranged(
            [f"{sources[source]}:{families[family]}:{table}:{one}" for source, family, table, one in found[name]]
        )


class Delegation(Scalar):
    """``yes``, ``no``, or the controllers that are handed to the unit's processes."""

    expects = "yes, no, or a list of controllers"
    unset = "no"
    _controllers = frozenset(
        "cpu cpuacct cpuset io blkio memory devices pids bpf-firewall bpf-devices bpf-foreign "  # noqa: SIM905
        "bpf-socket-bind bpf-restrict-network-interfaces".split()
    )

    def one(self, text: str) -> str:
        try:
            return "yes" if values.boolean(text) else "no"
        except BadValue:
            pass
        words = values.words(text)
        for word in words:
            if word not in self._controllers:
                raise BadValue(f"'{word}' is not a controller", self.expects)
        return " ".join(sorted(set(words)))

    def encode(self, name: str, value: Value) -> list[Setting]:
        if value in ("yes", "no"):
            return [Setting("Delegate", "b", value == "yes")]
        return [Setting("DelegateControllers", "as", str(value).split())]
