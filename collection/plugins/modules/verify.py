#!/usr/bin/python
# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

# What it does is in the action of the same name, which runs on the controller; this documents it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verify
short_description: Check on a host what its roles of nsprov declare
version_added: "0.1.0"
author:
  - the authors of nsprov (@nsprov)
description:
  - Reads the host with C(ip), C(systemctl), C(nft) and C(/sys) through testinfra, and checks what shall reach what with
    real packets. It fails with the facts that do not hold.
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
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
  platform:
    description: Hosts that are supported.
    platforms: linux
    support: full
requirements:
  - nsprov on the controller, or in its execution environment. The host itself needs nothing, not even Python.
notes:
  - It runs on the controller, and reaches the host by the connection that Ansible has for it, C(ssh) or C(local). With
    C(local), the controller is the host, and root is needed there.
  - Hosts without Python need C(gather_facts) to be off in the play.
  - With V(become), root is had by C(sudo).
  - What comes from a vault is shown as C((secret)). What the roles are given otherwise is no secret to them; the
    filter C(secret) makes it one.
seealso:
  - module: nsprov.core.apply
"""

EXAMPLES = r"""
- name: The host is what its roles say
  nsprov.core.verify:
"""

RETURN = r"""
msg:
  description: How many facts were checked, or those that do not hold.
  returned: always
  type: str
  sample: 12 facts checked, all hold
facts:
  description: Every fact.
  returned: when the host was reached
  type: list
  elements: dict
  contains:
    title:
      description: What is checked.
      type: str
    outcome:
      description: V(passed), V(failed) or V(skipped).
      type: str
    message:
      description: Why it does not hold.
      type: str
rc:
  description: The exit code of nsprov.
  returned: when the facts could not be checked
  type: int
reason:
  description: The kind of failure, as in M(nsprov.core.apply).
  returned: when the facts could not be checked
  type: str
"""
