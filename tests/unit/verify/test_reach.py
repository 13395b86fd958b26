"""The way to a host by ssh, as verification takes it: what is run there, and where its secrets are not."""

from __future__ import annotations

import shlex
import subprocess

from provisioner.verify.reach import SshReach, uri_of

WAY = ("ssh", "-T", "-l", "anna", "--", "192.0.2.11")


def test_a_host_is_named_in_a_uri_of_its_own_and_others_keep_theirs() -> None:
    assert uri_of(SshReach("web1", WAY)) == "nsprov-ssh://web1"
    assert uri_of(SshReach("fd00::7", WAY)) == "nsprov-ssh://fd00%3A%3A7"
    assert uri_of("local://") == "local://"


def test_root_runs_a_line_of_shell_as_it_stands() -> None:
    *way, sent = SshReach("web1", WAY).command("echo 'a b' | wc -c")
    assert tuple(way) == WAY
    assert subprocess.run(["sh", "-c", sent], capture_output=True, text=True, check=True).stdout == "4\n"


def test_a_user_becomes_root_and_is_not_asked_where_there_is_no_password() -> None:
    sent = SshReach("web1", WAY, sudo="sudo").command("id")[-1]
    assert shlex.split(sent)[:6] == ["sudo", "-n", "-H", "-u", "root", "--"]


def test_a_password_is_read_from_the_input_and_what_is_run_reads_none_of_it() -> None:
    sent = SshReach("web1", WAY, sudo="sudo", sudo_password="pw-4711").command("cat")[-1]
    words = shlex.split(sent)
    assert words[:3] == ["sudo", "-k", "-S"]
    shell = words[words.index("--") + 1 :]
    assert subprocess.run(shell, input="pw-4711\n", capture_output=True, text=True, check=True).stdout == ""


def test_its_secrets_are_told_to_pytest_and_printed_nowhere() -> None:
    way = SshReach("web1", WAY, {"NSPROV_SSH_PASSWORD": "pw-1"}, sudo="sudo", sudo_password="pw-2")
    assert "pw-" not in repr(way) + shlex.join(way.command("id")) + way.uri
    assert SshReach.from_json(way.to_json()) == way
