"""Prints an inventory as ``ansible-inventory`` prints it: ``--list``, ``--host`` and ``--graph``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from provisioner.config.inventory.inventory import Inventory
from provisioner.config.source import Key, Timestamp, Unsafe, Vaulted
from provisioner.errors import UsageError, did_you_mean
from provisioner.secrets import MASK, is_secret

__all__ = ["graph_text", "host_data", "list_data", "list_tree", "to_json", "to_yaml"]

#: Variables of Ansible's own that it never prints, even where an inventory sets them.
_INTERNAL = frozenset(
    {
        "ansible_async_path",
        "ansible_collection_name",
        "ansible_config_file",
        "ansible_dependent_role_names",
        "ansible_diff_mode",
        "ansible_facts",
        "ansible_forks",
        "ansible_inventory_sources",
        "ansible_limit",
        "ansible_play_batch",
        "ansible_play_hosts",
        "ansible_play_hosts_all",
        "ansible_play_role_names",
        "ansible_playbook_python",
        "ansible_role_name",
        "ansible_role_names",
        "ansible_run_tags",
        "ansible_skip_tags",
        "ansible_verbosity",
        "ansible_version",
        "inventory_dir",
        "inventory_file",
        "inventory_hostname",
        "inventory_hostname_short",
        "groups",
        "group_names",
        "hostvars",
        "playbook_dir",
        "play_hosts",
        "role_name",
        "role_names",
        "role_path",
        "role_uuid",
    }
)


def to_json(data: Any) -> str:
    """Print as ansible-inventory prints JSON."""
    return json.dumps(_with_text_keys(data), sort_keys=True, indent=4, ensure_ascii=False, default=_isoformat)


def _isoformat(moment: Any) -> str:
    text: str = moment.isoformat()
    return text


def _with_text_keys(value: Any) -> Any:
    """Values whose keys can be sorted: those that are no text in JSON's spelling of them. Vaults stay closed."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key, default=str): _with_text_keys(item)
            for key, item in value.items()
        }
    if isinstance(value, Vaulted):
        return {"__ansible_vault": str(value)}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def to_yaml(data: Any) -> str:
    """Print as ansible-inventory prints YAML, but a value that stands twice is written twice."""
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    dumper: Any = type("_Dumper", (base,), {})
    dumper.add_representer(Vaulted, lambda own, value: own.represent_scalar("!vault", str(value), style="|"))
    text: str = yaml.dump(_plain(data), Dumper=dumper, default_flow_style=False, allow_unicode=True)
    return text.rstrip("\n")


def host_data(inventory: Inventory, host: str, *, export: bool = False) -> dict[str, Any]:
    """What ``--host`` prints: a host's variables, or with ``export`` its own alone."""
    return _public(inventory.host_variables(host) if export else inventory.variables(host))


def _group_data(inventory: Inventory, group: str) -> dict[str, Any]:
    variables = _public(inventory.group_variables(group))
    if inventory.groups[group].priority != 1:
        variables["ansible_group_priority"] = inventory.groups[group].priority
    return variables


def list_data(inventory: Inventory, hosts: Collection[str], *, export: bool = False) -> dict[str, Any]:
    """What ``--list`` prints: the groups, and the variables of ``hosts`` in ``_meta``."""
    listed: dict[str, Any] = {}
    for name, group in inventory.groups.items():
        entry = {
            "hosts": [host for host in group.hosts if host in hosts and name != "all"],
            "children": list(group.children),
            "vars": _marked(_group_data(inventory, name)) if export else {},
        }
        if filled := {key: value for key, value in entry.items() if value}:
            listed[name] = filled
    variables = {host: _marked(data) for host in hosts if (data := host_data(inventory, host, export=export))}
    listed["_meta"] = {"hostvars": variables, "profile": "inventory_legacy"}
    return listed


def list_tree(inventory: Inventory, hosts: Collection[str], *, export: bool = False) -> dict[str, Any]:
    """What ``--list --yaml`` prints: an inventory in itself, with each host's variables where it comes first."""
    return _Tree(inventory, hosts, export).of("all")


class _Tree:
    def __init__(self, inventory: Inventory, hosts: Collection[str], export: bool) -> None:
        self.inventory = inventory
        self.hosts = hosts
        self.export = export
        self.groups_done: set[str] = set()
        self.hosts_done: set[str] = set()

    def of(self, name: str) -> dict[str, Any]:
        group = self.inventory.groups[name]
        children: dict[str, Any] = {}
        for child in group.children:
            if child in self.groups_done:
                children[child] = {}
            else:
                children.update(self.of(child))
                self.groups_done.add(child)
        entry = {
            "children": children,
            "hosts": {host: self._host(host) for host in group.hosts if host in self.hosts and name != "all"},
            "vars": _group_data(self.inventory, name) if self.export else {},
        }
        filled = {key: value for key, value in entry.items() if value}
        return {name: filled} if filled else {}

    def _host(self, name: str) -> dict[str, Any]:
        if name in self.hosts_done:
            return {}
        self.hosts_done.add(name)
        return host_data(self.inventory, name, export=self.export)


def graph_text(inventory: Inventory, group: str = "all", *, with_vars: bool = False) -> str:
    """What ``--graph`` prints: the groups and hosts from one group down.

    Raises:
        UsageError: there is no group of this name.
    """
    if group not in inventory.groups:
        raise UsageError(f"the inventory has no group '{group}'", hint=did_you_mean(group, inventory.groups))
    return "\n".join(_graph(inventory, group, 0, with_vars))


def _graph(inventory: Inventory, name: str, depth: int, with_vars: bool) -> Iterable[str]:
    group = inventory.groups[name]
    yield _branch(f"@{name}:", depth)
    for child in group.children:
        yield from _graph(inventory, child, depth + 1, with_vars)
    for host in group.hosts if name != "all" else ():
        yield _branch(host, depth + 1)
        if with_vars:
            yield from _graph_vars(host_data(inventory, host), depth + 2)
    if with_vars:
        yield from _graph_vars(_group_data(inventory, name), depth + 1)


def _graph_vars(variables: Mapping[str, Any], depth: int) -> Iterable[str]:
    return [
        _branch(f"{{{name} = {value}}}", depth)
        for name, value in sorted(variables.items(), key=lambda item: str(item[0]))
    ]


def _branch(text: str, depth: int) -> str:
    return "  |" * depth + "--" + text if depth else text


def _public(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What Ansible prints of some variables, in the types that it has for them."""
    shown: dict[str, Any] = _native({name: value for name, value in variables.items() if name not in _INTERNAL})
    return shown


def _native(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.native if isinstance(key, Key) else key: _native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_native(item) for item in value]
    if is_secret(value):
        return MASK  # of a file that is encrypted as a whole: Ansible prints it
    if isinstance(value, Timestamp):
        import yaml

        return yaml.safe_load(value)
    return value


def _marked(value: Any) -> Any:
    """Values as ``--list`` prints them: a string that is no template is marked as such."""
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_marked(item) for item in value]
    return {"__ansible_unsafe": str(value)} if isinstance(value, Unsafe) else value


def _plain(value: Any) -> Any:
    """Values without positions, which a YAML dumper knows; made anew, so that nothing becomes an alias."""
    if isinstance(value, dict):
        return {str(key) if isinstance(key, str) else key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) and not isinstance(value, Vaulted) else value
