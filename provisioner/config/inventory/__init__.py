"""Ansible's static inventories: hosts, groups and variables, out of YAML and INI files and folders.

Owns reading them with every value located, the graph of groups, host patterns, Ansible's precedence of
variables, and printing as ``ansible-inventory`` does. Nothing here is templated, and nothing but the
inventory's own files is read.
"""

from __future__ import annotations

from provisioner.config.inventory.graph import Group, InventoryHost
from provisioner.config.inventory.inventory import Inventory
from provisioner.config.inventory.load import default_sources, load_inventory

__all__ = ["Group", "Inventory", "InventoryHost", "default_sources", "load_inventory"]
