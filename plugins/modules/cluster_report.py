# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_report
short_description: Make one HTML page of all that is known of a cluster
version_added: "0.1.0"
author:
  - Muster contributors (!UNKNOWN)
description:
  - Puts the plan, the reports of earlier runs on the controller and what is seen of the nodes'
    devices on one page, C(report.html), which holds no script and asks no network.
  - What has not been done yet stands there with the playbook that does it. A report that cannot be
    read is named and left out.
  - Keeps what was seen of the devices in C(devices.json), so that a node that cannot be asked later
    is shown as it was seen last.
  - Runs on the controller and connects to no node.
requirements:
  - matplotlib on the controller, for the plots. Without it the tables have all figures.
extends_documentation_fragment:
  - muster.serving.attributes
  - muster.serving.attributes.read_only
  - muster.serving.attributes.controller
  - muster.serving.deployment.plan
  - muster.serving.deployment.hosts
attributes:
  check_mode:
    support: full
    details: It writes its page in check mode, too.
options:
  devices:
    description:
      - Name of the variable under which hosts registered the result of
        M(muster.serving.device_info). A host without devices in it is shown as it was seen last.
    type: str
  output_dir:
    description: The folder on the controller that has the reports, and gets the page.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Make the page
  muster.serving.cluster_report:
    plan: "{{ muster_plan.plan }}"
    hosts: "{{ muster_plan.hosts }}"
    devices: devices
    output_dir: "{{ muster_plan.run.output_dir }}"
  run_once: true
"""

RETURN = r"""
report_file:
  description: Where the page stands.
  returned: success
  type: str
problems:
  description: What could not be shown, a line each with the reason.
  returned: success
  type: list
  elements: str
"""
