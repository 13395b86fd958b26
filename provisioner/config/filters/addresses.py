"""Filters and tests on addresses, under the names that ``ansible.utils`` gives them; netaddr does the arithmetic.

As there, an input that is no address gives ``false``, and a list keeps those of its items that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from provisioner.config.bounds import bounded
from provisioner.config.values import FilterError
from provisioner.config.values import needed as _known

if TYPE_CHECKING:
    from netaddr import IPAddress, IPNetwork

__all__ = ["FILTERS", "TESTS"]


class _Read(NamedTuple):
    """An address or network as it was read: ``value`` as it is written, and whether it had a prefix."""

    net: IPNetwork
    value: str
    prefixed: bool


@lru_cache(maxsize=65536)
def _read(value: str, version: int) -> _Read | None:
    """The address or network that a text names; a number is an address, ``NUMBER/PREFIX`` a network."""
    import netaddr

    address, slash, prefix = value.partition("/")
    if address.isdigit():
        number = int(address)
        family = version or (4 if number < 2**32 else 6)
        width = 32 if family == 4 else 128
        if number >= 2**width or (slash and not (prefix.isdigit() and int(prefix) <= width)):
            return None
        net = netaddr.IPNetwork((number, int(prefix) if slash else width), version=family)
        return _Read(net, str(net), bool(slash))
    try:
        net = netaddr.IPNetwork(value)
    except (netaddr.AddrFormatError, ValueError):
        return None
    return _Read(net, value, value.count("/") == 1)


def _network_only(read: _Read) -> IPNetwork:
    if not read.prefixed:
        raise FilterError(f"'{read.value}' is an address, not a network", "write it with its prefix: 10.0.0.1/24")
    return read.net


def _usable(net: IPNetwork) -> tuple[int, int]:
    """The first and last address that a host may have; with two addresses, both."""
    return (net.first, net.last) if net.size <= 2 else (net.first + 1, net.last - 1)


def _ip(value: int, net: IPNetwork) -> str:
    import netaddr

    return str(netaddr.IPAddress(value, net.version))


def _is_host(net: IPNetwork) -> bool:
    """Whether it is the address of a host in its network, not the network's own."""
    return net.size == 1 or net.ip != net.network or not net.broadcast


def _with_prefix(net: IPNetwork) -> str:
    return f"{net.ip}/{net.prefixlen}"


def _address(read: _Read) -> Any:
    net = read.net
    return str(net.ip) if _is_host(net) or net.version == 6 else None


def _gateway(read: _Read) -> Any:
    net = read.net
    return False if net.size > 2 and net.ip in (net.network, net.broadcast) else _with_prefix(net)


def _host(read: _Read) -> Any:
    net = read.net
    return (str(net) if net.size == 1 else _with_prefix(net)) if _is_host(net) else None


def _next_usable(read: _Read, by: int = 1) -> Any:
    net = _network_only(read)
    low, high = _usable(net)
    at = int(net.ip) + by
    return _ip(at, net) if net.size > 1 and low <= at <= high else None


def _first_usable(read: _Read) -> Any:
    net = _network_only(read)
    return _ip(_usable(net)[0], net) if net.size > 1 else None


def _last_usable(read: _Read) -> Any:
    net = _network_only(read)
    return _ip(_usable(net)[1], net) if net.size > 1 else None


def _range_usable(read: _Read) -> Any:
    net = _network_only(read)
    low, high = _usable(net)
    return f"{_ip(low, net)}-{_ip(high, net)}" if net.size > 1 else None


def _peer(read: _Read) -> Any:
    net = _network_only(read)
    if net.size == 2:
        return _ip(int(net.ip) ^ 1, net)
    if net.size == 4:
        if int(net.ip) % 4 in (0, 3):
            what = "network" if int(net.ip) % 4 == 0 else "broadcast"
            raise FilterError(f"'{read.value}' is the {what} address of a /30, and has no peer")
        return _ip(int(net.ip) ^ 3, net)
    raise FilterError(f"'{read.value}' is not a point-to-point network", "these have the prefix /30 or /31")


def _int(read: _Read) -> Any:
    return f"{int(read.net.ip)}/{read.net.prefixlen}" if read.prefixed else int(read.net.ip)


def _to_v4(read: _Read) -> Any:
    import netaddr

    if read.net.version == 4:
        return read.value
    try:
        return str(read.net.ipv4())
    except (netaddr.AddrConversionError, ValueError):
        return False


