# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the actions have in common: what Ansible knows of the host goes to nsprov, and its answer comes back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.vars.plugins import get_vars_from_inventory_sources, get_vars_from_path
from ansible_collections.nsprov.core.plugins.plugin_utils.as_inventory import (
    Group,
    Secret,
    inventory_text,
    of_another_host,
    vaulted_texts,
    without_the_run,
)
from ansible_collections.nsprov.core.plugins.plugin_utils.command import (
    Done,
    Handed,
    find_nsprov,
    handing_over,
    run_nsprov,
)

display = Display()

ROLES = "nsprov_roles"

#: What nsprov's exit codes mean, as the result's ``reason``.
REASONS = {64: "usage", 65: "configuration", 70: "defect", 73: "stale", 75: "locked", 77: "not_permitted"}

#: The options that all modules of the collection have.
SHARED_SPEC = {
    "roles": {"type": "list", "elements": "raw"},
    "project": {"type": "str"},
    "roles_path": {"type": "list", "elements": "path"},
    "executable": {"type": "path"},
}

_LOCAL = ("local", "ansible.builtin.local")
_SSH = ("ssh", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")
#: What Ansible gives ssh to keep its connections; nsprov keeps its own.
_KEEPING = "-C -o ControlMaster=auto -o ControlPersist=60s"

#: The options of the connection that decide how a host is reached, command line and configuration included.
_SSH_OPTIONS = {
    "host": "ansible_host",
    "port": "ansible_port",
    "remote_user": "ansible_user",
    "private_key_file": "ansible_ssh_private_key_file",
    "host_key_checking": "ansible_host_key_checking",
    "ssh_args": "ansible_ssh_args",
    "ssh_common_args": "ansible_ssh_common_args",
    "ssh_extra_args": "ansible_ssh_extra_args",
    "ssh_executable": "ansible_ssh_executable",
    "timeout": "ansible_timeout",
    "password": "ansible_password",
    "private_key_passphrase": "ansible_ssh_private_key_passphrase",
}
_BECOME_OPTIONS = {
    "become_user": "ansible_become_user",
    "become_exe": "ansible_become_exe",
    "become_pass": "ansible_become_password",
}
_SECRETS = ("ansible_password", "ansible_ssh_private_key_passphrase", "ansible_become_password")
#: All names by which an inventory may say the same; what the connection says has been chosen among them.
_SAID_BY_THE_CONNECTION = re.compile(
    r"ansible_((ssh_)?(host|port|user|password|pass|private_key_file|private_key_passphrase|timeout"
    r"|host_key_checking)|connection|ssh_(args|common_args|extra_args|executable)|become(_\w+)?|sudo_(exe|pass\w*))\Z"
)


class NsprovAction(ActionBase):
    """Runs nsprov on the controller, for the one host of the task."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    @contextmanager
    def nsprov(self, task_vars: dict[str, Any], given: Mapping[str, Any]) -> Iterator[Nsprov]:
        """nsprov with all that it has to know of this host and of the others."""
        host = task_vars["inventory_hostname"]
        text = self._inventory(host, task_vars, given)
        projects = self._projects(task_vars)
        with handing_over(text, projects) as handed:
            words = ["--limit", host, *(["--project", given["project"]] if given.get("project") else [])]
            for label, secret in self._loader._vault.secrets or ():
                words += ["--vault-id", f"{label}@{handed.in_memory(secret.bytes)}"]
            paths = [*(given.get("roles_path") or ()), *(str(one / "roles") for one in projects)]
            environment = {
                "NSPROV_ROLES_PATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("NSPROV_ROLES_PATH")])]),
                "NSPROV_RETRY_FILES": "0",
            }
            yield Nsprov(find_nsprov(given.get("executable")), handed, words, environment, host, self._task.get_path())

    def _inventory(self, host: str, task_vars: dict[str, Any], given: Mapping[str, Any]) -> str:
        hostvars = task_vars["hostvars"]
        mine = without_the_run(task_vars)
        declared = _declared_roles(hostvars._inventory, self._loader, host, task_vars.get("playbook_dir"))
        asked = given.get("roles")
        if asked is None and ROLES in mine and mine[ROLES] not in declared.values():
            asked = mine[ROLES]  # the play's, the task's, or the command line's
        mine = {name: value for name, value in mine.items() if not _SAID_BY_THE_CONNECTION.match(name)}
        mine.pop(ROLES, None)
        if asked is not None:
            mine[ROLES] = asked
            declared = {}
        elif host in declared:
            mine[ROLES] = declared[host]
        mine.update(self._reaching())
        all_hosts = {
            name: mine if name == host else of_another_host(hostvars.raw_get(name))
            for name in dict.fromkeys([*hostvars._inventory.hosts, host])
        }
        secrets = vaulted_texts(mine)
        return inventory_text(
            all_hosts,
            _groups(hostvars._inventory, declared),
            is_secret=lambda text: any(secret in text for secret in secrets) or _from_vaulted_file(text),
        )

    def _reaching(self) -> dict[str, Any]:
        """How Ansible would reach the host: its variables, its configuration, and the command line."""
        connection = self._connection
        name = connection.ansible_name or connection._load_name
        if name in _LOCAL:
            return {"ansible_connection": "local"}
        if name not in _SSH:
            raise AnsibleActionFail(f"nsprov reaches hosts by ssh and local, and not by '{name}'")
        said: dict[str, Any] = {"ansible_connection": "ssh", **_options(connection, _SSH_OPTIONS)}
        if str(said.get("ansible_ssh_args", "")).strip() == _KEEPING:
            del said["ansible_ssh_args"]
        if connection.become is not None:
            said.update(ansible_become=True, ansible_become_method=connection.become.ansible_name)
            said.update(_options(connection.become, _BECOME_OPTIONS))
        return {name: Secret(value) if name in _SECRETS else _plain(value) for name, value in said.items()}

    def _projects(self, task_vars: dict[str, Any]) -> list[Path]:
        """The folders that may hold roles/, files/ and templates/: the playbook's, and those of the inventories."""
        made = [Path(task_vars["playbook_dir"])]
        for source in map(Path, task_vars.get("ansible_inventory_sources") or ()):
            if not source.exists():
                continue  # a list of hosts
            folder = source if source.is_dir() else source.parent
            made += [folder, *(one.parent for one in (folder, folder.parent) if one.name == "inventories")]
        return list(dict.fromkeys(made))


class HostIsUnreachable(AnsibleConnectionFailure):
    """A host that is not there. Ansible makes UNREACHABLE of it, as of a connection of its own; no task goes on there.

    ``told`` stands in the result beside that: what was planned, and done before the host was lost.
    """

    def __init__(self, message: str, told: Mapping[str, Any]) -> None:
        super().__init__(message)
        self._told = told

    @property
    def result_contribution(self) -> Mapping[str, object]:
        return {**self._told, "unreachable": True}


class Nsprov:
    """The command, ready to be run for one host."""

    def __init__(
        self,
        executable: str,
        handed: Handed,
        words: list[str],
        environment: dict[str, str],
        host: str,
        task: str | None,
    ) -> None:
        self.executable = executable
        self.handed = handed
        self.words = words
        self.environment = environment
        self.host = host
        self.task = task

    def __call__(self, command: str, *more: str) -> Done:
        words = [self.executable, command, str(self.handed.inventory), *self.words, *more]
        display.vvv(f"nsprov: {' '.join(words)}", host=self.host)
        done = run_nsprov(words, self.handed, self.environment)
        return Done(done.code, done.out, self._placed(done.err))

    def _placed(self, text: str) -> str:
        """What nsprov says of our inventory is said of the task that it was made for."""
        where = self.task or f"the variables of {self.host}"
        return re.sub(rf"{re.escape(str(self.handed.inventory))}(:\d+)*", lambda found: where, text)

    def failure(self, done: Done, data: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a run that failed, with what is ``told`` besides.

        Raises HostIsUnreachable where the host was not reached, or was lost.
        """
        lines = done.err.strip().splitlines()
        said = "\n".join(line.removeprefix("nsprov: ") for line in lines if "; nothing was touched" not in line)
        unreachable = data.get("unreachable", {})
        if self.host in unreachable:
            raise HostIsUnreachable(_in_full(unreachable[self.host], said), told)
        reasons = {**data.get("not_touched", {}), **data.get("put_back", {}), **data.get("failed", {})}
        reason = reasons.get(self.host)
        message = _in_full(reason, said) if reason else said or f"nsprov ended with exit code {done.code}"
        return {**told, "failed": True, "msg": message, "rc": done.code, "reason": REASONS.get(done.code, "failed")}


def answer_of(done: Done) -> dict[str, Any]:
    """What a run has answered in JSON; nothing where it ended before."""
    answer: dict[str, Any] = json.loads(done.out) if done.out.lstrip().startswith("{") else {}
    return answer


def unproved_text(facts: list[dict[str, Any]]) -> str:
    """The facts that do not hold, a line each; empty where all hold."""
    wrong = [one for one in facts if one["outcome"] == "failed"]
    if not wrong:
        return ""
    told = [f"{one['title']}: {one['message']}" + (f" ({one['declared']})" if one["declared"] else "") for one in wrong]
    count = f"{len(wrong)} of {len(facts)} facts {'does' if len(wrong) == 1 else 'do'} not hold"
    return "\n".join([count, *told])


def _in_full(reason: str, said: str) -> str:
    """What was said on standard error, where it begins with the reason and goes on with what helps."""
    return said if said.startswith(reason) else reason


def _options(plugin: Any, names: Mapping[str, str]) -> dict[str, Any]:
    there = plugin.option_definitions
    found = {variable: plugin.get_option(option) for option, variable in names.items() if option in there}
    return {variable: value for variable, value in found.items() if value not in (None, "")}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, list)) else str(value)


def _declared_roles(inventory: Any, loader: Any, host: str, playbook_dir: str | None) -> dict[str, Any]:
    """nsprov_roles as each group of a host, and the host, declare it: nsprov gathers them, where Ansible takes one."""
    found = inventory.get_host(host)
    made = {}
    for entity in [*found.get_groups(), found]:
        layers = [entity.get_vars(), get_vars_from_inventory_sources(loader, inventory._sources, [entity], "task")]
        if playbook_dir:
            layers.append(get_vars_from_path(loader, playbook_dir, [entity], "task"))
        for layer in layers:
            if ROLES in layer:
                made[entity.name] = layer[ROLES]
    return made


def _groups(inventory: Any, declared: Mapping[str, Any]) -> dict[str, Group]:
    made = {}
    for group in inventory.groups.values():
        variables = {ROLES: declared[group.name]} if group.name in declared else {}
        if group.priority != 1:
            variables["ansible_group_priority"] = group.priority
        hosts = tuple(one.name for one in group.hosts)
        made[group.name] = Group(group.name, hosts, tuple(one.name for one in group.child_groups), variables)
    return made


def _from_vaulted_file(text: Any) -> bool:
    """Whether a text was read from a file that is a vault as a whole."""
    where = getattr(text, "_ansible_tags_mapping", None) or {}
    path = next((tag.path for kind, tag in where.items() if kind.__name__ == "Origin" and tag.path), None)
    return path is not None and _is_vaulted(path)


@cache
def _is_vaulted(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(14) == b"$ANSIBLE_VAULT"
    except OSError:
        return False
