"""Isolation in a sandbox, on the systemd of this machine."""

from tests.host.isolation_cases import *  # noqa: F403
