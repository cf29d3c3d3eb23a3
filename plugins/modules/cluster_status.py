# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_status
short_description: Show the state of a cluster's units
version_added: "0.1.0"
description:
  - Prints what M(muster.serving.unit_info) saw with O(muster.serving.unit_info#module:usage), the
    units, what they run from and do, restarts and the room on file systems, and below it all that
    is not as planned, and writes the same as JSON.
  - It does not fail of it; C(playbooks/status.yml) does, by RV(problems).
  - Runs on the controller; a host that could not be reached is shown as such.
author:
  - Muster contributors (!UNKNOWN)
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.deployment.hosts
  - muster.serving.deployment.results
attributes:
  check_mode:
    support: full
    details: It writes its report in check mode, too.
options:
  report_file:
    description: Where to write the same as JSON, on the controller.
    type: path
"""

EXAMPLES = r"""
- name: Show the units
  muster.serving.cluster_status:
    plan: "{{ muster_plan.plan }}"
    hosts: "{{ muster_plan.hosts }}"
    results: __unit_info
  run_once: true
"""

RETURN = r"""
problems:
  description:
    - All that is not as planned, a line each. A host cannot be reached or asked, or has no room
      left; a unit is not installed, does not run, does not serve, yields no token, or differs from
      the plan; one that is installed is no longer planned; an agent does not run.
  returned: success
  type: list
  elements: str
failure:
  description: RV(problems) as one sentence, for the end of a run; empty where there are none.
  returned: success
  type: str
ansible_stats:
  description: The same for the run's statistics, by deployment under C(muster_status).
  returned: success
  type: dict
"""