def _within(read: _Read, v4: str | None, v6: str) -> Any:
    import netaddr

    wide = v4 if read.net.version == 4 else v6
    return read.value if wide and read.net.ip in netaddr.IPNetwork(wide) else None


def _6to4(read: _Read) -> Any:
    net = read.net
    if net.version == 6:
        return _within(read, None, "2002::/16") or False
    if net.size > 1 and net.ip == net.network:
        return False
    return "2002:{:02x}{:02x}:{:02x}{:02x}::1/48".format(*net.ip.words)


def _is_global(address: IPAddress) -> bool:
    return bool(address.is_global())


def _public(read: _Read) -> Any:
    ip = read.net.ip
    shaped = ip.is_netmask() or ip.is_hostmask()
    return read.value if ip.is_unicast() and _is_global(ip) and not ip.is_loopback() and not shaped else None


def _wrap(read: _Read) -> Any:
    net = read.net
    if net.version == 4:
        return read.value
    return f"[{net.ip}]/{net.prefixlen}" if read.prefixed else f"[{net.ip}]"


def _type(read: _Read) -> str:
    return "network" if read.net.size > 1 and read.net.ip == read.net.network else "address"


def _where(holds: Callable[[IPNetwork], Any]) -> Callable[[_Read], Any]:
    return lambda read: read.value if holds(read.net) else None


_QUERIES: dict[str, Callable[[_Read], Any]] = {
    "": lambda read: str(read.net) if read.prefixed else str(read.net.ip),
    "6to4": _6to4,
    "address": _address,
    "address/prefix": _gateway,
    "bool": lambda read: True,
    "broadcast": lambda read: str(read.net.broadcast) if read.net.size > 2 else None,
    "cidr": lambda read: str(read.net),
    "first_usable": _first_usable,
    "gateway": _gateway,
    "gw": _gateway,
    "host": _host,
    "host/prefix": _gateway,
    "hostmask": lambda read: str(read.net.hostmask),
    "hostnet": _gateway,
    "int": _int,
    "ip": _address,
    "ip/prefix": lambda read: (
        _with_prefix(read.net)
        if read.net.size == 2 or (read.net.size > 1 and read.net.ip != read.net.network)
        else None
    ),
    "ip_netmask": lambda read: (
        f"{read.net.ip} {read.net.netmask}"
        if read.net.size == 2 or (read.net.size > 1 and read.net.ip != read.net.network)
        else None
    ),
    "ipv4": _to_v4,
    "ipv6": lambda read: str(read.net.ipv6()) if read.net.version == 4 else read.value,
    "last_usable": _last_usable,
    "link-local": lambda read: _within(read, "169.254.0.0/16", "fe80::/10"),
    "lo": _where(lambda net: net.ip.is_loopback()),
    "loopback": _where(lambda net: net.ip.is_loopback()),
    "multicast": _where(lambda net: net.ip.is_multicast()),
    "net": lambda read: (
        f"{read.net.network}/{read.net.prefixlen}" if read.net.size > 1 and read.net.ip == read.net.network else None
    ),
    "netmask": lambda read: str(read.net.netmask),
    "network": lambda read: str(read.net.network),
    "network/prefix": lambda read: str(read.net.cidr),
    "network_id": lambda read: str(read.net.network),
    "network_netmask": lambda read: f"{read.net.network} {read.net.netmask}",
    "network_wildcard": lambda read: f"{read.net.network} {read.net.hostmask}",
    "next_usable": _next_usable,
    "peer": _peer,
    "prefix": lambda read: read.net.prefixlen,
    "previous_usable": lambda read: _next_usable(read, -1),
    "private": _where(lambda net: not _is_global(net.ip)),
    "public": _public,
    "range_usable": _range_usable,
    "revdns": lambda read: read.net.ip.reverse_dns,
    "router": _gateway,
    "size": lambda read: read.net.size,
    "size_usable": lambda read: {1: 0, 2: 2}.get(read.net.size, read.net.size - 2),
    "subnet": lambda read: str(read.net.cidr),
    "type": _type,
    "unicast": _where(lambda net: net.ip.is_unicast()),
    "v4": _to_v4,
    "v6": lambda read: str(read.net.ipv6()) if read.net.version == 4 else read.value,
    "version": lambda read: read.net.version,
    "wildcard": lambda read: str(read.net.hostmask),
    "wrap": _wrap,
}


def _parse(value: Any, version: int = 0) -> _Read | None:
    _known(value)
    if value is None or isinstance(value, bool) or value == "":
        return None
    return _read(str(value), version)


