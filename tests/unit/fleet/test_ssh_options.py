"""What Ansible's variables say of the way to a host, and the command line of ssh that they come to."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from provisioner.config.source import load_yaml_text
from provisioner.errors import ConfigError
from provisioner.fleet.ssh import _why
from provisioner.fleet.ssh_options import SshOptions, ssh_options


def options(text: str) -> SshOptions:
    return ssh_options("web1", load_yaml_text(text, "hosts.yml") if text else load_yaml_text("{}", "hosts.yml"))


def test_a_host_without_variables_is_left_to_sshs_own_configuration() -> None:
    plain = options("")
    assert plain == SshOptions("web1")
    words = plain.argv(None)
    assert words[-2:] == ["--", "web1"]
    assert not {"-p", "-l", "-i"} & set(words)
    assert "StrictHostKeyChecking=no" not in words


def test_ansibles_variables_are_sshs_options() -> None:
    words = options(
        "{ansible_host: 192.0.2.7, ansible_port: 2222, ansible_user: anna, ansible_ssh_private_key_file: /k,"
        " ansible_timeout: 3}"
    ).argv("/run/cp/%C")
    line = shlex.join(words)
    assert "-p 2222 -l anna -i /k" in line
    assert "ConnectTimeout=3" in line
    assert "ControlPath=/run/cp/%C" in line
    assert words[-1] == "192.0.2.7"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ansible_ssh_host", "ansible_host"),
        ("ansible_ssh_user", "ansible_user"),
        ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    ],
)
def test_the_more_particular_of_two_names_wins(name: str, other: str) -> None:
    chosen = options(f"{{{other}: general, {name}: particular}}")
    assert "particular" in (chosen.host, chosen.user, chosen.key)


def test_the_inventorys_own_words_come_before_ours_for_ssh_takes_the_first() -> None:
    words = options("{ansible_ssh_common_args: '-o ConnectTimeout=99 -J jump', ansible_ssh_extra_args: -4}").argv(None)
    assert words.index("ConnectTimeout=99") < words.index("ConnectTimeout=10")
    assert words[words.index("-J") + 1] == "jump"


def test_a_secret_is_not_in_the_command_line_or_in_what_is_printed_of_the_options() -> None:
    given = options("{ansible_password: pw-1, ansible_become: yes, ansible_become_password: pw-2}")
    assert given.become is not None
    assert given.become.password == "pw-2"
    for text in (shlex.join(given.argv("/c")), repr(given), given.testinfra_uri()):
        assert "pw-" not in text


def test_nobody_is_asked_unless_there_is_a_password() -> None:
    assert "BatchMode=yes" in options("").argv(None)
    assert "BatchMode=yes" not in options("ansible_password: x").argv(None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ansible_port: 70000", "hosts.yml:1:15: ansible_port must be a number from 1 to 65535, not '70000'"),
        ("ansible_port: ssh", "ansible_port must be a number"),
        ("ansible_become: perhaps", "ansible_become must be true or false, not 'perhaps'"),
        ("{ansible_become: true, ansible_become_method: doas}", "root cannot be had by 'doas' here"),
        ("{ansible_become: true, ansible_become_user: www}", "nsprov works as root, and not as 'www'"),
        ("ansible_host: -oProxyCommand=evil", "is not a host's name"),
        ('ansible_ssh_common_args: "-o \'open"', "no closing quotation"),
        ("ansible_user: [a]", "ansible_user must be text"),
        ("{ansible_port: x, ansible_timeout: y}", "ansible_timeout must be a number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(text)
    assert says in str(caught.value)


def test_testinfra_reaches_the_same_host_in_the_same_way() -> None:
    uri = urlsplit(options("{ansible_host: 'fd00::7', ansible_user: anna, ansible_become: true}").testinfra_uri())
    asked = parse_qs(uri.query)
    assert uri.hostname == "fd00::7"
    assert asked["sudo"] == ["true"]
    assert "-l anna" in asked["ssh_extra_args"][0]


@pytest.mark.parametrize(
    ("stderr", "code", "says", "kind"),
    [
        ("anna@web1: Permission denied (publickey).", 255, "anna@web1 is not let in", "UnreachableError"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nx",
            255,
            "not the one that is known",
            "UnreachableError",
        ),
        ("Host key verification failed.", 255, "is not known", "UnreachableError"),
        ("ssh: connect to host web1 port 22: No route to host", 255, "there is no route to web1", "UnreachableError"),
        ("ssh: connect to host web1 port 22: Connection refused", 255, "refuses connections", "UnreachableError"),
        ("Timeout, server web1 not responding.", 255, "does not answer", "UnreachableError"),
        ("client_loop: send disconnect: Broken pipe", 255, "the connection to web1 broke", "UnreachableError"),
        ("sudo: a password is required", 1, "sudo on web1 wants a password", "HostError"),
        ("sudo: a terminal is required to read the password", 1, "sudo on web1 wants a password", "HostError"),
        ("anna is not in the sudoers file.", 1, "may not become root", "HostError"),
        ("nsprov-agent needs root", 77, "anna@web1 is not root on web1", "NotPermittedError"),
        ("", 255, "the agent on web1 has ended", "UnreachableError"),
        ("Traceback\nValueError: x", 1, "the agent on web1 has ended: ValueError: x", "UnreachableError"),
    ],
)
def test_what_ssh_and_sudo_say_is_one_clear_line(stderr: str, code: Any, says: str, kind: str) -> None:
    error = _why("web1", SshOptions("web1", user="anna"), stderr, code)
    assert says in str(error)
    assert type(error).__name__ == kind


def test_a_changed_key_at_another_port_is_removed_by_its_full_name() -> None:
    error = _why("web1", SshOptions("web1", port=2222), "REMOTE HOST IDENTIFICATION HAS CHANGED", 255)
    assert "ssh-keygen -R '[web1]:2222'" in str(error)
