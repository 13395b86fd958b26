"""Compares the desired graph with the host, plans the steps, and carries a plan out.

All of it but ``apply`` is pure: values in, values out.
"""
