# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes what Ansible knows of hosts as an inventory that nsprov reads. Pure text: it opens nothing.

Templates stay templates, so that nsprov knows what is made of a secret; what Ansible would not evaluate (facts,
registered results) is written so that nsprov does not either; and what is from a vault goes as it is in the vault.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.parsing.vault import VaultHelper
from ansible.template import is_trusted_as_template

#: What Ansible says of the run and not of the host; nsprov has its own, or they say nothing there.
OF_THE_RUN = frozenset({
    "ansible_facts", "ansible_check_mode", "ansible_collection_name", "ansible_config_file",
    "ansible_dependent_role_names", "ansible_diff_mode", "ansible_forks", "ansible_inventory_sources",
    "ansible_limit", "ansible_loop", "ansible_loop_var", "ansible_index_var", "ansible_parent_role_names",
    "ansible_parent_role_paths", "ansible_play_batch", "ansible_play_hosts", "ansible_play_hosts_all",
    "ansible_play_name", "ansible_play_role_names", "ansible_playbook_python", "ansible_role_name",
    "ansible_role_names", "ansible_run_tags", "ansible_skip_tags", "ansible_verbosity", "ansible_version",
    "ansible_delegated_vars", "ansible_search_path", "environment", "group_names", "groups", "hostvars",
    "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short", "omit", "play_hosts",
    "playbook_dir", "role_name", "role_names", "role_path", "role_uuid", "vars",
})  # fmt: skip

#: How a host is reached is said of the host that is worked on alone.
_REACHING = re.compile(r"ansible_(\w*pass(word|phrase)?|\w*private_key|ssh_\w+|become\w*|connection)\Z")

#: What cannot stand in a text of YAML in double quotes as it is.
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]')

#: Shorter than this, a secret is a word that may stand anywhere.
_TELLING = 4


class Secret(str):
    """A text that nsprov must not show."""


@dataclass(frozen=True)
class Group:
    """A group of the inventory, with nothing of its variables but what nsprov gathers from all of them."""

    name: str
    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


def inventory_text(
    hosts: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Group],
    *,
    is_secret: Callable[[str], bool] = lambda text: False,
) -> str:
    """An inventory in YAML. ``is_secret`` says which texts are, besides those that are marked."""
    write = _Writer(is_secret)
    lines = ["---", "all:"]
    everything = groups.get("all")
    if everything and everything.variables:
        lines.append(f"  vars: {write.value(everything.variables)}")
    lines.append("  hosts:")
    lines += [f"    {write.text(name)}: {write.value(variables)}" for name, variables in hosts.items()]
    named = [group for group in groups.values() if group.name not in ("all", "ungrouped")]
    if named:
        lines.append("  children:")
    for group in named:
        # A host that is named here has its variables above.
        content = {
            "hosts": {name: {} for name in group.hosts if name in hosts},
            "children": {name: {} for name in group.children},
            "vars": group.variables,
        }
        lines.append(f"    {write.text(group.name)}: {write.value(content)}")
    return "\n".join(lines) + "\n"


def without_the_run(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's variables without those that Ansible makes for a run, and without the facts that it gathered."""
    facts = variables.get("ansible_facts") or {}
    dropped = OF_THE_RUN | {name if name.startswith("ansible_") else f"ansible_{name}" for name in facts}
    return {name: value for name, value in variables.items() if name not in dropped}


def of_another_host(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What roles may read of a host that is not worked on: its variables and facts, but no way into it."""
    return {
        name: value
        for name, value in variables.items()
        if name not in OF_THE_RUN and name != "nsprov_roles" and not _REACHING.match(name)
    }


def vaulted_texts(value: Any) -> set[str]:
    """The texts in a value that come from a vault, opened, and long enough to be known again elsewhere."""
    if isinstance(value, Mapping):
        return set().union(*(vaulted_texts(item) for item in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(vaulted_texts(item) for item in value))
    if VaultHelper.get_ciphertext(value, with_tags=False) is None:
        return set()
    return {text for text in [str(value)] if len(text) >= _TELLING}


class _Writer:
    """Writes values in YAML's flow style."""

    def __init__(self, is_secret: Callable[[str], bool]) -> None:
        self.is_secret = is_secret

    def value(self, value: Any) -> str:
        ciphertext = VaultHelper.get_ciphertext(value, with_tags=False)
        if ciphertext is not None:
            return f"!vault {_quoted(ciphertext)}"
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(int(value))
        if isinstance(value, float):
            return _number(float(value))
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            pairs = (f"{self.key(key)}: {self.value(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, (list, tuple, set, frozenset)):
            return "[" + ", ".join(self.value(item) for item in value) + "]"
        return self.text(str(value))

    def key(self, key: Any) -> str:
        return _quoted(str(key)) if isinstance(key, str) else self.value(key)

    def text(self, text: str) -> str:
        if isinstance(text, Secret) or self.is_secret(text):
            # In base64, for whatever it has in it ends no text of Jinja's.
            encoded = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
            return _quoted("{{ '" + encoded + "' | b64decode | secret }}")
        if "{" in text and not is_trusted_as_template(text):
            return f"!unsafe {_quoted(text)}"
        return _quoted(text)


def _number(number: float) -> str:
    if math.isnan(number):
        return ".nan"
    if math.isinf(number):
        return ".inf" if number > 0 else "-.inf"
    text = repr(number)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _quoted(text: str) -> str:
    return '"' + _ESCAPED.sub(_escape, str(text)) + '"'


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0] if found[0] in '"\\' else f"\\u{ord(found[0]):04x}"
