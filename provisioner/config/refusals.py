"""What Ansible's tasks have and nsprov's cannot mean, why, and what to write instead."""

from __future__ import annotations

__all__ = ["refused_key", "refused_keyword", "with_instead"]

_NO_RESULTS = "everything is known before anything is touched, so there is no result to look at"

#: Keywords of tasks, plays and blocks.
_KEYWORDS: dict[str, tuple[str, str]] = {
    "action": ("a task is written by its kind", "write the kind as the key: netns: {name: blue}"),
    "any_errors_fatal": ("a failed apply is always put back", "leave it out"),
    "args": ("a kind's fields stand under the kind", "write them there"),
    "always": ("nothing fails in the middle of a block: a failed apply is put back", "leave it out"),
    "async": ("steps are carried out in batches already", "leave it out"),
    "become": ("nsprov runs as root, and says so when it does not", "leave it out"),
    "become_exe": ("nsprov runs as root, and says so when it does not", "leave it out"),
    "become_flags": ("nsprov runs as root, and says so when it does not", "leave it out"),
    "become_method": ("nsprov runs as root, and says so when it does not", "leave it out"),
    "become_user": ("nsprov runs as root", "for a workload's user write User= in its unit"),
    "changed_when": (_NO_RESULTS, "leave it out: a change is what differs on the host"),
    "check_mode": ("'nsprov plan' shows every change, and makes none", "leave it out"),
    "collections": ("kinds are not looked up in collections", "leave it out"),
    "connection": ("the connection is the host's", "set ansible_connection in the inventory"),
    "debugger": (_NO_RESULTS, "look at 'nsprov show' and 'nsprov plan'"),
    "delay": (_NO_RESULTS, "leave it out"),
    "delegate_facts": ("a role declares what its own host has", "leave it out"),
    "delegate_to": ("a role declares what its own host has", "give the role to that host in the inventory"),
    "diff": ("'nsprov plan' shows every difference", "leave it out"),
    "environment": ("no command is run", "for a workload write Environment= in its unit"),
    "failed_when": (_NO_RESULTS, "to check a value beforehand, write: assert: {that: …}"),
    "force_handlers": ("there are no handlers", "leave it out"),
    "gather_facts": ("facts are under host.*, and always there", "leave it out"),
    "handlers": ("there are no handlers", "a unit restarts with what it names in restart_on"),
    "hosts": ("a role's tasks are not a play", "give the role to hosts by nsprov_roles in the inventory"),
    "ignore_errors": ("an apply is done whole, or put back", "leave it out"),
    "ignore_unreachable": ("an apply is done whole, or put back", "leave it out"),
    "listen": ("there are no handlers", "a unit restarts with what it names in restart_on"),
    "local_action": ("a role declares what its own host has", "give the role to that host in the inventory"),
    "max_fail_percentage": ("an apply is done whole, or put back", "leave it out"),
    "module_defaults": ("there are no modules", "put the values into variables"),
    "notify": ("there are no handlers", "a unit restarts with what it names: restart_on: [file//etc/app.conf]"),
    "poll": ("steps are carried out in batches already", "leave it out"),
    "port": ("the connection is the host's", "set ansible_port in the inventory"),
    "post_tasks": ("a role's tasks are not a play", "order follows from what the tasks refer to"),
    "pre_tasks": ("a role's tasks are not a play", "order follows from what the tasks refer to"),
    "register": (
        f"{_NO_RESULTS}: a task that makes one is planned like any other",
        "use variables, or the facts under host.*",
    ),
    "remote_user": ("the connection is the host's", "set ansible_user in the inventory"),
    "rescue": ("nothing fails in the middle of a block: a failed apply is put back", "leave it out"),
    "retries": (_NO_RESULTS, "leave it out"),
    "roles": ("a role's tasks are not a play", "write include_role, or dependencies in meta/main.yml"),
    "run_once": ("a role declares what its own host has", "give the role to one host in the inventory"),
    "serial": ("hosts are planned apart from each other", "choose some with --limit"),
    "strategy": ("a role's tasks are not a play", "leave it out"),
    "tasks": ("a role's task file is a list of tasks", "write the tasks themselves, or block:"),
    "throttle": ("steps are carried out in batches already", "leave it out"),
    "timeout": ("steps are carried out in batches already", "for a workload write TimeoutStartSec= in its unit"),
    "until": (_NO_RESULTS, "leave it out"),
    "vars_files": ("a role's variables are in its vars/ and defaults/", "put them there, or into group_vars/"),
}

