# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_plan
short_description: Make the plan of the clusters that a play limits itself to
version_added: "0.1.0"
description:
  - Reads recipes and inventory, and returns the exact list of units of each cluster.
  - Runs on the controller and connects to no node. Two runs on the same input return the same plan.
  - All that is wrong with recipe, inventory or limit is one message, before any node is touched.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It shows the plan file.
  idempotent:
    support: full
options:
  verb:
    description: What the operator asked for; messages name it.
    type: str
    default: plan
  changes:
    description:
      - Whether the verb changes nodes. Then the limit has to hold whole replicas of one cluster,
        and addresses reserved for documentation are refused.
    type: bool
    default: false
  show:
    description: Whether to print the plan as a table, with its warnings.
    type: bool
    default: false
  plan_file:
    description: Where to write the plan of the one cluster as JSON.
    type: path
  weights_hashes:
    description:
      - Whether the checks hash all files of the weights, whatever C(muster_weights_hashes) says.
    type: bool
author:
  - Muster contributors (@muster)
"""

EXAMPLES = r"""
- name: Load the plan
  muster.serving.cluster_plan:
    verb: serve
    changes: true
  run_once: true
  register: muster_plan
"""

RETURN = r"""
cluster:
  description: The inventory group of the one cluster that the limit touches, null for several.
  returned: success
  type: str
  sample: a2-cluster
plan:
  description: The plan of that cluster, null for several.
  returned: success
  type: dict
plans:
  description: The plans of all clusters that the limit touches, by cluster.
  returned: success
  type: dict
hosts:
  description: The limit's hosts that belong to these clusters, in inventory order.
  returned: success
  type: list
  elements: str
units:
  description: Each of these hosts' units.
  returned: success
  type: dict
needs:
  description: By host, its replica's index and other hosts, and what its containers are given.
  returned: success
  type: dict
checks:
  description: By host, what M(muster.serving.node_checks) is to make of it before anything starts.
  returned: success
  type: dict
"""