def _net(value: Any, name: str) -> IPNetwork:
    read = _parse(value)
    if read is None:
        raise FilterError(f"{name}: '{value}' is not an address or a network")
    return read.net


def ipaddr(value: Any, query: Any = "", version: int = 0, alias: str = "ipaddr") -> Any:
    """The address or network, if it is one and answers the query; ``false`` otherwise."""
    _known(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (str, dict))):
        found = [ipaddr(one, query, version, alias) for one in value]
        return [one for one in found if one]
    read = _parse(value, version)
    if read is None or (version and read.net.version != version):
        return False
    asked = _QUERIES.get(str(query)) if not isinstance(query, bool) else None
    if asked is not None:
        return asked(read)
    return _by_number_or_network(read, query, alias)


def _by_number_or_network(read: _Read, query: Any, alias: str) -> Any:
    net = read.net
    try:
        index = int(str(query))
    except ValueError:
        wide = _parse(query)
        if wide is None:
            from provisioner.errors import did_you_mean

            raise FilterError(f"{alias} has no query '{query}'", did_you_mean(query, _QUERIES)) from None
        return read.value if net.version == wide.net.version and net in wide.net.cidr else False
    if net.size == 1:
        return str(net) if read.prefixed else str(net.ip)
    if not -net.size <= index < net.size:
        return False
    return f"{net[index]}/{net.prefixlen}"


def ipv4(value: Any, query: Any = "") -> Any:
    """As ipaddr, for IPv4 only."""
    return ipaddr(value, query, 4, "ipv4")


def ipv6(value: Any, query: Any = "") -> Any:
    """As ipaddr, for IPv6 only."""
    return ipaddr(value, query, 6, "ipv6")


def ipwrap(value: Any, query: Any = "") -> Any:
    """IPv6 addresses in brackets; everything else as it is."""
    if isinstance(_known(value), (list, tuple)):
        return [ipwrap(one, query) for one in value]
    fits = ipaddr(value, query, 0, "ipwrap")
    return ipaddr(fits, "wrap") if fits else value


def ipsubnet(value: Any, query: Any = "", index: Any = None) -> Any:
    """The network of an address, how many subnets of a size it has, one of these, or an address's rank in another."""
    read = _parse(value)
    if read is None:
        return False
    is_network = _type(read) == "network"
    net = read.net.cidr if is_network or read.net.size == 1 else _single(read.net)
    bits = 32 if net.version == 4 else 128
    if query in ("", None):
        return str(net)
    if not str(query).isdigit():
        return _rank(net, query, bits)
    size = int(str(query))
    if size > bits:
        return False
    if not is_network:
        wider = net.supernet(size) if size < net.prefixlen else [net]
        at = 0 if index is None else int(index)
        return str(wider[at]) if -len(wider) <= at < len(wider) else False
    if size < net.prefixlen:
        raise FilterError(f"ipsubnet: a /{size} does not fit into {net}")
    count = 2 ** (size - net.prefixlen)
    if index is None:
        return str(count)
    at = int(index) + (count if int(index) < 0 else 0)
    if not 0 <= at < count:
        return False
    return f"{_ip(int(net.network) + (at << bits - size), net)}/{size}"


def _single(net: IPNetwork) -> IPNetwork:
    """An address with a prefix, as the network that it names."""
    import netaddr

    return netaddr.IPNetwork(str(net)).cidr


def _rank(net: IPNetwork, within: Any, bits: int) -> str:
    wide = _parse(within)
    if wide is None:
        raise FilterError(f"ipsubnet: '{within}' is not an address or a network")
    if wide.net.version != net.version or net not in wide.net.cidr:
        raise FilterError(f"ipsubnet: {net} is not in {wide.net.cidr}")
    return str(((int(net.network) - wide.net.first) >> (bits - net.prefixlen)) + 1)


def ipmath(value: Any, amount: Any) -> str:
    """The address that is this many further on."""
    if isinstance(amount, bool) or not isinstance(_known(amount), int):
        raise FilterError(f"ipmath: '{amount}' is not a whole number")
    net = _net(value, "ipmath")
    at = int(net.ip) + amount
    if not 0 <= at < (2**32 if net.version == 4 else 2**128):
        raise FilterError(f"ipmath: {net.ip} and {amount} is past the last address")
    return _ip(at, net)