_COMMAND = "nsprov declares what shall be there; a command that runs has no state to compare"
_PACKAGES = "nsprov does not install packages"

#: Modules, by their short names.
_MODULES: dict[str, tuple[str, str]] = {
    "add_host": ("the inventory says which hosts there are", "add the host there"),
    "apt": (_PACKAGES, "install it in the image, or by your package tool before"),
    "apt_key": (_PACKAGES, "install it in the image, or by your package tool before"),
    "apt_repository": (_PACKAGES, "install it in the image, or by your package tool before"),
    "async_status": (_NO_RESULTS, "leave it out"),
    "blockinfile": ("a file is declared whole", "write the whole of it: file: or template:"),
    "command": (_COMMAND, "write a unit with Type=oneshot and ExecStart=COMMAND"),
    "copy": ("a file is declared by its kind", "write: file: {name: /path, src: NAME}, or content:"),
    "cron": ("timers are units", "write: unit: {name: job.timer, OnCalendar: daily}"),
    "debug": ("nothing is printed while a plan is made", "look at 'nsprov show', or write assert:"),
    "dnf": (_PACKAGES, "install it in the image, or by your package tool before"),
    "dnf5": (_PACKAGES, "install it in the image, or by your package tool before"),
    "expect": (
        "nsprov declares who reaches whom by expect",
        "write: expect: {from: blue, to: 10.0.0.1, result: reached}",
    ),
    "fetch": ("nothing is read from the host while a plan is made", "leave it out"),
    "find": (_NO_RESULTS, "use variables"),
    "firewalld": ("the firewall is declared by its rules", "write: nftables: {table: inet filter, ruleset: …}"),
    "flush_handlers": ("there are no handlers", "a unit restarts with what it names in restart_on"),
    "gather_facts": ("facts are under host.*, and always there", "leave it out"),
    "get_url": (_COMMAND, "put the file into the role's files/, and write: file:"),
    "git": (_COMMAND, "put the files into the image"),
    "group": ("nsprov does not make users", "a unit can have DynamicUser=yes"),
    "group_by": ("the inventory says which groups there are", "add the group there"),
    "hostname": ("nsprov does not name the host", "set the name in the image"),
    "import_playbook": ("a role's tasks are not a playbook", "write include_role"),
    "include": ("it is called by what it includes", "write include_tasks or include_role"),
    "include_vars": ("a role's variables are in its vars/ and defaults/", "put them there, or into group_vars/"),
    "ip_netns": ("a namespace is declared by its kind", "write: netns: {name: NAME}"),
    "iptables": ("the firewall is declared by its rules", "write: nftables: {table: inet filter, ruleset: …}"),
    "lineinfile": ("a file is declared whole", "write the whole of it: file: or template:"),
    "meta": ("there is no play to steer", "leave it out"),
    "mount": ("nsprov does not mount file systems", "for a workload write BindPaths= in its unit"),
    "nmcli": ("interfaces are declared by their kinds", "write: bridge:, veth: or route:"),
    "package": (_PACKAGES, "install it in the image, or by your package tool before"),
    "pause": ("there is nothing to wait for", "leave it out"),
    "ping": ("reachability is declared", "write: expect: {from: host, to: 10.0.0.2}"),
    "pip": (_PACKAGES, "install it in the image, or by your package tool before"),
    "raw": (_COMMAND, "write a unit with Type=oneshot and ExecStart=COMMAND"),
    "reboot": ("nsprov does not restart the host", "leave it out"),
    "replace": ("a file is declared whole", "write the whole of it: file: or template:"),
    "script": (_COMMAND, "write a unit with Type=oneshot and ExecStart=COMMAND"),
    "service": ("services are units", "write: unit: {name: NAME.service, ExecStart: …}"),
    "service_facts": ("facts are under host.*, and always there", "leave it out"),
    "set_fact": ("nothing is worked out in the middle: variables are evaluated when they are used", "use vars"),
    "set_stats": (_NO_RESULTS, "leave it out"),
    "setup": ("facts are under host.*, and always there", "leave it out"),
    "shell": (_COMMAND, "write a unit with Type=oneshot and ExecStart=/bin/sh -c 'COMMAND'"),
    "slurp": ("nothing is read from the host while a plan is made", "use lookup('file', NAME) for a file of the role"),
    "stat": ("nothing is read from the host while a plan is made", "use variables, or the facts under host.*"),
    "synchronize": (_COMMAND, "write a file: task for each file"),
    "systemd": ("services are units", "write: unit: {name: NAME.service, ExecStart: …}"),
    "systemd_service": ("services are units", "write: unit: {name: NAME.service, ExecStart: …}"),
    "tempfile": (_NO_RESULTS, "for a workload write PrivateTmp=yes in its unit"),
    "ufw": ("the firewall is declared by its rules", "write: nftables: {table: inet filter, ruleset: …}"),
    "unarchive": (_COMMAND, "put the files into the image"),
    "uri": ("reachability is declared", "write: expect: {from: host, to: 10.0.0.2:80}"),
    "user": ("nsprov does not make users", "a unit can have DynamicUser=yes"),
    "validate_argument_spec": ("meta/argument_specs.yml is always enforced", "leave it out"),
    "wait_for": ("reachability is declared", "write: expect: {from: host, to: 10.0.0.2:80}"),
    "wait_for_connection": ("there is nothing to wait for", "leave it out"),
    "yum": (_PACKAGES, "install it in the image, or by your package tool before"),
    "yum_repository": (_PACKAGES, "install it in the image, or by your package tool before"),
}

