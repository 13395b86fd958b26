"""The collection nsprov.core, as it is built: playbooks apply and verify roles, on a local host and by ssh."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from packaging.requirements import Requirement

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
        "children": {
            "web": {"hosts": {"web1": {}, "web2": {"ansible_host": "192.0.2.99"}}},
            "gates": {"hosts": {"gate": {"ansible_connection": "local"}}},
        },
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
        """The counts of the only host."""
        (counts,) = self.recaps.values()
        return counts

    @property
    def recaps(self) -> dict[str, dict[str, int]]:
        """The counts of each host."""
        lines = self.said[self.said.index("PLAY RECAP") :].splitlines()[1:]
        counted = [line.partition(" : ") for line in lines if " : " in line]
        return {
            host.strip(): {name: int(count) for name, _, count in (word.partition("=") for word in counts.split())}
            for host, _, counts in counted
        }

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
    assert "facts do" in failed
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


# -- execution environments -----------------------------------------------------------------------


def test_ansible_builder_is_told_of_nsprov_and_of_what_compiles_it(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:

        def lines(name: str) -> list[str]:
            file = archive.extractfile(name)
            assert file is not None
            return [line for line in file.read().decode().splitlines() if not line.startswith("#")]

        told = yaml.safe_load("\n".join(lines("meta/execution-environment.yml")))["dependencies"]
        (wanted,) = map(Requirement, lines(told["python"]))
        system = {line.split()[0]: line for line in lines(told["system"]) if "platform:rpm" not in line}
    assert wanted.name == "nsprov"
    assert version("nsprov") in wanted.specifier
    installed = (ROOT / "scripts" / "setup").read_text().split()
    assert system.keys() <= set(installed)
    compiles = {name for name, line in system.items() if "compile" in line}
    assert compiles == {"gcc", "pkgconf", "python3-dev", "libsystemd-dev"}


# -- the options ----------------------------------------------------------------------------------

BREAKS = """\
- netns: {name: "{{ netns_name }}"}
- unit: {name: breaks.service, ExecStart: /bin/false, Type: oneshot}
"""


def test_what_is_on_the_host_already_is_left_alone_until_it_is_adopted(local: Site) -> None:
    local.host.run("ip netns add blue")
    refused = local.play("--check", apply={}, code=2)
    assert "netns/blue" in refused
    refused = local.play(apply={}, code=2)
    assert refused.recap["failed"] == 1
    assert "netns/blue" in refused
    assert not local.has("/etc/motto")

    assert local.play("--check", apply={"adopt": True}).recap["changed"] == 1
    local.play(apply={"adopt": True})
    assert local.play(apply={}).recap["changed"] == 0
    local.play(apply={"state": "absent"})
    assert not local.has("/run/netns/blue")


def test_what_fails_is_put_back_or_with_keep_partial_left_as_far_as_it_came(local: Site) -> None:
    local.controller.write(f"{SITE}/roles/breaks/tasks/main.yml", BREAKS)
    put_back = local.play(apply={"roles": ["breaks"]}, code=2)
    assert put_back.recap["failed"] == 1
    assert "unit/breaks.service" in put_back
    assert '"changed": false' in put_back
    assert not local.has("/run/netns/blue")

    task = {"nsprov.core.apply": {"roles": ["breaks"], "keep_partial": True}, "register": "done"}
    show = {"ansible.builtin.debug": {"var": "done"}}
    kept = local.playbook([{"block": [task], "rescue": [show]}])
    assert kept.recap["rescued"] == 1
    assert kept.result["changed"] is True
    assert [one["address"] for one in kept.result["result"]["done"]] == ["netns/blue"]
    assert local.has("/run/netns/blue")


def test_a_task_that_takes_longer_than_its_timeout_fails_and_the_host_is_put_back(local: Site) -> None:
    then = "- veth: {name: v-then, peer: {name: v-peer}}\n"
    waits = BREAKS.replace("/bin/false", "/bin/sleep 12") + then
    local.controller.write(f"{SITE}/roles/waits/tasks/main.yml", waits)
    local.write_inventory()
    ended = local.playbook([{"nsprov.core.apply": {"roles": ["waits"]}, "timeout": 6}], code=2)
    assert ended.recap["failed"] == 1
    assert "Timed out after 6" in ended
    assert not local.has("/run/netns/blue")


def test_what_does_not_verify_is_told_fact_by_fact_and_put_back(local: Site) -> None:
    wrong = "def test_the_motto_is_in_latin(host):\n    assert host.file('/etc/motto').contains('labora')\n"
    local.controller.write(f"{SITE}/roles/motto/tests/test_motto.py", wrong)
    try:
        failed = local.play(apply={"verify": True}, code=2)
        assert failed.recap["failed"] == 1
        assert "facts does not hold" in failed
        assert "test_the_motto_is_in_latin" in failed
        assert '"outcome": "passed"' in failed
        assert '"changed": false' in failed
        assert not local.has("/etc/motto")
        kept = local.play(apply={"verify": True, "keep_partial": True}, code=2)
        assert '"changed": true' in kept
        assert local.has("/etc/motto")
    finally:
        local.controller.run(["rm", "-r", f"{SITE}/roles/motto/tests"])


def test_what_is_asked_wrongly_fails_and_says_what_could_be_asked(local: Site) -> None:
    assert "present, absent" in local.play(apply={"state": "gone"}, code=2)
    unknown = local.play(verify={"role": "motto"}, code=2)
    assert unknown.recap["failed"] == 1
    assert "roles_path" in unknown
    assert "which is not a program" in local.play(verify={"executable": "/bin/nothing"}, code=2)
    wrong = local.play(verify={"roles": ["mott"]}, code=2)
    assert wrong.recap["failed"] == 1
    assert "did you mean 'motto'" in wrong
    assert '"reason": "configuration"' in wrong


def test_the_defaults_of_a_play_are_those_of_all_modules_of_the_collection(local: Site) -> None:
    local.write_inventory()
    defaults = {"group/nsprov.core.nsprov": {"project": "shop", "roles": ["motto"]}}
    local.playbook([{"nsprov.core.apply": {}}, {"nsprov.core.verify": {}}], module_defaults=defaults)
    assert local.play("--check", apply={"project": "shop", "state": "absent"}).result["msg"] == "2 to delete"
    local.play(apply={"project": "shop", "state": "absent"})
    assert not local.has("/etc/motto")


def test_a_difference_says_that_a_secret_is_another_one_and_not_which(local: Site) -> None:
    local.variables["motto"] = "{{ 'first-secret-1' | secret }}"
    local.play(apply={})
    local.variables["motto"] = "{{ 'second-secret-2' | secret }}"
    changed = local.play("--check", "--diff", apply={})
    assert "+# content: another secret" in changed
    assert "second-secret-2" not in changed


# -- whose roles, and on which host ---------------------------------------------------------------


def test_a_delegated_task_brings_the_roles_of_its_host_to_the_other_under_a_project_of_its_own(remote: Site) -> None:
    gate = remote.controller
    gate.write(f"{SITE}/roles/note/tasks/main.yml", "- file: {path: /etc/note, content: the gate's own}\n")
    remote.write_inventory()
    own = {"nsprov.core.apply": {"roles": ["note"]}}
    try:
        remote.playbook([own], hosts="gate")
        refused = remote.playbook([{"nsprov.core.apply": {}, "delegate_to": "gate"}], code=2)
        assert "the roles are those of web1, and the host is gate: give the task a 'project'" in refused

        options = {"project": "of-{{ inventory_hostname }}"}
        applied = remote.playbook(
            [{f"nsprov.core.{name}": options, "delegate_to": "gate"} for name in ("apply", "verify")]
        )
        assert "web1 -> gate" in applied
        assert gate.run("cat /etc/motto /etc/note").stdout == "first of web1 web2\nthe gate's own"
        assert not remote.has("/etc/motto")

        remote.playbook([{"nsprov.core.apply": {**options, "state": "absent"}, "delegate_to": "gate"}])
        assert gate.run("ls /etc/motto", check=False).returncode != 0
        assert gate.run("cat /etc/note").stdout == "the gate's own"
    finally:
        remote.playbook([{"nsprov.core.apply": {"state": "absent"}}], hosts="gate")
        gate.run(["rm", "-r", f"{SITE}/roles/note"])


def test_a_task_that_delegates_by_ssh_goes_there_as_the_other_host_is_reached(remote: Site) -> None:
    remote.variables |= {"ansible_user": "ops", "ansible_become_password": SUDO}
    remote.write_inventory()
    task = {"nsprov.core.apply": {"project": "sent", "roles": ["motto"]}, "delegate_to": "web1", "become": True}
    remote.playbook([task], hosts="gate")
    assert remote.has("/etc/motto")
    assert remote.controller.run("ls /etc/motto", check=False).returncode != 0
    remote.playbook([{**task, "nsprov.core.apply": {"project": "sent", "state": "absent"}}], hosts="gate")
    assert not remote.has("/etc/motto")


def test_a_task_that_runs_once_changes_the_first_host_alone(remote: Site) -> None:
    remote.write_inventory()
    once = {"nsprov.core.apply": {"roles": ["motto"]}, "run_once": True}
    played = remote.playbook([once], hosts="web1,gate")
    assert played.recaps["web1"]["changed"] == 1
    assert "gate" not in played.recaps
    assert remote.has("/etc/motto")
    assert remote.controller.run("ls /etc/motto", check=False).returncode != 0


def test_a_user_who_is_not_root_becomes_it_or_has_failed_and_is_not_unreachable(remote: Site) -> None:
    remote.variables["ansible_user"] = "ops"
    for name in ("apply", "verify"):
        plain = remote.play(code=2, **{name: {}})
        assert (plain.recap["failed"], plain.recap["unreachable"]) == (1, 0)
        assert "is not root" in plain
        assert "set ansible_become: true" in plain
        asked = remote.play("--become", code=2, **{name: {}})
        assert (asked.recap["failed"], asked.recap["unreachable"]) == (1, 0)
        assert "wants a password" in asked
        remote.variables["ansible_become_password"] = "not-it"
        wrong = remote.play("--become", code=2, **{name: {}})
        assert (wrong.recap["failed"], wrong.recap["unreachable"]) == (1, 0)
        assert "does not take the password" in wrong
        del remote.variables["ansible_become_password"]

    remote.variables["ansible_become_password"] = SUDO
    other = remote.play("--become", "--become-user", "nobody", apply={}, code=2)
    assert other.recap["failed"] == 1
    assert "nobody" in other
    remote.write_inventory()
    own = remote.playbook([{f"nsprov.core.{name}": {}, "become": True} for name in ("apply", "verify")])
    assert own.recap["changed"] == 1


# -- hosts that are not there ---------------------------------------------------------------------


def test_no_task_goes_on_where_a_host_is_not_there_unless_that_is_ignored(remote: Site) -> None:
    remote.variables["ansible_port"] = 1
    remote.write_inventory()
    after = {"ansible.builtin.debug": {"msg": "it went on"}}
    rescued = {"ansible.builtin.debug": {"msg": "it was rescued"}}
    for name in ("apply", "verify"):
        refused = remote.playbook([{"block": [{f"nsprov.core.{name}": {}}], "rescue": [rescued]}, after], code=4)
        assert refused.recap["unreachable"] == 1
        assert "refuses connections to its ssh port" in refused
        assert "it went on" not in refused
        # As with Ansible's own modules, a rescue is for what failed.
        assert "it was rescued" not in refused

        task = {f"nsprov.core.{name}": {}, "ignore_unreachable": True, "register": "done"}
        ignored = remote.playbook([task, {"ansible.builtin.debug": {"var": "done"}}])
        assert ignored.result["unreachable"] is True
        assert ignored.result["changed"] is False


def test_what_failed_is_rescued_and_one_that_is_not_there_ends_all_where_errors_are_fatal(remote: Site) -> None:
    rescued = {"ansible.builtin.debug": {"msg": "rescued: {{ ansible_failed_result.msg }}"}}
    remote.write_inventory()
    failed = remote.playbook([{"block": [{"nsprov.core.verify": {}}], "rescue": [rescued]}])
    assert failed.recap["rescued"] == 1
    assert "rescued: " in failed
    assert "facts do not hold" in failed

    remote.variables["ansible_port"] = 1
    remote.write_inventory()
    tasks = [{"nsprov.core.verify": {"roles": []}}, {"ansible.builtin.debug": {"msg": "it went on"}}]
    assert remote.playbook(tasks, hosts="web1,gate", code=4).recaps["gate"]["ok"] == 2
    ended = remote.playbook(tasks, hosts="web1,gate", any_errors_fatal=True, code=None)
    assert ended.recaps["web1"]["unreachable"] == 1
    assert "it went on" not in ended


CUT = "systemctl kill --kill-whom=all --signal=KILL 'test-sshd-*'"


@pytest.fixture
def cut(remote: Site) -> Iterator[Site]:
    """A site whose role motto cuts the connection: as it is verified, and by a unit as it is applied."""
    controller = remote.controller
    test = f"def test_it_is_still_there(host):\n    assert host.run({CUT!r}).rc == 0\n"
    controller.write(f"{SITE}/roles/motto/tests/test_motto.py", test)
    unit = f"- netns: {{name: blue}}\n- unit: {{name: cut.service, ExecStart: {CUT}, Type: oneshot}}\n"
    controller.write(f"{SITE}/roles/cuts/tasks/main.yml", unit)
    yield remote
    controller.write("/root/.ssh/known_hosts", f"{HOST} {start_sshd(remote.host)}\n")
    remote.forget_connections()
    controller.run(["rm", "-r", f"{SITE}/roles/motto/tests", f"{SITE}/roles/cuts"])


def test_a_host_that_is_lost_as_it_is_verified_is_unreachable_and_its_facts_have_not_failed(cut: Site) -> None:
    cut.play(apply={})
    lost = cut.play(verify={}, code=4)
    assert (lost.recap["unreachable"], lost.recap["failed"]) == (1, 0)
    assert "the agent on web1 has ended" in lost
    assert '"outcome": "passed"' in lost
    assert '"outcome": "failed"' not in lost


def test_a_host_that_is_lost_as_it_is_changed_is_unreachable_and_changed(cut: Site) -> None:
    lost = cut.play(apply={"roles": ["cuts"]}, code=4)
    assert (lost.recap["unreachable"], lost.recap["failed"]) == (1, 0)
    assert '"changed": true' in lost
    assert '"address": "netns/blue"' in lost