def nthhost(value: Any, query: Any = "") -> Any:
    """The address with this number in a network."""
    read = _parse(value)
    try:
        index = int(query)
    except (TypeError, ValueError):
        return False
    if read is None:
        return False
    net = read.net.cidr
    return str(net[index]) if -net.size <= index < net.size else False


def next_nth_usable(value: Any, offset: int) -> Any:
    """The usable address that is this many after an address in its network."""
    return _nth_usable(value, offset, 1, "next_nth_usable")


def previous_nth_usable(value: Any, offset: int) -> Any:
    """The usable address that is this many before an address in its network."""
    return _nth_usable(value, offset, -1, "previous_nth_usable")


def _nth_usable(value: Any, offset: Any, sign: int, name: str) -> Any:
    if isinstance(offset, bool) or not isinstance(_known(offset), int):
        raise FilterError(f"{name}: '{offset}' is not a whole number")
    read = _parse(value)
    if read is None:
        return False
    low, high = _usable(read.net)
    at = int(read.net.ip) + sign * offset
    return _ip(at, read.net) if read.net.size > 1 and low <= at <= high else None


def network_in_network(value: Any, test: Any) -> bool:
    """Whether an address or network lies within a network, its own and broadcast address included."""
    wide, narrow = _net(value, "network_in_network"), _net(test, "network_in_network")
    return bool(wide.version == narrow.version and wide.first <= narrow.first and narrow.last <= wide.last)


def network_in_usable(value: Any, test: Any) -> bool:
    """Whether an address or network lies within the usable addresses of a network."""
    wide, narrow = _net(value, "network_in_usable"), _net(test, "network_in_usable")
    low, high = _usable(wide)
    return bool(wide.version == narrow.version and low <= narrow.first and narrow.last <= high)


def reduce_on_network(value: Any, network: Any) -> list[Any]:
    """Those addresses of a list that lie within a network."""
    return [one for one in _known(value) if network_in_network(network, one)]


def slaac(value: Any, query: Any = "") -> Any:
    """The address that a hardware address gives itself in an IPv6 network."""
    import netaddr

    read = _parse(value)
    if read is None or read.net.version != 6 or not query:
        return False
    try:
        return str(netaddr.EUI(str(query)).ipv6(read.net.network))
    except (netaddr.AddrFormatError, ValueError):
        return False


def _dialect(name: str) -> Any:
    import netaddr

    class Linux(netaddr.mac_unix):  # type: ignore[misc]
        """Two digits for each part: ``1a:2b:03:…``."""

        word_fmt = "%.2x"

    dialects = {
        "bare": netaddr.mac_bare,
        "cisco": netaddr.mac_cisco,
        "eui48": netaddr.mac_eui48,
        "linux": Linux,
        "pgsql": netaddr.mac_pgsql,
        "postgresql": netaddr.mac_pgsql,
        "psql": netaddr.mac_pgsql,
        "unix": netaddr.mac_unix,
        "win": netaddr.mac_eui48,
    }
    if name not in dialects:
        from provisioner.errors import did_you_mean

        raise FilterError(f"hwaddr has no query '{name}'", did_you_mean(name, [*dialects, "bool", "int"]))
    return dialects[name]


def hwaddr(value: Any, query: str = "", alias: str = "hwaddr") -> Any:
    """The hardware address, if it is one, in the way of writing that is asked for."""
    import netaddr

    try:
        found = netaddr.EUI(str(_known(value)))
    except (netaddr.AddrFormatError, ValueError):
        if query and query != "bool":
            raise FilterError(f"{alias}: '{value}' is not a hardware address") from None
        return None
    if query == "":
        return value
    if query == "bool":
        return True
    if query == "int":
        return int(found)
    found.dialect = _dialect(query)
    return str(found)


def macaddr(value: Any, query: str = "") -> Any:
    """As hwaddr."""
    return hwaddr(value, query, "macaddr")


def cidr_merge(value: Any, action: str = "merge") -> Any:
    """The fewest networks that hold the same addresses, or (``span``) the one that holds all."""
    import netaddr

    if isinstance(_known(value), (str, int)) or not isinstance(value, Iterable):
        raise FilterError(f"cidr_merge takes a list of networks, not '{value}'")
    nets = [str(_net(one, "cidr_merge")) for one in value]
    if action == "merge":
        return [str(one) for one in netaddr.cidr_merge(nets)]
    if action == "span":
        if len(nets) < 2:
            return nets[0] if nets else None
        return str(netaddr.spanning_cidr(nets))
    raise FilterError(f"cidr_merge has no action '{action}'", "known here: merge, span")