_WITH = {
    "with_items": 'loop: "{{ LIST }}" (nested lists: LIST | flatten(1))',
    "with_list": 'loop: "{{ LIST }}"',
    "with_dict": 'loop: "{{ MAPPING | dict2items }}", and item.key, item.value',
    "with_indexed_items": "loop:, and loop_control: {index_var: index}",
    "with_sequence": 'loop: "{{ range(1, 5) | list }}"',
    "with_nested": 'loop: "{{ LIST | product(OTHER) | list }}"',
    "with_cartesian": 'loop: "{{ LIST | product(OTHER) | list }}"',
    "with_together": 'loop: "{{ LIST | zip(OTHER) | list }}"',
    "with_subelements": "loop: \"{{ LIST | subelements('KEY') }}\"",
    "with_flattened": 'loop: "{{ LISTS | flatten }}"',
}

_FROM_ANSIBLE = ("ansible.builtin.", "ansible.legacy.", "ansible.posix.", "ansible.netcommon.", "community.general.")


def refused_keyword(key: str) -> tuple[str, str] | None:
    """Why a keyword of Ansible's tasks and roles is refused, and what to write instead."""
    return _KEYWORDS.get(key)


def refused_key(key: str) -> tuple[str, str] | None:
    """Why a key of a task is refused, and what to write instead; None for a key that Ansible does not have."""
    if key.startswith("with_"):
        return "loops are written with 'loop'", "write: " + with_instead(key)
    if key in _KEYWORDS:
        return _KEYWORDS[key]
    short = key
    for prefix in _FROM_ANSIBLE:
        short = short.removeprefix(prefix)
    if short in _MODULES and not (short == "expect" and short == key):
        return _MODULES[short]
    if "." in key:
        return "modules of Ansible do not run here", "declare what shall be there with one of nsprov's kinds"
    return None


def with_instead(key: str) -> str:
    """What to write for one of Ansible's old loops."""
    return _WITH.get(key, 'loop: "{{ LIST }}"')
