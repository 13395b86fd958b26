"""Makes ssh hosts of sandboxes: a real sshd with host keys of its own, users, and a sandbox that reaches them."""

from __future__ import annotations

import uuid
from typing import Any

CONFIG = "/etc/ssh/sshd_test_config"


def start_sshd(box: Any, *, port: int = 22, options: str = "") -> str:
    """Start sshd in a sandbox; the public half of its host key, as known_hosts has it after the name."""
    box.run(
        "mkdir -p /run/sshd /etc/ssh && rm -f /etc/ssh/ssh_test_key*"
        " && ssh-keygen -q -t ed25519 -N '' -C test -f /etc/ssh/ssh_test_key"
    )
    box.write(
        CONFIG,
        f"Port {port}\nHostKey /etc/ssh/ssh_test_key\nPermitRootLogin yes\nPasswordAuthentication yes\nUsePAM no\n"
        f"PidFile none\nMaxStartups 100\n{options}",
    )
    box.run("systemctl stop 'test-sshd-*'")
    # A name of its own each time: sessions outlive the service that they came by, and keep its name in use.
    unit = f"test-sshd-{uuid.uuid4().hex[:8]}"
    box.run(f"systemd-run --quiet --unit={unit} -p KillMode=process /usr/sbin/sshd -D -f {CONFIG}")
    box.run(f"for i in $(seq 100); do ss -ltn | grep -q ':{port} ' && exit 0; sleep 0.05; done; exit 1")
    return str(box.run("cat /etc/ssh/ssh_test_key.pub").stdout).strip()


def add_user(box: Any, name: str, *, password: str = "", sudo: str = "") -> None:
    """A user with a home; ``sudo`` is ``ALL`` or ``NOPASSWD:ALL``."""
    box.run(f"id {name} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {name}")
    # One without a password is locked, and has no way in by a key either.
    box.run(f"usermod -p '*' {name}")
    if password:
        box.run("chpasswd", input=f"{name}:{password}\n")
    if sudo:
        box.write(f"/etc/sudoers.d/{name}", f"{name} ALL=(root) {sudo}\n", 0o440)


def authorize(box: Any, user: str, public_key: str) -> None:
    """Let whoever has the private half of this key in as the user."""
    home = "/root" if user == "root" else f"/home/{user}"
    box.run(
        f"mkdir -p -m 700 {home}/.ssh && cat >>{home}/.ssh/authorized_keys && chmod 600 {home}/.ssh/authorized_keys"
        f" && chown -R {user} {home}/.ssh",
        input=public_key.strip() + "\n",
    )


def address_of(box: Any) -> str:
    """The sandbox's own address on the wire between the sandboxes."""
    return str(box.run("ip -4 -o addr show uplink0 | grep -o 'inet [0-9.]*' | cut -d' ' -f2").stdout).strip()
