"""The collection nsprov.core, as it is built: playbooks apply and verify roles, on a local host and by ssh."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from provisioner.host.sandbox import Sandbox
from tests.host.conftest import Box
from tests.host.sshd import add_user, authorize, start_sshd

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SITE = "/root/site"
COLLECTIONS = "/root/collections"
CONTROLLER, HOST = "192.0.2.151", "192.0.2.152"
PASSWORD = "opens-the-vault-9w"
SECRET = "from-a-vault-77Kq"
FILED = "in-a-vaulted-file-3mZ"
SUDO = "sudo-password-5tX"

TASKS = """\
- netns: {name: "{{ netns_name }}"}
- file: {path: /etc/motto, content: "{{ motto }}\\n"}
"""
INVENTORY = {
    "all": {
        "vars": {"netns_name": "blue", "motto": "first of {{ groups['web'] | join(' ') }}"},
        "children": {"web": {"hosts": {"web1": {}, "web2": {"ansible_host": "192.0.2.99"}}}},
    }
}


@dataclass
class Site:
    """A controller with Ansible and the collection, a playbook, and the host that it is for."""

    controller: Box
    host: Box
    variables: dict[str, Any]

    def play(self, *words: str, code: int | None = 0, **module: Any) -> Played:
        """Runs one task on the host: the module by its short name, with its options."""
        ((name, options),) = module.items()
        self.write_inventory()
        task = {f"nsprov.core.{name}": options, "register": "done"}
        return self.playbook([task, {"ansible.builtin.debug": {"var": "done"}}], *words, code=code)

    def playbook(self, tasks: list[Any], *words: str, code: int | None = 0, **play: Any) -> Played:
        made = [{"hosts": "web1", "gather_facts": False, "tasks": tasks, **play}]
        self.controller.write(f"{SITE}/site.yml", yaml.safe_dump(made, sort_keys=False))
        done = self.controller.run(
            [
                *(
                    "env",
                    f"--chdir={SITE}",
                    f"ANSIBLE_COLLECTIONS_PATH={COLLECTIONS}",
                    f"PATH={BIN}:/usr/sbin:/usr/bin",
                ),
                *("ANSIBLE_NOCOWS=1", "ANSIBLE_STDOUT_CALLBACK=ansible.builtin.default"),
                *(f"PYTHONPATH={ROOT}", "ansible-playbook", "-i", f"{SITE}/inventory.yml", "site.yml", *words),
            ],
            check=False,
            timeout=120,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return Played(done)

    def write_inventory(self) -> None:
        inventory = json.loads(json.dumps(INVENTORY))
        inventory["all"]["children"]["web"]["hosts"]["web1"] = {"nsprov_roles": ["motto"], **self.variables}
        self.controller.write(f"{SITE}/inventory.yml", yaml.safe_dump(inventory))

    def forget_connections(self) -> None:
        """End the connections that ssh keeps for the next command."""
        each = "[ -S $one ] && ssh -O exit -o ControlPath=$one x"
        self.controller.run(f"for one in /tmp/nsprov-ssh-0/*; do {each}; done 2>/dev/null; true")

    def has(self, path: str) -> bool:
        return self.host.run(["test", "-e", path], check=False).returncode == 0


class Played:
    """What a playbook printed."""

    def __init__(self, done: CompletedProcess[str]) -> None:
        self.said = done.stdout + done.stderr

    def __contains__(self, text: str) -> bool:
        return text in self.said

    @property
    def recap(self) -> dict[str, int]:
        line = self.said[self.said.index("PLAY RECAP") :].splitlines()[1]
        return {name: int(count) for name, _, count in (word.partition("=") for word in line.split() if "=" in word)}

    @property
    def result(self) -> dict[str, Any]:
        """What the task returned."""
        text = self.said[self.said.index('    "done": ') + 12 :]
        result: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
        return result


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([ROOT / "scripts" / "collection", "build", folder], check=True, capture_output=True)
    (made,) = folder.glob("nsprov-core-*.tar.gz")
    return made


def install(box: Box, tarball: Path) -> None:
    """As ansible-galaxy does it."""
    there = f"{COLLECTIONS}/ansible_collections/nsprov/core"
    with tarfile.open(tarball) as archive:
        for entry in archive:
            if entry.isfile() and not entry.name.endswith("COPYING"):
                file = archive.extractfile(entry)
                assert file is not None
                box.write(f"{there}/{entry.name}", file.read().decode())
    box.write(f"{SITE}/roles/motto/tasks/main.yml", TASKS)


@pytest.fixture(scope="module")
def here(tarball: Path) -> Iterator[Box]:
    with Sandbox.start(f"ctl-{uuid.uuid4().hex[:8]}", address=CONTROLLER) as sandbox:
        box = Box(sandbox)
        install(box, tarball)
        yield box


@pytest.fixture(scope="module")
def there(here: Box) -> Iterator[Box]:
    with Sandbox.start(f"web-{uuid.uuid4().hex[:8]}", address=HOST) as sandbox:
        box = Box(sandbox)
        here.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/site-key")
        public = here.run("cat /root/site-key.pub").stdout
        key = start_sshd(box)
        here.write("/root/.ssh/known_hosts", f"{HOST} {key}\n")
        authorize(box, "root", public)
        add_user(box, "ops", password=SUDO, sudo="ALL")
        authorize(box, "ops", public)
        yield box


@pytest.fixture
def local(here: Box) -> Iterator[Site]:
    site = Site(here, here, {"ansible_connection": "local"})
    yield site
    site.play(apply={"state": "absent"})


@pytest.fixture
def remote(here: Box, there: Box) -> Iterator[Site]:
    site = Site(here, there, {"ansible_host": HOST, "ansible_ssh_private_key_file": "/root/site-key"})
    yield site
    site.variables = {"ansible_host": HOST, "ansible_ssh_private_key_file": "/root/site-key"}
    site.play(apply={"state": "absent"})
    site.forget_connections()


def test_check_mode_shows_the_difference_and_changes_nothing_then_it_is_applied_once(local: Site) -> None:
    checked = local.play("--check", "--diff", apply={})
    assert checked.recap["changed"] == 1
    assert checked.result["msg"] == "2 to create"
    assert "+++ after: file//etc/motto" in checked
    assert not local.has("/etc/motto")
    assert not local.has("/run/netns/blue")

    applied = local.play(apply={})
    assert applied.recap["changed"] == 1
    assert applied.result["msg"] == "2 created"
    assert [step["address"] for step in applied.result["plan"]["steps"]] == ["netns/blue", "file//etc/motto"]
    assert applied.result["result"]["ok"] is True
    assert local.host.run("cat /etc/motto").stdout == "first of web1 web2\n"

    again = local.play("--diff", apply={})
    assert again.recap["changed"] == 0
    assert again.result["msg"] == "no changes"
    assert local.play("--check", apply={}).recap["changed"] == 0


def test_verify_holds_until_somebody_tampers_and_absent_takes_all_away(local: Site) -> None:
    local.play(apply={"verify": True})
    verified = local.play(verify={})
    assert verified.result["msg"].endswith("facts checked, all hold")
    assert {one["outcome"] for one in verified.result["facts"]} == {"passed"}
    assert verified.recap["changed"] == 0

    local.host.write("/etc/motto", "tampered\n")
    failed = local.play(verify={}, code=2)
    assert failed.recap["failed"] == 1
    assert "facts do not hold" in failed
    assert "/etc/motto" in failed

    gone = local.play("--check", apply={"state": "absent"})
    assert gone.result["msg"] == "2 to delete"
    assert local.has("/run/netns/blue")
    assert local.play(apply={"state": "absent"}).result["msg"] == "2 deleted"
    assert not local.has("/run/netns/blue")
    assert not local.has("/etc/motto")
    assert local.play(verify={"roles": []}).result["msg"] == "nothing to check"


def test_a_play_gives_roles_of_its_own_with_loops_and_what_it_registered_is_no_template(local: Site) -> None:
    local.variables["netns_name"] = "green"
    local.write_inventory()
    applied = local.playbook(
        [
            {"ansible.builtin.set_fact": {"motto": "{{ '{' }}{ 6 * 7 }}"}},
            {
                "nsprov.core.apply": {"project": "other"},
                "vars": {
                    "nsprov_roles": [{"role": "motto", "loop": ["a", "b"], "vars": {"netns_name": "n-{{ item }}"}}]
                },
                "check_mode": True,
                "register": "looped",
            },
            {"nsprov.core.apply": {"roles": [{"role": "motto", "vars": {"netns_name": "n-{{ netns_name }}"}}]}},
            {"ansible.builtin.debug": {"msg": "{{ looped.plan.steps | map(attribute='address') | join(' ') }}"}},
        ]
    )
    assert "n-a" in applied
    assert "n-b" in applied
    assert local.has("/run/netns/n-green")
    assert local.host.run("cat /etc/motto").stdout == "{{ 6 * 7 }}\n"


def test_roles_are_gathered_from_the_groups_of_a_host_as_nsprov_does_it(local: Site) -> None:
    local.controller.write(f"{SITE}/roles/note/tasks/main.yml", "- file: {path: /etc/note, content: x}\n")
    local.controller.write(f"{SITE}/group_vars/web.yml", "nsprov_roles: [note]\n")
    try:
        planned = local.play("--check", apply={})
        steps = {one["address"] for one in planned.result["plan"]["steps"]}
        assert steps == {"netns/blue", "file//etc/motto", "file//etc/note"}
    finally:
        local.controller.run(["rm", "-r", f"{SITE}/group_vars", f"{SITE}/roles/note"])


def test_what_is_wrong_is_told_with_its_file_and_line_and_nothing_is_touched(local: Site) -> None:
    local.controller.write(f"{SITE}/roles/wrong/tasks/main.yml", "- netns: {name: blue}\n- nets: {name: green}\n")
    failed = local.play(apply={"roles": ["wrong"]}, code=2)
    assert f"{SITE}/roles/wrong/tasks/main.yml:2:3: " in failed
    assert '"reason": "configuration"' in failed
    assert not local.has("/run/netns/blue")
    unknown = local.play(apply={"roles": ["motto", "mott"]}, code=2)
    assert f"{SITE}/site.yml:" in unknown
    assert "did you mean 'motto'" in unknown
    assert "nsprov-ansible-" not in unknown  # a file that the user never wrote
    assert "leave 'roles' out" in local.play(apply={"roles": ["motto"], "state": "absent"}, code=2)


def test_a_host_by_ssh_with_a_password_for_sudo_and_vaults_and_no_secret_is_told_or_kept(remote: Site) -> None:
    vault = VaultLib([("default", VaultSecret(PASSWORD.encode()))])
    inline = vault.encrypt(SECRET).decode()
    remote.variables |= {"netns_name": "blue", "ansible_become_password": "{{ sudo_password }}"}
    remote.write_inventory()
    controller = remote.controller
    controller.write(
        f"{SITE}/group_vars/web/vault.yml", vault.encrypt(f"sudo_password: {SUDO}\nfiled: {FILED}\n").decode()
    )
    lines = "".join(f"  {line}\n" for line in inline.splitlines())
    controller.write(
        f"{SITE}/group_vars/web/motto.yml", f"inlined: !vault |\n{lines}motto: '{{{{ inlined }}}} {{{{ filed }}}}'\n"
    )
    controller.write(f"{SITE}/password", PASSWORD)
    # Stands before nsprov, and keeps what anybody on the controller can see of it.
    controller.write(
        "/root/watched",
        f'#!/bin/sh\necho "$@" >>/root/seen\nenv >>/root/seen\nexec {sys.executable} -m provisioner "$@"\n',
        0o755,
    )
    said = ""
    try:
        filed = ["-e", "motto='{{ filed }}'"]  # by itself, with nothing else that is secret beside it
        for words in ([*filed, "--check", "--diff"], ["--check", "--diff"], ["--diff"], []):
            played = remote.playbook(
                [
                    {"nsprov.core.apply": {"executable": "/root/watched"}, "register": "done"},
                    {"ansible.builtin.debug": {"var": "done"}},
                ],
                *("-vvv", "-u", "ops", "--become", "--vault-password-file", "password", *words),
            )
            assert played.recap["changed"] == int(bool(words))
            said += played.said
        assert remote.host.run("cat /etc/motto").stdout == f"{SECRET} {FILED}\n"
        assert "(secret)" in said
        seen = controller.run("cat /root/seen").stdout
        assert "/tmp/nsprov-ansible-" in seen
        for secret in (SECRET, FILED, SUDO, PASSWORD):
            assert secret not in said + seen
        assert not controller.run("ls -d /tmp/nsprov-ansible-* 2>/dev/null; true").stdout
        kept = controller.run(
            ["grep", "-rlF", "-e", SECRET, "-e", FILED, "-e", SUDO, "/tmp", "/root", "/run"], check=False
        )
        assert not kept.stdout
    finally:
        controller.run(["rm", "-rf", f"{SITE}/group_vars", f"{SITE}/password", "/root/watched", "/root/seen"])
        remote.variables.pop("ansible_become_password")


def test_the_key_of_the_command_line_is_used_and_a_host_that_is_not_there_is_unreachable(remote: Site) -> None:
    del remote.variables["ansible_ssh_private_key_file"]
    assert remote.play("-u", "root", "--private-key", "/root/site-key", "--check", apply={}).result["changed"] is True
    remote.forget_connections()
    refused = remote.play("-u", "root", apply={}, code=4)
    assert refused.recap["unreachable"] == 1
    assert "Permission denied" in refused
    assert remote.play("-u", "root", verify={}, code=4).recap["unreachable"] == 1
