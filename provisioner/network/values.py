"""Names, addresses and other single values of the network, each with one canonical form."""

from __future__ import annotations

import re
import socket
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from provisioner.errors import did_you_mean
from provisioner.model import bad

__all__ = [
    "MAX_BRIDGE_PORTS",
    "MAX_INTERFACE_NAME",
    "CidrAddress",
    "Destination",
    "Family",
    "InterfaceName",
    "IpAddress",
    "MacAddress",
    "MasterName",
    "Mtu",
    "NetnsName",
    "OwnInterfaceName",
    "Table",
    "canonical_destination",
    "family_of",
    "is_link_local",
    "netns_name",
    "network_of",
    "pack_ip",
    "table_number",
]

#: The most bytes that Linux takes for an interface's name (IFNAMSIZ without its final zero).
MAX_INTERFACE_NAME = 15
#: The most ports that Linux takes for one bridge.
MAX_BRIDGE_PORTS = 1024

Family = Literal["ipv4", "ipv6"]

_WHOLE = re.compile(r"\s*-?[0-9]{1,20}\s*")

# -- names ----------------------------------------------------------------------------------------


def netns_name(value: str) -> str:
    """A namespace's name, which must be one that a file can have."""
    if not value:
        raise bad("a namespace needs a name", "leave 'netns' out to mean the host itself")
    if len(value.encode()) > 255:
        raise bad(f"the namespace name '{value[:20]}…' has {len(value.encode())} bytes; a file name takes at most 255")
    if value in (".", "..") or value.startswith("-") or re.search(r"[/:\s\x00-\x1f]", value):
        raise bad(
            f"'{value}' cannot name a namespace",
            "it becomes a file in /run/netns: no '/', ':', spaces, nor a leading '-'",
        )
    if value == "host":
        raise bad("a namespace cannot be called 'host'", "'host' stands for the host itself in 'expect'")
    return value


def _interface_name(value: str) -> str:
    size = len(value.encode())
    if not value:
        raise bad("an interface needs a name")
    if size > MAX_INTERFACE_NAME:
        raise bad(
            f"the interface name '{value}' has {size} bytes; Linux takes at most {MAX_INTERFACE_NAME}",
            f"shorten it, for example to '{value.encode()[:MAX_INTERFACE_NAME].decode(errors='ignore')}'",
        )
    if value in (".", "..") or re.search(r"[/:%\s\x00-\x1f]", value):
        raise bad(f"'{value}' cannot name an interface", "no '/', ':', '%' nor spaces")
    if value in ("all", "default"):
        raise bad(f"an interface cannot be called '{value}'", "the kernel keeps this name for net.ipv4.conf")
    return value


def _own_interface_name(value: str) -> str:
    if value == "lo":
        raise bad("every namespace has its interface 'lo' already", "choose another name")
    return value


def _no_master(value: str) -> str:
    return value if value == "" else _interface_name(value)


NetnsName = Annotated[str, AfterValidator(netns_name)]
InterfaceName = Annotated[str, AfterValidator(_interface_name)]
#: A name that an interface may be given; ``lo`` is there already.
OwnInterfaceName = Annotated[InterfaceName, AfterValidator(_own_interface_name)]
#: The bridge that an interface is a port of; an empty text is none.
MasterName = Annotated[str, AfterValidator(_no_master)]

# -- addresses ------------------------------------------------------------------------------------


def family_of(text: str) -> Family:
    """The family of an address or network that is canonical already."""
    return "ipv6" if ":" in text else "ipv4"


def pack_ip(text: str) -> bytes:
    """An address as the bytes that the kernel takes. Raises OSError for what is none."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _canonical_ip(text: str) -> str:
    try:
        packed = pack_ip(text)
    except (OSError, ValueError):
        raise bad(f"'{text}' is not an IP address", _address_hint(text)) from None
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)


def _address_hint(text: str) -> str | None:
    if re.fullmatch(r"[0-9.]+", text):
        parts = text.split(".")
        if any(len(part) > 1 and part.startswith("0") for part in parts):
            return "write the numbers without leading zeros"
        if len(parts) != 4 or "" in parts:
            return "an IPv4 address has four numbers, as in 10.0.0.1"
        return "each number of an IPv4 address is at most 255"
    if "/" in text:
        return "an address without a prefix length is wanted here"
    return None


def _split_prefix(text: str) -> tuple[str, int, int]:
    """The address, the prefix length, and the family's greatest; a bare address gets the greatest."""
    address, slash, length = text.partition("/")
    address = _canonical_ip(address.strip())
    width = 128 if ":" in address else 32
    if not slash:
        return address, width, width
    if not length.isdigit() or int(length) > width:
        raise bad(
            f"'/{length}' is not a prefix length of an {'IPv6' if width == 128 else 'IPv4'} address",
            f"a number from 0 to {width}" if "." not in length else f"write /{_mask_length(length)} for the netmask",
        )
    return address, int(length), width


def _mask_length(mask: str) -> int:
    try:
        return bin(int.from_bytes(pack_ip(mask))).count("1")
    except OSError:
        return 24


