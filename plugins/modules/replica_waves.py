# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_waves
short_description: Say in which order replicas stop and start, so that others serve meanwhile
version_added: "0.1.0"
description:
  - Replicas that share a host go together, and so do a replica and a gateway beside it.
  - Runs on the controller, once for all hosts, and sends nothing to any node.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
options:
  made:
    description:
      - Variable under which M(muster.serving.cluster_plan) or M(muster.serving.start_plan), whose
        plan is rolled, was registered.
    type: str
    required: true
  planned:
    description: The same of the plan that names the gateways. Without it O(made) does.
    type: str
  hosts:
    description: The hosts whose units stop and start.
    type: list
    elements: str
    required: true
  at_once:
    description: How many replicas stop and start at the same time.
    type: int
    default: 1
"""

EXAMPLES = r"""
- name: Say in which order replicas restart
  muster.serving.replica_waves:
    made: muster_plan
    hosts: "{{ muster_work.serve }}"
  run_once: true
  register: waves
"""

RETURN = r"""
waves:
  description: The waves, one after the other.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What an operator calls it.
      type: str
      sample: replica 0
    hosts:
      description: Its hosts.
      type: list
      elements: str
    backends:
      description: The units of its replicas that gateways pass requests to.
      type: list
      elements: str
backends:
  description: Those of all waves.
  returned: success
  type: list
  elements: str
gateways:
  description: The hosts that run a gateway of the plan, in the limit or not.
  returned: success
  type: list
  elements: str
"""