def ip4_hex(value: Any, delimiter: str = "") -> str:
    """An IPv4 address in hexadecimal."""
    net = _net(value, "ip4_hex")
    if net.version != 4:
        raise FilterError(f"ip4_hex: '{value}' is not an IPv4 address")
    return delimiter.join(f"{word:02x}" for word in net.ip.words)


def ipcut(value: Any, amount: int) -> str:
    """The first bits of an address, or (negative) the last ones."""
    net = _net(value, "ipcut")
    width, step, base = (32, 8, ".") if net.version == 4 else (128, 16, ":")
    bits = f"{int(net.ip):0{width}b}"
    cut = bits[amount:] if amount < 0 else bits[:amount]
    words = [int(cut[at : at + step], 2) for at in range(0, len(cut), step)]
    return base.join(str(word) if net.version == 4 else f"{word:x}" for word in words)


def ipv6form(value: Any, form: str) -> str:
    """An IPv6 address written whole (``expand``), short (``compress``), or as certificates do (``x509``)."""
    import netaddr

    address = _net(value, "ipv6form").ip
    dialects = {"expand": netaddr.ipv6_verbose, "compress": netaddr.ipv6_compact, "x509": netaddr.ipv6_full}
    if form == "x509":
        return ":".join(f"{word:x}" for word in address.words)
    if form not in dialects:
        raise FilterError(f"ipv6form has no form '{form}'", "known here: expand, compress, x509")
    return str(address.format(dialects[form]))


def usable_range(value: Any) -> dict[str, Any]:
    """Every address of a network, and how many there are."""
    net = _net(value, "usable_range").cidr
    bounded(net.size, items=True)
    return {"usable_ips": [str(one) for one in net], "number_of_ips": net.size}


FILTERS: dict[str, Callable[..., Any]] = {
    "cidr_merge": cidr_merge,
    "hwaddr": hwaddr,
    "ip4_hex": ip4_hex,
    "ipaddr": ipaddr,
    "ipcut": ipcut,
    "ipmath": ipmath,
    "ipsubnet": ipsubnet,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "ipv6form": ipv6form,
    "ipwrap": ipwrap,
    "macaddr": macaddr,
    "network_in_network": network_in_network,
    "network_in_usable": network_in_usable,
    "next_nth_usable": next_nth_usable,
    "nthhost": nthhost,
    "previous_nth_usable": previous_nth_usable,
    "reduce_on_network": reduce_on_network,
    "slaac": slaac,
    "usable_range": usable_range,
}


def _in_network(value: Any, network: Any) -> bool:
    return network_in_network(network, value)


def _ip_test(version: int = 0, *, address: bool = False) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        read = _parse(value, version)
        return read is not None and version in (0, read.net.version) and not (address and read.prefixed)

    return holds


def _of_address(holds: Callable[[IPAddress], Any]) -> Callable[[Any], bool]:
    def apply(value: Any) -> bool:
        read = _parse(value)
        return read is not None and bool(holds(read.net.ip))

    return apply


TESTS: dict[str, Callable[..., Any]] = {
    "in_any_network": lambda value, networks: any(_in_network(value, one) for one in networks),
    "in_network": _in_network,
    "in_one_network": lambda value, networks: sum(_in_network(value, one) for one in networks) == 1,
    "ip": _ip_test(),
    "ip_address": _ip_test(address=True),
    "ipv4": _ip_test(4),
    "ipv4_address": _ip_test(4, address=True),
    "ipv4_hostmask": _of_address(lambda ip: ip.version == 4 and ip.is_hostmask()),
    "ipv4_netmask": _of_address(lambda ip: ip.version == 4 and ip.is_netmask()),
    "ipv6": _ip_test(6),
    "ipv6_address": _ip_test(6, address=True),
    "ipv6_ipv4_mapped": _of_address(lambda ip: ip.is_ipv4_mapped()),
    "loopback": _of_address(lambda ip: ip.is_loopback()),
    "mac": lambda value: bool(hwaddr(value, "bool")),
    "multicast": _of_address(lambda ip: ip.is_multicast()),
    "private": _of_address(lambda ip: not _is_global(ip)),
    "public": _of_address(_is_global),
    "reserved": _of_address(lambda ip: ip.is_reserved()),
    "subnet_of": _in_network,
    "supernet_of": network_in_network,
    "unspecified": _of_address(lambda ip: int(ip) == 0),
}
