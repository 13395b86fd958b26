"""Roots, binds and `nsprov exec` in a sandbox, on the systemd of this machine."""

from tests.host.root_cases import *  # noqa: F403
