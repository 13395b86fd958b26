#!/usr/bin/python
# Copyright: (c) 2026, the authors of nsprov
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

# What it does is in the action of the same name, which runs on the controller; this documents it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: apply
short_description: Make a host what its roles of nsprov say
version_added: "0.1.0"
author:
  - the authors of nsprov (@nsprov)
description:
  - Plans every change before it makes one, makes exactly those, and puts the host back where one fails.
  - What the project owns on the host, and the roles do not declare any more, is taken away.
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
  state:
    description:
      - V(present) makes the host what the roles say. V(absent) takes away all that the project owns on it.
    type: str
    choices: [present, absent]
    default: present
  verify:
    description:
      - Whether to check the host with testinfra afterwards; where a fact does not hold, the host is put back.
      - It is not done in check mode, nor with O(state=absent).
    type: bool
    default: false
  adopt:
    description:
      - Whether to take over what is on the host already and is not the project's.
    type: bool
    default: false
  keep_partial:
    description:
      - Whether to leave what was done before a step that fails, instead of putting the host back.
    type: bool
    default: false
attributes:
  check_mode:
    description: Shows what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows each resource before and after, with secrets masked.
    support: full
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
  - module: nsprov.core.verify
"""

EXAMPLES = r"""
- name: The roles that the inventory gives the host
  nsprov.core.apply:

- name: A tenant
  nsprov.core.apply:
    project: shop
    roles:
      - bridge_network
      - role: tenant
        vars:
          tenant_name: blue
          tenant_address: 10.20.0.11/24
    verify: true

- name: Several tenants
  nsprov.core.apply:
  vars:
    nsprov_roles:
      - bridge_network
      - role: tenant
        loop: "{{ tenants }}"
        vars:
          tenant_name: "{{ item.name }}"
          tenant_address: "{{ item.address }}"

- name: Nothing of the project is left
  nsprov.core.apply:
    project: shop
    state: absent
"""

RETURN = r"""
msg:
  description: What was done, or would be done in check mode; or what is wrong, with file and line.
  returned: always
  type: str
  sample: 3 created, 1 changed
plan:
  description: What was planned before anything was touched.
  returned: always
  type: dict
  contains:
    steps:
      description: Each change, with C(action), C(address), C(reason), C(restarts), C(source), C(before) and C(after).
      type: list
      elements: dict
    warnings:
      description: What is doubtful in it.
      type: list
      elements: str
result:
  description: What became of it, with C(ok), C(seconds), C(done), C(failed) and C(not_put_back).
  returned: when something was carried out
  type: dict
rc:
  description: The exit code of nsprov.
  returned: on failure
  type: int
reason:
  description: >-
    The kind of failure: C(configuration), C(usage), C(locked) by another apply, C(not_permitted), C(stale), C(defect)
    or C(failed).
  returned: on failure
  type: str
  sample: configuration
"""
