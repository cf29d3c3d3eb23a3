# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: start_plan
short_description: Put the verified parts of a plan together again
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Makes one plan of what M(muster.serving.verified_plan) kept on each node, for the Ansible role
    C(muster.serving.unit).
  - Leaves out a replica or a gateway of which nothing was verified, whose nodes disagree, or of
    which a node cannot start its units as they were verified, and says why.
  - Warns of units in which the verified plan differs from the inventory's.
  - Runs on the controller.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.results
options:
  hosts:
    description: The hosts whose units are to start.
    type: list
    elements: str
    required: true
  planned:
    description:
      - What M(muster.serving.cluster_plan) returned, even where it failed. Without it nothing is
        compared.
    type: dict
"""

EXAMPLES = r"""
- name: Put the verified plan together
  muster.serving.start_plan:
    hosts: "{{ ansible_play_hosts_all }}"
    results: __start_verified
    planned: "{{ muster_plan }}"
  run_once: true
  register: __start_plan
"""

RETURN = r"""
plan:
  description:
    - The verified plan of what can start. C(left_out) names the units that cannot.
  returned: success
  type: dict
parts:
  description: By host, what of RV(plan) its units and those that start with them are in.
  returned: success
  type: dict
problems:
  description: By host, what of it cannot start as it was verified, and why.
  returned: success
  type: dict
floating:
  description: By host that runs a gateway, what M(muster.serving.gateway_address) takes as
    O(muster.serving.gateway_address#module:floating).
  returned: success
  type: dict
"""
