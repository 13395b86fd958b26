"""Chooses and opens the connection to a host, by Ansible's own variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from provisioner.errors import ConfigError, NotPermittedError, Problem, did_you_mean

if TYPE_CHECKING:
    from provisioner.config.source import Map
    from provisioner.fleet.target import Target
    from provisioner.host.sandbox import Sandbox

__all__ = ["connect", "connection_of", "sandbox_target"]

_LOCAL_ADDRESSES = ("localhost", "127.0.0.1", "::1")
_LOCAL = ("local", "ansible.builtin.local")
_SANDBOX = ("sandbox", "nsprov.sandbox")
_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")


def connection_of(name: str, variables: Map) -> str:
    """``local``, ``sandbox`` or ``ssh``: ``ansible_connection``, and where there is none, what the name says.

    Raises ConfigError for one that nsprov does not have.
    """
    given = variables.get("ansible_connection")
    if given is None:
        return "local" if variables.get("ansible_host", name) in _LOCAL_ADDRESSES else "ssh"
    for connection, names in (("local", _LOCAL), ("sandbox", _SANDBOX), ("ssh", _SSH)):
        if given in names:
            return connection
    raise ConfigError(
        Problem(
            f"the connection '{given}' is not known here",
            variables.at("ansible_connection"),
            did_you_mean(given, ("local", "sandbox", "ssh")),
        )
    )


def connect(name: str, variables: Map) -> Target:
    """Open the connection to one host of the inventory, whose variables have their templates evaluated.

    Raises:
        ConfigError: the variables do not say how.
        NotPermittedError: root is missing, here or there.
        UnreachableError: there is no way to the host.
        HostError: the host, or its sandbox, is not there, or does not take the agent.
    """
    connection = connection_of(name, variables)
    if connection == "ssh":
        from provisioner.fleet.ssh import ssh_target
        from provisioner.fleet.ssh_options import ssh_options

        return ssh_target(name, ssh_options(name, variables))
    need_root(name)
    if connection == "sandbox":
        from provisioner.host.sandbox import Sandbox

        return sandbox_target(name, Sandbox.attach(name))
    from provisioner.fleet.target import LocalTarget
    from provisioner.host import Host

    return LocalTarget(Host(), name)


def need_root(name: str = "this host") -> None:
    """Raise NotPermittedError, with what to do, unless this process is root."""
    if os.geteuid() != 0:
        raise NotPermittedError(
            f"root is needed to look at and to change {name}",
            hint="run it with sudo; 'nsprov validate' checks the configuration without root and without a host",
        )


def sandbox_target(name: str, sandbox: Sandbox) -> Target:
    """A connection into a running sandbox, by a process forked into it."""
    from provisioner import directives
    from provisioner.fleet.agent import AgentTarget, serve_socket
    from provisioner.host import nft

    # The sandbox's root may have neither the package's files nor this libc's libraries.
    directives.known("service")
    nft.preload()
    agent = sandbox.fork(serve_socket, preload=_agent_modules())
    return AgentTarget(name, agent, lasting_uri=f"nsprov-sandbox://{sandbox.name}")


def _agent_modules() -> list[str]:
    """What the agent needs: imported before the fork, for the sandbox's root may have no Python."""
    import pkgutil

    from provisioner import directives, host, resources

    packages = (host, resources, directives)
    ours = [f"{package.__name__}.{one.name}" for package in packages for one in pkgutil.iter_modules(package.__path__)]
    return [*ours, "provisioner.engine.manifest", "pystemd.dbuslib", "pystemd.dbusexc"]
