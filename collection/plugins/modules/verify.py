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
extends_documentation_fragment:
  - nsprov.core.nsprov
attributes:
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
  delegation:
    description: The roles and variables are those of C(inventory_hostname), and the other host is looked at.
    support: full
seealso:
  - module: nsprov.core.apply
"""

EXAMPLES = r"""
- name: Check that the host is what its roles say
  nsprov.core.verify:

- name: Mend a host that is not
  block:
    - name: Check the project shop
      nsprov.core.verify:
        project: shop
  rescue:
    - name: Apply it anew
      nsprov.core.apply:
        project: shop
        verify: true
"""

RETURN = r"""
msg:
  description: How many facts were checked; or those that do not hold, a line each; or what is wrong.
  returned: always
  type: str
  sample: 12 facts checked, all hold
facts:
  description: Every fact.
  returned: when nsprov was run
  type: list
  elements: dict
  contains:
    title:
      description: What is checked.
      type: str
      sample: netns/blue exists
    outcome:
      description: V(passed), V(failed) or V(skipped).
      type: str
      sample: passed
    message:
      description: Why it does not hold.
      type: str
      sample: ""
    declared:
      description: The file and line that declare it.
      type: str
      sample: roles/tenant/tasks/main.yml:4
rc:
  description: The exit code of nsprov.
  returned: when the facts could not be checked
  type: int
  sample: 65
reason:
  description: The kind of failure, as in M(nsprov.core.apply).
  returned: when the facts could not be checked
  type: str
  sample: configuration
"""
