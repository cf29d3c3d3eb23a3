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
  one_cluster:
    description:
      - Whether the verb takes the hosts of one cluster alone; one that changes nodes does.
    type: bool
    default: false
  optional:
    description:
      - Whether the verb goes on without a plan. Then what is wrong is a warning, RV(plan) is empty,
        and RV(hosts) are all hosts of the play.
    type: bool
    default: false
  made:
    description:
      - Variable under which an earlier task registered the plan. It is written to O(plan_file), and
        none is made. It needs O(plan_file) and O(verified).
    type: str
  verified:
    description:
      - Variable under which each host registered what M(muster.serving.verified_plan) kept. The
        plan file is written only when all of the plan was kept. It needs O(made).
    type: str
  kept:
    description: Hosts that have kept it from an earlier run.
    type: list
    elements: str
    default: []
  weights_hashes:
    description:
      - Whether the checks hash all files of the weights, whatever C(muster_weights_hashes) says.
    type: bool
author:
  - Muster contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Make the plan
  muster.serving.cluster_plan:
    verb: serve
    changes: true
  run_once: true
  register: muster_plan

- name: Keep it once all of it was verified
  muster.serving.cluster_plan:
    made: muster_plan
    plan_file: "{{ muster_plan.run.reports.verified_plan }}"
    verified: __verify_kept
  run_once: true
"""

RETURN = r"""
cluster:
  description: The inventory group of the one cluster that the limit touches, null for several.
  returned: success
  type: str
  sample: a2-cluster
suits:
  description:
    - The stages that can go on with this plan in the same run. What changes nodes needs a plan that
      was made for that (O(changes)), and each of them one cluster alone. Empty with
      O(weights_hashes), whose plan is for the one stage.
  returned: success
  type: list
  elements: str
  sample: [preflight, verify]
plan:
  description: The plan of that cluster, empty for several.
  returned: success
  type: dict
plans:
  description: Of several clusters that the limit touches, their plans by cluster; empty for one.
  returned: success
  type: dict
hosts:
  description: The limit's hosts that belong to these clusters, in inventory order.
  returned: success
  type: list
  elements: str
run:
  description: What all hosts of a run have in common. Of several clusters, the output_dir alone.
  returned: success
  type: dict
  contains:
    output_dir:
      description: The folder on the controller for reports.
      type: str
    reports:
      description: By stage, its file there.
      type: dict
    authority:
      description: The file there by which clients check a gateway's certificate, if they need one.
      type: str
    hosts:
      description: The cluster's hosts in the run.
      type: list
      elements: str
    replicas:
      description: The hosts of each replica.
      type: list
      elements: list
    waivers:
      description: By host, its C(muster_waivers).
      type: dict
runs:
  description: The same by cluster.
  returned: success
  type: dict
ansible_stats:
  description:
    - For the run's statistics, under C(muster_endpoints), by cluster its endpoint's C(url) and
      C(model), whether it asks for a C(key), the C(authority) file for its certificate, and the
      folder of its C(reports).
  returned: success
  type: dict
stages:
  description:
    - By host, the options of each role under the role's name, null for a role that has no part
      there.
  returned: success
  type: dict
"""
