"""What ansible-vault encrypted is opened by the same passwords, from the same places; and nothing else is."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from provisioner.config import vault
from provisioner.config.source import read_text
from provisioner.config.vault import Keyring, VaultError, passwords
from provisioner.secrets import is_secret
from tests.unit.config.projects import Project

VAULTS = Path(__file__).parent / "vaults"


def ansible_encrypts(text: str, password: str = "open sesame", label: str | None = None) -> str:
    """A vault as Ansible makes it."""
    secret = VaultSecret(password.encode())
    made = VaultLib([(label or "default", secret)]).encrypt(text, secret, vault_id=label)
    return made.decode()


def ring(*given: str, **environ: str) -> Keyring:
    """A keyring of ``label@file`` and of an environment."""
    return Keyring(passwords(ids=given, environ=environ))


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("open sesame\n")
    return path


@pytest.fixture(autouse=True)
def _no_keyring() -> Iterator[None]:
    vault.use(Keyring())
    yield
    vault.use(Keyring())


@pytest.mark.parametrize(
    "text", ["short", "", "sixteen bytes ok", "lines\nand\nlines\n", "üñí ☃ 𝄞", '"quotes" and \\ and \0', "x" * 5000]
)
@pytest.mark.parametrize("label", [None, "prod"])
def test_what_ansible_encrypted_is_opened(text: str, label: str | None, password: Path) -> None:
    assert ring(str(password)).open(ansible_encrypts(text, label=label)).decode() == text


def test_files_that_the_ansible_vault_command_made_are_opened(password: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("other")
    vault.use(ring(f"dev@{password}", f"prod@{other}"))
    assert read_text(VAULTS / "vars.yml").splitlines()[0] == "greeting: hello"
    assert read_text(VAULTS / "labelled.txt") == 'label me: üñí "quoted" \\ back\n'
    assert is_secret(read_text(VAULTS / "labelled.txt"))


def test_a_password_comes_from_a_file_a_program_or_the_environment(password: Path, tmp_path: Path) -> None:
    made = ansible_encrypts("x")
    program = tmp_path / "pass"
    program.write_text("#!/bin/sh\necho open sesame\n")
    program.chmod(0o755)
    client = tmp_path / "keys-client"
    client.write_text('#!/bin/sh\n[ "$1 $2" = "--vault-id prod" ] && echo open sesame\n')
    client.chmod(0o755)
    for one in (
        ring(str(password)),
        ring(str(program)),
        ring(f"prod@{client}"),
        ring(NSPROV_VAULT_PASSWORD="open sesame"),
        ring(NSPROV_VAULT_PASSWORD_FILE=str(password)),
        ring(ANSIBLE_VAULT_PASSWORD_FILE=str(program)),
        Keyring(passwords(files=[str(password)], environ={})),
        Keyring(passwords(ask=True, prompt=lambda what: "open sesame", environ={})),
    ):
        assert one.open(made) == b"x"


def test_every_password_is_tried_the_vaults_own_label_first(password: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def prompt(what: str) -> str:
        asked.append(what)
        return "wrong"

    one = Keyring(passwords(ids=["dev@prompt", f"prod@{password}"], prompt=prompt, environ={}))
    assert one.open(ansible_encrypts("x", label="prod")) == b"x"
    assert asked == []
    assert one.open(ansible_encrypts("x", label="elsewhere")) == b"x"
    assert asked == ["Vault password (dev)"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("no/such/file", "cannot be read"),
        ("{folder}", "is a folder"),
        ("{folder}/empty", "an empty password"),
        ("{folder}/fails", "ended with exit code 3"),
    ],
)
def test_a_source_that_gives_no_password_is_told(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "fails").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "fails").chmod(0o755)
    with pytest.raises(VaultError, match=says):
        ring(source.format(folder=tmp_path)).open(ansible_encrypts("x"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("$ANSIBLE_VAULT;1.1;AES256\n", "a part of it is missing"),
        ("$ANSIBLE_VAULT;1.1;AES256\n61620a63\n", "a part of it is missing"),
        ("$ANSIBLE_VAULT;1.1;AES256\n3031\nzz\n", "not hexadecimal"),
        ("$ANSIBLE_VAULT;1.0;AES\n3031\n", "format 1.0;AES"),
        ("$ANSIBLE_VAULT\n3031\n", "its first line must be"),
    ],
)
def test_a_malformed_vault_is_told_apart_from_a_wrong_password(text: str, says: str, password: Path) -> None:
    with pytest.raises(VaultError, match=says):
        ring(str(password)).open(text)


def test_a_vault_that_was_tampered_with_is_not_opened(password: Path) -> None:
    made = ansible_encrypts("x" * 40).splitlines()
    made[-1] = made[-1][:-2] + ("30" if made[-1][-2:] != "30" else "31")
    with pytest.raises(VaultError, match="none of the passwords given opens this vault"):
        ring(str(password)).open("\n".join(made))


# -- in a project ---------------------------------------------------------------------------------


def with_vault(project: Project, text: str) -> Project:
    value = indent(text, " " * 6)
    return project.tasks(
        "- file: {path: /etc/token, content: '{{ token }}'}\n- netns: {name: '{{ plain }}'}\n",
        f"plain: blue\ntoken: !vault |\n{value}",
    )


def test_a_vault_stays_closed_until_its_value_is_used(project: Project) -> None:
    project.tasks(
        "- netns: {name: '{{ plain }}'}", f"plain: blue\ntoken: !vault |\n{indent(ansible_encrypts('x'), '  ')}"
    )
    assert project.names() == ["blue"]


def test_a_missing_and_a_wrong_password_are_told_where_the_vault_is(project: Project, tmp_path: Path) -> None:
    with_vault(project, ansible_encrypts("hunter2-is-it"))
    (found,) = project.errors()
    assert found.startswith("group_vars/all.yml:2:8: this is encrypted by ansible-vault, and no password is given")
    assert "--vault-password-file" in found
    vault.use(ring(NSPROV_VAULT_PASSWORD="wrong"))
    (found,) = project.errors()
    assert found.startswith("group_vars/all.yml:2:8: none of the passwords given opens this vault")
    assert "default (NSPROV_VAULT_PASSWORD)" in found


def test_a_damaged_vault_is_told_at_its_line(project: Project) -> None:
    lines = ansible_encrypts("hunter2-is-it").splitlines()
    lines[2] = "g" + lines[2][1:]
    with_vault(project, "\n".join(lines))
    vault.use(ring(NSPROV_VAULT_PASSWORD="open sesame"))
    (found,) = project.errors()
    assert found.startswith("group_vars/all.yml:5:1: the vault is damaged: this line is not hexadecimal")


def test_values_files_templates_and_lookups_may_be_vaults(project: Project) -> None:
    vault.use(ring(NSPROV_VAULT_PASSWORD="open sesame"))
    project.tasks(
        """
        - file: {path: /etc/1, content: "{{ token }}"}
        - file: {path: /etc/2, content: "{{ from_file }}"}
        - file: {path: /etc/3, content: "{{ from_role }}"}
        - file: {path: /etc/4, src: key.pem}
        - file: {path: /etc/5, content: "{{ lookup('file', 'key.pem') }}"}
        - template: {path: /etc/6, src: conf.j2}
        - file: {path: /etc/7, content: "{{ lookup('template', 'conf.j2') }}"}
        """,
        f"token: !vault |\n{indent(ansible_encrypts('token-1'), '  ')}",
    )
    files = {
        "host_vars/h1.yml": "from_file: token-2\n",
        "roles/web/vars/main.yml": "from_role: token-3\n",
        "roles/web/files/key.pem": "token-4\n",
        "roles/web/templates/conf.j2": "{{ from_file }} token-6\n",
    }
    for path, text in files.items():
        project.file(path, ansible_encrypts(text))
    contents = [one.resource.content for one in project.build().resources.values()]  # type: ignore[attr-defined]
    assert contents == [
        "token-1",
        "token-2",
        "token-3",
        "token-4\n",
        "token-4",
        "token-2 token-6\n",
        "token-2 token-6\n",
    ]


def test_as_in_ansible_a_template_in_a_vaulted_value_is_text_and_in_a_vaulted_file_a_template(project: Project) -> None:
    vault.use(ring(NSPROV_VAULT_PASSWORD="open sesame"))
    value = indent(ansible_encrypts("{{ plain }}"), "  ")
    project.tasks(
        '- file: {path: /etc/1, content: "{{ token }}"}\n- file: {path: /etc/2, content: "{{ whole }}"}\n',
        f"plain: blue\ntoken: !vault |\n{value}",
    )
    project.file("host_vars/h1.yml", ansible_encrypts("whole: 'a {{ plain }}'\n"))
    contents = [one.resource.content for one in project.build().resources.values()]  # type: ignore[attr-defined]
    assert contents == ["{{ plain }}", "a blue"]


@pytest.mark.parametrize("options", [("--list",), ("--host", "h1"), ("--list", "--yaml"), ("--list", "--export")])
def test_the_inventory_prints_vaults_closed_as_ansible_inventory_does(options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    value = indent(ansible_encrypts("hidden", label="prod"), " " * 14)
    path.write_text(f"all:\n  hosts:\n    h1:\n      plain: 1\n      deep:\n        - token: !vault |\n{value}")
    ours = [sys.executable, "-m", "provisioner", "inventory", "-i", str(path), *options]
    theirs = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path), *options]
    found, wanted = (subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in (ours, theirs))
    assert found.strip() == wanted.strip()
    assert "$ANSIBLE_VAULT;1.2;AES256;prod" in found


def test_a_password_file_of_the_command_line_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text("all: {hosts: {h1: }}")
    command = [sys.executable, "-m", "provisioner", "validate", str(path), "--vault-password-file", "no/such"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "nsprov: --vault-password-file: no/such cannot be read: No such file or directory\n"


def test_a_password_that_is_asked_for_is_not_shown_as_it_is_typed(tmp_path: Path) -> None:
    """Typed at a terminal, it opens the vault; without one, that is told."""
    path = tmp_path / "inventory.yml"
    path.write_text(
        'all:\n  hosts: {h1: }\n  vars:\n    nsprov_roles: ["{{ role }}"]\n    role: !vault |\n'
        + indent(ansible_encrypts("workload-of-nobody"), " " * 8)
    )
    command = [sys.executable, "-m", "provisioner", "validate", str(path), "--ask-vault-pass"]
    ours, theirs = os.openpty()
    asked = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    said, typed = b"", False
    for _ in range(60):
        if not select.select([ours], [], [], 0.5)[0]:
            if b"Vault password" in said and not typed:  # the prompt stands, and the echo is off
                os.write(ours, b"open sesame\n")
                typed = True
            continue
        try:
            said += os.read(ours, 1000)
        except OSError:
            break  # the other end is closed
    os.close(ours)
    assert asked.wait(10) == 65
    assert "there is no role '(secret)'" in said.decode()
    assert "sesame" not in said.decode()
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 64
    assert "there is nobody to ask" in done.stderr
