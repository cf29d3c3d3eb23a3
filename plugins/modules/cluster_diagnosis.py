# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_diagnosis
short_description: Report the known failures in the nodes' logs, and make one archive of them
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Reads the archives that M(muster.serving.diagnose_info) made and that were fetched. Prints for
    each replica of several units the failure that the others follow from, then by node how each
    unit does and which known failures stand in the log of its last run, with their cause and how
    sure it is, the check that finds it and the remedy; earlier runs stand below with their dates.
  - Writes one archive of all of them, with the plan, the report and the reports of earlier stages,
    and removes the single ones.
  - Runs on the controller; a host that could not be reached is shown as such.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.deployment.hosts
  - muster.serving.deployment.results
attributes:
  check_mode:
    support: full
    details: It prints the report and writes no archive.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each run adds an archive.
options:
  output_dir:
    description:
      - Folder on the controller for the archive. Those of the hosts are expected in it, as
        C(.diagnose/HOST.tar.gz).
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Say what was found
  muster.serving.cluster_diagnosis:
    plan: "{{ muster_plan.plan }}"
    hosts: "{{ muster_plan.hosts }}"
    results: __diagnose_info
    output_dir: muster-output/a2-cluster
  run_once: true
"""

RETURN = r"""
archive:
  description: The archive on the controller.
  returned: not in check mode
  type: str
nodes:
  description: By host, its units with C(findings) of their last run and with C(runs), the last one
    first, or C(problem) when it could not be asked.
  returned: success
  type: dict
ansible_stats:
  description: RV(nodes) for the run's statistics, under C(muster_diagnose).
  returned: success
  type: dict
"""
