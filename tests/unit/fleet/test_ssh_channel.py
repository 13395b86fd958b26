"""What goes over the channel while an agent is started, with a program in ssh's place that says what a host may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.errors import HostError, UnreachableError
from provisioner.fleet.bundle import Bundle
from provisioner.fleet.ssh import SshChannel
from provisioner.fleet.ssh_options import Become, SshOptions

PASSWORD = "open-sudo-1"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SshChannel]:
    """A channel to a host that does this; what it reads after it is ready stands in the file ``read``."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    archive = tmp_path / "archive"
    archive.write_bytes(b"the bundle")

    def make(host: str) -> SshChannel:
        program = tmp_path / "ssh"
        # The prompt is the word after sudo's -p, in the command that is the last word.
        ask = 'ask() { printf %s "${last#*-p }" | cut -d" " -f1 | tr -d "\'" >&2; }'
        program.write_text(f'#!/bin/sh\nfor last; do :; done\n{ask}\ncd "{tmp_path}"\n{host}\n')
        program.chmod(0o755)
        options = SshOptions("web1", executable=str(program), connect_seconds=2, become=Become(password=PASSWORD))
        return SshChannel.open("web1", options, Bundle("0" * 64, "x86_64", archive, 1))

    return make


def test_the_password_is_sent_once_whatever_is_said_on_standard_error_later(
    opened: Callable[[str], SshChannel], tmp_path: Path
) -> None:
    channel = opened(
        'ask; read -r sudo; echo "nsprov-agent missing x86_64"; read -r count; head -c "$count" >archive.there\n'
        'echo a warning >&2; sleep 0.2; echo another >&2; sleep 0.2; echo "nsprov-agent ready"\n'
        'echo "$sudo" >sudo; cat >read'
    )
    channel.socket.sendall(b"a request\n")
    channel.close()
    assert (tmp_path / "sudo").read_text() == f"{PASSWORD}\n"
    assert (tmp_path / "archive.there").read_text() == "the bundle"
    assert (tmp_path / "read").read_text() == "a request\n"


def test_what_a_login_script_prints_before_is_passed_over(opened: Callable[[str], SshChannel]) -> None:
    opened("echo welcome; echo to web1; echo 'nsprov-agent ready'; cat >/dev/null").close()


def test_a_second_question_means_that_the_password_was_wrong(opened: Callable[[str], SshChannel]) -> None:
    with pytest.raises(HostError, match="does not take the password"):
        opened("ask; read -r one; ask; read -r two")


def test_a_host_that_says_nothing_is_given_up(opened: Callable[[str], SshChannel]) -> None:
    with pytest.raises(UnreachableError, match="has not answered for 6 s"):
        opened("sleep 60")
