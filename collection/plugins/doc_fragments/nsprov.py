# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the documentation of all modules of this collection has in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Named by ``extends_documentation_fragment: [nsprov.core.nsprov]``."""

    DOCUMENTATION = r"""
options:
  roles:
    description:
      - The roles of nsprov that the host gets, as in the variable C(nsprov_roles), a name or a dictionary with C(role),
        C(vars), C(when), C(tags) and C(loop).
      - Without it, the host's own C(nsprov_roles), gathered from its groups down to the host.
      - Ansible evaluates the templates in it before nsprov does. Write entries with C(loop), which need C(item), into
        the variable C(nsprov_roles) of the play or the task, which nsprov evaluates.
    type: list
    elements: raw
  project:
    description:
      - The name under which the resources are owned on the host.
      - Without it, the variable C(nsprov_project), or V(default).
    type: str
  roles_path:
    description:
      - Where roles are looked for first, before C(roles/) beside the playbook and beside the inventory.
    type: list
    elements: path
  executable:
    description:
      - The command nsprov on the controller.
      - Without it, what the environment variable E(NSPROV) names, the one beside Ansible's Python, or that of E(PATH).
    type: path
attributes:
  action:
    description: It runs as an action on the controller.
    support: full
  action_group:
    description: C(module_defaults) for C(group/nsprov.core.nsprov) are those of all modules of this collection.
    support: full
    membership: [nsprov.core.nsprov]
  async:
    description: It runs to its end, and C(async) is refused.
    support: none
  become:
    description: By C(sudo), and to root alone. With the connection C(local), the play has to be run by root.
    support: partial
  bypass_host_loop:
    description: It runs for each host by itself.
    support: none
  connection:
    description: The host is reached with what Ansible's connections C(ssh) and C(local) are told, and by no others.
    support: partial
  platform:
    description: Hosts that are supported.
    platforms: linux
    support: full
  vault:
    description: What comes from a vault stays in it on the way to nsprov, and is shown as V((secret\)).
    support: full
requirements:
  - nsprov on the controller, or in its execution environment. The host itself needs nothing, not even Python.
notes:
  - It runs on the controller, and reaches the host by the connection that Ansible has for it, C(ssh) or C(local). With
    C(local), the controller is the host, and root is needed there.
  - Hosts without Python need C(gather_facts) to be off in the play.
  - A host that cannot be reached, does not let Ansible in, or is lost on the way is C(unreachable), as with Ansible's
    own modules. One that lets it in and then refuses, by sudo or otherwise, has failed.
  - What comes from a vault is shown as V((secret\)). What the roles are given otherwise is no secret to them; the
    filter C(secret) makes it one, and C(no_log) hides all that a task returns.
"""
