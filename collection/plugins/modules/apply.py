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
extends_documentation_fragment:
  - nsprov.core.nsprov
options:
  state:
    description:
      - V(present) makes the host what the roles say. V(absent) takes away all that the project owns on it.
    type: str
    choices: [present, absent]
    default: present
  verify:
    description:
      - Whether to check the host with testinfra afterwards; where a fact does not hold, the task fails with the facts
        that do not, and the host is put back, unless O(keep_partial).
      - It is not done in check mode, nor with O(state=absent).
    type: bool
    default: false
  adopt:
    description:
      - Whether to take over what is on the host already and is not the project's. Otherwise the task fails where
        something stands in the way, and nothing is touched.
    type: bool
    default: false
  keep_partial:
    description:
      - Whether to leave what was done before a step that fails, instead of putting the host back. The task fails, and
        is C(changed).
    type: bool
    default: false
attributes:
  check_mode:
    description: Shows what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows each resource before and after, with secrets masked.
    support: full
  delegation:
    description: >-
      The roles and variables are those of C(inventory_hostname), and the other host is changed. It needs O(project),
      for what the other host has of the same project, and these roles do not declare, is taken away.
    support: full
seealso:
  - module: nsprov.core.verify
"""

EXAMPLES = r"""
- name: Apply the roles that the inventory gives the host
  nsprov.core.apply:

- name: Apply a tenant, and put the host back where it does not verify
  nsprov.core.apply:
    project: shop
    roles:
      - bridge_network
      - role: tenant
        vars:
          tenant_name: blue
          tenant_address: 10.20.0.11/24
    verify: true

- name: Apply several tenants
  nsprov.core.apply:
  vars:
    nsprov_roles:
      - bridge_network
      - role: tenant
        loop: "{{ tenants }}"
        vars:
          tenant_name: "{{ item.name }}"
          tenant_address: "{{ item.address }}"

- name: Give each host its cable on the router, under a name of its own
  nsprov.core.apply:
    project: "cable-{{ inventory_hostname }}"
    roles: [cable]
  delegate_to: router1
  throttle: 1

- name: Leave nothing of the project
  nsprov.core.apply:
    project: shop
    state: absent
"""

RETURN = r"""
msg:
  description:
    - What was done, or would be done in check mode; or what is wrong, with file and line.
    - Where the host does not verify, the facts that do not hold, a line each.
  returned: always
  type: str
  sample: 3 created, 1 changed
plan:
  description: What was planned before anything was touched.
  returned: when nsprov was run
  type: dict
  contains:
    steps:
      description: >-
        Each change, with C(action), C(address), C(reason), C(restarts), C(source), C(changes), C(before) and C(after).
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
facts:
  description: Every fact that was checked, as in M(nsprov.core.verify).
  returned: with O(verify=true), when the host was checked
  type: list
  elements: dict
diff:
  description: Each resource that changes, before and after.
  returned: in diff mode
  type: list
  elements: dict
rc:
  description: The exit code of nsprov.
  returned: on failure
  type: int
  sample: 65
reason:
  description: >-
    The kind of failure: V(configuration), V(usage), V(locked) by another apply, V(not_permitted), V(stale), V(defect)
    or V(failed).
  returned: on failure
  type: str
  sample: configuration
"""
