"""Loads inventories, variables, roles and templates into a desired graph. Pure: never imports ``host``."""
