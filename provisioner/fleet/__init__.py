"""Connections to hosts: what observes, carries out and runs commands there."""