def _ip_address(value: str) -> str:
    return _canonical_ip(value.strip())


def _cidr_address(value: str) -> str:
    if "/" not in value:
        address = _canonical_ip(value.strip())
        raise bad(
            f"the address '{value}' has no prefix length",
            f"write {address}/{64 if ':' in address else 24}, or whatever the network's length is",
        )
    address, length, width = _split_prefix(value)
    number = int.from_bytes(pack_ip(address))
    if number == 0:
        raise bad(f"'{value}' is the unspecified address", "an interface needs an address of its own")
    if width == 32 and length < 31 and number & ~_mask(length, 32) == 0:
        raise bad(
            f"'{value}' is the address of the network itself", "give the interface one of the network's addresses"
        )
    if width == 32 and length < 31 and number | _mask(length, 32) == 0xFFFFFFFF:
        raise bad(f"'{value}' is the network's broadcast address", "give the interface one of the network's addresses")
    if address.startswith("ff") if width == 128 else number >> 28 == 0xE:
        raise bad(f"'{value}' is a multicast address", "an interface needs an address of its own")
    return f"{address}/{length}"


def _mask(length: int, width: int) -> int:
    return ((1 << width) - 1) ^ ((1 << (width - length)) - 1)


def network_of(text: str) -> tuple[Family, int, int]:
    """The family, the first and the last address (as numbers) of a network or of an address' network."""
    address, slash, length = text.partition("/")
    width = 128 if ":" in address else 32
    mask = _mask(int(length) if slash else width, width)
    first = int.from_bytes(pack_ip(address)) & mask
    return ("ipv6" if width == 128 else "ipv4"), first, first | (mask ^ ((1 << width) - 1))


def _destination(value: str) -> str:
    if value.strip() == "default":
        return "default"
    address, length, width = _split_prefix(value)
    number = int.from_bytes(pack_ip(address))
    masked = number & _mask(length, width)
    if masked != number:
        right = socket.inet_ntop(socket.AF_INET6 if width == 128 else socket.AF_INET, masked.to_bytes(width // 8))
        raise bad(f"'{value}' has bits set beyond its prefix length", f"did you mean {right}/{length}?")
    return address if length == width else f"{address}/{length}"


def canonical_destination(text: str) -> str:
    """A route's destination in its canonical form; the defaults of both families are ``default``."""
    try:
        found = str(_destination(text))
    except ValueError:
        return text  # the field's own validation says what is wrong with it
    return "default" if found in ("0.0.0.0/0", "::/0") else found


def _mac_address(value: str) -> str:
    text = value.strip().lower().replace("-", ":")
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        hint = "six pairs of hexadecimal digits, as in 02:00:00:00:00:01"
        # 52:54:00:12:34:56 without quotes is a number in base 60.
        raise bad(f"'{value}' is not a MAC address", f"{hint}; in quotes" if text.isdigit() else hint)
    if int(text[:2], 16) & 1:
        raise bad(f"the MAC address '{value}' is a multicast address", "the first pair of digits must be even")
    if text == "00:00:00:00:00:00":
        raise bad("the MAC address of all zeros cannot be set", "for example 02:00:00:00:00:01")
    return text


def _mtu(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool):
        raise bad("the MTU is a number", "as in 1500")
    if isinstance(value, int) and not 68 <= value <= 65535:
        raise bad(f"the MTU {value} is out of range", "from 68 (1280 where IPv6 is used) to 65535")
    return value


IpAddress = Annotated[str, AfterValidator(_ip_address)]
CidrAddress = Annotated[str, AfterValidator(_cidr_address)]
Destination = Annotated[str, AfterValidator(_destination)]
MacAddress = Annotated[str, AfterValidator(_mac_address)]
Mtu = Annotated[int, BeforeValidator(_mtu)]

# -- routing tables ---------------------------------------------------------------------------------

_TABLES = {"local": 255, "main": 254, "default": 253}


def _table(value: Any) -> Any:
    """A routing table's canonical form: None is main, the kernel's other names stay names, the rest are numbers."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool):
        raise bad("a routing table is a number or a name", "a number, or main, local or default")
    if value in ("main", 254):
        return None
    if isinstance(value, int):
        if not 1 <= value <= 0xFFFFFFFF:
            raise bad(f"the routing table {value} is out of range", "from 1 to 4294967295")
        return {255: "local", 253: "default"}.get(value, value)
    if isinstance(value, str) and value not in _TABLES:
        hint = did_you_mean(value, _TABLES)
        raise bad(f"'{value}' is not a routing table", f"a number, or main, local or default; {hint}" if hint else None)
    return value


#: None is the main table.
Table = Annotated[int | Literal["local", "default"] | None, BeforeValidator(_table)]


def table_number(table: int | str | None) -> int:
    """The kernel's number of a canonical table."""
    if table is None:
        return 254
    return table if isinstance(table, int) else _TABLES[table]


def is_link_local(host: str) -> bool:
    """Whether an address is one of IPv6's link-local ones, which mean something on their link alone."""
    return host.startswith(("fe8", "fe9", "fea", "feb")) and ":" in host
