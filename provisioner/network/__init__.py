"""The values that network kinds are written in: names, addresses, routes, and interfaces. Pure.

Owns their canonical forms, so that what is declared and what the kernel reports compare with ``==``, and
the claims and audits that all kinds of interfaces share. Imports nothing of ``host``.
"""

from __future__ import annotations

from provisioner.network.interfaces import (
    Interface,
    Port,
    any_interface,
    interface_address,
    interface_changes,
    interface_checks,
    interface_claims,
    interface_summary,
    merged_interface,
    place_name,
    reset_fields,
)
from provisioner.network.routes import InterfaceRoute, RouteFields, claimed_elsewhere, route_check, route_claim
from provisioner.network.values import (
    MAX_BRIDGE_PORTS,
    MAX_INTERFACE_NAME,
    CidrAddress,
    Destination,
    Family,
    InterfaceName,
    IpAddress,
    MacAddress,
    Mtu,
    NetnsName,
    Table,
    canonical_destination,
    family_of,
    network_of,
    pack_ip,
    table_number,
)
from provisioner.network.wiring import Placed, Wiring, audit_interface, interfaces_of

__all__ = [
    "MAX_BRIDGE_PORTS",
    "MAX_INTERFACE_NAME",
    "CidrAddress",
    "Destination",
    "Family",
    "Interface",
    "InterfaceName",
    "InterfaceRoute",
    "IpAddress",
    "MacAddress",
    "Mtu",
    "NetnsName",
    "Placed",
    "Port",
    "RouteFields",
    "Table",
    "Wiring",
    "any_interface",
    "audit_interface",
    "canonical_destination",
    "claimed_elsewhere",
    "family_of",
    "interface_address",
    "interface_changes",
    "interface_checks",
    "interface_claims",
    "interface_summary",
    "interfaces_of",
    "merged_interface",
    "network_of",
    "pack_ip",
    "place_name",
    "reset_fields",
    "route_check",
    "route_claim",
    "table_number",
]
