"""nsprov: isolated workloads on Linux hosts, from an inventory and a set of roles."""

__version__ = "0.1.0"
